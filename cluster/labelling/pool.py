"""Units through Ray Data: one row per unit, a pool of actors, and messages instead of tracebacks.

Labelling (``run``), refiltering and detection send their units through here. Ray would make a traceback of an
InputError in an actor and end the dataset at any exception, so an actor returns both as rows: the driver raises the
message again, or notes that the unit failed and continues. Not here: what happens to a unit.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import ray
from ray.data import ActorPoolStrategy
from ray.data.context import AutoscalingConfig

from cluster import ending
from cluster.labelling import sharing
from cluster.labelling.commits import Commit, commit_key
from cluster.labelling.counts import Counts
from cluster.labelling.failures import Failures, UnitFailure
from cluster.labelling.stalls import Watch
from cluster.store import Store
from hojoint.errors import InputError, MachineError, Unavailable

TRIES = 2  # at a unit that fails, the second after all others
STARTS = 3  # actors in a row that do not start, until the reason ends the run

# Ray Data's own thresholds never let a pool grow whose actors have one task each: that is a use of 1.0, and it adds
# actors from 1.75 on. With these it replaces an actor that it gave up, and keeps one that waits a moment for its task.
SCALING = AutoscalingConfig(actor_pool_util_upscaling_threshold=1.0, actor_pool_util_downscaling_threshold=-1.0)


class Worker(Protocol):
    """What an actor holds: callable on the row of a unit."""

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Returns ``{"commit": JSON bytes}``, empty if another attempt at the unit was first."""


class UnitActor:
    """An actor around a worker.

    Its rows are ``{"commit": bytes, "refused": message of an InputError or empty, "failed": UnitFailure or empty}``.
    """

    def __init__(self, make: Callable[[], Worker]) -> None:
        """An exception that is none of those below ends this actor; Ray starts another in its place."""
        self.worker: Worker | None = None
        self._refused = ""
        self._away: Unavailable | None = None
        try:
            self.worker = make()
        except InputError as error:
            self._refused = str(error)
        except Unavailable as error:
            self._away = error

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        failed = ""
        try:
            if self._away is not None:
                raise self._away
            if self.worker is not None and not self._refused:
                return self.worker(row) | {"refused": "", "failed": ""}
        except InputError as error:
            self._refused = str(error)
        except Exception as error:
            failed = UnitFailure.of(row["unit"], error).to_json()
        return {"commit": b"", "refused": self._refused, "failed": failed}


def size(actors: tuple[int, int], rows: int) -> tuple[int, int]:
    """Smallest and largest number of actors for so many rows: never more than one for each."""
    smallest, largest = (min(count, rows) for count in actors)
    return smallest, largest


def _strategy(actors: tuple[int, int], rows: int) -> ActorPoolStrategy:
    """A pool that asks for its largest number at once.

    It would add actors one by one, each when the one before has loaded its network. A demand that waits also tells the
    cluster's autoscaler how many nodes are wanted.
    """
    smallest, largest = size(actors, rows)
    # One unit at a time for each: a second one in its queue would wait there while another actor is idle.
    return ActorPoolStrategy(min_size=smallest, max_size=largest, initial_size=largest, max_tasks_in_flight_per_actor=1)


def commit_all(
    make: Callable[[], Worker],
    rows: Sequence[Mapping[str, Any]],
    *,
    store: Store,
    actors: tuple[int, int],
    cpus: float,
    gpus: float = 0.0,
    counts_of: Callable[[dict[str, Any]], Any] = Counts.of,
    watch: Watch | None = None,
    tell: Callable[[int], None] = lambda left: None,
) -> Iterator[Commit | None]:
    """The commits of all rows as they come, None for a unit that another attempt committed first.

    ``make`` builds a worker inside each actor; ``actors`` is their smallest and largest number. The largest number is
    asked for at once: what the cluster holds starts, the rest waits and starts on nodes that come later. ``counts_of``
    reads the counts of a commit, ``watch`` knows when the run has stalled, ``tell`` is told how many units are left.

    Raises:
        InputError: a worker raised one, or a commit is not in ``store`` as the driver sees it.
        Unavailable: a store or room is missing, or nothing is finished any more.
        MachineError: no actor starts, or units failed twice; all others are committed then.
    """
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # its faults come as exceptions; no need to log them too
    watch = watch or Watch()
    left = list(rows)
    for _ in range(TRIES):
        failures = Failures(size(actors, len(left))[1])
        tell(len(left))
        for number, row in enumerate(_answers(_dataset(make, left, actors, cpus, gpus), watch), start=1):
            tell(len(left) - number)
            if row["refused"]:
                raise InputError(row["refused"])
            if row["failed"]:
                failures.add(UnitFailure.from_json(row["failed"]))
                watch.finished(None)
                continue
            commit = Commit.from_bytes(row["commit"], counts_of) if row["commit"] else None
            if commit is not None:
                sharing.check_commits(store, [] if store.exists(commit_key(commit.unit)) else [commit.unit])
            failures.success()
            watch.finished(commit)
            yield commit
        left = [row for row in left if row["unit"] in failures.units]
        if not left:
            return
    failures.end(f"{len(left)} of {len(rows)} units failed {TRIES} times")


def _dataset(
    make: Callable[[], Worker], rows: Sequence[Mapping[str, Any]], actors: tuple[int, int], cpus: float, gpus: float
) -> Any:
    """The rows on their way through a pool of actors.

    One row per block, so that a finished unit arrives at once; from_items has no read tasks that could wait for the
    CPUs that the actors hold.
    """
    dataset = ray.data.from_items(list(rows), override_num_blocks=len(rows)).map(
        UnitActor,  # type: ignore[arg-type]  # Ray's hints know functions only
        fn_constructor_kwargs={"make": make},
        compute=_strategy(actors, len(rows)),
        num_cpus=cpus,
        num_gpus=gpus,
    )
    dataset.context.autoscaling_config = SCALING
    dataset.context.execution_no_progress_timeout_s = -1  # ``watch`` knows what is long for these units
    dataset.context.max_consecutive_actor_init_deaths = STARTS - 1
    dataset.context.enable_progress_bars = False  # the drivers draw them
    return dataset


def _answers(dataset: Any, watch: Watch) -> Iterator[dict[str, Any]]:
    """The rows that come back; waiting for one can be interrupted, and ends when the run has stalled.

    Raises:
        MachineError: Ray gave the dataset up.
    """
    coming = iter(dataset.iter_rows())
    try:
        while (row := ending.interruptibly(lambda: next(coming, None), watch.look)) is not None:
            yield row
    except ray.exceptions.RayError as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise MachineError(
            f"the actors of this run did not start or were lost, {STARTS} in a row: {lines[-1].strip()}. The same "
            "command resumes"
        ) from error
