"""Test-time augmentation: a hand seen in eight turned views, undone one by one and averaged (Sec. 5.1, reading A10).

The network was trained under rotations of 180 degrees, so the views are rotations, with a mild scale and shift. A view
is undone so: 2D joints return through its box and its affine to pixels of the native frame; the global orientation
turns back by Rz(-a); finger rotations, betas and root-relative size do not depend on the view. Rotations are averaged
on SO(3), never as axis-angle, and joints and vertices are made from the averages, so they are always one valid hand.

A view derives from (clip id, frame number, view) alone, and each result is written under its own index: which frames
share a batch changes a result by float noise at most. Left hands are seen mirrored; see ``records.HandPrediction``.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hojoint import crops, geometry
from hojoint.config import CropConfig, TtaConfig
from hojoint.errors import InputError
from hojoint.hand.factory import hand_layer
from hojoint.hand.layer import HandLayer
from hojoint.model import checkpoint
from hojoint.model.network import HOJoint
from hojoint.records import Frames, HandPrediction

# Suffixes of locals: T frames of a clip, V views, N = T * V, B views of one batch.


@dataclass(frozen=True, eq=False)
class Views:
    """How the views of one clip are cut, frame by frame and view by view: N = T * V rows."""

    frame_rows: Tensor  # (N,) row of the clip's frames
    affines: Tensor  # (N, 2, 3) true frame px -> input px; mirrors for a left hand
    angles: Tensor  # (N,) rad, of the (mirrored) scene
    hand_boxes: Tensor  # (N, 4) RoI, xyxy input px
    object_boxes: Tensor  # (N, 4) RoI, xyxy input px; NaN where no object is known


@dataclass(frozen=True, eq=False)
class _Answers:
    """The network's answer to each view of a clip, undone."""

    joints_px: Tensor  # (N, 21, 2) px of the true frame
    rotations: Tensor  # (N, 16, 3, 3) root first, in the camera frame
    betas: Tensor  # (N, 10)
    side: Tensor  # (N,) logit of a right hand; NaN without a side head
    written: Tensor  # (N,) bool


