"""The videos inside a tar file, from its headers alone: what lies between them is stepped over.

A member is named by its place in the file, so that one range request reads it. Compressed tar files are refused: no
member of one can be read without all before it.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Iterator

from cluster.sources.naming import MEMBER_RANK, UNPACK, Entry, Found, Member, video_of
from hojoint.errors import InputError

PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"(\xb5/\xfd": "zstd"}
LAST = 10**19  # more than any offset: the last of a tar file's members comes first


def members(
    tar: str, opened: Callable[[], io.FileIO | io.BufferedReader], links: list[tuple[str, int]], etag: str = ""
) -> Iterator[Found]:
    """The videos in a tar file, whatever folder of it they lie in.

    Args:
        tar: its path or URI.
        opened: opens it for reading; it must be able to seek.
        links: takes the tar file's name and how many links with a video's name it holds, if any; links are left out.
        etag: of the tar file.

    Raises:
        InputError: it cannot be read, is compressed, damaged or no tar file.
    """
    try:
        with opened() as file:
            _refuse_packed(tar, file.read(6))
            file.seek(0)
            with tarfile.open(fileobj=file, mode="r:") as archive:
                linked = 0
                for info in archive:
                    archive.members = []  # type: ignore[attr-defined]  # the library would keep them all
                    named = video_of(os.path.basename(info.name), tar)
                    if named is not None and (info.issym() or info.islnk()):
                        linked += 1
                    if named is None or not info.isreg() or info.issparse():
                        continue
                    member = Member(tar, info.offset_data, info.size, info.name.lstrip("/"))
                    tie = f"{tar}#{LAST - info.offset_data:020d}"
                    yield Found(Entry(named[0], member.uri, info.size, etag), MEMBER_RANK + named[1], tie)
                _refuse_cut(file, archive.offset)
                if linked:
                    links.append((tar, linked))
    except tarfile.TarError as error:
        raise InputError(f"{tar} is not a complete tar file: {error}; pack or copy it again") from None
    except OSError as error:
        raise InputError(f"cannot read {tar}: {error.strerror}; correct its rights, or move it elsewhere") from None


def _refuse_cut(file: io.FileIO | io.BufferedReader, end: int) -> None:
    """Raise ReadError unless a block of zeros, the mark of the end, lies where the headers end.

    The library stops at a damaged or missing header as it does at this mark, and says nothing.
    """
    file.seek(end)
    block = file.read(tarfile.BLOCKSIZE) or b""
    if len(block) < tarfile.BLOCKSIZE:
        raise tarfile.ReadError(f"it ends at byte {end + len(block)} without the blocks of zeros that end a tar file")
    if any(block):
        raise tarfile.ReadError(f"the header at byte {end} is damaged")


def _refuse_packed(tar: str, start: bytes) -> None:
    for magic, kind in PACKED.items():
        if start.startswith(magic):
            raise InputError(f"{tar} is compressed with {kind}: {UNPACK}")
