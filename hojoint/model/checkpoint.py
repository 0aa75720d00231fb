"""Checkpoints: a network's weights with the settings, progress and parents they came from.

A checkpoint is bytes (where they lie is ``cluster.store``'s matter), read with ``weights_only`` so that opening one
runs no code, and its weights are held to the checksum written with them. The authors' file format is in ``released``.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hojoint import config as settings
from hojoint.config import Config, CropConfig, ModelConfig
from hojoint.errors import InputError
from hojoint.model import released
from hojoint.model.network import HOJoint
from hojoint.model.released import load_released, save_released
from hojoint.settings_file import shown

__all__ = [
    "Checkpoint",
    "empty",
    "load",
    "load_released",
    "network_of",
    "open_teacher",
    "overridden",
    "save",
    "save_released",
    "weights_sha256",
]

FORMAT = "hojoint-checkpoint"
VERSION = 1


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a training run leaves behind, and what it needs to go on."""

    config: Config
    weights: dict[str, Tensor]
    optimizer: dict[str, Any] | None
    scheduler: dict[str, Any] | None
    progress: dict[str, Any]  # steps, epochs, history: plain values
    parents: dict[str, Any]  # what it was made from: checksums of teacher and label set
    sha256: str  # of the weights


def save(
    network: nn.Module,
    config: Config,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    progress: Mapping[str, Any],
    parents: Mapping[str, Any],
) -> bytes:
    """The checkpoint as bytes. ``progress`` and ``parents`` hold plain values or tensors."""
    _refuse_unplain(progress, "progress")
    _refuse_unplain(parents, "parents")
    inner = getattr(network, "module", network)  # out of DistributedDataParallel, whose prefix nobody else knows
    weights = {name: value.detach().cpu() for name, value in inner.state_dict().items()}
    content = {
        "format": FORMAT,
        "version": VERSION,
        "config": settings.to_tree(config),
        "weights": weights,
        "optimizer": None if optimizer is None else optimizer.state_dict(),
        "scheduler": None if scheduler is None else scheduler.state_dict(),
        "progress": dict(progress),
        "parents": dict(parents),
        "sha256": weights_sha256(weights),
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def load(data: bytes | str | Path, name: str | None = None) -> Checkpoint:
    """Read a checkpoint and hold its weights to their checksum. ``name``: how an error calls it, where it is bytes.

    Raises:
        InputError: the file is missing, damaged, of another program or of a newer version of this one.
    """
    return _checkpoint(released.read(data, name), name or released.name_of(data))


def network_of(checkpoint: Checkpoint) -> HOJoint:
    """The checkpoint's network, in evaluation mode, on the CPU."""
    network = empty(checkpoint.config.model)
    wanted, found = network.state_dict(), checkpoint.weights
    wrong = [name for name in sorted(wanted.keys() | found.keys()) if _shape(wanted, name) != _shape(found, name)]
    if wrong:
        raise InputError(
            f"the checkpoint's weights do not fit its own settings: {len(wrong)} tensors differ, the first is "
            f"{wrong[0]!r} (wanted {_shape(wanted, wrong[0])}, found {_shape(found, wrong[0])}); it was written by "
            "another version of this program: train again, or use that version"
        )
    network.load_state_dict(found)
    return network.eval()


def empty(config: ModelConfig) -> HOJoint:
    """A network to be filled: what it was pretrained with is in the weights already, and must not be fetched again."""
    return HOJoint(config.model_copy(update={"pretrained": None}))


def open_teacher(data: bytes | str | Path, base: Config, name: str | None = None) -> tuple[HOJoint, Config, str]:
    """A teacher from our own checkpoint or the authors' released file: network, its settings, checksum of the weights.

    What the weights were trained with (model, hand model, crop) comes from the checkpoint, everything else from
    ``base``; a released file holds no settings, so it gets the released network and ``base``'s hand model and crop.
    Only the path of a MANO file is taken from ``base`` if given there, for it may lie elsewhere on this machine.
    ``name``: how an error calls the checkpoint; None means ``base.teacher.checkpoint`` where ``data`` is bytes.

    Raises:
        InputError: the file cannot be read, or is the released one and ``base`` is not as it was trained.
    """
    name = name or (base.teacher.checkpoint if isinstance(data, bytes) else None)
    content = released.read(data, name)
    name = name or released.name_of(data)
    if not _is_ours(content):
        network = released.network_of(content, name)
        _refuse_another_world(base, name)
        return network, base.model_copy(update={"model": network.config}), weights_sha256(network.state_dict())
    checkpoint = _checkpoint(content, name)
    own = checkpoint.config
    mano = own.mano
    if mano.path is not None and base.mano.path is not None:
        mano = mano.model_copy(update={"path": base.mano.path, "layer": base.mano.layer})
    config = base.model_copy(update={"model": own.model, "mano": mano, "crop": own.crop})
    return network_of(checkpoint), config, checkpoint.sha256


def overridden(base: Config, own: Config, groups: Sequence[str] = ("model", "mano", "crop")) -> str | None:
    """A note that names each setting given in ``base`` that the checkpoint replaced, with both values.

    ``own`` is what ``open_teacher`` made of ``base``. None where they agree. ``model.pretrained`` is left out, because
    the checkpoint's weights replace any others.
    """
    replaced = []
    for group in groups:
        given, used = getattr(base, group), getattr(own, group)
        for name in sorted(given.model_fields_set - {"pretrained"}):
            before, after = getattr(given, name), getattr(used, name)
            if before != after and (group, name, before) != ("mano", "path", None):
                replaced.append(f"{group}.{name}={shown(before)} (the checkpoint has {shown(after)})")
    return f"settings of the checkpoint replace those given: {', '.join(replaced)}" if replaced else None


def _refuse_another_world(base: Config, name: str) -> None:
    """The released weights speak of MANO's hand in the released crop, and their file does not say so itself."""
    told = []
    if base.mano.path is None:
        told.append("mano.path is not given, and the stand-in hand is another one")
    for setting in ("context", "hand_roi_scale", "object_roi_scale"):
        wanted, found = getattr(CropConfig(), setting), getattr(base.crop, setting)  # the defaults are the release's
        if found != wanted:
            told.append(f"crop.{setting} is {found:g} instead of {wanted:g}")
    if told:
        raise InputError(
            f"{name} is the authors' released network, made for MANO's hand and its own crop, and {'; '.join(told)}. "
            "Give mano.path=MANO_RIGHT.pkl and --config configs/released.yaml"
        )


def weights_sha256(weights: Mapping[str, Tensor]) -> str:
    """Checksum of names, types, shapes and values; the same wherever and in whatever order they are stored."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _refuse_unplain(value: Any, where: str) -> None:
    """A NumPy number is written without complaint and refused when read; better to hear of it now."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _refuse_unplain(inner, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            _refuse_unplain(inner, f"{where}.{number}")
    elif type(value) not in (str, int, float, bool, type(None), Tensor):
        raise TypeError(
            f"{where} must be a plain value or a tensor to be read back from a checkpoint; found {type(value)}"
        )


def _is_ours(content: Any) -> bool:
    return isinstance(content, dict) and content.get("format") == FORMAT


def _checkpoint(content: Any, name: str) -> Checkpoint:
    if not _is_ours(content):
        raise InputError(
            f"{name} is not a checkpoint of this program: expected one written by jobs.train or jobs.retrain. "
            "The authors' released file can be given as teacher.checkpoint only"
        )
    if content.get("version") != VERSION:
        raise InputError(f"{name} is a checkpoint of version {content.get('version')!r}; this program reads {VERSION}")
    missing = {"config", "weights", "optimizer", "scheduler", "progress", "parents", "sha256"} - content.keys()
    if missing:
        raise InputError(f"{name} is a checkpoint without {', '.join(sorted(missing))}; it is not whole, make it again")
    weights = content["weights"]
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise InputError(
            f"{name} is a checkpoint whose weights are not tensors by name; it is not whole, make it again"
        )
    found = weights_sha256(weights)
    if found != content["sha256"]:
        raise InputError(
            f"{name} is damaged: its weights have the checksum {found[:12]}, not {str(content['sha256'])[:12]} as "
            "written with them; fetch or make it again"
        )
    try:
        config = settings.from_stored(content["config"])
    except InputError as error:
        raise InputError(f"the settings inside {name} are not this program's: {error}") from None
    return Checkpoint(
        config,
        weights,
        content["optimizer"],
        content["scheduler"],
        dict(content["progress"]),
        dict(content["parents"]),
        found,
    )


def _shape(tensors: Mapping[str, Tensor], name: str) -> tuple[int, ...] | None:
    return tuple(tensors[name].shape) if name in tensors else None