class HandPredictor:
    """Predicts the hand of every frame of several clips at once; holds one network on one device."""

    def __init__(
        self,
        network: HOJoint,
        mano_layer: HandLayer,
        crop: CropConfig,
        tta: TtaConfig,
        device: torch.device | str = "cpu",
        batch_views: int = 128,
    ) -> None:
        """Move network and hand layer to ``device``; the network goes to eval mode.

        Args:
            network: trained.
            mano_layer: the hand that turns averaged rotations and betas into joints and vertices.
            crop: as in the network's training.
            tta: how many views, and how far they turn, scale and shift.
            device: where crops, network and hand layer run.
            batch_views: views per call of the network; bounds the memory.
        """
        self.device = torch.device(device)
        self.network = network.to(self.device).eval()
        self.mano_layer: HandLayer = mano_layer.to(self.device)
        self.crop, self.tta, self.batch_views = crop, tta, batch_views

    @classmethod
    def from_checkpoint(
        cls,
        data: bytes | str | Path,
        *,
        mano: str | Path | None = None,
        device: torch.device | str = "cpu",
        batch_views: int = 128,
    ) -> HandPredictor:
        """A predictor with the hand model, the crop and the views that the network was trained for.

        Args:
            data: path or bytes of our own checkpoint or of the authors' released ``.pth.tar``.
            mano: MANO_RIGHT.pkl or its folder. A released network needs it; one of ours names its own.
            device: where network and hand model run.
            batch_views: views per batch; each frame has ``tta.views`` of them.

        Raises:
            InputError: the checkpoint or the hand model cannot be read.
        """
        network, config = checkpoint.open_network(data, mano)
        return cls(network, hand_layer(config.mano), config.crop, config.tta, device, batch_views)

    def predict_image(
        self,
        image: np.ndarray,
        hand_box: Sequence[float] | np.ndarray,
        object_box: Sequence[float] | np.ndarray | None = None,
        *,
        flipped: bool = False,
    ) -> HandPrediction:
        """The hand of one image, as a prediction of one frame (T = 1).

        Args:
            image: (H, W, 3) uint8 RGB.
            hand_box: (4,) xyxy px.
            object_box: (4,) xyxy px of the object that the hand holds; None where there is none.
            flipped: the image shows a left hand.

        Raises:
            InputError: the image is not of this kind, or a box has no area or lies outside the image.
        """
        rgb = np.asarray(image)
        if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
            raise InputError(f"expected an image (H, W, 3) of uint8 RGB, found {rgb.dtype} {rgb.shape}")
        if not _meets(rgb, hand_box):
            raise InputError(
                f"the hand box {list(hand_box)} lies outside the image of {rgb.shape[1]} x {rgb.shape[0]} px; expected "
                "[x0, y0, x1, y1] in px, x to the right and y down"
            )
        nowhere = np.full((1, 4), np.nan, np.float32)
        object_boxes = nowhere if object_box is None else _one_box("object", object_box)
        frames = Frames("image", rgb[None], _one_box("hand", hand_box), object_boxes)
        prediction = self.predict([frames], [flipped])[0]
        # Copies made out here are ordinary tensors, which a notebook may change in place.
        tensors: dict[str, Any] = {
            name: value.clone() for name, value in vars(prediction).items() if isinstance(value, Tensor)
        }
        return replace(prediction, **tensors)

    @torch.inference_mode()
    def predict(
        self,
        clips: Sequence[Frames],
        flipped: Sequence[bool],
        *,
        numbers: Sequence[np.ndarray] | None = None,
        rows: Sequence[np.ndarray] | None = None,
    ) -> list[HandPrediction]:
        """Predict the hand in each frame of each clip (Sec. 5.1).

        Args:
            clips: pixels (T, H, W, 3) and boxes (T, 4) xyxy px of each clip; the hand boxes must have an area.
            flipped: per clip, whether it shows a left hand.
            numbers: per clip, the frames' numbers in the video, (T,); None means 0, 1, 2, ...
            rows: per clip, which of its T frames to predict, at least one; None means all.

        Returns:
            One HandPrediction per clip, one row per predicted frame, on the CPU.

        Raises:
            ValueError: the lists differ in length.
        """
        if numbers is None:
            numbers = [np.arange(len(clip.rgb)) for clip in clips]
        if rows is None:
            rows = [np.arange(len(clip.rgb)) for clip in clips]
        views = [self.views(*clip) for clip in zip(clips, flipped, numbers, rows, strict=True)]
        answers = [_blank(len(view.frame_rows), self.device) for view in views]
        # (clip, row) of every view of every clip, cut into batches wherever they fall
        plan = [(clip, row) for clip, view in enumerate(views) for row in range(len(view.frame_rows))]
        for start in range(0, len(plan), self.batch_views):
            self._answer(clips, views, plan[start : start + self.batch_views], answers)
        return [self._average(*clip) for clip in zip(answers, flipped, strict=True)]

    def views(self, clip: Frames, flipped: bool, numbers: np.ndarray, rows: np.ndarray) -> Views:
        """Where each view of the frames in ``rows`` is cut; arguments as in ``predict``, of one clip."""
        count, side = self.tta.views, self.network.config.input_px
        draws_TV4 = torch.from_numpy(np.stack([_draws(clip.clip_id, int(n), self.tta) for n in numbers[rows]]))
        draws_N4 = draws_TV4.reshape(-1, 4).float()
        frame_N = torch.from_numpy(rows).repeat_interleave(count)
        hand_N4, object_N4 = torch.from_numpy(clip.hand_boxes)[frame_N], torch.from_numpy(clip.object_boxes)[frame_N]
        # The mirror comes first, so that the turned scene is the mirrored one and Rz(-a) undoes its turn.
        mirror_23 = torch.tensor([[-1.0, 0.0, clip.rgb.shape[2] - 1], [0.0, 1.0, 0.0]] if flipped else _IDENTITY)
        mirror_N23 = mirror_23.expand(len(frame_N), 2, 3)
        union = self.crop.unlabelled_region == "union"
        seen_N4 = geometry.rotate_box(hand_N4, mirror_N23)
        seen_object_N4 = geometry.rotate_box(object_N4, mirror_N23)
        size_N2 = hand_N4.new_tensor([clip.rgb.shape[2], clip.rgb.shape[1]]).expand(len(frame_N), 2)
        centre_N2, side_N = crops.square_of(
            seen_N4,
            seen_object_N4 if union else None,
            self.crop.context,
            size_N2 if self.crop.clip else None,  # as in training
            hand_context=self.crop.hand_context,
        )
        turn_N23 = crops.view_affine(
            centre_N2,
            side_N,
            side,
            draws_N4[:, 0],
            1 + self.tta.scale * draws_N4[:, 1],
            self.tta.shift * draws_N4[:, 2:],
        )
        affine_N23 = _compose(turn_N23, mirror_N23)
        return Views(
            frame_rows=frame_N,
            affines=affine_N23,
            # read off the affine itself, so that its sign cannot differ from the crop's
            angles=torch.atan2(turn_N23[:, 1, 0], turn_N23[:, 0, 0]),
            hand_boxes=geometry.scale_box(geometry.rotate_box(hand_N4, affine_N23), self.crop.hand_roi_scale),
            object_boxes=geometry.scale_box(geometry.rotate_box(object_N4, affine_N23), self.crop.object_roi_scale),
        )

    def _answer(
        self, clips: Sequence[Frames], views: Sequence[Views], batch: list[tuple[int, int]], answers: list[_Answers]
    ) -> None:  # fmt: skip
        """Run one batch of (clip, row) pairs and write each answer, undone, under its index."""
        present = sorted({clip for clip, _ in batch})
        rows = {clip: torch.tensor([row for c, row in batch if c == clip]) for clip in present}
        images = torch.cat([self._warp(clips[clip], views[clip], rows[clip]) for clip in present])
        taken = [Views(*(getattr(views[c], name)[rows[c]] for name in _VIEW_FIELDS)) for c in present]
        hand_B4 = torch.cat([view.hand_boxes for view in taken]).to(self.device)
        object_B4 = torch.cat([view.object_boxes for view in taken]).to(self.device)
        output = self.network(images, hand_B4, object_B4, with_object=False).hand
        assert len(output.betas) == len(batch), "the network answered another number of views than it was given"
        corner_B12, size_B12 = hand_B4[:, None, :2], (hand_B4[:, None, 2:] - hand_B4[:, None, :2])
        joints_B212 = corner_B12 + output.joints_box.float() * size_B12
        start = 0
        for clip, view in zip(present, taken, strict=True):
            part = slice(start, start + len(view.frame_rows))  # this clip's views in the batch
            to_frame = geometry.invert_affine(view.affines).to(self.device)
            back = geometry.rotation_z(-view.angles).to(self.device)
            rotations = output.rotations[part].float().clone()
            rotations[:, 0] = back @ rotations[:, 0]
            index, answer = rows[clip].to(self.device), answers[clip]
            assert not answer.written[index].any(), "a view was answered twice"
            answer.joints_px[index] = geometry.apply_affine(to_frame, joints_B212[part])
            answer.rotations[index] = rotations
            answer.betas[index] = output.betas[part].float()
            if output.side is not None:
                answer.side[index] = output.side[part].float()
            answer.written[index] = True
            start += len(view.frame_rows)

    def _warp(self, clip: Frames, views: Views, rows: Tensor) -> Tensor:
        """Input images of some rows; only the frames they need travel to the device."""
        frames, index = np.unique(views.frame_rows[rows].numpy(), return_inverse=True)
        return crops.warp(
            torch.from_numpy(clip.rgb[frames]).to(self.device),
            views.affines[rows].to(self.device),
            torch.from_numpy(index).to(self.device),
            self.network.config.input_px,
            resample=self.crop.resample,
            supersample=self.crop.supersample,
        )

    def _average(self, answers: _Answers, flipped: bool) -> HandPrediction:
        assert bool(answers.written.all()), "a view was not answered"
        count = self.tta.views
        joints = answers.joints_px.reshape(-1, count, 21, 2)
        rotations = answers.rotations.reshape(-1, count, 16, 3, 3)
        # Summed in double: the result must not depend on the order of the views.
        joints_px = joints.double().mean(1).float()
        betas = answers.betas.reshape(-1, count, 10).double().mean(1).float()
        mean = _mean_rotation(rotations)
        hand = self.mano_layer.from_rotations(mean, betas)
        apart_px = (joints - joints_px[:, None]).square().sum(-1).mean((1, 2)).sqrt()
        apart_rad = geometry.geodesic(rotations, mean[:, None].expand_as(rotations)).square().mean((1, 2)).sqrt()
        return HandPrediction(
            joints_px=joints_px.cpu(),
            rotations=mean.cpu(),
            pose=geometry.matrix_to_axis_angle(mean).reshape(-1, 48).cpu(),
            betas=betas.cpu(),
            joints=hand.joints.float().cpu(),
            vertices=hand.vertices.float().cpu(),
            joints_spread_px=apart_px.cpu(),
            rotation_spread=apart_rad.cpu(),
            flipped=flipped,
            side_logit=self._side_logit(answers),
        )

    def _side_logit(self, answers: _Answers) -> Tensor | None:
        if self.network.config.side_head:
            return answers.side.reshape(-1, self.tta.views).double().mean(1).float().cpu()
        return None


