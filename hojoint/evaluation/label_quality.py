"""How many of the filter's labels are correct: predicted frames against a truth, kept against rejected (Sec. 5.1).

The paper could not measure this, as its videos have no truth; the synthetic world's videos and a labelled data set have
one. A frame is *correct* when its side, its 2D joints and its 3D joints all are (``CorrectWhen``). Unlike the official
score (``metrics``), alignment here forbids reflections: a mirrored hand is a wrong label.
Not here: the rules (``labelling.filters``) and the search for thresholds (``calibration``).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from hojoint import geometry
from hojoint.config import CalibrateConfig
from hojoint.errors import InputError
from hojoint.evaluation import true_poses
from hojoint.evaluation.true_poses import WIDTHS, stacked
from hojoint.hand.layer import HandLayer

# N predicted frames; 21 joints.

Joints = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""MANO pose (N, 48) rad and betas (N, 10) to wrist-centred joints (N, 21, 3) in metres."""


@dataclass(frozen=True)
class CorrectWhen:
    """The bounds within which a label counts as correct."""

    max_aligned_mm: float = 15.0  # PA-MPJPE: are the fingers correct?
    max_joints_2d: float = 0.15  # mean 2D joint distance in hand-box sides: does the label lie on the hand?
    max_wrist_mm: float | None = None  # MPJPE with the wrists at one point: is the global orientation correct?

    @classmethod
    def of(cls, config: CalibrateConfig) -> CorrectWhen:
        """The bounds of the settings."""
        return cls(config.max_aligned_mm, config.max_joints_2d, config.max_wrist_mm)

    def told(self) -> dict[str, float | None]:
        """Error -> its bound, for JSON; None where it has none."""
        return {"aligned_mm": self.max_aligned_mm, "joints_2d": self.max_joints_2d, "wrist_mm": self.max_wrist_mm}


