"""What the decoder does not tell of a file: what it is if it is no video, whether it is cut or encrypted, its codec.

A decoder returns as many pictures of a file cut in half as it finds, without an error, and those behind a hole under
lower numbers; so the lengths that the container promises are held against the file's size here, and its pieces must
follow each other. MP4/QuickTime (ISO boxes) and AVI (RIFF); no decoding, no library. Not here: WebM/Matroska
(``ebml``), the number of pictures (``pyav_reader``).
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hojoint.labelling import ebml
from hojoint.labelling.faults import VideoError

EBML_MAGIC = b"\x1a\x45\xdf\xa3"
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
REWRAP = "; put it into MP4, for example: ffmpeg -i FILE -c copy NEW.mp4"


@dataclass(frozen=True)
class Facts:
    """What the container says beside its pictures."""

    cut: bool = False  # the file is shorter than its parts say
    damaged: bool = False  # data are missing inside the file
    encrypted: bool = False
    codec: str | None = None  # of the first picture track, as the container names it


class _Broken(ValueError):
    """A header that does not parse; the decoder decides."""


class _Hole(ValueError):
    """Something else than a piece of the container stands where one must begin."""


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
        except _Hole:
            return Facts(damaged=True)
        except (struct.error, IndexError, OverflowError, _Broken):
            return Facts()


def _reader_of(start: bytes) -> Callable[[BinaryIO, int], Facts] | None:
    if start[:4] == EBML_MAGIC:
        return _matroska
    if start[4:8] in ISO_FIRST and not (start[4:8] == b"ftyp" and start[8:12] in STILL_BRANDS):
        return _iso
    if start[:4] == b"RIFF" and start[8:12] == b"AVI ":
        return _riff
    return None


def what_is(start: bytes) -> str:
    """In words, what a file with these first bytes is."""
    if not start:
        return "an empty file"
    if not start.strip(b"\0"):
        return "zeros at the beginning (a download that did not finish?)"
    for magic, name in NAMES.items():
        if start.startswith(magic):
            return name + (CONVERT if magic in (b"GIF8", b"FLV", b"OggS", b"\x30\x26\xb2\x75") else "")
    if any(start[at : at + 1] == b"G" == start[at + step : at + step + 1] for at, step in ((0, 188), (4, 192))):
        return f"an MPEG transport stream, in which losses cannot be seen{REWRAP}"
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


def _content(file: BinaryIO, start: int, stop: int) -> bytes:
    if stop - start > MAX_FIELD:
        raise _Broken
    file.seek(start)
    return file.read(stop - start)


def _matroska(file: BinaryIO, size: int) -> Facts:
    try:
        track = ebml.walk(file, size)
    except ebml.CutError:
        return Facts(cut=True)
    except ebml.DamagedError:
        return Facts(damaged=True)
    return Facts(encrypted=track.encrypted, codec=track.codec)


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
    header, fragments, listed = None, 0, 0
    for name, start, stop in _boxes(file, 0, size):
        if name not in ISO_TOP and not (header is None and stop <= size and _is_name(name)):
            break  # what some cameras append
        if stop > size:
            return Facts(cut=True)
        fragments += name == b"moof"
        if name == b"mfra":
            listed = max(listed, _listed_fragments(file, start, stop))
        if name == b"moov":
            header = (start, stop)
    if header is None or listed > fragments:
        return Facts(cut=True)
    tracks = [_iso_track(file, a, b) for inner, a, b in _boxes(file, *header) if inner == b"trak"]
    return next((track for track in tracks if track.codec is not None), Facts())


def _is_name(name: bytes) -> bool:
    """Whether four bytes can name a box: standards add boxes, such as pdin, that stand before moov too."""
    return name.isascii() and name.decode("ascii").isprintable()


def _listed_fragments(file: BinaryIO, start: int, stop: int) -> int:
    """How many fragments the index at the end of a fragmented file lists; several entries may lie in one."""
    offsets = set()
    for name, a, b in _boxes(file, start, stop):
        if name != b"tfra":
            continue
        data = _content(file, a, b)
        version, widths, count = data[0], data[11], struct.unpack(">I", data[12:16])[0]
        first = 8 if version else 4  # the time stands before the offset
        step = 2 * first + sum((widths >> shift & 3) + 1 for shift in (0, 2, 4))
        entries = range(16, min(len(data), 16 + count * step), step)
        offsets |= {data[at + first : at + 2 * first] for at in entries}
    return len(offsets)


def _iso_track(file: BinaryIO, start: int, end: int) -> Facts:
    """A track; without a codec unless it is a picture track. QuickTime has a second handler, deeper inside."""
    media = _inside(file, start, end, b"mdia")
    handler = _inside(file, *media, b"hdlr")
    if handler[1] <= handler[0] or _content(file, *handler)[8:12] != b"vide":
        return Facts()
    a, b = _inside(file, *_inside(file, *_inside(file, *media, b"minf"), b"stbl"), b"stsd")
    codec, *_ = [name for name, *_ in _boxes(file, a + 8, b)] or [b"none"]
    return Facts(encrypted=codec in (b"encv", b"drmi"), codec=codec.decode("latin-1"))


def _inside(file: BinaryIO, start: int, end: int, wanted: bytes) -> tuple[int, int]:
    """Where the content of a box within a box lies; empty where there is none."""
    return next(((a, min(b, end)) for name, a, b in _boxes(file, start, end) if name == wanted), (end, end))


# AVI: four letters, 32-bit size (little-endian), content; pieces beyond 1 GB are RIFFs of their own.


def _riff(file: BinaryIO, size: int) -> Facts:
    at, cut, damaged, codec = 0, False, False, None
    while at + 12 <= size:
        file.seek(at)
        name, length = struct.unpack("<4sI", file.read(8))
        if name != b"RIFF":
            break
        known = 0 < length < UNKNOWN_LENGTH
        cut = cut or (known and at + 8 + length > size)
        if codec is None:
            head = file.read(4096)
            handler = head.find(b"vids")
            codec = None if handler < 0 else head[handler + 4 : handler + 8].decode("latin-1")
        damaged = damaged or (known and not cut and not _riff_holds(file, at + 12, at + 8 + length))
        at += 8 + length + length % 2
    return Facts(cut, damaged, False, codec)


def _riff_holds(file: BinaryIO, start: int, stop: int) -> bool:
    """Whether the pieces of one RIFF follow each other to its end, and its index lists as many as there are."""
    found: Counter[bytes] = Counter()
    listed: Counter[bytes] | None = None
    movie = False
    for name, a, b in _chunks(file, start, stop):
        if name == b"idx1":
            file.seek(a)
            data = file.read(b - a)
            listed = Counter(data[at : at + 4] for at in range(0, len(data) - 15, 16))
        elif name == b"LISTmovi":
            movie = True
            for inner, c, d in _chunks(file, a, b):
                found.update([inner] if inner != b"LISTrec " else [deep for deep, *_ in _chunks(file, c, d)])
    pictures = {name for name in found | (listed or Counter()) if name[2:] in (b"dc", b"db")}
    return movie and (listed is None or all(found[name] == listed[name] for name in pictures))


def _chunks(file: BinaryIO, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """(name, content start, content end); the name of a list is ``LIST`` and its kind."""
    at = start
    while at + 8 <= stop:
        name, length = struct.unpack("<4sI", os.pread(file.fileno(), 8, at))
        content, end = at + 8, at + 8 + length
        if not name.isascii() or not name.decode("ascii").isprintable() or end > stop:
            raise _Hole
        if name == b"LIST":
            name, content = name + os.pread(file.fileno(), 4, content), content + 4
        yield name, content, end
        at = end + length % 2
