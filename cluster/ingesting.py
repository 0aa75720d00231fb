"""A labelled set becomes shards: Parquet with images, in parallel, committed and resumed like labels (jobs.ingest).

The images of a shard are drawn from the complete set, by a permutation that is always the same, because neighbours in a
set look alike and training shuffles only within windows of shards. Held-out recordings (``train.held_out``) have shards
of their own, in the order of the set. The actors read the set as training does; what is missing or damaged ends the
run, as it would end a training. Not here: the table (hojoint.datasets.shards), reading it back (cluster.training).
"""

from __future__ import annotations

import functools
import json
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute

from cluster import capacity, session
from cluster import progress as board
from cluster.capacity import Need
from cluster.labelling import commits, pool, presence, sharing, stalls, totals, units
from cluster.labelling.commits import Commit
from cluster.labelling.job import NullProgress, Progress
from cluster.metrics import CommittedGauges
from cluster.sources import mirror
from cluster.store import Store, check_conditional, open_store
from cluster.training.shard_counts import SAMPLES, Counts
from cluster.training.shards import FLAT
from hojoint import config as settings
from hojoint.config import Config
from hojoint.datasets import shards
from hojoint.datasets.freihand import FreiHAND
from hojoint.datasets.ho3d import HO3D
from hojoint.errors import InputError
from hojoint.hand.chosen import added_mean, hand_model

SEED = 0  # of the permutation
TOLD_IMAGES = 32  # between two reports of an actor: a shard from a slow mount is no silence


