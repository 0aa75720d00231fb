"""Training losses: L = L_hand + B * L_object (Eq. 5, 6, 8), in the form and with the weights of the released code.

Every term is a mean, already weighted, and ``total`` their sum. B of Eq. 8 is ``has_object``: the object terms are
means over the images that carry object labels, not over the batch, so that a batch with few of them pulls as hard on
the object head as one with many (the released code's rescaling by batch / number of labelled). Nothing here knows data
sets, steps or other workers: the factor by which a worker's share of a batch counts is given (``object_factor``).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from hojoint.config import LossConfig
from hojoint.hand.layer import HandLayer
from hojoint.model.decoders import cell_centres
from hojoint.model.network import HOJointOutput, ObjectOutput

# Suffixes of locals: B images, K of them with object labels, R RoI cells a side, J = 21 joints or control points.


@dataclass(frozen=True, eq=False)
class Targets:
    """What the network should predict, in the frame of its (augmented) input."""

    joints_box: Tensor  # (B, 21, 2) x, y in units of the hand box
    rotations: Tensor  # (B, 16, 3, 3) root turned by the augmentation
    betas: Tensor  # (B, 10)
    vertices: Tensor  # (B, 778, 3) m, wrist-centred
    joints: Tensor  # (B, 21, 3) m, wrist-centred
    has_object: Tensor  # (B,) bool; B of Eq. 8
    control_box: Tensor  # (B, 21, 2) x, y in units of the object box; not read where has_object is False
    object_mask: Tensor  # (B, R, R) 1 where the RoI cell lies on the object; not read where has_object is False
    mirrored_rows: Tensor | None = None  # (M,) rows whose mirrored images are the last M of ``hand.side``
    mirrored_right: Tensor | None = None  # (M,) bool, these rows are right hands for sure; the others do not count


def hand_object_loss(
    output: HOJointOutput,
    targets: Targets,
    mano_layer: HandLayer,
    config: LossConfig,
    *,
    object_factor: Tensor | float = 1.0,
    side_factor: Tensor | float = 1.0,
) -> dict[str, Tensor]:
    """Weighted terms by name, and their sum under ``total``; all scalars (Eq. 5, 6, 8).

    Args:
        object_factor: on the object terms; a worker's share of a batch counts by its rows.
        side_factor: the same on the side term, which exists where the output and the targets have sides.
    """
    # Millimetres matter in the mesh terms; bfloat16 has two digits.
    with torch.autocast(output.hand.joints_box.device.type, enabled=False):
        objects = _object_terms(output.object, targets, config)
        terms = {
            **_hand_terms(output, targets, mano_layer, config),
            **{name: term * object_factor for name, term in objects.items()},
        }
        if output.hand.side is not None and targets.mirrored_rows is not None:
            assert targets.mirrored_right is not None
            side = side_loss(output.hand.side.float(), targets.mirrored_rows, targets.mirrored_right)
            terms["side"] = config.side * side * side_factor
        return {**terms, "total": torch.stack(list(terms.values())).sum()}


def _hand_terms(
    output: HOJointOutput, targets: Targets, mano_layer: HandLayer, config: LossConfig
) -> dict[str, Tensor]:
    hand = output.hand
    rotations, betas = hand.rotations.float(), hand.betas.float()
    mesh = mano_layer.from_rotations(rotations, betas)
    if config.heatmap == "soft_argmax":
        joints_2d = F.mse_loss(hand.joints_box.float(), targets.joints_box)
    else:
        target_heatmaps = gaussian_heatmaps(
            targets.joints_box, cells=hand.heatmaps.shape[-1], sigma_cells=config.heatmap_sigma_cells
        )
        # Sec. 4.2: the squared norm of each heatmap's error; a mean over cells would divide it by a thousand.
        joints_2d = (hand.heatmaps.float() - target_heatmaps).square().sum(dim=(2, 3)).mean()
    return {
        "joints_2d": config.joints_2d * joints_2d,
        "vertices": config.vertices * F.mse_loss(mesh.vertices, targets.vertices),
        "joints_3d": config.joints_3d * F.mse_loss(mesh.joints, targets.joints),
        "rotations": config.rotations * F.mse_loss(rotations, targets.rotations),
        "betas": config.betas * F.mse_loss(betas, targets.betas),
    }


def side_loss(logits: Tensor, rows: Tensor, right: Tensor) -> Tensor:
    """Cross entropy of "a right hand" over pairs of an image and its mirrored one, a left hand; scalar.

    In pairs both sides weigh alike, and what shows a place and no side cancels out. Zero where no pair counts, with a
    gradient (zeros) for every logit: each worker of a distributed step needs one.

    Args:
        logits: (B + M,) of the images, then of the mirrored images of ``rows``.
        rows: (M,) among the B.
        right: (M,) bool, the pairs that count.
    """
    plain, mirrored = logits[: len(logits) - len(rows)][rows], logits[len(logits) - len(rows) :]
    entropy_M = (F.softplus(-plain) + F.softplus(mirrored)) / 2
    return (entropy_M * right).sum() / right.sum().clamp(min=1) + logits.sum() * 0.0


def _object_terms(predicted: ObjectOutput, targets: Targets, config: LossConfig) -> dict[str, Tensor]:
    """Eq. 6 as coded: cells off the object have no coordinate error and a confidence target of zero (reading A6)."""
    rows = targets.has_object.bool().nonzero()[:, 0]
    if len(rows) == 0:
        # Zero, yet tied to the object branch, so that every worker of a distributed step has the same gradients.
        zero = predicted.confidence.float().sum() * 0.0
        return {"control_points": zero, "confidence": zero}
    control_KRRJ2 = predicted.control_box[rows].float()
    confidence_KRRJ = predicted.confidence[rows].float()
    target_K11J2 = targets.control_box[rows][:, None, None]
    mask_KRR1 = torch.ones_like(confidence_KRRJ[..., :1])
    if config.object_mask:
        mask_KRR1 = targets.object_mask[rows].to(confidence_KRRJ.dtype)[..., None]
    delta_KRRJ2 = (control_KRRJ2 - target_K11J2) * mask_KRR1[..., None]
    target_KRRJ = confidence_target(delta_KRRJ2, temperature=config.confidence_temperature) * mask_KRR1
    error = F.l1_loss if config.confidence_error == "l1" else F.mse_loss
    return {
        # x and y errors are added, as in the code: twice the mean over both.
        "control_points": config.control_points * 2 * delta_KRRJ2.abs().mean(),
        "confidence": config.confidence * error(confidence_KRRJ, target_KRRJ),
    }


def confidence_target(delta: Tensor, *, temperature: float) -> Tensor:
    """exp(-|delta| / temperature) of residuals (..., 2) in object-box units (Sec. 4.3; reading A5); no gradient."""
    return torch.exp(-torch.linalg.vector_norm(delta.detach(), dim=-1) / temperature)


def gaussian_heatmaps(joints_box: Tensor, *, cells: int, sigma_cells: float) -> Tensor:
    """Gaussians about joints (B, J, 2) in box units, each of sum 1 over the cells, (B, J, cells, cells).

    A joint outside the box puts all the mass on the cells nearest to it: the sum is taken over the grid, never zero.
    """
    centres = cell_centres(cells).to(joints_box)
    square_x = (centres - joints_box[..., 0, None]).square()[..., None, :]
    square_y = (centres - joints_box[..., 1, None]).square()[..., :, None]
    exponent = -(square_x + square_y) * cells**2 / (2 * sigma_cells**2)
    return torch.softmax(exponent.flatten(2), dim=2).view_as(exponent)
