"""Rows of the two tables of labels, made up: for tests of what reads them."""

from __future__ import annotations

import cv2
import numpy as np
import pyarrow as pa
import torch

from hojoint import geometry
from hojoint.config import FilterConfig
from hojoint.labelling import filters, reasons, tables
from hojoint.records import Clip, HandPrediction, PseudoLabels

SIZE = 80  # px of a pseudo-label's picture


def labels(
    clip_id: str = "7-h0-0000-0004", *, numbers: tuple[int, ...] = (0, 1, 2, 3, 4), seed: int = 0
) -> PseudoLabels:
    """Labels of a clip of a left hand, with an object in the second frame."""
    random = torch.Generator().manual_seed(seed)
    count = len(numbers)
    pose = 0.02 * torch.randn(count, 48, generator=random)
    prediction = HandPrediction(
        joints_px=20 + torch.rand(count, 21, 2, generator=random),
        rotations=geometry.axis_angle_to_matrix(pose.reshape(count, 16, 3)),
        pose=pose,
        betas=0.1 * torch.randn(count, 10, generator=random),
        joints=torch.zeros(count, 21, 3),
        vertices=torch.zeros(count, 778, 3),
        joints_spread_px=torch.rand(count, generator=random),
        rotation_spread=torch.rand(count, generator=random),
        flipped=True,
    )
    objects = np.full((count, 4), np.nan, np.float32)
    objects[1] = (30, 20, 60, 50)
    clip = Clip(
        clip_id=clip_id,
        video_id=clip_id.split("-")[0],
        path="7.webm",
        frames=np.array(numbers, np.int32),
        hand_boxes=np.tile(np.float32([10, 12, 40, 52]), (count, 1)),
        object_boxes=objects,
        annotated_frames=numbers[-1] + 1,
    )
    spatial = dict(
        zip(reasons.SPATIAL_RULES, torch.tensor([[0.9], [0.1], [0.3], [-5.0]]).expand(4, count), strict=True)
    )
    spatial["box_iou"] = spatial["box_iou"].clone()
    spatial["box_iou"][0] = torch.nan
    scores = filters.with_temporal(
        spatial,
        joints_px=prediction.joints_px,
        rotations=prediction.rotations,
        pose=pose,
        betas=prediction.betas,
        boxes=torch.from_numpy(clip.hand_boxes),
        frames=torch.tensor(numbers),
        config=FilterConfig(),
        joints_spread_px=prediction.joints_spread_px,
        side=torch.full((count,), 0.75),
    )
    camera = torch.rand(count, 3, generator=random)
    return PseudoLabels(clip, prediction, camera, scores, filters.verdicts(scores, FilterConfig()), "abc123")


def row(clip: str, frame: int, *, flipped: bool, image: bytes | None = None) -> dict:
    """A kept frame: its picture has a white dot at joint 8."""
    random = np.random.default_rng(frame)
    joints = random.uniform(130, 160, (21, 2))
    pixels = np.zeros((SIZE, SIZE, 3), np.uint8)
    x, y = np.rint(joints[8]).astype(int) - 100
    cv2.circle(pixels, (int(x), int(y)), 4, (255, 255, 255), -1)
    values = dict.fromkeys(tables.PSEUDO_LABELS_SCHEMA.names)
    return values | {
        "video_id": clip.split("-")[0], "clip_id": clip, "frame": frame, "flipped": flipped, "verdict": "kept",
        "teacher": "t", "hand_box": [130, 130, 160, 160], "object_box": [140, 120, 175, 150],
        "joints_px": joints.ravel(), "mano_pose": random.normal(size=48), "mano_shape": random.normal(size=10),
        "camera": [1, 0, 0], "image_box": [100, 100, 100 + SIZE, 100 + SIZE],
        "image": image or cv2.imencode(".png", pixels)[1].tobytes(),
    }  # fmt: skip


def table_of(*rows: dict) -> pa.Table:
    """Pseudo-labels of these rows."""
    return pa.Table.from_pylist(list(rows), schema=tables.PSEUDO_LABELS_SCHEMA)
