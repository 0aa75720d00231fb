"""Which samples each step of training sees, and at what learning rate (Sec. 5.2, 6.1; reading A22).

Both are functions of the step's number and use no running generator: a resumed run equals an unbroken one, and any
number of workers shares one order. The samples form an endless stream of passes (``order``); a batch is the next part
of it.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from hojoint.config import TrainConfig
from hojoint.errors import InputError
from hojoint.training.order import Order, Shuffled, Windowed

Pick = tuple[int, int]  # pass over the data, number of the sample in ``ConcatSamples``


class Part(NamedTuple):
    """What a step takes of one stream: its places ``start`` to ``stop``."""

    order: Order
    offset: int  # number of the stream's first sample among all
    start: int
    stop: int


class Schedule:
    """Steps, batches and learning rate of one training run."""

    def __init__(
        self, config: TrainConfig, *, labelled: int, pseudo: int, seed: int, shards: Sequence[int] | None = None
    ) -> None:
        """``labelled`` samples come first in ``ConcatSamples``, ``pseudo``-labelled ones after them.

        ``shards`` are the samples of each shard, in the same order, where samples are shuffled within windows of
        ``train.window_samples``; None means that each pass shuffles all.

        Raises:
            InputError: there are no samples, or a kind that ``train.pseudo_share`` mixes in has none.
        """
        if labelled + pseudo == 0:
            raise InputError(f"there is nothing to train on: {', '.join(config.datasets)} hold no samples")
        share = config.pseudo_share
        if share is not None and ((share > 0 and not pseudo) or (share < 1 and not labelled)):
            raise InputError(
                f"train.pseudo_share={config.pseudo_share} mixes labelled and pseudo-labelled samples, but there are "
                f"{labelled} and {pseudo}; give train.pseudo_share=null, or both kinds in train.datasets"
            )
        self.config, self.seed = config, seed
        self.labelled, self.pseudo = labelled, pseudo
        self._orders = self._streams(shards)
        self.steps_per_epoch = math.ceil((labelled + pseudo) / config.batch_size)
        self.steps = config.steps if config.steps is not None else config.epochs * self.steps_per_epoch
        # The decay scales with the length of the run: with train.steps the rate falls as often as with train.epochs.
        self.decay_steps = max(1, round(self.steps * config.lr_decay_every_epochs / config.epochs))
        # A run of a given length is compared with another of that length: it has the fixed schedule.
        self.to_plateau = config.plateau_epochs is not None and config.steps is None

    def picks(self, step: int) -> list[Pick]:
        """The global batch of one step, ``train.batch_size`` samples."""
        picks = []
        for order, offset, start, stop in self.parts(step):
            for position in range(start, stop):
                number, inside = divmod(position, order.count)
                picks.append((number, offset + order.at(number, inside)))
        return picks

    def parts(self, step: int) -> list[Part]:
        """What one step takes of each stream: of the union of all samples, or of each kind that is mixed in."""
        size, share = self.config.batch_size, self.config.pseudo_share
        if share is None:
            return [Part(self._orders[0], 0, step * size, (step + 1) * size)]
        # The running total is rounded, not each batch: the share is exact over the run.
        before, after = (math.floor(k * size * share + 1e-9) for k in (step, step + 1))
        return [
            Part(self._orders[0], 0, step * size - before, (step + 1) * size - after),
            Part(self._orders[1], self.labelled, before, after),
        ]

    def share(self, step: int, rank: int, workers: int) -> list[Pick]:
        """The part of a step's batch that worker ``rank`` of ``workers`` takes."""
        return self.picks(step)[rank::workers]

    def learning_rate(self, step: int) -> float:
        """Learning rate of the step, as a factor of ``train.learning_rate``."""
        return float(self.config.lr_decay ** (step // self.decay_steps))

    def scheduler(
        self, optimizer: torch.optim.Optimizer, decays: Callable[[], int] | None = None
    ) -> torch.optim.lr_scheduler.LambdaLR:
        """``learning_rate`` as a scheduler of torch, stepped once per step; ``decays`` counts them instead."""
        if decays is None:
            return torch.optim.lr_scheduler.LambdaLR(optimizer, self.learning_rate)
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: float(self.config.lr_decay ** decays()))

    def _streams(self, shards: Sequence[int] | None) -> list[Order]:
        """One order of all samples, or with ``train.pseudo_share`` one for each kind."""
        counts = [self.labelled + self.pseudo] if self.config.pseudo_share is None else [self.labelled, self.pseudo]
        names = [0] if len(counts) == 1 else [1, 2]  # draws of the two mixtures differ
        if shards is None:
            return [Shuffled(self.seed, name, count) for name, count in zip(names, counts, strict=True)]
        ends, groups, first = list(itertools.accumulate(shards)), [], 0
        for end in itertools.accumulate(counts):
            last = bisect.bisect_right(ends, end)
            assert (ends[last - 1] if last else 0) == end, f"a shard holds samples of two kinds: {end} in {ends}"
            groups.append(shards[first:last])
            first = last
        window = self.config.window_samples
        return [Windowed(self.seed, name, sizes, window) for name, sizes in zip(names, groups, strict=True)]
