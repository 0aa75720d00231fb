"""Object pose from control points: the most confident proposals of each point, then PnP (Sec. 4.3; reading A7).

As released: ten proposals per control point, those above a confidence of 0.5, EPnP inside RANSAC with OpenCV's defaults
and no refinement; on request a refined pose is returned beside that one. Metrics are in ``evaluation.metrics``; where
the boxes come from (oracle or detector) is the caller's choice.
"""

from __future__ import annotations

import cv2
import numpy as np
from torch import Tensor

from hojoint.records import ObjectPrediction

# Suffixes of locals: B images, R cells a side, G = R * R cells, J = 21 control points, P proposals per point.

MIN_PAIRS = 6


def solve(
    control_box: Tensor,
    confidence: Tensor,
    object_boxes_px: Tensor,
    camera: Tensor,
    points_model: Tensor,
    refine: bool = False,
    *,
    proposals: int = 10,
    min_confidence: float = 0.5,
) -> ObjectPrediction:
    """Pose of each image's object from the object decoder's output.

    Args:
        control_box: (B, R, R, 21, 2) x, y in object-box units.
        confidence: (B, R, R, 21) in [0, 1].
        object_boxes_px: (B, 4) xyxy px of the image that ``camera`` belongs to; NaN for no object.
        camera: (B, 3, 3) intrinsics, px.
        points_model: (B, 21, 3) control points of the object's model, metres.
        refine: also return the poses that minimise the inliers' reprojection error (Levenberg-Marquardt), beside the
            released code's, which does not.

    Returns:
        Poses, model to camera. Identity rotation at (0, 0, 1) and ``solved`` False where there are fewer than six
        pairs, no box or camera, or no solution.
    """
    batch = len(control_box)
    boxes, cameras, models = (_numpy(x) for x in (object_boxes_px, camera, points_model))
    points, scores = best_proposals(_numpy(control_box), _numpy(confidence), count=proposals)
    points = points * (boxes[:, 2:] - boxes[:, :2])[:, None, None] + boxes[:, None, None, :2]
    pose = np.tile(np.eye(3, 4), (batch, 1, 1))
    pose[:, 2, 3] = 1.0
    refined = pose.copy() if refine else None
    solved = np.zeros(batch, dtype=bool)
    for row in range(batch):
        sure = scores[row] > min_confidence
        pixels = points[row][sure]
        model = np.broadcast_to(models[row], (*sure.shape, 3))[sure]
        if (poses := _pnp(model, pixels, cameras[row], refine=refine)) is not None:
            pose[row], solved[row] = poses[0], True
            if refined is not None:
                refined[row] = poses[1]
    weights = scores / np.maximum(scores.sum(axis=1, keepdims=True), 1e-12)
    return ObjectPrediction((points * weights[..., None]).sum(axis=1), scores.mean(axis=1), pose, solved, refined)


def best_proposals(control: np.ndarray, confidence: np.ndarray, *, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The ``count`` most confident cells of each control point, most confident first.

    Args:
        control: (B, R, R, J, 2).
        confidence: (B, R, R, J).

    Returns:
        Points (B, P, J, 2) and their confidence (B, P, J).

    Of equal cells the first in row order comes first, as repeated arg-max has it.
    """
    batch, *_, joints = confidence.shape
    scores_BGJ = confidence.reshape(batch, -1, joints)
    best_BPJ = np.argsort(-scores_BGJ, axis=1, kind="stable")[:, :count]
    points = np.take_along_axis(control.reshape(batch, -1, joints, 2), best_BPJ[..., None], axis=1)
    return points, np.take_along_axis(scores_BGJ, best_BPJ, axis=1)


def _pnp(
    model: np.ndarray, pixels: np.ndarray, camera: np.ndarray, *, refine: bool
) -> tuple[np.ndarray, np.ndarray] | None:  # fmt: skip
    """Plain and (if asked for and possible) refined pose (3, 4) of pairs (N, 3) m and (N, 2) px; None if unsolved."""
    if len(pixels) < MIN_PAIRS or not (np.isfinite(pixels).all() and np.isfinite(camera).all()):
        return None
    model, pixels, camera = (np.ascontiguousarray(x, dtype=np.float64) for x in (model, pixels, camera))
    try:
        solved, turn, shift, inliers = cv2.solvePnPRansac(model, pixels, camera, None, flags=cv2.SOLVEPNP_EPNP)
    except cv2.error:
        return None  # a degenerate set of points
    pose = _matrix(turn, shift) if solved else np.full((3, 4), np.nan)
    if not np.isfinite(pose).all():
        return None
    if not refine or inliers is None or len(inliers) < MIN_PAIRS:
        return pose, pose
    chosen = inliers[:, 0]
    try:  # copies, for OpenCV refines in place
        turn, shift = cv2.solvePnPRefineLM(model[chosen], pixels[chosen], camera, None, turn.copy(), shift.copy())
    except cv2.error:
        return pose, pose
    refined = _matrix(turn, shift)
    return pose, refined if np.isfinite(refined).all() else pose


def _matrix(turn: np.ndarray, shift: np.ndarray) -> np.ndarray:
    return np.hstack([cv2.Rodrigues(turn)[0], np.reshape(shift, (3, 1))])


def _numpy(x: Tensor) -> np.ndarray:
    return x.detach().float().cpu().numpy()
