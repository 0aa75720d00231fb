"""Scores become verdicts: thresholds, the order of the rules, predictions that may never be kept."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from exact_hand import CONFIG, SIZE, hand, scored
from torch import Tensor

from hojoint.config import PAPER_RULES, ConfigError, FilterConfig, from_tree
from hojoint.errors import InputError
from hojoint.labelling import camera, filters, reasons
from hojoint.records import HandPrediction


def test_a_perfect_flat_hand_scores_perfectly_in_every_rule(layer: Any, axes: Tensor) -> None:
    scores = scored(*hand(layer, torch.zeros(8, 48)), axes)
    assert list(scores) == list(reasons.RULES)
    torch.testing.assert_close(scores["box_iou"], torch.ones(8))
    for rule in ("reprojection", "joint_step", "pose_step", "shape_spread"):
        torch.testing.assert_close(scores[rule], torch.zeros(8), atol=1e-5, rtol=0)
    assert filters.verdicts(scores, CONFIG) == ("kept",) * 8


def at_thresholds() -> dict[str, Tensor]:
    c = CONFIG
    values = (
        c.min_box_iou, c.max_reprojection, c.min_bone_length, c.angle_tolerance_deg, c.max_joint_step, c.max_pose_step,
        c.shape_sigmas, c.max_view_spread, c.min_side_confidence,
    )  # fmt: skip
    return {rule: torch.tensor([value], dtype=torch.float64) for rule, value in zip(reasons.RULES, values, strict=True)}


ALL = FilterConfig(enabled=reasons.RULES)


def test_a_score_on_every_threshold_is_kept() -> None:
    assert filters.verdicts(at_thresholds(), ALL) == ("kept",)


@pytest.mark.parametrize("rule", reasons.RULES)
@pytest.mark.parametrize("fault", ["beyond", "nan"])
def test_a_score_beyond_its_threshold_or_nan_breaks_the_rule(rule: str, fault: str) -> None:
    scores = at_thresholds()
    sign = -1 if rule in ("box_iou", "bone_length", "side") else 1
    scores[rule] = scores[rule] * (1 + sign * 1e-9) if fault == "beyond" else scores[rule] * torch.nan
    assert filters.verdicts(scores, ALL) == (rule,)
    others = FilterConfig(enabled=tuple(r for r in reasons.RULES if r != rule))
    assert filters.verdicts(scores, others) == ("kept",)


def test_the_verdict_is_the_first_broken_rule_in_order() -> None:
    broken = {rule: torch.full((1,), torch.nan) for rule in reversed(reasons.RULES)}
    assert filters.verdicts(broken, CONFIG) == ("box_iou",)
    assert filters.verdicts(broken, FilterConfig(enabled=("shape_spread", "joint_angle"))) == ("joint_angle",)
    assert filters.verdicts(broken, FilterConfig(enabled=())) == ("kept",)


def test_an_unknown_rule_in_the_settings_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"filters\.enabled.*iou"):
        from_tree({"filters": {"enabled": ["iou"]}})


def test_scores_do_not_depend_on_which_other_rules_judge(layer: Any, axes: Tensor) -> None:
    torch.manual_seed(5)
    prediction, boxes = hand(layer, 0.3 * torch.randn(10, 48), 0.1 * torch.randn(10, 10))
    boxes = boxes + 10 * torch.randn(10, 4)
    base = scored(prediction, boxes, axes)
    free = [rule for rule in reasons.RULES if rule != "shape_spread"]  # that one learns from what others keep
    for rule in free:
        scores = scored(prediction, boxes, axes, FilterConfig(enabled=(rule,)))
        for other in free:
            torch.testing.assert_close(scores[other], base[other], equal_nan=True, rtol=0, atol=0)


def test_a_hand_that_is_not_finite_is_no_neighbour(layer: Any, axes: Tensor) -> None:
    prediction, boxes = hand(layer, torch.zeros(8, 48))
    broken = {
        field.name: getattr(prediction, field.name).clone()
        for field in dataclasses.fields(prediction)
        if isinstance(getattr(prediction, field.name), Tensor)
    }
    for value in broken.values():
        value[4] = torch.nan
    words = filters.verdicts(scored(HandPrediction(**broken, flipped=False), boxes, axes), CONFIG)
    assert words == ("kept",) * 4 + ("box_iou", "kept", "kept", "kept")  # frame 5 turns to frame 6
    last = HandPrediction(**{name: value[:6] for name, value in broken.items()}, flipped=False)
    assert filters.verdicts(scored(last, boxes[:6], axes), CONFIG)[5] == "joint_step"  # it has none to turn to


@pytest.mark.parametrize("part", ["joints_px", "pose", "betas"])
@pytest.mark.parametrize("enabled", [(), ("shape_spread",), ("joint_angle", "shape_spread")])
def test_a_prediction_that_is_not_finite_is_never_kept(layer: Any, axes: Tensor, part: str, enabled: Any) -> None:
    prediction, boxes = hand(layer, torch.zeros(8, 48))
    broken = getattr(prediction, part).clone()
    broken[4, 3] = torch.nan
    prediction = dataclasses.replace(prediction, **{part: broken})
    config = FilterConfig(enabled=enabled)
    fitted = camera.fit(hand(layer, torch.zeros(8, 48))[0])
    sound = filters.sound(prediction.joints_px, prediction.pose, prediction.betas, fitted, config)
    assert sound.tolist() == [True] * 4 + [False] + [True] * 3
    words = filters.verdicts(scored(prediction, boxes, axes, config), config, sound)
    assert words == ("kept",) * 4 + ("box_iou",) + ("kept",) * 3


@pytest.mark.parametrize("scale", [0.0, -5.0, math.nan])
@pytest.mark.parametrize("enabled", [(), ("shape_spread",), PAPER_RULES])
def test_a_hand_whose_camera_did_not_fit_is_never_kept(layer: Any, axes: Tensor, scale: float, enabled: Any) -> None:
    prediction, boxes = hand(layer, torch.zeros(8, 48))
    fitted = camera.fit(prediction)
    fitted[4, 0] = scale
    config = FilterConfig(enabled=enabled)
    scores = filters.scores(
        prediction, fitted, boxes, torch.arange(8), size=SIZE, axes=axes, config=config
    )  # fmt: skip
    sound = filters.sound(prediction.joints_px, prediction.pose, prediction.betas, fitted, config)
    words = filters.verdicts(scores, config, sound)
    assert words == ("kept",) * 4 + ("box_iou",) + ("kept",) * 3


def test_the_quality_decides_alone_with_our_two_rules() -> None:
    scores = {rule: score.repeat(4) for rule, score in at_thresholds().items()}
    scores["box_iou"][0] = 0.0  # the paper's rules do not judge
    scores["side"][3] = 0.5
    chances = torch.tensor([0.9, 0.8999, torch.nan, 1.0])
    config = FilterConfig(mode="quality", min_quality=0.9, enabled=reasons.RULES)
    assert filters.verdicts(scores, config, quality=chances) == ("kept", "quality", "quality", "side")
    assert filters.verdicts(scores, FilterConfig(mode="quality"), quality=chances)[3] == "kept"
    sound = torch.tensor([False, True, True, True])
    assert filters.verdicts(scores, config, sound, chances)[0] == "box_iou"
    with pytest.raises(InputError, match=r"filters\.quality_model, which is not set"):
        filters.verdicts(scores, config)


def test_quality_does_not_keep_what_the_camera_did_not_fit(layer: Any) -> None:
    prediction, _ = hand(layer, torch.zeros(8, 48))
    fitted = camera.fit(prediction)
    fitted[4, 0] = -1.0
    config = FilterConfig(mode="quality")  # the reprojection rule is enabled, yet does not judge
    sound = filters.sound(prediction.joints_px, prediction.pose, prediction.betas, fitted, config)
    assert sound.tolist() == [True] * 4 + [False] + [True] * 3


def test_each_reason_has_a_setting_and_a_column() -> None:
    assert list(reasons.SETTINGS) == list(reasons.COLUMNS) == list(reasons.REASONS)
    assert all(name in FilterConfig.model_fields for name in reasons.SETTINGS.values())
