"""Do boxes belong to the pictures of their video? Seen once it is decoded, video by video.

Three faults make a video's labels wrong without a sign: boxes relative to the picture, boxes made for pictures of
another size, and lists made at another rate. Each is told by what right data does not show; the bounds are measured on
real Something-Else boxes, which cross the border by float noise alone and whose lists may end early: of six real clips
the worst has no box more than half outside and a video 1.44 times as long as its list, while at half the size three
boxes of four and more lie outside.

A list that leaves out the frames without a hand (a table, as a rule) does not tell how long its video was, so its rate
cannot be checked. Boxes made for smaller pictures are found only where they reach the border on two sides.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hojoint.records import Clip, Footage

RELATIVE = 2.0  # px; see box_checks
HALF_OUTSIDE = 0.2  # share of boxes that may lie more than half outside
AREA_OUTSIDE = 0.25  # share of all boxes' area that may lie outside: a detector's boxes may reach over the border
BORDER_REACH = 1.05  # boxes that end at one line beyond this share of the picture were clipped to another one
BORDER_BOXES = 3
SMALLER = (1 / 2, 1 / 3, 1 / 4, 2 / 3, 3 / 4, 2 / 9)  # pictures that boxes may have been made for, by the video's
LIST_FPS = 12.0  # of Something-Else
RATES = (12.0, 24.0, 25.0, 30.0, 15.0, 10.0, 6.0, 5.0, 20.0, 50.0, 60.0, 8.0, 4.0, 3.0, 2.0, 1.0)
LONGEST_RATIO = 1.6  # pictures per entry of a list that only ends early
SHORTEST_LIST = 5  # frames; shorter ones tell nothing


def misfit(clips: Sequence[Clip], size: tuple[int, int], footage: Footage | None) -> tuple[str, str] | None:
    """Class and message of the quarantine row for a video whose boxes are not of its pictures; None where they fit.

    Args:
        clips: all clips of the video, as listed (not cut to the decoded frames).
        size: width and height of the decoded pictures, px, as displayed.
        footage: what is known of the file; without its number of pictures the rate is not checked.
    """
    hands = np.concatenate([clip.hand_boxes for clip in clips]) if clips else np.zeros((0, 4))
    objects = np.concatenate([clip.object_boxes for clip in clips]) if clips else np.zeros((0, 4))
    boxes = np.concatenate([hands, objects[np.isfinite(objects).all(axis=1)]]).astype(np.float64)
    if not len(boxes):
        return None
    if np.abs(boxes).max() < RELATIVE:
        return "boxes_relative", (
            f"all {len(boxes)} boxes lie between {boxes.min():.3g} and {boxes.max():.3g}: they seem to be relative to "
            f"the picture; multiply x by {size[0]} and y by {size[1]}"
        )
    outside = _outside(boxes, size)
    if outside is not None:
        return "boxes_outside", outside
    if footage is None or not footage.pictures:
        return None
    rate = _rate(clips[0], footage.pictures, footage.fps)
    return None if rate is None else ("boxes_rate", rate)


def _outside(boxes: np.ndarray, size: tuple[int, int]) -> str | None:
    """What is wrong with boxes (N, 4) px in pictures of a size (width, height); None where nothing is."""
    limits = np.array(size, np.float64)
    inside = _area(np.clip(boxes, 0, np.tile(limits, 2)))
    area = _area(boxes)
    half = int((inside < area / 2).sum())
    reach = boxes[:, 2:].max(axis=0)
    share = reach / limits
    at_border = (np.abs(boxes[:, 2:] - reach) < 1e-3).sum(axis=0) >= BORDER_BOXES
    too_large = (
        half > HALF_OUTSIDE * len(boxes)
        or inside.sum() < (1 - AREA_OUTSIDE) * area.sum()
        or bool((at_border & (share > BORDER_REACH)).any())
    )
    found = f"the boxes reach to {reach[0]:.0f} x {reach[1]:.0f} px, the pictures have {size[0]} x {size[1]}"
    if too_large:
        text = f"{found}; {half} of {len(boxes)} boxes lie more than half outside"
        if share.max() <= 1:
            return f"{text}, to the left or above: their origin seems to be another one than the upper left corner"
        if (reach <= limits[::-1] * 1.01).all():
            return f"{text}. They would fit a picture turned by 90 degrees"
        return f"{text}. They seem to be made for larger pictures: multiplied by {1 / share.max():.3f} they would fit"
    smaller = next((part for part in SMALLER if (np.abs(share - part) < 0.003).all()), None)
    if smaller is None or not _were_clipped(boxes, reach):
        return None
    return f"{found}. They seem to be made for smaller pictures: multiplied by {1 / smaller:.3g} they would fit"


def _were_clipped(boxes: np.ndarray, reach: np.ndarray) -> bool:
    """Whether several boxes end at the line ``reach`` (x, y) in both directions and differ at their other end, as boxes
    at a border do; one resting box that ends anywhere does not."""
    ends = np.abs(boxes[:, 2:] - reach) < 1e-3
    return all(len(np.unique(boxes[ends[:, axis], axis].round())) >= BORDER_BOXES for axis in (0, 1))


def _area(boxes: np.ndarray) -> np.ndarray:
    return np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)


def _rate(clip: Clip, pictures: int, fps: float | None) -> str | None:
    """What is wrong with the length of the list; None where nothing is."""
    if clip.times_s is not None:
        return _beyond_the_end(float(clip.times_s.max()), pictures, fps)
    listed = clip.annotated_frames
    if not clip.every_frame_listed or listed < SHORTEST_LIST or not _another_rate(listed, pictures, fps):
        return None
    video = f"{pictures} pictures" + (f" at {fps:.4g} per second" if fps is not None else "")
    text = f"the list has {listed} frames, the video {video}, {pictures / listed:.2f} times as many"
    if fps is None:
        return f"{text}. Set videos.boxes_fps to the frames per second that the list was made for"
    rate = _nearest_rate(fps * listed / pictures)
    covering = f"if it covers the video, for {rate:g}"
    if rate < LIST_FPS <= rate * LONGEST_RATIO:
        covering, rate = f"as Something-Else's, for {LIST_FPS:g}; {covering}", LIST_FPS
    return (
        f"{text}: the list seems to be made for other frames per second ({covering}). Set videos.boxes_fps={rate:g}; "
        f"if the list counts the video's own pictures and ends early, set videos.boxes_fps={fps:.6g}"
    )


def _another_rate(listed: int, pictures: int, fps: float | None) -> bool:
    """Whether a list of all frames of a video was made at another rate than the video has."""
    ratio = pictures / listed
    if abs(pictures - listed) <= 1:
        return False  # real lists are one frame longer or shorter
    if ratio < 1:
        return fps is not None and ratio <= 0.9 and _explains(fps * listed / pictures, fps, 0.5 / pictures)
    if fps is not None and abs(fps - LIST_FPS) < 0.05 * LIST_FPS:
        # The rate of the real videos, whose lists may end early by any share: only an even multiple is no chance.
        return round(ratio) >= 2 and abs(pictures - round(ratio) * listed) <= round(ratio)
    if ratio >= LONGEST_RATIO:
        return True
    return fps is not None and ratio > 1.1 and abs(listed * fps / LIST_FPS - pictures) <= 2


def _explains(rate: float, fps: float, slack: float) -> bool:
    """Whether ``rate`` is one that videos have, other than ``fps``."""
    nearest = min(RATES, key=lambda known: abs(known / rate - 1))
    return abs(nearest / rate - 1) <= max(slack, 0.01) and abs(nearest / fps - 1) > 0.05


def _nearest_rate(rate: float) -> float:
    """The usual rate, if one is near."""
    nearest = min(RATES, key=lambda known: abs(known / rate - 1))
    return nearest if abs(nearest / rate - 1) <= 0.05 else round(rate, 2)


def _beyond_the_end(last_s: float, pictures: int, fps: float | None) -> str | None:
    if not fps or last_s <= 1.1 * pictures / fps + 0.5:
        return None
    return (
        f"the boxes reach to second {last_s:.2f}, the video ends at {pictures / fps:.2f}; give times in seconds, and "
        "set videos.boxes_fps to the frames per second that the list was made for"
    )
