"""Which samples each step of training sees, and at what learning rate (Sec. 5.2, 6.1; reading A22).

Both are functions of the step's number: nothing is drawn from a running generator, so a run that was stopped goes on as
if it had not been, and any number of workers shares one order. The samples form an endless stream of shuffled passes; a
batch is the next stretch of it.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch

from hojoint.config import TrainConfig
from hojoint.errors import InputError

Pick = tuple[int, int]  # pass over the data, number of the sample in the union


class Schedule:
    """Steps, batches and learning rate of one training run."""

    def __init__(self, config: TrainConfig, *, labelled: int, pseudo: int, seed: int) -> None:
        """The union numbers the labelled samples first, the pseudo-labelled ones after them."""
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
        # The schedule's shape belongs to the run's length: a run of given steps decays as often as one of epochs.
        self.decay_steps = max(1, round(self.steps * config.lr_decay_every_epochs / config.epochs))

    def picks(self, step: int) -> list[Pick]:
        """The global batch of one step."""
        size, share = self.config.batch_size, self.config.pseudo_share
        if share is None:
            return self._stretch(0, self.labelled + self.pseudo, 0, step * size, (step + 1) * size)
        # Rounding the running total, and not each batch, keeps the share exact over the run.
        before, after = (math.floor(k * size * share + 1e-9) for k in (step, step + 1))
        labelled = self._stretch(1, self.labelled, 0, step * size - before, (step + 1) * size - after)
        return labelled + self._stretch(2, self.pseudo, self.labelled, before, after)

    def share(self, step: int, rank: int, workers: int) -> list[Pick]:
        """One worker's part of the batch."""
        return self.picks(step)[rank::workers]

    def learning_rate(self, step: int) -> float:
        """Rate of the step, as a factor of ``train.learning_rate``."""
        return float(self.config.lr_decay ** (step // self.decay_steps))

    def scheduler(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LambdaLR:
        """The same as a scheduler, stepped once per step."""
        return torch.optim.lr_scheduler.LambdaLR(optimizer, self.learning_rate)

    def _stretch(self, stream: int, count: int, offset: int, start: int, stop: int) -> list[Pick]:
        picks = []
        for place in range(start, stop):
            number, inside = divmod(place, count)
            picks.append((number, offset + int(_shuffled(self.seed, stream, number, count)[inside])))
        return picks


@lru_cache(maxsize=8)
def _shuffled(seed: int, stream: int, number: int, count: int) -> np.ndarray:
    return np.random.default_rng((seed, stream, number)).permutation(count)
