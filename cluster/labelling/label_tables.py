"""The committed tables of an output, read side by side as one; outages of the store are ridden out.

Not here: which columns they have (hojoint.labelling.tables), which files count (``commits``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from cluster.store import Store, arrow
from hojoint.labelling import tables

READERS = 16  # files read at once


def read(
    store: Store,
    keys: Iterable[str],
    *,
    schema: pa.Schema = tables.PREDICTIONS_SCHEMA,
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """Committed files as one table of ``schema``.

    ``columns`` are those that are read at all, where the files are known to have them; None means every one.

    Raises:
        InputError: a file cannot be read, has another schema version or lacks a column.
        Unavailable: the store has not answered for the patience of this process.
    """

    def one(key: str) -> pa.Table:
        return tables.checked(arrow.read_table(store, key, columns), store.uri(key), schema)

    with ThreadPoolExecutor(READERS) as pool:  # object storage is slow to answer: thousands of files, one by one
        return pa.concat_tables([schema.empty_table(), *pool.map(one, keys)])
