"""What a training run is before it starts, and what it has left: its data, its schedule, its identity, its result.

A run's name holds a digest of its settings and of its data, so two runs of one name have one result. Known without a
cluster. How it is trained: ``run``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cluster.labelling.units import differences
from cluster.sources import mirror
from cluster.store import Store, read_uri
from cluster.training import seen
from cluster.training.data import EDITION, HELD_OUT, TrainingData, labels_of, open_data
from cluster.training.seen import Seen, Wanted
from cluster.training.worker import FILE, SPEED, start_from
from hojoint import config as settings
from hojoint.config import Config
from hojoint.errors import InputError
from hojoint.model import checkpoint, encoder
from hojoint.training.schedule import Schedule

FACTS = "training.json"  # written last: where it exists, the run is complete
RESULT_SETTINGS = ("seed", "model", "mano", "crop", "augment", "loss")
EDITION_NAME = "data.edition"
PRECISION, PLAIN = "precision", "float32"
"""Name of the precision in an identity, and the one that is not named: that of CPUs, and of all earlier identities."""
TERMS = ("joints_2d", "vertices", "joints_3d", "rotations", "betas", "control_points", "confidence")
"""Weights in ``loss`` of what every network learns."""
NOT_RESULT = {"loader_processes", "cache", "checkpoint_every_epochs", "checkpoint_steps"}  # of 'train': how, not what


@dataclass(frozen=True)
class TrainResult:
    """What a finished run leaves."""

    checkpoint: str  # path or URI
    sha256: str  # of the weights
    steps: int
    samples: int
    history: list[dict[str, float]]  # one entry per epoch
    ended: str  # why training stopped there
    seconds: float  # of the call that finished it
    reused: bool  # the run was finished before this call
    workers: tuple[int, int] | None = None  # least and most that it was trained with; None in earlier versions
    samples_per_s_of_a_worker: float | None = None  # since it started last; None in earlier versions and short runs


@dataclass(frozen=True, eq=False)
class TrainingJob:
    """A run before it starts: its data, its schedule and its name."""

    config: Config
    data: TrainingData
    schedule: Schedule
    parents: dict[str, Any]  # for its checkpoints: data, seen, and if it has any, teacher, labels, init_checkpoint
    identity: dict[str, Any]  # flat; two runs of one identity have one result
    name: str


def plan_job(config: Config) -> TrainingJob:
    """Open the data and count, without a cluster.

    Raises:
        InputError: the data or the initial weights are missing or wrong, the weights have seen what is held out, a
            batch is too small for its workers, or as ``refuse_idle``.
    """
    refuse_idle(config)
    data = open_data(config)
    schedule = data.schedule(config)
    _refuse_small_batch(config)
    parents: dict[str, Any] = labels_of(config) if data.pseudo else {}
    identity: dict[str, Any] = {f"parents.{name}": value for name, value in parents.items()}
    parents["data"] = data.fingerprints()
    identity |= {f"data.{name}": value for name, value in parents["data"].items()} | {EDITION_NAME: EDITION}
    tree = settings.to_tree(config)
    del tree["mano"]["path"]  # the hand model counts by its content
    tree["train"] = {key: value for key, value in tree["train"].items() if key not in NOT_RESULT}
    tree["train"] |= _order_of(data, config)
    tree["train"]["init_checkpoint"], begun = _initial(config)
    _refuse_seen(config, data, parents["data"], begun)
    if (known := seen.after(data, begun)) is not None:
        parents[seen.SEEN] = known
    tree["model"]["pretrained"] = _pretrained(config)
    for group, name, plain in (("train", "init_checkpoint", None), ("model", "pretrained", "imagenet")):
        if tree[group][name] not in (None, plain):
            parents[name] = tree[group][name]
    for group in (*RESULT_SETTINGS, "train"):
        values = tree[group] if isinstance(tree[group], dict) else {"": tree[group]}
        identity |= {f"{group}.{key}".rstrip("."): value for key, value in values.items()}
    if (precision := precision_of(config)) != PLAIN:
        identity[PRECISION] = precision
    return TrainingJob(config, data, schedule, parents, identity, f"{config.name}-{settings.digest(identity)}")


def _refuse_small_batch(config: Config) -> None:
    """InputError where a worker has no sample, or a single one of which no batch statistics can be taken."""
    size, workers, model = config.train.batch_size, config.cluster.workers[1], config.model
    if size < workers:
        raise InputError(
            f"train.batch_size={size} is too small to be shared by cluster.workers={workers}; every worker needs a "
            "sample"
        )
    if size < 2 * workers and model.roi_cells == 2**model.hourglass_depth:
        raise InputError(
            f"train.batch_size={size} on cluster.workers={workers} gives a worker a single image, and "
            f"model.hourglass_depth={model.hourglass_depth} halves model.roi_cells={model.roi_cells} to a single cell: "
            "batch statistics need two values. Give each worker two images, or a depth of "
            f"{model.hourglass_depth - 1}"
        )


def precision_of(config: Config) -> str:
    """Type of the numbers that the workers' networks compute with (``engine.autocast``)."""
    return "bfloat16" if config.train.mixed_precision and config.cluster.worker_gpus > 0 else PLAIN


