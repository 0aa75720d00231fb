"""What the decoder does not tell of a file: what it is if it is no video, whether it is cut, encrypted, how it is coded.

A decoder returns as many pictures of a file cut in half as it finds, without an error; so the lengths that the
container promises are held against the file's size here. WebM/Matroska (EBML), MP4/QuickTime (ISO boxes) and AVI
(RIFF); no decoding, no library. Not here: the number of pictures (``pyav_reader``).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hojoint.labelling.faults import VideoError

EBML_MAGIC = b"\x1a\x45\xdf\xa3"
# EBML ids, RFC 9559.
SEGMENT, TRACKS, TRACK_ENTRY, TRACK_TYPE = 0x18538067, 0x1654AE6B, 0xAE, 0x83
CODEC_ID, ENCODINGS, ENCODING, ENCRYPTION = 0x86, 0x6D80, 0x6240, 0x5035
VIDEO_TRACK = 1
ISO_FIRST = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp")
ISO_TOP = (*ISO_FIRST, b"moof", b"mfra", b"sidx", b"uuid", b"meta", b"udta", b"emsg", b"prft")
STILL_BRANDS = (b"heic", b"heix", b"mif1", b"avif")
MAX_FIELD = 2**20  # bytes of one header element; real ones have hundreds
UNKNOWN_LENGTH = 0xFFFFFF00  # a RIFF length from here on was never filled in
NAMES = {  # of beginnings; the longer ones first
    b"version https://git-lfs": "a Git LFS pointer, not the file itself",
    b"GIF8": "a GIF picture",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"PK\x03\x04": "a zip archive",
    b"PK\x05\x06": "a zip archive",
    b"\x1f\x8b": "a gzip file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a rar archive",
    b"\x28\xb5\x2f\xfd": "a zstd file",
    b"%PDF": "a PDF document",
    b"OggS": "an Ogg file",
    b"fLaC": "a FLAC sound file",
    b"ID3": "an MP3 sound file",
    b"FLV": "a Flash video (.flv)",
    b"\x30\x26\xb2\x75": "a Windows Media file (.wmv)",
    b"\x00\x00\x01\xba": "an MPEG program stream (.mpg)",
    b"PAR1": "a Parquet table",
    b"#EXTM3U": "a playlist",
}
CONVERT = "; convert it, for example: ffmpeg -i FILE NEW.mp4"


@dataclass(frozen=True)
class Facts:
    """What the container says beside its pictures."""

    cut: bool = False  # the file is shorter than its parts say
    encrypted: bool = False
    codec: str | None = None  # of the first picture track, as the container names it


class _Broken(ValueError):
    """A header that does not parse; the decoder decides."""


def inspect(path: str | Path) -> Facts:
    """Read the container's own words.

    Raises:
        VideoError: not_video; the message says what the file is.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(512)
        read = _reader_of(start)
        if read is None:
            raise VideoError("not_video", f"expected a video, found {what_is(start)}")
        file.seek(0)
        try:
            return read(file, size)
        except (struct.error, IndexError, OverflowError, _Broken):
            return Facts()


def _reader_of(start: bytes):  # type: ignore[no-untyped-def]
    if start[:4] == EBML_MAGIC:
        return _matroska
    if start[4:8] in ISO_FIRST and not (start[4:8] == b"ftyp" and start[8:12] in STILL_BRANDS):
        return _iso
    if start[:4] == b"RIFF" and start[8:12] == b"AVI ":
        return _riff
    transport = any(start[at : at + 1] == b"G" == start[at + step : at + step + 1] for at, step in ((0, 188), (4, 192)))
    return (lambda file, size: Facts()) if transport and len(start) == 512 else None


def what_is(start: bytes) -> str:
    """In words, what a file with these first bytes is."""
    if not start:
        return "an empty file"
    if not start.strip(b"\0"):
        return "zeros at the beginning (a download that did not finish?)"
    for magic, name in NAMES.items():
        if start.startswith(magic):
            return name + (CONVERT if magic in (b"GIF8", b"FLV", b"OggS", b"\x30\x26\xb2\x75") else "")
    if start[257:262] == b"ustar":
        return "a tar archive"
    if start[:4] == b"RIFF":
        return "a WebP picture" if start[8:12] == b"WEBP" else "a sound file (RIFF)"
    if start[4:8] == b"ftyp":
        return "a HEIF or AVIF picture"
    text = start.decode("utf-8", "ignore").lstrip("\ufeff \t\r\n").lower()
    if text.startswith(("<!doctype html", "<html", "<head", "<body")):
        return "an HTML page (an error page or a login instead of the download?)"
    if text.startswith("<?xml"):
        return "an XML document (an error message instead of the download?)"
    if text.isprintable() or all(c.isprintable() or c.isspace() for c in text):
        return f"text that begins with {text[:30]!r}"
    return f"a file that begins with {start[:8].hex(' ')}"


