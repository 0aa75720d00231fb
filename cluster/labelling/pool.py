"""Units through Ray Data: one row per unit, a pool of actors, and messages instead of tracebacks.

Labelling (``run``), refiltering and detection send their units through here. Ray would make a traceback of an
InputError in an actor, so an actor returns its message as a row, and the driver raises it again. Not here: what happens
to a unit.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import ray
from ray.data import ActorPoolStrategy
from ray.data.context import AutoscalingConfig

from cluster.labelling import sharing
from cluster.labelling.commits import Commit, Counts, commit_key
from cluster.store import Store
from hojoint.errors import InputError

STALL_S = 6 * 3600  # an actor that finishes no unit for this long hangs; Ray Data's half an hour is short for a CPU

# Ray Data's own thresholds never let a pool grow whose actors have one task each: that is a use of 1.0, and it adds
# actors from 1.75 on. With these it replaces an actor that it gave up, and keeps one that waits a moment for its task.
SCALING = AutoscalingConfig(actor_pool_util_upscaling_threshold=1.0, actor_pool_util_downscaling_threshold=-1.0)


class Worker(Protocol):
    """What an actor holds: callable on the row of a unit."""

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Returns ``{"commit": JSON bytes}``, empty if another attempt at the unit was first."""


class UnitActor:
    """An actor around a worker. Its rows are ``{"commit": bytes, "refused": message of an InputError or empty}``."""

    def __init__(self, make: Callable[[], Worker]) -> None:
        self.worker: Worker | None = None
        self._refused = ""
        try:
            self.worker = make()
        except InputError as error:
            self._refused = str(error)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        if self.worker is not None and not self._refused:
            try:
                return self.worker(row) | {"refused": ""}
            except InputError as error:
                self._refused = str(error)
        return {"commit": b"", "refused": self._refused}


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
) -> Iterator[Commit | None]:
    """The commits of all rows as they come, None for a unit that another attempt committed first.

    ``make`` builds a worker inside each actor; ``actors`` is their smallest and largest number. The largest number is
    asked for at once: what the cluster holds starts, the rest waits and starts on nodes that come later. ``counts_of``
    reads the counts of a commit.

    Raises:
        InputError: a worker raised one, or a commit is not in ``store`` as the driver sees it.
    """
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # its faults come as exceptions; no need to log them too
    # One row per block, so that a finished unit arrives at once; from_items has no read tasks that could wait for the
    # CPUs that the actors hold.
    dataset = ray.data.from_items(list(rows), override_num_blocks=len(rows)).map(
        UnitActor,  # type: ignore[arg-type]  # Ray's hints know functions only
        fn_constructor_kwargs={"make": make},
        compute=_strategy(actors, len(rows)),
        num_cpus=cpus,
        num_gpus=gpus,
    )
    dataset.context.autoscaling_config = SCALING
    dataset.context.execution_no_progress_timeout_s = STALL_S
    dataset.context.enable_progress_bars = False  # the drivers draw them
    for row in dataset.iter_rows():
        if row["refused"]:
            raise InputError(row["refused"])
        commit = Commit.from_bytes(row["commit"], counts_of) if row["commit"] else None
        if commit is not None:
            sharing.check_commits(store, [] if store.exists(commit_key(commit.unit)) else [commit.unit])
        yield commit
