"""From decoded clips to pseudo-labels: prediction, camera, scores, verdicts, and which hand it is (Sec. 5.1).

The model is a right hand. A clip whose side the annotation does not give is tried both ways (reading A20): a few frames
are predicted as they are and mirrored, and one side holds for the complete clip. The network's side head decides
(``sides``); without one each frame votes for the side that fits better. Not here: videos, files, Ray.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from hojoint import geometry
from hojoint.config import FilterConfig, LabellingConfig, RefineConfig
from hojoint.labelling import camera as cameras
from hojoint.labelling import filters, refine, sides, spatial_rules
from hojoint.labelling.quality import QualityModel
from hojoint.labelling.sides import SURE, UNKNOWN, Decision
from hojoint.labelling.spatial_rules import SMALLEST_BOX_PX
from hojoint.labelling.tta import HandPredictor
from hojoint.records import Clip, Frames, HandPrediction, PseudoLabels
from hojoint.rows import evenly

NO_REFINEMENT = RefineConfig()


@dataclass(frozen=True, eq=False)
class _Work:
    """A clip as it is predicted: boxes clipped to the frame, no hand box empty."""

    clip: Clip  # boxes clipped
    frames: Frames  # the same, except that a degenerate hand box is grown to SMALLEST_BOX_PX


def label_clips(
    predictor: HandPredictor,
    clips: Sequence[Clip],
    frames: Sequence[Frames],
    *,
    filter_config: FilterConfig,
    labelling: LabellingConfig,
    teacher: str,
    quality: QualityModel | None = None,
    refine_config: RefineConfig = NO_REFINEMENT,
) -> list[PseudoLabels]:
    """Label complete clips (Sec. 5.1); views of all of them share the network's batches.

    Args:
        predictor: the teacher.
        clips: T frame numbers and boxes (T, 4) xyxy px of each clip.
        frames: their pixels (T, H, W, 3), one record per clip, in the same order and of the same length.
        filter_config, labelling: settings.
        teacher: checksum of the teacher's weights, kept with every row.
        quality: model that tells each frame's chance of being correct; needed where ``filters.mode=quality``.
        refine_config: what makes labels of kept frames; by default they are the predictions.

    Returns:
        One PseudoLabels per clip, with all T frames, kept or not; its boxes are clipped to the frame.

    Raises:
        InputError: the rule ``side`` is enabled, and nothing tells how sure the side of a clip is; or
            ``filters.mode=quality`` without a model.
    """
    works = [_work(clip, pixels) for clip, pixels in zip(clips, frames, strict=True)]
    predictions = _predictions(predictor, works, labelling, filter_config)
    axes = filters.axes_of(predictor.mano_layer, predictor.device)
    clip_labels = [
        _labels(work, prediction, confidence, axes, filter_config, teacher, quality)
        for work, (prediction, confidence) in zip(works, predictions, strict=True)
    ]
    if not refine_config.active:
        return clip_labels
    return [
        replace(label, refined=refine.refined_labels(label, predictor.mano_layer, predictor.device, refine_config))
        for label in clip_labels
    ]


def _work(clip: Clip, pixels: Frames) -> _Work:
    assert clip.clip_id == pixels.clip_id, (clip.clip_id, pixels.clip_id)
    assert len(clip.frames) == len(pixels.rgb) > 0, (clip.clip_id, len(clip.frames), len(pixels.rgb))
    height, width = pixels.rgb.shape[1:3]
    hand_boxes = geometry.clip_box(torch.from_numpy(clip.hand_boxes), width, height).numpy()
    object_boxes = geometry.clip_box(torch.from_numpy(clip.object_boxes), width, height).numpy()
    seen = np.isfinite(object_boxes).all(1) & (object_boxes[:, 2:] > object_boxes[:, :2]).all(1)
    object_boxes = np.where(seen[:, None], object_boxes, np.nan).astype(np.float32)
    return _Work(
        clip=replace(clip, hand_boxes=hand_boxes, object_boxes=object_boxes),
        frames=replace(pixels, hand_boxes=_grown(hand_boxes), object_boxes=object_boxes),
    )


def _grown(boxes: np.ndarray) -> np.ndarray:
    """Boxes too small to crop, grown about their centre; the rules reject such frames by the given box."""
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = np.maximum(boxes[:, 2:] - boxes[:, :2], SMALLEST_BOX_PX) / 2
    return np.concatenate([middle - half, middle + half], axis=1).astype(np.float32)


def _predictions(
    predictor: HandPredictor, works: Sequence[_Work], labelling: LabellingConfig, rules: FilterConfig
) -> list[tuple[HandPrediction, float]]:  # fmt: skip
    """One per clip, and the confidence in its side: the one that setting or annotation gives, else the likelier."""
    told = [work.clip.side if labelling.side == "both" else labelling.side for work in works]
    given = [index for index, side in enumerate(told) if side is not None]
    open_ = [index for index, side in enumerate(told) if side is None]
    rows = [np.arange(len(works[index].clip.frames)) for index in given]
    left = [told[index] == "left" for index in given]
    known = _predict(predictor, [works[index] for index in given], rows, left) if given else []
    if open_:
        sides.refuse_unknown(predictor.network.config, rules)
    guessed = _guessed(predictor, [works[index] for index in open_], labelling) if open_ else []
    by_clip = dict(zip([*given, *open_], [*((prediction, SURE) for prediction in known), *guessed], strict=True))
    return [by_clip[index] for index in range(len(works))]


def _guessed(
    predictor: HandPredictor, works: Sequence[_Work], labelling: LabellingConfig
) -> list[tuple[HandPrediction, float]]:  # fmt: skip
    all_rows = [np.arange(len(work.clip.frames)) for work in works]
    probes = [evenly(len(work.clip.frames), labelling.side_probe_frames) for work in works]
    both = _predict(predictor, [*works, *works], [*probes, *probes], [False] * len(works) + [True] * len(works))
    right, mirrored = both[: len(works)], both[len(works) :]
    decisions = [_decision(*clip) for clip in zip(works, probes, right, mirrored, strict=True)]
    flipped = [decision.left for decision in decisions]
    predictions = [m if left else r for r, m, left in zip(right, mirrored, flipped, strict=True)]
    # A prediction depends on (clip, frame, side) alone, so the probed frames are not predicted again.
    rest = [np.setdiff1d(rows, probe) for rows, probe in zip(all_rows, probes, strict=True)]
    unfinished = [index for index, rows in enumerate(rest) if len(rows)]
    others = _predict(
        predictor, [works[i] for i in unfinished], [rest[i] for i in unfinished], [flipped[i] for i in unfinished]
    )
    for index, other in zip(unfinished, others, strict=True):
        predictions[index] = _merged(probes[index], predictions[index], rest[index], other)
    return [(prediction, decision.confidence) for prediction, decision in zip(predictions, decisions, strict=True)]


def _predict(
    predictor: HandPredictor, works: Sequence[_Work], rows: Sequence[np.ndarray], flipped: Sequence[bool]
) -> list[HandPrediction]:  # fmt: skip
    return predictor.predict(
        [work.frames for work in works], flipped, numbers=[work.clip.frames for work in works], rows=rows
    )


def _decision(work: _Work, rows: np.ndarray, right: HandPrediction, mirrored: HandPrediction) -> Decision:
    """Whether the clip's hand is a left one, from some of its rows predicted as they are and mirrored."""
    if right.side_logit is None or mirrored.side_logit is None:
        return Decision(_is_left(work, rows, right, mirrored), UNKNOWN)
    return sides.decided(right.side_logit, mirrored.side_logit)


