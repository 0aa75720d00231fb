"""Geometry against scipy, OpenCV, an optimiser, symmetry and finite differences."""

import math

import cv2
import numpy as np
import pytest
import torch
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from hojoint import geometry

torch.set_num_threads(1)


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def random_rotations(count, seed=0):
    return torch.from_numpy(Rotation.random(count, random_state=seed).as_matrix())


# ---------------------------------------------------------------------------------------------------- rotations


@pytest.mark.parametrize("size", [0.0, 1e-12, 1e-6, 1e-3, 9.9e-3, 1.01e-2, 0.5, 3.0, math.pi, 5.0, 20.0])
def test_rodrigues_is_that_of_opencv_and_scipy_at_every_size(size):
    vectors = torch.nn.functional.normalize(random(20, 3), dim=-1) * size
    ours = geometry.axis_angle_to_matrix(vectors).numpy()
    np.testing.assert_allclose(ours, Rotation.from_rotvec(vectors.numpy()).as_matrix(), atol=1e-14)
    np.testing.assert_allclose(ours[0], cv2.Rodrigues(vectors[0].numpy())[0], atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("angle", [0.0, 1e-10, 1e-4, 1.9e-2, 2.1e-2, 0.3, 1.6, 3.0, math.pi - 1e-3, math.pi - 1e-7])
def test_axis_angle_survives_the_round_trip_through_matrices(angle, dtype):
    vectors = torch.nn.functional.normalize(random(50, 3, seed=1), dim=-1) * angle
    back = geometry.matrix_to_axis_angle(geometry.axis_angle_to_matrix(vectors.to(dtype)))
    # Within rounding of pi the axis may come out turned round; the rotation is the same.
    flipped = (back * vectors).sum(-1, keepdim=True) < 0
    back = torch.where(flipped & (angle > 3.14), back * (1 - 2 * math.pi / back.norm(dim=-1, keepdim=True)), back)
    torch.testing.assert_close(back, vectors.to(dtype), atol=1e-6 if dtype == torch.float32 else 1e-14, rtol=1e-6)


def test_axis_angle_at_pi_is_a_half_turn_about_the_right_axis():
    axes = torch.nn.functional.normalize(torch.cat((torch.eye(3).double(), random(30, 3))), dim=-1)
    matrices = 2 * axes[:, :, None] * axes[:, None, :] - torch.eye(3, dtype=torch.float64)
    vectors = geometry.matrix_to_axis_angle(matrices)
    torch.testing.assert_close(vectors.norm(dim=-1), torch.full((33,), math.pi, dtype=torch.float64))
    torch.testing.assert_close((vectors * axes).sum(-1).abs(), torch.full((33,), math.pi, dtype=torch.float64))


def test_axis_angle_of_random_rotations_is_scipys():
    rotations = random_rotations(500)
    np.testing.assert_allclose(
        geometry.matrix_to_axis_angle(rotations).numpy(), Rotation.from_matrix(rotations.numpy()).as_rotvec(), atol=1e-9
    )


def test_an_angle_beyond_pi_wraps_to_the_same_rotation():
    vector = torch.tensor([[0.0, 0.0, math.pi + 0.2]], dtype=torch.float64)
    back = geometry.matrix_to_axis_angle(geometry.axis_angle_to_matrix(vector))
    torch.testing.assert_close(back, torch.tensor([[0.0, 0.0, 0.2 - math.pi]], dtype=torch.float64))


@pytest.mark.parametrize("size", [0.0, 1e-9, 1e-3, 0.7, 2.5])
def test_conversions_have_the_gradients_of_finite_differences(size):
    vectors = (torch.nn.functional.normalize(random(4, 3, seed=2), dim=-1) * size).requires_grad_()
    assert torch.autograd.gradcheck(geometry.axis_angle_to_matrix, (vectors,), atol=1e-6)
    raw = random(4, 6, seed=3).requires_grad_()
    assert torch.autograd.gradcheck(geometry.rotation_6d_to_matrix, (raw,))

    def there_and_back(v):
        return geometry.matrix_to_axis_angle(geometry.axis_angle_to_matrix(v))

    assert torch.autograd.gradcheck(there_and_back, (vectors,), atol=1e-6)


def test_gradients_are_finite_at_the_identity():
    rotation = torch.eye(3).repeat(2, 1, 1).requires_grad_()
    (geometry.matrix_to_axis_angle(rotation).sum() + geometry.geodesic(rotation, torch.eye(3)).sum()).backward()
    assert torch.isfinite(rotation.grad).all()


def test_the_first_column_of_a_rotation_is_the_first_half_of_6d():
    raw = random(40, 6, seed=4)
    rotations = geometry.rotation_6d_to_matrix(raw)
    torch.testing.assert_close(rotations @ rotations.mT, torch.eye(3).double().expand(40, 3, 3))
    torch.testing.assert_close(torch.linalg.det(rotations), torch.ones(40, dtype=torch.float64))
    torch.testing.assert_close(rotations[..., 0], raw[:, :3] / raw[:, :3].norm(dim=-1, keepdim=True))
    # the columns of a rotation describe it
    columns = rotations[..., :2].mT.flatten(1)
    torch.testing.assert_close(geometry.rotation_6d_to_matrix(columns * 3), rotations)


@pytest.mark.parametrize("angle", [0.0, 1e-8, 1e-4, 1.0, 3.0, math.pi - 1e-6, math.pi])
def test_geodesic_is_the_angle_between_two_rotations(angle):
    first = random_rotations(30, seed=5)
    turn = Rotation.from_rotvec(torch.nn.functional.normalize(random(30, 3), dim=-1).numpy() * angle).as_matrix()
    distance = geometry.geodesic(first, first @ torch.from_numpy(turn))
    np.testing.assert_allclose(distance.numpy(), angle, atol=1e-8 if angle > 3.14 else 1e-14)
    np.testing.assert_allclose(geometry.geodesic(first @ torch.from_numpy(turn), first).numpy(), distance, atol=1e-8)


def test_the_mean_rotation_is_scipys_in_any_order():
    views = torch.stack([random_rotations(6, seed=s) for s in range(8)])
    mean = geometry.mean_rotation(views, dim=0)
    for i in range(6):
        expected = Rotation.from_matrix(views[:, i].numpy()).mean().as_matrix()
        np.testing.assert_allclose(mean[i].numpy(), expected, atol=1e-10)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(
        geometry.mean_rotation(views.float(), dim=0), geometry.mean_rotation(views[order].float(), dim=0)
    )
    torch.testing.assert_close(geometry.mean_rotation(views.movedim(0, -3)), mean)


def test_the_mean_of_two_turns_across_pi_is_the_turn_by_pi():
    vectors = torch.tensor([[0.0, 0.0, math.pi - 0.1], [0.0, 0.0, 0.1 - math.pi]])
    mean = geometry.mean_rotation(geometry.axis_angle_to_matrix(vectors))
    torch.testing.assert_close(mean, torch.diag(torch.tensor([-1.0, -1.0, 1.0])), atol=1e-6, rtol=0)


def test_a_mean_nearer_a_reflection_is_still_a_rotation():
    rotations = torch.stack([torch.diag(torch.tensor(d)) for d in ([1.0, -1, -1], [-1.0, 1, -1], [-1.0, -1, 1])])
    assert torch.linalg.det(geometry.mean_rotation(rotations)) > 0.99


def test_a_positive_turn_about_z_takes_x_towards_y():
    turned = geometry.rotation_z(torch.tensor(math.pi / 2)) @ torch.tensor([1.0, 0.0, 0.0])
    torch.testing.assert_close(turned, torch.tensor([0.0, 1.0, 0.0]), atol=1e-7, rtol=0)
    angles = random(5)
    np.testing.assert_allclose(
        geometry.rotation_z(angles), Rotation.from_euler("z", angles[:, None].numpy()).as_matrix()
    )


# ------------------------------------------------------------------------------------------------------ cameras


def test_the_closed_form_camera_is_what_an_optimiser_finds():
    xyz = random(5, 21, 3, seed=7) * 0.05
    px = 900 * xyz[..., :2] + torch.tensor([200.0, 120.0]) + 4 * random(5, 21, 2, seed=8)
    cameras = geometry.weak_perspective(xyz, px)
    for points, target, camera in zip(xyz, px, cameras, strict=True):

        def residual(c, points=points, target=target):
            return (c[0] * points[:, :2].numpy() + c[1:] - target.numpy()).ravel()

        fit = least_squares(residual, x0=[100.0, 0, 0], x_scale=[100, 10, 10], xtol=1e-14, ftol=1e-14, gtol=1e-14)
        np.testing.assert_allclose(camera.numpy(), fit.x, rtol=1e-6)
    exact = geometry.project_weak(xyz, torch.tensor([[700.0, 3.0, -5.0]]).double())
    torch.testing.assert_close(geometry.weak_perspective(xyz, exact), torch.tensor([[700.0, 3, -5]] * 5).double())


def test_mirrored_or_collapsed_joints_still_fit_a_camera():
    xyz = random(1, 21, 3, seed=9)
    assert geometry.weak_perspective(xyz, -xyz[..., :2])[0, 0] < 0
    assert torch.isfinite(geometry.weak_perspective(torch.zeros(1, 21, 3), random(1, 21, 2).float())).all()


def test_control_points_come_in_the_authors_order():
    low, high = torch.tensor([-1.0, -2.0, -3.0]), torch.tensor([1.0, 2.0, 3.0])
    points = geometry.control_points(low, high)
    corners = [[(-1, 1)[k & 1], (-2, 2)[k >> 1 & 1], (-3, 3)[k >> 2 & 1]] for k in range(8)]
    torch.testing.assert_close(points[:8], torch.tensor(corners).float())
    ends = [(0, 2), (1, 3), (2, 3), (0, 1), (4, 6), (5, 7), (6, 7), (4, 5), (2, 6), (0, 4), (3, 7), (1, 5)]
    for row, (a, b) in enumerate(ends):
        torch.testing.assert_close(points[8 + row], (points[a] + points[b]) / 2)
    torch.testing.assert_close(points[20], torch.zeros(3))
    assert geometry.control_points(low.expand(4, 3), high.expand(4, 3)).shape == (4, 21, 3)


# -------------------------------------------------------------------------------------------- boxes and affines


def boxes(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def affine(angle, scale=1.0, shift=(0.0, 0.0)):
    c, s = scale * math.cos(angle), scale * math.sin(angle)
    return torch.tensor([[[c, -s, shift[0]], [s, c, shift[1]]]], dtype=torch.float64)


def test_iou_by_hand_disjoint_empty_and_unknown():
    first = boxes([0, 0, 2, 2], [0, 0, 1, 1], [3, 3, 3, 3], [0, 0, 1, math.nan], [0, 0, 4, 4])
    second = boxes([1, 1, 3, 3], [5, 5, 6, 6], [3, 3, 3, 3], [0, 0, 1, 1], [0, 0, 4, 4])
    iou = geometry.box_iou(first, second)
    torch.testing.assert_close(iou, torch.tensor([1 / 7, 0, 0, math.nan, 1]).double(), equal_nan=True)


def test_boxes_scale_about_the_centre_and_clip_to_the_picture():
    box = geometry.box_of_points(torch.tensor([[[3.0, 5.0], [-1.0, 9.0], [2.0, 7.0]]]))
    torch.testing.assert_close(box, torch.tensor([[-1.0, 5, 3, 9]]))
    torch.testing.assert_close(geometry.scale_box(box, 1.5), torch.tensor([[-2.0, 4, 4, 10]]))
    torch.testing.assert_close(geometry.clip_box(box, 100, 8), torch.tensor([[0.0, 5, 3, 8]]))
    widths = torch.tensor([2.0, 50.0])
    torch.testing.assert_close(geometry.clip_box(box.repeat(2, 1), widths, 8)[:, 2], torch.tensor([2.0, 3.0]))


def test_affines_map_as_opencv_does_and_come_back():
    maps = random(6, 2, 3, seed=10)
    points = random(6, 15, 2, seed=11)
    mapped = geometry.apply_affine(maps, points)
    np.testing.assert_allclose(mapped[2].numpy(), cv2.transform(points[2][None].numpy(), maps[2].numpy())[0])
    torch.testing.assert_close(geometry.apply_affine(geometry.invert_affine(maps), mapped), points)
    np.testing.assert_allclose(geometry.invert_affine(maps)[3].numpy(), cv2.invertAffineTransform(maps[3].numpy()))


@pytest.mark.parametrize("quarter", [0, 1, 2, 3, 4])
def test_a_box_turned_by_quarters_bounds_its_turned_corners(quarter):
    box = boxes([10, 20, 40, 30])
    transform = affine(quarter * math.pi / 2, scale=1.7, shift=(5.0, -3.0))
    corners = boxes([10, 20], [40, 20], [40, 30], [10, 30])[None]
    expected = geometry.box_of_points(geometry.apply_affine(transform, corners))
    torch.testing.assert_close(geometry.rotate_box(box, transform), expected)


def test_a_square_box_keeps_its_side_at_any_angle():
    for angle in torch.linspace(-7, 7, 23).tolist():
        turned = geometry.rotate_box(boxes([0, 0, 8, 8]), affine(angle, scale=0.5))
        torch.testing.assert_close(turned[:, 2:] - turned[:, :2], torch.full((1, 2), 4.0).double())


def test_a_turned_box_bounds_the_turned_ellipse_tightly():
    box, transform = boxes([-3, 1, 9, 5]), affine(0.6, scale=1.3, shift=(2.0, 4.0))
    angle = torch.linspace(0, 2 * math.pi, 20001, dtype=torch.float64)
    ellipse = torch.stack((3 + 6 * angle.cos(), 3 + 2 * angle.sin()), dim=-1)[None]
    expected = geometry.box_of_points(geometry.apply_affine(transform, ellipse))
    torch.testing.assert_close(geometry.rotate_box(box, transform), expected, atol=1e-6, rtol=0)


def test_turning_a_box_there_and_back_never_shrinks_it():
    box = boxes([10, 20, 50, 35])
    for angle in (0.2, 1.0, 2.2):
        back = geometry.rotate_box(geometry.rotate_box(box, affine(angle)), affine(-angle))
        assert (back[:, :2] <= box[:, :2] + 15).all()
        torch.testing.assert_close(back[:, :2] + back[:, 2:], box[:, :2] + box[:, 2:])


def test_autocast_leaves_every_answer_in_single_precision():
    rotations, points = random_rotations(4).float(), random(4, 5, 3).float() + 3
    vectors, transform = random(4, 3).float(), affine(0.3, 2.0, (3.0, 4.0)).float().expand(4, 2, 3)

    def answers():
        return (
            geometry.axis_angle_to_matrix(vectors),
            geometry.matrix_to_axis_angle(rotations),
            geometry.geodesic(rotations, rotations.flip(0)),
            geometry.mean_rotation(rotations),
            geometry.apply_affine(transform, points[..., :2]),
            geometry.rotate_box(torch.tensor([[1.0, 2, 300, 400]]).expand(4, 4), transform),
            geometry.weak_perspective(points, points[..., :2]),
        )

    exact = answers()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        coarse = answers()
    for ours, theirs in zip(coarse, exact, strict=True):
        assert ours.dtype == torch.float32
        assert torch.equal(ours, theirs)
