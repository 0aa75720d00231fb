"""Training and prediction in one process, without Ray: optimiser, one step, resuming, and predictions to be scored.

``cluster.training`` runs ``Training`` on every worker; tests run it alone. The schedule is in ``schedule``, batches are
in ``batches``, terms of the loss in ``losses``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn

from hojoint.config import Config
from hojoint.datasets.collate import Batch, collate
from hojoint.geometry import control_points
from hojoint.hand.layer import HandLayer
from hojoint.model import checkpoint, object_pose
from hojoint.model.checkpoint import Checkpoint
from hojoint.model.losses import Targets, hand_object_loss
from hojoint.model.network import HOJoint, HOJointOutput
from hojoint.training import augment
from hojoint.training.batches import Prepared, Samples, mirrored, mirrored_rows, prepare, targets_of
from hojoint.training.schedule import Schedule

PUBLISHED_INPUT_PX = 512  # Sec. 6.1


class Training:
    """A network in training: everything that a checkpoint must hold, and the step."""

    def __init__(
        self,
        config: Config,
        schedule: Schedule,
        network: nn.Module,
        mano_layer: HandLayer,
        device: torch.device | str = "cpu",
    ) -> None:
        """``network`` and ``mano_layer`` are on ``device``; the network may be wrapped for distributed training."""
        self.config, self.schedule, self.device = config, schedule, torch.device(device)
        self.network, self.mano_layer = network, mano_layer
        self.optimizer = torch.optim.Adam(
            network.parameters(), lr=config.train.learning_rate, weight_decay=config.train.weight_decay, fused=True
        )
        self.scheduler = schedule.scheduler(self.optimizer)
        self.steps = 0
        self.history: list[dict[str, float]] = []  # one entry per finished epoch
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
            nn.utils.clip_grad_norm_(self.network.parameters(), self.config.train.max_grad_norm)
        self.optimizer.step()
        self.scheduler.step()
        self.steps += 1
        for name, value in terms.items():  # stays on the device: reading a value would wait for the step to finish
            value = value.detach()
            self._recent[name] = self._recent[name] + value if name in self._recent else value
        self._recent_steps += 1
        if self.steps % self.schedule.steps_per_epoch == 0 or self.steps == self.schedule.steps:
            self._close_epoch()

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Terms of the loss (scalars on the device; their sum is 'total') of one batch, augmented by its draws."""
        draws = None
        if self.config.augment.enabled:
            draws = augment.augment_draws(self.config.augment, [(self.config.seed, *key) for key in batch.keys])
        batch = batch.to(self.device)
        prepared = prepare(batch, self.config, draws, self.device)
        targets = targets_of(batch, prepared, self.mano_layer, self.config)
        output, targets = self._answered(batch, prepared, targets)
        sure = targets.mirrored_right
        return hand_object_loss(
            output,
            targets,
            self.mano_layer,
            self.config.loss,
            object_factor=rows_factor(targets.has_object),
            side_factor=1.0 if sure is None else rows_factor(sure),
        )

    def _answered(self, batch: Batch, prepared: Prepared, targets: Targets) -> tuple[HOJointOutput, Targets]:
        """The network's output; with a side head, also for mirrored images, whose rows the targets then name."""
        images, hand_boxes, object_boxes = prepared.images, prepared.hand_boxes, prepared.object_boxes
        with autocast(self.config, self.device):
            if not self.config.model.side_head:
                return self.network(images, hand_boxes, object_boxes), targets
            rows = mirrored_rows(batch, self.config.train.mirrored_share)
            more_images, more_boxes = mirrored(prepared, rows)
            output = self.network(
                torch.cat((images, more_images)),
                torch.cat((hand_boxes, more_boxes)),
                object_boxes,
                side_only=len(rows),
            )
        return output, replace(targets, mirrored_rows=rows, mirrored_right=~batch.pseudo[rows])

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
                raise FloatingPointError(
                    f"the loss became {means['total']} near step {self.steps}; lower train.learning_rate or set "
                    "train.max_grad_norm"
                )
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
            },
            parents=dict(parents),
        )

    def restore(self, saved: Checkpoint) -> None:
        """Resume from a checkpoint."""
        assert saved.optimizer is not None, "a final checkpoint cannot be resumed"
        assert saved.scheduler is not None
        inner = getattr(self.network, "module", self.network)
        inner.load_state_dict(saved.weights)
        self.optimizer.load_state_dict(saved.optimizer)
        self.scheduler.load_state_dict(saved.scheduler)
        self.steps = saved.progress["steps"]
        self.history = list(saved.progress["history"])
        sums, self._counted = saved.progress["open_epoch"]
        self._sums = dict(sums)

    def _close_epoch(self) -> None:
        self.recent()
        entry = {name: value / self._counted for name, value in self._sums.items()}
        rate = float(self.optimizer.param_groups[0]["lr"])
        self.history.append({"steps": self.steps, "learning_rate": rate, **entry})
        self._sums, self._counted = {}, 0


def rows_factor(counted: Tensor) -> Tensor | float:
    """Factor of a worker's term over some rows: the number of them here, times the workers, over that everywhere.

    Each worker's term is a mean over such rows of its own (those with objects, those with a sure side), and gradients
    are averaged over workers. With this factor that average is the mean over all such rows, however they fall on the
    workers. Exactly 1 in one process; every worker of a step must call it.

    Args:
        counted: (B,) bool, of this worker's batch.
    """
    if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
        return 1.0
    here = counted.sum().float()
    everywhere = here.clone()
    distributed.all_reduce(everywhere)
    return here * distributed.get_world_size() / everywhere.clamp(min=1)


