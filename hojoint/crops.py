"""From an image and its boxes to the network's input: region, square, affine, warp (Sec. 6.1; released code's crop).

A reader cuts a generous *region* on the CPU once; the square *crop* inside it is one affine per view, warped on the
device, so that test-time views and training augmentation cost no second decode. Boxes and points go through the same
affine as the pixels. The random draws of training are in ``augment``; this file knows no randomness.
"""

from __future__ import annotations

import math
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hojoint import geometry
from hojoint.config import AugmentConfig

# Suffixes of locals: B views, N source images, S input side, C channels.

REGION_FACTOR = 1.9  # a crop grown by 1.2, turned by 45 degrees, moved by 0.1 lies inside: 1.2 * sqrt(2) + 2 * 0.1


def region_factor(config: AugmentConfig) -> float:
    """Side of a region, in crops, that every augmented crop lies in: at least ``REGION_FACTOR``.

    In less room a part of the input would be black where the image has pixels.
    """
    if not config.enabled:
        return REGION_FACTOR
    widest = math.radians(min(config.rotation_deg, 45))
    turned = math.cos(widest) + math.sin(widest)
    return max(REGION_FACTOR, (1 + config.scale) * turned + 2 * config.shift)


def region_side(input_px: int, factor: float = REGION_FACTOR) -> int:
    """Longest side of a region worth keeping: at the crop's scale it has the pixels of the input."""
    return int(np.ceil(factor * input_px))


