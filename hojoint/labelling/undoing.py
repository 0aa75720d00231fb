"""The network's answers to turned views: each undone, then all views of a frame averaged to one hand (reading A10).

2D joints return through their box and affine to pixels of the frame; the global orientation turns back by Rz(-a).
Rotations are averaged on SO(3), never as axis-angle, and joints and vertices are made from the averages, so they are
always one valid hand. All frames of a group are computed together, on the device of the answers. Not here: how views
are cut (``views``), who asks the network (``tta``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hojoint import geometry
from hojoint.hand.layer import HandLayer
from hojoint.records import HandPrediction

# Suffixes of locals: F frames of all clips, V views of a frame, N = F * V.

POSED_AT_ONCE = 1024
"""Frames per call of the hand layer, which holds some 100 kB for each."""


@dataclass(frozen=True, eq=False)
class Answers:
    """The network's answer to each view."""

    joints_box: Tensor  # (N, 21, 2) in units of the view's hand box
    rotations: Tensor  # (N, 16, 3, 3) root first, of the view
    betas: Tensor  # (N, 10)
    side: Tensor | None  # (N,) logit of a right hand; None without a side head

    @classmethod
    def of(cls, parts: Sequence[Answers]) -> Answers:
        """The answers to several batches as one."""
        sides = [part.side for part in parts if part.side is not None]
        return cls(
            joints_box=torch.cat([part.joints_box for part in parts]),
            rotations=torch.cat([part.rotations for part in parts]),
            betas=torch.cat([part.betas for part in parts]),
            side=torch.cat(sides) if sides else None,
        )


def undone(answers: Answers, hand_boxes: Tensor, to_frame: Tensor, angles: Tensor) -> tuple[Tensor, Tensor]:
    """2D joints (N, 21, 2) px of the true frame, and rotations (N, 16, 3, 3) in the frame's camera.

    Args:
        answers: of N views.
        hand_boxes: (N, 4) RoIs, xyxy input px.
        to_frame: (N, 2, 3) input px to true frame px.
        angles: (N,) rad by which the scene was turned.
    """
    corner_N12, size_N12 = hand_boxes[:, None, :2], hand_boxes[:, None, 2:] - hand_boxes[:, None, :2]
    joints_N212 = geometry.apply_affine(to_frame, corner_N12 + answers.joints_box * size_N12)
    root_N133 = (geometry.rotation_z(-angles) @ answers.rotations[:, 0])[:, None]
    return joints_N212, torch.cat((root_N133, answers.rotations[:, 1:]), dim=1)


def averaged(
    joints_px: Tensor, rotations: Tensor, answers: Answers, views: int, layer: HandLayer
) -> HandPrediction:  # fmt: skip
    """One hand per frame, on the CPU; ``flipped`` is False, as of frames of which nothing is known.

    Args:
        joints_px, rotations: from ``undone``.
        answers: betas and side of the same N views.
        views: of each frame; one alone has no spread, so both spreads are NaN.
        layer: makes joints and vertices from rotations and betas.
    """
    joints_FV212, rotations_FV1633 = joints_px.reshape(-1, views, 21, 2), rotations.reshape(-1, views, 16, 3, 3)
    # Summed in double: the result must not depend on the order of the views.
    joints_F212 = joints_FV212.double().mean(1).float()
    betas_F10 = answers.betas.reshape(-1, views, 10).double().mean(1).float()
    mean_F1633 = _mean_rotation(rotations_FV1633)
    chunks = zip(torch.split(mean_F1633, POSED_AT_ONCE), torch.split(betas_F10, POSED_AT_ONCE), strict=True)
    hands = [layer.from_rotations(*chunk) for chunk in chunks]
    apart_px = (joints_FV212 - joints_F212[:, None]).square().sum(-1).mean((1, 2)).sqrt()
    apart_rad = geometry.geodesic(rotations_FV1633, mean_F1633[:, None].expand_as(rotations_FV1633))
    spread_rad = apart_rad.square().mean((1, 2)).sqrt()
    if views == 1:  # 0 would be the best score, of a frame of which nothing is known
        apart_px, spread_rad = (torch.full_like(spread, torch.nan) for spread in (apart_px, spread_rad))
    side = None if answers.side is None else answers.side.reshape(-1, views).double().mean(1).float().cpu()
    return HandPrediction(
        joints_px=joints_F212.cpu(),
        rotations=mean_F1633.cpu(),
        pose=geometry.matrix_to_axis_angle(mean_F1633).reshape(-1, 48).cpu(),
        betas=betas_F10.cpu(),
        joints=torch.cat([hand.joints.float() for hand in hands]).cpu(),
        vertices=torch.cat([hand.vertices.float() for hand in hands]).cpu(),
        joints_spread_px=apart_px.cpu(),
        rotation_spread=spread_rad.cpu(),
        flipped=False,
        side_logit=side,
    )


def _mean_rotation(rotations: Tensor) -> Tensor:
    """Chordal mean over the views of (F, V, 16, 3, 3); NaN where a view is not finite (an SVD would raise)."""
    finite = rotations.isfinite().flatten(1).all(1)[:, None, None, None]
    identity_33 = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
    mean = geometry.mean_rotation(torch.where(finite[:, None], rotations, identity_33), 1)
    return torch.where(finite, mean, torch.nan)


def by_clip(group: HandPrediction, counts: Sequence[int], flipped: Sequence[bool]) -> list[HandPrediction]:
    """The prediction of all frames of a group as one per clip, of ``counts`` frames each."""
    columns = {
        name: torch.split(value, list(counts)) for name, value in vars(group).items() if isinstance(value, Tensor)
    }  # fmt: skip
    return [
        HandPrediction(**{name: parts[clip] for name, parts in columns.items()}, flipped=left)
        for clip, left in enumerate(flipped)
    ]
