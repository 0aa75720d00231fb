"""100DOH ("100 Days of Hands", Shan et al., CVPR 2020) as JSON: ``{"<image>": hands, ...}``, annotations or detections.

* Annotations (``trainval.json``, ``test.json``): a list of hands with ``x1 y1 x2 y2`` and ``obj_bbox`` in 0..1 of
  ``width`` and ``height``, ``hand_side`` and ``contact_state``.
* Detections of its detector, as people write them: ``{"hand_dets": rows, "obj_dets": rows}`` with rows of ten numbers,
  x1 y1 x2 y2 (px), score, contact state, three of an offset, side (0 left, 1 right); null where nothing was found.

An image is a frame of a video: ``<video>_frame000088.jpg``, ``<video>_00000088.png``, ``<video>/frame_0000000088.jpg``
and ``<video>/000088.jpg`` are the frame 88, counted from 1. A folder's name is taken as it is. The object of a frame is
read where one of its hands holds something (contact states 3 and 4). Not here: the detector's pickles, which could run
code.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hojoint.datasets import box_json, hand_names
from hojoint.datasets.box_json import show
from hojoint.datasets.box_spool import Spool
from hojoint.datasets.video_boxes import (
    CORNERS,
    HAND,
    LARGEST_PX,
    LATEST_FRAME,
    LEFT,
    NO_TRACK,
    NOTHING,
    RIGHT,
    ROW,
    UNKNOWN,
    VideoBoxes,
)
from hojoint.errors import InputError

_NUMBER = r"(?<!\d)(?P<number>\d{1,10})\.(?:jpe?g|png)"
NUMBERED = re.compile(rf"[_-]?(?:frame|img|image)?[_-]*{_NUMBER}", re.IGNORECASE)
NAMED = re.compile(rf"(?P<video>.+?)(?:[_-](?:frame|img|image)[_-]*|[_-])?{_NUMBER}", re.IGNORECASE)
HOLDING = (3, 4)  # contact states: a portable object, a stationary one
COLUMNS = 10  # of a detection
TARGET = "targetobject"  # the detector's own name
ROWS_AT_ONCE = 1 << 14


def is_image(key: str) -> bool:
    """Whether the key of a JSON entry names an image, as 100DOH's do."""
    return key.lower().endswith((".jpg", ".jpeg", ".png"))


def iterate(path: Path, progress: Callable[[int], None]) -> Iterator[VideoBoxes]:
    """The videos of a file, in the order in which they appear first, once it is read and checked.

    ``progress`` is called with the characters read.

    Raises:
        InputError: with file, image and what was found.
    """
    with Spool(str(path)) as spool:
        rows: list[tuple[Any, ...]] = []
        for image, value, read in box_json.entries(path):
            rows += _image(f"{path}: image {image!r}", image, value, spool)
            if len(rows) >= ROWS_AT_ONCE:
                spool.add(np.array(rows, ROW))
                rows = []
            progress(read)
        spool.add(np.array(rows, ROW))
        yield from spool.videos()


def _image(where: str, image: str, value: Any, spool: Spool) -> list[tuple[Any, ...]]:
    """The rows of one image; one without a box where it shows no hand."""
    video_id, written, frame = _frame_of(where, image)
    if isinstance(value, dict) and value.keys() & {"hand_dets", "obj_dets"}:
        hands, objects = _detections(where, value)
    elif isinstance(value, list):
        hands, objects = _annotations(where, value)
    else:
        raise InputError(
            f"{where}: expected a list of hands, or an object with 'hand_dets' and 'obj_dets', found {show(value)}"
        )
    video = spool.video(video_id, written)
    found = [(video, frame, math.nan, box, HAND, side, NO_TRACK) for box, side in hands]
    held = [(video, frame, math.nan, box, spool.name(TARGET), UNKNOWN, NO_TRACK) for box in objects]
    return found + held or [(video, frame, math.nan, (0,) * 4, NOTHING, UNKNOWN, NO_TRACK)]


