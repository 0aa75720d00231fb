"""The weak-perspective camera of a predicted hand (Eq. 7, reading A11), with the un-mirroring of left hands.

A prediction's joints and vertices belong to the right-hand model; for a left hand they are negated in x before they
meet the true image. The camera is ``px = s * xy + t`` of those un-mirrored points. The closed form is
``geometry.weak_perspective``; no rotation is fitted, it would hide a wrong global orientation.
"""

from __future__ import annotations

from torch import Tensor

from hojoint import geometry
from hojoint.hand.model import mirror_points
from hojoint.records import HandPrediction


def fit(prediction: HandPrediction) -> Tensor:
    """Camera (T, 3) = s (px per metre), tx, ty (px) that carries the joints to ``joints_px``; s <= 0: it failed."""
    return geometry.weak_perspective(true_side(prediction.joints, prediction.flipped), prediction.joints_px)


def project(points: Tensor, camera: Tensor, *, flipped: bool) -> Tensor:
    """Project points to the true image, (T, N, 2) px.

    Args:
        points: (T, N, 3) m, wrist-centred, of the right-hand model.
        camera: (T, 3) from ``fit``.
        flipped: whether the hand is a left one.
    """
    return geometry.project_weak(true_side(points, flipped), camera)


def true_side(points: Tensor, flipped: bool) -> Tensor:
    """Points (T, N, 3) m as they stand in the true image: x is negated for a left hand."""
    return mirror_points(points) if flipped else points
