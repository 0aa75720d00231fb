"""Training from a stream beside training on samples in memory: steps, resident memory, time to the first step.

Every measurement is a process of its own, or the memory of one would be counted for the next. The tables are
pseudo-labels with generated images: a few shards that all commits name in turn, so that a million rows are made in
seconds and each of them is read, checked and decoded. Not here: printing (``jobs.bench``).
"""

from __future__ import annotations

import hashlib
import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import ray
import torch

from cluster import session, training_bench
from cluster.benchmarks import Speeds
from cluster.labelling import commits
from cluster.labelling.counts import Counts
from cluster.labelling.units import unit_id
from cluster.memory import PeakMemory
from cluster.sources import mirror
from cluster.store import Store, open_store
from cluster.training import shards
from cluster.training.data import open_data
from cluster.training.worker import WARM_UP, batches
from hojoint import config as settings
from hojoint.config import Config, changed
from hojoint.hand.factory import hand_layer
from hojoint.labelling import reasons, tables
from hojoint.model.network import HOJoint
from hojoint.training.engine import Training

SHARD_ROWS = 1000  # about those of a unit of 64 videos
DISTINCT = 8  # shards with a content of their own
IMAGE_PX = 180  # side of the stored regions: twice a hand in a video of 240 lines
TURNS = 3  # windows that are read through, so that memory has been let go and taken again
WRITERS = 16


def stream_speeds(config: Config) -> Speeds:
    """Samples per second of training steps, from memory and from streams of ``bench.rows`` rows.

    ``ratio`` is the slowest stream's speed as a share of that with decoded samples in memory; ``resident_ratio`` the
    largest by the smallest resident memory among the streams.
    """
    config = training_bench.measured(config, "pseudo")
    with tempfile.TemporaryDirectory(prefix="bench") as folder, session.start(config.cluster):
        parts = _parts(config, config.output or folder)
        found: dict[str, list[dict[str, float]]] = {name: [] for name in parts}
        for _ in range(config.bench.repeats):
            for name, measure in parts.items():
                found[name].append(measure())
    speeds = {name: [one["per_second"] for one in values] for name, values in found.items()}
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    streams = [name for name in parts if name.startswith("stream")]
    slowest = min(medians[name] for name in streams)
    resident = {name: max(one["resident_mb"] for one in values) for name, values in found.items()}
    sizes = [resident[name] for name in streams]
    facts = {
        "batch": config.train.batch_size,
        "window": config.train.window_samples,
        "ratio": round(slowest / medians["samples in memory"], 3),
        "ratio_to_table": round(slowest / medians[_table(config)], 3),
        "resident_mb": {name: round(size) for name, size in resident.items()},
        "resident_ratio": round(max(sizes) / min(sizes), 3),
        "first_step_s": {name: round(max(one["first_step_s"] for one in found[name]), 2) for name in parts},
    }
    return Speeds("samples/s", speeds, facts)


def _table(config: Config) -> str:
    return f"table in memory, {config.bench.rows[0]} rows"


def _parts(config: Config, root: str) -> dict[str, Callable[[], dict[str, float]]]:
    """What is measured, on tables that are written now."""
    shard_rows = min(SHARD_ROWS, *config.bench.rows)
    contents = [_content_of(table_of(shard_rows, seed)) for seed in range(DISTINCT)]

    def on(rows: int, *, stream: bool, cache: bool = False) -> Callable[[], dict[str, float]]:
        store = open_store(f"{root}/labels-{rows}")
        write_labels(store, contents, shard_rows, rows)
        train = {"stream": stream, "cache": cache, "steps": _steps(config, stream)}
        measured = changed(config, data={"pseudo": {"labels": store.root}}, train=train)
        size = config.cluster
        task = _measure.options(num_cpus=size.worker_cpus, num_gpus=size.worker_gpus)
        return lambda: ray.get(task.remote(settings.to_tree(measured)))

    parts = {
        "samples in memory": on(shard_rows, stream=False, cache=True),
        _table(config): on(config.bench.rows[0], stream=False),
    }
    return parts | {f"stream, {rows} rows": on(rows, stream=True) for rows in config.bench.rows}


