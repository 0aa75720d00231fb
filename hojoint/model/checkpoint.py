"""Checkpoints: a network's weights with the settings, progress and parents they came from.

A checkpoint is bytes (``cluster.store`` knows where they lie), read with ``weights_only`` so that opening one runs no
code, and its weights are compared with the checksum written with them. Not here: the authors' file format
(``released``), networks out of either (``opening``).
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hojoint import config as settings
from hojoint.config import Config, ModelConfig
from hojoint.errors import InputError
from hojoint.model import released
from hojoint.model.encoder import shape_of
from hojoint.model.network import HOJoint

FORMAT = released.OUR_FORMAT
VERSION = 1


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a training run leaves behind, and what it needs to resume (a final one has no optimiser)."""

    config: Config
    weights: dict[str, Tensor]
    optimizer: dict[str, Any] | None
    scheduler: dict[str, Any] | None
    progress: dict[str, Any]  # steps, epochs, history: plain values
    parents: dict[str, Any]  # what it was made from: checksums of teacher and label set
    sha256: str  # of the weights
    last_weights: dict[str, Tensor] | None = None  # where ``weights`` are an average: those in training, to resume


def save(
    network: nn.Module,
    config: Config,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    progress: Mapping[str, Any],
    parents: Mapping[str, Any],
    average: nn.Module | None = None,
) -> bytes:
    """The checkpoint as bytes. ``progress`` and ``parents`` hold plain values or tensors.

    ``average``: of the weights over training; then its weights are the checkpoint's, and ``network``'s only resume.
    """
    _refuse_unplain(progress, "progress")
    _refuse_unplain(parents, "parents")
    last = _weights_of(network)
    weights = last if average is None else _weights_of(average)
    return _to_bytes(
        Checkpoint(
            config,
            weights,
            None if optimizer is None else optimizer.state_dict(),
            None if scheduler is None else scheduler.state_dict(),
            dict(progress),
            dict(parents),
            weights_sha256(weights),
            None if average is None else last,
        )
    )


def _weights_of(network: nn.Module) -> dict[str, Tensor]:
    inner = getattr(network, "module", network)  # out of DistributedDataParallel, whose prefix nobody else knows
    return {name: value.detach().cpu() for name, value in inner.state_dict().items()}


def final(saved: Checkpoint) -> bytes:
    """The same checkpoint without what only resuming needs: the optimiser has twice the bytes of the weights."""
    return _to_bytes(dataclasses.replace(saved, optimizer=None, scheduler=None, last_weights=None))


def _to_bytes(saved: Checkpoint) -> bytes:
    content = {
        "format": FORMAT,
        "version": VERSION,
        "config": settings.to_tree(saved.config),
        "weights": saved.weights,
        "optimizer": saved.optimizer,
        "scheduler": saved.scheduler,
        "progress": saved.progress,
        "parents": saved.parents,
        "sha256": saved.sha256,
        "last_weights": saved.last_weights,
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def load(data: bytes | str | Path, name: str | None = None) -> Checkpoint:
    """Read a checkpoint and compare its weights with their checksum. ``name``: how an error calls it, if it is bytes.

    Raises:
        InputError: the file is missing, damaged, of another program or of a newer version of this one.
    """
    return of_content(released.read(data, name), name or released.name_of(data))


def network_of(checkpoint: Checkpoint) -> HOJoint:
    """The checkpoint's network, in evaluation mode, on the CPU."""
    network = empty(checkpoint.config.model)
    expected, weights = network.state_dict(), checkpoint.weights
    wrong = [
        name for name in sorted(expected.keys() | weights.keys()) if shape_of(expected, name) != shape_of(weights, name)
    ]
    if wrong:
        raise InputError(
            f"the checkpoint's weights do not fit its settings: {len(wrong)} tensors differ, the first is "
            f"{wrong[0]!r} (expected {shape_of(expected, wrong[0])}, found {shape_of(weights, wrong[0])}); another "
            "version of this program wrote it: train again, or use that version"
        )
    network.load_state_dict(weights)
    return network.eval()


def empty(config: ModelConfig) -> HOJoint:
    """A network to be filled: pretrained weights are in the checkpoint already, and must not be fetched again."""
    return HOJoint(config.model_copy(update={"pretrained": None}))


def weights_sha256(weights: Mapping[str, Tensor]) -> str:
    """Checksum of names, types, shapes and values; the same wherever and in whatever order they are stored."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _refuse_unplain(value: Any, where: str) -> None:
    """torch writes a NumPy number and refuses to read it; so refuse it now."""
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


def is_ours(content: Any) -> bool:
    """Whether what ``released.read`` returned is a checkpoint of this program."""
    return isinstance(content, dict) and _plain(content.get("format")) == FORMAT


def _plain(value: Any) -> Any:
    """The value if it is text or a number, else its type's name: comparing a tensor gives a tensor."""
    return value if isinstance(value, str | int | float) else type(value).__name__


def of_content(content: Any, name: str) -> Checkpoint:
    """The checkpoint in what ``released.read`` returned. ``name``: how an error calls it.

    Raises:
        InputError: as ``load``.
    """
    if not is_ours(content):
        raise InputError(
            f"{name} is not a checkpoint of this program: expected one written by jobs.train or jobs.retrain. "
            "The authors' released file can be given as teacher.checkpoint or evaluate.checkpoint"
        )
    if (version := _plain(content.get("version"))) != VERSION:
        raise InputError(f"{name} is a checkpoint of version {version!r}; this program reads {VERSION}")
    missing = {"config", "weights", "optimizer", "scheduler", "progress", "parents", "sha256"} - content.keys()
    if missing:
        raise InputError(
            f"{name} is a checkpoint without {', '.join(sorted(missing))}; it is not complete, make it again"
        )
    _refuse_other_types(content, name)
    weights = content["weights"]
    checksum = weights_sha256(weights)
    if checksum != _plain(content["sha256"]):
        raise InputError(
            f"{name} is damaged: its weights have the checksum {checksum[:12]}, expected "
            f"{str(_plain(content['sha256']))[:12]}; fetch or make it again"
        )
    try:
        config = settings.from_stored(content["config"])
    except InputError as error:
        raise InputError(f"{name} holds settings of another program or version: {error}") from None
    return Checkpoint(
        config,
        weights,
        content["optimizer"],
        content["scheduler"],
        content["progress"],
        content["parents"],
        checksum,
        content.get("last_weights"),
    )


def _refuse_other_types(content: Mapping[str, Any], name: str) -> None:
    """Raise InputError where an entry is not of the type that ``save`` writes."""
    weights = content["weights"]
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise InputError(
            f"{name} is a checkpoint whose weights are not tensors by name; it is not complete, make it again"
        )
    if (odd := released.not_dense(weights)) is not None:
        raise InputError(f"{name} is a checkpoint whose weight {odd} is not a plain array by name; make it again")
    wrong = [key for key in ("progress", "parents") if not isinstance(content[key], dict)]
    resuming = ("optimizer", "scheduler", "last_weights")  # the last is not in checkpoints of earlier versions
    wrong += [key for key in resuming if not isinstance(content.get(key), dict | None)]
    if wrong:
        raise InputError(
            f"{name} is a checkpoint whose {wrong[0]} is a {type(content[wrong[0]]).__name__}, expected a dictionary; "
            "another program changed it: make it again"
        )
