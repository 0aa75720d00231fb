"""What the filter's labels are worth: predicted frames against a kept-aside truth, kept against rejected (Sec. 5.1).

The paper could not ask this, for its videos have no truth; the synthetic world's have, and a labelled data set does. A
frame is *right* when its side, its 2D joints and its 3D shape of the hand all are (``RightWhen``). Alignment here is
proper: unlike the official score (``metrics``), a mirrored hand is an error, because as a label it is one.
Not here: the rules (``filters``) and the search for thresholds (``jobs.calibrate``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa

from hojoint.errors import InputError

# N predicted frames; 21 joints.

Joints = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""MANO pose (N, 48) and shape (N, 10) to wrist-centred joints (N, 21, 3) in metres."""


@dataclass(frozen=True)
class RightWhen:
    """The bounds within which a label counts as right."""

    max_aligned_mm: float = 15.0  # mean joint distance after a similarity alignment: are the fingers right?
    max_joints_2d: float = 0.15  # mean joint distance in hand-box sides: does it lie on the hand?


@dataclass(frozen=True, eq=False)
class LabelErrors:
    """Per predicted frame; NaN and False where the frame holds no true hand."""

    truth: np.ndarray  # (N,) bool: there is a true hand in this frame
    aligned_mm: np.ndarray  # (N,) mean joint distance after similarity alignment
    wrist_mm: np.ndarray  # (N,) mean joint distance with the wrists together, not turned, not scaled
    joints_2d: np.ndarray  # (N,) mean joint distance in the image, in sides of the given hand box
    left: np.ndarray  # (N,) bool: the true hand is a left one
    side_right: np.ndarray  # (N,) bool

    def right(self, when: RightWhen = RightWhen()) -> np.ndarray:
        """(N,) bool; a label on no hand is not right."""
        with np.errstate(invalid="ignore"):
            close = (self.aligned_mm <= when.max_aligned_mm) & (self.joints_2d <= when.max_joints_2d)
        return self.truth & self.side_right & close

    def take(self, rows: np.ndarray) -> LabelErrors:
        """The errors of some frames."""
        return LabelErrors(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def aligned_errors(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(N, P) distances after the best rotation, scale and translation of each sample; never a reflection.

    Args:
        predicted, truth: (N, P, 3), any common unit. A prediction collapsed to a point stays on the truth's centre.
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
    """Compare frame by frame; rows of NaN in the truth mean that there is no hand, in a prediction that it is wrong.

    Args:
        joints: (N, 21, 3) m of the right-hand model, as predicted. joints_px: (N, 21, 2) px of the true image.
        flipped: (N,) bool, labelled as a left hand. boxes: (N, 4) the given hand boxes, px.
        true_joints: (N, 21, 3) m of the right-hand model too: of the mirrored picture where the hand is a left one.
        true_px: (N, 21, 2) px of the true image. true_left: (N,) bool.
    """
    there = np.isfinite(true_joints).all(axis=(1, 2))
    mirror = np.array([-1.0, 1, 1])
    seen = joints * np.where(flipped[:, None, None], mirror, 1.0)
    known = np.where(there[:, None, None], true_joints, 0.0) * np.where(true_left[:, None, None], mirror, 1.0)
    finite = np.isfinite(seen).all(axis=(1, 2))
    # An SVD of NaN would raise; the frame's own errors stay NaN, and so it is never right.
    aligned = aligned_errors(np.where(finite[:, None, None], seen, 0.0), known).mean(axis=1) * 1000
    aligned = np.where(finite, aligned, np.nan)
    wrists_together = np.linalg.norm((seen - seen[:, :1]) - (known - known[:, :1]), axis=2).mean(axis=1) * 1000
    sides = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    flat = np.linalg.norm(joints_px - true_px, axis=2).mean(axis=1) / np.maximum(sides, 1e-9)
    return LabelErrors(
        truth=there,
        aligned_mm=np.where(there, aligned, np.nan),
        wrist_mm=np.where(there, wrists_together, np.nan),
        joints_2d=np.where(there, flat, np.nan),
        left=there & true_left,
        side_right=there & (true_left == flipped),
    )


def errors_of_tables(predictions: pa.Table, truth: pa.Table, joints_of: Joints) -> LabelErrors:
    """Errors of each row of a predictions table, in its order, against a table of true poses.

    Args:
        truth: columns ``video_id``, ``frame``, ``side``, ``joints_px`` [42], ``joints`` [63] of the right-hand model.
    """
    for name in ("video_id", "frame", "side", "joints_px", "joints"):
        if name not in truth.column_names:
            raise InputError(f"the table of true poses needs a column '{name}'; found {', '.join(truth.column_names)}")
    joints_px = stacked(predictions, "joints_px").reshape(-1, 21, 2)
    pose, shape = stacked(predictions, "mano_pose"), stacked(predictions, "mano_shape")
    boxes = stacked(predictions, "hand_box")
    rows = _matching_rows(predictions, truth, boxes)
    found = rows >= 0
    true_joints = np.full((len(rows), 21, 3), np.nan)
    true_px = np.full((len(rows), 21, 2), np.nan)
    true_joints[found] = stacked(truth, "joints").reshape(-1, 21, 3)[rows[found]]
    true_px[found] = stacked(truth, "joints_px").reshape(-1, 21, 2)[rows[found]]
    left = np.zeros(len(rows), bool)
    left[found] = np.array(truth["side"].to_pylist())[rows[found]] == "left"
    flipped = np.array(predictions["flipped"].to_pylist(), dtype=bool)
    return errors_between(joints_of(pose, shape), joints_px, flipped, boxes, true_joints, true_px, left)


def stacked(table: pa.Table, column: str) -> np.ndarray:
    """A column of lists of one length as (N, K) float64; a null row is a row of NaN."""
    values = table[column].to_pylist()
    width = next((len(value) for value in values if value is not None), 0)
    return np.array([value if value is not None else [np.nan] * width for value in values], dtype=np.float64).reshape(
        len(values), width
    )


def _matching_rows(predictions: pa.Table, truth: pa.Table, boxes: np.ndarray) -> np.ndarray:
    """The truth's row for each prediction, -1 for none; of two hands in a frame, the one nearer to the given box."""
    centres = stacked(truth, "joints_px").reshape(len(truth), -1, 2).mean(axis=1) if len(truth) else np.zeros((0, 2))
    rows_of: dict[tuple[str, int], list[int]] = {}
    for row, key in enumerate(zip(truth["video_id"].to_pylist(), truth["frame"].to_pylist(), strict=True)):
        rows_of.setdefault(key, []).append(row)
    out = np.full(len(predictions), -1, dtype=np.int64)
    keys = zip(predictions["video_id"].to_pylist(), predictions["frame"].to_pylist(), strict=True)
    for number, key in enumerate(keys):
        candidates = rows_of.get(key, [])
        middle = (boxes[number, :2] + boxes[number, 2:]) / 2
        if candidates:
            out[number] = min(candidates, key=lambda row: float(np.linalg.norm(centres[row] - middle)))
    return out


def summary(
    errors: LabelErrors, verdicts: Sequence[str], rules: Sequence[str], when: RightWhen = RightWhen()
) -> dict[str, Any]:
    """What kept and rejected frames, and those that each rule rejected, are worth; plain numbers for JSON."""
    words = np.asarray(verdicts, dtype=object)
    if len(words) != len(errors.truth):
        raise InputError(f"expected a verdict per frame; found {len(words)} for {len(errors.truth)} frames")
    kept = words == "kept"
    return {
        "right_when": {"aligned_mm": when.max_aligned_mm, "joints_2d": when.max_joints_2d},
        "frames": len(words),
        "all": group(errors, np.ones(len(words), bool), when),
        "kept": group(errors, kept, when),
        "rejected": group(errors, ~kept, when),
        "by_rule": {rule: group(errors, words == rule, when) for rule in rules},
        "sides": sides(errors, kept),
    }


def group(errors: LabelErrors, rows: np.ndarray, when: RightWhen = RightWhen()) -> dict[str, Any]:
    """One group of frames: how many, how many right, and their errors (None where there is nothing to average).

    Predictions that are not finite count as wrong; means and medians are of the others.
    """
    some = errors.take(rows)
    right = int(some.right(when).sum())
    count = len(some.truth)
    out: dict[str, Any] = {
        "frames": count,
        "share": count / len(errors.truth) if len(errors.truth) else None,
        "without_hand": int((~some.truth).sum()),
        "right": right,
        "precision": right / count if count else None,
    }
    for name in ("aligned_mm", "wrist_mm", "joints_2d"):
        values = getattr(some, name)[some.truth]
        values = values[np.isfinite(values)]
        out[f"{name}_median"] = float(np.median(values)) if len(values) else None
        out[f"{name}_mean"] = float(values.mean()) if len(values) else None
    return out


def sides(errors: LabelErrors, kept: np.ndarray) -> Mapping[str, Any]:
    """How often the side (A20) was told rightly, of left and of right hands, among all and among kept frames."""
    out: dict[str, Any] = {}
    for name, of_side in (("left", errors.left), ("right", errors.truth & ~errors.left)):
        for which, rows in (("all", of_side), ("kept", of_side & kept)):
            count = int(rows.sum())
            told = int(errors.side_right[rows].sum())
            out[f"{name}_{which}"] = {"frames": count, "told": told, "share": told / count if count else None}
    return out
