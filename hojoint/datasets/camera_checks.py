"""Intrinsics against the size of the images: those of a resized copy belong to images of another size.

Projected labels of such a set may still lie inside the image, so only the principal point tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from hojoint.datasets.findings import Fault

REFUSED = 0.2  # of half the image's side, median; HO-3D's and FreiHAND's cameras stay below 0.05
SAME = 0.1  # largest relative difference of the factors of both axes that is one factor


def camera_faults(
    cameras: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]], where: str, *, key: str
) -> list[Fault]:
    """Principal points far from the middle of the image.

    Args:
        cameras: intrinsics (3, 3) of the compared frames, px.
        sizes: width and height of their images, px.
        where: the set, for messages.
        key: what the set calls its intrinsics.
    """
    if not len(cameras):
        return []
    centres, sides = np.stack(cameras)[:, :2, 2], np.array(sizes, np.float64)
    factors = 2 * centres / sides  # 1 where the principal point is the middle
    away = np.abs(factors - 1)
    if not np.median(away, axis=0).max() > REFUSED:
        return []
    (cx, cy), (width, height), (x, y) = np.median(centres, 0), np.median(sides, 0), np.median(factors, 0)
    count = int((away > REFUSED).any(1).sum())
    sentence = (
        f"{where}: the principal point of {key} is ({cx:.0f}, {cy:.0f}) px (median), expected near the middle "
        f"({width / 2:.0f}, {height / 2:.0f}) of images of {width:.0f} x {height:.0f} px; so in {count} of "
        f"{len(cameras)} compared frames"
    )
    if min(x, y) > 0 and abs(x - y) <= SAME * max(x, y):
        factor = _simple((x + y) / 2)
        remedy = (
            f"the intrinsics probably belong to images of {factor:.2g} times this size (about {factor * width:.0f} x "
            f"{factor * height:.0f} px); fetch images and labels of one size, or multiply the first two "
            f"rows of {key} by {1 / factor:.3g}"
        )
    else:
        remedy = "they probably belong to cropped images or to another camera; fetch images and labels of one release"
    return [Fault("camera_size", where, count, sentence, remedy)]


def _simple(factor: float) -> float:
    """A near fraction such as 1/2 or 3: real principal points lie a little off the middle, and so does the factor."""
    large = Fraction(max(factor, 1 / factor)).limit_denominator(2)
    near = float(large) if factor > 1 else 1 / float(large)
    return near if abs(near / factor - 1) < 0.06 else factor
