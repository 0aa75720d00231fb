"""The header of a video file: the few fields needed before and after decoding it.

decord returns as many frames of a WebM file cut in half as it finds, without an error, and allocates whatever size a
header asks for. So the header is read here first, in Python: type, picture size, duration, frame count, and whether the
file is shorter than its header says. WebM/Matroska (EBML) and MP4 (ISO boxes) only; no decoding, no library.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

EBML_MAGIC = b"\x1a\x45\xdf\xa3"
# EBML ids, RFC 8794 and RFC 9559.
SEGMENT, INFO, TRACKS, CLUSTER = 0x18538067, 0x1549A966, 0x1654AE6B, 0x1F43B675
TIMESTAMP_SCALE, DURATION = 0x2AD7B1, 0x4489
TRACK_ENTRY, TRACK_TYPE, VIDEO, PIXEL_WIDTH, PIXEL_HEIGHT = 0xAE, 0x83, 0xE0, 0xB0, 0xBA
CLUSTER_TIMESTAMP = 0xE7
VIDEO_TRACK = 1
MAX_ELEMENT = 2**40  # bytes; beyond any video, and within what file systems let one seek to
MAX_FIELD = 16 * 2**20  # bytes of one header element; real ones have hundreds


@dataclass(frozen=True)
class Header:
    """What the header says of the file; ``None`` where it says nothing."""

    width: int  # px; 0 without a picture track
    height: int  # px
    seconds: float | None  # from the first frame to the end of the last
    frames: int | None
    cut: bool  # the file is shorter than its header says


class NotAVideo(ValueError):
    """The file is no WebM, Matroska or MP4 file, or holds no pictures."""


class BrokenHeader(ValueError):
    """The right kind of file, with a header that does not parse."""


def read_header(path: str | Path) -> Header:
    """Read the header of a video file.

    Raises:
        NotAVideo: another kind of file, an empty one, or one without a picture track.
        BrokenHeader: the header does not parse.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        magic = file.read(12)
        if not magic:
            raise NotAVideo("the file is empty")
        if magic[:4] != EBML_MAGIC and magic[4:8] != b"ftyp":
            raise NotAVideo(f"expected a WebM or MP4 file, found one that begins with {magic[:8].hex(' ')}")
        file.seek(0)
        try:
            header = _webm(file, size) if magic[:4] == EBML_MAGIC else _mp4(file, size)
        except (struct.error, IndexError, OverflowError, ZeroDivisionError) as error:
            raise BrokenHeader(f"the header does not parse ({error})") from None
    if header.width == 0 and not header.cut:
        raise NotAVideo("the file holds no picture track (audio only?)")
    return header


# EBML: id, size, content; sizes and ids carry their own length in the leading zero bits.


def _vint(file: BinaryIO, *, keep_marker: bool) -> int | None:
    """A variable-length integer; None at the end of the file and for the reserved 'unknown size'."""
    first = file.read(1)
    if not first or first[0] == 0:
        return None
    length = 9 - first[0].bit_length()
    rest = file.read(length - 1)
    if len(rest) < length - 1:
        return None
    value = int.from_bytes(first + rest, "big")
    if keep_marker:
        return value
    value &= (1 << 7 * length) - 1
    return None if value == (1 << 7 * length) - 1 else value


def _elements(file: BinaryIO, end: int) -> Iterator[tuple[int, int, int]]:
    """(id, content start, content end) of the elements from here to ``end``; an unknown size reaches to ``end``."""
    while file.tell() < end:
        name = _vint(file, keep_marker=True)
        length = _vint(file, keep_marker=False)
        if name is None:
            return
        start = file.tell()
        if length is not None and length > MAX_ELEMENT:
            raise BrokenHeader(f"an element of {length} bytes")
        stop = end if length is None else start + length
        yield name, start, stop
        file.seek(min(stop, end))


def _content(file: BinaryIO, start: int, stop: int) -> bytes:
    if stop - start > MAX_FIELD:
        raise BrokenHeader(f"a header element of {stop - start} bytes")
    file.seek(start)
    return file.read(stop - start)


def _number(file: BinaryIO, start: int, stop: int) -> int:
    return int.from_bytes(_content(file, start, stop), "big")


