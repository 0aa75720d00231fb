"""Files of a store through Arrow, which reads some columns without the others; outages are ridden out here too.

Arrow's client of object stores tries a few times and then raises an OSError, as for a damaged file. Not here: which
columns a table has (hojoint.labelling.tables).
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Sequence
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from cluster import patience
from cluster.store.base import Store
from cluster.store.local import PASSING
from hojoint.errors import InputError

REFUSED = ("ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH")  # as Arrow names them

T = TypeVar("T")


def passes(error: Exception) -> bool:
    """Whether an error of Arrow's client may pass, and is none of a file, of its rights or of a full disk."""
    if not isinstance(error, OSError) or isinstance(error, (FileNotFoundError, PermissionError)):
        return False
    # That of an object store has no number.
    return error.errno in PASSING or (error.errno is None and not any(name in str(error) for name in REFUSED))


def asked(store: Store, request: Callable[[], T]) -> T:
    """What ``request`` returns, which is about files of ``store`` and bears to be repeated.

    Raises:
        Unavailable: the store has not answered for the patience of this process.
    """
    return patience.ridden_out(request, passes, f"store {store.root}")


def read_table(store: Store, key: str, columns: Sequence[str] | None = None) -> pa.Table:
    """A Parquet file of a store; None means all columns.

    Raises:
        InputError: it is gone or damaged, or may not be read.
        Unavailable: the store has not answered for the patience of this process.
    """
    return _read(store, key, functools.partial(pq.read_table, partitioning=None, columns=columns))


def columns_of(store: Store, key: str) -> list[str]:
    """Names of the columns of a Parquet file; raises as ``read_table`` does."""
    return list(_read(store, key, pq.read_schema).names)


def _read(store: Store, key: str, read: Callable[..., T]) -> T:
    """What ``read`` reads of a file."""
    filesystem, root = store.filesystem()
    try:
        return read(f"{root}/{key}", filesystem=filesystem)
    except pa.ArrowInvalid as error:
        raise _unreadable(store, key, error) from None
    except OSError as error:
        fault = error
    # The store's own client rides out an outage, and the complete content tells it from damage.
    try:
        content = store.get(key)
    except KeyError:
        raise _unreadable(store, key, fault) from None
    try:
        return read(io.BytesIO(content))
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(store, key, error) from None


def _unreadable(store: Store, key: str, error: Exception) -> InputError:
    reason = patience.first_line(error)
    return InputError(
        f"cannot read the table {store.uri(key)}: {reason}. Bring the file back from a copy, or make it again in "
        "another output"
    )
