"""Whether labelled joints are those of the hand model posed by the labels beside them, and if not, why.

The answer is found by trying: the model as it is given, its mirror image (a left hand's file), and poses with the
model's mean pose added or taken away. Poses are complete here, as training poses them, so the layer is flat. Only the
joints of the skeleton count; for the tips see ``fingertips``. Without mano.path the model is the stand-in, which made
the synthetic world alone: labels of which no frame fits it in any reading are those of another hand, which is worth a
note and no cause to refuse.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from hojoint.config import ManoConfig
from hojoint.datasets.findings import Fault
from hojoint.hand.chosen import hand_model
from hojoint.hand.layer import ManoLayer
from hojoint.hand.model import HandModel

# N frames.

SKELETON = [0, 1, 2, 3, 5, 6, 7, 9, 10, 11, 13, 14, 15, 17, 18, 19]  # of our 21 joints, those that are no tips
NOTED_MM, REFUSED_MM = 3.0, 10.0  # of a frame, of the median; real labels fit their MANO to 0.1 mm, FreiHAND v1 to 6 mm
KINDS = ("hand_differs", "hand_mirrored", "hand_mean", "hand_flipped", "hand_other", "hand_unknown", "hand_vertices")
"""Kinds of faults that say that the hand model does not fit the labels."""
UNKNOWN = (
    "they are not those of the stand-in hand, and mano.path is not given, so they were not compared with MANO; a run "
    "would pose them with the stand-in, which is another hand than theirs"
)
ASKED = "set mano.path=MANO_RIGHT.pkl (mano=MANO_RIGHT.pkl for jobs.doctor)"
FLIP = np.array([-1.0, 1.0, 1.0])
BATCH = 512  # hands posed at once
EXPLAINS = 0.4  # another reading explains the labels if it leaves at most this share of the error


@dataclass(frozen=True, eq=False)
class Labelled:
    """Labels of N hands, in one frame, metres and radians."""

    names: list[str]
    joints: np.ndarray  # (N, 21, 3)
    pose: np.ndarray  # (N, 48)
    betas: np.ndarray  # (N, 10)
    mean_added: bool  # whether their reader added the hand model's mean pose
    by_setting: bool = True  # whether mano.flat_hand_mean decides that


Pose = Callable[[HandModel, np.ndarray, np.ndarray], np.ndarray]
"""(model, complete pose (N, 48), betas (N, 10)) -> joints (N, 21, 3) m."""


def kinematic(model: HandModel, pose: np.ndarray, betas: np.ndarray) -> np.ndarray:
    """Joints of the skeleton, as HO-3D labels them; the tips are those of any set."""
    layer = ManoLayer(model)
    return layer(torch.from_numpy(pose).float(), torch.from_numpy(betas).float()).joints.numpy().astype(np.float64)


def regressed(model: HandModel, pose: np.ndarray, betas: np.ndarray) -> np.ndarray:
    """Joints regressed from posed vertices, as FreiHAND labels them."""
    layer = ManoLayer(model, fingertips="freihand")
    vertices = layer(torch.from_numpy(pose).float(), torch.from_numpy(betas).float()).vertices
    return layer.regressed_joints(vertices).numpy().astype(np.float64)


def fault(labelled: Labelled, config: ManoConfig, where: str, pose: Pose) -> Fault | None:
    """A fault where the hand model does not make the labelled joints; None where it does, or without labels.

    Args:
        labelled: the hands, with poses as training reads them.
        config: names the hand model.
        where: the data set's folder.
        pose: which joints the set labels.
    """
    if not labelled.names:
        return None
    model = hand_model(config)
    errors = _errors_mm(labelled, model, pose)
    bad, mean, middle = int((errors > NOTED_MM).sum()), float(errors.mean()), float(np.median(errors))
    if not bad:
        return None
    many = f"{bad} of {len(errors)} frames"
    hand = config.path or "the stand-in hand"
    found = f"{where}: labelled joints differ from {hand}, posed by the labels, by {mean:.1f} mm on average ({many})"
    foreign = config.path is None and bad == len(errors)
    if foreign or middle > REFUSED_MM:
        limit = min(EXPLAINS * middle, NOTED_MM) if foreign else EXPLAINS * middle
        kind, cause, remedy = _cause(labelled, model, pose, limit)
        if foreign and kind == "hand_other":
            return Fault("hand_unknown", where, bad, f"{found}; {UNKNOWN}", ASKED, fatal=False)
        if middle > REFUSED_MM:
            return Fault(kind, where, bad, f"{found}; {cause}", remedy)
    row = int(errors.argmax())
    remedy = f"the worst is {labelled.names[row]} with {errors[row]:.1f} mm; look at it with jobs.doctor"
    return Fault("hand_differs", where, bad, found, remedy, fatal=False)


def _cause(labelled: Labelled, model: HandModel, pose: Pose, limit: float) -> tuple[str, str, str]:
    """The reading of hand and labels that explains them best, to ``limit`` mm (median), as kind, words and remedy."""
    flipped = replace(labelled, joints=labelled.joints * FLIP)
    mean = np.concatenate([np.zeros(3), model.hands_mean])
    other = replace(labelled, pose=labelled.pose + (-mean if labelled.mean_added else mean))
    errors = {
        "hand_mirrored": _middle_mm(labelled, _mirrored(model), pose),
        "hand_mean": _middle_mm(other, model, pose),
        "hand_flipped": _middle_mm(flipped, model, pose),
    }
    best = min(errors, key=errors.__getitem__)
    if errors[best] > limit:
        remedy = "set mano.path to the MANO file that made the labels (MANO_RIGHT.pkl)"
        return "hand_other", "another hand model made the labels", remedy
    fits = f"to {errors[best]:.1f} mm"
    if best == "hand_mirrored":
        cause = f"its mirror image fits {fits}, so these are left hands"
        return best, cause, "leave them out; only right hands are trained on"
    if best == "hand_mean":
        if not labelled.by_setting:
            cause = f"relative to the flat hand they fit {fits}, and this set's poses are relative to the mean hand"
            return best, cause, "fetch the labels again"
        setting = f"mano.flat_hand_mean={str(labelled.mean_added).lower()}"
        return best, f"with {setting} they fit {fits}", f"set {setting}"
    return best, f"mirrored joints fit {fits}, so joints and poses are of different sides", "fetch the labels again"


def _middle_mm(labelled: Labelled, model: HandModel, pose: Pose) -> float:
    """The median over frames: one label that is metres off decides nothing."""
    return float(np.median(_errors_mm(labelled, model, pose)))


def _errors_mm(labelled: Labelled, model: HandModel, pose: Pose) -> np.ndarray:
    """Mean distance of the skeleton's joints, wrist on wrist, (N,) mm."""
    out = []
    for start in range(0, len(labelled.names), BATCH):
        part = slice(start, start + BATCH)
        posed = pose(model, labelled.pose[part], labelled.betas[part])[:, SKELETON]
        known = labelled.joints[part][:, SKELETON]
        difference = (posed - posed[:, :1]) - (known - known[:, :1])
        out.append(1000 * np.linalg.norm(difference, axis=-1).mean(1))
    return np.concatenate(out)


def _mirrored(model: HandModel) -> HandModel:
    """The other hand: every x is negated. Corrections by pose are left out; they do not move the skeleton."""
    return replace(
        model,
        v_template=model.v_template * FLIP,
        shapedirs=model.shapedirs * FLIP[:, None],
        posedirs=np.zeros_like(model.posedirs),
    )
