"""Outages ridden out: a request is repeated with growing waits until ``cluster.patience_s`` have passed.

The patience travels in the environment, like credentials, because requests are made wherever a store is opened: in
the driver, in actors and in their threads. While it waits, a process says so on stderr, once per store and interval,
and tells a listener, which carries the line to the driver. Not here: which faults may pass (``store.bucket``,
``store.local``, ``session``).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from cluster import ending, metrics
from hojoint.errors import Unavailable

VARIABLE = "HOJOINT_PATIENCE_S"
DEFAULT_S = 300.0  # where no job has set another one; that of the setting
SETTING = "cluster.patience_s"
FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 10.0
SAY_AFTER_S = 1.0  # a short hiccup is not worth a line
SAY_EVERY_S = 20.0

T = TypeVar("T")
Listener = Callable[[str], None]
"""Gets a line such as 'store s3://b/x unreachable for 40 s', and '' when it answers again."""


class _OutageLog:
    """What this process says about outages: one line per store and interval, however many threads wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._said: dict[str, float] = {}
        self.listener: Listener | None = None
        self.whose = SETTING  # the patience

    def say(self, what: str, silent_s: float, reason: str, patience_s: float) -> None:
        with self._lock:
            if silent_s < SAY_AFTER_S or time.monotonic() - self._said.get(what, float("-inf")) < SAY_EVERY_S:
                return
            self._said[what] = time.monotonic()
        line = f"{what} unreachable for {silent_s:.0f} s"
        self._tell(line, f"{line} ({reason}); trying again, for {patience_s:.0f} s in all ({self.whose})")

    def limit(self, patience_s: float) -> str:
        if self.whose == SETTING:
            return f"{SETTING}={patience_s:g}"
        return f"the {patience_s:g} s that {self.whose} waits"

    def good(self, what: str, silent_s: float) -> None:
        with self._lock:
            said = self._said.pop(what, None)
        if said is not None:
            self._tell("", f"{what} answers again after {silent_s:.0f} s")

    def _tell(self, line: str, text: str) -> None:
        print(text, file=sys.stderr, flush=True)
        if self.listener is not None:
            self.listener(line)


_outage_log = _OutageLog()


def seconds() -> float:
    """How long an outage may last."""
    return float(os.environ.get(VARIABLE, DEFAULT_S))


def environment(patience_s: float) -> dict[str, str]:
    """What a process, and those that it starts, need to have this patience."""
    return {VARIABLE: f"{patience_s:g}"}


@contextlib.contextmanager
def granted(patience_s: float, of: str = SETTING) -> Iterator[None]:
    """The patience of this process, and of those that it starts, for the time of the block.

    ``of``: the setting, or who has a patience that no setting gives; messages of this process tell it.
    """
    before, whose = os.environ.get(VARIABLE), _outage_log.whose
    os.environ.update(environment(patience_s))
    _outage_log.whose = of
    try:
        yield
    finally:
        _outage_log.whose = whose
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


def listen(listener: Listener | None) -> None:
    """Let ``listener`` know what this process says about outages, in place of an earlier one."""
    _outage_log.listener = listener


def ridden_out(
    attempt: Callable[[], T], passes: Callable[[Exception], bool], what: str, *, since: float | None = None
) -> T:
    """What ``attempt`` returns, repeated while its fault may pass.

    Args:
        attempt: a request; must bear to be repeated after an answer that was lost.
        passes: whether another attempt may succeed after this exception; any other is raised as it is.
        what: the store or the cluster, in words that begin a sentence.
        since: when the patience began, by ``time.monotonic``; None: when the first attempt has failed, so that one
            that was long and then broke off is repeated.

    Raises:
        Unavailable: faults have followed each other for ``seconds()``.
    """
    failed = since
    for number in itertools.count():
        try:
            result = attempt()
        except Exception as error:
            if not passes(error):
                raise
            reason, kind = first_line(error), type(error).__name__
            failed = time.monotonic() if failed is None else failed
        else:
            if number and failed is not None:
                _outage_log.good(what, time.monotonic() - failed)
            return result
        silent_s, patience_s = time.monotonic() - failed, seconds()
        wait = min(FIRST_WAIT_S * 2 ** min(number, 16), LONGEST_WAIT_S) * random.uniform(0.5, 1)
        if silent_s + wait > patience_s:
            raise Unavailable(
                f"{what} unreachable from the node {socket.gethostname()} for {silent_s:.0f} s ({reason}); no other "
                f"try fits into {_outage_log.limit(patience_s)}. When it answers again, the same command resumes"
            ) from None
        _outage_log.say(what, silent_s, reason, patience_s)
        metrics.count_retry(what.removeprefix("store "), kind)
        ending.sleep(wait)
    raise AssertionError("the loop returns or raises")


def first_line(error: BaseException) -> str:
    """The first line of an exception's message; its kind where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
