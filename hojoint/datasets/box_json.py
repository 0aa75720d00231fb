"""Something-Else box files: ``{"<video id>": [frame, ...]}`` to one compact record per video (data of Sec. 6.2).

A part of the real annotation holds more than a gigabyte, so it is read as a stream, one video at a time. Everything is
checked here and nowhere else: an error names the file, the video, the frame and what was found. The half pixel between
the annotation's origin (the image's corner) and ours (the first pixel's centre) is left alone: the boxes are key-framed
by hand and interpolated, far coarser than that. Not here: which of several formats a file has (``boxes``).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from hojoint import ids
from hojoint.datasets import hand_names
from hojoint.datasets.video_boxes import (
    CORNERS,
    HAND,
    LARGEST_PX,
    LATEST_FRAME,
    NO_TRACK,
    ROW,
    UNKNOWN,
    VideoBoxes,
    gathered,
)
from hojoint.errors import InputError

CHUNK = 1 << 22  # characters read at a time
LONGEST_ENTRY = 1 << 26  # characters of one video; a real one has about 30 thousand
COCO = ("info", "licenses", "images", "annotations", "categories")


def iterate(path: Path) -> Iterator[tuple[VideoBoxes, int]]:
    """The videos of a file, in its order, each with the number of characters read so far.

    Raises:
        InputError: with file, video and frame; at the end, frames that are named after another video of the file.
    """
    keys: set[str] = set()
    strange: dict[str, str] = {}  # folder of frames that is not their key, to where it was seen first
    for video_id, frames, read in entries(path):
        video = _video(path, ids.checked(video_id, str(path)), frames)
        keys.add(video_id)
        for frame in frames:
            name = frame.get("name") or ""
            folder = name.rpartition("/")[0].rpartition("/")[2]
            if folder and folder != video_id:
                strange.setdefault(folder, f"video {video_id}: a frame is called {name!r}")
        yield video, read
    crossed = sorted(keys & strange.keys())
    if crossed:
        raise InputError(
            f"{path}: {strange[crossed[0]]}, and {crossed[0]!r} is another video of the file ({len(crossed)} such "
            "names of videos). Expected frames under the id of their own video; correct the ids or the names"
        )


def first_key(path: Path) -> str:
    """The first key of the outermost object; '' where there is none, whatever the reason."""
    try:
        return next((key for key, _, _ in entries(path)), "")
    except InputError:
        return ""


def entries(path: Path) -> Iterator[tuple[str, Any, int]]:
    """Stream (key, value, characters read so far) of the outermost JSON object of a file.

    Raises:
        InputError: the file cannot be read, is no JSON, or holds no object.
    """
    try:
        with path.open("rb") as file:
            start = file.read(2)
        if b"\0" in start:
            raise InputError(
                f"{path} seems to be UTF-16 without a byte-order mark; write it as UTF-8, or with the mark"
            )
        wide = start in (b"\xff\xfe", b"\xfe\xff")
        with path.open(encoding="utf-16" if wide else "utf-8-sig") as file:
            yield from _stream_entries(path, _Stream(path, file))
    except OSError as error:
        raise InputError(f"cannot read the boxes {path}: {error.strerror}") from None


def _stream_entries(path: Path, stream: _Stream) -> Iterator[tuple[str, Any, int]]:
    stream.expect("{", "an object {video id: [frame, ...]}")
    more = stream.peek() != "}"
    while more:
        key = stream.value("a video id")
        if not isinstance(key, str):
            raise InputError(f"{path}: expected a video id in quotes, found {show(key)}")
        stream.expect(":", f"':' after the video id {key!r}")
        yield key, stream.value(f"the frames of video {key}"), stream.read
        more = stream.peek() != "}"
        if more:
            stream.expect(",", f"',' or '}}' after video {key}")
    stream.expect("}", "'}'")
    stream.expect("", "the end of the file after the last '}'")


class _Stream:
    """JSON values out of a file that is too large to hold: keeps one window of text and a position in it."""

    def __init__(self, path: Path, file: TextIO) -> None:
        self.path, self.file = path, file
        self.text, self.at, self.read = "", 0, 0
        self.decoder = json.JSONDecoder()

    def peek(self) -> str:
        """The next character that is not blank; '' at the end of the file."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in " \t\r\n":
                self.at += 1
            if self.at < len(self.text) or not self._more():
                return self.text[self.at : self.at + 1]

    def expect(self, character: str, expected: str) -> None:
        """Step over ``character``; ``expected`` describes it in the error."""
        if self.peek() != character:
            raise InputError(f"{self.path} is not a Something-Else file: expected {expected}, {self._found()}")
        self.at += 1

    def value(self, expected: str) -> Any:
        """Decode the next value, reading further while the end of the window cuts it off."""
        self.peek()
        while True:
            try:
                value, self.at = self.decoder.raw_decode(self.text, self.at)
                return value
            except json.JSONDecodeError as error:
                # A fault well before the window's end is in the file; reading further does not help.
                cut = error.pos > len(self.text) - 64 or error.msg.startswith("Unterminated string")
                if not cut or len(self.text) - self.at > LONGEST_ENTRY or not self._more():
                    self.at = min(error.pos, len(self.text))
                    raise InputError(f"{self.path} is not JSON: in {expected}, {error.msg}; {self._found()}") from None
            except ValueError as error:  # Python refuses to read an integer of thousands of digits
                raise InputError(f"{self.path}: {expected} hold a number that is too long: {error}") from None
            except RecursionError:
                raise InputError(f"{self.path}: {expected} are nested too deeply to be box annotations") from None

    def _more(self) -> bool:
        try:
            chunk = self.file.read(CHUNK)
        except UnicodeDecodeError as error:
            raise InputError(
                f"{self.path} is not {error.encoding.upper()} text ({error.reason}); expected Something-Else JSON"
            ) from None
        if not chunk:
            return False
        self.text, self.at = self.text[self.at :] + chunk, 0
        self.read += len(chunk)
        return True

    def _found(self) -> str:
        where = self.read - len(self.text) + self.at
        rest = self.text[self.at : self.at + 24]
        return f"found {rest!r} at character {where}" if rest else f"the file ends at character {where}"


