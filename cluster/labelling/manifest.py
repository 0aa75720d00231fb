"""The manifest of a run: every listed video with its file and its clips, one row group of Parquet per unit.

The driver writes it once, as a stream, and puts it beside ``run.json`` under a name made of its content, so that two
drivers never replace each other's. A worker reads the row group of its unit and nothing else. Clips are plain columns:
nothing is unpickled, and any reader of Parquet can look at them. Not here: which videos are listed (``listing``), what
a unit is (``units``).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import shutil
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from cluster import patience
from cluster.labelling import chain, commits, sharing
from cluster.labelling.manifest_rows import RETRY_OF, SCHEMA, table_of, video_of
from cluster.labelling.units import Digests, KnownDigests, Retries, Unit, Video, make_units, unit_id, unit_number
from cluster.sources import Entry, scratch
from cluster.store import Store, arrow
from hojoint.errors import InputError

COPIED_AT_ONCE = 2**20  # bytes
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Manifest:
    """The manifest of a plan, in a temporary file that goes with this object."""

    path: Path
    videos: int  # each counted once, however many attempts at it are listed
    clips: int
    unit_frames: tuple[int, ...]  # frames with a hand, by unit
    digests: Digests | KnownDigests
    retries: Retries = field(default_factory=dict)

    @functools.cached_property
    def key(self) -> str:
        """Where a store has it."""
        with open(self.path, "rb") as file:
            return _key(hashlib.file_digest(file, "sha256"))

    def __iter__(self) -> Iterator[Unit]:
        """All units, read one by one."""
        with pq.ParquetFile(self.path) as file:
            for number in range(len(self.unit_frames)):
                yield _unit(file, unit_id(number))

    def put(self, store: Store) -> str:
        """Make it part of an output; its key."""
        if not store.exists(self.key):
            store.put_file(self.key, self.path)
        return self.key


class Reader:
    """The manifest of an output, read unit by unit."""

    def __init__(self, store: Store, key: str) -> None:
        """Raises InputError where this node does not see it, or it cannot be read."""
        sharing.check_output(store, key)
        self._store, self._key = store, key
        filesystem, root = store.filesystem()
        self._file = self._read(lambda: pq.ParquetFile(f"{root}/{key}", filesystem=filesystem, pre_buffer=True))

    def unit(self, name: str) -> Unit:
        """One unit by its id.

        Raises:
            InputError: the manifest is damaged, or may not be read.
            Unavailable: the store has not answered for the patience of this process.
        """
        return self._read(lambda: _unit(self._file, name))

    def _read(self, call: Callable[[], T]) -> T:
        """What ``call`` reads; Arrow's client tries a few times, and an outage may be longer."""

        def passes(error: Exception) -> bool:
            return arrow.passes(error) and not _damaged(self._store, self._key)

        with _readable(self._store, self._key):
            return patience.ridden_out(call, passes, f"store {self._store.root}")

    @property
    def units(self) -> int:
        return int(self._file.num_row_groups)

    def retries(self) -> Retries:
        """All further attempts at videos. Raises what ``unit`` raises."""
        out: Retries = {}
        if RETRY_OF not in self._file.schema_arrow.names:
            return {}
        for number in range(self.units):
            for row in self._rows(number, "unit", "video_id", RETRY_OF):
                if row[RETRY_OF] is not None:
                    out.setdefault(row["video_id"], []).append((row["unit"], row[RETRY_OF]))
        return out

    def entries(self) -> Iterator[Entry]:
        """The files of all videos, in the order of their ids. Raises what ``unit`` raises."""
        for number in range(self.units):
            rows = self._rows(number, "video_id", "uri", "size", "etag")
            yield from (Entry(**row) for row in rows if row["uri"] is not None)

    def _rows(self, number: int, *columns: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._read(lambda: self._file.read_row_group(number, columns=columns).to_pylist())
        return rows


def copy(source: Store, key: str, target: Store) -> str:
    """Copy the manifest of one output into another, where it has the same key."""
    if not target.exists(key):
        with scratch.folder() as folder:
            fetch(source, key, folder / key)
            target.put_file(key, folder / key)
    return key


def fetch(source: Store, key: str, path: Path) -> None:
    """Copy the manifest of an output into a local file; an outage of the store is ridden out.

    Raises:
        OSError: it may not be read, or this disk is full.
        Unavailable: the store has not answered for the patience of this process.
    """
    filesystem, root = source.filesystem()

    def copied() -> None:
        with filesystem.open_input_stream(f"{root}/{key}") as stream, open(path, "wb") as file:
            shutil.copyfileobj(stream, file, COPIED_AT_ONCE)

    arrow.asked(source, copied)


def check_etags(store: Store, made: Manifest) -> None:
    """Raise InputError where videos have other content, by their etags, than when the run in ``store`` began.

    Its fingerprint is that of ``made`` already. Etags exist in object storage only; where one of the two is not known,
    nothing is compared.
    """
    key = commits.read_run(store).get(commits.MANIFEST) if store.exists(commits.RUN) else None
    if key is None or key == made.key or not store.exists(key):
        return
    before, changed = Reader(store, key), []  # another driver may have let it grow meanwhile, by other videos
    for unit in itertools.islice(made, before.units):  # what the run is about to grow by has no former etags
        etags = {video.video_id: video.etag for video in before.unit(unit.unit_id).videos}
        changed += [
            video.uri for video in unit.videos if video.etag and etags.get(video.video_id, "") not in ("", video.etag)
        ]
    if changed:
        raise InputError(
            f"{len(changed)} of {made.videos} videos were replaced since the run in {store.root} began (the first: "
            f"{changed[0]}, another etag), and one output cannot mix them. Set another output, or bring the former "
            "videos back"
        )


def write(videos: Iterable[Video], unit_videos: int) -> Manifest:
    """Write a manifest of videos that come in the order of their ids; holds one unit of them at a time."""
    return write_units(make_units(videos, unit_videos))


def write_units(units: Iterable[Unit]) -> Manifest:
    """Write a manifest of units that come in the order of their numbers; holds one at a time."""
    folder = scratch.lasting_folder()
    path, digests, clips = folder / "manifest.parquet", Digests(), 0
    unit_frames = []
    retries: Retries = {}
    count = 0
    # Statistics and dictionaries would cost memory for each row group, and nobody searches by them.
    with pq.ParquetWriter(path, SCHEMA, compression="zstd", write_statistics=False, use_dictionary=False) as writer:
        for unit in units:
            for video in unit.videos:
                digests.add(video)
                if video.retry_of:
                    retries.setdefault(video.video_id, []).append((unit.unit_id, video.retry_of))
            writer.write_table(table_of(unit))
            unit_frames.append(unit.frames)
            first = [video for video in unit.videos if not video.retry_of]
            clips += sum(len(video.clips) for video in first)
            count += len(first)
    manifest = Manifest(path, count, clips, tuple(unit_frames), digests, retries)
    weakref.finalize(manifest, shutil.rmtree, folder, ignore_errors=True)
    return manifest


def _unit(file: pq.ParquetFile, name: str) -> Unit:
    table = file.read_row_group(unit_number(name))
    if RETRY_OF not in table.column_names:
        table = table.append_column(SCHEMA.field(RETRY_OF), pa.nulls(len(table), pa.string()))
    if table.schema != SCHEMA or set(table["unit"].to_pylist()) != {name}:
        raise pa.ArrowInvalid(f"its row group {unit_number(name)} is not unit {name}")
    return Unit(name, tuple(video_of(row) for row in table.to_pylist()))


@contextlib.contextmanager
def _readable(store: Store, key: str) -> Iterator[None]:
    """Turn what a damaged file, or one that may not be read, raises into an InputError."""
    try:
        yield
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, OSError) and not _damaged(store, key):  # pyarrow has no class of its own for either
            raise InputError(f"cannot read {store.uri(key)} ({error}); the same command resumes") from None
        remedy = "remove it, and the same command makes it again"
        if chain.length(store):  # the borders of its units are nowhere else
            remedy = "the run has grown, and no command makes it again: restore it from a copy, or set another output"
        raise InputError(f"{store.uri(key)} cannot be read as the manifest of a run ({error}); {remedy}") from None


def _damaged(store: Store, key: str) -> bool:
    """Whether the content is another one than its name says; False where it cannot be read now."""
    filesystem, root = store.filesystem()
    try:
        with filesystem.open_input_stream(f"{root}/{key}") as stream:
            return key != _key(hashlib.file_digest(stream, "sha256"))
    except OSError:
        return False


def _key(digest: Any) -> str:
    return f"manifest-{digest.hexdigest()[:16]}.parquet"
