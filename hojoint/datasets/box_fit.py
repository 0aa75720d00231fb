"""Do boxes belong to the pictures of their video? Seen once it is decoded, video by video.

Three faults make a video's labels wrong without a sign: boxes relative to the picture, boxes made for pictures of
another size, and lists made at another rate. Each is told by what right data does not show; the bounds are measured on
real Something-Else boxes, which cross the border by float noise alone and whose lists may end early: of six real clips
the worst has no box more than half outside and a video 1.44 times as long as its list, while at half the size three
boxes of four and more lie outside.

Where ``videos.boxes_fps`` is set, a complete list has to end with its video; earlier only at the video's own rate or at
Something-Else's.

A list that leaves out the frames without a hand (a table, as a rule) does not tell how long its video was, so its rate
cannot be checked; only that it ends with the video, or one frame behind it, as a list does that counts from 1.
Boxes made for smaller pictures are found only where they reach the border on two sides.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hojoint.records import Clip, Footage

RELATIVE = 2.0  # no list of boxes in px stays below it; one in 0..1 does, even where boxes cross the border
HALF_OUTSIDE = 0.2  # share of boxes that may lie more than half outside
AREA_OUTSIDE = 0.25  # share of all boxes' area that may lie outside: a detector's boxes may reach over the border
BORDER_REACH = 1.05  # boxes that end at one line beyond this share of the picture were clipped to another one
BORDER_BOXES = 3
SMALLER = (1 / 2, 1 / 3, 1 / 4, 2 / 3, 3 / 4, 2 / 9)  # pictures that boxes may have been made for, by the video's
LIST_FPS = 12.0  # of Something-Else
RATES = (12.0, 24.0, 25.0, 30.0, 15.0, 10.0, 6.0, 5.0, 20.0, 50.0, 60.0, 8.0, 4.0, 3.0, 2.0, 1.0)
LONGEST_RATIO = 1.6  # pictures per entry of a list that only ends early
LONGEST_SHARE = 3.0  # the same at 12 pictures per second; as far as a long video is counted (collecting.COUNT_FACTOR)
SHORTEST_VIDEO = 20  # pictures; whether a rate explains a longer list is chance where a video has fewer
MOST_STEPS = 1.5  # of the list or the video, by which the ends may differ where videos.boxes_fps is set
SHORTEST_LIST = 5  # frames; shorter ones tell nothing
EVERY_NTH = "if it lists every n-th picture, write the pictures' numbers, or a column time"


def misfit(
    clips: Sequence[Clip], size: tuple[int, int], footage: Footage | None, counted: int = 0
) -> tuple[str, str] | None:  # fmt: skip
    """Class and message of the quarantine row for a video whose boxes are not of its pictures; None where they fit.

    Args:
        clips: all clips of the video, as listed (not cut to the decoded frames).
        size: width and height of the decoded pictures, px, as displayed; (0, 0) where none was decoded.
        footage: what is known of the file.
        counted: the video has at least so many pictures (``Decoded.counted``); used where ``footage`` does not know.
    """
    hands = np.concatenate([clip.hand_boxes for clip in clips]) if clips else np.zeros((0, 4))
    objects = np.concatenate([clip.object_boxes for clip in clips]) if clips else np.zeros((0, 4))
    boxes = np.concatenate([hands, objects[np.isfinite(objects).all(axis=1)]]).astype(np.float64)
    if not len(boxes):
        return None
    if np.abs(boxes).max() < RELATIVE:
        by = f"x by {size[0]} and y by {size[1]}" if all(size) else "x by its width and y by its height"
        return "boxes_relative", (
            f"all {len(boxes)} boxes lie between {boxes.min():.3g} and {boxes.max():.3g}: they seem to be relative to "
            f"the picture; multiply {by}"
        )
    fault = None if footage is None else _length(clips, footage, counted)
    if fault is not None or not all(size):
        return fault
    outside = _outside(boxes, size)
    return None if outside is None else ("boxes_outside", outside)


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


def _length(clips: Sequence[Clip], footage: Footage, counted: int) -> tuple[str, str] | None:
    """Class and message where the list counts other pictures than the video has; None where it does not."""
    pictures, fps = footage.pictures, footage.fps
    times = [float(clip.times_s.max()) for clip in clips if clip.times_s is not None and len(clip.times_s)]
    if times:
        late = _beyond_the_end(max(times), pictures, fps) if pictures else None
        return _rate_given(clips, footage, counted) if late is None else ("boxes_rate", late)
    listed = max(clip.annotated_frames for clip in clips)
    complete = all(clip.every_frame_listed for clip in clips)
    if complete and listed >= SHORTEST_LIST:
        rate = _rate(listed, pictures, fps) if pictures else _rate_of_more(listed, counted, fps)
        if rate is not None:
            return "boxes_rate", rate
    if not pictures:
        return None
    if not complete and _counts_from_one(clips, pictures):
        return "boxes_rate", (
            f"the boxes seem to count from 1: the last is in frame {pictures}, and the last of {pictures} pictures is "
            f"frame {pictures - 1}, as frames count from 0. Subtract 1 from the numbers of the frames"
        )
    if pictures < listed - 1:  # real lists hold one entry more than their video has pictures; two are missing pictures
        return "truncated", (
            f"expected {listed} annotated frames, found {pictures} pictures. Copy the video again if it was cut; if "
            "the list was made at another rate, set videos.boxes_fps to it"
        )
    return None


def _rate_given(clips: Sequence[Clip], footage: Footage, counted: int) -> tuple[str, str] | None:
    """Class and message where ``videos.boxes_fps`` contradicts a list of all frames; None where it does not.

    A table with a column time is never complete, so times of a complete list come from ``videos.boxes_fps``.
    """
    pictures, fps = footage.pictures or counted, footage.fps
    listed = max(clip.annotated_frames for clip in clips)
    if not all(clip.every_frame_listed for clip in clips) or listed < SHORTEST_LIST or not pictures or not fps:
        return None
    last = max((clip for clip in clips if clip.times_s is not None), key=lambda clip: int(clip.frames[-1]))
    given = (float(last.frames[-1]) + 0.5) / float(last.times_s[-1])  # type: ignore[index]
    slack = MOST_STEPS * max(1 / given, 1 / fps)
    list_s, video_s = listed / given, pictures / fps
    own = abs(list_s - listed / fps) <= slack  # given is the video's own rate: its lists may end early
    if own and footage.pictures and pictures < listed - 1:
        return "truncated", (
            f"expected {listed} annotated frames, found {pictures} pictures at {fps:.4g} per second. Copy the video "
            f"again if it was cut; if the list was made at another rate than videos.boxes_fps={given:.6g}, correct that"
        )
    if footage.pictures and list_s > video_s + slack:
        why = "the list is longer than the video"
    elif given > fps and not own:
        why = "there are more boxes per second than pictures"
    elif list_s < video_s - slack and not own and not _ends_early(listed, given, video_s):
        why = "the list is shorter than the video"
    else:
        return None
    count = f"{pictures}" if footage.pictures else f"at least {pictures}"
    found = (
        f"with videos.boxes_fps={given:.6g} the {listed} frames of the list last {list_s:.2f} s, the video's {count} "
        f"pictures at {fps:.4g} per second {video_s:.2f} s: {why}"
    )
    covering = f", which is {_nearest_rate(listed / video_s):g} if it covers the video" if footage.pictures else ""
    return "boxes_rate", (
        f"{found}. Correct videos.boxes_fps to the rate that the list was made for{covering}, or leave it out if the "
        "list counts the video's own pictures; copy the video again if it was cut"
    )


def _ends_early(listed: int, given: float, video_s: float) -> bool:
    """Whether a list that is shorter than its video may be one of Something-Else, as at the rate that those have."""
    return _is_list_fps(given) and not _another_rate(listed, round(given * video_s), given)


def _counts_from_one(clips: Sequence[Clip], pictures: int) -> bool:
    """Whether the last frame is the one after the end, and none is frame 0."""
    return (
        max(int(clip.frames.max()) for clip in clips) == pictures and min(int(clip.frames.min()) for clip in clips) >= 1
    )


def _rate(listed: int, pictures: int, fps: float | None) -> str | None:
    """What is wrong with the length of a list of all frames; None where nothing is."""
    if not _another_rate(listed, pictures, fps):
        return None
    video = f"{pictures} pictures" + (f" at {fps:.4g} per second" if fps is not None else "")
    text = f"the list has {listed} frames, the video {video}, {pictures / listed:.2f} times as many"
    if fps is None:
        return f"{text}. Set videos.boxes_fps to the frames per second that the list was made for; {EVERY_NTH}"
    rate = _nearest_rate(fps * listed / pictures)
    covering = f"if it covers the video, for {rate:g}"
    if rate < LIST_FPS <= rate * LONGEST_RATIO:
        covering, rate = f"as Something-Else's, for {LIST_FPS:g}; {covering}", LIST_FPS
    text = f"{text}: the list seems to be made for other frames per second ({covering}). Set videos.boxes_fps={rate:g}"
    if pictures < listed:
        return f"{text}; if the video was cut, copy it again"
    return f"{text}; {_own(fps)}; {EVERY_NTH}"


def _rate_of_more(listed: int, counted: int, fps: float | None) -> str | None:
    """As ``_rate``, where the video has ``counted`` pictures or more."""
    least = LONGEST_SHARE if _is_list_fps(fps) else LONGEST_RATIO
    if counted < least * listed:
        return None
    text = f"the list has {listed} frames, the video at least {counted} pictures"
    if fps is None:
        return f"{text}. Set videos.boxes_fps to the frames per second that the list was made for; {EVERY_NTH}"
    return (
        f"{text} at {fps:.4g} per second: the list seems to be made for other frames per second (at most "
        f"{fps * listed / counted:.3g} if it covers the video, {LIST_FPS:g} if it is Something-Else's). Set "
        f"videos.boxes_fps to them; {_own(fps)}; {EVERY_NTH}"
    )


def _own(fps: float) -> str:
    return f"if the list counts the video's own pictures and ends early, set videos.boxes_fps={fps:.6g}"


def _is_list_fps(fps: float | None) -> bool:
    return fps is not None and abs(fps - LIST_FPS) < 0.05 * LIST_FPS


def _another_rate(listed: int, pictures: int, fps: float | None) -> bool:
    """Whether a list of all frames of a video was made at another rate than the video has."""
    ratio = pictures / listed
    if abs(pictures - listed) <= 1:
        return False  # real lists are one frame longer or shorter
    if ratio < 1:
        if fps is None or ratio > 0.9 or pictures < SHORTEST_VIDEO:
            return False
        return _explains(fps * listed / pictures, fps, 0.5 / pictures)
    if _is_list_fps(fps):
        # The rate of the real videos, whose lists may end early: below three times only an even multiple is no chance.
        return ratio >= LONGEST_SHARE or (round(ratio) >= 2 and abs(pictures - round(ratio) * listed) <= round(ratio))
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
        f"the boxes reach to second {last_s:.2f}, the video ends at {pictures / fps:.2f}; give times in seconds from "
        "the first picture on; if videos.boxes_fps is set, correct it to the rate that the list was made for"
    )
