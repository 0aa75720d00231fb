"""What each worker of a training run does: open the data, build the network, take its share of every step, report.

A thin shell around ``hojoint.training.engine.Training``. Ray Train starts it in one process or in many. After a failure
Ray Train starts it again, and it resumes from the last reported checkpoint, which holds the optimiser.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import ray.train
import ray.train.torch
import torch

from cluster.metrics import TrainingMetrics
from cluster.sources import mirror
from cluster.store import open_store, read_uri
from cluster.training.data import TrainingData, check_same, open_data
from hojoint import config as settings
from hojoint.config import Config
from hojoint.datasets.collate import Batch
from hojoint.errors import InputError
from hojoint.hand.factory import hand_layer
from hojoint.model import checkpoint
from hojoint.model.checkpoint import Checkpoint
from hojoint.model.network import HOJoint
from hojoint.training import stream
from hojoint.training.batches import Cached, ConcatSamples, Samples, loader
from hojoint.training.engine import Training
from hojoint.training.schedule import Schedule

FILE = "checkpoint.pt"
SPEED = "samples_per_s_of_a_worker"  # in what a worker reports, and in training.json
REPORT_EVERY_S = 0.5  # to the board
WARM_UP = 2  # steps before the clock of a run's speed starts: they allocate memory, and readers start


class Pace:
    """The speed of one worker since it started, by its own clock."""

    def __init__(self) -> None:
        self._steps, self._samples, self._begun = 0, 0, 0.0

    def stepped(self, samples: int) -> None:
        """One step more, on so many samples."""
        self._steps += 1
        if self._steps > WARM_UP:
            self._samples += samples
        elif self._steps == WARM_UP:
            self._begun = time.perf_counter()

    @property
    def samples_per_s(self) -> float | None:
        """Of the steps after the first; None before the first of these. The caller waits for the GPU before."""
        return self._samples / (time.perf_counter() - self._begun) if self._samples else None


def work(job: dict[str, Any]) -> None:
    """The loop of one worker; ``job`` holds the settings' tree, the parents, the board and the run's output."""
    config = settings.from_tree(job["config"])
    context = ray.train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    threads = config.cluster.threads or max(1, int(config.cluster.worker_cpus))
    torch.set_num_threads(threads)
    cv2.setNumThreads(1)
    board = job["board"] if rank == 0 else None
    if rank == 0:
        open_store(job["output"]).exists(FILE)  # a worker that starts again in an outage waits for its end here
    if board is not None:
        board.put.remote(stage="reading images", workers=workers)
    data = open_data(config)
    check_same(data.fingerprints(), job["parents"]["data"])
    schedule = data.schedule(config)
    union = None if data.streams else data.union(cached=config.train.cache, threads=threads + 1)
    training = _training(config, schedule, _held_out(data, config, rank, threads + 1))
    if training.ended is not None:  # stopped after its last checkpoint
        return
    with TrainingMetrics(config.name, job["output"], schedule.steps) as shown:
        drawn = batches(data, union, schedule, config, start=training.steps, rank=rank, workers=workers)
        _train(training, drawn, job, rank=rank, workers=workers, shown=shown, board=board)


def _train(
    training: Training,
    drawn: Iterator[Batch],
    job: dict[str, Any],
    *,
    rank: int,
    workers: int,
    shown: TrainingMetrics,
    board: Any,
) -> None:
    """Step over the batches that are left, to the end of the schedule or to a plateau; reports on the way."""
    reported_at, pace = 0.0, Pace()
    for batch in drawn:
        training.step(batch)
        shown.stepped(len(batch.keys))
        pace.stepped(len(batch.keys))
        if board is not None and time.monotonic() - reported_at > REPORT_EVERY_S:
            reported_at = time.monotonic()
            loss = training.recent().get("total", float("nan"))
            measured = training.validation[-1] if training.validation else {}
            board.put.remote(stage="training", done=training.steps, loss=loss, held_out=measured.get("mpjpe_mm"))
            shown.show(training.steps, loss, measured.get("mpjpe_mm"), workers)
        if _due(training) or training.ended is not None:
            _report(training, job["parents"], rank, pace)
        if training.ended is not None:
            break


def _due(training: Training) -> bool:
    """Whether this step ends with a checkpoint: a function of its number, for all workers report the same steps."""
    train = training.config.train
    every = train.checkpoint_every_epochs * training.schedule.steps_per_epoch
    return training.steps % every % train.checkpoint_steps == 0


def batches(
    data: TrainingData,
    union: ConcatSamples | None,
    schedule: Schedule,
    config: Config,
    *,
    start: int,
    rank: int = 0,
    workers: int = 1,
) -> Iterator[Batch]:
    """A worker's batches from step ``start``: of samples in memory or in files (``union``), or streamed (None)."""
    train = config.train
    if union is None:
        shards, threads = data.shards(), train.loader_processes
        return stream.loader(shards, schedule, start=start, rank=rank, workers=workers, threads=threads)
    processes = 0 if train.cache else train.loader_processes
    return loader(union, schedule, start=start, rank=rank, workers=workers, processes=processes)


