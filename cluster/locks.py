"""One process at a time in a folder: others wait, or are told.

The lock is the operating system's and goes with its process, so a killed one leaves none behind. A file system without
locks has none: there the caller sees to it that no two processes work in one folder.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from hojoint.errors import InputError

NAME = ".lock"


@contextlib.contextmanager
def alone(folder: Path, doing: str, *, wait: bool) -> Iterator[None]:
    """Hold the folder's lock for the time of the ``with`` block.

    Args:
        doing: what the holder does, for messages, as in 'draws the world'.
        wait: wait for a process that holds it; otherwise refuse.

    Raises:
        InputError: another process holds it, and ``wait`` is False.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / NAME, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                raise InputError(
                    f"another process {doing} in {folder}; let it finish, or give another output"
                ) from None
            print(f"waiting: another process {doing} in {folder}", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            print(f"note: {folder} knows no locks ({error.strerror}); do not start a second process there", flush=True)
        yield  # closing the file gives the lock back
