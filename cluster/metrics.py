"""What Prometheus sees of a run, in one table: names, meanings and labels; Ray exports each as ``ray_<name>``.

Every metric carries the label ``run``, the output of the run, and most ``stage``, what it does (Prometheus has a
label ``job`` of its own). Totals that must be exact come from commits and are gauges, set by the driver; they survive a
restart. Rates come from counters of the actors, which begin at zero with each process. Ray forgets a gauge that has not
been set for some 20 s, so a ``Held`` sets its gauges again and again while its run lives; with the run they vanish, and
so do its alerts. Not here: dashboards and alerts (``cluster/observability``), and what a report counts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

import ray
from ray.util import metrics as exported

RUN = "run"
AGAIN_S = 5.0  # between two times that a held gauge is set
CLOSE_S = 2.0  # that the end of a run waits for the thread that sets them


@dataclass(frozen=True)
class Metric:
    """One metric: its kind, what it says, and its labels beside ``run``."""

    kind: Literal["counter", "gauge"]
    text: str
    labels: tuple[str, ...] = ()


METRICS: Mapping[str, Metric] = {
    "hojoint_videos": Metric("counter", "Videos an actor has finished, committed or not", ("stage", "outcome")),
    "hojoint_frames": Metric("counter", "Frames an actor has judged, committed or not", ("stage", "verdict")),
    "hojoint_seconds": Metric("counter", "Seconds of an actor by phase", ("stage", "phase")),
    "hojoint_actors_alive": Metric("gauge", "Actors that live", ("stage",)),
    "hojoint_actors_wanted": Metric("gauge", "Actors that the run asks for and has units for", ("stage",)),
    "hojoint_committed_videos": Metric("gauge", "Videos in committed units", ("stage", "outcome")),
    "hojoint_committed_frames": Metric("gauge", "Frames in committed units", ("stage", "verdict")),
    "hojoint_quarantined_videos": Metric("gauge", "Videos in quarantine, by class", ("stage", "class")),
    "hojoint_listed_videos": Metric("gauge", "Videos of the run", ("stage",)),
    "hojoint_last_commit_timestamp_seconds": Metric("gauge", "When a unit was last committed", ("stage",)),
    "hojoint_eta_seconds": Metric("gauge", "Time left at the rate of this process's commits", ("stage",)),
    "hojoint_store_retries": Metric("counter", "Requests to object storage that were tried again", ("store", "reason")),
    "hojoint_training_steps": Metric("gauge", "Steps taken", ("stage",)),
    "hojoint_training_steps_wanted": Metric("gauge", "Steps of the run at most", ("stage",)),
    "hojoint_training_samples": Metric("counter", "Samples this process has trained on", ("stage",)),
    "hojoint_training_loss": Metric("gauge", "Mean loss since the last report", ("stage",)),
    "hojoint_training_held_out_mpjpe_mm": Metric("gauge", "MPJPE on held-out recordings, mm", ("stage",)),
    "hojoint_training_workers": Metric("gauge", "Training workers", ("stage",)),
}
"""Name -> metric. A counter ends in ``_total`` where Prometheus reads it."""


def of_run(name: str, run: str, **labels: str) -> Any:
    """The metric ``name`` of ``METRICS``, with the label ``run`` and some of its others set."""
    metric = METRICS[name]
    make = exported.Counter if metric.kind == "counter" else exported.Gauge
    made = make(name, metric.text, (RUN, *metric.labels))
    return made.set_default_tags({RUN: run, **labels})


_work = {RUN: ""}
"""The output that this process works on: requests are made far from where it is known."""


def work_for(run: str) -> None:
    """From now on this process works for the run with this output; '' means none."""
    _work[RUN] = run


def count_retry(store: str, reason: str) -> None:
    """A request to ``store`` was tried again; outside Ray it is only said on stderr."""
    if ray.is_initialized():
        of_run("hojoint_store_retries", _work[RUN] or store, store=store).inc(1, {"reason": reason})


class Held:
    """Gauges of a run that are set again every ``AGAIN_S`` from ``with`` to its end; the process works for it then."""

    def __init__(self, run: str = "") -> None:
        self._run = run
        self._values: dict[tuple[str, tuple[tuple[str, str], ...]], tuple[Any, float]] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Self:
        work_for(self._run)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        work_for("")
        self._ended.set()
        self._thread.join(CLOSE_S)

    def hold(self, gauge: Any, value: float, **labels: str) -> None:
        """Set a gauge of ``of_run`` now, and again until the end."""
        gauge.set(value, labels)
        with self._lock:
            self._values[gauge.info["name"], tuple(sorted(labels.items()))] = (gauge, value)

    def _follow(self) -> None:
        while not self._ended.wait(AGAIN_S):
            with self._lock:
                held = list(self._values.items())
            for (_, labels), (gauge, value) in held:
                gauge.set(value, dict(labels))


class CommittedGauges(Held):
    """The exact state of a run that commits units, set by its driver."""

    def __init__(self, stage: str, run: str, *, videos: int, done: int, now: Callable[[], float] = time.time) -> None:
        """``videos`` of the run, of which ``done`` were committed before this process."""
        super().__init__(run)
        self._now, self._total, self._before, self._began = now, videos, done, now()
        names = {"videos": "hojoint_committed_videos", "frames": "hojoint_committed_frames"}
        names |= {"quarantine": "hojoint_quarantined_videos", "last": "hojoint_last_commit_timestamp_seconds"}
        names |= {"left": "hojoint_eta_seconds", "listed": "hojoint_listed_videos"}
        self._gauges = {short: of_run(name, run, stage=stage) for short, name in names.items()}
        self.hold(self._gauges["listed"], videos)

    def show(
        self, videos: Mapping[str, int], frames: Mapping[str, int], quarantine: Mapping[str, int], *, committed: bool
    ) -> None:
        """Set the totals; ``committed`` says that a unit was committed now."""
        for gauge, label, counts in (
            ("videos", "outcome", videos),
            ("frames", "verdict", frames),
            ("quarantine", "class", quarantine),
        ):
            for word, count in counts.items():
                self.hold(self._gauges[gauge], count, **{label: word})
        if not committed:
            return
        self.hold(self._gauges["last"], self._now())
        done = sum(videos.values())
        if done > self._before:
            left = (self._total - done) * (self._now() - self._began) / (done - self._before)
            self.hold(self._gauges["left"], left)


class TrainingMetrics(Held):
    """What a training worker shows."""

    def __init__(self, stage: str, run: str, steps: int) -> None:
        """``stage`` is the training's name, as in teacher; ``steps`` the most it will take."""
        super().__init__(run)
        names = ("steps", "steps_wanted", "samples", "loss", "held_out_mpjpe_mm", "workers")
        self._shown = {name: of_run(f"hojoint_training_{name}", run, stage=stage) for name in names}
        self._wanted = steps

    def stepped(self, samples: int) -> None:
        """Every worker: a step over so many samples of its own."""
        self._shown["samples"].inc(samples)

    def show(self, steps: int, loss: float, held_out_mm: float | None, workers: int) -> None:
        """The first worker: how far the run is."""
        self.hold(self._shown["steps"], steps)
        self.hold(self._shown["steps_wanted"], self._wanted)
        self.hold(self._shown["loss"], loss)
        self.hold(self._shown["workers"], workers)
        if held_out_mm is not None:
            self.hold(self._shown["held_out_mpjpe_mm"], held_out_mm)
