"""Training augmentation (Sec. 6.1): draws of scale, rotation, translation, colour, blur; and colour on the device.

A draw depends on (seed, pass over the data, number of the sample) alone: not on the worker, the batch or earlier draws.
A resumed run sees what an unbroken one sees. ``batches`` makes affines and new labels from the draws.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hojoint.config import AugmentConfig, Config

LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as in PIL's greyscale
COLUMNS = 18  # a generator's first numbers do not depend on how many follow: new draws come last
_SIDE = 1  # these draws are others than those of the same sample's augmentation
GREY = 0.5  # of a cut-out square

STILL = AugmentConfig(
    scale=0, rotation_deg=0, shift=0, brightness=0, contrast=0, saturation=0, hue=0, blur_px=0, box_jitter=0, cutout=0
)
"""Draws that change nothing, for rows that are not augmented in a batch with rows that are."""

# B samples, S input side, K taps of the blur; 33 is a matrix.


@dataclass(frozen=True, eq=False)
class Draws:
    """One row per sample."""

    angle: Tensor  # (B,) rad, in-plane rotation of the image
    scale: Tensor  # (B,) times the crop's side
    shift: Tensor  # (B, 2) of the crop, in sides
    brightness: Tensor  # (B,) factor
    contrast: Tensor  # (B,) factor about the mean grey
    saturation: Tensor  # (B,) factor about the pixel's grey
    hue: Tensor  # (B,) turns
    blur: Tensor  # (B,) sigma, px of the input
    box_jitter: Tensor  # (B, 2, 2) shift of hand and object box, in box sides
    box_scale: Tensor  # (B, 2) factor of hand and object box
    cutout: Tensor  # (B, 3) x, y of the centre and side of a grey square, in sides of the input

    def to(self, device: torch.device | str) -> Draws:
        return Draws(**{name: value.to(device) for name, value in vars(self).items()})

    def take(self, rows: Tensor) -> Draws:
        """Those of some rows (M,)."""
        return Draws(**{name: value[rows] for name, value in vars(self).items()})


def augment_draws(config: AugmentConfig, keys: Iterable[tuple[int, ...]]) -> Draws:
    """Draws for samples given as (seed, pass over the data, number); a further number asks for others."""
    rows = [np.random.default_rng(key).random(COLUMNS) for key in keys]
    unit = torch.from_numpy(np.stack(rows)).float() * 2 - 1  # (B, COLUMNS) in [-1, 1)
    if config.scale_draw == "clipped_normal":
        # N(1, s) clipped at one sigma, by the inverse distribution: a third of the draws lie on the two limits.
        scale = (math.sqrt(2) * torch.erfinv(unit[:, 1].clamp(-0.999999, 0.999999))).clamp(-1, 1)
    else:
        scale = unit[:, 1]
    return Draws(
        angle=unit[:, 0] * math.radians(config.rotation_deg),
        scale=1 + config.scale * scale,
        shift=config.shift * unit[:, 2:4],
        brightness=1 + config.brightness * unit[:, 4],
        contrast=1 + config.contrast * unit[:, 5],
        saturation=1 + config.saturation * unit[:, 6],
        hue=config.hue * unit[:, 7],
        blur=config.blur_px * (unit[:, 8] + 1) / 2,
        box_jitter=config.box_jitter * unit[:, 9:13].reshape(-1, 2, 2),
        box_scale=1 + config.box_jitter * unit[:, 13:15],
        cutout=(unit[:, 15:18] + 1) / 2 * unit.new_tensor([1.0, 1.0, config.cutout]),
    )


def side_draws(config: Config, keys: Sequence[tuple[int, int]]) -> Draws | None:
    """Draws of ``train.side_augment`` for samples given as in ``draws_by_kind``; None where it is not set."""
    settings = config.train.side_augment
    if settings is None or not settings.enabled:
        return None
    return augment_draws(settings, [(config.seed, *key, _SIDE) for key in keys])


def of_kind(config: Config, *, pseudo: bool) -> AugmentConfig:
    """How labelled or pseudo-labelled images are augmented."""
    return (config.train.pseudo_augment if pseudo else None) or config.augment


def draws_by_kind(config: Config, keys: Sequence[tuple[int, int]], pseudo: Tensor) -> Draws | None:
    """Draws for a batch: each row's by ``augment``, those of pseudo-labels by ``train.pseudo_augment`` if it is set.

    Args:
        keys: (pass over the data, number) of each sample.
        pseudo: (B,) bool.

    Returns:
        None where no row is augmented.
    """
    seeds = [(config.seed, *key) for key in keys]
    kinds = {kind: of_kind(config, pseudo=kind) for kind in (False, True)}
    present = {kind: kinds[kind] for kind in sorted(set(pseudo.tolist()))}
    if not any(settings.enabled for settings in present.values()):
        return None
    drawn = {kind: augment_draws(settings if settings.enabled else STILL, seeds) for kind, settings in present.items()}
    if len(drawn) == 1:
        return next(iter(drawn.values()))
    mask = pseudo.cpu()
    return Draws(
        **{
            name: torch.where(mask.view(-1, *[1] * (value.dim() - 1)), getattr(drawn[True], name), value)
            for name, value in vars(drawn[False]).items()
        }
    )


def recolour(images: Tensor, draws: Draws) -> Tensor:
    """Brightness, contrast, saturation and hue as one colour matrix per image, then blur; (B, 3, S, S) in [0, 1]."""
    luma = images.new_tensor(LUMA)
    grey_B = (images.mean(dim=(2, 3)) @ luma) * draws.brightness
    matrix_B33 = _hue(draws.hue, luma) @ _saturation(draws.saturation, luma)
    matrix_B33 = matrix_B33 * (draws.brightness * draws.contrast)[:, None, None]
    # Contrast is about the image's mean grey, which saturation and hue keep.
    offset_B = grey_B * (1 - draws.contrast)
    mixed = torch.baddbmm(offset_B[:, None, None], matrix_B33, images.flatten(2))
    return blur(mixed.view_as(images).clamp_(0, 1), draws.blur)


def cut_out(images: Tensor, draws: Draws) -> Tensor:
    """Images (B, 3, S, S) with each one's square of ``draws.cutout`` grey; a side of zero changes nothing."""
    if not bool((draws.cutout[:, 2] > 0).any()):
        return images
    side = images.shape[-1]
    x, y, half = (draws.cutout * draws.cutout.new_tensor([side, side, side / 2])).T[:, :, None]
    centres = torch.arange(side, device=images.device, dtype=images.dtype) + 0.5  # of the pixels, from the edge
    inside_BSS = ((centres - y).abs() < half)[:, :, None] & ((centres - x).abs() < half)[:, None, :]
    return images.masked_fill(inside_BSS[:, None], GREY)


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of images (B, 3, S, S) by ``sigma`` (B,) px; a sigma of zero changes nothing."""
    widest = float(sigma.max()) if len(sigma) else 0.0
    if widest == 0:
        return images
    reach = max(1, math.ceil(3 * widest - 0.5))
    taps = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    kernel_BK = torch.exp(-(taps**2) / (2 * sigma.clamp(min=1e-3)[:, None] ** 2))
    kernel_BK = (kernel_BK / kernel_BK.sum(1, keepdim=True)).repeat_interleave(3, dim=0)
    batch, _, height, width = images.shape
    flat = F.pad(images.reshape(1, batch * 3, height, width), (reach,) * 4, mode="replicate")
    flat = F.conv2d(flat, kernel_BK[:, None, None, :], groups=batch * 3)
    return F.conv2d(flat, kernel_BK[:, None, :, None], groups=batch * 3).view_as(images)


def _saturation(factor: Tensor, luma: Tensor) -> Tensor:
    """(B, 3, 3) colour matrices."""
    identity = torch.eye(3, device=factor.device)
    return factor[:, None, None] * identity + (1 - factor)[:, None, None] * luma.expand(3, 3)


def _hue(turns: Tensor, luma: Tensor) -> Tensor:
    """(B, 3, 3) rotations of the chroma plane (YIQ), which keep grey and luma."""
    yiq = torch.stack((luma, luma.new_tensor((0.596, -0.274, -0.322)), luma.new_tensor((0.211, -0.523, 0.312))))
    angle = 2 * math.pi * turns
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    rows = (torch.ones_like(angle), zero, zero, zero, cos, -sin, zero, sin, cos)
    return torch.linalg.inv(yiq) @ torch.stack(rows, dim=1).reshape(-1, 3, 3) @ yiq
