"""Training losses: L = L_hand + B * L_object (Eq. 5, 6, 8), in the form and with the weights of the released code.

Every term is a mean, already weighted, and ``total`` their sum. B of Eq. 8 is ``has_object``: the object terms are
means over the images that carry object labels, not over the batch, so that a batch with few of them pulls as hard on
the object head as one with many (the released code's rescaling by batch / number of labelled). The hand terms are
weighted means in the same sense: an image of weight zero counts as if it were not there. Nothing here knows data sets,
steps or other workers: the factors by which a worker's share of a batch counts are given (``object_factor``,
``hand_factors``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from hojoint.config import LossConfig
from hojoint.hand.layer import HandLayer
from hojoint.model.decoders import cell_centres
from hojoint.model.network import HOJointOutput, ObjectOutput

SMALLEST_WEIGHT = 1e-9  # sum of weights below which a term is zero

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
    pseudo: Tensor | None = None  # (B,) bool, labelled by a network; None where none is
    quality: Tensor | None = None  # (B,) of pseudo-labels, in [0, 1]; None where it is not known
    mirrored_rows: Tensor | None = None  # (M,) rows of ``hand.side`` whose mirrored images are its last M
    mirrored_weights: Tensor | None = None  # (M,) of these rows in the side term


class ImageWeights(NamedTuple):
    """How much each image counts in the hand terms."""

    joints_2d: Tensor  # (B,)
    others: Tensor  # (B,) in the terms of vertices, 3D joints, rotations, betas
    root: Tensor  # (B,) share of these terms' errors that the global orientation is part of (``loss.pseudo_root``)


def image_weights(targets: Targets, config: LossConfig) -> ImageWeights | None:
    """Weights of a batch's images; None where the settings let all count alike (the paper)."""
    alike = config.pseudo_2d == config.pseudo_3d == config.pseudo_root == 1 and config.quality_power == 0
    if alike or targets.pseudo is None:
        return None
    one = torch.ones_like(targets.pseudo, dtype=torch.float32)
    right = one if targets.quality is None else targets.quality.float() ** config.quality_power
    pseudo_2d, pseudo_3d, root = (
        torch.where(targets.pseudo, weight, one)
        for weight in (config.pseudo_2d * right, config.pseudo_3d * right, config.pseudo_root * one)
    )
    return ImageWeights(pseudo_2d, pseudo_3d, root)


def hand_object_loss(
    output: HOJointOutput,
    targets: Targets,
    mano_layer: HandLayer,
    config: LossConfig,
    *,
    object_factor: Tensor | float = 1.0,
    hand_factors: tuple[Tensor | float, Tensor | float] = (1.0, 1.0),
    side_factor: Tensor | float = 1.0,
) -> dict[str, Tensor]:
    """Weighted terms by name, and their sum under ``total``; all scalars (Eq. 5, 6, 8).

    Args:
        object_factor: on the object terms; a worker's share of a batch counts by its rows.
        hand_factors: on the 2D term and on the other hand terms, for the same reason.
        side_factor: the same on the side term, which exists where the output and the targets have sides.
    """
    # Millimetres matter in the mesh terms; bfloat16 has two digits.
    with torch.autocast(output.hand.joints_box.device.type, enabled=False):
        objects = _object_terms(output.object, targets, config)
        terms = {
            **_hand_terms(output, targets, mano_layer, config, hand_factors),
            **{name: term * object_factor for name, term in objects.items()},
        }
        if output.hand.side is not None and targets.mirrored_rows is not None:
            assert targets.mirrored_weights is not None
            side = side_loss(output.hand.side.float(), targets.mirrored_rows, targets.mirrored_weights)
            terms["side"] = config.side * side * side_factor
        return {**terms, "total": torch.stack(list(terms.values())).sum()}


