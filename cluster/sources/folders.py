"""Videos in a local folder: one listing, and the sizes of its files by many threads, because a file system may be far.

Not here: which name is a video (``naming``).
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from cluster.sources import tars
from cluster.sources.naming import FOLDER_RANK, PICTURE, SUFFIXES, Entry, Found, is_tar, video_of
from hojoint.errors import InputError

THREADS = 16
AT_ONCE = 2048  # names per turn of the threads


@dataclass
class Seen:
    """What a listing passed over, for the message where it found nothing."""

    names: list[str] = field(default_factory=list)  # the first ones

    def add(self, name: str) -> None:
        if len(self.names) < 3:
            self.names.append(name)

    def hint(self) -> str:
        return f"; it holds {', '.join(self.names)}, ..." if self.names else "; it is empty"


def scan(root: str, seen: Seen) -> Iterator[Found]:
    """The videos of a folder, or of one tar file.

    Raises:
        InputError: it cannot be listed.
    """
    if os.path.isfile(root) and is_tar(os.path.basename(root), os.path.dirname(root)):
        yield from tars.members(root, functools.partial(open, root, "rb"))
        return
    shards = []
    try:
        with ThreadPoolExecutor(THREADS) as pool, os.scandir(root) as entries:
            while batch := list(itertools.islice(entries, AT_ONCE)):
                for entry, found in zip(batch, pool.map(lambda entry: _found(entry, root), batch), strict=True):
                    if found is not None:
                        yield found
                    elif is_tar(entry.name, root):
                        shards.append(entry.path)
                    else:
                        seen.add(entry.name + "/" * entry.is_dir())
    except OSError as error:
        raise InputError(
            f"cannot list the videos in {root}: {error.strerror}; set videos.root to their folder"
        ) from None
    for path in sorted(shards):
        yield from tars.members(path, functools.partial(open, path, "rb"))


def _found(entry: os.DirEntry[str], root: str) -> Found | None:
    """The video behind one name of the folder; None where it is none."""
    if entry.name.startswith("."):
        return None
    if entry.is_dir():
        size = folder_size(entry.path)
        if size is None:
            return None
        named = video_of(f"{entry.name}{SUFFIXES[0]}", root)
        assert named is not None
        return Found(Entry(named[0], entry.path, size), FOLDER_RANK)
    named = video_of(entry.name, root)
    if named is None:
        return None
    try:
        size = entry.stat().st_size
    except OSError:
        size = None  # a broken link: labelling puts it into quarantine
    return Found(Entry(named[0], entry.path, size), named[1])


def folder_size(path: str) -> int | None:
    """Bytes of the numbered pictures in a folder; None where there are none, or a video beside them."""
    size = None
    with os.scandir(path) as entries:
        for entry in entries:
            if os.path.splitext(entry.name)[1].lower() in SUFFIXES:
                return None
            if PICTURE.fullmatch(entry.name):
                size = (size or 0) + entry.stat().st_size
    return size
