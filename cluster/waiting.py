"""Waiting for Ray's tasks and actors: no wait is without end, and what failed is told as it was.

Ray wraps what a worker raises, and a wrapped error has lost what the command line knows it by: its message is a
traceback, and an OSError has no number. Not here: when a silence is too long (``labelling.stalls``).
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import ray
from ray.exceptions import RayError

from hojoint.errors import InputError, MachineError, NoRoom, Unavailable

LOOK_S = 1.0  # between two looks whether the run has stalled
WRAPPED = ("_base_exc", "controller_failure", "health_check_failure")  # where Ray Train keeps what it wraps
KNOWN = (InputError, NoRoom, Unavailable, MachineError)  # to the command line, by their messages alone


def causes(failure: BaseException) -> Iterator[BaseException]:
    """An exception and what caused it, through Ray's wrappers."""
    cause: BaseException | None = failure
    seen: set[int] = set()
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        inner = next(filter(None, (getattr(cause, name, None) for name in WRAPPED)), None)
        cause = inner or getattr(cause, "cause", None) or cause.__cause__


@contextlib.contextmanager
def full_disk_named() -> Iterator[None]:
    """In a worker, NoRoom for a full disk in the block: the driver would not know on which node it is."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise NoRoom(
            f"{error.filename or 'a disk'} on the node {socket.gethostname()} has no room ({error.strerror}); free "
            "some. The same command resumes"
        ) from None


def plain(failure: Exception) -> Exception:
    """What a worker raised, where it is an error of input or machine; any other ``failure`` as it is.

    A lost worker, which is a RayError too, stays one: whoever holds the session knows whether the cluster is away.
    """
    for cause in causes(failure):
        if isinstance(cause, RayError):  # the wrapper is also an instance of what it wraps
            continue
        for kind in KNOWN:
            if isinstance(cause, kind):
                return kind(str(cause))
    return failure


def result(reference: Any) -> Any:
    """What a task has returned; raises ``plain`` of what it raised."""
    try:
        return ray.get(reference)
    except RayError as error:
        if (raised := plain(error)) is error:
            raise
        raise raised from None


def first_done(references: Iterable[Any], look: Callable[[], None]) -> list[Any]:
    """Those that are done, as soon as one is; ``look`` is called meanwhile, and what it raises ends the wait."""
    waiting = list(references)
    while True:
        done, _ = ray.wait(waiting, num_returns=1, timeout=LOOK_S)
        if done:
            return done
        look()
