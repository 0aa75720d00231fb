"""Temporary folders that do not outlive their process, killed or not.

Each process has a folder under the one for temporary files and holds a lock on it. A process that begins removes the
folders whose lock nobody holds: their owners were killed.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX = "hojoint-fetched-"
LOCK, NEW_LOCK = ".lock", ".lock.new"


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder for the time of the block."""
    with tempfile.TemporaryDirectory(dir=_own(tempfile.gettempdir(), os.getpid())) as path:
        yield Path(path)


def lasting_folder() -> Path:
    """A folder that its caller removes, or else the end of this process."""
    return Path(tempfile.mkdtemp(dir=_own(tempfile.gettempdir(), os.getpid())))


@functools.cache
def _own(parent: str, pid: int) -> str:
    """This process's folder; ``pid`` tells a forked process from its parent."""
    for other in Path(parent).glob(f"{PREFIX}*"):
        _remove_abandoned(other)
    path = tempfile.mkdtemp(prefix=PREFIX, dir=parent)
    lock = os.open(os.path.join(path, NEW_LOCK), os.O_CREAT | os.O_RDWR)  # held until the process ends
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.rename(os.path.join(path, NEW_LOCK), os.path.join(path, LOCK))  # seen by others once it is locked
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def _remove_abandoned(path: Path) -> None:
    try:
        lock = os.open(path / LOCK, os.O_RDWR)
    except OSError:  # its owner is about to lock it, or belongs to another user
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True)
    except BlockingIOError:
        pass
    finally:
        os.close(lock)
