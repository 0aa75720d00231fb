"""The data sets of a training run, opened the same way by the driver (sizes, digests) and by every worker (samples).

Which pseudo-labels count is what the commits of a labelling output name; their table is read once by each process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cluster.labelling import commits, units
from cluster.store import open_store
from hojoint import crops
from hojoint.config import Config, digest
from hojoint.datasets.freihand import FreiHAND
from hojoint.datasets.ho3d import HO3D
from hojoint.datasets.pseudo import PseudoLabelled
from hojoint.errors import InputError
from hojoint.hand.factory import hand_model
from hojoint.labelling import tables
from hojoint.training.batches import Cached, ConcatSamples, Samples


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Labelled sets first, pseudo-labels after them, as ``schedule.Schedule`` numbers them."""

    names: tuple[str, ...]
    sets: tuple[Any, ...]  # batches.Samples with a fingerprint
    pseudo: int  # samples that are pseudo-labelled

    @property
    def labelled(self) -> int:
        return len(self) - self.pseudo

    def __len__(self) -> int:
        return sum(len(each) for each in self.sets)

    def fingerprints(self) -> dict[str, str]:
        """What tells this data from another, by name."""
        return {
            name: f"{len(each)} samples {each.fingerprint()}" for name, each in zip(self.names, self.sets, strict=True)
        }

    def union(self, *, cached: bool, threads: int) -> ConcatSamples:
        """All samples under one numbering; ``cached`` reads them into memory now."""
        sets: list[Samples] = [Cached(each, threads) if cached else each for each in self.sets]
        return ConcatSamples(sets)


def open_data(config: Config) -> TrainingData:
    """The sets that ``train.datasets`` names.

    Raises:
        InputError: one is missing, empty or not what it should be; its first sample is read to find out.
    """
    # As configured, for numbers of samples follow from it; pseudo-labels last, where schedule.Schedule wants them.
    names = tuple(sorted(dict.fromkeys(config.train.datasets), key=lambda name: name == "pseudo"))
    sets = tuple(_open(name, config) for name in names)
    for name, each in zip(names, sets, strict=True):
        if len(each) == 0:
            raise InputError(f"the data set '{name}' of train.datasets is empty: there is nothing to train on")
        each[0]
    pseudo = len(sets[names.index("pseudo")]) if "pseudo" in names else 0
    return TrainingData(names, sets, pseudo)


def labels_of(config: Config) -> dict[str, str]:
    """The teacher's checksum, and a digest of all that decided the labels, as their run noted them."""
    assert config.data.pseudo.labels is not None
    fingerprint = commits.read_run(open_store(config.data.pseudo.labels))["fingerprint"]
    return {"teacher": fingerprint.get("teacher", "unknown"), "labels": digest(fingerprint)}


def check_same(found: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    """Raise InputError where fingerprints differ from those that a run began with."""
    for name, facts in wanted.items():
        if found.get(name) != facts:
            raise InputError(
                f"the data changed while training: the run began with {facts} of '{name}', and a worker finds "
                f"{found.get(name, 'none')}. Give every node the same data, or call the job again to train on what is "
                "there now"
            )


def _open(name: str, config: Config) -> Any:
    region_px = crops.region_side(config.model.input_px)
    if name == "ho3d":
        return HO3D(config.data.ho3d, "train", config.crop, region_px)
    if name == "freihand":
        mean_pose = hand_model(config.mano).hands_mean
        return FreiHAND(config.data.freihand, "train", config.crop, region_px, mean_pose)
    uri = config.data.pseudo.labels
    if uri is None:
        raise InputError(
            "the setting 'data.pseudo.labels' is needed: the output of jobs.pseudo_label or jobs.refilter, a folder or "
            "an s3:// URI"
        )
    store = open_store(uri)
    run, found = commits.read_complete(store)
    units.check_hand(run, config, store.root)  # the poses mean nothing to another hand
    filesystem, root = store.filesystem()
    paths = [f"{root}/{each.files['pseudo_labels']}" for each in found]
    table = tables.read(paths, filesystem, schema=tables.PSEUDO_LABELS_SCHEMA)
    return PseudoLabelled(table, config.crop, region_px)
