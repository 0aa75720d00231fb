"""What a detector of hands is: it finds hands in a picture, and follows a hand into the picture beside it.

A detector keeps nothing from picture to picture, so one serves any number of videos in any order. What becomes of its
finds (tracks, gaps, sides) is the same for every detector: ``tracking``. The one that ships is ``mediapipe``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

SAME_HAND = 0.7  # share of the smaller box inside the other from which two boxes are one hand


@dataclass(frozen=True, eq=False)
class Hand:
    """One hand found in one picture."""

    box: np.ndarray  # (4,) float32 xyxy px, inside the picture
    score: float  # in [0, 1], that there is a hand
    right: float  # in [0, 1], that it is a right hand; above 0.5 means right
    landmarks: np.ndarray  # (21, 2) float32 px; wrist, thumb, index, middle, ring, pinky; may lie outside the picture


class Detector(Protocol):
    """Finds hands. Pictures are (H, W, 3) uint8 RGB."""

    @property
    def identity(self) -> dict[str, str]:
        """What decides its finds besides the settings, by name: checksums of its files and numbers."""

    def find(self, picture: np.ndarray, known: Sequence[Hand], at_most: int) -> list[Hand]:
        """Up to ``at_most`` hands in a picture besides the known ones, the surest first."""

    def follow(self, picture: np.ndarray, hand: Hand) -> Hand | None:
        """The hand, which was found in the picture before or after this one; None where it is not seen any more."""


def same_hand(a: Hand, b: Hand) -> bool:
    """Whether one box lies so much inside the other that both are one hand."""
    return overlap(a.box, b.box) >= SAME_HAND


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Share of the smaller of two boxes (4,) xyxy that lies inside the other; 0 where one is empty."""
    smaller = min(_area(a), _area(b))
    return _area(_shared(a, b)) / smaller if smaller > 0 else 0.0


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes (4,) xyxy; 0 where both are empty."""
    shared = _area(_shared(a, b))
    union = _area(a) + _area(b) - shared
    return shared / union if union > 0 else 0.0


def _shared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.concatenate([np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])])


def _area(box: np.ndarray) -> float:
    width, height = float(box[2]) - float(box[0]), float(box[3]) - float(box[1])
    return max(width, 0.0) * max(height, 0.0)