def refuse_idle(config: Config) -> None:
    """InputError where nothing would be learned, or nothing from pseudo-labels, or where a setting has no effect."""
    loss, train, side_head = config.loss, config.train, config.model.side_head
    sides = side_head and loss.side > 0
    if not sides and not any(getattr(loss, name) > 0 for name in TERMS):
        raise InputError(
            "all weights of loss are 0, so nothing would be learned; give loss.joints_2d and others above 0"
        )
    if "pseudo" in train.datasets:
        if train.pseudo_share == 0:
            raise InputError(
                "train.pseudo_share=0 draws no pseudo-label; give a share above 0, or null to draw every sample alike"
            )
        if loss.pseudo_2d == 0 and loss.pseudo_3d == 0 and not (sides and loss.pseudo_side > 0):
            raise InputError(
                "loss.pseudo_2d=0 and loss.pseudo_3d=0 leave nothing to learn from pseudo-labels; give one above 0"
            )
    if not side_head and (loss.pseudo_side > 0 or train.side_augment is not None):
        name = "loss.pseudo_side" if loss.pseudo_side > 0 else "train.side_augment"
        raise InputError(
            f"{name} is of the head that tells right from left: give model.side_head=true, or leave it out"
        )
    if side_head and train.init_checkpoint is None and (cause := untaught_head(config)) is not None:
        raise InputError(_untaught(cause))


def untaught_head(config: Config) -> str | None:
    """The settings by which no image teaches ``model.side_head``; None where one does."""
    loss, train = config.loss, config.train
    if loss.side == 0:
        return "loss.side=0"
    if train.mirrored_share == 0:
        return "train.mirrored_share=0"
    if loss.pseudo_side > 0 or (set(train.datasets) != {"pseudo"} and train.pseudo_share != 1):
        return None
    return "loss.pseudo_side=0 with pseudo-labels alone"


def _untaught(cause: str) -> str:
    return (
        f"model.side_head=true needs images that teach the head right from left, and with {cause} none does: it would "
        "decide by chance. Change that, start from a network whose head is trained (train.init_checkpoint), or give "
        "model.side_head=false"
    )


def _order_of(data: TrainingData, config: Config) -> dict[str, Any]:
    """The settings of ``train`` that decide the order of the samples, as they are followed.

    Data in memory have the order of earlier versions, which had neither setting: both are then the defaults.
    """
    if data.streams:
        return {"stream": True, "window_samples": config.train.window_samples}
    return {"stream": None, "window_samples": type(config.train).model_fields["window_samples"].default}


