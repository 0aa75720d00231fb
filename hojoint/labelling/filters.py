"""Pseudo-label filters: which predicted frames are trusted enough to train on (Sec. 5.1.1, 5.1.2; readings A11-A20).

Each rule is a pure function of a clip's predictions that gives one number per frame, NaN where a frame cannot be
judged; the thresholds are settings, a NaN never passes, and ``verdicts`` names the first rule that a frame broke. A
prediction that is not finite, or whose camera did not fit, is never kept, whichever rules are enabled. The rules are
order-free: a rule's score does not depend on which other rules rejected the frame, with two exceptions that are part of
their definition: the shape of the hand is learnt from frames that pass all other rules, and the optional
``neighbour: valid`` compares with frames that pass the spatial ones. What is not finite is nobody's neighbour.

| rule | score | unit | passes |
|---|---|---|---|
| box_iou | box of the projected mesh against the given hand box | IoU | >= min_box_iou |
| reprojection | 2D joints against projected 3D joints; infinite where the camera did not fit | box sides | <= |
| bone_length | shortest bone against a reference length | ratio | >= min_bone_length |
| joint_angle | how far the worst finger joint bends outside its range | degrees | <= angle_tolerance_deg |
| joint_step | 2D joints against the neighbouring frame | box sides | <= |
| pose_step | joint rotations against the neighbouring frame | rad^2 | <= |
| shape_spread | hand shape against the clip's | sigmas | <= |

Nothing here knows videos, files or Ray.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

import torch
from torch import Tensor

from hojoint import geometry
from hojoint.config import FilterConfig, Rule
from hojoint.hand.layer import HandLayer
from hojoint.labelling import camera as cameras
from hojoint.labelling import spatial_rules, temporal_rules
from hojoint.records import HandPrediction

# T frames.

RULES: tuple[Rule, ...] = get_args(Rule)  # in the order of the verdicts
SPATIAL_RULES = RULES[:4]
KEPT = "kept"
THRESHOLDS: dict[str, str] = {
    "box_iou": "min_box_iou",
    "reprojection": "max_reprojection",
    "bone_length": "min_bone_length",
    "joint_angle": "angle_tolerance_deg",
    "joint_step": "max_joint_step",
    "pose_step": "max_pose_step",
    "shape_spread": "shape_sigmas",
}
"""The setting of FilterConfig that each rule's score is held against."""
HIGHER_IS_BETTER: frozenset[str] = frozenset({"box_iou", "bone_length"})


def scores(
    prediction: HandPrediction,
    camera_T3: Tensor,
    hand_boxes_T4: Tensor,
    frames_T: Tensor,
    *,
    size: tuple[int, int],
    axes_F33: Tensor,
    config: FilterConfig,
) -> dict[str, Tensor]:  # fmt: skip
    """One score per rule and frame.

    Args:
        prediction: of one clip.
        camera_T3: from ``camera.fit``.
        hand_boxes_T4: given hand boxes, px of the true image; clipped to it here.
        frames_T: ascending frame numbers.
        size: width and height of the image, px.
        axes_F33: from ``spatial_rules.finger_axes``.
        config: readings, and the thresholds that decide which frames teach the hand's shape.
    """
    boxes_T4 = geometry.clip_box(hand_boxes_T4, *size)
    vertices_px = cameras.project(prediction.vertices, camera_T3, flipped=prediction.flipped)
    projected = cameras.project(prediction.joints, camera_T3, flipped=prediction.flipped)
    if config.joint_angle == "flexion":
        angles = spatial_rules.flexion_deg(prediction.rotations, axes_F33)
    else:
        angles = spatial_rules.bone_angle_deg(prediction.joints)
    spatial = {
        "box_iou": spatial_rules.box_iou(vertices_px, boxes_T4, size),
        "reprojection": spatial_rules.reprojection(
            prediction.joints_px, projected, camera_T3[:, 0], boxes_T4, norm=config.reprojection_norm
        ),
        "bone_length": spatial_rules.bone_length(prediction.joints, reference=config.bone_reference),
        "joint_angle": spatial_rules.angle_excess_deg(angles, config.min_angle_deg, config.max_angle_deg),
    }
    return with_temporal(
        spatial,
        joints_px_TJ2=prediction.joints_px,
        rotations_T1633=prediction.rotations,
        pose_T48=prediction.pose,
        betas_T10=prediction.betas,
        boxes_T4=boxes_T4,
        frames_T=frames_T,
        config=config,
    )


