"""Losses by hand, and what images without object labels may not do."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from hojoint import geometry
from hojoint.config import LossConfig, ManoConfig
from hojoint.hand.factory import hand_layer
from hojoint.model.losses import (
    Targets,
    confidence_target,
    gaussian_heatmaps,
    hand_object_loss,
    image_weights,
    side_loss,
)
from hojoint.model.network import HandOutput, HOJointOutput, ObjectOutput

CELLS = 4
ONES = LossConfig(joints_2d=1, vertices=1, joints_3d=1, rotations=1, betas=1, control_points=1, confidence=1)


class _Hand(torch.nn.Module):
    """A hand whose vertices and joints are all the first column of its root rotation."""

    def from_rotations(self, rotations: torch.Tensor, shape: torch.Tensor) -> SimpleNamespace:
        column = rotations[:, 0, :, 0][:, None]
        return SimpleNamespace(vertices=column.expand(-1, 778, -1), joints=column.expand(-1, 21, -1))


def _targets(batch: int, has_object: list[bool]) -> Targets:
    eye = torch.eye(3).expand(batch, 16, 3, 3)
    first = eye[:, 0, :, 0][:, None]
    return Targets(
        joints_box=torch.full((batch, 21, 2), 0.5),
        rotations=eye,
        betas=torch.zeros(batch, 10),
        vertices=first.expand(-1, 778, -1),
        joints=first.expand(-1, 21, -1),
        has_object=torch.tensor(has_object),
        control_box=torch.full((batch, 21, 2), 0.5),
        object_mask=torch.ones(batch, CELLS, CELLS),
    )


def _output(batch: int) -> HOJointOutput:
    heatmaps = torch.full((batch, 21, CELLS, CELLS), 1 / CELLS**2)
    hand = HandOutput(
        torch.full((batch, 21, 2), 0.5), torch.eye(3).expand(batch, 16, 3, 3), torch.zeros(batch, 10), heatmaps
    )
    objects = ObjectOutput(torch.full((batch, CELLS, CELLS, 21, 2), 0.5), torch.ones(batch, CELLS, CELLS, 21))
    return HOJointOutput(hand, objects)


def _loss(output: HOJointOutput, targets: Targets, config: LossConfig = ONES) -> dict[str, float]:
    return {name: value.item() for name, value in hand_object_loss(output, targets, _Hand(), config).items()}


def test_a_perfect_prediction_has_no_loss() -> None:
    assert set(_loss(_output(2), _targets(2, [True, True])).values()) == {0.0}


def test_hand_terms_are_weighted_means_of_squares() -> None:
    output = _output(2)
    turned = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])  # x to y: the first column moves by (-1, 1, 0)
    rotations = output.hand.rotations.clone()
    rotations[1, 0] = turned
    joints, shape = output.hand.joints_box.clone(), output.hand.betas.clone()
    joints[0, 3, 1] += 0.2
    shape[:, 0] = 3.0
    hand = HandOutput(joints, rotations, shape, output.hand.heatmaps)
    terms = _loss(HOJointOutput(hand, output.object), _targets(2, [True, True]), LossConfig())
    assert terms["joints_2d"] == pytest.approx(100 * 0.04 / (2 * 21 * 2), rel=1e-4)
    assert terms["vertices"] == pytest.approx(1e4 * 2 / (2 * 3))
    assert terms["joints_3d"] == pytest.approx(1e4 * 2 / (2 * 3))
    assert terms["rotations"] == pytest.approx(10 * 4 / (2 * 16 * 9))
    assert terms["betas"] == pytest.approx(0.1 * 9 / 10)
    assert terms["total"] == pytest.approx(sum(value for name, value in terms.items() if name != "total"))


def test_the_object_terms_by_hand() -> None:
    output, targets = _output(1), _targets(1, [True])
    control, confidence = output.object.control_box.clone(), output.object.confidence.clone()
    control[0, 1, 2, 5] += torch.tensor([0.3, -0.4])  # 0.5 boxes off
    confidence[0, 1, 2, 5] = 0.9
    terms = _loss(HOJointOutput(output.hand, ObjectOutput(control, confidence)), targets)
    cells = CELLS**2 * 21
    assert terms["control_points"] == pytest.approx((0.3 + 0.4) / cells, rel=1e-5)
    assert terms["confidence"] == pytest.approx((0.9 - math.exp(-0.5)) / cells, rel=1e-5)
    squared = _loss(
        HOJointOutput(output.hand, ObjectOutput(control, confidence)),
        targets,
        ONES.model_copy(update={"confidence_error": "l2", "confidence_temperature": 0.25}),
    )
    assert squared["confidence"] == pytest.approx((0.9 - math.exp(-2.0)) ** 2 / cells, rel=1e-5)


def test_cells_off_the_object_may_point_anywhere() -> None:
    output, targets = _output(1), _targets(1, [True])
    targets.object_mask[0, 0, 0] = 0
    control = output.object.control_box.clone()
    control[0, 0, 0] = 7.0
    moved = HOJointOutput(output.hand, ObjectOutput(control, output.object.confidence))
    terms = _loss(moved, targets)
    assert terms["control_points"] == 0
    assert terms["confidence"] == pytest.approx(1 / CELLS**2)  # all is 1, the one cell should be 0
    unmasked = _loss(moved, targets, ONES.model_copy(update={"object_mask": False}))
    assert unmasked["control_points"] == pytest.approx(2 * 6.5 / CELLS**2)


def test_unlabelled_images_do_not_change_the_object_terms() -> None:
    generator = torch.Generator().manual_seed(0)
    output = _output(3)
    noisy = ObjectOutput(
        torch.rand(output.object.control_box.shape, generator=generator),
        torch.rand(output.object.confidence.shape, generator=generator),
    )
    noisy.control_box[[0, 2]] = torch.nan
    targets = _targets(3, [False, True, False])
    targets.control_box[[0, 2]] = torch.nan
    mixed = _loss(HOJointOutput(output.hand, noisy), targets)
    row = slice(1, 2)
    alone = _loss(
        HOJointOutput(_output(1).hand, ObjectOutput(noisy.control_box[row], noisy.confidence[row])), _targets(1, [True])
    )
    assert mixed["control_points"] == pytest.approx(alone["control_points"])
    assert mixed["confidence"] == pytest.approx(alone["confidence"])


def test_a_batch_without_object_labels_keeps_a_finite_loss() -> None:
    output = _output(2)
    branch = torch.zeros((), requires_grad=True)
    objects = ObjectOutput(torch.full_like(output.object.control_box, torch.nan), branch.expand(2, CELLS, CELLS, 21))
    terms = hand_object_loss(HOJointOutput(output.hand, objects), _targets(2, [False, False]), _Hand(), ONES)
    assert terms["total"].item() == 0
    terms["total"].backward()
    assert branch.grad == 0


def test_no_gradient_flows_through_the_confidence_target() -> None:
    delta = torch.tensor([[0.0, 0.0], [0.3, 0.4]], requires_grad=True)
    target = confidence_target(delta, temperature=1.0)
    assert not target.requires_grad
    torch.testing.assert_close(target, torch.tensor([1.0, math.exp(-0.5)]))


def test_a_gaussian_heatmap_has_sum_one_and_mean_at_the_joint() -> None:
    joints = torch.tensor([[[0.4, 0.6], [0.5, 0.5], [1.7, 0.5]]])
    heatmaps = gaussian_heatmaps(joints, cells=32, sigma_cells=1.5)
    torch.testing.assert_close(heatmaps.sum(dim=(2, 3)), torch.ones(1, 3))
    centres = (torch.arange(32) + 0.5) / 32
    mean = torch.stack([(heatmaps.sum(2) * centres).sum(-1), (heatmaps.sum(3) * centres).sum(-1)], dim=-1)
    torch.testing.assert_close(mean[:, :2], joints[:, :2], atol=1e-5, rtol=0)
    assert heatmaps[0, 2].sum(0).argmax() == 31  # outside the box: the nearest column takes it
    ratio = heatmaps[0, 1, 16, 16] / heatmaps[0, 1, 16, 19]  # 0.5 and 3.5 cells from the joint, sigma 1.5
    assert ratio.item() == pytest.approx(math.exp((3.5**2 - 0.5**2) / (2 * 1.5**2)), rel=1e-4)


def test_the_heatmap_term_is_the_squared_norm_per_heatmap() -> None:
    output, targets = _output(1), _targets(1, [True])
    config = ONES.model_copy(update={"heatmap": "gaussian"})
    heatmaps = gaussian_heatmaps(targets.joints_box, cells=CELLS, sigma_cells=1.0)
    expected = sum(float((heatmaps[0, j] - 1 / CELLS**2).norm()) ** 2 for j in range(21)) / 21
    assert _loss(output, targets, config)["joints_2d"] == pytest.approx(expected, rel=1e-5)


TURN = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])  # a quarter about z; the first column moves by (-1, 1, 0)


def _wrong(turned: list[bool], fingers: list[bool] | None = None) -> HOJointOutput:
    """Images whose 2D joints are 0.1 off in x, and whose root, or first finger joint, is turned where asked for."""
    output = _output(len(turned))
    rotations = output.hand.rotations.clone()
    for image, turns in enumerate(turned):
        rotations[image, 0] = TURN if turns else rotations[image, 0]
        rotations[image, 1] = TURN if fingers and fingers[image] else rotations[image, 1]
    joints = output.hand.joints_box + torch.tensor([0.1, 0.0]) * torch.tensor(turned)[:, None, None]
    return HOJointOutput(output.hand._replace(joints_box=joints, rotations=rotations), output.object)


def _pseudo(pseudo: list[bool], quality: list[float]) -> Targets:
    return replace(
        _targets(len(pseudo), [False] * len(pseudo)), pseudo=torch.tensor(pseudo), quality=torch.tensor(quality)
    )


def test_pseudo_labels_are_weighted_by_kind_and_quality() -> None:
    config = LossConfig(pseudo_2d=2.0, pseudo_3d=0.5, quality_power=2.0)
    targets = _pseudo([False, True, True], [0.3, 0.5, 1.0])
    terms = _loss(_wrong([False, True, False]), targets, config)
    # Weights of the images in 2D: 1, 2 * 0.25, 2 * 1; in 3D: 1, 0.5 * 0.25, 0.5 * 1. The second image alone is wrong.
    assert terms["joints_2d"] == pytest.approx(100 * 0.01 / 2 * 0.5 / 3.5, rel=1e-5)
    assert terms["vertices"] == pytest.approx(1e4 * 2 / 3 * 0.125 / 1.625, rel=1e-5)
    assert terms["rotations"] == pytest.approx(10 * 4 / (16 * 9) * 0.125 / 1.625, rel=1e-5)


@pytest.mark.parametrize("heatmap", ["soft_argmax", "gaussian"])
def test_an_image_of_weight_zero_counts_as_not_there(heatmap) -> None:
    config = LossConfig(pseudo_2d=0.0, pseudo_3d=0.0, heatmap=heatmap)
    both = _loss(_wrong([True, True]), _pseudo([False, True], [1.0, 1.0]), config)
    alone = _loss(_wrong([True]), _targets(1, [False]), config)
    assert both == pytest.approx(alone, rel=1e-6)
    none = _loss(_wrong([True]), _pseudo([True], [1.0]), config)
    assert set(none.values()) == {0.0}


def test_where_all_count_alike_nothing_changes() -> None:
    assert image_weights(_pseudo([True], [0.2]), LossConfig()) is None
    targets = _pseudo([False, True], [1.0, 1.0])
    plain = _loss(_wrong([True, False]), targets, LossConfig())
    weighted = _loss(_wrong([True, False]), targets, LossConfig(quality_power=1.0))
    assert weighted == pytest.approx(plain, rel=1e-6)


def test_the_orientation_of_pseudo_labels_can_be_left_out() -> None:
    output = _wrong([True, True], fingers=[False, True])
    output.hand.rotations.requires_grad_()
    targets = _pseudo([True, True], [1.0, 1.0])
    terms = hand_object_loss(output, targets, _Hand(), LossConfig(pseudo_root=0.0))
    # The turned root moves no point any more; the finger's own rotation is wrong in one of two images.
    assert terms["vertices"].item() == pytest.approx(0, abs=1e-8)
    assert terms["rotations"].item() == pytest.approx(10 * 4 / (2 * 16 * 9), rel=1e-5)
    terms["total"].backward()
    half = _loss(output, targets, LossConfig(pseudo_root=0.5))
    assert half["vertices"] == pytest.approx(0.5 * 1e4 * 2 / 3, rel=1e-5)
    labelled = _loss(output, _pseudo([False, False], [1.0, 1.0]), LossConfig(pseudo_root=0.0))
    assert labelled["vertices"] == pytest.approx(1e4 * 2 / 3, rel=1e-5)


def test_without_orientation_the_root_has_no_gradient() -> None:
    generator = torch.Generator().manual_seed(1)
    layer = hand_layer(ManoConfig())
    axis = torch.randn(2, 16, 3, generator=generator) * 0.3
    targets = replace(_pseudo([True, True], [1.0, 1.0]), rotations=geometry.axis_angle_to_matrix(axis))
    mesh = layer.from_rotations(targets.rotations, targets.betas)
    targets = replace(targets, vertices=mesh.vertices, joints=mesh.joints)
    little = torch.zeros(2, 3, requires_grad=True)  # a turn on top of the predicted root
    bent = geometry.axis_angle_to_matrix(axis + 0.2 * torch.randn(2, 16, 3, generator=generator))
    rotations = torch.cat((geometry.axis_angle_to_matrix(little)[:, None] @ bent[:, :1], bent[:, 1:]), dim=1)
    output = HOJointOutput(_output(2).hand._replace(rotations=rotations), _output(2).object)
    for share, limit in ((0.0, 1e-4), (1.0, None)):
        terms = hand_object_loss(output, targets, layer, LossConfig(pseudo_root=share))
        slope = torch.autograd.grad(terms["total"], little, retain_graph=True)[0].abs().max()
        assert terms["vertices"] > 0.1
        assert slope < limit if limit else slope > 1e-1


def test_the_side_term_is_the_cross_entropy_of_pairs() -> None:
    logits = torch.tensor([0.5, 9.0, -1.0, 2.0, -3.0])  # three images; the mirrored third and first
    rows, alike = torch.tensor([2, 0]), torch.tensor([1.0, 1.0])
    told = torch.tensor([-1.0, 0.5, 2.0, -3.0]).sigmoid()
    expected = torch.nn.functional.binary_cross_entropy(told, torch.tensor([1.0, 1, 0, 0]))
    torch.testing.assert_close(side_loss(logits, rows, alike), expected)
    one = side_loss(logits, rows, torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(one, -(torch.tensor(0.5).sigmoid().log() + torch.tensor(3.0).sigmoid().log()) / 2)
    half = side_loss(logits, rows, torch.tensor([0.5, 1.0]))
    torch.testing.assert_close(half, (0.5 * side_loss(logits, rows, torch.tensor([1.0, 0.0])) + one) / 1.5)


def test_sides_nobody_is_sure_of_have_a_gradient_of_zeros() -> None:
    logits = torch.tensor([0.5, 1.0, 2.0], requires_grad=True)
    loss = side_loss(logits, torch.tensor([1]), torch.tensor([0.0]))
    assert loss.item() == 0
    loss.backward()
    assert logits.grad is not None
    assert logits.grad.tolist() == [0, 0, 0]


def test_the_side_term_is_weighted_and_part_of_the_total() -> None:
    output = _output(2)
    output = output._replace(hand=output.hand._replace(side=torch.zeros(3)))
    sided = replace(_targets(2, [True, True]), mirrored_rows=torch.tensor([1]), mirrored_weights=torch.tensor([1.0]))
    weighted = ONES.model_copy(update={"side": 3.0})
    terms = {name: value.item() for name, value in hand_object_loss(output, sided, _Hand(), weighted).items()}
    assert terms["side"] == terms["total"] == pytest.approx(3 * math.log(2))
    assert hand_object_loss(output, sided, _Hand(), weighted, side_factor=0.5)["side"] == pytest.approx(
        1.5 * math.log(2)
    )
    assert "side" not in _loss(_output(2), _targets(2, [True, True]))
