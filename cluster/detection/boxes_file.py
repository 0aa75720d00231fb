"""The one table of boxes, put together from what the commits name, and how a finished one is known again.

The file's metadata names the run that made it. Rows are streamed, so memory does not grow with the number of videos.
The file is written under another name and moved when it is complete. Not here: the tables of the units (``findings``).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import uuid
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet

from cluster.labelling.commits import Commit
from cluster.store import Store
from hojoint.datasets.box_tables import BOXES_SCHEMA
from hojoint.errors import InputError

SUFFIX, RUN_SUFFIX = ".parquet", ".parquet.run"
RUN_KEY = b"hojoint.detection"  # in the file's metadata: the digest of the run's fingerprint
GROUP_ROWS = 2**17


def run_of(output: str) -> str:
    """The folder or prefix of the run beside its output; InputError where the output is no name of a Parquet file."""
    if not output.endswith(SUFFIX) or output.endswith(f"/{SUFFIX}") or output == SUFFIX:
        raise InputError(f"expected output=FILE{SUFFIX}, a local path or s3://bucket/name{SUFFIX}; found {output}")
    return output.removesuffix(SUFFIX) + RUN_SUFFIX


def store_place(output: str) -> str:
    """Where the store of any job's output lies: for a file of boxes beside it, otherwise there."""
    return run_of(output) if output.endswith(SUFFIX) else output


def written_by(store: Store) -> str | None:
    """Digest of the run that wrote the file beside the run's ``store``; None where there is no file.

    Raises:
        InputError: there is another file or a folder, which must not be overwritten.
    """
    filesystem, path = _target(store)
    kind = filesystem.get_file_info(path).type
    if kind == pyarrow.fs.FileType.NotFound:
        return None
    digest = None
    if kind == pyarrow.fs.FileType.File:
        with contextlib.suppress(pa.ArrowInvalid), filesystem.open_input_file(path) as file:
            digest = (pyarrow.parquet.read_metadata(file).metadata or {}).get(RUN_KEY)
    if digest is None:
        raise InputError(f"{_uri(store)} exists and was not written by jobs.detect; move it, or set another output")
    return str(digest.decode())


def write(store: Store, done: Sequence[Commit], digest: str) -> int:
    """Write the file from the commits of all units, in their order; returns its number of rows.

    Raises:
        InputError: a file that a commit names is damaged or gone.
    """
    filesystem, path = _target(store)
    partial = f"{store.filesystem()[1]}/boxes-{uuid.uuid4().hex[:12]}.partial"  # another driver may write as well
    schema = BOXES_SCHEMA.with_metadata({**(BOXES_SCHEMA.metadata or {}), RUN_KEY: digest.encode()})
    try:
        rows = _write_rows(store, done, filesystem, partial, schema)
        filesystem.move(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):  # as where it was not begun
            filesystem.delete_file(partial)
        raise
    return rows


def _write_rows(
    store: Store, done: Sequence[Commit], filesystem: pyarrow.fs.FileSystem, path: str, schema: pa.Schema
) -> int:  # fmt: skip
    """Stream the rows of all units to ``path``; returns their number."""
    rows, waiting = 0, schema.empty_table()
    with (
        filesystem.open_output_stream(path) as sink,
        pyarrow.parquet.ParquetWriter(sink, schema, compression="zstd") as writer,
    ):
        for commit in done:
            table = _detections(store, commit).replace_schema_metadata(schema.metadata)
            rows += len(table)
            waiting = pa.concat_tables([waiting, table])
            if len(waiting) >= GROUP_ROWS:
                writer.write_table(waiting)
                waiting = schema.empty_table()
        writer.write_table(waiting)
    return rows


def _detections(store: Store, commit: Commit) -> pa.Table:
    key = commit.files["detections"]
    with contextlib.suppress(KeyError):
        content = store.get(key)
        if hashlib.sha256(content).hexdigest() == commit.sha256["detections"]:
            return pyarrow.parquet.read_table(io.BytesIO(content))
    raise InputError(
        f"{store.uri(key)} is gone or damaged; remove {store.uri(f'commits/{commit.unit}.json')} and run the same "
        "command again; it does that unit anew"
    )


def _target(store: Store) -> tuple[pyarrow.fs.FileSystem, str]:
    filesystem, root = store.filesystem()
    return filesystem, root.removesuffix(RUN_SUFFIX) + SUFFIX


def _uri(store: Store) -> str:
    return store.root.removesuffix(RUN_SUFFIX) + SUFFIX