@dataclass(frozen=True, eq=False)
class Predictions:
    """A network's predictions for N images of a data set, in its order."""

    names: tuple[str, ...]
    joints: np.ndarray  # (N, 21, 3) m, wrist-centred, CV frame, simple order
    vertices: np.ndarray  # (N, 778, 3) m
    joints_px: np.ndarray  # (N, 21, 2) px of the input
    joints_error_px: np.ndarray  # (N,) mean distance to the labelled joints, px of the input; NaN without labels
    object_names: tuple[str, ...]  # '' where there is no object
    object_pose: np.ndarray  # (N, 3, 4) model to camera; NaN where there is no object
    object_pose_refined: np.ndarray  # (N, 3, 4) the same after refinement; NaN also without refinement
    object_solved: np.ndarray  # (N,) bool
    true_object_pose: np.ndarray  # (N, 3, 4)
    camera: np.ndarray  # (N, 3, 3) intrinsics of the crop at 512 px, whatever the input; for reprojection errors


@torch.inference_mode()
def predict(
    network: HOJoint,
    dataset: Samples,
    config: Config,
    mano_layer: HandLayer,
    *,
    models: Mapping[str, Any] | None = None,
    device: torch.device | str = "cpu",
    batch_size: int = 32,
    rows: range | None = None,
) -> Predictions:
    """Predict a data set, one view without augmentation per image (Sec. 6.2).

    Args:
        models: the objects by name (``datasets.ycb``), needed for their poses; None leaves objects out.
        rows: the part of the data set to predict; None means all.
    """
    network.eval()
    rows = range(len(dataset)) if rows is None else rows
    parts = []
    for start in range(rows.start, rows.stop, batch_size):
        batch = collate([dataset[i] for i in range(start, min(start + batch_size, rows.stop))])
        prepared = prepare(batch, config, None, device)
        with autocast(config, torch.device(device)):
            output = network(
                prepared.images, prepared.hand_boxes, prepared.object_boxes, with_object=models is not None
            )
        parts.append(_predictions_of(batch, prepared, output, mano_layer, models, config))
    return joined(parts)


def joined(parts: Sequence[Predictions]) -> Predictions:
    """Predictions of consecutive rows as those of all."""
    values: dict[str, Any] = {}
    for field in fields(Predictions):
        pieces = [getattr(part, field.name) for part in parts]
        values[field.name] = sum(pieces, start=()) if isinstance(pieces[0], tuple) else np.concatenate(pieces)
    return Predictions(**values)


def autocast(config: Config, device: torch.device) -> torch.autocast:
    """bfloat16 on a GPU where ``train.mixed_precision`` asks for it; never on a CPU."""
    return torch.autocast(device.type, torch.bfloat16, enabled=config.train.mixed_precision and device.type == "cuda")


def _predictions_of(
    batch: Batch,
    prepared: Prepared,
    output: HOJointOutput,
    mano_layer: HandLayer,
    models: Mapping[str, Any] | None,
    config: Config,
) -> Predictions:
    hand = mano_layer.from_rotations(output.hand.rotations.float(), output.hand.betas.float())
    low, high = prepared.hand_boxes[:, None, :2], prepared.hand_boxes[:, None, 2:]
    joints_px = low + output.hand.joints_box.float() * (high - low)
    true_px = batch.joints_px.to(joints_px) @ prepared.affine[:, :, :2].transpose(1, 2) + prepared.affine[:, None, :, 2]
    # RANSAC's 8 px and REP-5's 5 px are pixels of a 512 px crop: a smaller input is scaled to it.
    scale = PUBLISHED_INPUT_PX / prepared.images.shape[-1]
    camera = prepared.camera * prepared.camera.new_tensor([scale, scale, 1.0])[:, None]
    objects = _no_objects(len(batch))
    if models is not None and any(batch.object_names):
        objects = _objects(batch.object_names, output, prepared.object_boxes * scale, camera, models, config)
    return Predictions(
        names=batch.names,
        joints=hand.joints.float().cpu().numpy(),
        vertices=hand.vertices.float().cpu().numpy(),
        joints_px=joints_px.cpu().numpy(),
        joints_error_px=(joints_px - true_px).norm(dim=-1).mean(1).cpu().numpy(),
        object_names=batch.object_names,
        **objects,
        true_object_pose=batch.object_pose.numpy(),
        camera=camera.cpu().numpy(),
    )


def _no_objects(count: int) -> dict[str, np.ndarray]:
    unknown = np.full((count, 3, 4), np.nan)
    solved = np.zeros(count, dtype=bool)
    return {"object_pose": unknown, "object_pose_refined": unknown.copy(), "object_solved": solved}


def _objects(
    names: Sequence[str],
    output: HOJointOutput,
    boxes_px: Tensor,
    camera: Tensor,
    models: Mapping[str, Any],
    config: Config,
) -> dict[str, np.ndarray]:
    corners = [
        control_points(*(torch.as_tensor(x) for x in (models[name].lo, models[name].hi)))
        if name
        else torch.full((21, 3), torch.nan, dtype=torch.float64)
        for name in names
    ]
    solution = object_pose.solve(
        output.object.control_box,
        output.object.confidence,
        boxes_px,
        camera,
        torch.stack(corners).to(camera),
        refine=config.evaluate.pnp_refine,
        proposals=config.evaluate.pnp_proposals,
    )
    poses, labelled = _no_objects(len(names)), np.array([bool(name) for name in names])
    poses["object_pose"][labelled], poses["object_solved"][labelled] = (
        solution.pose[labelled],
        solution.solved[labelled],
    )
    if solution.refined is not None:
        poses["object_pose_refined"][labelled] = solution.refined[labelled]
    return poses