def table_of(rows: int, seed: int) -> pa.Table:
    """Pseudo-labels of ``tables.PSEUDO_LABELS_SCHEMA`` with smooth noise as images."""
    random = np.random.default_rng(seed)
    middle = IMAGE_PX / 2
    box = [middle / 2, middle / 2, 3 * middle / 2, 3 * middle / 2]
    plain = dict.fromkeys(tables.PSEUDO_LABELS_SCHEMA.names) | {
        "video_id": f"v{seed}", "flipped": False, "verdict": reasons.KEPT, "teacher": "generated", "camera": [1, 0, 0],
        "hand_box": box, "image_box": [0, 0, IMAGE_PX, IMAGE_PX], "filled": False,
    }  # fmt: skip
    made = []
    for row in range(rows):
        noise = random.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        picture = cv2.resize(noise, (IMAGE_PX, IMAGE_PX), interpolation=cv2.INTER_CUBIC)
        numbers = {
            "joints_px": random.uniform(box[0], box[2], 42),
            "mano_pose": 0.3 * random.normal(size=48),
            "mano_shape": random.normal(size=10),
        }
        image = cv2.imencode(".jpg", picture)[1].tobytes()
        made.append(plain | numbers | {"clip_id": f"v{seed}-{row // 20}", "frame": row % 20, "image": image})
    return pa.Table.from_pylist(made, schema=tables.PSEUDO_LABELS_SCHEMA)


def _content_of(table: pa.Table) -> tuple[bytes, str]:
    """A shard's file and its checksum."""
    sink = io.BytesIO()
    pyarrow.parquet.write_table(table, sink, compression="zstd")
    return sink.getvalue(), hashlib.sha256(sink.getvalue()).hexdigest()


def write_labels(store: Store, contents: list[tuple[bytes, str]], shard_rows: int, rows: int) -> None:
    """A complete labelling output of at least ``rows`` rows, whose units name the shards in turn."""
    units = -(-rows // shard_rows)
    keys = [f"{shards.LABELS}/bench-{number}.parquet" for number in range(len(contents))]
    for key, (content, _) in zip(keys, contents, strict=True):
        store.put(key, content)

    def put(number: int) -> None:
        which = number % len(contents)
        commit = commits.Commit(
            unit=unit_id(number),
            attempt="bench",
            files={shards.LABELS: keys[which]},
            sha256={shards.LABELS: contents[which][1]},
            counts=Counts(kept=shard_rows),
            started=0.0,
            finished=0.0,
            seconds={},
        )
        store.put_new(commits.commit_key(commit.unit), commit.to_bytes())

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(put, range(units)))
    fingerprint = {"schema_version": tables.SCHEMA_VERSION, "teacher": "generated"}
    store.put(commits.RUN, json.dumps({"fingerprint": fingerprint, "units": units, "config": {}}).encode())


def _steps(config: Config, stream: bool) -> int:
    """Steps that are taken, and after them batches that are only read."""
    turned = -(-TURNS * config.train.window_samples // config.train.batch_size) if stream else 0
    return max(WARM_UP + config.bench.steps, turned)


@ray.remote(max_calls=1, max_retries=0)
def _measure(tree: dict[str, Any]) -> dict[str, float]:
    """Samples per second, resident memory and time to the first step, in a process that ends afterwards."""
    config = settings.from_tree(tree)
    threads = config.cluster.threads or max(1, int(config.cluster.worker_cpus))
    torch.set_num_threads(threads)
    cv2.setNumThreads(1)
    memory = PeakMemory()
    with memory:
        started = time.perf_counter()
        data = open_data(config)
        schedule = data.schedule(config)
        union = None if data.streams else data.union(cached=config.train.cache, threads=threads + 1)
        device = "cuda" if config.cluster.worker_gpus > 0 else "cpu"
        torch.manual_seed(config.seed)
        network = HOJoint(config.model).to(device).to(memory_format=torch.channels_last)  # as a worker has it
        layer = hand_layer(mirror.localised(config, "mano").mano).to(device)
        training = Training(config, schedule, network, layer, device)
        first = begun = ended = 0.0
        for step, batch in enumerate(batches(data, union, schedule, config, start=0), start=1):
            if step > WARM_UP + config.bench.steps:
                continue  # reads on until the windows have turned over
            training.step(batch)
            if step in (1, WARM_UP, WARM_UP + config.bench.steps):
                training.recent()  # waits for the GPU
                ended = time.perf_counter()
                first, begun = (ended - started if step == 1 else first), (ended if step == WARM_UP else begun)
    return {
        "per_second": config.bench.steps * config.train.batch_size / (ended - begun),
        "resident_mb": memory.peaks_mb["driver"],
        "first_step_s": first,
    }