def _held_out(data: TrainingData, config: Config, rank: int, threads: int) -> Samples | None:
    """The recordings that are measured after every epoch; the first worker reads them, the others follow."""
    if data.held_out is None or rank != 0 or not config.train.cache:
        return data.held_out
    return Cached(data.held_out, threads)


def _training(config: Config, schedule: Schedule, held_out: Samples | None = None) -> Training:
    """A network at the start of its training, or as the last checkpoint left it."""
    device = ray.train.torch.get_device()
    assert isinstance(device, torch.device)
    torch.manual_seed(config.seed)  # every worker starts from the same weights
    last = ray.train.get_checkpoint()
    # Pretrained weights that are replaced at once are not fetched: this machine may have no way to them.
    filled = config.train.init_checkpoint is not None or last is not None
    network = checkpoint.empty(config.model) if filled else HOJoint(mirror.localised(config, "model.pretrained").model)
    network = network.to(memory_format=torch.channels_last)
    if config.train.init_checkpoint is not None and last is None:
        start_from(network, config.train.init_checkpoint)
    wrapped = ray.train.torch.prepare_model(network)
    layer = hand_layer(mirror.localised(config, "mano").mano).to(device)
    training = Training(config, schedule, wrapped, layer, device, held_out)
    if last is not None:
        with last.as_directory() as folder:
            training.restore(checkpoint.load(Path(folder) / FILE))
    return training


def start_from(network: HOJoint, uri: str) -> Checkpoint:
    """Load the weights of a checkpoint of the same network, and return it.

    Raises:
        InputError: the checkpoint cannot be read or holds another network.
    """
    try:
        saved = checkpoint.load(read_uri(uri))
    except InputError as error:
        raise InputError(f"train.init_checkpoint={uri}: {error}") from None
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    saved_shapes = {name: tuple(value.shape) for name, value in saved.weights.items()}
    if saved_shapes != shapes:
        wrong = sum(saved_shapes.get(name) != shapes.get(name) for name in shapes.keys() | saved_shapes.keys())
        raise InputError(
            f"train.init_checkpoint={uri} holds another network ({wrong} of its tensors differ from this run's); give "
            "the run the 'model' settings that are stored in the checkpoint, or give another checkpoint"
        )
    network.load_state_dict(saved.weights)
    return saved


def _report(training: Training, parents: dict[str, Any], rank: int, pace: Pace) -> None:
    """Send a checkpoint to the run's storage; all workers wait for each other here."""
    loss = training.recent().get("total", float("nan"))  # waits for the GPU
    metrics = {"steps": training.steps, "loss": loss, SPEED: pace.samples_per_s}
    if rank != 0:
        ray.train.report(metrics)
        return
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / FILE).write_bytes(training.save(parents))
        ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))