@dataclass(frozen=True)
class Layout:
    """Which images a shard holds; the first ``train`` shards are those of training, the others are held out."""

    samples: int
    held_out: int
    shard_samples: int

    @property
    def train(self) -> int:
        return -(-self.samples // self.shard_samples)

    @property
    def unit_ids(self) -> list[str]:
        return [units.unit_id(number) for number in range(self.train + -(-self.held_out // self.shard_samples))]

    def is_held_out(self, unit_id: str) -> bool:
        return units.unit_number(unit_id) >= self.train

    def rows(self, unit_id: str) -> np.ndarray:
        """Numbers of a shard's images in its part of the set."""
        number = units.unit_number(unit_id)
        held_out = number >= self.train
        start = (number - self.train * held_out) * self.shard_samples
        order = np.arange(self.held_out) if held_out else np.random.default_rng(SEED).permutation(self.samples)
        return order[start : start + self.shard_samples]


@dataclass(frozen=True, eq=False)
class Plan:
    """The work of a run."""

    layout: Layout
    fingerprint: dict[str, Any]
    pending: list[str]


class LabelledSet:
    """The set that ``ingest.dataset`` names: what is trained on, and what is held out."""

    def __init__(self, config: Config) -> None:
        """Open the set, copied to this node where it lies in object storage.

        Raises:
            InputError: it is missing, empty or wrong.
        """
        name = config.ingest.dataset
        config = mirror.localised(config, "mano", f"data.{name}")
        self.train: HO3D | FreiHAND
        self.held_out: HO3D | None = None
        if name == "freihand":
            self.train = FreiHAND(config.data.freihand, "train", mean_pose=hand_model(config.mano).hands_mean)
        else:
            count, mean = config.train.held_out, added_mean(config.mano)
            self.train = HO3D(config.data.ho3d, "train", held_out=count, mean_pose=mean)
            self.held_out = HO3D(config.data.ho3d, "held_out", held_out=count, mean_pose=mean) if count else None

    def part(self, held_out: bool) -> HO3D | FreiHAND:
        """One of its two readers."""
        if not held_out:
            return self.train
        assert self.held_out is not None
        return self.held_out

    def digests(self) -> dict[str, str | None]:
        """Of everything that its samples are made of; raises InputError where a listed file is missing."""
        objects = self.train.objects_fingerprint() if isinstance(self.train, HO3D) else None
        apart = None if self.held_out is None else self.held_out.fingerprint()
        return {"data": self.train.fingerprint(), "objects": objects, "held_out_data": apart}


def make_plan(config: Config, labelled: LabelledSet, store: Store) -> Plan:
    """Count, digest, and see what is committed. Reads only.

    Raises:
        InputError: the set lacks files, or the output holds shards of other data or settings.
    """
    held_out = 0 if labelled.held_out is None else len(labelled.held_out)
    layout = Layout(len(labelled.train), held_out, config.ingest.shard_samples)
    fingerprint = {
        "dataset": config.ingest.dataset,
        "samples_version": shards.VERSION,
        "samples": layout.samples,
        "held_out": config.train.held_out if labelled.held_out is not None else 0,
        "shard_samples": layout.shard_samples,
        "hand_model": units.hand_digest(config),
        **labelled.digests(),
    }
    if isinstance(labelled.train, HO3D) and not config.mano.flat_hand_mean:
        fingerprint[FLAT] = False
    commits.check_fingerprint(store, fingerprint)
    done = commits.committed_units(store)
    return Plan(layout, fingerprint, [name for name in layout.unit_ids if name not in done])


def ingest(config: Config) -> dict[str, Any]:
    """Write the shards of the set to ``config.output``, or those that it lacks; returns the report.

    Raises:
        InputError: the set is missing or wrong, the output holds something else, the store is not safe, or the cluster
            is too small.
    """
    store = open_output(config)
    plan = make_plan(config, LabelledSet(config), store)
    if config.labelling.require_conditional_writes:
        check_conditional(store)
    if plan.pending:  # before run.json is written: a run that cannot start leaves nothing
        feasible(config, plan)
    images = plan.layout.samples + plan.layout.held_out
    facts = {"units": len(plan.layout.unit_ids), "images": images, "config": settings.to_tree(config)}
    commits.open_run(store, plan.fingerprint, facts)
    if plan.pending:
        _run(config, store, plan)
    return _finish(store, plan)


def open_output(config: Config) -> Store:
    """The store of ``config.output``."""
    assert config.output is not None
    return open_store(config.output, conditional=config.labelling.require_conditional_writes)


def feasible(config: Config, plan: Plan) -> str:
    """As ``capacity.feasibility``, for the smallest number of actors."""
    need = Need("ingest actors", config.ingest.actors[0], config.cluster.teacher_cpus)
    return capacity.feasibility(config.cluster, [need], begun=len(plan.pending) < len(plan.layout.unit_ids))


class Ingestor:
    """Callable on rows ``{"unit": id}``, plain Python like the Teacher; commits the shard of that name."""

    def __init__(self, config: Config, layout: Layout, root: str, progress: Progress | None = None) -> None:
        self._store = open_store(root, conditional=config.labelling.require_conditional_writes)
        sharing.check_output(self._store, commits.RUN)
        self._layout, self._set, self._progress = layout, LabelledSet(config), progress or NullProgress()
        for part, count in ((self._set.train, layout.samples), (self._set.held_out, layout.held_out)):
            if part is not None and len(part) != count:
                raise InputError(
                    f"this node finds {len(part)} images in {part.root}, and the driver found {count}; give every node "
                    "the same data"
                )
        self._check_same(config, json.loads(self._store.get(commits.RUN))["fingerprint"])

    def _check_same(self, config: Config, expected: Mapping[str, Any]) -> None:
        """Raise InputError where this node has other files than the driver: shards stand under the driver's digests."""
        sharing.check_hand(config, expected["hand_model"])
        for name, found in self._set.digests().items():
            sharing.check_same(f"{name} of the set {self._set.train.root}", expected[name], found)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        commit = self.work(row["unit"])
        return {"commit": b"" if commit is None else commit.to_bytes()}

    def work(self, unit_id: str) -> Commit | None:
        """Read and commit one shard; None if another attempt was first."""
        started, held_out = time.time(), self._layout.is_held_out(unit_id)
        numbers = self._reported(self._layout.rows(unit_id), "held_out" if held_out else "train")
        table = shards.table_of(self._set.part(held_out), numbers)
        size = int(pyarrow.compute.sum(pyarrow.compute.binary_length(table["image"])).as_py())
        counts = Counts(samples=len(table), held_out=len(table) * held_out, image_bytes=size)
        seconds = {"read": time.time() - started}
        attempt = uuid.uuid4().hex[:12]
        return commits.commit(
            self._store, unit_id, attempt, {SAMPLES: table}, counts=counts, started=started, seconds=seconds
        )

    def _reported(self, numbers: np.ndarray, part: str) -> Iterator[int]:
        """The numbers of images, as they are asked for; every ``TOLD_IMAGES`` are reported when they are read."""
        for start in range(0, len(numbers), TOLD_IMAGES):
            some = numbers[start : start + TOLD_IMAGES]
            yield from some
            self._progress({}, {part: len(some)})


def _run(config: Config, store: Store, plan: Plan) -> None:
    total = plan.layout.samples + plan.layout.held_out
    done = commits.read_commits(store, counts_of=Counts.of)
    counts, unit_s = total_of(done), stalls.longest_unit_s(done)
    wanted = pool.size(config.ingest.actors, len(plan.pending))[1]
    with presence.announced(store, "ingests images"), session.start(config.cluster):
        watched = board.new_board("ingesting", wanted, store.root)
        gauges = CommittedGauges("ingesting", store.root, videos=0, done=0)  # its images are shown as frames
        gauges.show({}, _images(counts), {}, committed=False)
        with gauges, board.Bar("ingesting", "image", total=total, done=counts.samples) as bar:
            for commit in _route(config, store, plan, watched, unit_s):
                if commit is not None:
                    counts.add(commit.counts)
                    gauges.show({}, _images(counts), {}, committed=True)
                    bar.move(counts.samples)


def _images(counts: Counts) -> dict[str, int]:
    return {"train": counts.samples - counts.held_out, "held_out": counts.held_out}


def _route(config: Config, store: Store, plan: Plan, watched: Any, unit_s: float) -> Iterator[Commit | None]:
    """The commits of the pending shards, from a pool of actors; ``unit_s`` is the longest time of a shard so far."""
    return pool.commit_all(
        functools.partial(_ingestor, config, plan.layout, store.root, watched),
        [{"unit": name} for name in plan.pending],
        store=store,
        actors=config.ingest.actors,
        cpus=config.cluster.teacher_cpus,
        counts_of=Counts.of,
        watch=stalls.Watch(board.signs_of(watched), unit_s, resumes=stalls.SAME_COMMAND),
        tell=board.told_of(watched),
    )


def _ingestor(config: Config, layout: Layout, root: str, watched: Any) -> pool.Worker:
    return Ingestor(config, layout, root, board.Reporter(watched, "ingesting", root))


def total_of(done: Iterable[Commit]) -> Counts:
    """The counts of all shards together."""
    total = Counts()
    for commit in done:
        total.add(commit.counts)
    return total


def _finish(store: Store, plan: Plan) -> dict[str, Any]:
    """Write the report and remove what killed attempts left."""
    done = commits.read_commits(store, sharing.committed(store, plan.layout.unit_ids), counts_of=Counts.of)
    total = total_of(done)
    assert total.samples == plan.layout.samples + plan.layout.held_out, (total, plan.layout)
    report = {**vars(total), "shards": len(done), "seconds": round(totals.busy_seconds(done), 3)}
    store.put(commits.REPORT, json.dumps(report, indent=2).encode())
    commits.sweep(store, (SAMPLES,))
    return report
