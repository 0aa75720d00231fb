"""Supervised training and retraining on Ray Train (Sec. 5.2, 6.1): one function, whatever the data sets.

A run's name holds a digest of its settings and of its data, so a run that was stopped goes on from its last checkpoint
when the same job is called again, and never from another's. What is left at the end is ``checkpoint.pt`` and
``training.json`` under the output. The loop of a worker is ``train_worker``; the step is ``hojoint.training.engine``.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.fs
import ray
from ray.train import CheckpointConfig, FailureConfig, Result, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from tqdm import tqdm

from cluster import session
from cluster.labelling.units import differences
from cluster.session import Need
from cluster.store import Store, open_store
from cluster.training.data import TrainingData, labels_of, open_data
from cluster.training.worker import FILE, StepBoard, start_from, work
from hojoint import config as settings
from hojoint.config import Config
from hojoint.errors import InputError
from hojoint.model import checkpoint, encoder
from hojoint.training.schedule import Schedule

FACTS = "training.json"  # its presence says that the run is whole
RUNS = "runs"
POLL_S = 0.5
LINE_EVERY_S = 30.0  # where stderr is a file: a line now and then instead of a bar
RESULT_SETTINGS = ("seed", "model", "mano", "crop", "augment", "loss")
NOT_RESULT = {"loader_processes", "cache", "checkpoint_every_epochs"}  # of 'train': how, not what


class TrainingStopped(RuntimeError):
    """Workers failed more often than cluster.max_failures allows; the message is the last failure's."""


@dataclass(frozen=True)
class TrainResult:
    """What a run left behind."""

    checkpoint: str  # path or URI
    sha256: str  # of the weights
    steps: int
    samples: int
    history: list[dict[str, float]]  # one entry per epoch
    seconds: float  # of the call that finished it
    reused: bool  # it was finished before this call


@dataclass(frozen=True, eq=False)
class TrainingJob:
    """A run before it starts: what it is made of and what it would take."""

    config: Config
    data: TrainingData
    schedule: Schedule
    parents: dict[str, Any]  # for its checkpoints: data, and if it has any, teacher, labels, init_checkpoint
    identity: dict[str, Any]  # flat; two runs of one identity give one result
    name: str


def plan_job(config: Config) -> TrainingJob:
    """Open the data and count, without a cluster.

    Raises:
        InputError: data or the weights to start from are missing or wrong, or a batch is too small for its workers.
    """
    data = open_data(config)
    schedule = Schedule(config.train, labelled=data.labelled, pseudo=data.pseudo, seed=config.seed)
    if config.train.batch_size < config.cluster.workers[1]:
        raise InputError(
            f"train.batch_size={config.train.batch_size} is too small to be shared by "
            f"cluster.workers={config.cluster.workers[1]}; every worker needs a sample"
        )
    parents: dict[str, Any] = labels_of(config) if data.pseudo else {}
    identity: dict[str, Any] = {f"parents.{name}": value for name, value in parents.items()}
    parents["data"] = data.fingerprints()
    identity |= {f"data.{name}": value for name, value in parents["data"].items()}
    tree = settings.to_tree(config)
    tree["train"] = {key: value for key, value in tree["train"].items() if key not in NOT_RESULT}
    tree["train"]["init_checkpoint"] = _init_checksum(config)
    if tree["train"]["init_checkpoint"] is not None:
        parents["init_checkpoint"] = tree["train"]["init_checkpoint"]
    for group in (*RESULT_SETTINGS, "train"):
        values = tree[group] if isinstance(tree[group], dict) else {"": tree[group]}
        identity |= {f"{group}.{key}".rstrip("."): value for key, value in values.items()}
    return TrainingJob(config, data, schedule, parents, identity, f"{config.name}-{settings.digest(identity)}")


def _init_checksum(config: Config) -> str | None:
    """Checksum of the checkpoint to start from, if there is one; else pretrained weights are looked at, not fetched."""
    if config.train.init_checkpoint is None:
        encoder.check_pretrained(config.model)
        return None
    network = checkpoint.empty(config.model)
    start_from(network, config.train.init_checkpoint)
    return checkpoint.weights_sha256(network.state_dict())


def needs(config: Config) -> list[Need]:
    """What the smallest number of workers takes of the cluster."""
    size = config.cluster
    return [Need("training workers", size.workers[0], size.worker_cpus, size.worker_gpus)]


def finished(job: TrainingJob, store: Store) -> TrainResult | None:
    """The result that an earlier call left in the output, if it is this job's.

    Raises:
        InputError: the output holds another run's result.
    """
    if not store.exists(FACTS):
        return None
    facts = json.loads(store.get(FACTS))
    different = differences(settings.renamed(facts["identity"]), json.loads(json.dumps(job.identity)))
    if different:
        listed = "\n  ".join(different[:8])
        raise InputError(
            f"{store.root} holds a network that was trained otherwise ({len(different)} differences):\n  {listed}\n"
            "Give another output, or remove that one"
        )
    if not store.exists(FILE):
        raise InputError(f"{store.root} has {FACTS} but no {FILE}; remove {FACTS} to train again")
    return TrainResult(
        checkpoint=store.uri(FILE),
        sha256=facts["sha256"],
        steps=facts["steps"],
        samples=facts["samples"],
        history=facts["history"],
        seconds=facts["seconds"],
        reused=True,
    )


