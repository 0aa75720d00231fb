"""One image and its boxes, checked, as a clip of one frame: what a notebook or a camera gives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hojoint.errors import InputError
from hojoint.records import Frames


def frames_of(
    image: np.ndarray,
    hand_box: Sequence[float] | np.ndarray,
    object_box: Sequence[float] | np.ndarray | None = None,
) -> Frames:
    """An image (H, W, 3) uint8 RGB and boxes (4,) xyxy px as a clip of one frame.

    Raises:
        InputError: the image is not of this kind, or a box has no area or lies outside the image.
    """
    rgb = np.asarray(image)
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise InputError(f"expected an image (H, W, 3) of uint8 RGB, found {rgb.dtype} {rgb.shape}")
    if not _meets(rgb, hand_box):
        raise InputError(
            f"the hand box {list(hand_box)} lies outside the image of {rgb.shape[1]} x {rgb.shape[0]} px; expected "
            "[x0, y0, x1, y1] in px, x to the right and y down"
        )
    nowhere = np.full((1, 4), np.nan, np.float32)
    object_boxes = nowhere if object_box is None else _one_box("object", object_box)
    return Frames("image", rgb[None], _one_box("hand", hand_box), object_boxes)


def _meets(rgb: np.ndarray, box: Sequence[float] | np.ndarray) -> bool:
    """Whether a box (4,) px shares an area with the image (H, W, 3)."""
    height, width = rgb.shape[:2]
    corners = np.asarray(box, np.float32)
    if corners.shape != (4,) or not np.isfinite(corners).all():
        return True  # reported as a wrong box
    low, high = np.maximum(corners[:2], 0), np.minimum(corners[2:], [width, height])
    return bool((high > low).all()) or not bool((corners[2:] > corners[:2]).all())


def _one_box(name: str, box: Sequence[float] | np.ndarray) -> np.ndarray:
    """A box as (1, 4) float32; InputError unless it has an area."""
    values = np.asarray(box, np.float32)
    if values.shape != (4,) or not np.isfinite(values).all() or not (values[2:] > values[:2]).all():
        raise InputError(f"expected the {name} box [x0, y0, x1, y1] in px, with an area; found {values.tolist()}")
    return values[None]
