"""Batches from shards that are read ahead, window by window, and let go when their window is over.

``schedule`` says which samples a step takes; here are held the shards of the windows that the steps in progress lie in,
and those of the next window of each stream, which threads read meanwhile. So memory depends on
``train.window_samples`` and not on the number of samples. Other threads decode the next batches; OpenCV and Arrow work
outside Python's lock. Not here: where a shard lies (``cluster``), what a step takes (``schedule``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch

from hojoint.datasets.collate import Batch, collate
from hojoint.records import Sample
from hojoint.training.batches import Samples
from hojoint.training.order import Windowed
from hojoint.training.schedule import Part, Pick, Schedule

READERS = 4  # shards that are read at once
AHEAD = 4  # batches that are decoded, or waited for, beside the one in use
PART = 16  # samples in a part of a set that is read image by image


class Sharded(Protocol):
    """Samples in shards."""

    @property
    def sizes(self) -> Sequence[int]:
        """Samples of each shard, none of them 0."""

    def __len__(self) -> int: ...

    def read(self, shard: int) -> Samples:
        """All samples of a shard, in memory; raises InputError where it cannot be read."""


class Parts:
    """A set whose samples are read one by one, as shards that hold nothing: small ones, as neighbours look alike."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples
        self.sizes = [min(PART, len(samples) - start) for start in range(0, len(samples), PART)]

    def __len__(self) -> int:
        return len(self._samples)

    def read(self, shard: int) -> Samples:
        """A view; every sample is read when it is asked for."""
        return _View(self._samples, shard * PART, self.sizes[shard])


class Concatenated:
    """The shards of several sets under one numbering, and their samples under another."""

    def __init__(self, sets: Sequence[Sharded]) -> None:
        self._sets = list(sets)
        self._firsts = np.cumsum([0, *(len(one.sizes) for one in sets)])
        self.sizes = [size for one in sets for size in one.sizes]
        self.starts = np.cumsum([0, *self.sizes])[:-1]  # number of each shard's first sample

    def __len__(self) -> int:
        return sum(self.sizes)

    def read(self, shard: int) -> Samples:
        which = int(np.searchsorted(self._firsts, shard, side="right")) - 1
        return self._sets[which].read(shard - int(self._firsts[which]))

    def shards_of(self, numbers: Sequence[int] | np.ndarray) -> list[int]:
        """The shards that hold samples."""
        shards: list[int] = (np.searchsorted(self.starts, numbers, side="right") - 1).tolist()
        return shards


def loader(
    data: Concatenated, schedule: Schedule, *, start: int, rank: int = 0, workers: int = 1, threads: int = 1
) -> Iterator[Batch]:
    """One worker's batches from step ``start`` to the last, in order, as ``batches.loader`` gives them.

    Args:
        data: with the shards that ``schedule`` was made of.
        threads: that decode images.

    Raises:
        InputError: a shard or an image cannot be read.
    """
    readers, decoders = ThreadPoolExecutor(READERS), ThreadPoolExecutor(max(1, threads))
    try:
        held = _Held(data, schedule, readers)
        waiting: deque[Future[Batch]] = deque()
        for step in range(start, schedule.steps):
            picks = schedule.share(step, rank, workers)
            waiting.append(decoders.submit(_batch, picks, held.shards_of(picks, step)))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for pool in (decoders, readers):
            pool.shutdown(wait=True, cancel_futures=True)


Placed = tuple["Future[Samples]", int]  # the shard of a sample, and its row there


class _Held:
    """The shards in memory, or on their way there."""

    def __init__(self, data: Concatenated, schedule: Schedule, readers: ThreadPoolExecutor) -> None:
        self._data, self._schedule, self._readers = data, schedule, readers
        self._shards: dict[int, Future[Samples]] = {}
        self._windows: tuple[tuple[int, int], ...] = ()

    def shards_of(self, picks: Sequence[Pick], step: int) -> list[Placed]:
        """Where the samples of a step are; starts reading what it and the next windows need, and drops the rest."""
        windows = self._windows_of(step)
        if (names := tuple(windows)) != self._windows:
            self._windows = names
            wanted = dict.fromkeys(shard for shards in windows.values() for shard in shards)
            self._shards = {
                shard: self._shards.get(shard) or self._readers.submit(self._data.read, shard) for shard in wanted
            }
        numbers = [number for _, number in picks]
        shards = self._data.shards_of(numbers)
        return [
            (self._shards[shard], number - int(self._data.starts[shard]))
            for shard, number in zip(shards, numbers, strict=True)
        ]

    def _windows_of(self, step: int) -> Mapping[tuple[int, int], list[int]]:
        """The shards of the windows that a step touches, and of the next one of each stream, by stream and end."""
        now: dict[tuple[int, int], list[int]] = {}
        later: dict[tuple[int, int], list[int]] = {}
        lasts = self._schedule.parts(self._schedule.steps - 1)
        for stream, (part, last) in enumerate(zip(self._schedule.parts(step), lasts, strict=True)):
            place = part.start
            # Also of a stream that this step takes nothing of: it will, as long as its end is not reached.
            while place < min(max(part.stop, part.start + 1), last.stop):
                shards, place = self._window(part, place)
                now[stream, place] = shards
            if place < last.stop and part.start < last.stop:
                shards, place = self._window(part, place)
                later[stream, place] = shards
        return now | later

    def _window(self, part: Part, place: int) -> tuple[list[int], int]:
        """The shards, numbered in all data, of the window at a place of a stream, and the place where it ends."""
        order = part.order
        assert isinstance(order, Windowed)
        number, inside = divmod(place, order.count)
        window = order.window(number, inside)
        shards = self._data.shards_of(order.starts[window.shards] + part.offset)
        return shards, number * order.count + window.stop


class _View:
    """Consecutive samples of a set."""

    def __init__(self, samples: Samples, start: int, count: int) -> None:
        self._samples, self._start, self._count = samples, start, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Sample:
        return self._samples[self._start + index]


def _batch(picks: Sequence[Pick], placed: Sequence[Placed]) -> Batch:
    batch = collate([shard.result()[row] for shard, row in placed], picks)
    return batch.pin_memory() if torch.cuda.is_available() else batch
