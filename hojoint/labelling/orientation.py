"""The display matrix: how a player turns and mirrors the coded picture before it is shown.

The matrix maps a coded point to the shown one, x' = a x + c y and y' = b x + d y, in the order a b u c d v x y w of ISO
14496-12 (16.16 fixed point). Translation and scale do not change which way is up. Not here: where it is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hojoint.labelling.faults import VideoError

SMALL = 0.01  # share of the larger entry that counts as zero: rounding in the file


@dataclass(frozen=True)
class Orientation:
    """First a clockwise turn, then a mirror that swaps left and right."""

    rotation_deg: int = 0  # 0, 90, 180 or 270
    mirrored: bool = False

    def applied(self, rgb: np.ndarray) -> np.ndarray:
        """The picture (H, W, 3) as it is shown; (W, H, 3) after a quarter turn."""
        if self == UPRIGHT:
            return rgb
        turned = np.rot90(rgb, -self.rotation_deg // 90)
        return np.ascontiguousarray(turned[:, ::-1] if self.mirrored else turned)


UPRIGHT = Orientation()
_OF_SIGNS = {
    (1, 0, 0, 1): UPRIGHT,
    (0, 1, -1, 0): Orientation(90),
    (-1, 0, 0, -1): Orientation(180),
    (0, -1, 1, 0): Orientation(270),
    (-1, 0, 0, 1): Orientation(0, True),
    (0, 1, 1, 0): Orientation(90, True),
    (1, 0, 0, -1): Orientation(180, True),
    (0, -1, -1, 0): Orientation(270, True),
}


def orientation_of(matrix: Sequence[int] | np.ndarray) -> Orientation:
    """What a display matrix (9,) asks for; a matrix of zeros (real files have them) asks for nothing.

    Raises:
        VideoError: unsupported_rotation, where it turns by other than quarter turns or skews.
    """
    corner = np.asarray(matrix, np.float64).reshape(3, 3)[:2, :2]
    largest = np.abs(corner).max()
    if largest == 0:
        return UPRIGHT
    corner = np.where(np.abs(corner) < SMALL * largest, 0, corner)
    found = _OF_SIGNS.get(tuple(np.sign(corner).astype(int).reshape(-1).tolist()))
    if found is None:
        degrees = np.degrees(np.arctan2(corner[0, 1], corner[0, 0]))
        raise VideoError(
            "unsupported_rotation", f"the display matrix turns the picture by {degrees:.0f} degrees, not by quarters"
        )
    return found
