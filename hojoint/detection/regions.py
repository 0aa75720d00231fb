"""Turned squares: the part of a picture that the landmark network sees, and how it follows from a palm or a hand.

The network expects an upright hand that fills about half of the crop. A region's angle is the hand's turn against
upright, clockwise in the picture. The numbers are those of MediaPipe's published hand graph. Points are pixels, (0, 0)
is the centre of the top-left pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

PALM_SCALE, PALM_SHIFT = 2.6, 0.5  # side of the region in sides of the palm's box; shift towards the fingers
HAND_SCALE, HAND_SHIFT = 2.0, 0.1  # the same for the box of a hand's stable landmarks
STABLE = (0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18)
"""Landmarks that move little when fingers bend: wrist, thumb without its tip, both lower joints of the fingers."""
WRIST, INDEX, MIDDLE, RING = 0, 5, 9, 13  # the knuckles (MCP)
PALM_WRIST, PALM_MIDDLE = 0, 2  # among the palm network's seven points
NUMBERS = (
    *(PALM_SCALE, PALM_SHIFT, HAND_SCALE, HAND_SHIFT, STABLE),
    *(WRIST, INDEX, MIDDLE, RING, PALM_WRIST, PALM_MIDDLE),
)
"""All that decides where the networks look: part of a detector's identity."""


@dataclass(frozen=True)
class Region:
    """A square of a picture."""

    x: float  # of the centre, px
    y: float
    side: float  # px
    angle: float  # rad

    @property
    def box(self) -> np.ndarray:
        """(4,) xyxy px, of the square turned upright."""
        half = self.side / 2
        return np.array([self.x - half, self.y - half, self.x + half, self.y + half])

    def to_picture(self, size: int) -> np.ndarray:
        """The affine (2, 3) from pixels of a crop of ``size`` px to those of the picture."""
        scale = self.side / size
        across, down = scale * math.cos(self.angle), scale * math.sin(self.angle)
        middle = (size - 1) / 2
        return np.array(
            [
                [across, -down, self.x - middle * (across - down)],
                [down, across, self.y - middle * (across + down)],
            ]
        )

    def crop(self, picture: np.ndarray, size: int) -> np.ndarray:
        """(size, size, 3) uint8 pixels of a picture (H, W, 3), upright; black beyond it."""
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(picture, self.to_picture(size), (size, size), flags=flags)


def of_palm(box: np.ndarray, points: np.ndarray) -> Region:
    """The region of the hand whose palm has the box (4,) xyxy px and the points (7, 2) px."""
    angle = _turn(points[PALM_WRIST], points[PALM_MIDDLE])
    width, height = box[2:] - box[:2]
    return _region((box[:2] + box[2:]) / 2, width, height, angle, PALM_SHIFT, PALM_SCALE)


def of_landmarks(landmarks: np.ndarray) -> Region:
    """The region of a hand with these landmarks (21, 2) px: where to look for it in the next picture."""
    knuckles = (landmarks[INDEX] + landmarks[RING]) / 4 + landmarks[MIDDLE] / 2
    angle = _turn(landmarks[WRIST], knuckles)
    cos, sin = math.cos(angle), math.sin(angle)
    upright = landmarks[list(STABLE)] @ np.array([[cos, -sin], [sin, cos]])  # turned back by the angle
    low, high = upright.min(axis=0), upright.max(axis=0)
    centre = np.array([[cos, -sin], [sin, cos]]) @ ((low + high) / 2)
    width, height = high - low
    return _region(centre, width, height, angle, HAND_SHIFT, HAND_SCALE)


def _turn(wrist: np.ndarray, fingers: np.ndarray) -> float:
    """Angle of the direction wrist to fingers against upright, clockwise, in (-pi, pi]."""
    x, y = np.asarray(fingers, np.float64) - wrist
    return math.atan2(x, -y)


def _region(centre: np.ndarray, width: float, height: float, angle: float, shift: float, scale: float) -> Region:
    x = centre[0] + shift * height * math.sin(angle)
    y = centre[1] - shift * height * math.cos(angle)
    return Region(float(x), float(y), float(max(width, height, 1.0) * scale), angle)
