"""Pseudo-label filters: which predicted frames are trusted enough to train on (Sec. 5.1.1, 5.1.2; readings A11-A20).

Each rule is a pure function of a clip's predictions that returns one number per frame, NaN where a frame cannot be
judged; the thresholds are settings, a NaN never passes, and ``verdicts`` names the first rule that a frame broke. A
prediction that is not finite, or whose camera did not fit, is never kept, whichever rules are enabled. The rules are
order-free: a rule's score does not depend on which other rules rejected the frame, with two exceptions that are part of
their definition: the clip's betas are learnt from frames that pass all other rules, and the optional
``neighbour: valid`` compares with frames that pass the spatial ones. A prediction that is not finite is no neighbour.

| rule | score | unit | passes |
|---|---|---|---|
| box_iou | box of the projected mesh against the given hand box | IoU | >= min_box_iou |
| reprojection | 2D joints against projected 3D joints; infinite where the camera did not fit | box sides | <= |
| bone_length | shortest bone against a reference length | ratio | >= min_bone_length |
| joint_angle | how far the worst finger joint bends outside its range | degrees | <= angle_tolerance_deg |
| joint_step | 2D joints against the neighbouring frame | box sides | <= |
| pose_step | joint rotations against the neighbouring frame | rad^2 | <= |
| shape_spread | betas against the clip's | sigmas | <= |
| view_spread | 2D joints of the test-time views against their mean; ours | box sides | <= |
| side | confidence in the clip's side, one number for all its frames; ours | probability | >= min_side_confidence |

With ``mode=quality`` one number decides instead, the chance of being correct by all scores (``quality``); of the
rules only ``view_spread`` and ``side`` still judge, where they are enabled. Not here: videos, files, Ray.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hojoint import geometry
from hojoint.config import HIGHER_IS_BETTER, THRESHOLDS, FilterConfig
from hojoint.hand.layer import HandLayer
from hojoint.labelling import camera as cameras
from hojoint.labelling import quality as qualities
from hojoint.labelling import spatial_rules, temporal_rules
from hojoint.labelling.quality import QualityModel
from hojoint.labelling.reasons import KEPT, QUALITY, RULES, SPATIAL_RULES, judging
from hojoint.records import HandPrediction


@dataclass(frozen=True, eq=False)
class Judgement:
    """How a clip's T frames are judged."""

    camera: Tensor  # (T, 3) s px/m; t px
    scores: dict[str, Tensor]  # rule -> (T,)
    quality: Tensor | None  # (T,) chance of being correct; None where no model tells
    verdicts: tuple[str, ...]  # (T,) KEPT or one of REASONS


def scores(
    prediction: HandPrediction,
    camera: Tensor,
    hand_boxes: Tensor,
    frames: Tensor,
    *,
    size: tuple[int, int],
    axes: Tensor,
    config: FilterConfig,
    side: Tensor | None = None,
) -> dict[str, Tensor]:  # fmt: skip
    """Rule to its scores (T,) of a clip's frames (Sec. 5.1.1, 5.1.2); order and units as in the table above.

    Args:
        prediction: of one clip of T frames.
        camera: (T, 3) from ``camera.fit``.
        hand_boxes: (T, 4) given hand boxes, xyxy px of the true image; clipped to it here.
        frames: (T,) ascending frame numbers.
        size: width and height of the image, px.
        axes: (15, 3, 3) from ``spatial_rules.finger_axes``.
        config: readings, and the thresholds that decide which frames teach the clip's betas.
        side: (T,) confidence that the clip's side is the predicted one; None where nothing tells, which scores NaN.
    """
    boxes_T4 = geometry.clip_box(hand_boxes, *size)
    return with_temporal(
        _spatial(prediction, camera, boxes_T4, size, axes, config),
        joints_px=prediction.joints_px,
        rotations=prediction.rotations,
        pose=prediction.pose,
        betas=prediction.betas,
        boxes=boxes_T4,
        frames=frames,
        config=config,
        joints_spread_px=prediction.joints_spread_px,
        side=side,
    )


