"""Something-Something v2 videos with Something-Else boxes: which hand is followed through which frames (Sec. 6.2).

A clip is one hand through one video. The annotation has no tracks, so boxes are joined from frame to frame: to the
track whose last box they overlap most, else to the nearest one whose centre lies within one box side; a hand box that
fits no track begins a new one, and a track ends when the hand is away for more than ``LONGEST_GAP`` frames (it may come
back as the other hand). Gaps up to that length stay in the clip.

The object of a clip is the one whose box lies most inside the hand's box, summed over the clip, and stays the same
for the complete clip: a constant choice keeps the crop steady. Objects that never meet the hand's box do not count.

Not here: decoding, which finds the videos that are broken or shorter than their list.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hojoint.datasets.boxes import VideoBoxes, read_boxes
from hojoint.errors import InputError
from hojoint.records import Clip

__all__ = ["Selection", "VideoBoxes", "clips", "clips_of", "find_videos", "read_boxes"]

LONGEST_GAP = 12  # frames without the hand, one second at 12 fps
SUFFIXES = (".mp4", ".webm")  # where both exist the later one is taken


@dataclass(frozen=True)
class Selection:
    """What made no clip."""

    videos_without_boxes: int
    short_tracks: int  # hands seen in fewer frames than a clip needs
    short_frames: int  # hand boxes in them
    warnings: tuple[str, ...]  # sentences for the user; empty when everything matches


def clips(
    root: str | Path, boxes: Mapping[str, VideoBoxes], *, limit: int | None = None, min_frames: int = 2
) -> tuple[list[Clip], Selection]:  # fmt: skip
    """Match videos with boxes and follow each hand; clips are sorted by id.

    Args:
        root: folder with ``<id>.webm`` or ``<id>.mp4``.
        boxes: from ``read_boxes``.
        limit: take only this many videos with boxes, the first ones by id.
        min_frames: a hand seen in fewer frames makes no clip.

    Returns:
        The clips, boxes (T, 4) xyxy px as annotated, and the counts and warnings.

    Raises:
        InputError: the folder is missing or empty, or no video has boxes.
    """
    videos = find_videos(root)
    if not videos.keys() & boxes.keys():
        raise InputError(
            f"none of the {len(videos)} videos in {root} ({_some(videos)}) has boxes among the {len(boxes)} annotated "
            f"ones ({_some(boxes)}); videos.root must hold <id>.webm or .mp4 with the ids of videos.boxes"
        )
    taken = [video_id for video_id in sorted(boxes)[:limit] if video_id in videos]
    tracks = {video_id: _tracks(boxes[video_id]) for video_id in taken}
    chosen = [
        _clip(videos[video_id], boxes[video_id], hand, rows)
        for video_id, hands in tracks.items()
        for hand, rows in enumerate(hands)
        if len(rows) >= min_frames
    ]
    short = [len(rows) for hands in tracks.values() for rows in hands if len(rows) < min_frames]
    boxes_alone, videos_alone = boxes.keys() - videos.keys(), videos.keys() - boxes.keys()
    selection = Selection(
        videos_without_boxes=len(videos_alone),
        short_tracks=len(short),
        short_frames=sum(short),
        warnings=_warnings(root, sorted(boxes_alone), sorted(videos_alone), short, min_frames),
    )
    return sorted(chosen, key=lambda clip: clip.clip_id), selection


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
    tracks = _tracks(boxes)
    clips = [_clip(str(uri), boxes, hand, rows) for hand, rows in enumerate(tracks) if len(rows) >= min_frames]
    short = [len(rows) for rows in tracks if len(rows) < min_frames]
    return clips, len(short), sum(short)


def find_videos(root: str | Path) -> dict[str, str]:
    """Video id to path, from one listing of the folder (no system call for each of 200 thousand files).

    Raises:
        InputError: the folder cannot be listed or holds no video.
    """
    paths: dict[str, str] = {}
    try:
        with os.scandir(root) as entries:
            names = [entry.name for entry in entries if entry.name.endswith(SUFFIXES) and not entry.is_dir()]
    except OSError as error:
        raise InputError(
            f"cannot list the videos in {root}: {error.strerror}; set videos.root to their folder"
        ) from None
    for name in sorted(names):
        stem, suffix = os.path.splitext(name)
        if stem not in paths or suffix == SUFFIXES[-1]:
            paths[stem] = os.path.join(root, name)
    if not paths:
        inner = [entry.name for entry in os.scandir(root) if entry.is_dir()]
        hint = f"; it has folders: {_some(inner)}" if inner else ""
        raise InputError(f"videos.root must hold <id>.webm or <id>.mp4, found none in {root}{hint}")
    return paths


def _tracks(boxes: VideoBoxes) -> list[list[int]]:
    """Rows of ``hand_boxes`` that are one hand, in the order in which the hands appear."""
    tracks: list[list[int]] = []
    alive: list[list[int]] = []
    frames, hand_boxes = boxes.hand_frames.tolist(), boxes.hand_boxes.tolist()
    for _, same_frame in itertools.groupby(range(len(frames)), key=frames.__getitem__):
        rows = list(same_frame)
        alive = [track for track in alive if frames[rows[0]] - frames[track[-1]] <= LONGEST_GAP + 1]
        for track, row in _joined(alive, rows, hand_boxes):
            track.append(row)
            rows.remove(row)
        begun = [[row] for row in rows]
        alive = alive + begun
        tracks.extend(begun)
    return tracks


def _joined(alive: list[list[int]], rows: list[int], boxes: list[list[float]]) -> list[tuple[list[int], int]]:
    """Pair tracks with this frame's boxes: largest overlap first, then the nearest; one box to one track."""
    pairs = []
    for number, track in enumerate(alive):
        for row in rows:
            overlap, distance = _nearness(boxes[track[-1]], boxes[row])
            if overlap > 0 or distance <= 1:
                pairs.append((-overlap, distance, number, row))
    joined: dict[int, int] = {}
    for _, _, number, row in sorted(pairs):
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


def _clip(path: str, boxes: VideoBoxes, hand: int, rows: list[int]) -> Clip:
    frames = boxes.hand_frames[rows]
    hand_boxes = boxes.hand_boxes[rows]
    return Clip(
        clip_id=f"{boxes.video_id}-h{hand}-{frames[0]:04d}-{frames[-1]:04d}",
        video_id=boxes.video_id,
        path=path,
        frames=frames,
        hand_boxes=hand_boxes,
        object_boxes=_object_of(boxes, frames, hand_boxes),
        annotated_frames=boxes.annotated_frames,
    )


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


def _warnings(
    root: str | Path, boxes: list[str], videos: list[str], short: list[int], min_frames: int
) -> tuple[str, ...]:  # fmt: skip
    warnings = []
    if boxes:
        warnings.append(f"{len(boxes)} annotated videos have no file in {root}: {_some(boxes)}")
    if videos:
        warnings.append(f"{len(videos)} videos in {root} have no boxes and are left out: {_some(videos)}")
    if short:
        warnings.append(f"{len(short)} hands seen in fewer than {min_frames} frames ({sum(short)} boxes) make no clip")
    return tuple(warnings)


def _some(names: Mapping[str, object] | list[str]) -> str:
    first = sorted(names)[:3]
    return ", ".join(first) + (", ..." if len(names) > 3 else "")
