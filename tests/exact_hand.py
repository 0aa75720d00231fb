"""A hand whose prediction agrees with itself exactly, and its scores: what the tests of the rules disturb."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hojoint import geometry
from hojoint.config import FilterConfig
from hojoint.labelling import camera, filters, spatial_rules
from hojoint.records import HandPrediction

SIZE = (400, 240)
CONFIG = FilterConfig()


def axes_of(layer: Any) -> Tensor:
    return spatial_rules.finger_axes(
        layer.from_rotations(torch.eye(3).expand(1, 16, 3, 3), torch.zeros(1, 10)).joints[0]
    )


def hand(layer: Any, pose: Tensor, betas: Tensor | None = None, *, scale: float = 700.0, flipped: bool = False) -> Any:
    """A prediction that agrees with itself exactly, and its boxes: the camera of every frame is (scale, 200, 120)."""
    count = len(pose)
    betas = torch.zeros(count, 10) if betas is None else betas
    out = layer(pose, betas)
    fixed = torch.tensor([scale, 200.0, 120.0]).expand(count, 3)
    prediction = HandPrediction(
        joints_px=camera.project(out.joints, fixed, flipped=flipped),
        rotations=geometry.axis_angle_to_matrix(pose.reshape(count, 16, 3)),
        pose=pose,
        betas=betas,
        joints=out.joints,
        vertices=out.vertices,
        joints_spread_px=torch.zeros(count),
        rotation_spread=torch.zeros(count),
        flipped=flipped,
    )
    boxes = geometry.box_of_points(camera.project(out.vertices, fixed, flipped=flipped))
    return prediction, boxes


def scored(
    prediction: HandPrediction, boxes: Tensor, axes: Tensor, config: FilterConfig = CONFIG, frames: Any = None
) -> dict[str, Tensor]:
    numbers = torch.arange(len(boxes)) if frames is None else torch.tensor(frames)
    return filters.scores(
        prediction, camera.fit(prediction), boxes, numbers, size=SIZE, axes=axes, config=config
    )  # fmt: skip