def _is_left(work: _Work, rows: np.ndarray, right: HandPrediction, mirrored: HandPrediction) -> bool:
    """Whether more frames have a higher IoU as a left hand; a tie goes to the lower reprojection error.

    In the synthetic world, where the sides are known, the IoU is right for three clips of four and the reprojection
    error for little more than half: a network that is wrong about the side is wrong in 2D and 3D alike.
    """
    fits = [_fit(work, rows, prediction) for prediction in (right, mirrored)]
    # A frame that cannot be judged either way does not vote; one that only one side fails votes for the other.
    iou_gain, residual_gain = (
        torch.where(a.isnan() & b.isnan(), 0.0, b.nan_to_num(-10) - a.nan_to_num(-10))
        for a, b in zip(*fits, strict=True)
    )
    votes = int((iou_gain > 0).sum()) - int((iou_gain < 0).sum())
    return votes > 0 or (votes == 0 and float(residual_gain.sum()) > 0)


def _fit(work: _Work, rows: np.ndarray, prediction: HandPrediction) -> tuple[Tensor, Tensor]:
    """IoU and negative reprojection error of each row, (T,) each."""
    camera = cameras.fit(prediction)
    boxes = torch.from_numpy(work.clip.hand_boxes[rows])
    height, width = work.frames.rgb.shape[1:3]
    vertices = cameras.project(prediction.vertices, camera, flipped=prediction.flipped)
    joints = cameras.project(prediction.joints, camera, flipped=prediction.flipped)
    iou = spatial_rules.box_iou(vertices, boxes, (width, height))
    residual = spatial_rules.reprojection(prediction.joints_px, joints, camera[:, 0], boxes, norm="stacked")
    return torch.where(residual.isfinite(), iou, torch.nan), -residual.clamp(max=10)


def _merged(first: np.ndarray, one: HandPrediction, second: np.ndarray, other: HandPrediction) -> HandPrediction:
    """Two predictions of different rows of one clip as one, rows in order."""
    order = torch.from_numpy(np.argsort(np.concatenate([first, second]), kind="stable"))
    joined = {
        field.name: torch.cat([getattr(one, field.name), getattr(other, field.name)])[order]
        for field in fields(HandPrediction)
        if isinstance(getattr(one, field.name), Tensor)
    }
    return HandPrediction(**joined, flipped=one.flipped)


def _labels(
    work: _Work,
    prediction: HandPrediction,
    confidence: float,
    axes: Tensor,
    config: FilterConfig,
    teacher: str,
    model: QualityModel | None,
) -> PseudoLabels:
    height, width = work.frames.rgb.shape[1:3]
    judgement = filters.judged(
        prediction,
        torch.from_numpy(work.clip.hand_boxes),
        torch.from_numpy(work.clip.frames.astype(np.int64)),
        size=(width, height),
        axes=axes,
        config=config,
        side=torch.full((len(work.clip.frames),), confidence),
        model=model,
    )
    return PseudoLabels(
        clip=work.clip,
        prediction=prediction,
        camera=judgement.camera,
        scores=judgement.scores,
        verdicts=judgement.verdicts,
        teacher=teacher,
        times_s=work.frames.times_s,
        footage=work.frames.footage,
        quality=judgement.quality,
    )