def fit(config: Config, output: str, *, progress: bool = True) -> TrainResult:
    """Train to the end, going on where an earlier call stopped; a finished run is returned as it is.

    Raises:
        InputError: see ``plan_job``, ``finished`` and ``session.feasibility``.
        TrainingStopped: workers failed too often.
    """
    store = open_store(output)
    job = plan_job(config)
    done = finished(job, store)
    if done is not None:
        return done
    started = time.monotonic()
    session.feasibility(config.cluster, needs(config))
    with session.start(config.cluster):
        data = _checkpoint_bytes(_run(job, store, progress=progress))
    saved = checkpoint.load(data)
    facts = {
        "name": job.name,
        "steps": saved.progress["steps"],
        "samples": len(job.data),
        "datasets": {name: len(each) for name, each in zip(job.data.names, job.data.sets, strict=True)},
        "seconds": round(time.monotonic() - started, 2),
        "sha256": saved.sha256,
        "parents": job.parents,
        "history": saved.progress["history"],
        "identity": job.identity,
    }
    store.put(FILE, data)
    store.put(FACTS, json.dumps(facts, indent=1).encode())
    filesystem, root = store.filesystem()
    with contextlib.suppress(OSError):  # what is left of a finished run is only in the way
        filesystem.delete_dir(f"{root}/{RUNS}/{job.name}")
    result = finished(job, store)
    assert result is not None
    return TrainResult(**{**vars(result), "reused": False})


def _run(job: TrainingJob, store: Store, *, progress: bool) -> Result:
    size = job.config.cluster
    filesystem, root = store.filesystem()
    if isinstance(filesystem, pyarrow.fs.LocalFileSystem):
        Path(root).mkdir(parents=True, exist_ok=True)
    board = StepBoard.remote()  # type: ignore[attr-defined]
    resources = {"CPU": size.worker_cpus} | ({"GPU": size.worker_gpus} if size.worker_gpus else {})
    trainer = TorchTrainer(
        work,
        train_loop_config={"config": settings.to_tree(job.config), "parents": job.parents, "board": board},
        scaling_config=ScalingConfig(
            num_workers=size.workers[0] if size.workers[0] == size.workers[1] else size.workers,  # type: ignore[arg-type]
            use_gpu=size.worker_gpus > 0,
            resources_per_worker=resources,
        ),
        run_config=RunConfig(
            name=job.name,
            storage_path=f"{root}/{RUNS}",
            storage_filesystem=filesystem,
            failure_config=FailureConfig(max_failures=size.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
        ),
    )
    with _bar(board, job, shown=progress):
        try:
            return trainer.fit()
        except ray.train.TrainingFailedError as error:
            raise _plain(error) from error


def _plain(error: BaseException) -> Exception:
    """The user's error if a worker met one, else ours with the first failure's last line."""
    failures = list(getattr(error, "worker_failures", {}).values()) or [error]
    for failure in failures:
        cause: BaseException | None = failure
        while cause is not None:
            inner = getattr(cause, "_base_exc", None) or cause.__cause__
            if isinstance(cause, InputError):
                return InputError(str(cause))
            cause = inner
    last = str(failures[0]).strip().splitlines()
    return TrainingStopped(f"training failed: {last[-1] if last else type(failures[0]).__name__}")


def _checkpoint_bytes(result: Result) -> bytes:
    assert result.checkpoint is not None, "a run that ended has reported its last checkpoint"
    with result.checkpoint.as_directory() as folder:
        return (Path(folder) / FILE).read_bytes()


@contextlib.contextmanager
def _bar(board: Any, job: TrainingJob, *, shown: bool) -> Iterator[None]:
    """A bar over steps in the driver, moved by the board from a thread of its own."""
    stop = threading.Event()
    thread = threading.Thread(target=_follow, args=(board, job, stop), daemon=True)
    if shown:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        if shown:
            thread.join()


def _follow(board: Any, job: TrainingJob, stop: threading.Event) -> None:
    on_terminal = sys.stderr.isatty()
    last_line = time.monotonic()
    with tqdm(
        total=job.schedule.steps, desc=job.config.name, unit="step", smoothing=0.05, disable=not on_terminal,
        dynamic_ncols=True,
    ) as bar:  # fmt: skip
        while not stop.wait(POLL_S):
            try:
                stage, steps, loss = ray.get(board.read.remote(), timeout=10)
            except ray.exceptions.RayError:
                continue  # the board is for the eye only
            epoch = steps / job.schedule.steps_per_epoch
            words = f"epoch {epoch:.1f}, loss {loss:.2f}" if stage == "training" else stage
            if on_terminal:
                bar.n = steps
                bar.set_postfix_str(words)
            elif time.monotonic() - last_line > LINE_EVERY_S:
                last_line = time.monotonic()
                print(f"{job.config.name}: step {steps} of {job.schedule.steps}, {words}", file=sys.stderr, flush=True)
