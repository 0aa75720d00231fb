"""Labelled sets damaged on purpose, as people's copies are."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np


def metas(root: Path, split: str = "train") -> list[Path]:
    """The annotations of the listed frames, in order."""
    return [root / split / f"{name.replace('/', '/meta/')}.pkl" for name in (root / f"{split}.txt").read_text().split()]


def image_of(meta: Path) -> Path:
    """The image beside an annotation."""
    return next((meta.parent.parent / "rgb").glob(f"{meta.stem}.*"))


def edit_meta(path: Path, change) -> None:
    """Write the dict that ``change`` makes of an annotation's."""
    path.write_bytes(pickle.dumps(change(pickle.loads(path.read_bytes())), protocol=2))


def edit_all(root: Path, change, split: str = "train") -> None:
    """The same for all listed frames."""
    for path in metas(root, split):
        edit_meta(path, change)


def edit_points(folder: Path, change) -> None:
    """Rewrite points.xyz of every model; ``change`` takes (P, 3) metres."""
    for path in folder.glob("*/points.xyz"):
        points = np.loadtxt(path)
        path.write_text("".join(f"{x:.6f} {y:.6f} {z:.6f}\n" for x, y, z in change(points)))
