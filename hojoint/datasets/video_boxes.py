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
CORNERS = ("x1", "y1", "x2", "y2")
HAND, NOTHING = -1, -2
"""Values of ``ROW``'s name that point to no category: the row is a hand; the row has no box."""
ROW = np.dtype(
    [
        ("video", np.int32),  # for readers that hold rows of several videos
        ("frame", np.int32),  # 0-based
        ("time_s", np.float64),  # NaN where the list counts by frames
        ("box", np.float32, 4),  # x1, y1, x2, y2 px
        ("name", np.int32),  # index of the object's category, HAND or NOTHING
        ("side", np.int8),
        ("track", np.int32),
    ]
)
"""One row of an annotation as a reader found it."""
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
    every_frame_listed: bool = False  # each frame before ``annotated_frames`` has an entry, if only an empty one, or
    # the last one always has: the list then tells how long the video was for the one who made it


def gathered(
    video_id: str, rows: np.ndarray, names: Sequence[str], *, annotated_frames: int, every_frame_listed: bool
) -> VideoBoxes:  # fmt: skip
    """The record of a video's rows.

    Args:
        video_id: of the video.
        rows: (N,) of type ``ROW``, in any order; rows of one frame keep theirs.
        names: categories of objects, what ``ROW``'s name points into.
        annotated_frames, every_frame_listed: as in ``VideoBoxes``.
    """
    hands = rows[rows["name"] == HAND]
    hands = hands[np.argsort(hands["frame"], kind="stable")]
    objects = rows[rows["name"] >= 0]
    named: list[str] = []
    object_ids = np.zeros(len(objects), np.int16)
    if len(objects):
        used, codes = np.unique(objects["name"], return_inverse=True)
        named = [names[code] for code in used]
        object_ids = np.argsort(np.argsort(named)).astype(np.int16)[codes]
        order = np.lexsort((object_ids, objects["frame"]))
        objects, object_ids = objects[order], object_ids[order]
    timed = not np.isnan(rows["time_s"]).all()
    return VideoBoxes(
        video_id=video_id,
        annotated_frames=annotated_frames,
        hand_frames=hands["frame"].copy(),
        hand_boxes=hands["box"].copy(),
        object_frames=objects["frame"].copy(),
        object_boxes=objects["box"].copy(),
        object_ids=object_ids,
        object_names=tuple(sorted(named)),
        hand_sides=hands["side"].copy(),
        hand_tracks=hands["track"].copy(),
        hand_times_s=hands["time_s"].copy() if timed else None,
        every_frame_listed=every_frame_listed,
    )