def _initial(config: Config) -> tuple[str | None, Seen | None]:
    """Checksum of ``train.init_checkpoint`` and what its network has seen.

    Without one, pretrained weights are checked and not fetched.
    """
    if config.train.init_checkpoint is None:
        encoder.check_pretrained(mirror.localised(config, "model.pretrained").model)
        return None, None
    network = checkpoint.empty(config.model)
    saved = start_from(network, config.train.init_checkpoint)
    cause, before = untaught_head(config), saved.config
    if config.model.side_head and cause and untaught_head(before) and before.train.init_checkpoint is None:
        raise InputError(f"{_untaught(cause)}. That of {config.train.init_checkpoint} is not trained either")
    return checkpoint.weights_sha256(network.state_dict()), seen.of_checkpoint(saved)


def _refuse_seen(config: Config, data: TrainingData, digests: Mapping[str, str], begun: Seen | None) -> None:
    """InputError where the initial weights have seen what this training holds out and measures as unseen."""
    if begun is None or data.held_out is None:
        return
    count, files = config.train.held_out, config.data.ho3d.shards is None
    wanted = Wanted(count, seen.recordings_of(data.held_out.names), digests[HELD_OUT] if files else None)
    if (fault := seen.fault(begun, wanted)) is not None:
        raise InputError(
            f"train.held_out={count} holds out recordings that no training has seen, and the network of "
            f"train.init_checkpoint={config.train.init_checkpoint} was trained {fault}; start from one that was "
            "trained with the number here and the same list, or from scratch"
        )


def _pretrained(config: Config) -> str | None:
    """``model.pretrained``, a file by its content; None where ``train.init_checkpoint`` replaces its weights."""
    path = config.model.pretrained
    if path is None or path == "imagenet":
        return path
    if config.train.init_checkpoint is not None:
        return None
    return f"weights {hashlib.sha256(read_uri(path)).hexdigest()[:12]}"


def finished(job: TrainingJob, store: Store) -> TrainResult | None:
    """The result that an earlier call left in the output, if it is this job's.

    Raises:
        InputError: the output holds another run's result.
    """
    if not store.exists(FACTS):
        return None
    facts = json.loads(store.get(FACTS))
    stored, identity = settings.renamed(facts["identity"]), json.loads(json.dumps(job.identity))
    # A setting that an earlier version did not have had no effect, as its default has none.
    noted = (*RESULT_SETTINGS[1:], "train")
    missing = {name: value for name, value in settings.defaults().items() if name.partition(".")[0] in noted}
    stored = {name: value for name, value in missing.items() if name in identity} | stored
    if PRECISION not in facts:  # of an earlier version, which did not tell
        identity.pop(PRECISION, None)
    earlier = stored.get(EDITION_NAME) != EDITION
    if earlier:
        stored, identity = _without_data(stored), _without_data(identity)
    if different := differences(stored, identity):
        listed = "\n  ".join(different[:8])
        was = stored.get("train.stream")
        streamed = ""
        if was != identity.get("train.stream"):
            streamed = f"give train.stream={json.dumps(bool(was))} as it was, "
        raise InputError(
            f"{store.root} holds a network that was trained with different settings or data ({len(different)} "
            f"differences):\n  {listed}\nGive another output, {streamed}or remove that one"
        )
    if earlier:
        raise InputError(
            f"{store.root} holds a network that an earlier version trained with these settings. Its digests of the "
            "data covered less, so it cannot be told whether the data are the same. Use its checkpoint.pt as it is, "
            "or give another output"
        )
    if not store.exists(FILE):
        raise InputError(f"{store.root} has {FACTS} but no {FILE}; remove {FACTS} to train again")
    return TrainResult(
        checkpoint=store.uri(FILE),
        sha256=facts["sha256"],
        steps=facts["steps"],
        samples=facts["samples"],
        history=facts["history"],
        ended=facts.get("ended", f"all {facts['steps']} steps"),
        seconds=facts["seconds"],
        reused=True,
        workers=None if facts.get("workers") is None else tuple(facts["workers"]),
        samples_per_s_of_a_worker=facts.get(SPEED),
    )


def _without_data(identity: Mapping[str, Any]) -> dict[str, Any]:
    """An identity without what an earlier version noted of the data in another way."""
    return {name: value for name, value in identity.items() if not name.startswith("data.") and name != "mano.path"}
