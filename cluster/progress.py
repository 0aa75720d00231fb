"""How far a run is: a board that actors write on, and a bar that the driver draws from it.

A unit of labelling or an epoch of training takes minutes, so results alone would make a jumpy bar. Values on the
board are for display only: nothing counts until it is committed. Actors also beat on the board, so that the driver
knows how many live. Not here: the counts of a report (``cluster.labelling.commits``).
"""

from __future__ import annotations

import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from tqdm import tqdm

from cluster import metrics, patience

LINE_EVERY_S = 30.0  # between two lines where stderr is a file
POLL_S = 0.5
ANSWER_S = 10.0  # for the board's answer; a busy cluster costs one look, not the run
BEAT_S = 5.0  # between two beats of an actor
SILENT_S = 30.0  # an actor without a beat for this long has gone
NOTE_S = 30.0  # between two calls of a driver's ``note``

State = Mapping[str, Any]
"""What stands on a board, by name; ``done`` counts what the bar counts, ``alive`` the actors that beat."""


@ray.remote(num_cpus=0)
class Board:
    """Values by name, written by actors and read by the driver, and the actors that live."""

    def __init__(self, job: str = "", wanted: int = 0, run: str = "") -> None:
        """``job`` and ``run`` label the gauges for Prometheus, '' means none; ``wanted`` is the most actors."""
        self._state: dict[str, Any] = {}
        self._beats: dict[str, float] = {}  # actor -> when it was last heard of
        names = ("hojoint_actors_alive", "hojoint_actors_wanted") if job else ()
        self._gauges, self._wanted = [metrics.of_run(name, run, stage=job) for name in names], wanted
        self._useful = wanted

    def add(self, **counts: int) -> None:
        """Add to counts, which start at zero."""
        for name, count in counts.items():
            self._state[name] = self._state.get(name, 0) + count

    def put(self, **values: Any) -> None:
        """Replace values."""
        self._state.update(values)

    def beat(self, actor: str) -> None:
        """Note that an actor lives."""
        self._beats[actor] = time.monotonic()

    def useful(self, left: int) -> None:
        """Note how many units are left: an actor for which there is none is released, and missed by nobody."""
        self._useful = min(self._wanted, left)

    def read(self) -> dict[str, Any]:
        """The values, and ``alive`` where actors beat at all; a driver that reads keeps the gauges up to date."""
        now = time.monotonic()
        alive = sum(now - beat < SILENT_S for beat in self._beats.values())
        if self._wanted:  # one that died is heard of no more after a while, and its successor beats at once
            alive = min(alive, self._wanted)
        for gauge, value in zip(self._gauges, (alive, self._useful), strict=False):
            gauge.set(value)
        return self._state | {"alive": alive} if self._beats else dict(self._state)


def new_board(job: str = "", wanted: int = 0, run: str = "") -> Any:
    """A board beside the driver: on another node it would be lost with that node, and the run's progress with it."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    return Board.options(scheduling_strategy=here).remote(job, wanted, run)  # type: ignore[attr-defined]


def told_of(board: Any) -> Callable[[int], None]:
    """Tells the board how many units are left."""
    return lambda left: board.useful.remote(left)


class Reporter:
    """Reports an actor's progress: on the board, and as counters for Prometheus (``metrics``).

    From its creation on it beats, in a thread, until its process ends.
    """

    def __init__(self, board: Any, job: str, run: str) -> None:
        self._board = board
        metrics.work_for(run)
        self._seconds = metrics.of_run("hojoint_seconds", run, stage=job)
        self._videos = metrics.of_run("hojoint_videos", run, stage=job)
        self._frames = metrics.of_run("hojoint_frames", run, stage=job)
        threading.Thread(target=self._beat, args=(uuid.uuid4().hex,), daemon=True).start()
        patience.listen(lambda line: board.put.remote(outage=line))  # an actor's own stderr is seen by nobody

    def __call__(self, videos: dict[str, int], frames: dict[str, int]) -> None:
        for counter, name, counts in ((self._videos, "outcome", videos), (self._frames, "verdict", frames)):
            for word, count in counts.items():
                if count:
                    counter.inc(count, {name: word})
        self._board.add.remote(done=sum(videos.values()), frames=sum(frames.values()))

    def spent(self, seconds: Mapping[str, float]) -> None:
        """Add the seconds of a finished unit, by phase."""
        for phase, value in seconds.items():
            if value > 0:
                self._seconds.inc(value, {"phase": phase})

    def _beat(self, actor: str) -> None:
        while True:
            self._board.beat.remote(actor)
            time.sleep(BEAT_S)


def signs_of(board: Any) -> Callable[[], Any]:
    """What changes whenever an actor reports, asked of the board at most every ``BEAT_S``."""
    asked, known = float("-inf"), None

    def signs() -> Any:
        nonlocal asked, known
        if time.monotonic() - asked > BEAT_S:
            asked = time.monotonic()
            try:
                state = ray.get(board.read.remote(), timeout=ANSWER_S)
            except ray.exceptions.RayError:
                return known
            known = (state.get("done", 0), state.get("frames", 0))
        return known

    return signs


class FrameRate:
    """The text of labelling's bar: the rate, without the time that actors take to start, and the actors that live."""

    def __init__(self, actors: str, wanted: int) -> None:
        """``actors`` is their name, as in 'Teachers'; ``wanted`` their largest number."""
        self._actors, self._wanted = actors, wanted
        self._began = time.monotonic()

    def __call__(self, state: State) -> str:
        frames, now = state.get("frames", 0), time.monotonic()
        if frames == 0:
            self._began = now
        rate = frames / max(now - self._began, POLL_S)
        return f"{rate:.1f} frames/s, {self._actors} {state.get('alive', 0)} of {self._wanted}"


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

    def advance(self, count: int) -> None:
        """Show that ``count`` more are done."""
        self.move(self.done + count)

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
    """A bar that a thread of the driver moves as the board says.

    ``text`` makes its text from the board's state; ``note`` is called with that state now and then.
    """

    def __init__(
        self,
        board: Any,
        name: str,
        unit: str,
        *,
        total: int,
        done: int = 0,
        text: Callable[[State], str],
        note: Callable[[State], None] = lambda state: None,
    ) -> None:
        self._board, self._text, self._done, self._note = board, text, done, note
        self._noted, self._noting = -NOTE_S, threading.Thread()  # when ``note`` was last called, and in which thread
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
        if self._noting.is_alive():
            self._noting.join(ANSWER_S)
        if error is None:
            self._noted = float("inf")  # no note after the work
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
        self._note_now_and_then(state)
        done = self._done + state.get("done", 0)
        # A unit that another attempt begins again reports its videos again: never beyond the total.
        text = ", ".join(filter(None, [self._text(state), state.get("outage")]))
        self._bar.move(self._bar.total if at_end else min(done, self._bar.total), text)

    def _note_now_and_then(self, state: State) -> None:
        """Call ``note`` in a thread of its own: a store that does not answer must not hold the bar."""
        if time.monotonic() - self._noted < NOTE_S or self._noting.is_alive():
            return
        self._noted = time.monotonic()
        self._noting = threading.Thread(target=self._note, args=(state,), daemon=True)
        self._noting.start()
