"""What a pipeline reads, and the digests that tell one input from another.

The inputs are the synthetic world or the user's own data. A finished stage notes the digests of the data behind it, so
that a change is noticed although no setting changed. A digest names content: data may be copied or mounted elsewhere,
so paths and file times do not count. It must be cheap, so large files are not read through: a labelled set is its list,
its labels, its object models, names and sizes of all images, and sixteen images, as in its reader's ``fingerprint``; a
video is its name, its boxes and the size of its file. What the synthetic world draws is named by its settings.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

from cluster import scoring
from cluster.labelling import listing, units
from cluster.labelling.listing import Listed
from cluster.labelling.manifest import Manifest
from cluster.sources import mirror
from cluster.store import read_uri
from cluster.training import data as training_data
from cluster.training.data import TrainingData
from hojoint import config as settings
from hojoint.config import Config
from hojoint.datasets import freihand, regions, sequences
from hojoint.datasets.freihand import FreiHAND
from hojoint.datasets.ho3d import HO3D
from hojoint.evaluation import scores as evaluation
from hojoint.hand.identity import HAND
from hojoint.synthetic import write
from jobs import sets
from jobs.own_data import has_own_data, labelled_sets

DIGITS = 12
TRUTH = ("evaluation_xyz.json", "evaluation_verts.json")


def world_of(config: Config) -> Path:
    """Where the synthetic world lies: a local folder, because decoders and readers need files.

    It lies beside a local run; with a remote output, in the folder for temporary files under a name made of its
    settings.
    """
    if config.world is not None:
        return Path(config.world)
    assert config.output is not None
    if "://" not in config.output:
        return Path(config.output) / "world"
    return Path(tempfile.gettempdir()) / f"hojoint-world-{write.digest_of(config)}"


class Inputs:
    """The data of one call of the pipeline. Each set is opened and digested once, when it is first asked for."""

    def __init__(self, given: Config, teacher: Config) -> None:
        """``given``: the user's settings; ``teacher``: those of the first phase, in which every data path is set."""
        self.own = has_own_data(given)
        self._given, self._config = given, teacher

    @property
    def world(self) -> str:
        """Names the synthetic world by its settings."""
        sizes = settings.to_tree(self._config.synthetic) | {"seed": write.seed_of(self._config)}
        return f"synthetic {settings.digest(sizes)}"

    @cached_property
    def labelled(self) -> dict[str, str]:
        """Labelled set -> digest.

        Raises:
            InputError: a set is missing or damaged.
        """
        if not self.own:
            return dict.fromkeys(labelled_sets(self._given), self.world)
        digests = self._training_data.fingerprints()
        return {name: digest for name, digest in digests.items() if name != HAND}  # see ``hand``

    @cached_property
    def measured(self) -> dict[str, str]:
        """Evaluation set -> digest, with its truth.

        Raises:
            InputError: a set is missing or damaged.
        """
        return {
            domain: self.world if dataset is None else _evaluation_digest(dataset)
            for domain, dataset in self._evaluation_sets.items()
        }

    @cached_property
    def videos(self) -> dict[str, str]:
        """Digest of the listed videos: names, boxes and file sizes, without reading the videos.

        Raises:
            InputError: videos or boxes are missing or damaged.
        """
        return {"videos": _videos_digest(self._listed.manifest) if self.own else self.world}

    @cached_property
    def hand(self) -> dict[str, str]:
        """Digest of the MANO file; empty for the stand-in hand.

        Raises:
            InputError: the file is missing or is no MANO model.
        """
        mano = self._config.mano
        return {} if mano.path is None else {"mano.path": units.hand_digest(self._config)[:DIGITS]}

    @cached_property
    def weights(self) -> dict[str, str]:
        """Digests of the weights that training starts from, where the user gives some.

        Raises:
            InputError: a file is missing.
        """
        files = {
            "model.pretrained": self._config.model.pretrained,
            "train.init_checkpoint": self._config.train.init_checkpoint,
        }
        return {
            name: path if path == "imagenet" else hashlib.sha256(read_uri(path)).hexdigest()[:DIGITS]
            for name, path in files.items()
            if path is not None
        }

    @cached_property
    def quality(self) -> dict[str, str]:
        """Digest of ``filters.quality_model``, where the user gives one.

        Raises:
            InputError: the file is missing.
        """
        path = self._config.filters.quality_model
        return {} if path is None else {"filters.quality_model": hashlib.sha256(read_uri(path)).hexdigest()[:DIGITS]}

    @cached_property
    def sideless(self) -> bool:
        """Whether the side of some clip is neither annotated nor given by ``labelling.side``.

        Raises:
            InputError: videos or boxes are missing or damaged.
        """
        return self._listed.sideless > 0 if self.own else self._given.labelling.side == "both"

    def check(self, *, complete: bool) -> None:
        """Check the given sets against themselves and print notes (``sets.check``); ``complete``: all of their labels.

        Raises:
            InputError: files are missing, labels contradict each other, or the held-out recordings cannot be cut into
                clips to calibrate on.
        """
        given = self._training_data.labelled_sets if self.own else ()
        calibrate, held_out = self._given.calibrate, self._training_data.held_out if self.own else None
        if calibrate.enabled and held_out is not None:  # else it shows once the teacher is trained
            calibrate = calibrate.model_copy(update={"split": "held_out"})
            sequences.sequence_clips(held_out, calibrate, least=self._given.labelling.min_clip_frames)
        measured = (dataset for dataset in self._evaluation_sets.values() if dataset is not None)
        for dataset in (*given, *measured):
            sets.check(dataset, self._config, complete=complete)

    def describe(self) -> Iterator[str]:
        """Lines for a dry run: what the given data hold, or where the synthetic world lies."""
        if not self.own:
            yield f"no labelled images and videos given: the synthetic world is drawn under {world_of(self._given)}"
        else:
            data = self._training_data
            for name, dataset in zip(data.names, data.sets, strict=True):
                yield f"labelled {name}: {len(dataset)} images"
        for domain, evaluation_set in self._evaluation_sets.items():
            if evaluation_set is not None:
                yield f"measured on {domain}: {len(evaluation_set)} images"
        if self.own:
            yield f"videos: {self._listed.manifest.videos} with {self._listed.manifest.clips} clips of a hand"
            yield from (f"note: {note}" for note in self._listed.notes)

    @cached_property
    def _training_data(self) -> TrainingData:
        return training_data.open_data(self._config)

    @cached_property
    def _evaluation_sets(self) -> Mapping[str, HO3D | FreiHAND | None]:
        """Data set -> its reader; None where the synthetic world has it, which may not be drawn yet."""
        given = {"ho3d": self._given.data.ho3d.root, "freihand": freihand.evaluation_root(self._given.data.freihand)}
        return {
            domain: None if given[domain] is None else scoring.open_domain(domain, self._config)
            for domain in evaluation.domains_of(mirror.localised(self._config, "data"))
        }

    @cached_property
    def _listed(self) -> Listed:
        return listing.listed(self._config)


def _evaluation_digest(dataset: HO3D | FreiHAND) -> str:
    truth = [_file_digest(dataset.root / name) for name in TRUTH]
    objects = [dataset.objects_fingerprint()] if isinstance(dataset, HO3D) else []
    return f"{len(dataset)} images {settings.digest(dataset.fingerprint(), truth, objects)}"


def _videos_digest(made: Manifest) -> str:
    return f"{made.videos} videos {settings.digest(made.digests.clips, made.digests.files)}"


def _file_digest(path: Path) -> str | None:
    """SHA-256 of a file's content; None where there is no such file, which its reader reports."""
    return regions.fingerprint([], [path]) if path.is_file() else None
