"""Videos in a local folder: one listing, and the sizes of its files by many threads, because a file system may be far.

Not here: which name is a video (``naming``).
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from cluster.sources import tars
from cluster.sources.naming import (
    FOLDER_RANK,
    PICTURE,
    SUFFIXES,
    UNPACK,
    Entry,
    Found,
    is_packed,
    is_tar,
    video_of,
)
from hojoint.errors import InputError

THREADS = 16
SHOWN = 3  # names in a message
AT_ONCE = 2048  # names per turn of the threads
FIRST_NAMES = 10_000  # of a folder in a bucket, among which a picture must be: each thousand costs a request
TOGETHER = 64  # names that one thread takes: handing over a name costs more than a near file system's answer


@dataclass
class Seen:
    """What a listing passed over: for notes, and for the message where it found nothing."""

    names: list[str] = field(default_factory=list)  # the first ones, one more than are shown
    packed: list[str] = field(default_factory=list)  # compressed tar files
    unreadable: list[str] = field(default_factory=list)  # folders, each with its fault
    long: list[str] = field(default_factory=list)  # folders of which only the first names were looked at
    links: list[tuple[str, int]] = field(default_factory=list)  # tar files, each with the number of links in it

    def add(self, name: str) -> None:
        if is_packed(name):
            self.packed.append(name)
        if len(self.names) <= SHOWN:
            self.names.append(name)

    def hint(self) -> str:
        others = " and others" if len(self.names) > SHOWN else ""
        holds = f"; it holds {', '.join(self.names[:SHOWN])}{others}" if self.names else "; it is empty"
        unreadable = f". Not readable: {', '.join(self.unreadable[:3])}" if self.unreadable else ""
        links = "".join(f". {note[0].upper()}{note[1:]}" for note in (*self._long_notes(), *self._link_notes()))
        return holds + (f". {UNPACK[0].upper()}{UNPACK[1:]}" if self.packed else "") + unreadable + links

    def notes(self) -> Iterator[str]:
        """Sentences for the user about videos that may be missing from the listing."""
        if self.packed:
            yield f"{len(self.packed)} compressed tar files (the first: {min(self.packed)}) are left out: {UNPACK}"
        if self.unreadable:
            yield f"{len(self.unreadable)} folders cannot be read and are left out, the first: {min(self.unreadable)}"
        yield from self._long_notes()
        yield from self._link_notes()

    def _long_notes(self) -> Iterator[str]:
        if self.long:
            yield (
                f"{len(self.long)} folders (the first: {min(self.long)}) hold no picture among their first "
                f"{FIRST_NAMES:,} names and are left out: give the pictures of a video a folder of their own"
            )

    def _link_notes(self) -> Iterator[str]:
        if self.links:
            yield (
                f"{sum(count for _, count in self.links)} links in tar files (the first in {min(self.links)[0]}) have "
                "a video's name and are left out: a link holds no video. Pack the files themselves (tar -h, and "
                "--hard-dereference for hard links)"
            )


def scan(root: str, seen: Seen) -> Iterator[Found]:
    """The videos of a folder, or of one tar file.

    Raises:
        InputError: it cannot be listed.
    """
    if os.path.isfile(root) and is_packed(os.path.basename(root)):
        raise InputError(f"{root} is a compressed tar file: {UNPACK}")
    if os.path.isfile(root) and is_tar(os.path.basename(root)):
        yield from tars.members(root, functools.partial(io.FileIO, root), seen.links)
        return
    shards = []
    try:
        with ThreadPoolExecutor(THREADS) as pool, os.scandir(root) as entries:
            while batch := list(itertools.islice(entries, AT_ONCE)):
                shares = [batch[at : at + TOGETHER] for at in range(0, len(batch), TOGETHER)]
                answers = pool.map(lambda share: [_found(entry, root) for entry in share], shares)
                for entry, found in zip(batch, itertools.chain.from_iterable(answers), strict=True):
                    if isinstance(found, Found):
                        yield found
                    elif found is not None:
                        seen.unreadable.append(found)
                    elif is_tar(entry.name) and not entry.is_dir():
                        shards.append(entry.path)
                    else:
                        seen.add(entry.name + "/" * entry.is_dir())
    except OSError as error:
        raise InputError(
            f"cannot list the videos in {root}: {error.strerror}; set videos.root to their folder"
        ) from None
    for path in sorted(shards):
        yield from tars.members(path, functools.partial(io.FileIO, path), seen.links)


def _found(entry: os.DirEntry[str], root: str) -> Found | str | None:
    """The video behind one name of the folder; None where it is none, a sentence where that cannot be seen."""
    if entry.name.startswith("."):
        return None
    try:
        is_folder = entry.is_dir()
        size = folder_size(entry.path) if is_folder else None
    except OSError as error:
        return f"{entry.path} ({error.strerror})"
    if is_folder:
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
    """Bytes of the numbered pictures in a folder; None where there are none, or a video beside them.

    A broken link among them has no bytes: its reader says what is wrong.
    """
    size = None
    with os.scandir(path) as entries:
        for entry in entries:
            if os.path.splitext(entry.name)[1].lower() in SUFFIXES:
                return None
            if PICTURE.fullmatch(entry.name):
                size = size or 0
                with contextlib.suppress(FileNotFoundError):
                    size += entry.stat().st_size
    return size
