"""A detector that finds what a script says: the protocol without a network, for tests.

A hand is a bright square on a dark picture; its colour's red is its number, its green the side that it shows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hojoint.detection.detector import Hand, same_hand

RIGHT, LEFT = 200, 100
SIDE = 20  # px


def picture(
    *hands: tuple[int, float, float] | tuple[int, float, float, int], size: tuple[int, int] = (96, 64)
) -> np.ndarray:
    """(H, W, 3) with squares: number, left, top and what the hand looks like (RIGHT or LEFT)."""
    image = np.zeros((size[1], size[0], 3), np.uint8)
    for number, x, y, *looks in hands:
        image[round(y) : round(y) + SIDE, round(x) : round(x) + SIDE] = (10 * number, *(looks or [RIGHT]), 250)
    return image


class Scripted:
    """Finds squares. ``shy`` numbers are only followed, as real palms are often seen late; ``reach`` bounds a step."""

    def __init__(self, *, shy: Sequence[int] = (), reach: float = 30.0, name: str = "scripted") -> None:
        self.shy, self.reach, self.name = set(shy), reach, name
        self.looked = 0  # calls

    @property
    def identity(self) -> dict[str, str]:
        return {"palm": self.name, "hand": self.name}

    def find(self, picture: np.ndarray, known: Sequence[Hand], at_most: int) -> list[Hand]:
        self.looked += 1
        seen = [hand for number, hand in squares(picture) if number not in self.shy]
        return [hand for hand in seen if not any(same_hand(hand, other) for other in known)][:at_most]

    def follow(self, picture: np.ndarray, hand: Hand) -> Hand | None:
        self.looked += 1
        steps = [(float(np.abs(other.box - hand.box).max()), other) for _, other in squares(picture)]
        near = [pair for pair in steps if pair[0] <= self.reach]
        return min(near, key=lambda pair: pair[0])[1] if near else None


def squares(picture: np.ndarray) -> list[tuple[int, Hand]]:
    """Number and hand of each square; robust against what an encoder does to colours."""
    found = []
    bright = picture[..., 2] > 150
    for number in np.unique(np.round(picture[bright][:, 0] / 10)).astype(int):
        rows, columns = np.nonzero(bright & (np.abs(picture[..., 0] - 10.0 * number) <= 5))
        if len(rows) < SIDE * SIDE / 2:
            continue
        low, high = np.array([columns.min(), rows.min()]), np.array([columns.max() + 1, rows.max() + 1])
        right = float(np.median(picture[rows, columns, 1]) > (RIGHT + LEFT) / 2)
        landmarks = np.broadcast_to((low + high) / 2, (21, 2)).astype(np.float32)
        found.append((int(number), Hand(np.concatenate([low, high]).astype(np.float32), 0.9, right, landmarks)))
    return found
