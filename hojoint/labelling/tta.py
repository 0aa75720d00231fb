"""Test-time augmentation: a hand seen in eight turned views, undone and averaged (Sec. 5.1, reading A10).

The network was trained under rotations of 180 degrees, so the views are rotations, with a mild scale and shift. Finger
rotations, betas and root-relative size do not depend on the view; ``undoing`` has the rest.

The views of all clips of a call are one table (``views``), which batches cut wherever they like; answers stay in its
order. Which frames share a batch changes a result by float noise at most. From the first batch to the last answer
nothing waits for the device: what it needs travels ahead, and no value is read back. Left hands are seen mirrored; see
``records.HandPrediction``.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hojoint import crops, geometry
from hojoint.config import CropConfig, Precision, TtaConfig
from hojoint.hand.factory import hand_layer
from hojoint.hand.layer import HandLayer
from hojoint.labelling import one_image, undoing, views
from hojoint.labelling.undoing import Answers
from hojoint.labelling.views import Seen, Views
from hojoint.model import encoder, opening
from hojoint.model.network import HOJoint
from hojoint.records import Frames, HandPrediction

# Suffixes of locals: F frames of all clips, V views of a frame, N = F * V, B views of one batch.

USUAL_SAMPLES = 4
"""Samples per side of a RoI's cell that are enough for nearly all hand boxes: up to 512 px at 32 cells."""