def _hand_terms(
    output: HOJointOutput,
    targets: Targets,
    mano_layer: HandLayer,
    config: LossConfig,
    factors: tuple[Tensor | float, Tensor | float],
) -> dict[str, Tensor]:
    hand = output.hand
    rotations, betas = hand.rotations.float(), hand.betas.float()
    mesh = mano_layer.from_rotations(rotations, betas)
    weights = image_weights(targets, config)
    weights_2d, others = (None, None) if weights is None else (weights.joints_2d, weights.others)
    if config.heatmap == "soft_argmax":
        joints_2d = _squared(hand.joints_box.float(), targets.joints_box, weights_2d)
    else:
        target_heatmaps = gaussian_heatmaps(
            targets.joints_box, cells=hand.heatmaps.shape[-1], sigma_cells=config.heatmap_sigma_cells
        )
        # Sec. 4.2: the squared norm of each heatmap's error; a mean over cells would divide it by a thousand.
        norms_BJ = (hand.heatmaps.float() - target_heatmaps).square().sum(dim=(2, 3))
        joints_2d = norms_BJ.mean() if weights_2d is None else _weighted(norms_BJ, weights_2d)
    pairs = {
        "vertices": (mesh.vertices, targets.vertices),
        "joints_3d": (mesh.joints, targets.joints),
        "rotations": (rotations, targets.rotations),
        "betas": (betas, targets.betas),
    }
    errors = {name: _squared(predicted, target, others) for name, (predicted, target) in pairs.items()}
    if weights is not None and config.pseudo_root < 1:
        errors |= _root_reduced(pairs, weights)
    factor_2d, factor_others = factors
    return {
        "joints_2d": config.joints_2d * joints_2d * factor_2d,
        **{name: getattr(config, name) * error * factor_others for name, error in errors.items()},
    }


def _root_reduced(pairs: dict[str, tuple[Tensor, Tensor]], weights: ImageWeights) -> dict[str, Tensor]:
    """The terms that the global orientation is part of, of which each image takes ``weights.root``.

    The rest of an image's error is that of points turned back by the root's rotation, each side by its own: what is
    left are pose and shape, and no gradient for the root.
    """
    kept, rest = weights.others * weights.root, weights.others * (1 - weights.root)
    total = weights.others.sum()
    predicted, target = pairs["rotations"]
    fingers = _squared(predicted[:, 1:], target[:, 1:], weights.others)
    root = _squared(predicted[:, :1], target[:, :1], kept, total)
    out = {"rotations": (root + (predicted.shape[1] - 1) * fingers) / predicted.shape[1]}
    for name in ("vertices", "joints_3d"):
        back = [points @ turned[:, 0] for points, turned in zip(pairs[name], (predicted, target), strict=True)]
        out[name] = _squared(*pairs[name], kept, total) + _squared(back[0], back[1], rest, total)
    return out


def _squared(predicted: Tensor, target: Tensor, weights: Tensor | None, total: Tensor | None = None) -> Tensor:
    """Mean squared error, weighted by ``weights`` (B,) if given, over the sum of weights ``total``."""
    if weights is None:
        return F.mse_loss(predicted, target)
    return _weighted(F.mse_loss(predicted, target, reduction="none"), weights, total)


def _weighted(errors: Tensor, weights: Tensor, total: Tensor | None = None) -> Tensor:
    """Weighted mean over images of errors (B, ...); zero where all weights are."""
    total = weights.sum() if total is None else total
    return (weights * errors.flatten(1).mean(1)).sum() / total.clamp(min=SMALLEST_WEIGHT)


def side_loss(logits: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Cross entropy of "a right hand" over pairs of an image and its mirrored one, a left hand; scalar.

    In pairs both sides weigh alike, and what shows a place and no side cancels out. Zero where no pair counts, with a
    gradient (zeros) for every logit: each worker of a distributed step needs one.

    Args:
        logits: (N,) of images; the last M are the mirrored images of ``rows``.
        rows: (M,) rows of ``logits``.
        weights: (M,) of the pairs in the mean.
    """
    plain, mirrored = logits[rows], logits[len(logits) - len(rows) :]
    entropy_M = (F.softplus(-plain) + F.softplus(mirrored)) / 2
    return _weighted(entropy_M[:, None], weights) + logits.sum() * 0.0


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
