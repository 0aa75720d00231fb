"""What every reader of a video offers: its pictures in the order in which a person sees them.

Picture n is the n-th one shown (from 0): display order, after edit lists, without hidden and discarded ones, turned and
mirrored as the display matrix says. Not here: the readers (``readers``), which pictures are kept (``collecting``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hojoint.labelling.orientation import UPRIGHT, Orientation


@dataclass(frozen=True, eq=False)
class Picture:
    """One decoded picture; its pixels are converted only when ``rgb`` is called."""

    rgb: Callable[[], np.ndarray]  # () -> (H, W, 3) uint8, upright
    width: int  # px, as coded: before the turn
    height: int  # px
    time_s: float | None = None  # time stamp, s; the first picture's may have any value
    lasts_s: float | None = None  # duration, s
    orientation: Orientation = UPRIGHT  # what ``rgb`` applies
    turns_deg: Sequence[int | None] | None = None  # where only ``rgb`` finds the clockwise turn: it puts it here


class Reader(Protocol):
    """One open video. ``pictures`` raises VideoError where a picture is damaged or not to be trusted."""

    width: int  # px, as the header says; 0 where it does not say
    height: int
    codec: str | None
    rate: float | None  # pictures per second, as the header says
    count: int | None  # pictures, where it is known without decoding them

    def pictures(self) -> Iterator[Picture]:
        """All pictures from the first on, in display order. Called once."""

    def close(self) -> None:
        """Close the file."""
