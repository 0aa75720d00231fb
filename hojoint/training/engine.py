"""Training in one process, without Ray: optimiser, one step, what is measured after an epoch, resuming.

``cluster.training`` runs ``Training`` on every worker; tests run it alone. The schedule is in ``schedule``, batches are
in ``batches``, terms of the loss in ``losses``, predictions to be scored in ``prediction``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn

from hojoint.config import Config
from hojoint.datasets.collate import Batch
from hojoint.hand.layer import HandLayer
from hojoint.model import checkpoint
from hojoint.model.checkpoint import Checkpoint
from hojoint.model.losses import SMALLEST_WEIGHT, Targets, hand_object_loss, image_weights
from hojoint.model.network import HOJointOutput
from hojoint.training import augment
from hojoint.training import held_out as measured
from hojoint.training.averaging import WeightAverage
from hojoint.training.batches import Prepared, Samples, mirrored_rows, prepare, side_images, targets_of
from hojoint.training.held_out import Plateau
from hojoint.training.schedule import Schedule


class Training:
    """A network in training: everything that a checkpoint must hold, and the step."""

    def __init__(
        self,
        config: Config,
        schedule: Schedule,
        network: nn.Module,
        mano_layer: HandLayer,
        device: torch.device | str = "cpu",
        held_out: Samples | None = None,
    ) -> None:
        """A network at its first step.

        Args:
            network: on ``device`` like ``mano_layer``; it may be wrapped for distributed training.
            held_out: labelled images that no training sees, measured after every epoch; the first worker reads them.
        """
        self.config, self.schedule, self.device = config, schedule, torch.device(device)
        self.network, self.mano_layer = network, mano_layer
        self.optimizer = torch.optim.Adam(
            network.parameters(), lr=config.train.learning_rate, weight_decay=config.train.weight_decay, fused=True
        )
        train, self.held_out = config.train, held_out
        self.plateau: Plateau | None = None
        if schedule.to_plateau and held_out is not None:
            assert train.plateau_epochs is not None
            self.plateau = plateau = Plateau(train.plateau_epochs, train.plateau_decays)
            self.scheduler = schedule.scheduler(self.optimizer, lambda: plateau.decays)
        else:
            self.scheduler = schedule.scheduler(self.optimizer)
        self.average = WeightAverage(self._inner, train.ema) if train.ema else None
        self.steps = 0
        self.history: list[dict[str, float]] = []  # one entry per finished epoch
        self.validation: list[dict[str, float]] = []  # likewise, where recordings are held out
        self._sums: dict[str, float] = {}
        self._counted = 0
        self._recent: dict[str, Tensor] = {}
        self._recent_steps = 0

    def step(self, batch: Batch) -> None:
        """One optimiser step."""
        self.network.train()
        terms = self.losses(batch)
        self.optimizer.zero_grad(set_to_none=True)
        terms["total"].backward()  # type: ignore[no-untyped-call]
        if self.config.train.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.config.train.max_grad_norm, foreach=True)
        self.optimizer.step()
        rate = float(self.optimizer.param_groups[0]["lr"])  # that of this step; the scheduler sets the next one's
        self.scheduler.step()
        if self.average is not None:
            self.average.update(self._inner)
        self.steps += 1
        for name, value in terms.items():  # stays on the device: reading a value would wait for the step to finish
            value = value.detach()
            self._recent[name] = self._recent[name] + value if name in self._recent else value
        self._recent_steps += 1
        if self.steps % self.schedule.steps_per_epoch == 0 or self.steps == self.schedule.steps:
            self._close_epoch(rate)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Terms of the loss (scalars on the device; their sum is 'total') of one batch, augmented by its draws."""
        draws = augment.draws_by_kind(self.config, batch.keys, batch.pseudo)
        batch = batch.to(self.device)
        prepared = prepare(batch, self.config, draws, self.device)
        targets = targets_of(batch, prepared, self.mano_layer, self.config)
        output, targets = self._forward(batch, prepared, targets)
        sided, weights = targets.mirrored_weights, image_weights(targets, self.config.loss)
        alike = torch.ones_like(targets.has_object)  # shares of a batch may differ by an image
        return hand_object_loss(
            output,
            targets,
            self.mano_layer,
            self.config.loss,
            object_factor=rows_factor(targets.has_object),
            hand_factors=(rows_factor(alike),) * 2
            if weights is None
            else (rows_factor(weights.joints_2d), rows_factor(weights.others)),
            side_factor=1.0 if sided is None else rows_factor(sided),
        )

    def _forward(self, batch: Batch, prepared: Prepared, targets: Targets) -> tuple[HOJointOutput, Targets]:
        """The network's output; with a side head, also for mirrored images, whose rows the targets then name."""
        images, hand_boxes, object_boxes = prepared.images, prepared.hand_boxes, prepared.object_boxes
        if not self.config.model.side_head:
            with autocast(self.config, self.device):
                return self.network(images, hand_boxes, object_boxes), targets
        weights = torch.where(batch.pseudo, self.config.loss.pseudo_side, 1.0)
        rows = mirrored_rows(weights, self.config.train.mirrored_share)
        more_images, more_boxes, plain = side_images(prepared, rows, augment.side_draws(self.config, batch.keys))
        images, hand_boxes = torch.cat((images, more_images)), torch.cat((hand_boxes, more_boxes))
        with autocast(self.config, self.device):
            output = self.network(images, hand_boxes, object_boxes, side_only=len(more_images))
        return output, replace(targets, mirrored_rows=plain, mirrored_weights=weights[rows])

    @property
    def ended(self) -> str | None:
        """Why training has come to its end; None before."""
        if self.plateau is not None and self.plateau.ended:
            return (
                f"plateau: the error on held-out recordings did not improve for {self.plateau.patience} epochs after "
                f"{self.plateau.decays} decays of the learning rate"
            )
        if self.steps < self.schedule.steps:
            return None
        return f"all {self.steps} steps" + ("" if self.plateau is None else ", before the last plateau")

    def recent(self) -> dict[str, float]:
        """Means of the terms since the last call or the last epoch.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        if self._recent_steps:
            for name, value in self._recent.items():
                self._sums[name] = self._sums.get(name, 0.0) + float(value)
            self._counted += self._recent_steps
            means = {name: float(value) / self._recent_steps for name, value in self._recent.items()}
            self._recent, self._recent_steps = {}, 0
            if not np.isfinite(means["total"]):
                raise FloatingPointError(_diverging(self.config, means["total"], self.steps))
            return means
        return dict(self.history[-1]) if self.history else {}

    def save(self, parents: Mapping[str, Any]) -> bytes:
        """A checkpoint from which training can resume."""
        return checkpoint.save(
            self.network,
            self.config,
            optimizer=self.optimizer,
            scheduler=self.scheduler,
            progress={
                "steps": self.steps,
                "history": self.history,
                "open_epoch": [dict(self._sums), self._counted],
                "validation": self.validation,
                "plateau": None if self.plateau is None else self.plateau.state(),
                "ended": self.ended,
            },
            parents=dict(parents),
            average=None if self.average is None else self.average.network,
        )

    def restore(self, saved: Checkpoint) -> None:
        """Resume from a checkpoint."""
        assert saved.optimizer is not None, "a final checkpoint cannot be resumed"
        assert saved.scheduler is not None
        self._inner.load_state_dict(saved.weights if saved.last_weights is None else saved.last_weights)
        self.optimizer.load_state_dict(saved.optimizer)
        self.scheduler.load_state_dict(saved.scheduler)
        self.steps = saved.progress["steps"]
        self.history = list(saved.progress["history"])
        sums, self._counted = saved.progress["open_epoch"]
        self._sums = dict(sums)
        self.validation = list(saved.progress.get("validation", []))
        if self.average is not None:
            self.average.restore(saved.weights, self.steps)
        if self.plateau is not None:
            self.plateau.restore(saved.progress["plateau"])

    @property
    def _inner(self) -> nn.Module:
        """The network out of its wrapper."""
        inner = getattr(self.network, "module", self.network)
        assert isinstance(inner, nn.Module)
        return inner

    def _close_epoch(self, rate: float) -> None:
        """Note the means of the epoch beside the learning rate of its last step."""
        self.recent()
        entry = {name: value / self._counted for name, value in self._sums.items()}
        self.history.append({"steps": self.steps, "learning_rate": rate, **entry})
        self._sums, self._counted = {}, 0
        if self.held_out is not None:
            self._validate(self.held_out, rate)

    def _validate(self, samples: Samples, rate: float) -> None:
        """Measure the held-out images with the weights that training would leave now, and follow the plateau."""
        network = self._inner if self.average is None else self.average.network

        def predict(prepared: Prepared) -> HOJointOutput:
            with autocast(self.config, self.device):
                output: HOJointOutput = network(prepared.images, prepared.hand_boxes, prepared.object_boxes)
            return output

        found = torch.zeros(len(measured.PARTS) + 1, dtype=torch.float64, device=self.device)
        if not _several_workers() or distributed.get_rank() == 0:
            network.eval()  # ``step`` sets the network in training back
            values = measured.errors(predict, samples, self.config, self.mano_layer, self.device)
            found += found.new_tensor([values[name] for name in (*measured.PARTS, "error")])
        if _several_workers():  # all follow one worker's decision
            distributed.broadcast(found, src=0)
        errors = dict(zip((*measured.PARTS, "error"), found.tolist(), strict=True))
        self.validation.append({"steps": self.steps, "learning_rate": rate, **errors})
        if self.plateau is not None:
            self.plateau.add(errors["error"])
            for group, base in zip(self.optimizer.param_groups, self.scheduler.base_lrs, strict=True):
                group["lr"] = base * self.config.train.lr_decay**self.plateau.decays  # from the next step on


def _diverging(config: Config, loss: float, steps: int) -> str:
    """What is said of a loss that is not finite; the second phase of a pipeline has a learning rate of its own."""
    norm = config.train.max_grad_norm
    clip = "set train.max_grad_norm" if norm is None else f"lower train.max_grad_norm (now {norm:g})"
    return (
        f"the loss became {loss} near step {steps}: training diverges. Lower train.learning_rate (now "
        f"{config.train.learning_rate:g}; student.learning_rate for the student and the control of a pipeline), or "
        f"{clip}"
    )


def autocast(config: Config, device: torch.device) -> torch.autocast:
    """bfloat16 on a GPU where ``train.mixed_precision`` asks for it; never on a CPU."""
    return torch.autocast(device.type, torch.bfloat16, enabled=config.train.mixed_precision and device.type == "cuda")


def rows_factor(weights: Tensor) -> Tensor | float:
    """Factor of a worker's mean over some rows: the sum of their weights here, times the workers, over that everywhere.

    Each worker's term is a mean over rows of its own (those with objects, those with a sure side, all alike or by
    their weights), and gradients are averaged over workers. With this factor that average is the mean over all such
    rows, however they fall on the workers. Exactly 1 in one process; every worker of a step must call it.

    Args:
        weights: (B,) of this worker's batch, or bool, which rows count.
    """
    if not _several_workers():
        return 1.0
    here = weights.sum().float()
    everywhere = here.clone()
    distributed.all_reduce(everywhere)
    return here * distributed.get_world_size() / everywhere.clamp(min=SMALLEST_WEIGHT)


def _several_workers() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