def _video(path: Path, video_id: str, frames: Any) -> VideoBoxes:
    if not isinstance(frames, list):
        hint = "; COCO's JSON is not read: write its boxes as a table" if video_id in COCO else ""
        raise InputError(f"{path}: video {video_id}: expected a list of frames, found {show(frames)}{hint}")
    rows: list[tuple[Any, ...]] = []
    names: dict[str, int] = {}
    numbers: set[int] = set()
    for index, frame in enumerate(frames):
        where = f"{path}: video {video_id}, frame {index + 1}"
        number = _frame_number(where, index, frame)
        if number in numbers:
            raise InputError(f"{where}: two frames have the number {number + 1}; remove one")
        numbers.add(number)
        for category, box in _labels(where, frame):
            side = hand_names.side_of(category)
            name = HAND if side is not None else names.setdefault(category, len(names))
            rows.append((0, number, math.nan, box, name, side or UNKNOWN, NO_TRACK))
    annotated = max(numbers, default=-1) + 1
    return gathered(
        video_id,
        np.array(rows, ROW),
        list(names),
        annotated_frames=annotated,
        every_frame_listed=0 < annotated == len(numbers),
    )


def _frame_number(where: str, index: int, frame: Any) -> int:
    """0-based: the number in ``name`` (which counts from 1) less one, or the position in the list without one."""
    if not isinstance(frame, dict):
        raise InputError(f"{where}: expected an object with 'labels', found {show(frame)}")
    name = frame.get("name")
    if name is None:
        return index
    match = re.search(r"(\d{1,9})\.\w+$", name) if isinstance(name, str) else None
    if match is None or not 1 <= int(match[1]) <= LATEST_FRAME:
        raise InputError(f"{where}: expected a name like '4/0021.jpg' that counts from 0001, found {show(name)}")
    return int(match[1]) - 1


def _labels(where: str, frame: dict[str, Any]) -> Iterator[tuple[str, tuple[float, ...]]]:
    labels = frame.get("labels")
    if not isinstance(labels, list):
        raise InputError(f"{where}: expected a list 'labels' (it may be empty), found {show(labels)}")
    for label in labels:
        category = label.get("standard_category") if isinstance(label, dict) else None
        if not isinstance(category, str):
            raise InputError(
                f"{where}: expected a label with 'standard_category' (\"hand\", \"0000\", ...) and 'box2d', "
                f"found {show(label)}"
            )
        box = label.get("box2d")
        if not isinstance(box, dict):
            raise InputError(f"{where}: expected 'box2d' of {category!r} as an object, found {show(box)}")
        yield category, tuple(_coordinate(where, category, corner, box.get(corner)) for corner in CORNERS)


def _coordinate(where: str, category: str, corner: str, value: Any) -> float:
    # bool is an int to Python, and JSON text may hold NaN, Infinity and numbers beyond float32
    if type(value) not in (int, float) or abs(value) > LARGEST_PX or not math.isfinite(value):
        raise InputError(f"{where}: expected {corner} of {category!r} as pixels, found {show(value)}")
    return float(value)


def show(value: Any) -> str:
    """Type and start of a value, for a message."""
    text = repr(value)
    return f"{type(value).__name__} {text}" if len(text) <= 60 else f"{type(value).__name__} {text[:57]}..."
