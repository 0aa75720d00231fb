"""Networks without weights: one answers from a known truth, by the boxes of each view; one looks at its images."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hojoint import geometry
from hojoint.config import CropConfig, TtaConfig
from hojoint.labelling.tta import HandPredictor
from hojoint.records import Frames


class OracleNetwork(torch.nn.Module):
    """Stands in for HOJoint. ``truths``: clip id -> (joints_px (T, 21, 2), rotations (T, 16, 3, 3), betas (T, 10)).

    Rotations are those of the right-hand model in the scene that the network sees, mirrored or not. On the side listed
    in ``lost`` it sees the right 2D joints but does not know the pose. ``sides``: clip id -> logit that its side head
    gives to a picture as it is, and the negative of which to a mirrored one; None means that it has no such head.
    """

    def __init__(
        self, *, input_px: int = 64, lost: dict[str, bool] | None = None, sides: dict[str, float] | None = None
    ) -> None:
        super().__init__()
        self.config = SimpleNamespace(input_px=input_px, roi_cells=8, reasoning="o+", side_head=sides is not None)
        self.lost, self.sides = lost or {}, sides or {}
        self.known: dict[bytes, tuple[Tensor, Tensor, Tensor, float]] = {}
        self.asked: list[int] = []
        self.object_boxes: list[Tensor] = []
        self.noise: Any = None  # (joints_box, rotations, betas) -> the same, disturbed

    def learn(self, predictor: HandPredictor, clip: Frames, numbers: np.ndarray, truth: tuple[Tensor, ...]) -> None:
        for flipped in (False, True):
            rows = np.arange(len(clip.rgb))
            views = predictor.views(clip, flipped, numbers, rows)
            joints, rotations, betas = (values[views.frame_rows] for values in truth)
            linear = views.affines[..., :2].double()
            if flipped:  # the turn of the scene after it was mirrored
                linear = linear @ torch.diag(torch.tensor([-1.0, 1.0], dtype=torch.float64))
            turn = geometry.rotation_z(torch.atan2(linear[:, 1, 0], linear[:, 0, 0])).float()
            answer = rotations.clone()
            answer[:, 0] = turn @ answer[:, 0]
            if self.lost.get(clip.clip_id) is flipped:
                answer = geometry.axis_angle_to_matrix(torch.full((*answer.shape[:2], 3), 0.9))
            px = geometry.apply_affine(views.affines, joints)
            for n, box in enumerate(views.hand_boxes):
                box_units = (px[n] - box[:2]) / (box[2:] - box[:2])
                self.known[_key(box, views.object_boxes[n])] = (
                    box_units,
                    answer[n],
                    betas[n],
                    self.sides.get(clip.clip_id, 0.0) * (-1 if flipped else 1),
                )

    def forward(
        self,
        images: Tensor,
        hand_boxes: Tensor,
        object_boxes: Tensor,
        *,
        with_object: bool = True,
        roi_samples: int | None = None,
    ) -> Any:
        assert not with_object
        assert images.shape == (len(hand_boxes), 3, self.config.input_px, self.config.input_px)
        self.asked.append(len(images))
        self.object_boxes.append(object_boxes)
        answers = [self.known[_key(*boxes)] for boxes in zip(hand_boxes, object_boxes, strict=True)]
        *hands, logits = zip(*answers, strict=True)
        joints, rotations, betas = (torch.stack(values) for values in hands)
        side = torch.tensor(logits) if self.config.side_head else None
        if self.noise is not None:
            joints, rotations, betas = self.noise(joints, rotations, betas)
        return SimpleNamespace(hand=SimpleNamespace(joints_box=joints, rotations=rotations, betas=betas, side=side))


def _key(hand_box: Tensor, object_box: Tensor) -> bytes:
    return bytes(hand_box.numpy().tobytes() + object_box.numpy().tobytes())


class Eyes(torch.nn.Module):
    """A network that looks: finds a red and a green spot in the crop, and says where they are and how turned."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(input_px=256, roi_cells=8, reasoning="o+", side_head=False)

    def forward(
        self, images: Tensor, hand_boxes: Tensor, object_boxes: Tensor, *, with_object: bool, roi_samples: int | None
    ) -> Any:
        rows, columns = torch.meshgrid(torch.arange(256.0), torch.arange(256.0), indexing="ij")
        spots = []
        for channel in (0, 1):
            weight = images[:, channel] / images[:, channel].sum((1, 2), keepdim=True)
            spots.append(torch.stack([(weight * columns).sum((1, 2)), (weight * rows).sum((1, 2))], 1))
        red, green = spots
        joints = torch.where((torch.arange(21) % 2 == 0)[:, None], red[:, None], green[:, None])
        corner, size = hand_boxes[:, None, :2], hand_boxes[:, None, 2:] - hand_boxes[:, None, :2]
        towards = green - red
        turn = geometry.rotation_z(torch.atan2(towards[:, 1], towards[:, 0]))
        rotations = torch.eye(3).repeat(len(images), 16, 1, 1)
        rotations[:, 0] = turn
        hand = SimpleNamespace(
            joints_box=(joints - corner) / size, rotations=rotations, betas=torch.zeros(len(images), 10), side=None
        )
        return SimpleNamespace(hand=hand)


def predictor_of(network: Any, layer: Any, *, batch_views: int = 24, crop: Any = None, **tta: Any) -> HandPredictor:
    # With object boxes, by which an oracle tells a mirrored view from a plain one.
    crop = crop or CropConfig(unlabelled_region="union")
    return HandPredictor(network, layer, crop, TtaConfig(**tta), "cpu", batch_views)


def blank_clip(clip_id: str, boxes: Any, *, size: tuple[int, int] = (160, 120), objects: Any = None) -> Frames:
    boxes = np.asarray(boxes, np.float32)
    # beside the hand, so that a mirrored view differs from a plain one in the position of its object
    object_boxes = boxes + np.float32([20, 5, 20, 5]) if objects is None else np.asarray(objects, np.float32)
    return Frames(clip_id, np.zeros((len(boxes), size[1], size[0], 3), np.uint8), boxes, object_boxes)
