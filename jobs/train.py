"""python -m jobs.train data.ho3d.root=DIR output=DIR_OR_S3_URI [--config FILE] [key=value ...] [--dry-run]

Trains the network on the labelled sets that train.datasets names (Sec. 6.1), on as many workers as cluster.workers
says. Under the output: checkpoint.pt and training.json. The same command resumes a run that was stopped and leaves a
finished one as it is. With --config configs/ho3d.yaml it is the paper's network.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from cluster.sources import mirror
from cluster.store import open_store
from cluster.training import job as training_job
from cluster.training import run as training
from hojoint.config import Config
from hojoint.datasets import fingertips
from hojoint.datasets.freihand import FreiHAND
from hojoint.datasets.ho3d import HO3D
from hojoint.hand.chosen import added_mean
from hojoint.hand.identity import HAND
from jobs import command, sets


def job(config: Config, dry_run: bool) -> None:
    """Train on ``train.datasets``, or print what would be trained; ``jobs.retrain`` adds pseudo-labels to them."""
    train = config.train
    if train.steps is not None and "epochs" in train.model_fields_set:
        print(
            f"note: train.steps={train.steps} sets the length of training; train.epochs={train.epochs} only sets how "
            "often the learning rate decays"
        )
    for name, labels in (("ho3d", "train.txt"), ("freihand", "training_xyz.json")):
        root = getattr(config.data, name).root  # FreiHAND's may hold an evaluation set alone
        if root is not None and name not in train.datasets and ("://" in root or (Path(root) / labels).exists()):
            others = ",".join((*train.datasets, name))
            print(f"note: data.{name}.root is given and not trained on; to train on it: train.datasets=[{others}]")
    work(config, dry_run)


def work(config: Config, dry_run: bool) -> None:
    """The job itself, which a pipeline runs once per network."""
    output, train = command.output_of(config, "runs/teacher"), config.train
    if "ho3d" in train.datasets and config.data.ho3d.shards is None:  # jobs.ingest has checked what it stored
        near = mirror.localised(config, "mano", "data.ho3d")
        mean = added_mean(near.mano)
        reader = HO3D(near.data.ho3d, "train", config.crop, held_out=train.held_out, mean_pose=mean)
        sets.check(reader, config, complete=dry_run)
        if train.held_out:
            apart = HO3D(near.data.ho3d, "held_out", config.crop, held_out=train.held_out, mean_pose=mean)
            sets.check(apart, config, complete=dry_run)
        if (note := fingertips.advice(reader, near.mano, config.data.ho3d.checks)) is not None:
            print(f"note: {note}")
    if "freihand" in train.datasets and config.data.freihand.shards is None:
        near = mirror.localised(config, "data.freihand")
        sets.check(FreiHAND(near.data.freihand, "train", config.crop), config, complete=dry_run)
    if dry_run:
        _describe(config, output)
        return
    try:
        result = training.fit(config, output)
    except training.TrainingStopped as stopped:
        raise command.RunFailed(f"{stopped}. Run the same command again to resume") from stopped
    if result.reused:
        print(f"{result.checkpoint} is finished ({result.steps} steps); nothing to do")
        if result.workers not in (None, config.cluster.workers):
            print(
                f"note: it was trained with cluster.workers={list(result.workers or ())}, now "
                f"{list(config.cluster.workers)} are asked for: each worker takes batch statistics from its own part "
                "of a batch, so another number gives a slightly different network"
            )
        return
    last = result.history[-1]["total"]
    print(
        f"{result.checkpoint}: {result.steps} steps on {result.samples} samples in {result.seconds:.0f} s, loss "
        f"{result.history[0]['total']:.1f} -> {last:.1f}, weights {result.sha256[:12]}; end of training: {result.ended}"
    )


def _describe(config: Config, output: str) -> None:
    planned = training_job.plan_job(config)
    for name, facts in planned.parents["data"].items():
        print(f"{name}: {facts[:12]}" if name == HAND else f"data set {name}: {facts}")
    if planned.data.streams:
        count, window = len(planned.data.shards().sizes), config.train.window_samples
        print(f"streamed from {count} shards, in windows of {window} samples")
    for name in ("teacher", "labels", "init_checkpoint", "pretrained"):
        if name in planned.parents:
            print(f"{name}: {planned.parents[name]}")
    steps, size = planned.schedule.steps, config.train.batch_size
    print(f"{steps} steps of {size} samples, {planned.schedule.steps_per_epoch} an epoch; run {planned.name}")
    print(training.feasible(planned, open_store(output)))
    finished = training_job.finished(planned, open_store(output)) is not None
    print(f"dry run: {output} {'is finished' if finished else 'would be trained'}")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return command.run(job, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