def _webm(file: BinaryIO, size: int) -> Header:
    width = height = 0
    scale, duration, first = 1_000_000, None, 0  # ns per tick, ticks, ticks
    cut = True  # until a Segment is found
    for name, _, stop in _elements(file, size):
        if name != SEGMENT:
            continue
        cut = stop > size
        for inner, _, b in _elements(file, min(stop, size)):
            if inner == INFO:
                for field, c, d in _elements(file, b):
                    if field == TIMESTAMP_SCALE:
                        scale = _number(file, c, d)
                    elif field == DURATION:
                        duration = struct.unpack(">d" if d - c == 8 else ">f", _content(file, c, d))[0]
            elif inner == TRACKS:
                width, height = _webm_picture_size(file, b)
            elif inner == CLUSTER:
                first = next((_number(file, c, d) for f, c, d in _elements(file, b) if f == CLUSTER_TIMESTAMP), 0)
                break
        break
    seconds = None if duration is None else max(0.0, (duration - first) * scale * 1e-9)
    return Header(width, height, seconds, None, cut)


def _webm_picture_size(file: BinaryIO, end: int) -> tuple[int, int]:
    for name, _, stop in _elements(file, end):
        if name != TRACK_ENTRY:
            continue
        kind, width, height = 0, 0, 0
        for field, a, b in _elements(file, stop):
            if field == TRACK_TYPE:
                kind = _number(file, a, b)
            elif field == VIDEO:
                for inner, c, d in _elements(file, b):
                    if inner == PIXEL_WIDTH:
                        width = _number(file, c, d)
                    elif inner == PIXEL_HEIGHT:
                        height = _number(file, c, d)
        if kind == VIDEO_TRACK:
            return width, height
    return 0, 0


# ISO base media: 32-bit size, four letters, content; size 1 means a 64-bit size follows, 0 to the end.


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    at = start
    while at + 8 <= end:
        file.seek(at)
        length, name = struct.unpack(">I4s", file.read(8))
        content = at + 8
        if length == 1:
            length, content = struct.unpack(">Q", file.read(8))[0], at + 16
        stop = end if length == 0 else at + length
        if stop < content:
            raise BrokenHeader(f"a box of {length} bytes")
        yield name, content, stop
        at = stop


def _mp4(file: BinaryIO, size: int) -> Header:
    track, index, cut = Header(0, 0, None, None, False), False, False
    for name, start, stop in _boxes(file, 0, size):
        cut = cut or stop > size
        if name == b"moov":
            index = True
            for inner, a, b in _boxes(file, start, min(stop, size)):
                if inner == b"trak" and track.width == 0:
                    track = _mp4_track(file, a, b)
    return replace(track, cut=cut or not index)


def _mp4_track(file: BinaryIO, start: int, end: int) -> Header:
    """One track; width 0 unless it is a picture track."""
    fields = dict(_leaves(file, start, end))
    if fields.get(b"hdlr", b"")[8:12] != b"vide" or b"tkhd" not in fields:
        return Header(0, 0, None, None, False)
    width, height = struct.unpack(">II", fields[b"tkhd"][-8:])  # 16.16 fixed point
    seconds = frames = None
    if b"mdhd" in fields:
        layout = ">IQ" if fields[b"mdhd"][0] == 1 else ">II"
        at = 20 if fields[b"mdhd"][0] == 1 else 12
        rate, length = struct.unpack_from(layout, fields[b"mdhd"], at)
        seconds = length / rate
    if b"stts" in fields:
        (entries,) = struct.unpack_from(">I", fields[b"stts"], 4)
        runs = struct.unpack_from(f">{2 * min(entries, MAX_FIELD // 8)}I", fields[b"stts"], 8)
        frames = sum(runs[::2]) or None  # a fragmented file has an empty table
    return Header(max(1, width >> 16), max(1, height >> 16), seconds, frames, False)


def _leaves(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    for name, a, b in _boxes(file, start, end):
        if name in (b"mdia", b"minf", b"stbl"):
            yield from _leaves(file, a, b)
        elif name in (b"tkhd", b"mdhd", b"hdlr", b"stts"):
            yield name, _content(file, a, b)
