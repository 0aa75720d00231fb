"""The one table of boxes, put together from what the commits name, and how a finished one is known again.

The file's metadata names the run that made it, and what its units had committed. Rows are streamed, so memory does not
grow with the number of videos. The file is written under another name and moved when it is complete. Not here: the
tables of the units (``findings``).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import uuid
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet

from cluster.labelling.commits import Commit
from cluster.store import Store, arrow
from hojoint.config import digest as digest_of
from hojoint.datasets.box_tables import BOXES_SCHEMA
from hojoint.errors import InputError

SUFFIX, RUN_SUFFIX = ".parquet", ".parquet.run"
RUN_KEY = b"hojoint.detection"  # in the file's metadata: the digest of the run's fingerprint
COMMITS_KEY = b"hojoint.detection.commits"  # the digest of what its units committed; none in earlier versions
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
        Unavailable: the store has not answered for the patience of this process.
    """
    facts = _ours(store)
    return None if facts is None else str(facts.metadata[RUN_KEY].decode())


def rows_of(store: Store, done: Sequence[Commit], digest: str) -> int | None:
    """Number of rows of the file, where it was written by this run and from these commits; None where it was not.

    Raises what ``written_by`` raises.
    """
    facts = _ours(store)
    if facts is None or facts.metadata[RUN_KEY] != digest.encode() or facts.metadata.get(COMMITS_KEY) != _digest(done):
        return None
    return int(facts.num_rows)


def _ours(store: Store) -> pyarrow.parquet.FileMetaData | None:
    """The facts of the file, which names its run; None where there is none. Raises as ``written_by`` does."""
    kind, facts = arrow.asked(store, lambda: _found(store))
    if kind == pyarrow.fs.FileType.NotFound:
        return None
    if facts is None or RUN_KEY not in (facts.metadata or {}):
        raise InputError(f"{_uri(store)} exists and was not written by jobs.detect; move it, or set another output")
    return facts


def _found(store: Store) -> tuple[Any, pyarrow.parquet.FileMetaData | None]:
    """What lies where the file belongs, and its facts where it is a Parquet file."""
    filesystem, path = _target(store)
    kind, facts = filesystem.get_file_info(path).type, None
    if kind == pyarrow.fs.FileType.File:
        try:
            with contextlib.suppress(pa.ArrowInvalid), filesystem.open_input_file(path) as file:
                facts = pyarrow.parquet.read_metadata(file)
        except OSError as error:  # without a number: of an object store that is away, or of a damaged footer
            if error.errno is not None or not isinstance(filesystem, pyarrow.fs.LocalFileSystem):
                raise
    return kind, facts


def _digest(done: Sequence[Commit]) -> bytes:
    return digest_of([commit.sha256 for commit in done]).encode()


def write(store: Store, done: Sequence[Commit], digest: str) -> int:
    """Write the file from the commits of all units, in their order; returns its number of rows.

    Raises:
        InputError: a file that a commit names is damaged or gone.
        Unavailable: the store has not answered for the patience of this process.
    """
    names = {RUN_KEY: digest.encode(), COMMITS_KEY: _digest(done)}
    schema = BOXES_SCHEMA.with_metadata({**(BOXES_SCHEMA.metadata or {}), **names})
    return arrow.asked(store, lambda: _written(store, done, schema))


def _written(store: Store, done: Sequence[Commit], schema: pa.Schema) -> int:
    """One try to write the file; returns its number of rows."""
    filesystem, path = _target(store)
    name = f"boxes-{uuid.uuid4().hex[:12]}.partial"  # another driver may write as well
    partial = f"{store.filesystem()[1]}/{name}"
    try:
        rows = _write_rows(store, done, filesystem, partial, schema)
        store.move(name, path)  # Arrow's own move copies in one request: in a bucket, 5 GB at most
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