def with_temporal(
    spatial: Mapping[str, Tensor],
    *,
    joints_px_TJ2: Tensor,
    rotations_T1633: Tensor,
    pose_T48: Tensor,
    betas_T10: Tensor,
    boxes_T4: Tensor,
    frames_T: Tensor,
    config: FilterConfig,
) -> dict[str, Tensor]:  # fmt: skip
    """All scores from the spatial ones and what a table of predictions holds: no network, no hand model."""
    frames_T = frames_T.to(joints_px_TJ2.device)
    valid_T = _finite(joints_px_TJ2, pose_T48, betas_T10)  # no step leads from or to what is not a number
    if config.neighbour == "valid":
        valid_T = valid_T & _all_passed(passed(spatial, config), config, SPATIAL_RULES)
    found = dict(spatial)
    found["joint_step"] = temporal_rules.joint_step(joints_px_TJ2, boxes_T4, frames_T, valid_T)
    found["pose_step"] = temporal_rules.pose_step(
        rotations_T1633, pose_T48, frames_T, valid_T, reading=config.pose_step
    )  # fmt: skip
    confident_T = _all_passed(passed(found, config), config, RULES[:-1])
    found["shape_spread"] = temporal_rules.shape_spread(
        betas_T10, confident_T, rule=config.shape_rule, min_frames=config.shape_min_frames
    )
    return found


def passed(scores: Mapping[str, Tensor], config: FilterConfig) -> dict[str, Tensor]:
    """(T,) per rule, whatever rules are enabled; thresholds themselves pass, NaN does not."""
    limits = {rule: getattr(config, setting) for rule, setting in THRESHOLDS.items()}
    return {
        rule: score >= limits[rule] if rule in HIGHER_IS_BETTER else score <= limits[rule]
        for rule, score in scores.items()
    }


def sound(
    joints_px_TJ2: Tensor, pose_T48: Tensor, betas_T10: Tensor, camera_T3: Tensor, config: FilterConfig
) -> Tensor:  # fmt: skip
    """(T,) whether a prediction may be kept at all, by what a table of predictions holds of it.

    It must be numbers throughout, and its camera must not mirror it or have failed (scale <= 0; reading A11), which
    the reprojection rule says itself where it judges.
    """
    finite_T = _finite(joints_px_TJ2, pose_T48, betas_T10)
    if "reprojection" in config.enabled:
        return finite_T
    return finite_T & _finite(camera_T3) & (camera_T3[:, 0] > 0)


def verdicts(
    scores: Mapping[str, Tensor], config: FilterConfig, sound_T: Tensor | None = None
) -> tuple[str, ...]:  # fmt: skip
    """One word per frame: 'kept', or the first enabled rule it broke in the order of ``RULES``.

    Frames that are False in ``sound_T`` (nothing: all are sound) are rejected whatever is enabled, under the first
    rule of all: a hand that is not finite has no box, and one that the camera does not see lies in none.
    """
    passes = passed(scores, config)
    broken = {rule: (~passes[rule]).tolist() for rule in RULES if rule in config.enabled}
    count = len(next(iter(scores.values())))
    words = [next((rule for rule, faults in broken.items() if faults[row]), KEPT) for row in range(count)]
    whole = [True] * count if sound_T is None else sound_T.tolist()
    return tuple(word if good else RULES[0] for word, good in zip(words, whole, strict=True))


def judged(
    prediction: HandPrediction,
    hand_boxes_T4: Tensor,
    frames_T: Tensor,
    *,
    size: tuple[int, int],
    axes_F33: Tensor,
    config: FilterConfig,
) -> tuple[Tensor, dict[str, Tensor], tuple[str, ...]]:
    """Camera (T, 3), scores and verdicts of one clip; arguments as for ``scores``."""
    camera_T3 = cameras.fit(prediction)
    judged_by = scores(
        prediction, camera_T3, hand_boxes_T4, frames_T, size=size, axes_F33=axes_F33, config=config
    )  # fmt: skip
    sound_T = sound(prediction.joints_px, prediction.pose, prediction.betas, camera_T3, config)
    return camera_T3, judged_by, verdicts(judged_by, config, sound_T)


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
    everything = torch.ones_like(next(iter(passes.values())))
    return torch.stack([everything, *judges]).all(0)
