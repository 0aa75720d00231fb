"""The palm network's tensors: its input square, its anchors, and how its 2016 rows become a few palms.

The network (MediaPipe's palm detection, 192 px) answers one row per anchor: a box's centre and size, then seven points,
all in pixels of its input relative to the anchor; and one score before the sigmoid. Anchors are the centres of a grid
of 24 x 24, twice, then of one of 12 x 12, six times. Overlapping palms become their mean, weighted by score. Not here:
how the network is run (``mediapipe``).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hojoint.detection.detector import iou

INPUT_PX = 192
GRIDS = ((24, 2), (12, 6))  # cells per side, anchors per cell
ANCHORS = sum(cells**2 * each for cells, each in GRIDS)
POINTS = 7  # wrist, index, middle, ring and pinky knuckle, two of the thumb
SAME_PALM = 0.3  # IoU from which two rows are one palm


@dataclass(frozen=True, eq=False)
class Palm:
    """A palm in pixels of the picture."""

    box: np.ndarray  # (4,) xyxy
    points: np.ndarray  # (7, 2)
    score: float


def anchors() -> np.ndarray:
    """(2016, 2) centres in pixels of the input, from its corner."""
    parts = []
    for cells, each in GRIDS:
        line = (np.arange(cells) + 0.5) * INPUT_PX / cells
        grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)  # x runs fastest
        parts.append(np.repeat(grid, each, axis=0))
    return np.concatenate(parts)


def letterbox(picture: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """The picture (H, W, 3) uint8 inside a black square of the input's size.

    Returns:
        The square (192, 192, 3) uint8; pixels of the input per pixel of the picture; and the picture's corner (2,) in
        the square, px.
    """
    height, width = picture.shape[:2]
    scale = INPUT_PX / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (INPUT_PX - size[0]) // 2, (INPUT_PX - size[1]) // 2
    square = np.zeros((INPUT_PX, INPUT_PX, 3), np.uint8)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    square[top : top + size[1], left : left + size[0]] = cv2.resize(picture, size, interpolation=how)
    return square, scale, np.array([left, top], np.float64)


def decode(
    rows: np.ndarray, logits: np.ndarray, *, scale: float, corner: np.ndarray, min_score: float
) -> list[Palm]:  # fmt: skip
    """Palms of one answer, the surest first.

    Args:
        rows: (2016, 18) px of the input, relative to the anchors.
        logits: (2016,) scores before the sigmoid.
        scale: pixels of the input per pixel of the picture, as ``letterbox`` returns it.
        corner: (2,) of the picture in the input, px.
        min_score: rows below it do not count.
    """
    scores = 1 / (1 + np.exp(-np.clip(logits.astype(np.float64), -100, 100)))
    chosen = np.flatnonzero(scores >= min_score)
    points = rows[chosen].astype(np.float64).reshape(len(chosen), 2 + POINTS, 2)
    size = points[:, 1].copy()
    points += anchors()[chosen][:, None]
    # The first pair is the box's centre, the second its size.
    boxes = np.concatenate([points[:, 0] - size / 2, points[:, 0] + size / 2], axis=1).reshape(-1, 2, 2)
    placed = (np.concatenate([boxes, points[:, 2:]], axis=1) - corner) / scale - 0.5  # corner of a pixel to its centre
    return merged(placed[:, :2].reshape(-1, 4), placed[:, 2:], scores[chosen])


def merged(boxes: np.ndarray, points: np.ndarray, scores: np.ndarray) -> list[Palm]:
    """Join rows (N, 4), (N, 7, 2), (N,) that overlap the surest of the rest: means weighted by score, its score."""
    palms = []
    rest = np.argsort(-scores, kind="stable")
    while len(rest):
        same = np.array([iou(boxes[row], boxes[rest[0]]) >= SAME_PALM for row in rest])
        same[0] = True  # also where its box is empty
        rows = rest[same]
        weights = scores[rows] / scores[rows].sum()
        palms.append(Palm(weights @ boxes[rows], np.einsum("n,npc->pc", weights, points[rows]), float(scores[rows[0]])))
        rest = rest[~same]
    return palms
