"""Which samples each step of training sees, and at what learning rate (Sec. 5.2, 6.1; reading A22).

Both are functions of the step's number and use no running generator: a resumed run equals an unbroken one, and any
number of workers shares one order. The samples form an endless stream of shuffled passes; a batch is the next part of
it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch

from hojoint.config import TrainConfig
from hojoint.errors import InputError

Pick = tuple[int, int]  # pass over the data, number of the sample in ``ConcatSamples``


class Schedule:
    """Steps, batches and learning rate of one training run."""

    def __init__(self, config: TrainConfig, *, labelled: int, pseudo: int, seed: int) -> None:
        """``labelled`` samples come first in ``ConcatSamples``, ``pseudo``-labelled ones after them.

        Raises:
            InputError: there are no samples, or a kind that ``train.pseudo_share`` mixes in has none.
        """
        if labelled + pseudo == 0:
            raise InputError(f"there is nothing to train on: {', '.join(config.datasets)} hold no samples")
        share = config.pseudo_share
        if share is not None and ((share > 0 and not pseudo) or (share < 1 and not labelled)):
            raise InputError(
                f"train.pseudo_share={config.pseudo_share} mixes labelled and pseudo-labelled samples, but there are "
                f"{labelled} and {pseudo}; leave it out, or give both kinds in train.datasets"
            )
        self.config, self.seed = config, seed
        self.labelled, self.pseudo = labelled, pseudo
        self.steps_per_epoch = math.ceil((labelled + pseudo) / config.batch_size)
        self.steps = config.steps if config.steps is not None else config.epochs * self.steps_per_epoch
        # The decay scales with the length of the run: with train.steps the rate falls as often as with train.epochs.
        self.decay_steps = max(1, round(self.steps * config.lr_decay_every_epochs / config.epochs))
        # A run of a given length is compared with another of that length: it has the fixed schedule.
        self.to_plateau = config.plateau_epochs is not None and config.steps is None

    def picks(self, step: int) -> list[Pick]:
        """The global batch of one step, ``train.batch_size`` samples."""
        size, share = self.config.batch_size, self.config.pseudo_share
        if share is None:
            return self._part(0, self.labelled + self.pseudo, 0, step * size, (step + 1) * size)
        # The running total is rounded, not each batch: the share is exact over the run.
        before, after = (math.floor(k * size * share + 1e-9) for k in (step, step + 1))
        labelled = self._part(1, self.labelled, 0, step * size - before, (step + 1) * size - after)
        return labelled + self._part(2, self.pseudo, self.labelled, before, after)

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

    def _part(self, stream: int, count: int, offset: int, start: int, stop: int) -> list[Pick]:
        """Positions ``start`` to ``stop`` of an endless stream of shuffled passes over ``count`` samples."""
        picks = []
        for position in range(start, stop):
            number, inside = divmod(position, count)
            picks.append((number, offset + int(_shuffled(self.seed, stream, number, count)[inside])))
        return picks


@lru_cache(maxsize=8)
def _shuffled(seed: int, stream: int, number: int, count: int) -> np.ndarray:
    return np.random.default_rng((seed, stream, number)).permutation(count)
