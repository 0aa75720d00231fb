"""The data sets of a training run, opened the same way by the driver (sizes, digests) and by every worker (samples).

The commits of a labelling output decide which pseudo-labels count. Each process reads their table once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cluster.labelling import commits, units
from cluster.sources import mirror
from cluster.store import open_store
from hojoint import crops
from hojoint.config import Config
from hojoint.datasets.freihand import FreiHAND
from hojoint.datasets.ho3d import HO3D
from hojoint.datasets.pseudo import PseudoLabelled
from hojoint.errors import InputError
from hojoint.hand.factory import hand_model
from hojoint.labelling import tables
from hojoint.training.batches import Cached, ConcatSamples, Samples

OBJECTS = " objects"
"""Ends the name of the digest of a set's object models and segmentations."""
HELD_OUT = "held out"
"""Name of the digest of the recordings that no training sees."""
HAND = "hand model"
"""Name of the digest of the hand model among those of a run."""
EDITION = 2
"""Of the digests: another number means that they cover other parts of the data."""


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Labelled sets first, pseudo-labels after them, as ``schedule.Schedule`` numbers them."""

    names: tuple[str, ...]
    sets: tuple[Any, ...]  # batches.Samples with a fingerprint
    pseudo: int  # samples that are pseudo-labelled
    hand: str  # digest of the hand model, which poses the labels and makes the loss
    held_out: HO3D | None = None  # the recordings of ``train.held_out``, which are in none of the sets

    @property
    def labelled(self) -> int:
        return len(self) - self.pseudo

    def __len__(self) -> int:
        return sum(len(samples) for samples in self.sets)

    @property
    def labelled_sets(self) -> tuple[Any, ...]:
        """All sets of which labels are read: those that are trained on, and the held-out recordings."""
        return self.sets if self.held_out is None else (*self.sets, self.held_out)

    def fingerprints(self) -> dict[str, str]:
        """The size and digest of each set, by name, of HO-3D's objects and of the hand: other data have others."""
        out = {HAND: self.hand}
        for name, samples in zip(self.names, self.sets, strict=True):
            out[name] = f"{len(samples)} samples {samples.fingerprint()}"
            if isinstance(samples, HO3D):
                out[f"{name}{OBJECTS}"] = samples.objects_fingerprint()
        if self.held_out is not None:
            out[HELD_OUT] = f"{len(self.held_out)} samples {self.held_out.fingerprint()}"
        return out

    def notes(self) -> list[str]:
        """What the user should know about the sets: what is left out, drawn or absent."""
        return [note for samples in self.sets if hasattr(samples, "advice") for note in samples.advice()]

    def union(self, *, cached: bool, threads: int) -> ConcatSamples:
        """All samples under one numbering; ``cached`` reads them into memory now."""
        sets: list[Samples] = [Cached(samples, threads) if cached else samples for samples in self.sets]
        return ConcatSamples(sets)


def open_data(config: Config) -> TrainingData:
    """The sets that ``train.datasets`` names, copied to this node where they lie in object storage.

    Raises:
        InputError: a set is missing, empty or wrong; its first sample is read as a check.
    """
    # In the configured order, which numbers the samples; pseudo-labels last, as schedule.Schedule expects them.
    names = tuple(sorted(dict.fromkeys(config.train.datasets), key=lambda name: name == "pseudo"))
    config = mirror.localised(config, "mano", *(f"data.{name}" for name in names))
    held_out = _held_out(names, config)
    sets = tuple(_open(name, config) for name in names)
    for name, samples in zip((*names, HELD_OUT), (*sets, held_out), strict=True):
        if samples is None:
            continue
        if len(samples) == 0:
            raise InputError(_empty(name, config))
        if isinstance(samples, HO3D | FreiHAND):
            samples.refuse_missing()
        samples[0]
    pseudo = len(sets[names.index("pseudo")]) if "pseudo" in names else 0
    return TrainingData(names, sets, pseudo, units.hand_digest(config), held_out)


def labels_of(config: Config) -> dict[str, str]:
    """The teacher's checksum, and a digest of everything that decided the labels, as stored in their run."""
    assert config.data.pseudo.labels is not None
    run = commits.read_run(open_store(config.data.pseudo.labels))
    return {"teacher": run["fingerprint"].get("teacher", "unknown"), "labels": run["fingerprint_digest"]}


def check_same(current: Mapping[str, str], at_start: Mapping[str, str]) -> None:
    """Raise InputError where fingerprints differ from those that a run began with."""
    for name, fingerprint in at_start.items():
        if current.get(name) != fingerprint:
            raise InputError(
                f"the data changed while training: the run began with {fingerprint} of '{name}', and a worker finds "
                f"{current.get(name, 'none')}. Give every node the same data, or start the job again to train on the "
                "data as they are now"
            )


def _empty(name: str, config: Config) -> str:
    if name == "pseudo":
        return (
            f"the labels at {config.data.pseudo.labels} hold no kept frame to train on; look at them with jobs.report, "
            "and judge them again under other thresholds with jobs.refilter"
        )
    return f"the data set '{name}' of train.datasets has no samples; check data.{name}"


def _held_out(names: tuple[str, ...], config: Config) -> HO3D | None:
    count = config.train.held_out
    if count == 0:
        return None
    if "ho3d" not in names:
        raise InputError(
            f"train.held_out={count} holds recordings of HO-3D out of training, and train.datasets trains on "
            f"{', '.join(names)} without it; add ho3d, or leave train.held_out out"
        )
    region_px = crops.region_side(config.model.input_px)
    return HO3D(config.data.ho3d, "held_out", config.crop, region_px, held_out=count)


def _open(name: str, config: Config) -> Any:
    region_px = crops.region_side(config.model.input_px)
    if name == "ho3d":
        return HO3D(config.data.ho3d, "train", config.crop, region_px, held_out=config.train.held_out)
    if name == "freihand":
        mean_pose = hand_model(config.mano).hands_mean
        return FreiHAND(config.data.freihand, "train", config.crop, region_px, mean_pose)
    uri = config.data.pseudo.labels
    if uri is None:
        raise InputError(
            "the setting 'data.pseudo.labels' is missing; give the output of jobs.pseudo_label or jobs.refilter, a "
            "folder or an s3:// URI, as data.pseudo.labels=PATH"
        )
    store = open_store(uri)
    run, committed = commits.read_complete(store)
    units.check_hand(run, config, store.root)  # the poses fit one hand model only
    filesystem, root = store.filesystem()
    paths = [f"{root}/{commit.files['pseudo_labels']}" for commit in committed]
    table = tables.read(paths, filesystem, schema=tables.PSEUDO_LABELS_SCHEMA)
    return PseudoLabelled(table, config.crop, region_px, fraction=config.train.pseudo_fraction)
