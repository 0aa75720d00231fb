"""Supervised training and retraining on Ray Train (Sec. 5.2, 6.1): one function, whatever the data sets.

A stopped run resumes from its last checkpoint when the same job is called again, and never from another run's: ``job``
names it. A finished run leaves ``checkpoint.pt`` (without the optimiser) and ``training.json`` under the output. A
worker's loop is in ``worker``, a step in ``hojoint.training.engine``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.fs
import ray.train
from ray.train import CheckpointConfig, FailureConfig, Result, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from cluster import capacity, ending, session, waiting
from cluster.capacity import Need
from cluster.labelling import presence
from cluster.progress import Progress, State, new_board
from cluster.store import Store, arrow, open_store
from cluster.training.job import FACTS, PRECISION, TrainingJob, TrainResult, finished, plan_job, precision_of
from cluster.training.worker import FILE, SPEED, work
from hojoint import config as settings
from hojoint.config import ClusterConfig, Config
from hojoint.errors import InputError, NoRoom, Unavailable
from hojoint.model import checkpoint
from hojoint.model.checkpoint import Checkpoint

RUNS = "runs"
RESIZE_S = 60.0  # between two looks whether an elastic run could have other workers; a change costs a restart
STARTS = 3  # tries to start the workers; each waits RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S (``session``)
NOT_OUTAGES = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
LOST = (*session.LOST, ray.exceptions.RayActorError, ray.train.PreemptionError)
OUTAGES = 3  # of the storage that a run rides out, besides those that its workers do


class StorageAway(Unavailable):
    """A checkpoint could not be written or read."""


class TrainingStopped(RuntimeError):
    """Workers failed more often than cluster.max_failures allows; the message is that of the last failure."""


def _note_other_runs(job: TrainingJob, store: Store) -> None:
    """Print which unfinished runs lie in the output and are not resumed."""
    names = {key.split("/")[1] for key in store.list(RUNS) if key.count("/") > 1}
    for name in sorted(names - {job.name}):
        print(
            f"note: {store.uri(RUNS)}/{name} is an unfinished run with another name, other settings or data, or of an "
            "earlier version; it is not resumed and can be removed"
        )


def needs(config: Config) -> list[Need]:
    """What the smallest number of workers needs from the cluster."""
    size = config.cluster
    return [Need("training workers", size.workers[0], size.worker_cpus, size.worker_gpus)]


def feasible(job: TrainingJob, store: Store) -> str:
    """As ``capacity.feasibility``, for the smallest number of workers. A run with a checkpoint has begun."""
    begun = any(key.endswith(f"/{FILE}") for key in store.list(f"{RUNS}/{job.name}"))
    return capacity.feasibility(job.config.cluster, needs(job.config), begun=begun)


def fit(config: Config, output: str, *, progress: bool = True) -> TrainResult:
    """Train to the end. A stopped run resumes; of a finished run the result is returned. A driver that is at work on it
    already is waited for.

    Raises:
        InputError: see ``plan_job``, ``finished`` and ``capacity.feasibility``.
        TrainingStopped: workers failed too often.
        Unavailable: the storage was away, or workers did not start or were lost with their nodes; see also
            ``capacity.feasibility``.
    """
    store = open_store(output)
    job = plan_job(config)
    done = finished(job, store)
    if done is not None:
        return done
    _note_other_runs(job, store)
    feasible(job, store)  # before the driver's note: a run that cannot start leaves nothing
    with presence.alone(store, "trains", job.name):  # two would write and remove the same folder
        done = finished(job, store)  # by the driver that this one has waited for
        return _fitted(job, store, progress=progress) if done is None else done


def _fitted(job: TrainingJob, store: Store, *, progress: bool) -> TrainResult:
    started = time.monotonic()
    with session.start(job.config.cluster):
        ran = _run(job, store, progress=progress)
        saved = _last_checkpoint(ran, store)
    store.put(FILE, checkpoint.final(saved))
    seconds = round(time.monotonic() - started, 2)
    speed = (ran.metrics or {}).get(SPEED)
    store.put(FACTS, json.dumps(_facts(job, saved, seconds, speed), indent=1).encode())
    filesystem, root = store.filesystem()
    with contextlib.suppress(OSError):  # a finished run needs its folder no more
        filesystem.delete_dir(f"{root}/{RUNS}/{job.name}")
    result = finished(job, store)
    assert result is not None
    return dataclasses.replace(result, reused=False)


def _facts(job: TrainingJob, saved: Checkpoint, seconds: float, speed: float | None) -> dict[str, Any]:
    """The content of ``training.json``."""
    return {
        "name": job.name,
        "steps": saved.progress["steps"],
        "samples": len(job.data),
        "datasets": {name: len(samples) for name, samples in zip(job.data.names, job.data.sets, strict=True)},
        "seconds": seconds,
        SPEED: None if speed is None else round(speed, 2),
        "sha256": saved.sha256,
        "parents": job.parents,
        "history": saved.progress["history"],
        "validation": saved.progress["validation"],
        "ended": saved.progress["ended"],
        "identity": job.identity,
        PRECISION: precision_of(job.config),
        "workers": job.config.cluster.workers,  # no part of the identity: a run may resume with others
    }


def _run(job: TrainingJob, store: Store, *, progress: bool) -> Result:
    """Run the workers to the end, with a bar over their steps."""
    board = new_board()
    trainer = _trainer(job, store, board)
    steps, text = job.schedule.steps, _position(job.schedule.steps_per_epoch, job.config.cluster.workers)
    bar = Progress(board, job.config.name, "step", total=steps, text=text) if progress else None
    with bar or contextlib.nullcontext():
        for outage in range(OUTAGES + 1):
            try:
                # In another thread: here Ray Train would take SIGINT for itself, and end with exit code 0.
                return ending.interruptibly(trainer.fit)
            except ray.train.TrainingFailedError as error:
                plain = _plain(error, job.config)
                if not isinstance(plain, StorageAway) or outage == OUTAGES:
                    raise plain from error
            store.exists(FACTS)  # waits until the storage answers again; the same trainer resumes by its name
            trainer = _trainer(job, store, board)
    raise AssertionError("the last try returns or raises")


def _position(steps_per_epoch: int, workers: tuple[int, int]) -> Callable[[State], str]:
    """The text of the bar, from the board's state; an elastic run also says how many workers it has."""

    def text(state: State) -> str:
        if state.get("stage") != "training":
            return str(state.get("stage", "starting"))
        measured = "" if state.get("held_out") is None else f", held out {state['held_out']:.1f} mm"
        size = f", workers {state['workers']} of {workers[1]}" if workers[0] != workers[1] else ""
        return f"epoch {state['done'] / steps_per_epoch:.1f}, loss {state['loss']:.2f}{measured}{size}"

    return text


