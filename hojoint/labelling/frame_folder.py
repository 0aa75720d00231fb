"""A folder of JPEG or PNG pictures as a video: ``<id>/000001.jpg``, the layout of Something-Else.

The number at the end of a name counts, with or without leading zeros, from 0 or from 1; frame n is the n-th picture. A
gap is refused: whether boxes count files or numbers cannot be known. A picture is turned as its EXIF orientation says,
as viewers show it. Pictures of another size than the first one's are refused: boxes may count the pixels of either.
Such a video has no rate and no times.
"""

from __future__ import annotations

import itertools
import os
import re
import struct
from collections.abc import Iterator
from functools import partial
from typing import Any

import av
import av.error
import cv2
import numpy as np

from hojoint.labelling import exif
from hojoint.labelling.faults import VideoError
from hojoint.labelling.orientation import Orientation
from hojoint.labelling.pictures import Picture

NAME = re.compile(r"(.*?)(\d+)\.(jpe?g|png)", re.IGNORECASE | re.ASCII)
JPEG_SIZE = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # start-of-frame markers


class FolderReader:
    """The pictures of one folder, in the order of their numbers."""

    def __init__(self, path: str) -> None:
        self._paths = numbered(path)
        self.count: int | None = len(self._paths)
        self.codec: str | None = "png" if self._paths[0].lower().endswith("png") else "mjpeg"
        self.rate: float | None = None
        first = _bytes(self._paths[0])
        self.width, self.height = _size(self._paths[0], first)
        self._shown = _shown(self.width, self.height, exif.orientation_of(first))

    def pictures(self) -> Iterator[Picture]:
        """In order; a file is read when its pixels are asked for."""
        for path in self._paths:
            turns: list[int | None] = []
            yield Picture(partial(self._rgb, path, turns), self.width, self.height, turns_deg=turns)

    def _rgb(self, path: str, turns: list[int | None]) -> np.ndarray:
        """The upright pixels; appends the clockwise turn, None where it is not known."""
        data = _bytes(path)
        orientation = exif.orientation_of(data)
        shown = _shown(*_size(path, data), orientation)
        if shown != self._shown:
            names = [os.path.basename(one) for one in (path, self._paths[0])]
            raise VideoError(
                "not_video",
                f"the picture {names[0]} has {shown[0]} x {shown[1]} px, and the first one, {names[1]}, "
                f"{self._shown[0]} x {self._shown[1]} px; scale them, and their boxes, to one size",
            )
        rgb = _decoded(path, data)
        applied = orientation if rgb.shape[1::-1] == shown else None  # OpenCV may know EXIF data that we do not
        turns.append(None if applied is None else applied.rotation_deg)
        return rgb

    def close(self) -> None:
        """Nothing is open between two pictures."""


def numbered(path: str) -> list[str]:
    """The pictures of a folder in the order of their numbers; other files do not count.

    Raises:
        VideoError: no_pictures, truncated (a number is missing), not_video (names that do not make one series).
    """
    found: dict[int, str] = {}
    prefixes = set()
    with os.scandir(path) as entries:
        names = sorted(entry.name for entry in entries if not entry.is_dir())
    for name in names:
        match = NAME.fullmatch(name)
        if match is None or name.startswith("."):
            continue
        prefixes.add(match[1])
        number = int(match[2])
        if number in found:
            raise VideoError("not_video", f"{found[number]} and {name} have the same number")
        found[number] = name
    if not found:
        raise VideoError("no_pictures", "the folder holds no numbered JPEG or PNG pictures, such as 000001.jpg")
    if len(prefixes) > 1:
        first, second, *_ = sorted(prefixes)
        raise VideoError("not_video", f"the names of the pictures begin in several ways ({first!r}, {second!r})")
    numbers = sorted(found)
    if numbers[0] > 1:
        raise VideoError(
            "truncated", f"expected pictures from number 0 or 1 on, found {found[numbers[0]]} as the first"
        )
    missing = numbers[-1] - numbers[0] + 1 - len(numbers)
    if missing:
        first = next(before + 1 for before, after in itertools.pairwise(numbers) if after > before + 1)
        raise VideoError("truncated", f"{missing} pictures between the first and the last are missing: {first}, ...")
    return [os.path.join(path, found[number]) for number in numbers]


def _bytes(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _size(path: str, data: bytes) -> tuple[int, int]:
    """(width, height) by the picture's header, before anything is decoded; refuses a picture whose end is missing."""
    name = os.path.basename(path)
    if data[:4] == b"\x89PNG" and len(data) > 24:
        if b"IEND" not in data[-64:]:
            raise VideoError("truncated", f"the picture {name} ends too early")
        width, height = struct.unpack(">II", data[16:24])
        return width, height
    at = 2
    while data[:2] == b"\xff\xd8" and at + 9 < len(data) and data[at] == 0xFF:
        if data[at + 1] in JPEG_SIZE:
            if data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):  # an EXIF thumbnail has an end of its own
                raise VideoError("truncated", f"the picture {name} ends too early")
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        at += 1 if data[at + 1] == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    raise VideoError("damaged", f"{name} is not a JPEG or PNG picture")


def _shown(width: int, height: int, orientation: Orientation | None) -> tuple[int, int]:
    """(width, height) after the turn."""
    quarter = orientation is not None and orientation.rotation_deg % 180 == 90
    return (height, width) if quarter else (width, height)


def _decoded(path: str, data: bytes) -> np.ndarray:
    if data[:2] == b"\xff\xd8":
        _check_jpeg(path, data)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)  # applies the EXIF orientation
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError from None
        image = None
    if image is None:
        raise VideoError("damaged", f"the picture {os.path.basename(path)} does not decode")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _check_jpeg(path: str, data: bytes) -> None:
    """OpenCV fills the lower part of a damaged JPEG with grey, without an error; FFmpeg's decoder can be strict.

    Kinds of JPEG that FFmpeg does not know stay OpenCV's.
    """
    context: Any = av.CodecContext.create("mjpeg", "r")
    context.thread_count = 1
    context.options = {"err_detect": "explode"}
    try:
        frames = [*context.decode(av.Packet(data)), *context.decode(None)]
    except av.error.PatchWelcomeError:
        return
    except av.error.MemoryError:
        raise MemoryError from None
    except av.error.FFmpegError:
        frames = []
    if len(frames) != 1 or frames[0].is_corrupt:
        raise VideoError("damaged", f"the picture {os.path.basename(path)} does not decode completely")
