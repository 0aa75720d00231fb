"""python -m jobs.bench labelling|training|stream|decode|scale|chaos [--config FILE] [key=value ...] [--dry-run]

labelling  decoding alone, the teacher alone (frames in memory, no Ray), the complete job with one Teacher, and the
           ratio of the job to its slowest part. Beside the teacher: its network alone on full batches, how fast that
           would be at the device's rate of matrix products, and the plain way (float32, one view at a time, crops by
           OpenCV on bench.plain_frames frames), all for as many views per frame as the teacher asks for;
           on a GPU also the share of the time in which it is idle. docs/cluster.md has the command for a GPU. The
           complete job's labels lie under output where it is given (a folder or s3://bucket/prefix)
training   the step alone (one batch in memory), the complete Ray Train loop, and how fast the step would be at
           this device's speed of large matrix products; matrix_utilisation is the step alone as a share of that
stream     training steps on samples in memory, on a table of pseudo-labels in memory, and on tables of bench.rows
           rows read window by window; the resident memory of the worker and the time to its first step. The tables are
           generated, and lie under output where it is given (a folder or s3://bucket/prefix)
decode     decoding in the process, in a guarded child, and with each installed decoder on generated films; the ratios
           are to decord's random access, which is fast and on some videos wrong
scale      memory, time and cost per video of a driver of bench.videos_many videos, the time to resume a complete run,
           and what bench.teachers Teachers are worth on a simulated cluster of bench.nodes nodes. Decoding and network
           are measured and then replaced by waits; all else is real, and lies under output where it is given
chaos      a labelling job without faults, and one under bench.faults of them: processes killed, nodes lost, a store
           that refuses, drops, cuts and delays, a full disk. Rows that are lost, doubled or different, and the time

The first four are repeated and interleaved (bench.repeats); compare ratios, not speeds. Without videos.root, videos
of the synthetic world are drawn first, outside the clock. Without teacher.checkpoint, the network has random weights.
Prints a table and, at the end, one line of JSON.
"""

from __future__ import annotations

import functools
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cluster import benchmarks, capacity, chaos_bench, scale_bench, stream_bench, synthesis, training_bench
from cluster.labelling import listing
from cluster.training import data as training_data
from hojoint.config import Config, changed
from hojoint.errors import MachineError
from hojoint.synthetic import write
from jobs import command, printing

MEASURES: dict[str, Callable[[Config], Any]] = {
    "labelling": benchmarks.labelling_speeds,
    "training": training_bench.training_speeds,
    "stream": stream_bench.stream_speeds,
    "decode": benchmarks.decode_speeds,
    "scale": scale_bench.scale_speeds,
    "chaos": functools.partial(chaos_bench.chaos, job="jobs.pseudo_label"),
}
TRAINING = ("training", "stream")
"""Measures without a teacher."""


def job(config: Config, dry_run: bool, word: str) -> None:
    """Prepare the data, measure, print."""
    config = prepared(config, word)
    if dry_run:
        data = given(config, word) if config.world is None else drawn(config)
        print(f"would measure {word} {config.bench.repeats} times on {data}")
        print(capacity.feasibility(config.cluster, [need(config, word)]))
        return
    if config.world is not None:
        synthesis.synthesize(config)
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        if word not in TRAINING and config.teacher.checkpoint is None:
            config = changed(config, teacher={"checkpoint": benchmarks.random_teacher(config, Path(folder))})
        found = MEASURES[word](config)
    if isinstance(found, benchmarks.Speeds):
        print_speeds(word, found)
    else:
        print(printing.table(found.header, found.rows))
        print(json.dumps({"bench": word, **found.facts}))
        if found.fault:
            raise MachineError(found.fault)


def print_speeds(word: str, speeds: benchmarks.Speeds) -> None:
    """A table of the parts, and a line of JSON."""
    rows = [
        (part, *(_shown(value) for value in (speeds.median(part), min(values), max(values))))
        for part, values in speeds.per_second.items()
    ]
    print(printing.table(("part", speeds.unit, "lowest", "highest"), rows))
    print(", ".join(f"{name} {value}" for name, value in speeds.facts.items()))
    per_second = {part: [float(f"{value:.5g}") for value in values] for part, values in speeds.per_second.items()}
    print(json.dumps({"bench": word, "unit": speeds.unit, "per_second": per_second, **speeds.facts}))


def _shown(speed: float) -> str:
    """One decimal, and three digits where a large network on a CPU is slower than that."""
    return f"{speed:.1f}" if speed >= 10 else f"{speed:.3g}"


def prepared(config: Config, word: str) -> Config:
    """The settings with a small world to work on, unless data are given. The world is kept for the next call."""
    if word == "stream" or (word == "training" and config.data.ho3d.root is not None):
        return changed(config, world=None)
    if word != "training" and (config.videos.root is not None or config.videos.boxes is not None):
        command.need(config.videos.root, "videos.root", "DIR")
        command.need(config.videos.boxes, "videos.boxes", "FILE_OR_DIR")
        return changed(config, world=None)
    size = {"wild_videos": config.bench.videos, "wild_frames": config.bench.frames, "broken_videos": 0}
    size |= {"train_sequences": 2, "evaluation_sequences": 1, "evaluation_frames": 2, "test_images": 1}
    config = changed(config, synthetic=size)
    name = f"hojoint-bench-{write.digest_of(config)}"
    return write.with_world(changed(config, world=config.world or str(Path(tempfile.gettempdir()) / name)))


def drawn(config: Config) -> str:
    """What is drawn before the measurement."""
    return f"{config.bench.videos} videos of {config.bench.frames} frames"


def given(config: Config, word: str) -> str:
    """What the given data hold; they are opened to find out."""
    if word == "stream":
        return f"generated tables of {', '.join(map(str, config.bench.rows))} rows"
    if word == "training":
        return f"{len(training_data.open_data(training_bench.measured(config)))} images"
    return f"{listing.listed(config).manifest.videos} videos in {config.videos.root}"


def need(config: Config, word: str) -> capacity.Need:
    """What must fit into the cluster."""
    size = config.cluster
    if word in TRAINING:
        count = size.workers[0] if word == "training" else 1
        return capacity.Need("training workers", count, size.worker_cpus, size.worker_gpus)
    teachers = 1 if word == "labelling" else size.teachers[0]
    return capacity.Need("Teacher actors", teachers, size.teacher_cpus, size.teacher_gpus)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return command.run_word(job, __doc__, argv, words=tuple(MEASURES))


if __name__ == "__main__":
    sys.exit(main())
