"""The data sets of a training run, opened the same way by the driver (sizes, digests) and by every worker (samples).

The commits of a labelling output decide which pseudo-labels count. Small sets are held in memory, read once by each
process; large ones are streamed (``train.stream``), and then only their sizes are known here. Not here: shards in a
store (``shards``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from cluster.labelling import commits, label_tables, units
from cluster.labelling.commits import Commit
from cluster.sources import mirror
from cluster.store import Store, open_store
from cluster.training import shards
from cluster.training.shards import StoredShards
from hojoint import crops
from hojoint.config import Config
from hojoint.datasets.freihand import FreiHAND
from hojoint.datasets.ho3d import HO3D
from hojoint.datasets.pseudo import PseudoLabelled
from hojoint.errors import InputError
from hojoint.hand.chosen import added_mean, hand_model
from hojoint.hand.identity import HAND
from hojoint.labelling import tables
from hojoint.training import augment
from hojoint.training.batches import Cached, ConcatSamples, Samples
from hojoint.training.schedule import Schedule
from hojoint.training.stream import Concatenated, Parts

OBJECTS = " objects"
"""Ends the name of the digest of a set's object models and segmentations."""
HELD_OUT = "held out"
"""Name of the digest of the recordings that no training sees."""
EDITION = 2
"""Of the digests: another number means that they cover other parts of the data."""
STREAM_ABOVE = 2 * 10**9
"""More bytes of images in tables and shards are streamed where ``train.stream`` does not say: they would be held in
memory by every worker. A sample of HO-3D has 0.4 MB, a pseudo-label 20 kB."""


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Labelled sets first, pseudo-labels after them, as ``schedule.Schedule`` numbers them."""

    names: tuple[str, ...]
    sets: tuple[Any, ...]  # batches.Samples or shards.StoredShards, with a fingerprint
    pseudo: int  # samples that are pseudo-labelled
    hand: str  # digest of the hand model, which poses the labels and makes the loss
    held_out: Any = None  # Samples of the recordings of ``train.held_out``, which are in none of the sets
    streams: bool = False  # shards are read window by window, and the order is that of windows

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
            out[name] = digest_of(samples)
            if isinstance(samples, HO3D):
                out[f"{name}{OBJECTS}"] = samples.objects_fingerprint()
        if self.held_out is not None:
            out[HELD_OUT] = digest_of(self.held_out)
        return out

    def schedule(self, config: Config) -> Schedule:
        """Which samples each step takes."""
        sizes = self.shards().sizes if self.streams else None
        return Schedule(config.train, labelled=self.labelled, pseudo=self.pseudo, seed=config.seed, shards=sizes)

    def shards(self) -> Concatenated:
        """All shards under one numbering; a set that has none is read image by image."""
        return Concatenated([one if isinstance(one, StoredShards) else Parts(one) for one in self.sets])

    def union(self, *, cached: bool, threads: int) -> ConcatSamples:
        """All samples under one numbering; ``cached`` reads them into memory now."""
        sets: list[Samples] = [one.whole() if isinstance(one, StoredShards) else one for one in self.sets]
        return ConcatSamples([Cached(samples, threads) for samples in sets] if cached else sets)


def digest_of(samples: Any) -> str:
    """Size and digest of one set."""
    return f"{len(samples)} samples {samples.fingerprint()}"


def open_data(config: Config) -> TrainingData:
    """The sets that ``train.datasets`` names, copied to this node where they lie in object storage.

    Raises:
        InputError: a set is missing, empty or wrong; its first sample is read as a check.
    """
    # In the configured order, which numbers the samples; pseudo-labels last, as schedule.Schedule expects them.
    names = tuple(sorted(config.train.datasets, key=lambda name: name == "pseudo"))
    # What is read from shards is not copied as files too.
    files = [name for name in names if name != "pseudo" and _shards_of(name, config) is None]
    config = mirror.localised(config, "mano", *(f"data.{name}" for name in files))
    labels = _Labels.open(config) if "pseudo" in names else None
    ingested = {
        name: shards.open_ingested(name, uri, config) for name in names if (uri := _shards_of(name, config)) is not None
    }
    if (streams := config.train.stream) is None:
        held = (0 if labels is None else labels.size) + sum(one.train.image_bytes for one in ingested.values())
        streams = held > STREAM_ABOVE
    held_out = _held_out(names, config, ingested.get("ho3d"))
    sets = tuple(
        ingested[name].train if name in ingested else _open(name, config, labels, streams=streams) for name in names
    )
    for name, samples in zip((*names, HELD_OUT), (*sets, held_out), strict=True):
        if samples is not None:
            _check(name, samples, config)
    pseudo = len(sets[names.index("pseudo")]) if "pseudo" in names else 0
    return TrainingData(names, sets, pseudo, units.hand_digest(config), held_out, streams)


def _check(name: str, samples: Any, config: Config) -> None:
    """Raise InputError for a set without samples or files, or whose first sample cannot be read."""
    if len(samples) == 0:
        raise InputError(_empty(name, config))
    if isinstance(samples, HO3D | FreiHAND):
        samples.refuse_missing()
    if isinstance(samples, StoredShards):
        samples.read(0)[0]
    elif not isinstance(samples, shards.HeldOutShards):  # whose shards one worker reads
        samples[0]


def _shards_of(name: str, config: Config) -> str | None:
    """Where the shards of a labelled set are; None for a set that is read from its files, and for pseudo-labels."""
    return None if name == "pseudo" else getattr(getattr(config.data, name), "shards", None)


def labels_of(config: Config) -> dict[str, str]:
    """The teacher's checksum, and a digest of everything that decided the labels, as stored in their run."""
    assert config.data.pseudo.labels is not None
    run = commits.read_label_run(open_store(config.data.pseudo.labels))
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