def _trainer(job: TrainingJob, store: Store, board: Any) -> TorchTrainer:
    size = job.config.cluster
    filesystem, root = store.filesystem()
    if isinstance(filesystem, pyarrow.fs.LocalFileSystem):
        Path(root).mkdir(parents=True, exist_ok=True)
    return TorchTrainer(
        work,
        train_loop_config={
            "config": settings.to_tree(job.config),
            "parents": job.parents,
            "board": board,
            "output": store.root,
        },
        scaling_config=scaling_of(size),
        run_config=RunConfig(
            name=job.name,
            storage_path=f"{root}/{RUNS}",
            storage_filesystem=filesystem,
            failure_config=FailureConfig(
                max_failures=size.max_failures,
                controller_failure_limit=STARTS - 1,  # type: ignore[call-arg]  # mypy reads the class of Ray Train v1
            ),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
        ),
    )


def scaling_of(size: ClusterConfig) -> ScalingConfig:
    """How many workers, with what each; of a range as many as fit, and more or fewer as nodes come and go."""
    return ScalingConfig(
        num_workers=size.workers[0] if size.workers[0] == size.workers[1] else size.workers,  # type: ignore[arg-type]
        use_gpu=size.worker_gpus > 0,
        resources_per_worker={"CPU": size.worker_cpus} | ({"GPU": size.worker_gpus} if size.worker_gpus else {}),
        elastic_resize_monitor_interval_s=RESIZE_S,  # type: ignore[call-arg]
    )


def _plain(error: BaseException, config: Config) -> Exception:
    """What ended the training, as the command line knows it.

    An InputError or Unavailable that a worker raised; InputError for a loss that is not finite; StorageAway for a
    checkpoint that could not be written; Unavailable for workers that did not start or were lost with their nodes; else
    TrainingStopped.
    """
    failures = list(getattr(error, "worker_failures", {}).values()) or [error]
    causes = [cause for failure in failures for cause in waiting.causes(failure)]
    for kind in (InputError, NoRoom, Unavailable):
        for cause in causes:
            if isinstance(cause, kind):
                return kind(str(cause))
    for cause in causes:
        if isinstance(cause, FloatingPointError):  # of the settings, which would end there again
            return InputError(str(cause))
    last = _last_line(failures[0])
    if any(isinstance(cause, OSError) and not isinstance(cause, NOT_OUTAGES) for cause in causes):
        return StorageAway(f"training failed: {last}. The same command resumes")
    if any(type(cause).__name__.startswith("WorkerGroupStartup") for cause in causes):  # private classes of Ray
        return Unavailable(
            f"training workers did not start in {STARTS} tries: {last}. Needed: "
            f"{capacity.described(needs(config))}. The same command resumes"
        )
    lost = [failure for failure in failures if any(map(_is_lost, waiting.causes(failure)))]
    if lost:  # one is enough: the workers that live fail too, at what they do together with it
        return Unavailable(
            f"training failed, its workers were lost more than cluster.max_failures times: {_last_line(lost[0])}. The "
            "same command resumes"
        )
    return TrainingStopped(f"training failed: {last}")


def _last_line(failure: BaseException) -> str:
    return (str(failure).strip().splitlines() or [type(failure).__name__])[-1].rstrip(".")


def _is_lost(cause: BaseException) -> bool:
    """Whether it tells of a worker that is gone, or that has been silent for too long."""
    return isinstance(cause, LOST) or type(cause).__name__ == "WorkerHealthCheckTimeoutError"  # private to Ray


def _last_checkpoint(result: Result, store: Store) -> Checkpoint:
    """What the last step has left in ``store``, whose outages are ridden out here too."""
    last = result.checkpoint
    assert last is not None, "a run reports a checkpoint after its last step"

    def read() -> Checkpoint:
        with last.as_directory() as folder:
            return checkpoint.load(Path(folder) / FILE)

    return arrow.asked(store, read)
