"""Speed of training: one step repeated on a batch in memory, and the complete loop on Ray Train.

Measured like the other parts (``benchmarks``). Not here: training from streams (``stream_bench``), printing
(``jobs.bench``).
"""

from __future__ import annotations

import statistics
import tempfile
import time
import uuid
from pathlib import Path

import torch

from cluster import matrix_speed, session
from cluster.benchmarks import MATRIX_SPEED, Speeds, take_turns
from cluster.memory import PeakMemory
from cluster.sources import mirror
from cluster.training import job as training_job
from cluster.training import run as training
from cluster.training.worker import WARM_UP
from hojoint.config import Config, changed
from hojoint.hand.factory import hand_layer
from hojoint.model.network import HOJoint
from hojoint.training.batches import ConcatSamples, loader
from hojoint.training.engine import Training
from hojoint.training.schedule import Schedule


def measured(config: Config, dataset: str = "ho3d") -> Config:
    """The settings of a training whose speed is measured: on all of one set, from scratch, by the fewest workers."""
    alone = {"datasets": (dataset,), "init_checkpoint": None, "pseudo_share": None}
    return changed(
        config,
        train={**alone, "held_out": 0, "plateau_epochs": None},
        model={"pretrained": None},
        cluster={"workers": (config.cluster.workers[0],) * 2},
    )


def training_speeds(config: Config) -> Speeds:
    """One step repeated on a batch in memory, and the complete loop on Ray Train, in samples per second.

    The loop's speed is by the clock of its worker, after its first steps, so that the start of workers does not count.
    Beside them stands the step's arithmetic at this device's speed of large matrix products.
    """
    with tempfile.TemporaryDirectory(prefix="bench") as folder, session.start(config.cluster):
        config = measured(config)
        job = training_job.plan_job(config)
        batch = next(loader(ConcatSamples(job.data.sets), job.schedule, start=0))
        alone = _alone(config, job.schedule)
        alone.step(batch)  # the first step allocates memory
        operations = matrix_speed.operations(lambda: alone.step(batch)) / len(batch)
        halved = config.train.mixed_precision and alone.device.type == "cuda"
        dtype = torch.bfloat16 if halved else torch.float32

        def at_matrix_speed() -> float:
            return matrix_speed.matrix_rate(alone.device, dtype) / operations

        def step_alone() -> float:
            started = time.perf_counter()
            for _ in range(config.bench.steps):
                alone.step(batch)
            alone.recent()  # waits for the GPU
            return config.bench.steps * config.train.batch_size / (time.perf_counter() - started)

        def complete_loop() -> float:
            sized = changed(config, train={"steps": WARM_UP + config.bench.steps})
            trained = training.fit(sized, str(Path(folder) / uuid.uuid4().hex), progress=False)
            assert trained.samples_per_s_of_a_worker is not None, "steps follow the first ones"
            return trained.samples_per_s_of_a_worker * config.cluster.workers[0]

        memory = PeakMemory()
        with memory:
            parts = {MATRIX_SPEED: at_matrix_speed, "step alone": step_alone, "complete loop": complete_loop}
            speeds = take_turns(parts, config.bench.repeats)
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    facts = {
        "batch": config.train.batch_size,
        "steps": config.bench.steps,
        "ratio": round(medians["complete loop"] / medians["step alone"], 3),
        "mflop_per_sample": round(operations / 1e6, 1),
        "matrix_gflops": round(operations * medians[MATRIX_SPEED] / 1e9, 1),
        "matrix_utilisation": round(medians["step alone"] / medians[MATRIX_SPEED], 3),
        "peak_mb": {name: round(size) for name, size in sorted(memory.peaks_mb.items())},
    }
    return Speeds("samples/s", speeds, facts)


def _alone(config: Config, schedule: Schedule) -> Training:
    torch.set_num_threads(config.cluster.threads or max(1, int(config.cluster.worker_cpus)))
    device = "cuda" if config.cluster.worker_gpus > 0 else "cpu"
    torch.manual_seed(config.seed)
    network = HOJoint(config.model).to(device).to(memory_format=torch.channels_last)  # as a worker has it
    return Training(config, schedule, network, hand_layer(mirror.localised(config, "mano").mano).to(device), device)
