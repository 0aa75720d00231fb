"""Which vertices of the hand stand for the fingertips of an HO-3D copy: its releases differ, and no file says which.

The labelled tips of a few frames are compared with every known set; another set than ``mano.fingertips`` that fits
better is worth a note before hours of training, for it moves five joints of every hand by millimetres. No setting is
changed here.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from hojoint.config import ManoConfig
from hojoint.datasets import ho3d_meta
from hojoint.datasets.audit import ALL_THE_SAME
from hojoint.datasets.ho3d import HO3D
from hojoint.errors import InputError
from hojoint.hand.factory import hand_layer
from hojoint.hand.model import fingertip_errors, fingertip_ids

SAMPLES = 8  # frames compared
WORSE_MM = 1.0  # a configured set this much worse than the best one is reported
STAND_IN_MM = 3.0  # the labels of the synthetic world fit the stand-in hand better than this; no other labels do
STRANGE_MM = 10.0  # where even the best set is farther off, the labels are another hand's


def advice(dataset: HO3D, config: ManoConfig, checks: Literal["refuse", "note"] = "refuse") -> str | None:
    """A sentence for the user where the configured set does not fit the labels; None where it does.

    Args:
        dataset: either split of HO-3D.
        config: the hand model in use and its fingertips.
        checks: ``data.ho3d.checks``; with 'note' labels of another hand model are a sentence too.

    Raises:
        InputError: no set fits, so the labels are poses of another hand model, and ``checks`` does not let that pass,
            or the configured set is unknown.
    """
    joints, vertices = _labelled(dataset, config) if dataset.split == "train" else _truth(dataset)
    errors = {name: 1000 * error for name, error in fingertip_errors(joints, vertices).items()}
    best, used = min(errors, key=errors.__getitem__), config.fingertips
    fingertip_ids(used)  # InputError where unknown
    if dataset.split == "train" and config.path is None and errors[best] > STAND_IN_MM:
        return None  # labels of MANO, and no MANO is given: hand_checks notes it
    if errors[best] > STRANGE_MM:
        hand = config.path or "the stand-in hand"
        sentence = (
            f"no known fingertip set fits the labels of {dataset.root}: the best, {best}, is {errors[best]:.1f} mm "
            f"off, so another hand model than {hand} made them. Set mano.path and mano.flat_hand_mean to theirs"
        )
        if checks == "refuse":
            raise InputError(f"{sentence}. {ALL_THE_SAME} data.ho3d.checks=note")
        return sentence
    if errors[used] <= errors[best] + WORSE_MM:
        return None
    return (
        f"the fingertips labelled in {dataset.root} are those of mano.fingertips={best} ({errors[best]:.1f} mm off); "
        f"the configured {used} is {errors[used]:.1f} mm off. Set mano.fingertips={best}"
    )


def _labelled(dataset: HO3D, config: ManoConfig) -> tuple[np.ndarray, np.ndarray]:
    """Joints as labelled (N, 21, 3) and vertices of the posed hand (N, 778, 3); m, relative to the wrist."""
    rows = range(0, len(dataset), max(1, len(dataset) // SAMPLES))[:SAMPLES]
    metas = [(dataset.meta(row), dataset.names[row]) for row in rows]
    joints = np.stack([ho3d_meta.joints_cv(meta, name) for meta, name in metas])
    pose = np.stack([ho3d_meta.hand_pose(meta, name, dataset.mean_pose) for meta, name in metas])
    betas = np.stack([ho3d_meta.hand_betas(meta, name) for meta, name in metas])
    posed = hand_layer(config)(torch.from_numpy(pose).float(), torch.from_numpy(betas).float())
    return joints - joints[:, :1], posed.vertices.numpy().astype(np.float64)


def _truth(dataset: HO3D) -> tuple[np.ndarray, np.ndarray]:
    joints, vertices = dataset.truth()
    return joints[:SAMPLES], vertices[:SAMPLES]
