"""Averages along a clip: neighbouring labels that agree, and labels between two others; ours.

A network errs a little differently from frame to frame, the hand moves smoothly: a frame's label is the value at that
frame of a line through its neighbours' labels. A line and not a mean, or the ends of a clip would lag behind the hand.
Rotations are averaged on SO(3), 2D joints relative to the hand's box. How far frames are apart is counted in steps of
the clip's boxes (reading A17). Not here: which frames are kept (``filters``), what a label is made of (``refine``).
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from hojoint import geometry

# Suffixes of locals: K frames of a clip, N rows around each, G frames between others.


def weights(frames: Tensor, orientation: Tensor, *, reach: int, max_deg: float, step: float = 1.0) -> Tensor:
    """Weights (K, K) float64 with which each frame's label is averaged from those of all; each row sums to one.

    Args:
        frames: (K,) ascending frame numbers.
        orientation: (K, 3, 3) global orientations. A neighbour agrees if its own differs by at most ``max_deg`` per
            step between them; one that does not has no weight.
        reach: neighbours are at most so many steps away.
        max_deg: degrees.
        step: of the clip's boxes, in frame numbers (``temporal_rules.mean_step``).
    """
    count = len(frames)
    # A step has a row at most, so no neighbour is more than ``reach`` rows away: only these are compared, however long
    # the clip.
    most = min(reach, count - 1)
    rows_KN = torch.arange(count)[:, None] + torch.arange(-most, most + 1)
    near_KN = rows_KN.clamp(0, count - 1)
    apart_KN = (frames[near_KN] - frames[:, None]).double()
    turned_KN = geometry.geodesic(orientation[:, None].expand(-1, near_KN.shape[1], -1, -1), orientation[near_KN])
    steps_KN = steps_apart(apart_KN.abs(), step)
    agree_KN = (steps_KN <= reach) & (turned_KN <= math.radians(max_deg) * steps_KN + 1e-6)
    used_KN = (agree_KN & (rows_KN == near_KN)).double()
    count_K1, first_K1, second_K1 = ((used_KN * apart_KN**power).sum(1, keepdim=True) for power in range(3))
    line_KN = used_KN * (second_K1 - first_K1 * apart_KN) / (count_K1 * second_K1 - first_K1**2).clamp(min=1e-9)
    line_KK = torch.zeros(count, count, dtype=torch.float64).scatter_add_(1, near_KN, line_KN)
    # A line through one or two labels says nothing new about either.
    return torch.where(count_K1 >= 3, line_KK, torch.eye(count, dtype=torch.float64))


def steps_apart(distance: Tensor, step: float) -> Tensor:
    """Distances in frame numbers as whole steps of the clip's boxes, which may come two and three pictures apart."""
    return (distance / step).round()


def averaged_rotations(rotations: Tensor, weights: Tensor) -> Tensor:
    """Rotations (K, N, 3, 3) averaged on SO(3) with ``weights`` (K, K)."""
    return _nearest_rotation(torch.einsum("ik,knab->inab", weights, rotations.double()))


def averaged(values: Tensor, weights: Tensor) -> Tensor:
    """Values (K, ...) averaged with ``weights`` (K, K)."""
    return torch.einsum("ik,k...->i...", weights, values.double())


def gaps(kept: Tensor, frames: Tensor, most: int, step: float = 1.0) -> list[tuple[int, int]]:
    """Pairs (before, after) of rows: two kept frames with up to ``most`` boxes in between, none of them kept.

    Args:
        kept: (T,) bool.
        frames: (T,) ascending frame numbers; steps that no row has count as well.
        step: as in ``weights``.
    """
    rows = kept.nonzero()[:, 0].tolist()
    return [
        (first, second)
        for first, second in itertools.pairwise(rows)
        if second - first > 1 and int(steps_apart(frames[second] - frames[first], step)) - 1 <= most
    ]


def between_rotations(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    """Rotations (G, N, 3, 3) on the shortest way between two (N, 3, 3), at shares (G,) of it."""
    step_N3 = geometry.matrix_to_axis_angle(second @ first.transpose(-1, -2))
    return geometry.axis_angle_to_matrix(share[:, None, None] * step_N3) @ first


def between(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    """Values (G, ...) on the line between two (...), at shares (G,) of it."""
    share_G = share.reshape(-1, *[1] * first.dim())
    return first + share_G * (second - first)


def _nearest_rotation(matrices: Tensor) -> Tensor:
    """As ``geometry.mean_rotation``: its mean over one matrix is the rotation nearest to it."""
    return geometry.mean_rotation(matrices[..., None, :, :], -3)
