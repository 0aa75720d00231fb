"""Labelled sets (jobs.ingest) and pseudo-labels as shards in a store: sizes from commits, samples on demand.

A commit names a shard with its checksum. The checksums are the identity of the data, and every shard that is read is
held to its own: a file that was replaced stops the training. Not here: which shards are read when
(hojoint.training.stream), how they are made (cluster.ingesting, cluster.labelling).
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet

from cluster.labelling import commits, units
from cluster.labelling.commits import Commit
from cluster.store import Store, arrow, open_store
from cluster.training.shard_counts import SAMPLES, Counts
from hojoint import crops
from hojoint.config import Config, digest
from hojoint.datasets import pseudo, shards
from hojoint.errors import InputError
from hojoint.labelling import tables
from hojoint.records import Sample
from hojoint.rows import evenly
from hojoint.training import augment
from hojoint.training.batches import Samples
from hojoint.training.held_out import MOST

LABELS = "pseudo_labels"
FLAT = "mano.flat_hand_mean"
"""In the fingerprint of HO-3D's shards where it is false; FreiHAND's poses do not depend on it."""
READERS = 16  # shards read at once into memory


@dataclass(frozen=True)
class File:
    """One shard."""

    key: str
    sha256: str
    samples: int  # that training takes of it
    image_bytes: int = 0  # of a labelled set


class StoredShards:
    """Shards in a store as ``hojoint.training.stream.Sharded``; ``fingerprint`` as of other sets."""

    def __init__(self, store: Store, files: Sequence[File], make: Callable[[str, pa.Table], Samples]) -> None:
        """``make`` turns a shard's table, of which its key is given too, into its samples."""
        self.store, self.files = store, [file for file in files if file.samples]
        self.sizes = [file.samples for file in self.files]
        self._make = make

    def __len__(self) -> int:
        return sum(self.sizes)

    @property
    def image_bytes(self) -> int:
        """Of all images of a labelled set, compressed."""
        return sum(file.image_bytes for file in self.files)

    def read(self, shard: int) -> Samples:
        """All samples of a shard, their images compressed.

        Raises:
            InputError: it is gone, damaged or another one than its commit names.
        """
        file = self.files[shard]
        samples = self._make(file.key, self.table(file))
        if len(samples) != file.samples:
            raise InputError(
                f"{self.store.uri(file.key)} holds {len(samples)} samples, and its commit says {file.samples}; make "
                "the data again"
            )
        return samples

    def table(self, file: File) -> pa.Table:
        """The content of a shard's file; raises as ``read`` does."""
        try:
            content = self.store.get(file.key)
        except KeyError:
            raise InputError(f"{self.store.uri(file.key)} is missing, and a commit names it; make it again") from None
        found = hashlib.sha256(content).hexdigest()
        if found != file.sha256:
            raise InputError(
                f"{self.store.uri(file.key)} is not the file that its commit names: its checksum is {found[:12]}, "
                f"expected {file.sha256[:12]}. It was damaged or replaced; make the data again"
            )
        return pa.parquet.read_table(pa.BufferReader(content))

    def whole(self) -> Samples:
        """All samples in memory."""
        with ThreadPoolExecutor(READERS) as pool:
            return Joined(list(pool.map(self.read, range(len(self.files)))))

    @cached_property
    def names(self) -> list[str]:
        """Of all images of a labelled set; the images are not read.

        Raises:
            InputError: a shard cannot be read.
        """
        with ThreadPoolExecutor(READERS) as pool:
            columns = pool.map(lambda file: _column(self.store, file, "name").to_pylist(), self.files)
            return list(itertools.chain.from_iterable(columns))

    def fingerprint(self) -> str:
        """Twelve hex digits that tell these shards from others; they cover the content of all files, by checksum."""
        return digest([[file.sha256, file.samples] for file in self.files])


class Joined:
    """Samples of several sets as those of one."""

    def __init__(self, sets: Sequence[Samples]) -> None:
        self._sets, self._ends = sets, list(itertools.accumulate(len(samples) for samples in sets))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> Sample:
        which = bisect.bisect_right(self._ends, index)
        return self._sets[which][index - (self._ends[which] - len(self._sets[which]))]


class HeldOutShards:
    """The held-out recordings of an ingested set: the images that are measured, read when the first is asked for."""

    def __init__(self, shards_: StoredShards) -> None:
        self._shards = shards_
        self._rows = evenly(len(shards_), MOST)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Sample:
        return self._samples[index]

    @property
    def names(self) -> list[str]:
        """Of all images of the recordings, also of those that are not measured."""
        return self._shards.names

    def fingerprint(self) -> str:
        return self._shards.fingerprint()

    @cached_property
    def _samples(self) -> list[Sample]:
        """Decoded, shard by shard: the recordings have some ten thousand images, and few are measured."""
        ends = np.cumsum(self._shards.sizes)
        samples = []
        for shard, end in enumerate(ends):
            rows = self._rows[(self._rows < end) & (self._rows >= end - self._shards.sizes[shard])]
            if len(rows):
                read = self._shards.read(shard)
                samples += [read[int(row - end + self._shards.sizes[shard])] for row in rows]
        return samples


@dataclass(frozen=True)
class Ingested:
    """An ingested set: its shards to train on, and those of the recordings that are held out."""

    train: StoredShards
    held_out: StoredShards