_IDENTITY = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
_VIEW_FIELDS = tuple(field.name for field in fields(Views))


def _meets(rgb: np.ndarray, box: Sequence[float] | np.ndarray) -> bool:
    """Whether a box (4,) px shares an area with the image (H, W, 3)."""
    height, width = rgb.shape[:2]
    corners = np.asarray(box, np.float32)
    if corners.shape != (4,) or not np.isfinite(corners).all():
        return True  # reported as a wrong box
    low, high = np.maximum(corners[:2], 0), np.minimum(corners[2:], [width, height])
    return bool((high > low).all()) or not bool((corners[2:] > corners[:2]).all())


def _one_box(name: str, box: Sequence[float] | np.ndarray) -> np.ndarray:
    """A box as (1, 4) float32; InputError unless it has an area."""
    values = np.asarray(box, np.float32)
    if values.shape != (4,) or not np.isfinite(values).all() or not (values[2:] > values[:2]).all():
        raise InputError(f"expected the {name} box [x0, y0, x1, y1] in px, with an area; found {values.tolist()}")
    return values[None]


def _draws(clip_id: str, number: int, tta: TtaConfig) -> np.ndarray:
    """(V, 4) angle (rad), and scale and shifts in [-1, 1]; equally spaced turns, offset per frame."""
    views, furthest = tta.views, math.radians(tta.rotation_deg)
    seed = int.from_bytes(hashlib.blake2b(f"{clip_id}/{number}".encode(), digest_size=8).digest(), "big")
    random = np.random.default_rng(seed)
    angle = 2 * furthest / views * (np.arange(views) + random.uniform(0, 1)) - furthest
    return np.concatenate([angle[:, None], random.uniform(-1, 1, (views, 3))], axis=1)


def _compose(outer: Tensor, inner: Tensor) -> Tensor:
    """The affine (N, 2, 3) that applies ``inner`` first."""
    linear = outer[..., :2]
    return torch.cat([linear @ inner[..., :2], linear @ inner[..., 2:] + outer[..., 2:]], dim=-1)


def _mean_rotation(rotations: Tensor) -> Tensor:
    """Chordal mean over the views of (T, V, 16, 3, 3); NaN where a view is not finite (an SVD would raise)."""
    finite = rotations.isfinite().flatten(1).all(1)[:, None, None, None]
    mean = geometry.mean_rotation(torch.where(finite[:, None], rotations, torch.eye(3).to(rotations)), 1)
    return torch.where(finite, mean, torch.nan)


def _blank(count: int, device: torch.device) -> _Answers:
    return _Answers(
        joints_px=torch.full((count, 21, 2), torch.nan, device=device),
        rotations=torch.full((count, 16, 3, 3), torch.nan, device=device),
        betas=torch.full((count, 10), torch.nan, device=device),
        side=torch.full((count,), torch.nan, device=device),
        written=torch.zeros(count, dtype=torch.bool, device=device),
    )