def _spatial(
    prediction: HandPrediction,
    camera: Tensor,
    boxes: Tensor,
    size: tuple[int, int],
    axes: Tensor,
    config: FilterConfig,
) -> dict[str, Tensor]:
    vertices_px = cameras.project(prediction.vertices, camera, flipped=prediction.flipped)
    projected = cameras.project(prediction.joints, camera, flipped=prediction.flipped)
    if config.joint_angle == "flexion":
        angles = spatial_rules.flexion_deg(prediction.rotations, axes)
    else:
        angles = spatial_rules.bone_angle_deg(prediction.joints)
    return {
        "box_iou": spatial_rules.box_iou(vertices_px, boxes, size),
        "reprojection": spatial_rules.reprojection(
            prediction.joints_px, projected, camera[:, 0], boxes, norm=config.reprojection_norm
        ),
        "bone_length": spatial_rules.bone_length(prediction.joints, reference=config.bone_reference),
        "joint_angle": spatial_rules.angle_excess_deg(angles, config.min_angle_deg, config.max_angle_deg),
    }


def with_temporal(
    spatial: Mapping[str, Tensor],
    *,
    joints_px: Tensor,
    rotations: Tensor,
    pose: Tensor,
    betas: Tensor,
    boxes: Tensor,
    frames: Tensor,
    config: FilterConfig,
    joints_spread_px: Tensor | None = None,
    side: Tensor | None = None,
) -> dict[str, Tensor]:  # fmt: skip
    """All scores from the spatial ones and what a table of predictions holds: no network, no hand model.

    Args:
        spatial: each rule of ``SPATIAL_RULES`` to its scores (T,).
        joints_px: (T, 21, 2) px of the true image.
        rotations: (T, 16, 3, 3) joint rotations, root first.
        pose: (T, 48) rad, the same as axis-angle.
        betas: (T, 10).
        boxes: (T, 4) hand boxes, xyxy px, clipped to the image.
        frames: (T,) ascending frame numbers.
        config: readings and thresholds.
        joints_spread_px: (T,) RMS distance of the views' joints from their mean, px; None scores NaN.
        side: (T,) as in ``scores``.
    """
    frames = frames.to(joints_px.device)
    valid_T = _finite(joints_px, pose, betas)  # no step leads from or to what is not a number
    if config.neighbour == "valid":
        valid_T = valid_T & _all_passed(passed(spatial, config), config, SPATIAL_RULES)
    scores = dict(spatial)
    scores["joint_step"] = temporal_rules.joint_step(joints_px, boxes, frames, valid_T)
    scores["pose_step"] = temporal_rules.pose_step(rotations, pose, frames, valid_T, reading=config.pose_step)
    unknown_T = torch.full_like(scores["joint_step"], torch.nan)
    ours = {
        "view_spread": unknown_T if joints_spread_px is None else joints_spread_px / spatial_rules.larger_side(boxes),
        "side": unknown_T if side is None else side,
    }
    confident_T = _all_passed(passed(scores | ours, config), config, [rule for rule in RULES if rule != "shape_spread"])
    scores["shape_spread"] = temporal_rules.shape_spread(
        betas, confident_T, rule=config.shape_rule, min_frames=config.shape_min_frames
    )
    return scores | ours


def passed(scores: Mapping[str, Tensor], config: FilterConfig) -> dict[str, Tensor]:
    """Whether each frame passes each rule, (T,) bool per rule; a score on the threshold passes, NaN does not.

    Which rules are enabled does not matter here.
    """
    limits = {rule: getattr(config, setting) for rule, setting in THRESHOLDS.items()}
    return {
        rule: score >= limits[rule] if rule in HIGHER_IS_BETTER else score <= limits[rule]
        for rule, score in scores.items()
    }


def sound(
    joints_px: Tensor, pose: Tensor, betas: Tensor, camera: Tensor, config: FilterConfig
) -> Tensor:  # fmt: skip
    """Whether a prediction may be kept at all, (T,) bool, by what a table of predictions holds of it.

    All its numbers must be finite, and its camera must not mirror it or have failed (s <= 0; reading A11). The
    reprojection rule, where it judges, checks the camera itself.

    Args:
        joints_px: (T, 21, 2) px.
        pose: (T, 48) rad.
        betas: (T, 10).
        camera: (T, 3) s, tx, ty.
        config: which rules are enabled.
    """
    finite_T = _finite(joints_px, pose, betas)
    if "reprojection" in judging(config):
        return finite_T
    return finite_T & _finite(camera) & (camera[:, 0] > 0)


