"""Temporal rules: how well a frame agrees with the frame beside it, and with its clip's hand (Sec. 5.1.2).

Pure functions over the T frames of a clip, one score per frame; NaN where a frame has no neighbour. The neighbour is
frame t - 1 of the same hand, or t + 1 where t - 1 is not annotated (reading A17): a hand that leaps for one frame is a
step into it and a step out of it. Boxes made at a lower rate than their video's lie on every second or third picture;
there the neighbour is the one a step away. Thresholds and verdicts live in ``filters``.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from hojoint import geometry
from hojoint.labelling.spatial_rules import larger_side

# Suffixes of locals: T frames, N confident frames; 10 betas.

STEPS = 4  # that a clip needs before its step is believed
UNLIKE = 1.5  # factor between steps that are alike
MOST = 0.75  # share of the steps that must be alike
MAD_TO_SIGMA = 1.4826  # median absolute deviation to standard deviation of a Gaussian


def step_of(frames: Tensor) -> int:
    """How many frame numbers apart neighbours may be: 1 unless the clip's boxes come at a regular larger step.

    Regular means at least ``STEPS`` steps of which most are alike: a hand that is seen now and then has no step.

    Args:
        frames: (T,) ascending frame numbers.
    """
    regular = _regular(frames)
    return 1 if regular is None else int(regular[0] * UNLIKE)


def mean_step(frames: Tensor) -> float:
    """Frame numbers from one box to the next, as in ``step_of``: 2.5 for 12 boxes a second in a video of 30."""
    regular = _regular(frames)
    return 1.0 if regular is None else float(regular[1].double().mean())


def _regular(frames: Tensor) -> tuple[int, Tensor] | None:
    """The usual step of boxes at a regular step, and the steps that are like it; None where there is no such step."""
    steps_T = frames.diff()
    if len(steps_T) < STEPS:
        return None
    usual = int(steps_T.median())
    # Boxes of 12 frames per second lie two and three pictures apart in a video of 30.
    alike_T = (steps_T * UNLIKE >= usual) & (steps_T <= usual * UNLIKE)
    return (usual, steps_T[alike_T]) if float(alike_T.float().mean()) >= MOST else None


def neighbours(frames: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Row of each frame's neighbour (T,), and whether it has one (T,) bool.

    Args:
        frames: (T,) ascending frame numbers.
        valid: (T,) bool, which frames may serve as a neighbour; all that are finite in the default reading.
    """
    rows_T, reach = torch.arange(len(frames), device=frames.device), step_of(frames)
    before_T, after_T = (rows_T - 1).clamp(min=0), (rows_T + 1).clamp(max=max(len(rows_T) - 1, 0))
    to_before_T, to_after_T = frames - frames[before_T], frames[after_T] - frames
    has_before_T = (to_before_T > 0) & (to_before_T <= reach) & valid[before_T]
    has_after_T = (to_after_T > 0) & (to_after_T <= reach) & valid[after_T]
    return torch.where(has_before_T, before_T, after_T), has_before_T | has_after_T


def joint_step(joints_px: Tensor, boxes: Tensor, frames: Tensor, valid: Tensor) -> Tensor:
    """Norm of the 42 differences of the 2D joints from the neighbour's, (T,) box sides (Sec. 5.1.2, reading A12).

    The box of frame t measures both frames, so that a jump of the complete hand counts.

    Args:
        joints_px: (T, 21, 2) px of the true image.
        boxes: (T, 4) hand boxes, xyxy px; the unit is their larger side.
        frames, valid: as in ``neighbours``.
    """
    row_T, has_T = neighbours(frames, valid)
    step_T = (joints_px - joints_px[row_T]).square().sum((1, 2)).sqrt() / larger_side(boxes)
    return torch.where(has_T, step_T, torch.nan)


def pose_step(
    rotations: Tensor,
    pose: Tensor,
    frames: Tensor,
    valid: Tensor,
    *,
    reading: Literal["mean_square", "literal"],
) -> Tensor:  # fmt: skip
    """Change of the pose from the neighbour's, (T,) (Sec. 5.1.2, reading A13).

    Args:
        rotations: (T, 16, 3, 3) joint rotations, root first.
        pose: (T, 48) rad, the same as axis-angle.
        frames, valid: as in ``neighbours``.
        reading: ``mean_square`` (rad^2) is the squared angle of each joint's relative rotation, summed and divided by
            48; for small angles it is the mean squared difference of the axis-angle numbers, without their jump at pi.
            ``literal`` (rad) is the norm of the 48 differences as printed, which at 0.01 keeps frozen frames only.
    """
    row_T, has_T = neighbours(frames, valid)
    if reading == "mean_square":
        step_T = geometry.geodesic(rotations, rotations[row_T]).square().sum(-1) / 48
    else:
        step_T = torch.linalg.vector_norm(pose - pose[row_T], dim=-1)
    return torch.where(has_T, step_T, torch.nan)


def shape_spread(
    betas: Tensor, confident: Tensor, *, rule: Literal["sigma", "mad"], min_frames: int
) -> Tensor:  # fmt: skip
    """Distance of a frame's betas from those of the confident frames, (T,) sigmas (Sec. 5.1.2, reading A18).

    Args:
        betas: (T, 10). Betas that are not finite score NaN and are never confident.
        confident: (T,) bool, the frames that teach the clip's betas.
        rule: ``sigma`` takes mean and population sigma of the confident frames, as printed. With n of them no deviation
            exceeds sqrt(n - 1) sigma, so five or fewer can never reject at two sigma. ``mad`` takes their median, and
            the median deviation scaled to a sigma, which one outlier cannot inflate.
        min_frames: with fewer confident frames than this, no betas can be doubted: the score is 0.
    """
    finite_T = betas.isfinite().all(1)
    confident_T = confident & finite_T
    confident_N10 = betas[confident_T]
    if len(confident_N10) < min_frames:
        return torch.where(finite_T, torch.zeros_like(betas[:, 0]), torch.nan)
    centre_10 = confident_N10.mean(0) if rule == "sigma" else _median(confident_N10)
    deviation_T = torch.linalg.vector_norm(betas - centre_10, dim=-1)
    confident_N = deviation_T[confident_T]
    sigma = confident_N.square().mean().sqrt() if rule == "sigma" else MAD_TO_SIGMA * _median(confident_N)
    # Equal betas have no sigma; what differs by rounding alone does not deviate.
    rounding = 1e-6 * (1 + torch.linalg.vector_norm(centre_10))
    spread_T = torch.where(deviation_T <= rounding, 0.0, deviation_T / sigma.clamp(min=torch.finfo(sigma.dtype).tiny))
    return torch.where(finite_T, spread_T, torch.nan)


def _median(values: Tensor) -> Tensor:
    """Along the first dimension; the mean of the middle two where their number is even."""
    return values.quantile(0.5, dim=0)