@dataclass(frozen=True, eq=False)
class LabelErrors:
    """Per predicted frame; NaN and False where the frame has no true hand."""

    truth: np.ndarray  # (N,) bool: the frame has a true hand
    aligned_mm: np.ndarray  # (N,) PA-MPJPE: mean joint distance after similarity alignment
    wrist_mm: np.ndarray  # (N,) MPJPE (root-aligned): mean joint distance with the wrists at one point
    joints_2d: np.ndarray  # (N,) mean joint distance in the image, in sides of the given hand box
    left: np.ndarray  # (N,) bool: the true hand is a left one
    side_correct: np.ndarray  # (N,) bool: the predicted side is the true one

    def correct(self, when: CorrectWhen = CorrectWhen()) -> np.ndarray:
        """(N,) bool; a label in a frame without a true hand is wrong."""
        with np.errstate(invalid="ignore"):
            close = (self.aligned_mm <= when.max_aligned_mm) & (self.joints_2d <= when.max_joints_2d)
            if when.max_wrist_mm is not None:
                close &= self.wrist_mm <= when.max_wrist_mm
        return self.truth & self.side_correct & close

    def take(self, rows: np.ndarray) -> LabelErrors:
        """The errors of some frames."""
        return LabelErrors(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def hand_joints(layer: HandLayer, pose: np.ndarray, betas: np.ndarray, chunk: int = 512) -> np.ndarray:
    """(N, 21, 3) m wrist-centred joints of the right-hand model, from pose (N, 48) rad and betas (N, 10) of a table."""
    joints = [np.zeros((0, 21, 3))]
    for start in range(0, len(pose), chunk):
        pose_B48, betas_B10 = (torch.from_numpy(array[start : start + chunk]).float() for array in (pose, betas))
        with torch.no_grad():
            # As in the tables: complete rotations, to which no layer adds the mean hand.
            rotations_B1633 = geometry.axis_angle_to_matrix(pose_B48.reshape(-1, 16, 3))
            joints.append(layer.from_rotations(rotations_B1633, betas_B10).joints.double().numpy())
    return np.concatenate(joints)


def joints_of(layer: HandLayer) -> Joints:
    """``hand_joints`` of one hand model."""
    return functools.partial(hand_joints, layer)


def aligned_errors(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(N, P) distances after the best rotation, scale and translation of each sample; never a reflection.

    Args:
        predicted, truth: (N, P, 3), any common unit. A prediction that is one point moves to the truth's centre.
    """
    a = truth - truth.mean(axis=1, keepdims=True)
    b = predicted - predicted.mean(axis=1, keepdims=True)
    u, s, vt = np.linalg.svd(np.einsum("npi,npj->nij", a, b))
    sign = np.ones_like(s)
    sign[:, 2] = np.sign(np.linalg.det(u) * np.linalg.det(vt))
    rotation = (u * sign[:, None, :]) @ vt
    scale = (s * sign).sum(axis=1) / np.maximum((b**2).sum(axis=(1, 2)), 1e-16)
    return np.linalg.norm(a - scale[:, None, None] * b @ rotation.transpose(0, 2, 1), axis=2)


def errors_between(
    joints: np.ndarray,
    joints_px: np.ndarray,
    flipped: np.ndarray,
    boxes: np.ndarray,
    true_joints: np.ndarray,
    true_px: np.ndarray,
    true_left: np.ndarray,
) -> LabelErrors:
    """Compare frame by frame; a row with NaN in the truth means no hand, in a prediction that it is wrong.

    Args:
        joints: (N, 21, 3) m of the right-hand model, as predicted.
        joints_px: (N, 21, 2) px of the true (not mirrored) image.
        flipped: (N,) bool, labelled as a left hand.
        boxes: (N, 4) the given hand boxes xyxy, px.
        true_joints: (N, 21, 3) m of the right-hand model too; for a left hand those of the mirrored image.
        true_px: (N, 21, 2) px of the true image.
        true_left: (N,) bool, the true hand is a left one.
    """
    has_hand = np.isfinite(true_joints).all(axis=(1, 2))
    mirror = np.array([-1.0, 1, 1])
    pred = joints * np.where(flipped[:, None, None], mirror, 1.0)
    true = np.where(has_hand[:, None, None], true_joints, 0.0) * np.where(true_left[:, None, None], mirror, 1.0)
    finite = np.isfinite(pred).all(axis=(1, 2))
    # An SVD of NaN would raise. The errors of such a frame stay NaN, so it is never correct.
    aligned = aligned_errors(np.where(finite[:, None, None], pred, 0.0), true).mean(axis=1) * 1000
    aligned = np.where(finite, aligned, np.nan)
    root_aligned = np.linalg.norm((pred - pred[:, :1]) - (true - true[:, :1]), axis=2).mean(axis=1) * 1000
    sides = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    joints_2d = np.linalg.norm(joints_px - true_px, axis=2).mean(axis=1) / np.maximum(sides, 1e-9)
    return LabelErrors(
        truth=has_hand,
        aligned_mm=np.where(has_hand, aligned, np.nan),
        wrist_mm=np.where(has_hand, root_aligned, np.nan),
        joints_2d=np.where(has_hand, joints_2d, np.nan),
        left=has_hand & true_left,
        side_correct=has_hand & (true_left == flipped),
    )


def errors_of_tables(predictions: pa.Table, truth: pa.Table, joints_of: Joints) -> LabelErrors:
    """Errors of each row of a predictions table, in its order, against a table of true poses.

    Args:
        truth: as ``true_poses.checked`` takes it. A frame without a row counts as one without a hand.

    Raises:
        InputError: as ``true_poses.checked``.
    """
    truth = true_poses.checked(truth)
    joints_px = stacked(predictions, "joints_px").reshape(-1, 21, 2)
    pose, betas = stacked(predictions, "mano_pose"), stacked(predictions, "mano_shape")
    boxes = stacked(predictions, "hand_box")
    rows = matching_rows(predictions, truth)
    matched = rows >= 0
    true_joints = np.full((len(rows), 21, 3), np.nan)
    true_px = np.full((len(rows), 21, 2), np.nan)
    true_joints[matched] = stacked(truth, "joints", WIDTHS["joints"]).reshape(-1, 21, 3)[rows[matched]]
    true_px[matched] = stacked(truth, "joints_px", WIDTHS["joints_px"]).reshape(-1, 21, 2)[rows[matched]]
    left = np.zeros(len(rows), bool)
    left[matched] = np.array(truth["side"].to_pylist())[rows[matched]] == "left"
    flipped = np.array(predictions["flipped"].to_pylist(), dtype=bool)
    return errors_between(joints_of(pose, betas), joints_px, flipped, boxes, true_joints, true_px, left)


def matching_rows(predictions: pa.Table, truth: pa.Table) -> np.ndarray:
    """(N,) the truth's row for each prediction, -1 for none; of two hands in a frame, the one nearer to the box.

    Args:
        truth: as ``true_poses.checked`` returns it.
    """
    boxes = stacked(predictions, "hand_box", 4)
    centres = stacked(truth, "joints_px", WIDTHS["joints_px"]).reshape(-1, 21, 2).mean(axis=1)
    rows_of: dict[tuple[str, int], list[int]] = {}
    for row, key in enumerate(zip(truth["video_id"].to_pylist(), truth["frame"].to_pylist(), strict=True)):
        rows_of.setdefault(key, []).append(row)
    out = np.full(len(predictions), -1, dtype=np.int64)
    keys = zip(predictions["video_id"].to_pylist(), predictions["frame"].to_pylist(), strict=True)
    for number, key in enumerate(keys):
        candidates = rows_of.get(key, [])
        middle = (boxes[number, :2] + boxes[number, 2:]) / 2
        if candidates:
            apart = np.linalg.norm(centres[candidates] - middle, axis=1)
            out[number] = candidates[int(np.argmin(np.nan_to_num(apart, nan=np.inf)))]  # a row of no hand is the last
    return out


def summary(
    errors: LabelErrors, verdicts: Sequence[str], rules: Sequence[str], when: CorrectWhen = CorrectWhen()
) -> dict[str, Any]:
    """Numbers of ``group`` for kept and rejected frames and for those that each rule rejected; plain, for JSON.

    Args:
        verdicts: (N,) 'kept' or the first rule that the frame broke.
        rules: names of rules.
    """
    verdict = np.asarray(verdicts, dtype=object)
    if len(verdict) != len(errors.truth):
        raise InputError(f"expected a verdict per frame; found {len(verdict)} for {len(errors.truth)} frames")
    kept = verdict == "kept"
    return {
        "right_when": when.told(),
        "frames": len(verdict),
        "all": group(errors, np.ones(len(verdict), bool), when),
        "kept": group(errors, kept, when),
        "rejected": group(errors, ~kept, when),
        "by_rule": {rule: group(errors, verdict == rule, when) for rule in rules},
        "sides": sides(errors, kept),
    }


def refined_summary(errors: LabelErrors, filled: np.ndarray, when: CorrectWhen = CorrectWhen()) -> dict[str, Any]:
    """Numbers of ``group`` for refined labels: of kept frames, and of ``filled`` ones between them.

    Beside the kept frames of ``summary``, which are the predictions, they tell what refining gained.

    Args:
        errors: of the N rows of a table of pseudo-labels.
        filled: (N,) bool.
    """
    return {"kept": group(errors, ~filled, when), "filled": group(errors, filled, when)}


def group(errors: LabelErrors, rows: np.ndarray, when: CorrectWhen = CorrectWhen()) -> dict[str, Any]:
    """One group of frames: how many, how many correct, and their errors (None where no error is finite).

    Predictions that are not finite count as wrong; means and medians are of the others.

    Args:
        rows: (N,) bool, the frames of the group.
    """
    members = errors.take(rows)
    correct = int(members.correct(when).sum())
    count = len(members.truth)
    out: dict[str, Any] = {
        "frames": count,
        "share": count / len(errors.truth) if len(errors.truth) else None,
        "without_hand": int((~members.truth).sum()),
        "right": correct,
        "precision": correct / count if count else None,
    }
    for name in ("aligned_mm", "wrist_mm", "joints_2d"):
        values = getattr(members, name)[members.truth]
        values = values[np.isfinite(values)]
        out[f"{name}_median"] = float(np.median(values)) if len(values) else None
        out[f"{name}_mean"] = float(values.mean()) if len(values) else None
    return out


def sides(errors: LabelErrors, kept: np.ndarray) -> Mapping[str, Any]:
    """How often the predicted side (A20) is correct ('told'), for left and right hands, in all and in kept frames."""
    out: dict[str, Any] = {}
    for name, of_side in (("left", errors.left), ("right", errors.truth & ~errors.left)):
        for which, rows in (("all", of_side), ("kept", of_side & kept)):
            count = int(rows.sum())
            correct = int(errors.side_correct[rows].sum())
            out[f"{name}_{which}"] = {"frames": count, "told": correct, "share": correct / count if count else None}
    return out
