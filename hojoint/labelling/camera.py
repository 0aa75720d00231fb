"""The weak-perspective camera of a predicted hand (Eq. 7, reading A11), with the un-mirroring of left hands.

A prediction's joints and vertices belong to the right-hand model; for a left hand they are negated in x before they
meet the true image. The camera is ``px = s * xy + t`` of those un-mirrored points. The closed form itself stands in
``geometry.weak_perspective``; no rotation is fitted, it would hide a wrong global orientation.
"""

from __future__ import annotations

from torch import Tensor

from hojoint import geometry
from hojoint.hand.model import mirror_points
from hojoint.records import HandPrediction

# T frames, N points.


def fit(prediction: HandPrediction) -> Tensor:
    """Camera (T, 3) = s (px per metre), tx, ty (px) that carries the joints to ``joints_px``; s <= 0: it failed."""
    return geometry.weak_perspective(true_side(prediction.joints, prediction.flipped), prediction.joints_px)


def project(points_TN3: Tensor, camera_T3: Tensor, *, flipped: bool) -> Tensor:
    """Points of the right-hand model (metres, wrist-centred) to px of the true image, (T, N, 2)."""
    return geometry.project_weak(true_side(points_TN3, flipped), camera_T3)


def true_side(points_TN3: Tensor, flipped: bool) -> Tensor:
    """The points as they stand in the true image: x negated for a left hand."""
    return mirror_points(points_TN3) if flipped else points_TN3
