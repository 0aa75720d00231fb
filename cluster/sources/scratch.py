"""Temporary folders that do not outlive their process, killed or not: all of a process's lie in one that it owns."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cluster import owned_folders

PREFIX = "hojoint-fetched-"


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
    path, _ = owned_folders.make(parent, PREFIX)  # its lock is held until the process ends
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return str(path)