def verdicts(
    scores: Mapping[str, Tensor], config: FilterConfig, sound: Tensor | None = None, quality: Tensor | None = None
) -> tuple[str, ...]:  # fmt: skip
    """One word per frame: 'kept', or the first judging rule it broke in the order of ``RULES``; last of all 'quality'.

    Args:
        scores: rule to its scores (T,).
        config: thresholds, and what decides.
        sound: (T,) bool from ``sound``; None means all True. A False frame is rejected whatever is enabled, under
            ``box_iou``: a hand that is not finite has no box, and one that the camera does not see lies in none.
        quality: (T,) chances of being correct, compared with ``filters.min_quality`` where ``filters.mode=quality``.

    Raises:
        InputError: ``filters.mode=quality`` without ``quality``.
    """
    passes = passed(scores, config)
    broken: dict[str, list[bool]] = {rule: (~passes[rule]).tolist() for rule in judging(config)}
    if config.mode == "quality":
        if quality is None:
            raise qualities.without_model()
        broken[QUALITY] = (~(quality >= config.min_quality)).tolist()
    count = len(next(iter(scores.values())))
    words = [next((reason for reason, faults in broken.items() if faults[row]), KEPT) for row in range(count)]
    usable = [True] * count if sound is None else sound.tolist()
    return tuple(word if good else RULES[0] for word, good in zip(words, usable, strict=True))


def judged(
    prediction: HandPrediction,
    hand_boxes: Tensor,
    frames: Tensor,
    *,
    size: tuple[int, int],
    axes: Tensor,
    config: FilterConfig,
    side: Tensor | None = None,
    model: QualityModel | None = None,
) -> Judgement:
    """Camera, scores, quality and verdicts of one clip; arguments as for ``scores``.

    Raises:
        InputError: ``filters.mode=quality`` without a model.
    """
    camera_T3 = cameras.fit(prediction)
    clip_scores = scores(
        prediction, camera_T3, hand_boxes, frames, size=size, axes=axes, config=config, side=side
    )  # fmt: skip
    sound_T = sound(prediction.joints_px, prediction.pose, prediction.betas, camera_T3, config)
    quality_T = None if model is None else quality_of(clip_scores, prediction.rotation_spread, sound_T, model)
    return Judgement(camera_T3, clip_scores, quality_T, verdicts(clip_scores, config, sound_T, quality_T))


def quality_of(
    scores: Mapping[str, Tensor], rotation_spread: Tensor, sound: Tensor, model: QualityModel
) -> Tensor:  # fmt: skip
    """(T,) float32 chances of being correct by a model; 0 where a prediction is not ``sound``."""
    chances = torch.from_numpy(model.quality(qualities.inputs_of(scores, rotation_spread))).float()
    return torch.where(sound.cpu(), chances, 0.0)


def axes_of(layer: HandLayer, device: torch.device | str) -> Tensor:
    """Anatomical axes (15, 3, 3) of the finger joints of the layer's hand, on the CPU."""
    flat = torch.eye(3, device=device).expand(1, 16, 3, 3)
    rest = layer.from_rotations(flat, torch.zeros(1, 10, device=device))
    return spatial_rules.finger_axes(rest.joints[0].float().cpu())


def _finite(*parts: Tensor) -> Tensor:
    """(T,) whether all numbers of all parts (T, ...) are finite."""
    return torch.stack([part.isfinite().flatten(1).all(1) for part in parts]).all(0)


def _all_passed(passes: Mapping[str, Tensor], config: FilterConfig, rules: Sequence[str]) -> Tensor:
    judges = [passes[rule] for rule in rules if rule in config.enabled]
    every_frame = torch.ones_like(next(iter(passes.values())))
    return torch.stack([every_frame, *judges]).all(0)