@dataclass(frozen=True, eq=False)
class _Task:
    """What the device needs of a group's N views, beside pixels; already there, or on its way."""

    on_parts: Tensor  # (N, 2, 3) px of the frame's seen part -> input px
    to_frame: Tensor  # (N, 2, 3) input px -> px of the true frame
    hand_boxes: Tensor  # (N, 4) RoI, input px
    object_boxes: Tensor  # (N, 4) RoI, input px; NaN where no object is known
    angles: Tensor  # (N,) rad
    seen: Seen  # of the F frames, on the CPU
    roi_samples: int  # most samples per side of a RoI's cell


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
        *,
        precision: Precision = "float32",
        compiled: bool = False,
    ) -> None:
        """Move network and hand layer to ``device``; the network goes to eval mode.

        Args:
            network: trained.
            mano_layer: the hand that turns averaged rotations and betas into joints and vertices.
            crop: as in the network's training.
            tta: how many views, and how far they turn, scale and shift.
            device: where crops, network and hand layer run.
            batch_views: views per call of the network; bounds the memory. A call takes whole frames where it can.
            precision: of the network's layers; crops, undoing and the hand stay in float32.
            compiled: compile the network with torch.compile, at its first batch.
        """
        self.device = torch.device(device)
        self.network = network.to(self.device).eval()
        self.mano_layer: HandLayer = mano_layer.to(self.device)
        self.crop, self.tta, self.batch_views = crop, tta, batch_views
        self.precision: Precision = precision
        self._call = torch.compile(self.network, dynamic=False) if compiled else self.network
        self.views_asked = 0  # since the beginning
        # A GPU's kernels are chosen, and a compiled network is made, for one size of batch.
        self._one_size = compiled or self.device.type == "cuda"

    @property
    def batch_size(self) -> int:
        """Views per call of the network: those of whole frames, if one frame's fit into ``batch_views``."""
        return self.batch_views - self.batch_views % self.tta.views or self.batch_views

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
            InputError: the checkpoint or the hand model cannot be read, or the hand is not that of the training.
        """
        network, config = opening.open_network(data, mano)
        if (note := opening.untrained_views(config)) is not None:
            warnings.warn(note, stacklevel=2)
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
            object_box: (4,) xyxy px of the object that the hand holds, which widens the crop as it does for labelled
                images in training; None where there is none.
            flipped: the image shows a left hand.

        Raises:
            InputError: the image or ``flipped`` is not of this kind, or a box has no area inside the image.
        """
        frames = one_image.frames_of(image, hand_box, object_box)
        predictor = self if object_box is None else self.around_objects()
        prediction = predictor.predict([frames], [one_image.is_left(flipped)])[0]
        # Copies made out here are ordinary tensors, which a notebook may change in place.
        tensors: dict[str, Any] = {
            name: value.clone() for name, value in vars(prediction).items() if isinstance(value, Tensor)
        }
        return replace(prediction, **tensors)

    def around_objects(self) -> HandPredictor:
        """The same network, cropped around hand and object where an object is known (reading A21)."""
        other = copy.copy(self)
        other.crop = self.crop.model_copy(update={"unlabelled_region": "union"})
        return other

    @torch.inference_mode()
    def warm_up(self) -> None:
        """Compile the network and choose a GPU's kernels now, on black images, and not at the first clip."""
        side, count = self.network.config.input_px, self.batch_size
        images = torch.zeros(count, 3, side, side, device=self.device)
        boxes = torch.tensor([0.25, 0.25, 0.75, 0.75], device=self.device).mul(side).repeat(count, 1)
        self.ask(images, boxes, boxes, USUAL_SAMPLES)

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
        if not clips:
            return []
        table = self._views(clips, flipped, numbers, rows)
        task = self._task(table, clips, rows)
        self.views_asked += len(task.angles)
        answers = self._answers(task, clips)
        joints, rotations = undoing.undone(answers, task.hand_boxes, task.to_frame, task.angles)
        group = undoing.averaged(joints, rotations, answers, self.tta.views, self.mano_layer)
        return undoing.by_clip(group, [len(part) for part in rows], flipped)

    def views(self, clip: Frames, flipped: bool, numbers: np.ndarray, rows: np.ndarray) -> Views:
        """Where each view of the frames in ``rows`` is cut; arguments as in ``predict``, of one clip."""
        return self._views([clip], [flipped], [numbers], [rows])

    def _views(
        self,
        clips: Sequence[Frames],
        flipped: Sequence[bool],
        numbers: Sequence[np.ndarray],
        rows: Sequence[np.ndarray],
    ) -> Views:
        input_px = self.network.config.input_px
        return views.of_group(
            clips, flipped, numbers, rows, input_px=input_px, crop=self.crop, settings=self.tta
        )  # fmt: skip

    def _task(self, table: Views, clips: Sequence[Frames], rows: Sequence[np.ndarray]) -> _Task:
        """Everything small that the device needs, in one upload."""
        config, count = self.network.config, self.tta.views
        seen = views.seen_by(table, clips, rows, input_px=config.input_px, count=count)
        corner_N2 = torch.from_numpy(seen.parts[:, :2]).float().repeat_interleave(count, dim=0)
        on_parts_N23 = views.onto_parts(table.affines, corner_N2)
        to_frame_N23 = geometry.invert_affine(table.affines)
        columns = [on_parts_N23.flatten(1), to_frame_N23.flatten(1), table.hand_boxes, table.object_boxes]
        numbers = self._uploaded(torch.cat([*columns, table.angles[:, None]], dim=1))
        on_parts, to_frame, hand_boxes, object_boxes, angles = torch.split(numbers, [6, 6, 4, 4, 1], dim=1)
        return _Task(
            on_parts=on_parts.reshape(-1, 2, 3),
            to_frame=to_frame.reshape(-1, 2, 3),
            hand_boxes=hand_boxes,
            object_boxes=object_boxes,
            angles=angles[:, 0],
            seen=seen,
            roi_samples=self.roi_samples(table.hand_boxes),
        )

    def roi_samples(self, hand_boxes: Tensor) -> int:
        """Samples per side of a RoI's cell for hand boxes (B, 4) input px, on the CPU; as many as needed, or more."""
        samples = encoder.samples_per_cell(hand_boxes, cells=self.network.config.roi_cells)
        # Few values where calls have one size: each is another network to compile.
        return max(USUAL_SAMPLES, 1 << (samples - 1).bit_length()) if self._one_size else samples

    def _answers(self, task: _Task, clips: Sequence[Frames]) -> Answers:
        """The network's answers to all views, on the device. Nothing in here waits for it."""
        answers = []
        for batch in self._batches(len(task.angles)):
            images = self._images(task, clips, batch)
            boxes = task.hand_boxes[batch], task.object_boxes[batch]
            answers.append(self.ask(images, *boxes, task.roi_samples))
        return Answers.of(answers)

    def _batches(self, total: int) -> Iterator[slice]:
        """Rows of the views' table per call of the network."""
        size = self.batch_size
        return (slice(start, min(start + size, total)) for start in range(0, total, size))

    def _images(self, task: _Task, clips: Sequence[Frames], batch: slice) -> Tensor:
        """Input images (B, 3, S, S) of some rows of the table; only the pixels that they see travel to the device."""
        count = self.tta.views
        whole = batch.start % count == 0 and batch.stop % count == 0
        frames = np.arange(batch.start, batch.stop, count if whole else 1) // count
        parts = views.stacked(clips, task.seen, frames, pinned=self.device.type == "cuda")
        return crops.warp(
            parts.to(self.device, non_blocking=True),
            task.on_parts[batch],
            self.network.config.input_px,
            resample=self.crop.resample,
            supersample=self.crop.supersample,
        )

    def ask(self, images: Tensor, hand_boxes: Tensor, object_boxes: Tensor, roi_samples: int) -> Answers:
        """One call of the network; a last batch is filled up where all calls must have one size.

        Args:
            images: (B, 3, S, S) in [0, 1], on the device as the boxes; B is at most ``batch_size``.
            hand_boxes: (B, 4) RoIs, input px.
            object_boxes: (B, 4) RoIs, input px; NaN where no object is known.
            roi_samples: from ``roi_samples``.
        """
        asked, size = len(images), self.batch_size
        if self._one_size and asked < size:
            images, hand_boxes, object_boxes = (_filled(part, size) for part in (images, hand_boxes, object_boxes))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            hand = self._call(images, hand_boxes, object_boxes, with_object=False, roi_samples=roi_samples).hand
        assert len(hand.betas) == len(images), "the network answered another number of views than it was given"
        side = None if hand.side is None else hand.side[:asked].float()
        return Answers(
            hand.joints_box[:asked].float(), hand.rotations[:asked].float(), hand.betas[:asked].float(), side
        )

    def _uploaded(self, values: Tensor) -> Tensor:
        """A copy on the device, which is on its way while the CPU works on."""
        return values if self.device.type == "cpu" else values.pin_memory().to(self.device, non_blocking=True)


def _filled(values: Tensor, size: int) -> Tensor:
    """The rows of ``values`` (B, ...), and the last one again until they are ``size``."""
    return torch.cat((values, values[-1:].expand(size - len(values), *values.shape[1:])))
