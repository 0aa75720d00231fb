"""The error on recordings that no training sees, and the plateau at which training ends (ours; the paper has neither).

The error must stand still for hands and objects before a network counts as trained to its end, so it is the geometric
mean of three: 3D joints, 2D joints, and the object's control points as PnP sees them. One per cent of any of the three
is worth the same, whatever its unit; in the loss, control points alone are most of the sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hojoint.config import Config
from hojoint.datasets.collate import collate
from hojoint.hand.layer import HandLayer
from hojoint.model.losses import Targets
from hojoint.model.network import HOJointOutput
from hojoint.rows import evenly
from hojoint.training.batches import Prepared, Samples, prepare, targets_of

MOST = 400
"""Images that are measured; of more, so many evenly spaced ones."""
BATCH = 32  # images; fixed, so that no other setting changes a digit of the error
READERS = 4  # threads that read images
PROPOSALS = 10  # of each control point, as the paper's PnP takes; fixed for the same reason as ``BATCH``
GAIN = 0.005
"""An error that is lower by less than this share has not improved."""
PARTS = ("mpjpe_mm", "joints_2d", "control_points")
"""What ``error`` is the geometric mean of: mean distance of 3D joints, mm, the wrists at one point; of 2D joints in
units of the hand box; of the most confident control points in units of the object box."""


@torch.no_grad()
def errors(
    predict: Callable[[Prepared], HOJointOutput],
    samples: Samples,
    config: Config,
    mano_layer: HandLayer,
    device: torch.device | str = "cpu",
) -> dict[str, float]:
    """``PARTS`` and their geometric mean ``error``, over images without augmentation.

    Args:
        predict: the network in evaluation mode.
        samples: with labels of hands and objects; ``control_points`` is NaN, and no part of ``error``, without objects.
    """
    rows = evenly(len(samples), MOST).tolist()
    found = []
    with ThreadPoolExecutor(READERS) as pool:  # OpenCV decodes outside Python's lock
        for start in range(0, len(rows), BATCH):
            batch = collate(list(pool.map(samples.__getitem__, rows[start : start + BATCH])))
            prepared = prepare(batch, config, None, device)
            targets = targets_of(batch, prepared, mano_layer, config)
            found.append(_per_image(predict(prepared), targets, mano_layer).double().cpu())
    table_NP = torch.cat(found)
    means = [float(column[column.isfinite()].mean()) for column in table_NP.T]
    logs = [math.log(max(mean, 1e-12)) for mean in means if not math.isnan(mean)]
    return {**dict(zip(PARTS, means, strict=True)), "error": math.exp(sum(logs) / len(logs)) if logs else math.nan}


def _per_image(output: HOJointOutput, targets: Targets, mano_layer: HandLayer) -> Tensor:
    """(B, 3) errors in the order of ``PARTS``; NaN where no object is labelled."""
    hand = mano_layer.from_rotations(output.hand.rotations.float(), output.hand.betas.float())
    confidence_BNJ = output.object.confidence.float().flatten(1, 2)
    control_BNJ2 = output.object.control_box.float().flatten(1, 2)
    best_BKJ = confidence_BNJ.topk(min(PROPOSALS, confidence_BNJ.shape[1]), dim=1).indices
    chosen_BKJ2 = control_BNJ2.gather(1, best_BKJ[..., None].expand(-1, -1, -1, 2))
    control_B = (chosen_BKJ2 - targets.control_box[:, None]).norm(dim=-1).mean(dim=(1, 2))
    return torch.stack(
        (
            1000 * (hand.joints - targets.joints).norm(dim=-1).mean(1),
            (output.hand.joints_box.float() - targets.joints_box).norm(dim=-1).mean(1),
            torch.where(targets.has_object, control_B, torch.nan),
        ),
        dim=1,
    )


@dataclass
class Plateau:
    """Counts epochs without improvement: the learning rate decays at a plateau, and training ends at the last one.

    A checkpoint holds ``state``.
    """

    patience: int  # epochs without improvement that make a plateau
    most_decays: int
    best: float = math.inf
    since: int = 0  # epochs since the best, or since the last decay
    decays: int = 0
    ended: bool = False

    def add(self, error: float) -> None:
        """Take the error after an epoch; NaN is no improvement."""
        if error < self.best * (1 - GAIN):
            self.best, self.since = error, 0
            return
        self.since += 1
        if self.since < self.patience:
            return
        self.since = 0
        if self.decays == self.most_decays:
            self.ended = True
        else:
            self.decays += 1

    def state(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {"best": self.best, "since": self.since, "decays": self.decays, "ended": self.ended}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from ``state``."""
        self.best, self.since = state["best"], state["since"]
        self.decays, self.ended = state["decays"], state["ended"]
