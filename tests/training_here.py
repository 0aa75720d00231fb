"""A training's worker in this process, without Ray Train: for tests that need what was trained, and not the way there.

``test_training`` and ``test_end_to_end`` take the way itself, over Ray Train.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cluster.training import run as training
from cluster.training import worker as train_worker


def one_worker(patch: pytest.MonkeyPatch) -> None:
    """What Ray Train tells the only worker of a run that has no checkpoint yet, on a CPU."""
    told = train_worker.ray.train
    patch.setattr(told, "get_context", lambda: SimpleNamespace(get_world_rank=lambda: 0, get_world_size=lambda: 1))
    patch.setattr(told, "get_checkpoint", lambda: None)
    patch.setattr(told.torch, "get_device", lambda: torch.device("cpu"))
    patch.setattr(told.torch, "prepare_model", lambda network: network)


def train_here(monkeypatch: pytest.MonkeyPatch, chosen: Callable[[str], bool] = lambda output: True) -> list[str]:
    """Let ``training.fit`` train here where ``chosen`` says so of its output; returns these outputs as they come."""
    real, outputs = training._run, []

    def run(job: Any, store: Any, *, progress: bool) -> Any:
        if not chosen(store.root):
            return real(job, store, progress=progress)
        outputs.append(store.root)
        with pytest.MonkeyPatch.context() as patch:
            one_worker(patch)
            patch.setattr(training, "TorchTrainer", HereTrainer)
            patch.setattr(training, "new_board", lambda: None)
            return real(job, store, progress=False)

    monkeypatch.setattr(training, "_run", run)
    return outputs


class HereTrainer:
    """In place of ``TorchTrainer``: calls the loop of the one worker; the last report is the result."""

    def __init__(
        self, loop: Callable[[Any], None], *, train_loop_config: Mapping[str, Any], scaling_config: Any, **_: Any
    ) -> None:
        assert scaling_config.num_workers == 1
        self._loop, self._given = loop, train_loop_config

    def fit(self) -> Any:
        reports: list[Any] = []

        def report(metrics: Mapping[str, Any], checkpoint: Any = None) -> None:
            with checkpoint.as_directory() as folder:  # which its worker removes after this
                content = (Path(folder) / train_worker.FILE).read_bytes()
            reports.append(SimpleNamespace(metrics=metrics, checkpoint=_Checkpoint(content)))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(train_worker.ray.train, "report", report)
            self._loop(self._given)
        return reports[-1]


class _Checkpoint:
    """What ``_last_checkpoint`` asks a checkpoint for."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    @contextlib.contextmanager
    def as_directory(self) -> Iterator[str]:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / train_worker.FILE).write_bytes(self._content)
            yield folder