def open_ingested(name: str, uri: str, config: Config) -> Ingested:
    """The output of jobs.ingest.

    Args:
        name: the data set, as ``train.datasets`` names it.
        uri: a folder or an ``s3://`` URI.
        config: crop, hand model and held-out recordings of the training.

    Raises:
        InputError: it is no such output, is not complete, or holds another set, another hand's poses, poses read in
            another way or other held-out recordings.
    """
    store = open_store(uri)
    run = _run_of(store, name)
    units.check_hand(run, config, store.root)
    flat = run["fingerprint"].get(FLAT, True)
    if name == "ho3d" and flat != config.mano.flat_hand_mean:
        raise InputError(
            f"the shards at {store.root} were made with {FLAT}={str(flat).lower()}, and this training has another one; "
            "set it as it was, or run jobs.ingest again on another output"
        )
    made = run["fingerprint"]["held_out"]
    if name == "ho3d" and config.train.held_out not in (0, made):
        raise InputError(
            f"the shards at {store.root} were made with train.held_out={made}, and this training holds out "
            f"{config.train.held_out} recordings; run jobs.ingest with train.held_out={config.train.held_out} on "
            "another output"
        )
    done = commits.read_commits(store, counts_of=Counts.of)
    if len(done) != run["units"]:
        raise InputError(
            f"{store.root} is not complete: {len(done)} of {run['units']} shards are committed. Finish jobs.ingest on "
            "that output first"
        )
    factor = crops.region_factor(augment.of_kind(config, pseudo=False))
    region_px = crops.region_side(config.model.input_px, factor)

    def make(key: str, table: pa.Table) -> Samples:
        return shards.ShardSamples(shards.checked(table, store.uri(key)), config.crop, region_px, factor=factor)

    apart = [commit for commit in done if commit.counts.held_out]
    train = [commit for commit in done if not commit.counts.held_out or not config.train.held_out]
    return Ingested(*(StoredShards(store, [_file(commit) for commit in some], make) for some in (train, apart)))


def open_pseudo(store: Store, done: Sequence[Commit], config: Config) -> StoredShards:
    """The pseudo-labels of a complete labelling run as shards; ``train.pseudo_fraction`` of the clips.

    Raises:
        InputError: a table cannot be read.
    """
    files = [File(commit.files[LABELS], commit.sha256[LABELS], labels_in(commit)) for commit in done]
    factor = crops.region_factor(augment.of_kind(config, pseudo=True))
    region_px, last = crops.region_side(config.model.input_px, factor), b""
    if config.train.pseudo_fraction < 1:
        files, last = _some_clips(store, files, config.train.pseudo_fraction)

    def make(key: str, table: pa.Table) -> Samples:
        table = tables.checked(table, store.uri(key), tables.PSEUDO_LABELS_SCHEMA)
        if last:
            clips = pa.compute.unique(table["clip_id"]).to_pylist()
            chosen = [clip for clip in clips if pseudo.clip_hash(clip) <= last]
            table = table.filter(pa.compute.is_in(table["clip_id"], pa.array(chosen, pa.string())))
        return pseudo.PseudoLabelled(table, config.crop, region_px, factor=factor)

    return StoredShards(store, files, make)


def labels_in(commit: Commit) -> int:
    """Rows of a unit's ``pseudo_labels``."""
    return int(commit.counts.kept - commit.counts.without_image + commit.counts.filled)


def _file(commit: Commit) -> File:
    counts = commit.counts
    return File(commit.files[SAMPLES], commit.sha256[SAMPLES], counts.samples, counts.image_bytes)


def _some_clips(store: Store, files: Sequence[File], fraction: float) -> tuple[list[File], bytes]:
    """The files with the samples of the chosen clips alone, and the last hash of these (``pseudo.some_clips``)."""

    def count(file: File) -> Counter[bytes]:
        counts = pa.compute.value_counts(_column(store, file, "clip_id")).to_pylist()
        return Counter({pseudo.clip_hash(row["values"]): row["counts"] for row in counts})

    some = [file for file in files if file.samples]
    with ThreadPoolExecutor(READERS) as pool:
        counts = list(pool.map(count, some))
    last = pseudo.last_hash({name for counted in counts for name in counted}, fraction)
    kept = [sum(rows for name, rows in counted.items() if name <= last) for counted in counts]
    return [File(file.key, file.sha256, rows) for file, rows in zip(some, kept, strict=True)], last


def _column(store: Store, file: File, name: str) -> pa.ChunkedArray:
    """One column of a shard; the others are not fetched."""
    return arrow.read_table(store, file.key, [name])[name]


def _run_of(store: Store, name: str) -> dict[str, Any]:
    """``run.json`` of an ingested set."""
    try:
        run = json.loads(store.get(commits.RUN))
        found = run["fingerprint"].get("dataset")
        version = run["fingerprint"].get("samples_version")
    except (KeyError, ValueError, TypeError, AttributeError):
        found = version = None
    if found != name or version != shards.VERSION:
        what = f"those of '{found}', version {version}" if found else "none"
        raise InputError(
            f"{store.root} must hold the shards of '{name}', version {shards.VERSION}, and holds {what}; give "
            f"data.{name}.shards the output of jobs.ingest ingest.dataset={name}"
        )
    return dict(run)
