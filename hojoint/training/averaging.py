"""The exponential average of a network's weights over the steps of training (``train.ema``; ours)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class WeightAverage:
    """A second network that follows the one in training; batch statistics are averaged like weights."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        """``network`` is out of any wrapper of distributed training, and on its device."""
        self._decay, self._steps = decay, 0
        self._average = AveragedModel(
            network,
            multi_avg_fn=self._follow,
            use_buffers=True,
        )
        self._average.requires_grad_(False)

    @property
    def decay(self) -> float:
        """Of the next step. It rises to the set one, or the random weights of the start would stay in a short run."""
        return min(self._decay, (1 + self._steps) / (10 + self._steps))

    @property
    def network(self) -> nn.Module:
        """The averaged network."""
        return self._average.module

    def update(self, network: nn.Module) -> None:
        """Follow the network after its step; the first step copies it."""
        self._average.update_parameters(network)
        self._steps += 1

    def _follow(self, ours: Any, theirs: Any, count: Any) -> None:
        get_ema_multi_avg_fn(self.decay)(ours, theirs, count)  # type: ignore[no-untyped-call]

    def restore(self, weights: Mapping[str, Tensor], steps: int) -> None:
        """Continue from the average after so many steps."""
        self.network.load_state_dict(weights)
        self._average.n_averaged.fill_(steps)
        self._steps = steps
