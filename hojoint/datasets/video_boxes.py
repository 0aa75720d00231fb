"""All boxes of one video as one compact record, and how a reader's rows become it.

Every format of boxes ends here (``boxes`` lists them). Boxes stay as annotated: they may cross the picture's border by
float noise, and are clipped when its size is known. Not here: files, and which boxes are one hand (``something``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

UNKNOWN, RIGHT, LEFT = 0, 1, 2
"""Codes of ``VideoBoxes.hand_sides``."""
NO_TRACK = -1
LATEST_FRAME = 1_000_000
LARGEST_PX = 1e6


@dataclass(frozen=True, eq=False)
class VideoBoxes:
    """All boxes of one video, flat: K hand boxes and M object boxes, each with its 0-based frame number."""

    video_id: str
    annotated_frames: int  # last frame of the list plus one; the video may be longer
    hand_frames: np.ndarray  # (K,) int32, ascending
    hand_boxes: np.ndarray  # (K, 4) float32 xyxy px
    object_frames: np.ndarray  # (M,) int32, ascending
    object_boxes: np.ndarray  # (M, 4) float32 xyxy px
    object_ids: np.ndarray  # (M,) int16, index into object_names
    object_names: tuple[str, ...]  # the annotation's categories, sorted
    hand_sides: np.ndarray  # (K,) int8: RIGHT, LEFT or UNKNOWN
    hand_tracks: np.ndarray  # (K,) int32: rows of one number are one hand; NO_TRACK where the annotation has none
    hand_times_s: np.ndarray | None = (
        None  # (K,) float64 s, where the list counts by time; frames then number the times
    )
    object_times_s: np.ndarray | None = None  # (M,) float64 s
    every_frame_listed: bool = False  # each frame before ``annotated_frames`` has an entry, if only an empty one: the
    # list then tells how long the video was for the one who made it


@dataclass(frozen=True)
class Row:
    """One box as a reader found it."""

    frame: int  # 0-based
    box: Sequence[float]  # x1, y1, x2, y2 px
    name: str | None  # category of an object; None for a hand
    side: int = UNKNOWN
    track: int = NO_TRACK
    time_s: float | None = None  # of all rows of a video or of none


def gathered(
    video_id: str, rows: Sequence[Row], *, annotated_frames: int, every_frame_listed: bool = False
) -> VideoBoxes:  # fmt: skip
    """The record of a video's rows, given in any order; rows of one frame keep theirs."""
    hands = sorted((row for row in rows if row.name is None), key=lambda row: row.frame)
    objects = sorted((row for row in rows if row.name is not None), key=lambda row: (row.frame, row.name or ""))
    names = tuple(sorted({row.name for row in objects if row.name is not None}))
    code = {name: index for index, name in enumerate(names)}
    timed = bool(rows) and rows[0].time_s is not None
    return VideoBoxes(
        video_id=video_id,
        annotated_frames=annotated_frames,
        hand_frames=np.array([row.frame for row in hands], np.int32),
        hand_boxes=np.array([row.box for row in hands], np.float32).reshape(-1, 4),
        object_frames=np.array([row.frame for row in objects], np.int32),
        object_boxes=np.array([row.box for row in objects], np.float32).reshape(-1, 4),
        object_ids=np.array([code[row.name or ""] for row in objects], np.int16),
        object_names=names,
        hand_sides=np.array([row.side for row in hands], np.int8),
        hand_tracks=np.array([row.track for row in hands], np.int32),
        hand_times_s=np.array([row.time_s for row in hands], np.float64) if timed else None,
        object_times_s=np.array([row.time_s for row in objects], np.float64) if timed else None,
        every_frame_listed=every_frame_listed,
    )
