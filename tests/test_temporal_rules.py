"""The temporal rules on cases worked by hand: one and two frames, gaps, pi, outliers among the betas."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from exact_hand import CONFIG, hand, scored
from torch import Tensor

from hojoint import geometry
from hojoint.config import FilterConfig
from hojoint.labelling import filters, temporal_rules


def everyone(count: int) -> Tensor:
    return torch.ones(count, dtype=torch.bool)


def test_a_joint_that_leaps_for_one_frame_is_two_steps() -> None:
    joints = torch.zeros(5, 21, 2)
    joints[2, 0, 0] = 60.0
    boxes = torch.tensor([[0.0, 0, 100, 80]]).expand(5, 4)
    steps = temporal_rules.joint_step(joints, boxes, torch.arange(5), everyone(5))
    torch.testing.assert_close(steps, torch.tensor([0, 0, 0.6, 0.6, 0]))


def test_a_moving_hand_is_measured_in_the_box_of_its_frame() -> None:
    joints = torch.zeros(2, 21, 2)
    joints[1, :, 0] = 10.0
    boxes = torch.tensor([[0.0, 0, 50, 80], [10.0, 0, 60, 160]])
    steps = temporal_rules.joint_step(joints, boxes, torch.arange(2), everyone(2))
    torch.testing.assert_close(steps, 10 * math.sqrt(21) / torch.tensor([80.0, 160.0]))


def test_the_neighbour_is_the_frame_before_else_the_one_after() -> None:
    frames = torch.tensor([3, 4, 6, 9, 10, 11])
    row, has = temporal_rules.neighbours(frames, everyone(6))
    assert has.tolist() == [True, True, False, True, True, True]
    assert row[has].tolist() == [1, 0, 4, 3, 4]


def test_a_single_frame_is_rejected_as_joint_step(layer: Any, axes: Tensor) -> None:
    scores = scored(*hand(layer, torch.zeros(1, 48)), axes)
    assert scores["joint_step"].isnan().all()
    assert scores["pose_step"].isnan().all()
    assert filters.verdicts(scores, CONFIG) == ("joint_step",)


def test_two_frames_judge_each_other_alike(layer: Any, axes: Tensor) -> None:
    pose = torch.zeros(2, 48)
    pose[1, 7] = 0.5
    scores = scored(*hand(layer, pose), axes)
    torch.testing.assert_close(scores["pose_step"], torch.full((2,), 0.25 / 48))
    assert filters.verdicts(scores, CONFIG) == ("kept", "kept")


def test_a_frame_after_a_gap_has_no_neighbour(layer: Any, axes: Tensor) -> None:
    scores = scored(*hand(layer, torch.zeros(3, 48)), axes, frames=[0, 1, 3])
    assert filters.verdicts(scores, CONFIG) == ("kept", "kept", "joint_step")


def test_a_turn_across_pi_is_a_small_step(layer: Any) -> None:
    pose = torch.zeros(2, 48)
    pose[0, 0], pose[1, 0] = math.pi - 0.1, -math.pi + 0.1
    rotations = geometry.axis_angle_to_matrix(pose.reshape(2, 16, 3))
    frames = torch.arange(2)
    smooth = temporal_rules.pose_step(rotations, pose, frames, everyone(2), reading="mean_square")
    literal = temporal_rules.pose_step(rotations, pose, frames, everyone(2), reading="literal")
    torch.testing.assert_close(smooth, torch.full((2,), 0.04 / 48), atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(literal, torch.full((2,), 2 * math.pi - 0.2))


def test_the_step_of_small_turns_is_the_mean_square_difference() -> None:
    torch.manual_seed(2)
    pose = torch.stack([torch.zeros(48), 1e-2 * torch.randn(48)]).double()
    rotations = geometry.axis_angle_to_matrix(pose.reshape(2, 16, 3))
    step = temporal_rules.pose_step(rotations, pose, torch.arange(2), everyone(2), reading="mean_square")
    torch.testing.assert_close(step[1], torch.nn.functional.mse_loss(pose[1], pose[0]), rtol=1e-6, atol=0)


def test_a_valid_neighbour_must_have_passed_the_spatial_rules(layer: Any, axes: Tensor) -> None:
    prediction, boxes = hand(layer, torch.zeros(5, 48))
    boxes[2] += 300  # far from its mesh
    strict = FilterConfig(neighbour="valid")
    assert filters.verdicts(scored(prediction, boxes, axes), CONFIG) == ("kept", "kept", "box_iou", "kept", "kept")
    scores = scored(prediction, boxes, axes, strict)
    assert not scores["pose_step"].isnan().any()  # frame 3 turns to frame 4
    boxes[4] += 300
    scores = scored(prediction, boxes, axes, strict)
    assert scores["pose_step"].isnan().tolist() == [False, False, False, True, False]
    assert filters.verdicts(scores, strict) == ("kept", "kept", "box_iou", "joint_step", "box_iou")


def test_five_frames_can_never_exceed_two_sigma_and_six_can() -> None:
    for count in (2, 3, 4, 5, 6):
        betas = torch.zeros(count, 10)
        betas[-1, 0] = 1000.0
        spread = temporal_rules.shape_spread(betas, everyone(count), rule="sigma", min_frames=1)
        assert spread.max().item() == pytest.approx(math.sqrt(count - 1), rel=1e-4)  # Samuelson's bound is met
        assert (spread > 2).any().item() is (count == 6)


def test_with_few_confident_frames_no_betas_are_doubted() -> None:
    betas = torch.zeros(7, 10)
    betas[6] = 5.0
    confident = torch.tensor([True] * 5 + [False] * 2)
    assert not temporal_rules.shape_spread(betas, confident, rule="sigma", min_frames=6).any()
    assert temporal_rules.shape_spread(betas, confident, rule="sigma", min_frames=5)[6] > 2


def test_the_sigma_is_that_of_the_confident_frames_alone() -> None:
    torch.manual_seed(3)
    betas, confident = torch.randn(12, 10), torch.arange(12) < 9
    spread = temporal_rules.shape_spread(betas, confident, rule="sigma", min_frames=6).numpy()
    values = betas.numpy().astype(np.float64)
    mean = values[:9].mean(0)
    sigma = math.sqrt(((values[:9] - mean) ** 2).sum(1).mean())
    np.testing.assert_allclose(spread, np.linalg.norm(values - mean, axis=1) / sigma, rtol=1e-5)


def test_equal_betas_do_not_deviate_and_others_do() -> None:
    betas = torch.full((8, 10), 0.3)
    betas[7, 0] = 0.9
    confident = torch.arange(8) < 7
    for rule in ("sigma", "mad"):
        spread = temporal_rules.shape_spread(betas, confident, rule=rule, min_frames=6)
        assert not spread[:7].any()
        assert spread[7] > 2


def test_one_outlier_hides_in_the_sigma_and_not_in_the_median() -> None:
    torch.manual_seed(4)
    betas = 0.01 * torch.randn(6, 10)
    betas[0] = 3.0
    both = {r: temporal_rules.shape_spread(betas, everyone(6), rule=r, min_frames=6)[0] for r in ("sigma", "mad")}
    assert both["sigma"] < 2.3
    assert both["mad"] > 50


def test_frames_that_other_rules_reject_do_not_teach_betas(layer: Any, axes: Tensor) -> None:
    betas = torch.zeros(9, 10)
    betas[8] = 2.0
    prediction, boxes = hand(layer, torch.zeros(9, 48), betas)
    boxes[8] = torch.tensor([0.0, 0.0, 30.0, 30.0])  # far away: box_iou
    scores = scored(prediction, boxes, axes)
    assert not scores["shape_spread"][:8].any()
    assert scores["shape_spread"][8] > 2


@pytest.mark.parametrize("rule", ["sigma", "mad"])
def test_betas_that_are_not_finite_have_no_spread(rule: Any) -> None:
    torch.manual_seed(6)
    betas = torch.randn(9, 10)
    alone = temporal_rules.shape_spread(betas[:8], everyone(8), rule=rule, min_frames=6)
    betas[8, 2] = torch.nan
    spread = temporal_rules.shape_spread(betas, everyone(9), rule=rule, min_frames=6)
    torch.testing.assert_close(spread[:8], alone)
    few = temporal_rules.shape_spread(betas, everyone(9), rule=rule, min_frames=9)
    assert few[:8].tolist() == [0.0] * 8  # eight finite ones are fewer than nine
    assert spread[8].isnan()
    assert few[8].isnan()


def test_boxes_at_a_regular_larger_step_have_neighbours():
    every = torch.ones(8, dtype=torch.bool)
    second = torch.arange(0, 16, 2)
    assert temporal_rules.neighbours(second, every)[1].all()
    of_thirty = torch.tensor([1, 3, 6, 8, 11, 13, 16, 18])  # 12 boxes a second in a video of 30 pictures
    rows, has = temporal_rules.neighbours(of_thirty, every)
    assert rows.tolist() == [1, 0, 1, 2, 3, 4, 5, 6]
    assert has.all()
    with_gap = torch.tensor([0, 2, 4, 6, 20, 22, 24, 26])
    assert temporal_rules.neighbours(with_gap, every)[0].tolist() == [1, 0, 1, 2, 5, 4, 5, 6]


@pytest.mark.parametrize("frames", [[0, 12], [0, 5, 30, 31, 50], [0, 1, 2, 3, 5, 7, 9, 10], [3, 5, 7, 9]])
def test_a_hand_seen_now_and_then_has_a_step_of_one(frames):
    assert temporal_rules.step_of(torch.tensor(frames)) == 1
