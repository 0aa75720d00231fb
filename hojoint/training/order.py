"""In which order a pass shows its samples: all of them shuffled, or shards shuffled and samples within windows of them.

Every order is a function of (seed, stream, pass, place in the pass) and uses no running generator. A window bounds what
a reader must hold: all samples of a window are shown before the first of the next one. Not here: which places of a pass
a step takes (``schedule``), reading shards (``stream``).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

KEPT = 4  # windows, and passes, whose draws are kept: those of one batch and of the read-ahead


class Order(Protocol):
    """Of the samples of one stream, which are numbered from zero."""

    count: int

    def at(self, number: int, inside: int) -> int:
        """The sample at place ``inside`` of pass ``number``."""


class Shuffled:
    """Every pass is a new permutation of all samples."""

    def __init__(self, seed: int, stream: int, count: int) -> None:
        self.seed, self.stream, self.count = seed, stream, count

    def at(self, number: int, inside: int) -> int:
        return int(_permutation(self.seed, self.stream, number, self.count)[inside])


@dataclass(frozen=True, eq=False)
class Window:
    """Consecutive shards of a pass."""

    shards: np.ndarray  # (K,) numbers of its shards
    start: int  # place in the pass of its first sample
    stop: int


class Windowed:
    """Every pass is a new order of the shards, cut into windows of about ``window`` samples that are each shuffled."""

    def __init__(self, seed: int, stream: int, sizes: Sequence[int], window: int) -> None:
        """``sizes`` are the samples of each shard, in the order in which samples are numbered; none is empty."""
        self.seed, self.stream = seed, stream
        self.sizes = np.asarray(sizes, np.int64)
        self.starts = np.cumsum(self.sizes) - self.sizes
        self.count = int(self.sizes.sum())
        self._windows = -(-self.count // window)
        self._pass = functools.lru_cache(KEPT)(self._draw_pass)
        self._order = functools.lru_cache(KEPT)(self._draw_order)

    def at(self, number: int, inside: int) -> int:
        windows, stops = self._pass(number)
        which = int(np.searchsorted(stops, inside, side="right"))
        return int(self._order(number, which)[inside - windows[which].start])

    def window(self, number: int, inside: int) -> Window:
        """The window that place ``inside`` of pass ``number`` lies in."""
        windows, stops = self._pass(number)
        return windows[int(np.searchsorted(stops, inside, side="right"))]

    def _draw_pass(self, number: int) -> tuple[list[Window], np.ndarray]:
        """The windows of a pass, of equal size up to one shard, so that none at its end is small and hardly mixed."""
        order = _permutation(self.seed, self.stream, number, len(self.sizes))
        sizes = self.sizes[order]
        stops = np.cumsum(sizes)
        which = (2 * stops - sizes) * self._windows // (2 * self.count)  # by the middle of each shard
        cuts = [*np.flatnonzero(np.diff(which)) + 1, len(order)]
        begins = [0, *cuts[:-1]]
        windows = [
            Window(order[low:high], int(stops[low] - sizes[low]), int(stops[high - 1]))
            for low, high in zip(begins, cuts, strict=True)
        ]
        return windows, np.array([window.stop for window in windows])

    def _draw_order(self, number: int, which: int) -> np.ndarray:
        """(window's samples,) numbers in the order in which they are shown."""
        shards = self._pass(number)[0][which].shards
        samples = np.concatenate([np.arange(self.starts[k], self.starts[k] + self.sizes[k]) for k in shards])
        # From 1, because numpy's generators take a missing last number for 0.
        return np.random.default_rng((self.seed, self.stream, number, which + 1)).permutation(samples)


@functools.lru_cache(maxsize=8)
def _permutation(seed: int, stream: int, number: int, count: int) -> np.ndarray:
    return np.random.default_rng((seed, stream, number)).permutation(count)
