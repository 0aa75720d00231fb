"""Temporary folders that belong to one process and outlive it only until another one begins.

The owner holds a lock on a file in its folder. A process that makes such a folder first removes those whose lock nobody
holds: their owners were killed. Used for fetched files (cluster.sources.scratch) and for Ray's sessions (``session``).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

LOCK, NEW_LOCK = ".lock", ".lock.new"


def make(parent: str, prefix: str) -> tuple[Path, int]:
    """A new folder and the open file that locks it until it is closed; removes what others have left under ``prefix``.

    Raises:
        OSError: no folder can be made in ``parent``.
    """
    for other in Path(parent).glob(f"{prefix}*"):
        remove_abandoned(other)
    path = tempfile.mkdtemp(prefix=prefix, dir=parent)
    lock = os.open(
        os.path.join(path, NEW_LOCK), os.O_CREAT | os.O_RDWR
    )  # programs that this process starts do not get it
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.rename(os.path.join(path, NEW_LOCK), os.path.join(path, LOCK))  # seen by others once it is locked
    return Path(path), lock


def remove_abandoned(path: Path) -> None:
    """Remove a folder if its owner is gone."""
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
