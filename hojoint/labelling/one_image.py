"""One image and its boxes, checked, as a clip of one frame: what a notebook or a camera gives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hojoint import arrays
from hojoint.errors import InputError
from hojoint.labelling.spatial_rules import SMALLEST_BOX_PX
from hojoint.records import Frames


def frames_of(
    image: np.ndarray,
    hand_box: Sequence[float] | np.ndarray,
    object_box: Sequence[float] | np.ndarray | None = None,
) -> Frames:
    """An image (H, W, 3) uint8 RGB and boxes (4,) xyxy px as a clip of one frame.

    Raises:
        InputError: the image is not of this kind, or a box has no area inside the image.
    """
    rgb = np.asarray(image)
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise InputError(f"expected an image (H, W, 3) of uint8 RGB, found {rgb.dtype} {rgb.shape}")
    nowhere = np.full((1, 4), np.nan, np.float32)
    object_boxes = nowhere if object_box is None else _inside("object", object_box, rgb)
    return Frames("image", rgb[None], _inside("hand", hand_box, rgb), object_boxes)


def is_left(flipped: bool) -> bool:
    """``flipped`` as given; InputError where it is no truth value: 'right' would count as true."""
    if not isinstance(flipped, bool | np.bool_):
        raise InputError(f"flipped must be True or False, True for a left hand; found {flipped!r:.60}")
    return bool(flipped)


def _inside(name: str, box: Sequence[float] | np.ndarray, rgb: np.ndarray) -> np.ndarray:
    """The part (1, 4) float32 of a box inside the image (H, W, 3), as labelling takes it; InputError without one."""
    try:
        values = np.asarray(arrays.without_tensors(box), np.float32)
    except (TypeError, ValueError):
        raise InputError(
            f"expected the {name} box [x0, y0, x1, y1] in px, found {box!r:.80}; give four numbers"
        ) from None
    if values.shape != (4,) or not np.isfinite(values).all() or not (values[2:] > values[:2]).all():
        raise InputError(f"expected the {name} box [x0, y0, x1, y1] in px, with an area; found {values.tolist()}")
    height, width = rgb.shape[:2]
    inside = np.clip(values, 0, [width, height, width, height])
    if (inside[2:] - inside[:2] < SMALLEST_BOX_PX).any():
        raise InputError(
            f"the {name} box {values.tolist()} has no area inside the image of {width} x {height} px; expected "
            f"[x0, y0, x1, y1] in px, x to the right and y down, at least {SMALLEST_BOX_PX:g} px wide and high"
        )
    return inside[None].astype(np.float32)
