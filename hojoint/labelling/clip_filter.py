"""The rules on anybody's predictions: one clip in, scores and verdicts out, without a network (Sec. 5.1).

``filter_clip`` checks its inputs, poses the hand and calls the same functions as labelling, so that a clip gets the
same verdicts here and there. What only a network and its views tell is unknown here: the rules ``view_spread`` and
``side`` have no score. Not here: the rules themselves (``filters``).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hojoint import arrays, geometry
from hojoint.config import FilterConfig
from hojoint.errors import InputError
from hojoint.hand.layer import HandLayer, ManoLayer
from hojoint.hand.model import HandModel, load_mano
from hojoint.hand.stand_in.model import stand_in_model
from hojoint.labelling import filters, one_image, quality, reasons
from hojoint.labelling.quality import QualityModel
from hojoint.records import HandPrediction

# T frames of the clip.

ROTATION_TOLERANCE = 1e-2  # of R R^T against the identity: float16 and averaged matrices pass


@dataclass(frozen=True, eq=False)
class FilteredClip:
    """Scores and verdicts of one clip."""

    scores: dict[str, np.ndarray]  # rule -> (T,) float; NaN where the rule cannot judge a frame
    verdicts: tuple[str, ...]  # (T,) 'kept', or the first rule that the frame broke, or 'quality'
    kept: np.ndarray  # (T,) bool
    camera: np.ndarray  # (T, 3) s (px per metre), tx, ty (px): px = s * xy + t; x is negated first for a left hand
    quality: np.ndarray | None = None  # (T,) chance of being correct; None without ``config.quality_model``


@torch.no_grad()
def filter_clip(
    *,
    pose: np.ndarray | Tensor,
    betas: np.ndarray | Tensor,
    joints_px: np.ndarray | Tensor,
    hand_boxes: np.ndarray | Tensor,
    image_size: tuple[int, int],
    frames: np.ndarray | Tensor | None = None,
    flipped: bool = False,
    config: FilterConfig | None = None,
    mano: str | Path | HandModel | HandLayer | None = None,
) -> FilteredClip:
    """Scores and verdicts of the frames of ONE clip: one hand followed through one video (Sec. 5.1.1, 5.1.2).

    Args:
        pose: (T, 48) axis-angle in rad, MANO's joint order, root first and in the camera frame (x right, y down); or
            the same as rotation matrices (T, 16, 3, 3). MANO's mean pose is not added: zeros are a flat hand.
        betas: (T, 10) MANO's shape coefficients.
        joints_px: (T, 21, 2) px; wrist, thumb, index, middle, ring, pinky, from base to tip.
        hand_boxes: (T, 4) x0, y0, x1, y1 px of the annotation or a detector, independent of the prediction.
        image_size: width and height of the image, px.
        frames: (T,) frame numbers in the video, ascending; None means 0, 1, 2, ...
        flipped: a left hand. pose and betas are then those of the right hand in the mirrored image; joints_px and
            hand_boxes stay those of the true image. ``hojoint.hand.model.mirror_pose`` converts a left hand's pose,
            axis-angle or matrices.
        config: thresholds and which rules are enabled, and a local file as its ``quality_model``; None means the
            defaults of ``FilterConfig``.
        mano: the hand that pose and betas speak of: MANO_RIGHT.pkl or its folder, a model from ``load_mano``, or a
            layer. None means the stand-in hand, whose betas are not MANO's. A layer that adds a mean pose is taken for
            matrices alone.

    Raises:
        InputError: an input has another shape or kind, a matrix is no rotation, a box is not finite, all boxes are
            shares of the image and not px, the frames do not ascend, ``mano`` adds a mean pose to axis-angles, or
            ``config`` asks for what only a network tells. A prediction that is not finite is no error: its frame is
            rejected.
    """
    left = one_image.is_left(flipped)
    if config is not None and not isinstance(config, FilterConfig):
        raise InputError(f"config must be a FilterConfig or None; found a {type(config).__name__}")
    layer, config = _layer(mano), config or FilterConfig()
    model = _model(config)
    prediction = _prediction(layer, pose, betas, joints_px, left)
    count = len(prediction.pose)
    judgement = filters.judged(
        prediction,
        _boxes(_shaped("hand_boxes", hand_boxes, (count, 4))),
        _frame_numbers(frames, count),
        size=_size(image_size),
        axes=filters.axes_of(layer, _device_of(layer)),
        config=config,
        model=model,
    )
    return FilteredClip(
        scores={rule: score.numpy() for rule, score in judgement.scores.items()},
        verdicts=judgement.verdicts,
        kept=np.array([verdict == reasons.KEPT for verdict in judgement.verdicts], dtype=bool),
        camera=judgement.camera.numpy(),
        quality=None if judgement.quality is None else judgement.quality.numpy(),
    )


def _model(config: FilterConfig) -> QualityModel | None:
    """The quality model of ``config``; InputError where the settings ask for what a prediction alone does not tell."""
    if unknown := [rule for rule in config.enabled if rule in quality.NETWORK_ONLY]:
        raise InputError(
            f"config.enabled names {', '.join(unknown)}, which only a network and its test-time views can tell; leave "
            f"{'it' if len(unknown) == 1 else 'them'} out"
        )
    model = None if config.quality_model is None else quality.load(config.quality_model)
    if model is not None:
        model.check(config, network=False)
    if config.mode == "quality" and model is None:
        raise quality.without_model()
    return model


def _prediction(layer: HandLayer, pose: Any, betas: Any, joints_px: Any, flipped: bool) -> HandPrediction:
    """The record that the rules take, with the hand posed by ``layer``."""
    given = _numbers("pose", pose)
    rotations, pose_T48 = _rotations(given)
    if given.ndim == 2:
        _refuse_mean_pose(layer)
    count, device = len(rotations), _device_of(layer)
    betas_T10 = _shaped("betas", betas, (count, 10))
    hand = layer.from_rotations(rotations.to(device), betas_T10.to(device))
    joints, vertices = hand.joints.float().cpu(), hand.vertices.float().cpu()
    return HandPrediction(
        joints_px=_shaped("joints_px", joints_px, (count, 21, 2)),
        rotations=rotations,
        pose=pose_T48,
        betas=betas_T10,
        joints=joints - joints[:, :1],
        vertices=vertices - joints[:, :1],
        joints_spread_px=torch.full((count,), torch.nan),
        rotation_spread=torch.full((count,), torch.nan),
        flipped=flipped,
    )


def _layer(mano: str | Path | HandModel | HandLayer | None) -> HandLayer:
    if mano is None:
        return ManoLayer(stand_in_model())
    if isinstance(mano, str | Path):
        return ManoLayer(load_mano(mano))
    if isinstance(mano, HandModel):
        return ManoLayer(mano)
    if not hasattr(mano, "from_rotations"):
        raise InputError(f"mano must be a path, a model from load_mano or a ManoLayer; found a {type(mano).__name__}")
    return mano


def _refuse_mean_pose(layer: HandLayer) -> None:
    """InputError for a layer that would add a mean pose: nothing tells whether the axis-angles hold it already."""
    mean = getattr(layer, "mean_pose", None)
    if isinstance(mean, Tensor) and bool(mean.any()):
        raise InputError(
            "mano is a layer that adds a mean pose (flat_hand_mean=False), expected one that adds none: give complete "
            "poses, those of that layer plus its mean_pose in pose[:, 3:], and mano=ManoLayer(model)"
        )


def _device_of(layer: HandLayer) -> torch.device:
    buffers = layer.buffers() if isinstance(layer, nn.Module) else iter(())
    return next((buffer.device for buffer in buffers), torch.device("cpu"))


def _rotations(pose: Tensor) -> tuple[Tensor, Tensor]:
    """Rotations (T, 16, 3, 3) and the same as axis-angle (T, 48)."""
    if pose.shape[1:] == (48,) and len(pose) > 0:
        return geometry.axis_angle_to_matrix(pose.reshape(-1, 16, 3)), pose
    if pose.shape[1:] == (16, 3, 3) and len(pose) > 0:
        _refuse_other_matrices(pose)
        return pose, geometry.matrix_to_axis_angle(pose).reshape(-1, 48)
    raise InputError(
        f"pose must be (T, 48) axis-angle or (T, 16, 3, 3) rotations, T at least 1; found {tuple(pose.shape)}"
    )


def _refuse_other_matrices(matrices: Tensor) -> None:
    """InputError where a finite matrix is no rotation: scaled, sheared or a reflection."""
    finite_T16 = matrices.isfinite().flatten(2).all(2)
    off_T16 = (matrices @ matrices.transpose(-1, -2) - torch.eye(3)).abs().flatten(2).amax(2)
    wrong_T16 = finite_T16 & ((off_T16 > ROTATION_TOLERANCE) | (torch.linalg.det(matrices.nan_to_num(0, 0, 0)) < 0))
    if wrong_T16.any():
        frame, joint = (int(index) for index in wrong_T16.nonzero()[0])
        raise InputError(f"pose must hold rotation matrices; that of row {frame}, joint {joint} is no rotation")


def _numbers(name: str, values: Any) -> Tensor:
    """Float32 on the CPU, from whatever numpy takes and from tensors on any device."""
    if isinstance(values, Tensor):
        return values.detach().cpu().float().clone()
    try:
        return torch.tensor(np.array(arrays.without_tensors(values), dtype=np.float32))
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be an array of numbers; found a {type(values).__name__} ({error})") from None


def _shaped(name: str, values: Any, shape: tuple[int, ...]) -> Tensor:
    numbers = _numbers(name, values)
    if tuple(numbers.shape) != shape:
        raise InputError(f"{name} must be {shape}, one row per frame of pose; found {tuple(numbers.shape)}")
    return numbers


def _boxes(boxes: Tensor) -> Tensor:
    wrong = ~boxes.isfinite().all(1) | (boxes[:, 2:] < boxes[:, :2]).any(1)
    if wrong.any():
        row = int(wrong.int().argmax())
        raise InputError(
            f"hand_boxes must be finite x0, y0, x1, y1 with x0 <= x1 and y0 <= y1; row {row} is {boxes[row].tolist()}. "
            "Leave out frames without a hand, and number the others with frames"
        )
    if bool((boxes.abs() <= 1).all()) and bool((boxes[:, 2:] > boxes[:, :2]).any()):
        raise InputError(
            f"hand_boxes must be x0, y0, x1, y1 in px; all numbers lie within [-1, 1], such as {boxes[0].tolist()}. "
            "Multiply shares of the image by its width and height"
        )
    return boxes


def _frame_numbers(frames: Any, count: int) -> Tensor:
    if frames is None:
        return torch.arange(count)
    array = np.asarray(frames.detach().cpu() if isinstance(frames, Tensor) else frames)
    if array.dtype == object and all(isinstance(number, int) for number in array.flat):
        array = array.astype(np.int64)  # as pandas holds them
    if array.shape != (count,) or array.dtype.kind not in "iu":
        raise InputError(f"frames must be {count} integers; found {array.dtype} {array.shape}")
    numbers = torch.from_numpy(array.astype(np.int64))
    if (numbers[1:].long() <= numbers[:-1].long()).any():
        raise InputError("frames must ascend, each number once: sort the clip by frame and filter each clip by itself")
    return numbers.long()


def _size(image_size: tuple[int, int]) -> tuple[int, int]:
    try:
        width, height = (int(side) for side in image_size)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"image_size must be (width, height) in px; found {image_size!r}") from None
    if width < 1 or height < 1:
        raise InputError(f"image_size must be (width, height) in px; found {image_size!r}")
    return width, height
