"""Committed rows of two labelling runs compared: lost, twice, different (benchmark of chaos).

Rows are read as readers see them, from the files that commits name. Equal means: the same texts and bytes, and numbers
that differ by float noise alone, because a frame may share its batch with others in another run. Not here: the faults.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.labelling import commits
from cluster.store.local import LocalStore

RELATIVE, ABSOLUTE = 1e-4, 1e-3  # float noise of a network; joints are in px
KEYS = {"predictions": ("video_id", "clip_id", "frame"), "pseudo_labels": ("video_id", "clip_id", "frame"),
        "quarantine": ("video_id",)}  # fmt: skip
"""Table -> what names a row; a clip is one hand of a video."""
Key = tuple[Any, ...]


@dataclass(frozen=True)
class Difference:
    """Rows of a run against one without faults; a row of another content, or one too many, is ``different``."""

    lost: int = 0
    twice: int = 0
    different: int = 0

    def __add__(self, other: Difference) -> Difference:
        return Difference(self.lost + other.lost, self.twice + other.twice, self.different + other.different)

    def __bool__(self) -> bool:
        return bool(self.lost or self.twice or self.different)


def difference(reference: Path, found: Path) -> Difference:
    """Of all tables of two outputs in folders."""
    total = Difference()
    for table, keys in KEYS.items():
        total += _between(_table(reference, table), _table(found, table), keys)
    return total


def count(output: Path) -> int:
    """Committed rows of all tables."""
    return sum(len(_table(output, table)) for table in KEYS)


def _table(output: Path, table: str) -> pa.Table:
    files = commits.committed_files(LocalStore(output), table)
    return pa.concat_tables([pq.read_table(output / key, partitioning=None) for key in files])


def _between(reference: pa.Table, found: pa.Table, keys: tuple[str, ...]) -> Difference:
    wanted, seen = _keys(reference, keys), _keys(found, keys)
    times = Counter(seen)
    lost = sum(key not in times for key in wanted)
    twice = sum(number - 1 for number in times.values())
    place = {key: row for row, key in enumerate(seen)}
    shared = [key for key in wanted if key in place]
    here = {key: row for row, key in enumerate(wanted)}
    one = reference.take(pa.array([here[key] for key in shared], pa.int64()))
    other = found.take(pa.array([place[key] for key in shared], pa.int64()))
    strangers = len(times.keys() - set(wanted))
    return Difference(lost, twice, strangers + int((~_equal(one, other)).sum()))


def _keys(table: pa.Table, keys: tuple[str, ...]) -> list[Key]:
    return list(zip(*(table[name].to_pylist() for name in keys), strict=True))


def _equal(one: pa.Table, other: pa.Table) -> np.ndarray:
    """Row by row."""
    equal = np.ones(len(one), bool)
    for name in one.column_names:
        for row, (left, right) in enumerate(zip(one[name].to_pylist(), other[name].to_pylist(), strict=True)):
            equal[row] = equal[row] and _same(left, right)
    return equal


def _same(one: Any, other: Any) -> bool:
    if one is None or other is None or isinstance(one, (str, bytes, bool)):
        return bool(one == other)
    return np.allclose(one, other, rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True)
