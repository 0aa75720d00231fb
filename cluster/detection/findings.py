"""What an attempt at a unit has found so far: rows of boxes, videos that failed, counts that miss nothing.

Not here: how hands are found (``finder``), how a unit is committed (cluster.labelling.commits).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from cluster.labelling import commits, totals
from cluster.labelling.commits import Commit
from cluster.labelling.counts import Tally
from cluster.labelling.decoding import Failure
from hojoint.datasets.box_tables import BOXES_SCHEMA
from hojoint.detection.tracking import Track

TABLES = ("detections", "quarantine")


@dataclass
class Counts(Tally):
    """Listed videos = with hands + without hands + quarantined; boxes = found + filled."""

    listed: int = 0
    with_hands: int = 0
    without_hands: int = 0
    quarantined: int = 0
    pictures: int = 0  # looked at
    found: int = 0
    filled: int = 0
    tracks: int = 0
    short_tracks: int = 0  # left out, as ``detect.min_track`` says
    sides: Counter[str] = field(default_factory=Counter)  # 'right', 'left' or 'unknown' -> tracks
    quarantine: Counter[str] = field(default_factory=Counter)  # class -> videos


class Findings:
    """One attempt's result."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.seconds: dict[str, float] = defaultdict(float)
        self._rows: list[pa.Table] = []
        self._failures: list[Failure] = []

    def fail(self, failure: Failure) -> None:
        self._failures.append(failure)
        self.counts.listed += 1
        self.counts.quarantined += 1
        self.counts.quarantine[failure.kind] += 1

    def take(
        self, video_id: str, tracks: Sequence[Track], *, times_s: np.ndarray | None, pictures: int, short: int
    ) -> None:
        """A video that was looked at to its end; ``times_s`` (pictures,) or None; ``short`` tracks were left out."""
        rows = rows_of(video_id, tracks, times_s, pictures)
        filled = sum(int(track.filled.sum()) for track in tracks)
        counts = self.counts
        counts.listed += 1
        counts.with_hands += bool(tracks)
        counts.without_hands += not tracks
        counts.pictures += pictures
        counts.filled += filled
        counts.found += sum(len(track.frames) for track in tracks) - filled
        counts.tracks += len(tracks)
        counts.short_tracks += short
        counts.sides.update(track.side or "unknown" for track in tracks)
        self._rows.append(rows)

    def tables(self) -> dict[str, pa.Table]:
        """The tables of a commit; videos in ascending order of their ids."""
        ordered = sorted(self._rows, key=lambda rows: rows["video_id"][0].as_py())
        joined = pa.concat_tables([BOXES_SCHEMA.empty_table(), *ordered])
        return {"detections": joined, "quarantine": commits.quarantine_table(self._failures)}

    def check(self, videos: int) -> None:
        """Assert that every video is counted."""
        counts = self.counts
        assert counts.listed == videos == counts.with_hands + counts.without_hands + counts.quarantined, counts


def rows_of(video_id: str, tracks: Sequence[Track], times_s: np.ndarray | None, pictures: int) -> pa.Table:
    """The rows of one video, by picture and then by track.

    Where no hand is seen in the last picture, one row without a box says so: it tells how long the video is. A video
    without pictures has one row without a number.
    """
    frames = np.concatenate([np.zeros(0, np.int32), *(track.frames for track in tracks)])
    numbers = np.repeat(np.arange(len(tracks)), [len(track.frames) for track in tracks])
    boxes = np.concatenate([np.zeros((0, 4), np.float32), *(track.boxes for track in tracks)])
    order = np.lexsort((numbers, frames))
    sides = [tracks[number].side for number in numbers[order]]
    rows = {
        "video_id": [video_id] * len(frames),
        "frame": frames[order],
        "time_s": [None] * len(frames) if times_s is None else times_s[frames[order]],
        **{name: boxes[order, column] for column, name in enumerate(("x1", "y1", "x2", "y2"))},
        "side": sides,
        "score": np.concatenate([np.zeros(0, np.float32), *(track.scores for track in tracks)])[order],
        "track": numbers[order],
        "filled": np.concatenate([np.zeros(0, bool), *(track.filled for track in tracks)])[order],
    }
    arrays = [pa.array(rows[part.name], part.type) for part in BOXES_SCHEMA]
    table = pa.Table.from_arrays(arrays, schema=BOXES_SCHEMA)
    last = pictures - 1
    if last >= 0 and last in frames:
        return table
    known = last >= 0
    end: dict[str, Any] = {"video_id": video_id, "frame": last if known else None}
    if known and times_s is not None:
        end["time_s"] = float(times_s[last])
    return pa.concat_tables([table, pa.Table.from_pylist([end], schema=BOXES_SCHEMA)])


def total_of(done: Iterable[Commit]) -> Counts:
    """The counts of all commits together."""
    total = Counts()
    for commit in done:
        total.add(commit.counts)
    return total


def outcomes_of(total: Counts) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """Videos by outcome, pictures as frames, quarantined videos by class: what ``CommittedGauges`` shows."""
    videos = {name: getattr(total, name) for name in ("with_hands", "without_hands", "quarantined")}
    return videos, {"looked": total.pictures}, dict(total.quarantine)


def report_of(done: Sequence[Commit]) -> dict[str, Any]:
    """``report.json``, from commits alone: a resumed run's report covers all of it."""
    total, seconds = total_of(done), totals.busy_seconds(done)
    return {
        "videos": {name: getattr(total, name) for name in ("listed", "with_hands", "without_hands", "quarantined")},
        "pictures": total.pictures,
        "boxes": {"found": total.found, "filled": total.filled},
        "tracks": total.tracks,
        "short_tracks": total.short_tracks,
        "sides": {side: total.sides[side] for side in ("right", "left", "unknown")},
        "quarantine": dict(sorted(total.quarantine.items())),
        "units": len(done),
        "seconds": round(seconds, 3),
        "pictures_per_second": round(total.pictures / seconds, 3) if seconds else 0.0,
    }
