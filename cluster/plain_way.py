"""The plain way to predict: one view at a time, cut by OpenCV on the CPU, float32, eager.

What the teacher's speed is compared with (``benchmarks``), and what its results are held to: it shares the weights, the
choice of views and the hand layer with a ``HandPredictor`` and nothing else. Its arithmetic is NumPy's and OpenCV's.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import cv2
import numpy as np
import torch

from hojoint import geometry
from hojoint.labelling.tta import HandPredictor
from hojoint.records import Frames, HandPrediction

# Suffixes of locals: T frames of a clip, V views of a frame, S input side.


class PlainPredictor:
    """Predicts like the ``HandPredictor`` that it is made of, in its place in ``labels.label_clips``."""

    def __init__(self, predictor: HandPredictor) -> None:
        self._predictor = predictor
        # In PyTorch's own memory format, as a network is that nobody has prepared.
        self.network = copy.deepcopy(predictor.network).to(memory_format=torch.contiguous_format)
        self.mano_layer, self.device = predictor.mano_layer, predictor.device

    @torch.inference_mode()
    def predict(
        self,
        clips: Sequence[Frames],
        flipped: Sequence[bool],
        *,
        numbers: Sequence[np.ndarray],
        rows: Sequence[np.ndarray],
    ) -> list[HandPrediction]:
        """One prediction per clip; arguments as in ``HandPredictor.predict``."""
        return [self._clip(*clip) for clip in zip(clips, flipped, numbers, rows, strict=True)]

    def _clip(self, clip: Frames, flipped: bool, numbers: np.ndarray, rows: np.ndarray) -> HandPrediction:
        frames = [self._frame(clip, flipped, numbers, row) for row in rows.tolist()]
        columns = (torch.from_numpy(np.stack(column)).float() for column in zip(*frames, strict=True))
        joints_px, mean, shape, apart_px, apart_rad, sides = columns
        hand = self.mano_layer.from_rotations(mean.to(self.device), shape.to(self.device))
        return HandPrediction(
            joints_px=joints_px,
            rotations=mean,
            pose=geometry.matrix_to_axis_angle(mean).reshape(-1, 48),
            betas=shape,
            joints=hand.joints.float().cpu(),
            vertices=hand.vertices.float().cpu(),
            joints_spread_px=apart_px,
            rotation_spread=apart_rad,
            flipped=flipped,
            side_logit=sides if self.network.config.side_head else None,
        )

    def _frame(self, clip: Frames, flipped: bool, numbers: np.ndarray, row: int) -> tuple[np.ndarray, ...]:
        """Means over the views of one frame: joints (21, 2) px, rotations (16, 3, 3), betas (10,), spreads and side."""
        table = self._predictor.views(clip, flipped, numbers, np.array([row]))
        views = []
        for view in range(len(table.affines)):
            affine, angle = table.affines[view].double().numpy(), float(table.angles[view])
            box = table.hand_boxes[view : view + 1]
            boxes = (box.to(self.device), table.object_boxes[view : view + 1].to(self.device))
            hand = self.network(self._crop(clip.rgb[row], affine), *boxes, with_object=False, roi_samples=None).hand
            raw = (part[0].double().cpu().numpy() for part in (hand.joints_box, hand.rotations, hand.betas))
            side = 0.0 if hand.side is None else float(hand.side[0])
            joints_box, rotations, betas = raw
            joints = _in_frame(joints_box, box[0].double().numpy(), affine)
            views.append((joints, _turned_back(rotations, angle), betas, side))
        joints, rotations, betas, sides = (np.stack(column) for column in zip(*views, strict=True))
        mean_joints, mean = joints.mean(0), _nearest_rotation(rotations.mean(0))
        apart_px = np.sqrt(((joints - mean_joints) ** 2).sum(-1).mean())
        cosine = (np.einsum("vjab,jab->vj", rotations, mean) - 1) / 2
        apart_rad = np.sqrt((np.arccos(cosine.clip(-1, 1)) ** 2).mean())
        if len(views) == 1:
            apart_px, apart_rad = np.full_like(apart_px, np.nan), np.full_like(apart_rad, np.nan)
        return mean_joints, mean, betas.mean(0), apart_px, apart_rad, sides.mean()

    def _crop(self, rgb: np.ndarray, affine: np.ndarray) -> torch.Tensor:
        """A view (1, 3, S, S) in [0, 1] of a frame (H, W, 3) uint8."""
        crop, finer = self._predictor.crop, self._predictor.crop.supersample
        side = self.network.config.input_px
        # The first of ``finer`` samples lies half a pixel less half a sample before the pixel's centre.
        to_samples = np.concatenate([affine[:, :2] * finer, affine[:, 2:] * finer + (finer - 1) / 2], axis=1)
        how = cv2.INTER_LINEAR if crop.resample == "bilinear" else cv2.INTER_NEAREST
        view = cv2.warpAffine(rgb, to_samples, (side * finer, side * finer), flags=how)
        if finer > 1:
            view = cv2.resize(view, (side, side), interpolation=cv2.INTER_AREA)
        image = torch.from_numpy(view).to(self.device).permute(2, 0, 1)[None].float() / 255
        return image.contiguous()


def _in_frame(joints_box: np.ndarray, box: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """One view's joints (21, 2) in px of the frame, from units of its box (4,) and by its affine (2, 3)."""
    px = box[:2] + joints_box * (box[2:] - box[:2])
    joints: np.ndarray = (px - affine[:, 2]) @ np.linalg.inv(affine[:, :2]).T
    return joints


def _turned_back(rotations: np.ndarray, angle: float) -> np.ndarray:
    """One view's rotations (16, 3, 3), of which the root turns back by ``angle`` (rad)."""
    cos, sin = np.cos(angle), np.sin(angle)
    root = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]) @ rotations[0]
    return np.concatenate([root[None], rotations[1:]])


def _nearest_rotation(mean: np.ndarray) -> np.ndarray:
    """The rotations (16, 3, 3) nearest to matrices (16, 3, 3)."""
    left, _, right = np.linalg.svd(mean)
    left[:, :, 2] *= np.sign(np.linalg.det(left @ right))[:, None]
    nearest: np.ndarray = left @ right
    return nearest
