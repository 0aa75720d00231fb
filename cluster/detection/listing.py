"""The videos of a detection run: listed once, cut into units, kept in a Parquet file with one row group per unit.

The rule is that of labelling: videos in ascending order of their ids, cut into runs of ``labelling.unit_videos``.
Workers read their unit from the file, so tasks and the driver's memory stay small. Not here: what counts as a video
(cluster.sources).
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet

from cluster.sources import Entry
from cluster.store import Store

MANIFEST = "manifest.parquet"
SCHEMA = pa.schema([("video_id", pa.string()), ("uri", pa.string()), ("size", pa.int64()), ("etag", pa.string())])


@dataclass(frozen=True)
class Listing:
    """All videos of a run, packed."""

    content: bytes  # the Parquet file
    units: int
    videos: int
    digest: str  # of ids and contents, as far as a listing tells; not of their place, so that a mount may move

    def unit_ids(self) -> list[str]:
        return [f"u{number:06d}" for number in range(self.units)]


def packed(entries: Iterable[Entry], unit_videos: int) -> Listing:
    """Pack entries, which come in ascending order of their ids."""
    sink, state, units, videos = pa.BufferOutputStream(), hashlib.sha256(), 0, 0
    waiting = iter(entries)
    with pa.parquet.ParquetWriter(sink, SCHEMA, compression="zstd") as writer:
        while unit := list(itertools.islice(waiting, unit_videos)):
            for entry in unit:
                state.update(f"{entry.video_id}\0{entry.size}\0{entry.etag}\n".encode())
            columns = {name: [getattr(entry, name) for entry in unit] for name in SCHEMA.names}
            writer.write_table(pa.table(columns, schema=SCHEMA))
            units, videos = units + 1, videos + len(unit)
    return Listing(sink.getvalue().to_pybytes(), units, videos, state.hexdigest())


def videos_of(store: Store, unit_id: str) -> tuple[Entry, ...]:
    """The videos of a unit, from the manifest of the run at ``store``."""
    filesystem, root = store.filesystem()
    with filesystem.open_input_file(f"{root}/{MANIFEST}") as file:
        rows = pyarrow.parquet.ParquetFile(file).read_row_group(int(unit_id[1:]))
    return tuple(Entry(**row) for row in rows.to_pylist())
