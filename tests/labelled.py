"""A few labelled images in HO-3D's and FreiHAND's layouts, for tests of readers and of training."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hojoint import config as settings
from hojoint.config import Config, ModelConfig
from hojoint.model import checkpoint
from hojoint.model.network import HOJoint
from hojoint.synthetic import write

SMALL: dict[str, Any] = {
    "input_px": 64, "roi_cells": 8, "block": "basic", "blocks": [1, 1, 1, 1], "width": 8, "channels": 8,
    "hourglass_depth": 1, "encoder_stages": 1, "mano_hidden": [16, 16], "attention_hidden": 8,
}  # fmt: skip
TINY_WORDS = ["model.input_px=64", "model.roi_cells=8", "model.width=8", "model.channels=16", "model.encoder_stages=2"]
"""A small network on a command line; what they do not say is of configs/tiny.yaml."""
DEEPER = ModelConfig(
    input_px=64, block="basic", blocks=(1, 1, 1, 1), width=8, channels=16, roi_cells=8, hourglass_depth=2,
    encoder_stages=2, mano_hidden=(32, 24), attention_hidden=32,
)  # fmt: skip


def write_teacher(config: Config, path: Path, **changes: Any) -> str:
    """A checkpoint of random weights with the settings of ``config``; ``changes`` as for ``settings.changed``."""
    config = settings.changed(config, **changes)
    path.write_bytes(checkpoint.save(HOJoint(config.model), config, progress={}, parents={}))
    return str(path)


def draw_world(folder: Path, *, version: str = "v2", frames: int = 4, seed: int = 3) -> Config:
    """Draw two labelled sequences, one evaluation sequence and three test images; the settings that read them."""
    shutil.copytree(_drawn(version, frames, seed), folder, dirs_exist_ok=True)
    return _reading(folder, version, frames, seed)


@functools.cache  # many test files ask for the same world; each gets files of its own
def _drawn(version: str, frames: int, seed: int) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="drawn"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    config = _reading(folder, version, frames, seed)
    for piece in write.missing_pieces(config):
        write.write_piece(piece, config)
    write.finish(config)
    return folder


def _reading(folder: Path, version: str, frames: int, seed: int) -> Config:
    sizes = {
        "train_sequences": 2, "train_frames": frames, "evaluation_sequences": 1, "evaluation_frames": 2,
        "image_width": 320, "image_height": 240, "wild_videos": 1, "wild_frames": 2, "test_images": 3,
        "broken_videos": 0, "ho3d_version": version,
    }  # fmt: skip
    name = f"HO3D_{version}"
    return settings.from_tree(
        {
            "seed": seed,
            "world": str(folder),
            "synthetic": sizes,
            "model": SMALL,
            "data": {
                "ho3d": {
                    "root": str(folder / name),
                    "object_models": str(folder / "object_models"),
                },
                "freihand": {"root": str(folder / "FreiHAND_pub_v2_eval")},
            },
            "train": {"batch_size": 4, "epochs": 3, "loader_processes": 0, "cache": True, "mixed_precision": False},
            "cluster": {"cpus": 2, "object_store_mb": 100, "worker_cpus": 1.0, "threads": 1},
        }
    )