def _held_out(names: tuple[str, ...], config: Config, ingested: shards.Ingested | None) -> Any:
    count = config.train.held_out
    if count == 0:
        return None
    if "ho3d" not in names:
        raise InputError(
            f"train.held_out={count} holds recordings of HO-3D out of training, and train.datasets trains on "
            f"{', '.join(names)} without it; add ho3d, or leave train.held_out out"
        )
    if ingested is not None:
        return shards.HeldOutShards(ingested.held_out)
    region_px = crops.region_side(config.model.input_px)
    mean_pose = added_mean(config.mano)
    return HO3D(config.data.ho3d, "held_out", config.crop, region_px, held_out=count, mean_pose=mean_pose)


@dataclass(frozen=True, eq=False)
class _Labels:
    """The committed pseudo-labels of a complete run."""

    store: Store
    committed: list[Commit]

    @classmethod
    def open(cls, config: Config) -> _Labels:
        uri = config.data.pseudo.labels
        if uri is None:
            raise InputError(
                "the setting 'data.pseudo.labels' is missing; give the output of jobs.pseudo_label or jobs.refilter, a "
                "folder or an s3:// URI, as data.pseudo.labels=PATH"
            )
        store = open_store(uri)
        run, committed = commits.read_complete(store)
        units.check_hand(run, config, store.root)  # the poses fit one hand model only
        units.check_fingertips(run, config, store.root)
        if config.loss.quality_power > 0 and run["fingerprint"].get("quality_model") is None:
            raise InputError(
                f"loss.quality_power={config.loss.quality_power:g} weighs labels by their quality, and those at "
                f"{store.root} have none; judge them with jobs.refilter and filters.quality_model=FILE, or leave it out"
            )
        return cls(store, committed)

    @property
    def size(self) -> int:
        """Bytes of the tables, nearly all of them of images."""
        keys = {commit.files[shards.LABELS] for commit in self.committed}
        return sum(entry.size for entry in self.store.entries(f"{shards.LABELS}/") if entry.key in keys)

    def table(self) -> pa.Table:
        """All of them with their images."""
        keys = [commit.files["pseudo_labels"] for commit in self.committed]
        return label_tables.read(self.store, keys, schema=tables.PSEUDO_LABELS_SCHEMA)


def _open(name: str, config: Config, labels: _Labels | None, *, streams: bool) -> Any:
    augmented = augment.of_kind(config, pseudo=name == "pseudo")
    factor = crops.region_factor(augmented)
    region_px = crops.region_side(config.model.input_px, factor)
    if name == "ho3d":
        held_out, mean = config.train.held_out, added_mean(config.mano)
        return HO3D(config.data.ho3d, "train", config.crop, region_px, held_out=held_out, mean_pose=mean, factor=factor)
    if name == "freihand":
        mean = hand_model(config.mano).hands_mean
        return FreiHAND(config.data.freihand, "train", config.crop, region_px, mean, factor=factor)
    assert labels is not None
    if streams:
        return shards.open_pseudo(labels.store, labels.committed, config)
    fraction = config.train.pseudo_fraction
    return PseudoLabelled(labels.table(), config.crop, region_px, fraction=fraction, factor=factor)
