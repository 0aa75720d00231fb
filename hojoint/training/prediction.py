"""A network's predictions for a data set, one view without augmentation per image, ready to be scored (Sec. 6.2).

The network computes in float32 on every device, whatever precision it was trained in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hojoint.config import Config
from hojoint.datasets.collate import Batch, collate
from hojoint.geometry import control_points
from hojoint.hand.layer import HandLayer
from hojoint.model import object_pose
from hojoint.model.network import HOJoint, HOJointOutput
from hojoint.training.batches import Prepared, Samples, prepare

PUBLISHED_INPUT_PX = 512  # Sec. 6.1


@dataclass(frozen=True, eq=False)
class Predictions:
    """A network's predictions for N images of a data set, in its order."""

    names: tuple[str, ...]
    joints: np.ndarray  # (N, 21, 3) m, wrist-centred, CV frame, simple order
    vertices: np.ndarray  # (N, 778, 3) m
    joints_px: np.ndarray  # (N, 21, 2) px of the input
    joints_error_px: np.ndarray  # (N,) mean distance to the labelled joints, px of the input; NaN without labels
    object_names: tuple[str, ...]  # '' where there is no object
    object_pose: np.ndarray  # (N, 3, 4) model to camera; NaN without an object, a placeholder where not solved
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
        output = network(prepared.images, prepared.hand_boxes, prepared.object_boxes, with_object=models is not None)
        parts.append(_predictions_of(batch, prepared, output, mano_layer, models, config))
    return joined(parts)


def joined(parts: Sequence[Predictions]) -> Predictions:
    """Predictions of consecutive rows as those of all."""
    values: dict[str, Any] = {}
    for field in fields(Predictions):
        pieces = [getattr(part, field.name) for part in parts]
        values[field.name] = sum(pieces, start=()) if isinstance(pieces[0], tuple) else np.concatenate(pieces)
    return Predictions(**values)


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
