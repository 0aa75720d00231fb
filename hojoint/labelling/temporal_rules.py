"""Temporal rules: how well a frame agrees with the frame beside it, and with its clip's hand (Sec. 5.1.2).

Pure functions over the T frames of a clip, one score per frame; NaN where a frame has no neighbour. The neighbour is
frame t - 1 of the same hand, or t + 1 where t - 1 is not annotated (reading A17): a hand that leaps for one frame is a
step into it and a step out of it. Thresholds and verdicts live in ``filters``.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from hojoint import geometry
from hojoint.labelling.spatial_rules import larger_side

# T frames; J 21 joints; 10 shape coefficients.

# Median absolute deviation to standard deviation of a Gaussian.
MAD_TO_SIGMA = 1.4826


def neighbours(frames_T: Tensor, valid_T: Tensor) -> tuple[Tensor, Tensor]:
    """Row of each frame's neighbour (T,), and whether it has one (T,).

    Args:
        frames_T: ascending frame numbers.
        valid_T: which frames may serve as a neighbour; all that are finite in the default reading.
    """
    rows_T = torch.arange(len(frames_T), device=frames_T.device)
    before_T, after_T = (rows_T - 1).clamp(min=0), (rows_T + 1).clamp(max=max(len(rows_T) - 1, 0))
    has_before_T = (frames_T - frames_T[before_T] == 1) & valid_T[before_T]
    has_after_T = (frames_T[after_T] - frames_T == 1) & valid_T[after_T]
    return torch.where(has_before_T, before_T, after_T), has_before_T | has_after_T


def joint_step(joints_px_TJ2: Tensor, boxes_T4: Tensor, frames_T: Tensor, valid_T: Tensor | None = None) -> Tensor:
    """Norm of the 42 differences of the 2D joints from the neighbour's, (T,) in units of the box (reading A12).

    One common box, frame t's own, measures both frames, so that a jump of the whole hand counts.
    """
    row_T, has_T = neighbours(frames_T, _all_if_none(valid_T, frames_T))
    step_T = (joints_px_TJ2 - joints_px_TJ2[row_T]).square().sum((1, 2)).sqrt() / larger_side(boxes_T4)
    return torch.where(has_T, step_T, torch.nan)


def pose_step(
    rotations_T1633: Tensor,
    pose_T48: Tensor,
    frames_T: Tensor,
    valid_T: Tensor | None = None,
    *,
    reading: Literal["mean_square", "literal"],
) -> Tensor:  # fmt: skip
    """Change of the pose from the neighbour's, (T,) (reading A13).

    ``mean_square`` (rad^2): the squared angle of each joint's relative rotation, summed and divided by 48. For small
    angles it is the mean squared difference of the axis-angle numbers, without their jump at pi. ``literal`` (rad): the
    norm of the 48 differences as printed, which at 0.01 keeps frozen frames only.
    """
    row_T, has_T = neighbours(frames_T, _all_if_none(valid_T, frames_T))
    if reading == "mean_square":
        step_T = geometry.geodesic(rotations_T1633, rotations_T1633[row_T]).square().sum(-1) / 48
    else:
        step_T = torch.linalg.vector_norm(pose_T48 - pose_T48[row_T], dim=-1)
    return torch.where(has_T, step_T, torch.nan)


def shape_spread(
    betas_T10: Tensor, confident_T: Tensor, *, rule: Literal["sigma", "mad"], min_frames: int
) -> Tensor:  # fmt: skip
    """Distance of a frame's shape from that of the confident frames, (T,) in units of their sigma (reading A18).

    ``sigma``: mean and population sigma of the confident frames, as printed. With n of them no deviation exceeds
    sqrt(n - 1) sigma, so five or fewer can never reject at two sigma. ``mad``: their median, and the median deviation
    scaled to a sigma, which one outlier cannot inflate. With fewer than ``min_frames`` confident frames nothing speaks
    against any shape: the score is 0. A shape that is not finite has none (NaN) and teaches nothing.
    """
    finite_T = betas_T10.isfinite().all(1)
    confident_T = confident_T & finite_T
    confident_N10 = betas_T10[confident_T]
    if len(confident_N10) < min_frames:
        return torch.where(finite_T, torch.zeros_like(betas_T10[:, 0]), torch.nan)
    centre_10 = confident_N10.mean(0) if rule == "sigma" else _median(confident_N10)
    deviation_T = torch.linalg.vector_norm(betas_T10 - centre_10, dim=-1)
    confident_N = deviation_T[confident_T]
    sigma = confident_N.square().mean().sqrt() if rule == "sigma" else MAD_TO_SIGMA * _median(confident_N)
    # Equal shapes have no sigma; what differs by rounding alone does not deviate.
    rounding = 1e-6 * (1 + torch.linalg.vector_norm(centre_10))
    spread_T = torch.where(deviation_T <= rounding, 0.0, deviation_T / sigma.clamp(min=torch.finfo(sigma.dtype).tiny))
    return torch.where(finite_T, spread_T, torch.nan)


def _median(values: Tensor) -> Tensor:
    """Along the first dimension; the mean of the middle two where their number is even."""
    return values.quantile(0.5, dim=0)


def _all_if_none(valid_T: Tensor | None, frames_T: Tensor) -> Tensor:
    return torch.ones_like(frames_T, dtype=torch.bool) if valid_T is None else valid_T