def codec_of(path: str | Path) -> str:
    """The codec of the picture track, as the container names it; for codecs that the decoder does not know."""
    return inspect(path).codec or "that the file names"


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
        stop = end if length is None else start + length
        yield name, start, stop
        file.seek(min(stop, end))


def _content(file: BinaryIO, start: int, stop: int) -> bytes:
    if stop - start > MAX_FIELD:
        raise _Broken
    file.seek(start)
    return file.read(stop - start)


def _matroska(file: BinaryIO, size: int) -> Facts:
    for name, _, stop in _elements(file, size):
        if name != SEGMENT:
            continue
        cut, found = stop > size, Facts()
        for inner, _, end in _elements(file, min(stop, size)):
            cut = cut or end > size
            if inner == TRACKS:
                found = _matroska_track(file, min(end, size))
        return Facts(cut, found.encrypted, found.codec)
    return Facts(cut=True)


def _matroska_track(file: BinaryIO, end: int) -> Facts:
    """The first picture track, wherever its fields stand in the entry."""
    for name, _, stop in _elements(file, end):
        if name != TRACK_ENTRY:
            continue
        kind, codec, encrypted = 0, None, False
        for field, a, b in _elements(file, stop):
            if field == TRACK_TYPE:
                kind = int.from_bytes(_content(file, a, b), "big")
            elif field == CODEC_ID:
                codec = _content(file, a, b).rstrip(b"\0").decode("latin-1")
            elif field == ENCODINGS:
                for inner, _, d in _elements(file, b):
                    encrypted |= inner == ENCODING and any(id == ENCRYPTION for id, *_ in _elements(file, d))
        if kind == VIDEO_TRACK:
            return Facts(False, encrypted, codec)
    return Facts()


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
            raise _Broken
        yield name, content, stop
        at = stop


def _iso(file: BinaryIO, size: int) -> Facts:
    cut, index, found = False, False, Facts()
    for name, start, stop in _boxes(file, 0, size):
        if name not in ISO_TOP:
            break  # what some cameras append
        cut = cut or stop > size
        if name == b"moov":
            index = True
            tracks = [
                _iso_track(file, a, b) for inner, a, b in _boxes(file, start, min(stop, size)) if inner == b"trak"
            ]
            found = next((track for track in tracks if track.codec is not None), found)
    return Facts(cut or not index, found.encrypted, found.codec)


def _iso_track(file: BinaryIO, start: int, end: int) -> Facts:
    """A track; without a codec unless it is a picture track. QuickTime has a second handler, deeper inside."""
    media = _inside(file, start, end, b"mdia")
    handler = _inside(file, *media, b"hdlr")
    if handler[1] <= handler[0] or _content(file, *handler)[8:12] != b"vide":
        return Facts()
    a, b = _inside(file, *_inside(file, *_inside(file, *media, b"minf"), b"stbl"), b"stsd")
    codec, *_ = [name for name, *_ in _boxes(file, a + 8, b)] or [b"none"]
    return Facts(False, codec in (b"encv", b"drmi"), codec.decode("latin-1"))


def _inside(file: BinaryIO, start: int, end: int, wanted: bytes) -> tuple[int, int]:
    """Where the content of a box within a box lies; empty where there is none."""
    return next(((a, min(b, end)) for name, a, b in _boxes(file, start, end) if name == wanted), (end, end))


# AVI: four letters, 32-bit size (little-endian), content; pieces beyond 1 GB are RIFFs of their own.


def _riff(file: BinaryIO, size: int) -> Facts:
    at, cut, codec = 0, False, None
    while at + 12 <= size:
        file.seek(at)
        name, length = struct.unpack("<4sI", file.read(8))
        if name != b"RIFF":
            break
        if 0 < length < UNKNOWN_LENGTH:
            cut = cut or at + 8 + length > size
        if codec is None:
            head = file.read(4096)
            handler = head.find(b"strhvids")
            codec = None if handler < 0 else head[handler + 12 : handler + 16].decode("latin-1")
        at += 8 + length + length % 2
    return Facts(cut, False, codec)
