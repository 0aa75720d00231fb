"""The seven rules on cases worked by hand: boundaries, one and two frames, gaps, pi, borders, degenerate hands."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import torch
from torch import Tensor

from hojoint import geometry
from hojoint.config import ConfigError, FilterConfig, ManoConfig, from_tree
from hojoint.hand.factory import hand_layer
from hojoint.labelling import camera, filters, spatial_rules, temporal_rules
from hojoint.records import HandPrediction

SIZE = (400, 240)
CONFIG = FilterConfig()


@pytest.fixture(scope="module")
def layer() -> Any:
    return hand_layer(ManoConfig())


@pytest.fixture(scope="module")
def axes(layer: Any) -> Tensor:
    return spatial_rules.finger_axes(
        layer.from_rotations(torch.eye(3).expand(1, 16, 3, 3), torch.zeros(1, 10)).joints[0]
    )


def hand(layer: Any, pose: Tensor, shape: Tensor | None = None, *, scale: float = 700.0, flipped: bool = False) -> Any:
    """A prediction that agrees with itself exactly, and its boxes: the camera of every frame is (scale, 200, 120)."""
    count = len(pose)
    shape = torch.zeros(count, 10) if shape is None else shape
    out = layer(pose, shape)
    fixed = torch.tensor([scale, 200.0, 120.0]).expand(count, 3)
    prediction = HandPrediction(
        joints_px=camera.project(out.joints, fixed, flipped=flipped),
        rotations=geometry.axis_angle_to_matrix(pose.reshape(count, 16, 3)),
        pose=pose,
        betas=shape,
        joints=out.joints,
        vertices=out.vertices,
        joints_spread_px=torch.zeros(count),
        rotation_spread=torch.zeros(count),
        flipped=flipped,
    )
    boxes = geometry.box_of_points(camera.project(out.vertices, fixed, flipped=flipped))
    return prediction, boxes


def scored(
    prediction: HandPrediction, boxes: Tensor, axes: Tensor, config: FilterConfig = CONFIG, frames: Any = None
) -> dict[str, Tensor]:
    numbers = torch.arange(len(boxes)) if frames is None else torch.tensor(frames)
    return filters.scores(
        prediction, camera.fit(prediction), boxes, numbers, size=SIZE, axes=axes, config=config
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------------ camera


@pytest.mark.parametrize("flipped", [False, True])
def test_the_closed_form_camera_is_where_an_optimiser_ends(layer: Any, flipped: bool) -> None:
    torch.manual_seed(0)
    prediction, _ = hand(layer, 0.5 * torch.randn(3, 48), flipped=flipped)
    noisy = dataclasses.replace(prediction, joints_px=prediction.joints_px + 5 * torch.randn(3, 21, 2))
    found = camera.fit(noisy)
    xy = prediction.joints[..., :2].double().numpy() * ([-1, 1] if flipped else [1, 1])
    for t in range(3):
        px = noisy.joints_px[t].double().numpy()
        best = scipy.optimize.least_squares(lambda c, t=t, px=px: (c[0] * xy[t] + c[1:] - px).ravel(), [500, 0, 0])
        np.testing.assert_allclose(found[t].numpy(), best.x, rtol=2e-4)


def test_a_left_hand_read_as_a_right_one_has_a_worse_camera(layer: Any) -> None:
    torch.manual_seed(1)
    prediction, boxes = hand(layer, 0.4 * torch.randn(2, 48), flipped=True)
    wrong = dataclasses.replace(prediction, flipped=False)

    def residual(p: HandPrediction) -> Tensor:
        projected = camera.project(p.joints, camera.fit(p), flipped=p.flipped)
        return spatial_rules.reprojection(p.joints_px, projected, camera.fit(p)[:, 0], boxes, norm="stacked")

    assert (residual(prediction) < 1e-4).all()
    assert (residual(wrong) > 0.3).all()


# ------------------------------------------------------------------------------------------------- spatial rules


def test_a_perfect_flat_hand_scores_perfectly_in_every_rule(layer: Any, axes: Tensor) -> None:
    found = scored(*hand(layer, torch.zeros(8, 48)), axes)
    assert list(found) == list(filters.RULES)
    torch.testing.assert_close(found["box_iou"], torch.ones(8))
    for rule in ("reprojection", "joint_step", "pose_step", "shape_spread"):
        torch.testing.assert_close(found[rule], torch.zeros(8), atol=1e-5, rtol=0)
    assert filters.verdicts(found, CONFIG) == ("kept",) * 8


def test_a_hand_cut_by_the_border_is_compared_inside_the_image_only() -> None:
    mesh = torch.tensor([[[-100.0, 20.0], [50.0, 80.0]]])  # box -100..50, of which 0..50 is in the image
    given = torch.tensor([[0.0, 20.0, 50.0, 80.0]])
    assert spatial_rules.box_iou(mesh, given, SIZE).item() == 1
    half = torch.tensor([[0.0, 20.0, 100.0, 80.0]])
    assert spatial_rules.box_iou(mesh, half, SIZE).item() == pytest.approx(0.5)
    beyond = torch.tensor([[[380.0, 200.0], [1e6, 1e6]]])
    assert spatial_rules.box_iou(beyond, torch.tensor([[380.0, 200.0, 400.0, 240.0]]), SIZE).item() == 1


def test_a_mesh_outside_the_image_or_not_finite_has_no_overlap() -> None:
    given = torch.tensor([[0.0, 0.0, 50.0, 50.0]])
    assert spatial_rules.box_iou(torch.tensor([[[-90.0, -90.0], [-10.0, -10.0]]]), given, SIZE).item() == 0
    assert spatial_rules.box_iou(torch.full((1, 2, 2), torch.nan), given, SIZE).isnan().all()


@pytest.mark.parametrize("box", [(10, 10, 11, 90), (10, 10, 90, 11.5), (400, 0, 400, 240), (50, 50, 40, 90)])
def test_a_degenerate_given_box_is_rejected_as_box_iou_and_nothing_else_breaks(
    layer: Any, axes: Tensor, box: tuple[float, ...]
) -> None:
    prediction, boxes = hand(layer, torch.zeros(8, 48))
    boxes[3] = torch.tensor(box)
    found = scored(prediction, boxes, axes)
    for rule in ("box_iou", "reprojection", "joint_step"):
        assert found[rule].isnan().nonzero().flatten().tolist() == [3]
    assert filters.verdicts(found, CONFIG) == ("kept",) * 3 + ("box_iou",) + ("kept",) * 4


def test_reprojection_of_one_joint_thirteen_pixels_off_in_a_box_of_twenty_is_the_printed_limit() -> None:
    px = torch.zeros(1, 21, 2)
    px[0, 4] = torch.tensor([5.0, 12.0])
    box, scale = torch.tensor([[0.0, 0.0, 20.0, 10.0]]), torch.ones(1)
    stacked = spatial_rules.reprojection(px, torch.zeros_like(px), scale, box, norm="stacked")
    mean = spatial_rules.reprojection(px, torch.zeros_like(px), scale, box, norm="mean")
    assert stacked.item() == pytest.approx(0.65)
    assert mean.item() == pytest.approx(0.65 / 21)


def test_the_printed_limit_on_the_stack_is_an_rms_of_0142_sides_per_joint() -> None:
    each = 0.65 / math.sqrt(21)
    px = torch.full((1, 21, 2), 100 * each / math.sqrt(2))
    box = torch.tensor([[0.0, 0.0, 100.0, 100.0]])
    score = spatial_rules.reprojection(px, torch.zeros_like(px), torch.ones(1), box, norm="stacked")
    assert score.item() == pytest.approx(0.65)
    assert each == pytest.approx(0.142, abs=5e-4)


def test_a_camera_that_shrinks_to_nothing_or_mirrors_is_rejected_as_reprojection(layer: Any, axes: Tensor) -> None:
    prediction, boxes = hand(layer, torch.zeros(3, 48))
    turned = 2 * prediction.joints_px.mean(1, keepdim=True) - prediction.joints_px  # point reflection: s < 0
    prediction = dataclasses.replace(prediction, joints_px=turned)
    found = scored(prediction, boxes, axes)
    assert (camera.fit(prediction)[:, 0] < 0).all()
    assert found["reprojection"].isinf().all()
    only = FilterConfig(enabled=("reprojection",))
    assert filters.verdicts(found, only) == ("reprojection",) * 3


def test_the_shortest_bone_is_measured_in_palms_or_in_spans() -> None:
    # every bone 2 long but the middle palm of 4 and one fingertip of 0.4; bones run along x, so lengths add up
    joints = torch.zeros(21, 3)
    for joint, parent in enumerate(spatial_rules.PARENTS, start=1):
        length = 4.0 if joint == 9 else 0.4 if joint == 20 else 2.0
        joints[joint] = joints[parent] + torch.tensor([length, 0.0, 0.0])
    assert spatial_rules.bone_length(joints[None], reference="palm").item() == pytest.approx(0.1)
    assert spatial_rules.bone_length(joints[None], reference="span").item() == pytest.approx(0.04)
    assert spatial_rules.bone_length(torch.zeros(1, 21, 3), reference="palm").isnan().all()


def test_axes_are_right_handed_frames_and_agree_with_the_stand_ins_own_anatomy(axes: Tensor) -> None:
    from hojoint.hand.stand_in.angles import joint_axes

    torch.testing.assert_close(axes.transpose(1, 2) @ axes, torch.eye(3).expand(15, 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(axes), torch.ones(15))
    between = torch.rad2deg(torch.acos((torch.tensor(joint_axes()[:, 0]).float() * axes[..., 2]).sum(-1)))
    assert (between[:12] < 5).all()
    assert (between[12:] < 20).all()  # two descriptions of a thumb


@pytest.mark.parametrize("degrees", [-150, -30, 0, 45, 90, 120, 179])
def test_a_pure_bend_reads_as_itself_whatever_the_twist_before_it(axes: Tensor, degrees: int) -> None:
    for twist in (0.0, 0.7):
        vector = torch.deg2rad(torch.tensor(float(degrees))) * axes[..., 2]
        turn = geometry.axis_angle_to_matrix(vector) @ geometry.axis_angle_to_matrix(twist * axes[..., 0])
        rotations = torch.cat([torch.eye(3)[None], turn])[None]
        torch.testing.assert_close(
            spatial_rules.flexion_deg(rotations, axes), torch.full((1, 15), float(degrees)), atol=1e-3, rtol=0
        )


def test_spread_of_the_fingers_is_not_flexion(axes: Tensor) -> None:
    turn = geometry.axis_angle_to_matrix(0.4 * axes[..., 1])  # about the palm's normal
    flexion = spatial_rules.flexion_deg(torch.cat([torch.eye(3)[None], turn])[None], axes)
    torch.testing.assert_close(flexion, torch.zeros(1, 15), atol=1e-3, rtol=0)


def test_closing_the_fist_carries_every_fingertip_to_the_palms_front(layer: Any, axes: Tensor) -> None:
    flat = layer(torch.zeros(1, 48), torch.zeros(1, 10)).joints[0]
    front = torch.linalg.cross(flat[5] - flat[17], flat[9] - flat[0])
    pose = torch.cat([torch.zeros(3), (0.8 * axes[..., 2]).flatten()])[None]
    closed = layer(pose, torch.zeros(1, 10)).joints[0]
    tips = [4, 8, 12, 16, 20]
    assert (((closed - flat)[tips] @ front) > 0).all()
    assert torch.linalg.vector_norm(closed[4] - closed[17]) < torch.linalg.vector_norm(flat[4] - flat[17])


def test_excess_is_counted_from_both_ends_and_its_tolerance_passes(axes: Tensor) -> None:
    angles = torch.full((4, 15), 45.0)
    angles[1, 3], angles[2, 7], angles[3, 0] = -20.0, 110.0, -20.01
    excess = spatial_rules.angle_excess_deg(angles, 0, 90)
    torch.testing.assert_close(excess, torch.tensor([-45.0, 20, 20, 20.01]))
    assert filters.passed({"joint_angle": excess}, CONFIG)["joint_angle"].tolist() == [True, True, True, False]


def test_the_unsigned_reading_cannot_tell_over_extension_from_flexion(layer: Any, axes: Tensor) -> None:
    poses = torch.zeros(3, 16, 3)
    poses[1, 5], poses[2, 5] = axes[4, :, 2] * math.radians(60), -axes[4, :, 2] * math.radians(60)
    prediction, boxes = hand(layer, poses.reshape(3, 48))
    flat = spatial_rules.bone_angle_deg(prediction.joints)[0]
    unsigned = spatial_rules.bone_angle_deg(prediction.joints)[:, 4] - flat[4]
    assert unsigned[1] == pytest.approx(60, abs=6)
    assert unsigned[2] == pytest.approx(60, abs=6)
    assert scored(prediction, boxes, axes)["joint_angle"][2].item() == pytest.approx(60, abs=0.1)
    literal = FilterConfig(joint_angle="unsigned", angle_tolerance_deg=0)
    assert "joint_angle" not in filters.verdicts(scored(prediction, boxes, axes, literal), literal)


# ------------------------------------------------------------------------------------------------ temporal rules


def test_a_joint_that_leaps_for_one_frame_is_a_step_into_it_and_a_step_back() -> None:
    joints = torch.zeros(5, 21, 2)
    joints[2, 0, 0] = 60.0
    boxes = torch.tensor([[0.0, 0, 100, 80]]).expand(5, 4)
    steps = temporal_rules.joint_step(joints, boxes, torch.arange(5))
    torch.testing.assert_close(steps, torch.tensor([0, 0, 0.6, 0.6, 0]))


def test_a_hand_that_moves_as_a_whole_is_measured_in_its_own_box() -> None:
    joints = torch.zeros(2, 21, 2)
    joints[1, :, 0] = 10.0
    boxes = torch.tensor([[0.0, 0, 50, 80], [10.0, 0, 60, 160]])
    steps = temporal_rules.joint_step(joints, boxes, torch.arange(2))
    torch.testing.assert_close(steps, 10 * math.sqrt(21) / torch.tensor([80.0, 160.0]))


def test_the_neighbour_is_the_frame_before_else_the_one_after_else_nobody() -> None:
    frames = torch.tensor([3, 4, 6, 9, 10, 11])
    row, has = temporal_rules.neighbours(frames, torch.ones(6, dtype=torch.bool))
    assert has.tolist() == [True, True, False, True, True, True]
    assert row[has].tolist() == [1, 0, 4, 3, 4]


def test_a_single_frame_has_no_neighbour_and_is_rejected_as_joint_step(layer: Any, axes: Tensor) -> None:
    found = scored(*hand(layer, torch.zeros(1, 48)), axes)
    assert found["joint_step"].isnan().all()
    assert found["pose_step"].isnan().all()
    assert filters.verdicts(found, CONFIG) == ("joint_step",)


def test_two_frames_judge_each_other_alike(layer: Any, axes: Tensor) -> None:
    pose = torch.zeros(2, 48)
    pose[1, 7] = 0.5
    found = scored(*hand(layer, pose), axes)
    torch.testing.assert_close(found["pose_step"], torch.full((2,), 0.25 / 48))
    assert filters.verdicts(found, CONFIG) == ("kept", "kept")


def test_a_gap_in_the_annotation_parts_a_frame_from_its_neighbours(layer: Any, axes: Tensor) -> None:
    found = scored(*hand(layer, torch.zeros(3, 48)), axes, frames=[0, 1, 3])
    assert filters.verdicts(found, CONFIG) == ("kept", "kept", "joint_step")


def test_a_turn_across_pi_is_a_small_step_although_its_numbers_jump(layer: Any) -> None:
    pose = torch.zeros(2, 48)
    pose[0, 0], pose[1, 0] = math.pi - 0.1, -math.pi + 0.1
    rotations = geometry.axis_angle_to_matrix(pose.reshape(2, 16, 3))
    frames = torch.arange(2)
    smooth = temporal_rules.pose_step(rotations, pose, frames, reading="mean_square")
    literal = temporal_rules.pose_step(rotations, pose, frames, reading="literal")
    torch.testing.assert_close(smooth, torch.full((2,), 0.04 / 48), atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(literal, torch.full((2,), 2 * math.pi - 0.2))


def test_for_small_turns_of_a_flat_hand_the_step_is_the_mean_square_of_the_numbers() -> None:
    torch.manual_seed(2)
    pose = torch.stack([torch.zeros(48), 1e-2 * torch.randn(48)]).double()
    rotations = geometry.axis_angle_to_matrix(pose.reshape(2, 16, 3))
    step = temporal_rules.pose_step(rotations, pose, torch.arange(2), reading="mean_square")
    torch.testing.assert_close(step[1], torch.nn.functional.mse_loss(pose[1], pose[0]), rtol=1e-6, atol=0)


def test_a_valid_neighbour_must_have_passed_the_spatial_rules(layer: Any, axes: Tensor) -> None:
    prediction, boxes = hand(layer, torch.zeros(5, 48))
    boxes[2] += 300  # far from its mesh
    strict = FilterConfig(neighbour="valid")
    assert filters.verdicts(scored(prediction, boxes, axes), CONFIG) == ("kept", "kept", "box_iou", "kept", "kept")
    found = scored(prediction, boxes, axes, strict)
    assert not found["pose_step"].isnan().any()  # frame 3 turns to frame 4
    boxes[4] += 300
    found = scored(prediction, boxes, axes, strict)
    assert found["pose_step"].isnan().tolist() == [False, False, False, True, False]
    assert filters.verdicts(found, strict) == ("kept", "kept", "box_iou", "joint_step", "box_iou")


# ------------------------------------------------------------------------------------------------- shape of a clip


def everyone(count: int) -> Tensor:
    return torch.ones(count, dtype=torch.bool)


def test_five_frames_can_never_exceed_two_sigma_and_six_can() -> None:
    for count in (2, 3, 4, 5, 6):
        shape = torch.zeros(count, 10)
        shape[-1, 0] = 1000.0
        spread = temporal_rules.shape_spread(shape, everyone(count), rule="sigma", min_frames=1)
        assert spread.max().item() == pytest.approx(math.sqrt(count - 1), rel=1e-4)  # Samuelson's bound is met
        assert (spread > 2).any().item() is (count == 6)


def test_with_fewer_confident_frames_than_wanted_no_shape_is_doubted() -> None:
    shape = torch.zeros(7, 10)
    shape[6] = 5.0
    confident = torch.tensor([True] * 5 + [False] * 2)
    assert not temporal_rules.shape_spread(shape, confident, rule="sigma", min_frames=6).any()
    assert temporal_rules.shape_spread(shape, confident, rule="sigma", min_frames=5)[6] > 2


def test_the_sigma_is_the_population_sigma_of_the_confident_frames_alone() -> None:
    torch.manual_seed(3)
    shape, confident = torch.randn(12, 10), torch.arange(12) < 9
    spread = temporal_rules.shape_spread(shape, confident, rule="sigma", min_frames=6).numpy()
    values = shape.numpy().astype(np.float64)
    mean = values[:9].mean(0)
    sigma = math.sqrt(((values[:9] - mean) ** 2).sum(1).mean())
    np.testing.assert_allclose(spread, np.linalg.norm(values - mean, axis=1) / sigma, rtol=1e-5)


def test_equal_shapes_do_not_deviate_and_another_one_does() -> None:
    shape = torch.full((8, 10), 0.3)
    shape[7, 0] = 0.9
    confident = torch.arange(8) < 7
    for rule in ("sigma", "mad"):
        spread = temporal_rules.shape_spread(shape, confident, rule=rule, min_frames=6)
        assert not spread[:7].any()
        assert spread[7] > 2


def test_one_outlier_hides_in_its_own_sigma_and_not_in_the_median() -> None:
    torch.manual_seed(4)
    shape = 0.01 * torch.randn(6, 10)
    shape[0] = 3.0
    both = {r: temporal_rules.shape_spread(shape, everyone(6), rule=r, min_frames=6)[0] for r in ("sigma", "mad")}
    assert both["sigma"] < 2.3
    assert both["mad"] > 50


def test_frames_that_other_rules_reject_do_not_teach_the_shape(layer: Any, axes: Tensor) -> None:
    shape = torch.zeros(9, 10)
    shape[8] = 2.0
    prediction, boxes = hand(layer, torch.zeros(9, 48), shape)
    boxes[8] = torch.tensor([0.0, 0.0, 30.0, 30.0])  # far away: box_iou
    found = scored(prediction, boxes, axes)
    assert not found["shape_spread"][:8].any()
    assert found["shape_spread"][8] > 2


# ------------------------------------------------------------------------------------------------------ verdicts


def at_thresholds() -> dict[str, Tensor]:
    c = CONFIG
    values = (
        c.min_box_iou, c.max_reprojection, c.min_bone_length, c.angle_tolerance_deg, c.max_joint_step, c.max_pose_step,
        c.shape_sigmas,
    )  # fmt: skip
    return {rule: torch.tensor([value], dtype=torch.float64) for rule, value in zip(filters.RULES, values, strict=True)}


def test_a_score_on_every_threshold_is_kept() -> None:
    assert filters.verdicts(at_thresholds(), CONFIG) == ("kept",)


@pytest.mark.parametrize("rule", filters.RULES)
@pytest.mark.parametrize("fault", ["beyond", "nan"])
def test_just_beyond_a_threshold_or_not_a_number_breaks_that_rule(rule: str, fault: str) -> None:
    found = at_thresholds()
    sign = -1 if rule in ("box_iou", "bone_length") else 1
    found[rule] = found[rule] * (1 + sign * 1e-9) if fault == "beyond" else found[rule] * torch.nan
    assert filters.verdicts(found, CONFIG) == (rule,)
    others = FilterConfig(enabled=tuple(r for r in filters.RULES if r != rule))
    assert filters.verdicts(found, others) == ("kept",)


def test_the_verdict_is_the_first_broken_rule_in_the_contracts_order() -> None:
    broken = {rule: torch.full((1,), torch.nan) for rule in reversed(filters.RULES)}
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
    for rule in filters.RULES[:-1]:
        found = scored(prediction, boxes, axes, FilterConfig(enabled=(rule,)))
        for other in filters.RULES[:-1]:
            torch.testing.assert_close(found[other], base[other], equal_nan=True, rtol=0, atol=0)


def test_a_hand_that_is_not_finite_is_rejected_and_is_nobodys_neighbour(layer: Any, axes: Tensor) -> None:
    prediction, boxes = hand(layer, torch.zeros(8, 48))
    broken = {
        field.name: getattr(prediction, field.name).clone()
        for field in dataclasses.fields(prediction)
        if field.name != "flipped"
    }
    for value in broken.values():
        value[4] = torch.nan
    words = filters.verdicts(scored(HandPrediction(**broken, flipped=False), boxes, axes), CONFIG)
    assert words == ("kept",) * 4 + ("box_iou", "kept", "kept", "kept")  # frame 5 turns to frame 6
    last = HandPrediction(**{name: value[:6] for name, value in broken.items()}, flipped=False)
    assert filters.verdicts(scored(last, boxes[:6], axes), CONFIG)[5] == "joint_step"  # it has none to turn to


@pytest.mark.parametrize("part", ["joints_px", "pose", "betas"])
@pytest.mark.parametrize("enabled", [(), ("shape_spread",), ("joint_angle", "shape_spread")])
def test_a_prediction_that_is_not_finite_is_never_kept_whatever_judges(
    layer: Any, axes: Tensor, part: str, enabled: Any
) -> None:
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
@pytest.mark.parametrize("enabled", [(), ("shape_spread",), filters.RULES])
def test_a_hand_whose_camera_mirrors_it_or_failed_is_never_kept_whatever_judges(
    layer: Any, axes: Tensor, scale: float, enabled: Any
) -> None:
    prediction, boxes = hand(layer, torch.zeros(8, 48))
    fitted = camera.fit(prediction)
    fitted[4, 0] = scale
    config = FilterConfig(enabled=enabled)
    found = filters.scores(
        prediction, fitted, boxes, torch.arange(8), size=SIZE, axes=axes, config=config
    )  # fmt: skip
    sound = filters.sound(prediction.joints_px, prediction.pose, prediction.betas, fitted, config)
    words = filters.verdicts(found, config, sound)
    assert words == ("kept",) * 4 + ("box_iou",) + ("kept",) * 3


@pytest.mark.parametrize("rule", ["sigma", "mad"])
def test_a_shape_that_is_not_finite_has_no_spread_and_teaches_none(rule: Any) -> None:
    torch.manual_seed(6)
    shape = torch.randn(9, 10)
    alone = temporal_rules.shape_spread(shape[:8], everyone(8), rule=rule, min_frames=6)
    shape[8, 2] = torch.nan
    spread = temporal_rules.shape_spread(shape, everyone(9), rule=rule, min_frames=6)
    torch.testing.assert_close(spread[:8], alone)
    few = temporal_rules.shape_spread(shape, everyone(9), rule=rule, min_frames=9)
    assert few[:8].tolist() == [0.0] * 8  # eight finite ones are fewer than nine
    assert spread[8].isnan()
    assert few[8].isnan()
