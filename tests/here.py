"""The engines of a pipeline in this process: the work that Ray's actors and workers do, without Ray.

Starting Ray's processes is most of the time of a small pipeline, and one test of the complete route does it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import wild

from cluster import scoring, synthesis
from cluster.training import run as training
from cluster.training import worker
from hojoint.synthetic import write


class Trainer:
    """Stands for Ray's: one worker's loop, and the last checkpoint that it reports."""

    def __init__(self, loop: Callable[[dict[str, Any]], None], *, train_loop_config: dict[str, Any], **_: Any) -> None:
        self._loop, self._config = loop, train_loop_config
        self._saved = b""

    def fit(self) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(worker.ray.train, "report", self._report)
            self._loop(self._config)
        folder = Path(self._config["output"]) / training.RUNS / "reported"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / worker.FILE).write_bytes(self._saved)
        return SimpleNamespace(checkpoint=worker.ray.train.Checkpoint.from_directory(folder))

    def _report(self, metrics: dict[str, Any], checkpoint: Any) -> None:
        with checkpoint.as_directory() as folder:
            self._saved = (Path(folder) / worker.FILE).read_bytes()


class Pool:
    """Stands for ``cluster.growing.GrowingPool``: the first actor does all tasks."""

    def __init__(self, actors: Sequence[Any]) -> None:
        self._actor = actors[0]

    def map(self, send: Callable[[Any, Any], Any], tasks: Sequence[Any]) -> Iterator[Any]:
        return (send(self._actor, task) for task in tasks)


class Actor:
    """Stands for the handle of an actor: ``actor.method.remote(...)`` is its answer."""

    def __init__(self, made: Any) -> None:
        self._made = made

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=getattr(self._made, name))


def remote(**_: Any) -> Callable[[type], Any]:
    """Stands for ``ray.remote``."""
    handles = SimpleNamespace
    return lambda kind: handles(options=lambda **_: handles(remote=lambda *given: Actor(kind(*given))))


def draw(config: Any, todo: Sequence[write.Piece], progress: bool) -> None:
    for piece in todo:
        write.write_piece(piece, config)


def training_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """``cluster.training.run.fit`` runs one worker's loop in this process."""
    monkeypatch.setattr(training, "TorchTrainer", Trainer)
    monkeypatch.setattr(training, "new_board", lambda: None)
    monkeypatch.setattr(training, "Progress", lambda *given, **named: contextlib.nullcontext())
    one = SimpleNamespace(get_world_rank=lambda: 0, get_world_size=lambda: 1)
    monkeypatch.setattr(worker.ray.train, "get_context", lambda: one)
    monkeypatch.setattr(worker.ray.train, "get_checkpoint", lambda: None)
    monkeypatch.setattr(worker.ray.train.torch, "get_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(worker.ray.train.torch, "prepare_model", lambda network: network)


def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing, training, labelling and measuring happen in this process."""
    wild.without_ray(monkeypatch)
    training_here(monkeypatch)
    ray = SimpleNamespace(remote=remote, put=lambda value: value, kill=lambda actor: None)
    monkeypatch.setattr(scoring, "ray", ray)
    monkeypatch.setattr(scoring, "GrowingPool", Pool)
    monkeypatch.setattr(synthesis, "_draw", draw)