def cut_region(
    image: np.ndarray, box: np.ndarray, factor: float = 1.0, max_side: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The part of an image (H, W, ...) around ``box``, shrunk to ``max_side``, and its affine (2, 3), image to region.

    The part is the square about the box with the box's longer side times ``factor``, clipped to whole pixels inside the
    image. Shrinking averages areas (no aliasing); nothing is ever enlarged.
    """
    height, width = image.shape[:2]
    x0, y0, x1, y1 = whole_pixels(box, factor, width, height)
    region = image[y0:y1, x0:x1]
    shrink = 1.0 if max_side is None else min(1.0, max_side / max(region.shape[:2]))
    if shrink < 1.0:
        size = tuple(max(1, round(side * shrink)) for side in (x1 - x0, y1 - y0))
        region = cv2.resize(region, size, interpolation=cv2.INTER_AREA)
    zoom_x, zoom_y = region.shape[1] / (x1 - x0), region.shape[0] / (y1 - y0)
    # Pixel k covers [k - 1/2, k + 1/2]: the region's edge, not its first centre, stays in place.
    affine = [[zoom_x, 0, (0.5 - x0) * zoom_x - 0.5], [0, zoom_y, (0.5 - y0) * zoom_y - 0.5]]
    return np.ascontiguousarray(region), np.array(affine, dtype=np.float64)


def whole_pixels(box: np.ndarray, factor: float, width: int, height: int) -> tuple[int, int, int, int]:
    """Square about ``box`` with its longer side times ``factor``, clipped to the image: x0, y0, x1, y1, the ends out.

    At least one pixel, even of a box beyond the border.
    """
    centre = (box[:2] + box[2:]) / 2
    half = float((box[2:] - box[:2]).max()) * factor / 2
    x0, y0 = (int(v) for v in np.clip(np.floor(centre - half), 0, (width - 1, height - 1)))
    x1, y1 = (int(v) for v in np.clip(np.ceil(centre + half) + 1, (x0 + 1, y0 + 1), (width, height)))
    return x0, y0, x1, y1


def union_box(hand_box: np.ndarray, object_box: np.ndarray) -> np.ndarray:
    """Smallest box (4,) around two boxes (4,); an object box of NaN does not count."""
    return np.concatenate([np.fmin(hand_box[:2], object_box[:2]), np.fmax(hand_box[2:], object_box[2:])])


def grow(box: np.ndarray, factor: float) -> np.ndarray:
    """The box (4,) with both sides times ``factor`` about its centre."""
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2 * factor
    return np.concatenate([centre - half, centre + half])


def map_points(affine: np.ndarray, px: np.ndarray) -> np.ndarray:
    """Points (N, 2) through an affine (2, 3), on the CPU."""
    return px @ affine[:, :2].T + affine[:, 2]


def map_box(affine: np.ndarray, box: np.ndarray) -> np.ndarray:
    """A box (4,) through an axis-aligned affine (2, 3)."""
    return map_points(affine, box.reshape(2, 2)).reshape(4)


def map_camera(affine: np.ndarray, camera: np.ndarray) -> np.ndarray:
    """Intrinsics (3, 3) of the mapped image."""
    return np.vstack([affine, [0, 0, 1]]) @ camera


def square_of(
    hand_box: Tensor,
    object_box: Tensor | None,
    context: float,
    limit: Tensor | None = None,
    *,
    hand_context: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Centre (B, 2) and side (B,) of the crop: the union of both boxes, each grown by ``context``; its longer side.

    Args:
        hand_box: (B, 4) px.
        object_box: (B, 4) px; a row of NaN does not count. None means that no row has an object.
        context: factor on both boxes.
        hand_context: factor on a hand without an object box; None means ``context``.
        limit: (B, 2) width and height of the image in px, to which the released code clips the union first.
    """
    alone = context if hand_context is None else hand_context
    if object_box is None:
        box_B4 = geometry.scale_box(hand_box, alone)
    else:
        factor_B1 = torch.where(torch.isfinite(object_box).all(1, keepdim=True), context, alone)
        box_B4 = geometry.scale_box(hand_box, factor_B1)
        grown_B4 = geometry.scale_box(object_box, context)
        box_B4 = torch.cat((torch.fmin(box_B4[:, :2], grown_B4[:, :2]), torch.fmax(box_B4[:, 2:], grown_B4[:, 2:])), 1)
    if limit is not None:
        box_B4 = geometry.clip_box(box_B4, limit[:, 0], limit[:, 1])
    side_B = (box_B4[:, 2:] - box_B4[:, :2]).amax(1)
    return (box_B4[:, :2] + box_B4[:, 2:]) / 2, side_B.clamp(min=1.0)


def view_affine(centre: Tensor, side: Tensor, size: int, angle: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Affine (B, 2, 3), source px to input px, of a crop's square that is turned, grown and moved.

    Args:
        centre, side: (B, 2), (B,) source px.
        size: of the input, px.
        angle: (B,) rad; a positive one turns the picture's x towards its y, as ``geometry.rotation_z`` does.
        scale: (B,) times the square's side; above 1 the picture's content becomes smaller.
        shift: (B, 2) of the square, in sides.
    """
    turn_B22 = geometry.rotation_z(angle)[:, :2, :2] * (size / (side * scale))[:, None, None]
    middle_B21 = (centre + shift * side[:, None])[..., None]
    return torch.cat((turn_B22, (size - 1) / 2 - turn_B22 @ middle_B21), dim=2)


def plain_affine(centre: Tensor, side: Tensor, size: int) -> Tensor:
    """``view_affine`` without augmentation."""
    zero_B = torch.zeros_like(side)
    return view_affine(centre, side, size, zero_B, torch.ones_like(side), torch.stack((zero_B, zero_B), dim=1))


def turned_camera(camera: Tensor, affine: Tensor, angle: Tensor) -> Tensor:
    """Intrinsics (B, 3, 3) of the input for points that were turned by ``rotation_z(angle)`` in the camera frame.

    Args:
        camera: (B, 3, 3) intrinsics of the source, px.
        affine: (B, 2, 3) source px to input px.
        angle: (B,) rad.

    Turning the world and the picture together leaves a camera with square pixels a plain one; with fx != fy a small
    skew remains, which this keeps and the released code drops.
    """
    last_B13 = affine.new_tensor([0.0, 0.0, 1.0]).expand(len(affine), 1, 3)
    return torch.cat((affine, last_B13), dim=1) @ camera @ geometry.rotation_z(-angle)


def warp(
    images: Tensor,
    affine: Tensor,
    size: int,
    *,
    resample: Literal["bilinear", "nearest"] = "bilinear",
    supersample: int = 1,
) -> Tensor:
    """Views (B, C, size, size), float32 in [0, 1], of uint8 images on their device; black beyond the source.

    Args:
        images: (N, H, W, 3), or (N, C, H, W) with C other than W in the last place; uint8.
        affine: (B, 2, 3) source px to view px; B is N, or a multiple: then the views of an image follow one another.
        supersample: samples per view pixel and axis, averaged; 1 aliases where the view is much smaller than its crop.
    """
    if images.shape[-1] == 3:
        images = images.permute(0, 3, 1, 2)
    grid_BSS2 = _grid(affine, size * supersample, supersample, width=images.shape[3], height=images.shape[2])
    views = _sample(images.float(), grid_BSS2, resample, 1 / 255)
    return F.avg_pool2d(views, supersample) if supersample > 1 else views


def warp_mask(masks: Tensor, affine: Tensor, size: int) -> Tensor:
    """Nearest samples (B, size, size) of masks (B, H, W) uint8, one view per mask; zero beyond the source."""
    grid_BSS2 = _grid(affine, size, 1, width=masks.shape[2], height=masks.shape[1])
    return F.grid_sample(masks[:, None].float(), grid_BSS2, mode="nearest", align_corners=False)[:, 0]


def cell_affine(affine: Tensor, box: Tensor, cells: int) -> Tensor:
    """Affine (B, 2, 3) from source px to cells of a RoI grid on ``box``: the centre of the first cell is (0, 0).

    Args:
        affine: (B, 2, 3) source px to input px.
        box: (B, 4) input px.
    """
    zoom_B2 = cells / (box[:, 2:] - box[:, :2])
    move_B2 = -box[:, :2] * zoom_B2 - 0.5
    return torch.cat((affine[..., :2] * zoom_B2[..., None], (affine[..., 2] * zoom_B2 + move_B2)[..., None]), dim=2)


def _grid(affine: Tensor, samples: int, per_pixel: int, *, width: int, height: int) -> Tensor:
    """Sampling points (B, samples, samples, 2) in grid_sample's units: -1 and 1 are the source's outer edges."""
    back_B23 = geometry.invert_affine(affine.float())
    along_S = (torch.arange(samples, device=affine.device, dtype=torch.float32) + 0.5) / per_pixel - 0.5
    # In grid_sample's units before the grid is made: a few numbers per view instead of a few passes over its samples.
    x_B3, y_B3 = back_B23[:, 0] * (2 / width), back_B23[:, 1] * (2 / height)
    offset_B2 = torch.stack((x_B3[:, 2] + (1 / width - 1), y_B3[:, 2] + (1 / height - 1)), dim=1)
    along_x_BS2 = torch.stack((x_B3[:, :1] * along_S, y_B3[:, :1] * along_S), dim=2)
    along_y_BS2 = torch.stack((x_B3[:, 1:2] * along_S, y_B3[:, 1:2] * along_S), dim=2) + offset_B2[:, None]
    # A sum of complex numbers adds x and y in one pass over memory; a last dimension of two takes five times as long.
    across_BS, down_BS = torch.view_as_complex(along_x_BS2), torch.view_as_complex(along_y_BS2)
    return torch.view_as_real(across_BS[:, None] + down_BS[:, :, None])


def _sample(pixels: Tensor, grid: Tensor, mode: str, scale: float) -> Tensor:
    """Views (B, C, S, S), times ``scale``, of images (N, C, H, W) at the points of ``grid`` (B, S, S, 2).

    B is a multiple of N. The scale comes last, for the views are smaller than their sources.
    """
    side, shared, channels = grid.shape[1], len(grid) // len(pixels), pixels.shape[1]
    # All views of an image in one tall grid: the source is not copied once per view.
    tall = grid.reshape(len(pixels), shared * side, side, 2)
    views = F.grid_sample(pixels, tall, mode=mode, align_corners=False)
    views = views.view(len(pixels), channels, shared, side, side).transpose(1, 2)
    out = views.new_empty(views.shape)
    return torch.mul(views, scale, out=out).flatten(0, 1)
