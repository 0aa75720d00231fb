"""What counts as a video, what its id is, and which file is taken where several have the same id.

A video is a file with one of ``SUFFIXES`` in any case, or a folder of numbered pictures that holds no video; its id is
the name without the suffix, or the name of the folder. Names that begin with a dot are left out: operating systems keep
notes under such names. Of several with one id the first is taken, in the order of ``SUFFIXES``, then a folder of
pictures, then members of tar files in the order of ``SUFFIXES``, and then by the order of their URIs. Inside one tar
file the last one counts, as it does for tar: ``tar -r`` replaces a member by appending another.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

from hojoint import ids

SUFFIXES = (".webm", ".mp4", ".mov", ".mkv", ".m4v", ".avi")
PICTURE = re.compile(r"[^.].*?\d+\.(jpe?g|png)|\d+\.(jpe?g|png)", re.IGNORECASE)  # a number before the suffix
PACKED = re.compile(r"[^.].*\.(tgz|tbz2?|txz|tar\.(gz|bz2|xz|zst|lz4))", re.IGNORECASE | re.DOTALL)
UNPACK = (
    "no video in a compressed tar file can be read without all before it. Pack the videos again without compression "
    "(tar cf shard.tar ...), or unpack them"
)
MEMBER = re.compile(r"(.+?\.tar)#(\d+)\+(\d+)/(.+)", re.IGNORECASE | re.DOTALL)
FOLDER_RANK = len(SUFFIXES)
MEMBER_RANK = FOLDER_RANK + 1  # added to the rank of the suffix


@dataclass(frozen=True)
class Entry:
    """One listed video."""

    video_id: str
    uri: str
    size: int | None  # bytes, of a folder all pictures together; None for a broken link
    etag: str = ""  # names the content in object storage, of a member that of its tar file; '' for local files


@dataclass(frozen=True)
class Found:
    """A candidate; the one of the lowest rank is listed."""

    entry: Entry
    rank: int
    tie: str = ""  # orders those of one rank, the first is listed; '' means the URI


@dataclass(frozen=True)
class Member:
    """A file inside a tar file, as its URI names it."""

    tar: str  # path or URI of the tar file
    offset: int  # of its first byte in it
    size: int
    name: str

    @property
    def uri(self) -> str:
        return f"{self.tar}#{self.offset}+{self.size}/{self.name}"


def member_of(uri: str) -> Member | None:
    """The member of a tar file that ``uri`` names; None for any other."""
    match = MEMBER.fullmatch(uri)
    return None if match is None else Member(match[1], int(match[2]), int(match[3]), match[4])


def video_of(name: str, where: str) -> tuple[str, int] | None:
    """Id and rank of a file by its name; None where it is no video.

    Raises:
        InputError: the name cannot be an id.
    """
    stem, suffix = os.path.splitext(name)
    if name.startswith(".") or suffix.lower() not in SUFFIXES:
        return None
    return ids.checked(stem, where), SUFFIXES.index(suffix.lower())


def is_tar(name: str) -> bool:
    """Whether a file is an uncompressed tar file by its name."""
    return name.lower().endswith(".tar") and not name.startswith(".")


def is_packed(name: str) -> bool:
    """Whether a file is a compressed tar file by its name: no video in it can be read."""
    return PACKED.fullmatch(name) is not None


def etag_of(pictures: Iterable[tuple[str, str]]) -> str:
    """One etag for a folder, from the sorted names and etags of its pictures."""
    state = hashlib.sha256()
    for name, etag in pictures:
        state.update(f"{name}\0{etag}\0".encode())
    return state.hexdigest()[:32]
