"""The data sets of a training run, opened the same way by the driver (sizes, digests) and by every worker (samples).

Which pseudo-labels count is what the commits of a labelling output name; their table is read once by each process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cluster import commits, units
from cluster.store import open_store
from hojoint import crops, mano, tables
from hojoint.batches import Cached, Samples, Union
from hojoint.config import Config
from hojoint.datasets.freihand import FreiHAND
from hojoint.datasets.ho3d import HO3D
from hojoint.datasets.pseudo import PseudoLabelled
from hojoint.errors import InputError


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Labelled sets first, pseudo-labels after them, as ``schedule.Plan`` numbers them."""

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

    def union(self, *, cached: bool, threads: int) -> Union:
        """All samples under one numbering; ``cached`` reads them into memory now."""
        sets: list[Samples] = [Cached(each, threads) if cached else each for each in self.sets]
        return Union(sets)


def open_data(config: Config) -> TrainingData:
    """The sets that ``train.datasets`` names.

    Raises:
        InputError: one is missing, empty or not what it should be; its first sample is read to find out.
    """
    # As configured, for numbers of samples follow from it; pseudo-labels last, where schedule.Plan wants them.
    names = tuple(sorted(dict.fromkeys(config.train.datasets), key=lambda name: name == "pseudo"))
    sets = tuple(_open(name, config) for name in names)
    for name, each in zip(names, sets, strict=True):
        if len(each) == 0:
            raise InputError(f"the data set '{name}' of train.datasets is empty: there is nothing to train on")
        each[0]
    pseudo = len(sets[names.index("pseudo")]) if "pseudo" in names else 0
    return TrainingData(names, sets, pseudo)


def _open(name: str, config: Config) -> Any:
    region_px = crops.region_side(config.model.input_px)
    if name == "ho3d":
        return HO3D(config.data.ho3d, "train", config.crop, region_px)
    if name == "freihand":
        mean_pose = mano.hand_model(config.mano).hands_mean
        return FreiHAND(config.data.freihand, "train", config.crop, region_px, mean_pose)
    uri = config.data.pseudo.labels
    if uri is None:
        raise InputError(
            "the setting 'data.pseudo.labels' is needed: the output of jobs.pseudo_label or jobs.refilter, a folder or "
            "an s3:// URI"
        )
    store = open_store(uri)
    units.check_hand(commits.read_run(store), config, store.root)  # the poses mean nothing to another hand
    filesystem, root = store.filesystem()
    paths = [f"{root}/{key}" for key in commits.committed_files(store, "pseudo_labels")]
    table = tables.read(paths, filesystem, schema=tables.PSEUDO_LABELS_SCHEMA)
    return PseudoLabelled(table, config.crop, region_px)
