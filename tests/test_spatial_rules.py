"""The spatial rules on cases worked by hand: borders, degenerate boxes, printed limits, finger angles."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from exact_hand import CONFIG, SIZE, hand, scored
from torch import Tensor

from hojoint import geometry
from hojoint.config import FilterConfig
from hojoint.labelling import camera, filters, spatial_rules


def test_a_hand_cut_by_the_border_is_compared_inside_the_image() -> None:
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
def test_a_degenerate_box_is_rejected_as_box_iou(layer: Any, axes: Tensor, box: tuple[float, ...]) -> None:
    prediction, boxes = hand(layer, torch.zeros(8, 48))
    boxes[3] = torch.tensor(box)
    scores = scored(prediction, boxes, axes)
    for rule in ("box_iou", "reprojection", "joint_step"):
        assert scores[rule].isnan().nonzero().flatten().tolist() == [3]
    assert filters.verdicts(scores, CONFIG) == ("kept",) * 3 + ("box_iou",) + ("kept",) * 4


def test_one_joint_13_px_off_in_a_box_of_20_is_at_the_limit() -> None:
    px = torch.zeros(1, 21, 2)
    px[0, 4] = torch.tensor([5.0, 12.0])
    box, scale = torch.tensor([[0.0, 0.0, 20.0, 10.0]]), torch.ones(1)
    stacked = spatial_rules.reprojection(px, torch.zeros_like(px), scale, box, norm="stacked")
    mean = spatial_rules.reprojection(px, torch.zeros_like(px), scale, box, norm="mean")
    assert stacked.item() == pytest.approx(0.65)
    assert mean.item() == pytest.approx(0.65 / 21)


def test_the_printed_limit_is_an_rms_of_0142_sides_per_joint() -> None:
    rms = 0.65 / math.sqrt(21)
    px = torch.full((1, 21, 2), 100 * rms / math.sqrt(2))
    box = torch.tensor([[0.0, 0.0, 100.0, 100.0]])
    score = spatial_rules.reprojection(px, torch.zeros_like(px), torch.ones(1), box, norm="stacked")
    assert score.item() == pytest.approx(0.65)
    assert rms == pytest.approx(0.142, abs=5e-4)


def test_a_mirroring_camera_is_rejected_as_reprojection(layer: Any, axes: Tensor) -> None:
    prediction, boxes = hand(layer, torch.zeros(3, 48))
    turned = 2 * prediction.joints_px.mean(1, keepdim=True) - prediction.joints_px  # point reflection: s < 0
    prediction = dataclasses.replace(prediction, joints_px=turned)
    scores = scored(prediction, boxes, axes)
    assert (camera.fit(prediction)[:, 0] < 0).all()
    assert scores["reprojection"].isinf().all()
    only = FilterConfig(enabled=("reprojection",))
    assert filters.verdicts(scores, only) == ("reprojection",) * 3


def test_the_shortest_bone_is_measured_in_palms_or_in_spans() -> None:
    # every bone 2 long but the middle palm of 4 and one fingertip of 0.4; bones run along x, so lengths add up
    joints = torch.zeros(21, 3)
    for joint, parent in enumerate(spatial_rules.PARENTS, start=1):
        length = 4.0 if joint == 9 else 0.4 if joint == 20 else 2.0
        joints[joint] = joints[parent] + torch.tensor([length, 0.0, 0.0])
    assert spatial_rules.bone_length(joints[None], reference="palm").item() == pytest.approx(0.1)
    assert spatial_rules.bone_length(joints[None], reference="span").item() == pytest.approx(0.04)
    assert spatial_rules.bone_length(torch.zeros(1, 21, 3), reference="palm").isnan().all()


def test_axes_are_right_handed_and_agree_with_the_anatomy(axes: Tensor) -> None:
    from hojoint.hand.stand_in.angles import joint_axes

    torch.testing.assert_close(axes.transpose(1, 2) @ axes, torch.eye(3).expand(15, 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(axes), torch.ones(15))
    between = torch.rad2deg(torch.acos((torch.tensor(joint_axes()[:, 0]).float() * axes[..., 2]).sum(-1)))
    assert (between[:12] < 5).all()
    assert (between[12:] < 20).all()  # two descriptions of a thumb


@pytest.mark.parametrize("degrees", [-150, -30, 0, 45, 90, 120, 179])
def test_a_bend_reads_as_itself_whatever_the_twist_before_it(axes: Tensor, degrees: int) -> None:
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


def test_closing_the_fist_moves_all_fingertips_to_the_front(layer: Any, axes: Tensor) -> None:
    flat = layer(torch.zeros(1, 48), torch.zeros(1, 10)).joints[0]
    front = torch.linalg.cross(flat[5] - flat[17], flat[9] - flat[0])
    pose = torch.cat([torch.zeros(3), (0.8 * axes[..., 2]).flatten()])[None]
    closed = layer(pose, torch.zeros(1, 10)).joints[0]
    tips = [4, 8, 12, 16, 20]
    assert (((closed - flat)[tips] @ front) > 0).all()
    assert torch.linalg.vector_norm(closed[4] - closed[17]) < torch.linalg.vector_norm(flat[4] - flat[17])


def test_the_angle_excess_counts_from_both_ends(axes: Tensor) -> None:
    angles = torch.full((4, 15), 45.0)
    angles[1, 3], angles[2, 7], angles[3, 0] = -20.0, 110.0, -20.01
    excess = spatial_rules.angle_excess_deg(angles, 0, 90)
    torch.testing.assert_close(excess, torch.tensor([-45.0, 20, 20, 20.01]))
    assert filters.passed({"joint_angle": excess}, CONFIG)["joint_angle"].tolist() == [True, True, True, False]


def test_the_unsigned_angle_hides_over_extension(layer: Any, axes: Tensor) -> None:
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