def _frame_of(where: str, image: str) -> tuple[str, str, int]:
    """The video's id, how the file writes it, and the 0-based frame.

    What stands before the number is how it is written: so ``a_frame1.jpg`` beside ``a_1.jpg`` is seen as two videos.
    """
    folder, _, last = image.rpartition("/")
    folder = folder.rstrip("/")
    match = NUMBERED.fullmatch(last) if folder else None
    video = folder.rpartition("/")[2]
    if match is None and (match := NAMED.fullmatch(last)) is not None:
        video = match["video"]
    if match is None or not 1 <= int(match["number"]) <= LATEST_FRAME:
        raise InputError(f"{where}: expected a frame of a video, as in 'food_v_Abc_frame000088.jpg', counted from 1")
    written = "/".join(filter(None, (folder, last[: match.start("number")])))
    return video, written, int(match["number"]) - 1


_Found = tuple[list[tuple[tuple[float, ...], int]], list[tuple[float, ...]]]
"""Hands, each with its side, and objects in contact."""


def _annotations(where: str, hands: list[Any]) -> _Found:
    found, held = [], []
    for number, hand in enumerate(hands, start=1):
        here = f"{where}, hand {number}"
        if not isinstance(hand, dict):
            raise InputError(f"{here}: expected an object with x1, y1, x2, y2, width, height, found {show(hand)}")
        size = [_number(here, name, hand.get(name), 1, LARGEST_PX) for name in ("width", "height")]
        found.append((_scaled(here, hand, size), _side(here, hand.get("hand_side"))))
        if isinstance(hand.get("obj_bbox"), dict) and hand.get("contact_state") in HOLDING:
            held.append(_scaled(f"{here}, obj_bbox", hand["obj_bbox"], size))
    return found, list(dict.fromkeys(held))  # two hands on one object each give its box


def _scaled(where: str, box: dict[str, Any], size: list[float]) -> tuple[float, ...]:
    """A box in 0..1 as px; annotators cross the border by a little."""
    return tuple(_number(where, name, box.get(name), -1, 2) * size[at % 2] for at, name in enumerate(CORNERS))


def _side(where: str, value: Any) -> int:
    if value in (0, 1) and not isinstance(value, bool):
        return LEFT if value == 0 else RIGHT
    side = hand_names.side_given("" if value is None else str(value))
    if side is None:
        raise InputError(f"{where}: expected hand_side 'l', 'r', 0 (left) or 1 (right), found {show(value)}")
    return side


def _detections(where: str, value: dict[str, Any]) -> _Found:
    hands = [_detection(f"{where}, hand_dets", row) for row in _table(where, "hand_dets", value.get("hand_dets"))]
    objects = [_detection(f"{where}, obj_dets", row) for row in _table(where, "obj_dets", value.get("obj_dets"))]
    holding = any(int(row[5]) in HOLDING for row in hands)
    return (
        [(tuple(row[:4]), RIGHT if row[9] > 0.5 else LEFT) for row in hands],
        [tuple(row[:4]) for row in objects] if holding else [],
    )


def _table(where: str, name: str, value: Any) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise InputError(f"{where}: expected {name} as a list of rows or null, found {show(value)}")
    return value


def _detection(where: str, row: Any) -> list[float]:
    if not isinstance(row, list) or len(row) != COLUMNS:
        raise InputError(
            f"{where}: expected {COLUMNS} numbers (x1, y1, x2, y2, score, contact state, three of an offset, side), "
            f"found {show(row)}"
        )
    return [_number(where, f"number {at}", value, -LARGEST_PX, LARGEST_PX) for at, value in enumerate(row, start=1)]


def _number(where: str, name: str, value: Any, low: float, high: float) -> float:
    if type(value) not in (int, float) or not low <= value <= high:
        raise InputError(f"{where}: expected {name} from {low:g} to {high:g}, found {show(value)}")
    return float(value)
