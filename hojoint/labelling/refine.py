"""Labels that are better than the predictions they come from: a clip's kept frames help each other; ours.

In this order, each where its setting asks for it (``RefineConfig``): one shape per clip; rotations and 2D joints
averaged over neighbouring kept frames (``smoothing``); the hand turned to fit its 2D joints (``fitting``); short gaps
between kept frames filled. The camera is fitted anew (reading A11). Scores and verdicts stay those of the predictions,
so that jobs.refilter makes the same labels from the table of predictions alone. Not here: which frames are kept
(``filters``).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from hojoint import geometry
from hojoint.config import RefineConfig
from hojoint.hand.layer import HandLayer
from hojoint.labelling import camera as cameras
from hojoint.labelling import fitting, smoothing, temporal_rules
from hojoint.labelling.reasons import KEPT
from hojoint.labelling.spatial_rules import SMALLEST_BOX_PX
from hojoint.records import PseudoLabels, Refined

# Suffixes of locals: T frames of a clip, K kept ones, L labels (kept and filled), J = 21 joints.


@dataclass(frozen=True, eq=False)
class _Hands:
    """Labels of some frames in float64; 2D joints relative to the frame's box, in its larger side."""

    rotations: Tensor  # (K, 16, 3, 3)
    betas: Tensor  # (K, 10)
    joints_2d: Tensor  # (K, 21, 2)


@torch.no_grad()
def refined(
    *,
    joints_px: Tensor,
    pose: Tensor,
    betas: Tensor,
    boxes: Tensor,
    frames: Tensor,
    flipped: bool,
    kept: Tensor,
    quality: Tensor | None,
    layer: HandLayer,
    device: torch.device | str,
    config: RefineConfig,
) -> Refined:
    """Labels of one clip, from what a table of predictions holds of it.

    Args:
        joints_px: (T, 21, 2) px of the true image.
        pose: (T, 48) rad, of the right-hand model.
        betas: (T, 10).
        boxes: (T, 4) hand boxes, xyxy px.
        frames: (T,) ascending frame numbers.
        flipped: a left hand.
        kept: (T,) bool; their numbers are finite.
        quality: (T,) chance that each frame is correct; None means that all count alike.
        layer: the hand that pose and betas speak of.
        device: where the layer is.
        config: what is done.
    """
    rows = kept.nonzero()[:, 0]
    middle_T2 = (boxes[:, :2] + boxes[:, 2:]).double() / 2
    side_T = (boxes[:, 2:] - boxes[:, :2]).double().amax(1).clamp(min=SMALLEST_BOX_PX)
    hands = _Hands(
        rotations=geometry.axis_angle_to_matrix(pose[rows].double().reshape(-1, 16, 3)),
        betas=betas[rows].double(),
        joints_2d=(joints_px[rows].double() - middle_T2[rows, None]) / side_T[rows, None, None],
    )
    filled = torch.zeros(len(rows), dtype=torch.bool)
    if len(rows):
        known = None if quality is None else quality[rows].double()
        step = temporal_rules.mean_step(frames)
        hands = _improved(hands, frames[rows], step, known, flipped, layer, device, config)
        rows, filled, hands = _with_filled(hands, kept, frames, step, config)
    labels_px = (hands.joints_2d * side_T[rows, None, None] + middle_T2[rows, None]).float()
    joints = _joints(hands, layer, device)
    return Refined(
        rows=rows.numpy(),
        filled=filled.numpy(),
        joints_px=labels_px,
        pose=geometry.matrix_to_axis_angle(hands.rotations).reshape(-1, 48).float(),
        betas=hands.betas.float(),
        camera=geometry.weak_perspective(cameras.true_side(joints, flipped), labels_px.double()).float(),
    )


def refined_labels(
    labels: PseudoLabels, layer: HandLayer, device: torch.device | str, config: RefineConfig
) -> Refined:  # fmt: skip
    """As ``refined``, from the record of labelling."""
    prediction = labels.prediction
    return refined(
        joints_px=prediction.joints_px,
        pose=prediction.pose,
        betas=prediction.betas,
        boxes=torch.from_numpy(labels.clip.hand_boxes),
        frames=torch.from_numpy(labels.clip.frames.astype(np.int64)),
        flipped=prediction.flipped,
        kept=torch.tensor([verdict == KEPT for verdict in labels.verdicts]),
        quality=labels.quality,
        layer=layer,
        device=device,
        config=config,
    )


