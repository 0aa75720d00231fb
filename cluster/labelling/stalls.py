"""When a run has stalled: limits derived from how long its units take and how often its actors report.

The driver ends a stalled run (``pool``), ``jobs.status`` names one. Not here: who hangs; the attempt ledger names the
videos that were in progress.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from cluster.labelling.commits import Commit
from hojoint.errors import Unavailable

LEAST_S = 600.0  # a busy machine, a node that is replaced and loads its network
FIRST_S = 1800.0  # for the first sign: nodes that start, networks that are loaded
UNIT_FACTOR = 3.0  # silence of so many units' time is a stall, where nothing but units is seen
REPORTED_FACTOR = 0.5  # as above, where actors report within a unit
WARNED_AT = 0.5  # of the limit
GAP_FACTOR = 10.0  # silence of so many times the longest one between two signs
GAP_MOST_S = 3600.0  # that product at most: one outage that was ridden out must not make hours of patience
RESUMES = "The same command resumes, and takes the videos that were in progress one by one"
SAME_COMMAND = "The same command resumes"  # of jobs without an attempt ledger


def limit_s(unit_s: float, gap_s: float = 0.0, *, reported: bool = False) -> float:
    """The longest silence that is no stall, s.

    Args:
        unit_s: the longest time that a unit took; 0 where none is known.
        gap_s: the longest silence so far between two signs.
        reported: whether actors report within a unit, so that silence is shorter than a unit.
    """
    factor = REPORTED_FACTOR if reported else UNIT_FACTOR
    return max(LEAST_S if unit_s else FIRST_S, factor * unit_s, min(GAP_FACTOR * gap_s, GAP_MOST_S))


def longest_unit_s(commits: Sequence[Commit]) -> float:
    """The longest time that one of these units took, s; 0 without any."""
    return max((commit.finished - commit.started for commit in commits), default=0.0)


class Watch:
    """Follows a run's signs of progress in the driver."""

    def __init__(
        self,
        signs: Callable[[], Any] | None = None,
        unit_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        resumes: str = RESUMES,
        *,
        often: bool = True,
    ) -> None:
        """``signs`` changes whenever an actor reports; ``unit_s`` is the longest time of a unit that is known.

        ``resumes``: what the same command does after a stall, for the message. ``often``: actors report many times
        within a unit.
        """
        self._signs, self._unit_s, self._clock = signs, unit_s, clock
        self._gap_s, self._warned, self._finished, self._resumes = 0.0, False, False, resumes
        self._often, self._heard = often, False
        self._last, self._seen = clock(), signs() if signs else None

    @property
    def limit_s(self) -> float:
        """The longest silence that is no stall now, s; actors start, and copy data sets, before their first sign."""
        limit = limit_s(self._unit_s, self._gap_s, reported=self._signs is not None and self._often)
        return limit if self._heard else max(limit, FIRST_S)

    def finished(self, commit: Commit | None) -> None:
        """A unit has come; None for one of unknown time, as of one that another attempt committed."""
        self._finished = True
        if commit is not None:
            self._unit_s = max(self._unit_s, commit.finished - commit.started)
        self._beat()

    def look(self) -> None:
        """Compare the signs with those of the last look.

        Raises:
            Unavailable: nothing has changed for longer than ``limit_s``.
        """
        if self._signs is not None and (now := self._signs()) != self._seen:
            self._seen = now
            self._beat()
        silent_s = self._clock() - self._last
        if not self._warned and silent_s > WARNED_AT * self.limit_s:
            self._warned = True
            print(
                f"note: nothing was finished for {silent_s:.0f} s; after {self.limit_s:.0f} s this run ends",
                file=sys.stderr,
                flush=True,
            )
        if silent_s > self.limit_s:
            known = "no unit is done yet"
            if self._finished:
                longest_s = self._unit_s or self._gap_s
                took = "a unit took" if self._unit_s else "it took"
                known = f"{took} up to {longest_s:.0f} s before" if longest_s else "one unit is done"
            raise Unavailable(
                f"nothing was finished for {silent_s:.0f} s, and {known}: actors hang, or wait for CPUs or GPUs that "
                f"others hold (ray status shows them). {self._resumes}"
            )

    def _beat(self) -> None:
        now = self._clock()
        if self._heard:  # the silence before the first sign is that of nodes that start
            self._gap_s = max(self._gap_s, now - self._last)
        self._last, self._heard, self._warned = now, True, False
