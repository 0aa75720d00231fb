"""Rows of many videos in any order to one record per video, in little memory: they wait in a temporary file.

A row takes 41 bytes on disk and 4 in memory. Where the rows of the videos are scattered, the file is read once per
``AT_ONCE`` rows. The videos come in the order in which they appear first. Not here: what a row means.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from typing import IO, Any

import numpy as np

from hojoint import ids
from hojoint.datasets.video_boxes import HAND, NO_TRACK, ROW, VideoBoxes, gathered
from hojoint.errors import InputError

AT_ONCE = 1 << 18  # rows in memory
WITHOUT_FRAME = -1
"""Frame of a row that says that a video was looked at; and of rows that count by time, until the video is complete."""


class Spool:
    """Add rows, then take the videos."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._file: IO[Any] = tempfile.TemporaryFile(prefix="hojoint-boxes-")  # noqa: SIM115  closed by __exit__
        self._videos: dict[str, int] = {}
        self._written: dict[str, str] = {}  # id to how the file writes it, where that is another way
        self._names: dict[str, int] = {}
        self._chunks: list[np.ndarray] = []  # the video of each row, as the rows were added
        self._tells_empty = False  # some row says that a frame shows no hand: an empty one, or one of an object
        self.tells_length = False  # each video has a row for its last picture, as the tables of jobs.detect have

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def video(self, video_id: str, written: str) -> int:
        """Number of a video, for ``ROW``.

        Args:
            video_id: of the video.
            written: how the file writes it, such as with a folder or a suffix.

        Raises:
            InputError: the id cannot be one, or two ways to write it seem to be two videos.
        """
        known = self._videos.get(video_id)
        if known is None:
            known = self._videos[ids.checked(video_id, self._where)] = len(self._videos)
            if written != video_id:
                self._written[video_id] = written
        elif (first := self._written.get(video_id, video_id)) != written:
            raise InputError(
                f"{self._where}: {first!r} and {written!r} would both be the video {video_id!r}, as ids have no folder "
                "and no suffix; write one video in one way, and give two videos two names"
            )
        return known

    def name(self, category: str) -> int:
        """Number of an object's category, for ``ROW``."""
        return self._names.setdefault(category, len(self._names))

    def add(self, rows: np.ndarray) -> None:
        """Keep rows (N,) of type ``ROW``."""
        assert rows.dtype == ROW
        self._file.write(np.ascontiguousarray(rows).tobytes())
        self._chunks.append(rows["video"].copy())
        self._tells_empty |= bool(((rows["name"] != HAND) & (rows["frame"] != WITHOUT_FRAME)).any())

    def videos(self) -> Iterator[VideoBoxes]:
        """One record per video."""
        self._file.flush()
        counts = np.bincount(self._codes(), minlength=len(self._videos))
        ids_, names = list(self._videos), list(self._names)
        first = 0
        while first < len(ids_):
            last = first + max(1, int(np.searchsorted(np.cumsum(counts[first:]), AT_ONCE, side="right")))
            block = self._block(first, last)
            ends = np.cumsum(counts[first:last]).tolist()
            for video_id, start, end in zip(ids_[first:last], [0, *ends], ends, strict=False):
                yield _video(video_id, block[start:end], names, self._tells_empty, self.tells_length)
            first = last

    def _codes(self) -> np.ndarray:
        return np.concatenate([np.zeros(0, np.int32), *self._chunks])

    def _block(self, first: int, last: int) -> np.ndarray:
        """The rows of the videos from ``first`` to ``last``, by video; read in passes over the file."""
        parts, offset = [np.zeros(0, ROW)], 0
        for codes in self._chunks:
            mine = (codes >= first) & (codes < last)
            if mine.any():
                self._file.seek(offset)
                parts.append(np.frombuffer(self._file.read(len(codes) * ROW.itemsize), ROW)[mine])
            offset += len(codes) * ROW.itemsize
        block = np.concatenate(parts)
        block = block[np.argsort(block["video"], kind="stable")]
        self._check_tracks(block)
        return block

    def _check_tracks(self, block: np.ndarray) -> None:
        """Raise InputError where a track has two boxes at one time."""
        tracked = block[(block["name"] == HAND) & (block["track"] != NO_TRACK)]
        fields = [tracked[name] for name in ("time_s", "frame", "track", "video")]
        order = np.lexsort(fields)
        same = np.logical_and.reduce([np.diff(field[order]) == 0 for field in fields[1:]])
        same &= (np.diff(fields[0][order]) == 0) | np.isnan(fields[0][order][1:])
        if same.any():
            row = tracked[order][int(same.argmax())]
            at = f"frame {row['frame']} (counted from 0)" if np.isnan(row["time_s"]) else f"second {row['time_s']:g}"
            raise InputError(
                f"{self._where}: video {list(self._videos)[row['video']]!r}: the track {row['track']} has two boxes in "
                f"{at}; a track is one hand, so give each hand a number of its own"
            )


def _video(
    video_id: str, rows: np.ndarray, names: Sequence[str], tells_empty: bool, tells_length: bool
) -> VideoBoxes:  # fmt: skip
    """The record of one video; its list is complete where the file tells frames without a hand too and all frames up to
    the last have a row, or where the file tells how many there are. A file of hands alone may end with the hand."""
    timed = ~np.isnan(rows["time_s"])
    counts_by_time = bool(timed.any())
    if counts_by_time:
        rows["frame"][timed] = np.unique(rows["time_s"][timed], return_inverse=True)[1]
    looked_at = rows["frame"] != WITHOUT_FRAME
    annotated = int(rows["frame"].max(initial=-1)) + 1
    all_there = tells_empty and 0 < annotated == len(np.unique(rows["frame"][looked_at]))
    complete = not counts_by_time and (all_there or (tells_length and annotated > 0))
    return gathered(
        video_id, rows, names, annotated_frames=0 if counts_by_time else annotated, every_frame_listed=complete
    )
