"""WebM and Matroska (EBML, RFC 8794 and RFC 9559): is every element where its neighbours say, down to each block?

FFmpeg searches for the next cluster where data are lost, without a word, and the pictures after the hole get too low
numbers. So the headers of all elements are read here, to the end; their contents are not.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

HEADER, SEGMENT, TRACKS, TRACK_ENTRY, TRACK_TYPE = 0x1A45DFA3, 0x18538067, 0x1654AE6B, 0xAE, 0x83
CODEC_ID, ENCODINGS, ENCODING, ENCRYPTION = 0x86, 0x6D80, 0x6240, 0x5035
CLUSTER, BLOCK_GROUP = 0x1F43B675, 0xA0
TOP = frozenset((HEADER, SEGMENT))
# Info, SeekHead, Cues, Attachments, Chapters, Tags: each ends a cluster of unknown size.
IN_SEGMENT = frozenset((CLUSTER, TRACKS, 0x1549A966, 0x114D9B74, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367))
VIDEO_TRACK = 1
MAX_FIELD = 2**20  # bytes of one header element; real ones have hundreds
MAX_ID, MAX_HEADER = 4, 12  # bytes of an id, and of an id with its size


class CutError(ValueError):
    """The file ends inside an element."""


class DamagedError(ValueError):
    """Something else than an element stands where one must begin, or an element does not fit into the one around it."""


class Element(NamedTuple):
    """One header; positions in bytes from the start of the file."""

    id: int
    start: int  # of the content
    stop: int | None  # None: the size is not known


class Track(NamedTuple):
    """The first picture track."""

    encrypted: bool = False
    codec: str | None = None


def walk(file: BinaryIO, size: int) -> Track:
    """Read all headers.

    Raises:
        CutError: the file ends too early.
        DamagedError: data are missing inside it.
    """
    at, track, found = 0, Track(), False
    while at < size:
        try:
            element = _element(file, at, size)
        except (CutError, DamagedError):
            if found:
                break
            raise
        if found and element.id not in TOP:
            break  # what was appended to a complete segment
        if element.id == SEGMENT:
            found = True
            at, track = _segment(file, element, size)
        else:
            at = _end_of(element, size, size)
    if not found:
        raise CutError
    return track


def _segment(file: BinaryIO, segment: Element, size: int) -> tuple[int, Track]:
    """(where it ends, its track)."""
    end = size if segment.stop is None else segment.stop
    if end > size:
        raise CutError
    at, track = segment.start, Track()
    while at < end:
        element = _element(file, at, size)
        if segment.stop is None and element.id in TOP:
            return at, track
        if element.id == CLUSTER:
            at = _cluster(file, element, end, size)
            continue
        at = _end_of(element, end, size)
        if element.id == TRACKS:
            track = _track(file, element.start, at)
    return at, track


def _cluster(file: BinaryIO, cluster: Element, outer: int, size: int) -> int:
    """Where it ends: before the next element of the segment where its size is not known."""
    end = outer if cluster.stop is None else _end_of(cluster, outer, size)
    at = cluster.start
    while at < end:
        element = _element(file, at, size)
        if element.id in IN_SEGMENT or element.id in TOP:
            if cluster.stop is None:
                return at
            raise DamagedError
        at = _end_of(element, end, size)
        if element.id == BLOCK_GROUP:
            inner = element.start
            while inner < at:
                inner = _end_of(_element(file, inner, size), at, size)
    return at


def _end_of(element: Element, outer: int, size: int) -> int:
    """Where an element ends; it must lie inside the one around it."""
    if element.stop is None:
        return outer
    if element.stop > outer:
        raise CutError if outer == size else DamagedError
    return element.stop


def _element(file: BinaryIO, at: int, size: int) -> Element:
    """The header at a position."""
    data = os.pread(file.fileno(), MAX_HEADER, at)
    name = _length(data, 0)
    if name > MAX_ID:
        raise DamagedError
    width = _length(data, name)
    if name + width > len(data):
        raise CutError if at + name + width > size else OSError("the file became shorter")
    value = int.from_bytes(data[name : name + width], "big") & ((1 << 7 * width) - 1)
    start = at + name + width
    stop = None if value == (1 << 7 * width) - 1 else start + value
    return Element(int.from_bytes(data[:name], "big"), start, stop)


def _length(data: bytes, at: int) -> int:
    """Bytes of the number here: the zero bits before its first one tell it; 9 and more is no number."""
    if at >= len(data):
        raise CutError
    if data[at] == 0:
        raise DamagedError
    return 9 - data[at].bit_length()


def _inside(file: BinaryIO, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """(id, start, stop) of the elements inside one of the header."""
    at = start
    while at < stop:
        element = _element(file, at, stop)
        at = _end_of(element, stop, stop + 1)
        yield element.id, element.start, at


def _content(file: BinaryIO, start: int, stop: int) -> bytes:
    if stop - start > MAX_FIELD:
        raise DamagedError
    return os.pread(file.fileno(), stop - start, start)


def _track(file: BinaryIO, start: int, end: int) -> Track:
    """The first picture track, wherever its fields stand in the entry."""
    for name, inner, stop in _inside(file, start, end):
        if name != TRACK_ENTRY:
            continue
        kind, codec, encrypted = 0, None, False
        for field, a, b in _inside(file, inner, stop):
            if field == TRACK_TYPE:
                kind = int.from_bytes(_content(file, a, b), "big")
            elif field == CODEC_ID:
                codec = _content(file, a, b).rstrip(b"\0").decode("latin-1")
            elif field == ENCODINGS:
                for id, c, d in _inside(file, a, b):
                    encrypted |= id == ENCODING and any(id == ENCRYPTION for id, *_ in _inside(file, c, d))
        if kind == VIDEO_TRACK:
            return Track(encrypted, codec)
    return Track()
