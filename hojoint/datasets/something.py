"""Something-Something v2 videos with Something-Else boxes: which hand is followed through which frames (Sec. 6.2).

A clip is one hand through one video. Where the annotation has tracks they are used. Other boxes are joined from frame
to frame: to the track whose last box they overlap most, else to the nearest one whose centre lies within one box side,
one of the same side first where sides are known; a hand box that fits no track begins a new one. A track ends when the
hand is away for more than ``LONGEST_GAP`` frames (it may come back as the other hand), or ``LONGEST_GAP_S`` where times
are known, but never within ``SPARSE`` steps of the list; gaps up to that length stay in the clip. The side of a clip is
the one that most of its boxes have.

The object of a clip is the one whose box lies most inside the hand's box, summed over the clip, and stays the same
for the complete clip: a constant choice keeps the crop steady. Objects that never meet the hand's box do not count.

Not here: decoding, which finds the videos that are broken or shorter than their list.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from hojoint.datasets.video_boxes import LEFT, NO_TRACK, RIGHT, VideoBoxes
from hojoint.errors import InputError
from hojoint.records import Clip

LONGEST_GAP = 12  # frames without the hand, one second at 12 fps
LONGEST_GAP_S = 1.0  # the same where boxes have times, or videos.boxes_fps tells them
SPARSE = 1.5  # a list of every n-th picture: so many of its steps may pass without the hand
STEPS = 3  # fewer steps do not tell such a list


def clips_of(
    uri: str | Path, boxes: VideoBoxes, *, min_frames: int = 2, boxes_fps: float | None = None
) -> list[Clip]:  # fmt: skip
    """The clips of one video; see ``tracks_of``."""
    return tracks_of(uri, boxes, min_frames=min_frames, boxes_fps=boxes_fps)[0]


def tracks_of(
    uri: str | Path, boxes: VideoBoxes, *, min_frames: int = 2, boxes_fps: float | None = None
) -> tuple[list[Clip], int, int]:  # fmt: skip
    """The clips of one video, in the order in which the hands appear, and what made none.

    Args:
        uri: of the video; becomes ``Clip.path``.
        boxes: of the video.
        min_frames: a hand seen in fewer frames makes no clip.
        boxes_fps: ``videos.boxes_fps``: frame k of the list lies at (k + 0.5) / boxes_fps seconds.

    Returns:
        Clips, the number of hands seen in too few frames, and the number of boxes in them.
    """
    tracks = _tracks(boxes, boxes_fps)
    clips = [
        _clip(str(uri), boxes, hand, rows, boxes_fps) for hand, rows in enumerate(tracks) if len(rows) >= min_frames
    ]
    short = [len(rows) for rows in tracks if len(rows) < min_frames]
    return clips, len(short), sum(short)


def on_pictures(clip: Clip, asked_s: np.ndarray, shown_at: np.ndarray) -> tuple[Clip, np.ndarray]:
    """A clip whose boxes lie at times, with the numbers of the pictures shown then as its frames.

    Args:
        clip: T frames with times.
        asked_s: (K,) s ascending, the clip's times among them.
        shown_at: (K,) number of the picture shown at each of them, negative where there is none (``Decoded``).

    Returns:
        The clip, and which of its (T,) frames have a picture of their own: of two boxes on one picture the first stays.
    """
    assert clip.times_s is not None
    numbers = shown_at[np.searchsorted(asked_s, clip.times_s)]
    first = np.zeros(len(numbers), bool)
    first[np.unique(numbers, return_index=True)[1]] = True
    return dataclasses.replace(clip, frames=numbers.astype(np.int32)), first & (numbers >= 0)


def side_conflicts(boxes: VideoBoxes) -> tuple[int, int]:
    """Tracks whose boxes are of both sides, and the boxes in them that are of the rarer one."""
    rarer = [int(np.bincount(boxes.hand_sides[rows], minlength=3)[1:].min()) for rows in _tracks(boxes, None)]
    return sum(count > 0 for count in rarer), sum(rarer)


def _tracks(boxes: VideoBoxes, boxes_fps: float | None) -> list[list[int]]:
    """Rows of ``hand_boxes`` that are one hand, in the order in which the hands appear."""
    given: dict[int, list[int]] = {}
    for row in np.flatnonzero(boxes.hand_tracks != NO_TRACK).tolist():
        given.setdefault(int(boxes.hand_tracks[row]), []).append(row)
    loose = np.flatnonzero(boxes.hand_tracks == NO_TRACK).tolist()
    clock, longest = _away(boxes, boxes_fps)
    tracks = [part for rows in given.values() for part in _without_gaps(rows, clock, longest)]
    return sorted([*tracks, *_joined_tracks(boxes, loose, clock, longest)], key=lambda rows: rows[0])


def _away(boxes: VideoBoxes, boxes_fps: float | None) -> tuple[list[float], float]:
    """Clock of each hand box, and by how much it may move within a track."""
    in_s = LONGEST_GAP_S * (1 + 1 / LONGEST_GAP) + 1e-6
    if boxes.hand_times_s is not None:
        clock, longest = boxes.hand_times_s, in_s
    elif boxes_fps is not None:
        clock, longest = boxes.hand_frames / boxes_fps, max(in_s, SPARSE / boxes_fps)
    else:
        clock, longest = boxes.hand_frames, float(LONGEST_GAP + 1)
    steps = np.diff(np.unique(clock))
    if len(steps) >= STEPS and not boxes.every_frame_listed:
        longest = max(longest, SPARSE * float(np.median(steps)))
    return clock.tolist(), longest


def _without_gaps(rows: list[int], clock: list[float], longest: float) -> list[list[int]]:
    """A given track, cut where the hand is away for too long."""
    parts = [rows[:1]]
    for before, row in itertools.pairwise(rows):
        if clock[row] - clock[before] > longest:
            parts.append([])
        parts[-1].append(row)
    return parts


def _joined_tracks(boxes: VideoBoxes, loose: list[int], clock: list[float], longest: float) -> list[list[int]]:
    """Tracks of the rows that have none."""
    tracks: list[list[int]] = []
    alive: list[list[int]] = []
    frames, hand_boxes, sides = boxes.hand_frames.tolist(), boxes.hand_boxes.tolist(), boxes.hand_sides.tolist()
    for _, same_frame in itertools.groupby(loose, key=frames.__getitem__):
        rows = list(same_frame)
        alive = [track for track in alive if clock[rows[0]] - clock[track[-1]] <= longest]
        for track, row in _joined(alive, rows, hand_boxes, sides):
            track.append(row)
            rows.remove(row)
        begun = [[row] for row in rows]
        alive = alive + begun
        tracks.extend(begun)
    return tracks


def _joined(
    alive: list[list[int]], rows: list[int], boxes: list[list[float]], sides: list[int]
) -> list[tuple[list[int], int]]:  # fmt: skip
    """Pair tracks with this frame's boxes: largest overlap first, then the nearest; one box to one track.

    A pair of two sides is the last choice, and still one: detectors take a hand for the other one now and then.
    """
    pairs = []
    for number, track in enumerate(alive):
        for row in rows:
            overlap, distance = _nearness(boxes[track[-1]], boxes[row])
            if overlap > 0 or distance <= 1:
                crossed = {sides[track[-1]], sides[row]} == {RIGHT, LEFT}
                pairs.append((crossed, -overlap, distance, number, row))
    joined: dict[int, int] = {}
    for *_, number, row in sorted(pairs):
        if number not in joined and row not in joined.values():
            joined[number] = row
    return [(alive[number], row) for number, row in joined.items()]


def _nearness(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """IoU, and the distance of the centres in units of the largest side (plain floats: the pairs come one by one)."""
    (ax, ay, bx, by), (cx, cy, dx, dy) = a, b
    shared = max(min(bx, dx) - max(ax, cx), 0.0) * max(min(by, dy) - max(ay, cy), 0.0)
    union = (bx - ax) * (by - ay) + (dx - cx) * (dy - cy) - shared
    distance = math.hypot(ax + bx - cx - dx, ay + by - cy - dy) / 2
    return (shared / union if union > 0 else 0.0), distance / max(bx - ax, by - ay, dx - cx, dy - cy, 1e-6)


def _clip(path: str, boxes: VideoBoxes, hand: int, rows: list[int], boxes_fps: float | None) -> Clip:
    frames = boxes.hand_frames[rows]
    hand_boxes = boxes.hand_boxes[rows]
    times_s = None if boxes.hand_times_s is None else boxes.hand_times_s[rows]
    if boxes_fps is not None:
        if times_s is not None:
            raise InputError(
                f"videos.boxes_fps={boxes_fps:g} is for boxes that are numbered by frame; those of {boxes.video_id!r} "
                "have times, so leave videos.boxes_fps out"
            )
        times_s = (frames + 0.5) / boxes_fps
    return Clip(
        clip_id=f"{boxes.video_id}-h{hand}-{frames[0]:04d}-{frames[-1]:04d}",
        video_id=boxes.video_id,
        path=path,
        frames=frames,
        hand_boxes=hand_boxes,
        object_boxes=_object_of(boxes, frames, hand_boxes),
        annotated_frames=boxes.annotated_frames,
        times_s=times_s,
        side=_side_of(boxes.hand_sides[rows]),
        every_frame_listed=boxes.every_frame_listed,
    )


def _side_of(sides: np.ndarray) -> Literal["right", "left"] | None:
    """The side that most boxes (T,) have; None where none has one, or as many have the one as the other."""
    right, left = (int((sides == side).sum()) for side in (RIGHT, LEFT))
    return None if right == left else "right" if right > left else "left"


def _object_of(boxes: VideoBoxes, frames: np.ndarray, hand_boxes: np.ndarray) -> np.ndarray:
    """(T, 4) boxes of the clip's one object; NaN where it is not annotated, or where no object meets the hand."""
    chosen = np.full((len(frames), 4), np.nan, np.float32)
    times = np.minimum(np.searchsorted(frames, boxes.object_frames), len(frames) - 1)
    known = np.flatnonzero(frames[times] == boxes.object_frames)
    times, object_ids, object_boxes = times[known], boxes.object_ids[known], boxes.object_boxes[known]
    inside = _intersection(object_boxes, hand_boxes[times]) / np.maximum(_area(object_boxes), 1e-6)
    if not inside.any():
        return chosen
    # share[k, t] of object k's box that lies inside the hand's box; where a name occurs twice, of the better one
    share = np.zeros((len(boxes.object_names), len(frames)))
    np.maximum.at(share, (object_ids, times), inside)
    rows = np.flatnonzero(object_ids == share.sum(axis=1).argmax())
    rows = rows[np.argsort(inside[rows], kind="stable")]
    chosen[times[rows]] = object_boxes[rows]  # of two rows for one frame the last one, the better, stays
    return chosen


def _area(box: np.ndarray) -> np.ndarray:
    return np.prod(np.maximum(box[..., 2:] - box[..., :2], 0), axis=-1)


def _intersection(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return _area(np.concatenate([np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])], axis=-1))
