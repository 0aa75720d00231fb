"""Rows of many videos in any order to one record per video, in little memory: they wait in a temporary file.

A row takes 45 bytes on disk and 8 in memory while the rows are put in order, so ten million rows need 450 MB of disk
and about 150 MB of memory. The videos come in the order in which they appear first. Not here: what a row means.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from typing import IO, Any

import numpy as np

from hojoint import ids
from hojoint.datasets.video_boxes import HAND, NO_TRACK, NOTHING, ROW, VideoBoxes, gathered
from hojoint.errors import InputError

WITHOUT_FRAME = -1
"""Frame of a row that says that a video was looked at; and of rows that count by time, until the video is complete."""


class Spool:
    """Add rows, then take the videos."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._file: IO[Any] = tempfile.TemporaryFile(prefix="hojoint-boxes-")  # noqa: SIM115  closed by __exit__
        self._videos: dict[str, int] = {}
        self._names: dict[str, int] = {}

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def video(self, video_id: str) -> int:
        """Number of a video, for ``ROW``; raises InputError where the id cannot be one."""
        known = self._videos.get(video_id)
        if known is None:
            known = self._videos[ids.checked(video_id, self._where)] = len(self._videos)
        return known

    def name(self, category: str) -> int:
        """Number of an object's category, for ``ROW``."""
        return self._names.setdefault(category, len(self._names))

    def add(self, rows: np.ndarray) -> None:
        """Keep rows (N,) of type ``ROW``."""
        assert rows.dtype == ROW
        self._file.write(np.ascontiguousarray(rows).tobytes())

    def videos(self) -> Iterator[VideoBoxes]:
        """One record per video."""
        self._file.flush()
        if not self._videos:
            return
        rows = np.memmap(self._file, ROW, mode="r")
        codes = np.array(rows["video"])
        order = np.argsort(codes, kind="stable")
        ends = np.cumsum(np.bincount(codes, minlength=len(self._videos)))
        names = list(self._names)
        start = 0
        for video_id, end in zip(self._videos, ends.tolist(), strict=True):
            yield _video(self._where, video_id, rows[order[start:end]], names)
            start = end


def _video(where: str, video_id: str, rows: np.ndarray, names: Sequence[str]) -> VideoBoxes:
    """The record of one video; its list is complete only where it says which frames have no box."""
    timed = ~np.isnan(rows["time_s"])
    rows["frame"][timed] = np.unique(rows["time_s"][timed], return_inverse=True)[1]
    _check_tracks(where, video_id, rows)
    listed = np.unique(rows["frame"][rows["frame"] != WITHOUT_FRAME])
    annotated = int(listed.max(initial=-1)) + 1
    tells_empty = bool(((rows["name"] == NOTHING) & (rows["frame"] != WITHOUT_FRAME)).any())
    return gathered(
        video_id,
        rows,
        names,
        annotated_frames=0 if timed.any() else annotated,
        every_frame_listed=tells_empty and len(listed) == annotated and not timed.any(),
    )


def _check_tracks(where: str, video_id: str, rows: np.ndarray) -> None:
    tracked = rows[(rows["name"] == HAND) & (rows["track"] != NO_TRACK)]
    pairs, counts = np.unique(tracked[["track", "frame"]], return_counts=True)
    if (counts > 1).any():
        track, frame = pairs[counts > 1][0].tolist()
        raise InputError(
            f"{where}: video {video_id!r}: the track {track} has {counts.max()} boxes in frame {frame} (counted from "
            "0); a track is one hand, so give each hand a number of its own"
        )
