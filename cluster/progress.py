"""How far a run is: a board that actors write on, and a bar that the driver draws from it.

A unit of labelling or an epoch of training takes minutes, so results alone would make a jumpy bar. Values on the
board are for display only: nothing counts until it is committed. Not here: the counts of a report
(``cluster.labelling.commits``).
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import ray
from ray.util.metrics import Counter
from tqdm import tqdm

LINE_EVERY_S = 30.0  # between two lines where stderr is a file
POLL_S = 0.5
ANSWER_S = 10.0  # for the board's answer; a busy cluster costs one look, not the run

State = Mapping[str, Any]
"""What stands on a board, by name; ``done`` counts what the bar counts."""


@ray.remote(num_cpus=0)
class Board:
    """Values by name, written by actors and read by the driver."""

    def __init__(self) -> None:
        self._state: dict[str, Any] = {}

    def add(self, **counts: int) -> None:
        """Add to counts, which start at zero."""
        for name, count in counts.items():
            self._state[name] = self._state.get(name, 0) + count

    def put(self, **values: Any) -> None:
        """Replace values."""
        self._state.update(values)

    def read(self) -> dict[str, Any]:
        return dict(self._state)


class Reporter:
    """Reports an actor's progress: on the board, and as counters for Prometheus (``ray_hojoint_labelling_*``)."""

    def __init__(self, board: Any, job: str = "labelling") -> None:
        self._board = board
        self._videos = Counter(f"hojoint_{job}_videos", "Videos an actor has finished", ("outcome",))
        self._frames = Counter(f"hojoint_{job}_frames", "Frames an actor has judged", ("verdict",))

    def __call__(self, videos: dict[str, int], frames: dict[str, int]) -> None:
        for counter, name, counts in ((self._videos, "outcome", videos), (self._frames, "verdict", frames)):
            for word, count in counts.items():
                if count:
                    counter.inc(count, {name: word})
        self._board.add.remote(done=sum(videos.values()), frames=sum(frames.values()))


class FrameRate:
    """The text of labelling's bar. The time that actors take to start is no part of the rate."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __call__(self, state: State) -> str:
        frames, now = state.get("frames", 0), time.monotonic()
        if frames == 0:
            self._began = now
        return f"{frames / max(now - self._began, POLL_S):.1f} frames/s"


class Bar:
    """A bar on a terminal; elsewhere a line on stderr now and then."""

    def __init__(self, name: str, unit: str, *, total: int, done: int = 0, shown: bool = True) -> None:
        self.total, self.done = total, done
        self._name, self._unit, self._shown = name, unit, shown
        self._last_line = time.monotonic()
        self._bar = tqdm(
            total=total, initial=done, unit=unit, desc=name, smoothing=0.05, dynamic_ncols=True,
            disable=not (shown and sys.stderr.isatty()),
        )  # fmt: skip

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def move(self, done: int, text: str = "") -> None:
        """Show that ``done`` of the total are done, with a text behind the numbers."""
        self.done = done
        if not self._bar.disable:
            self._bar.update(done - self._bar.n)
            self._bar.set_postfix_str(text)
        elif self._shown and time.monotonic() - self._last_line > LINE_EVERY_S:
            self._last_line = time.monotonic()
            line = ", ".join(filter(None, [f"{self._name}: {done} of {self.total} {self._unit}s", text]))
            print(line, file=sys.stderr, flush=True)


class Progress:
    """A bar that a thread of the driver moves as the board says. ``text`` makes its text from the board's state."""

    def __init__(
        self, board: Any, name: str, unit: str, *, total: int, done: int = 0, text: Callable[[State], str]
    ) -> None:
        self._board, self._text, self._done = board, text, done
        self._bar = Bar(name, unit, total=total, done=done)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if error is None:
            self._look(at_end=True)
        self._bar.__exit__(kind, error, trace)

    def _follow(self) -> None:
        while not self._stop.wait(POLL_S):
            self._look()

    def _look(self, *, at_end: bool = False) -> None:
        """Move the bar; at the end to its total, with the text of what was reported last."""
        try:
            state = ray.get(self._board.read.remote(), timeout=ANSWER_S)
        except ray.exceptions.RayError:
            return  # the board is for display only
        done = self._done + state.get("done", 0)
        # A unit that another attempt begins again reports its videos again: never beyond the total.
        self._bar.move(self._bar.total if at_end else min(done, self._bar.total), self._text(state))