def _improved(
    hands: _Hands,
    frames: Tensor,
    step: float,
    quality: Tensor | None,
    flipped: bool,
    layer: HandLayer,
    device: torch.device | str,
    config: RefineConfig,
) -> _Hands:
    """The kept frames' labels (K >= 1), each made better by the others and by its own 2D joints."""
    if config.one_shape:
        hands = replace(hands, betas=_mean_shape(hands.betas, quality).expand_as(hands.betas))
    if config.smooth_frames:
        weights_KK = smoothing.weights(
            frames, hands.rotations[:, 0], reach=config.smooth_frames, max_deg=config.max_turn_deg, step=step
        )
        rotations = smoothing.averaged_rotations(hands.rotations, weights_KK)
        hands = replace(hands, rotations=rotations, joints_2d=smoothing.averaged(hands.joints_2d, weights_KK))
    if config.fit_steps:
        seen_KJ2 = hands.joints_2d * hands.joints_2d.new_tensor([-1.0 if flipped else 1.0, 1.0])
        weights = fitting.Weights(prediction=config.fit_orientation_weight, neighbour=config.fit_smooth_weight)
        turned_K33 = fitting.fit_orientation(
            _joints(hands, layer, device).numpy(),
            seen_KJ2.numpy(),
            hands.rotations[:, 0].numpy(),
            frames.numpy(),
            weights,
            config.fit_steps,
        )
        hands = replace(hands, rotations=torch.cat([torch.from_numpy(turned_K33)[:, None], hands.rotations[:, 1:]], 1))
    return hands


def _mean_shape(betas: Tensor, quality: Tensor | None) -> Tensor:
    """(1, 10) mean betas of (K, 10), weighted by the quality (K,) where that is known."""
    weight_K1 = torch.ones_like(betas[:, :1]) if quality is None else quality[:, None].nan_to_num(0)
    if not weight_K1.any():
        weight_K1 = torch.ones_like(weight_K1)
    return (weight_K1 * betas).sum(0, keepdim=True) / weight_K1.sum()


def _with_filled(
    hands: _Hands, kept: Tensor, frames: Tensor, step: float, config: RefineConfig
) -> tuple[Tensor, Tensor, _Hands]:  # fmt: skip
    """Rows (L,), which of them are filled (L,), and labels of kept and filled frames."""
    rows = kept.nonzero()[:, 0]
    parts, new_rows = [hands], [rows]
    at = {int(row): index for index, row in enumerate(rows)}
    for before, after in smoothing.gaps(kept, frames, config.fill_frames, step):
        first, second = at[before], at[after]
        distance = int(frames[after] - frames[before])
        steps = float(smoothing.steps_apart(frames[after] - frames[before], step))
        turned = geometry.geodesic(hands.rotations[first, 0], hands.rotations[second, 0])
        if float(turned) > np.radians(config.max_turn_deg) * steps:
            continue
        inside = torch.arange(before + 1, after)
        share_G = (frames[inside] - frames[before]).double() / distance
        parts.append(
            _Hands(
                smoothing.between_rotations(hands.rotations[first], hands.rotations[second], share_G),
                smoothing.between(hands.betas[first], hands.betas[second], share_G),
                smoothing.between(hands.joints_2d[first], hands.joints_2d[second], share_G),
            )
        )
        new_rows.append(inside)
    all_rows, order = torch.cat(new_rows).sort()
    filled = (torch.arange(len(all_rows)) >= len(rows))[order]
    together = _Hands(*(torch.cat([getattr(p, f.name) for p in parts])[order] for f in fields(_Hands)))
    return all_rows, filled, together


def _joints(hands: _Hands, layer: HandLayer, device: torch.device | str) -> Tensor:
    """(K, 21, 3) m, wrist-centred, of the right-hand model."""
    hand = layer.from_rotations(hands.rotations.float().to(device), hands.betas.float().to(device))
    return hand.joints.cpu().double()
