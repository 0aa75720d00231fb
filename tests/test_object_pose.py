"""Object pose: a known pose comes back through projection, proposals and PnP."""

import cv2
import numpy as np
import torch

from hojoint.model.object_pose import best_proposals, solve

CAMERA = torch.tensor([[[600.0, 0, 256], [0, 600, 256], [0, 0, 1]]])
BOX = torch.tensor([[150.0, 120, 350, 300]])
CORNERS = np.array([[x, y, z] for z in (-1, 0, 1) for y in (-1, 0, 1) for x in (-1, 0, 1)], dtype=np.float64)
KEPT = [i for i, p in enumerate(CORNERS) if np.abs(p).sum() != 1]  # 8 corners, 12 edge middles, the centre
MODEL = torch.tensor(CORNERS[KEPT] * [0.05, 0.08, 0.03], dtype=torch.float32)[None]
POSE = np.hstack([cv2.Rodrigues(np.array([0.4, -0.7, 0.3]))[0], [[0.01], [-0.02], [0.6]]])


def _grid(noise_px: float = 0.0, confidence: float = 0.9) -> tuple[torch.Tensor, torch.Tensor]:
    """What a head would say of POSE: every cell proposes the true points, with noise."""
    generator = torch.Generator().manual_seed(0)
    points = MODEL[0].double().numpy() @ POSE[:, :3].T + POSE[:, 3]
    pixels = torch.from_numpy(points @ CAMERA[0].double().numpy().T).float()
    pixels = pixels[:, :2] / pixels[:, 2:]
    side = BOX[0, 2:] - BOX[0, :2]
    cells = pixels.expand(8, 8, 21, 2) + noise_px * torch.randn(8, 8, 21, 2, generator=generator)
    return ((cells - BOX[0, :2]) / side)[None], torch.full((1, 8, 8, 21), confidence)


def _angle_deg(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.degrees(np.linalg.norm(cv2.Rodrigues(first @ second.T)[0])))


def test_there_are_21_control_points() -> None:
    assert MODEL.shape == (1, 21, 3)


def test_a_known_pose_comes_back() -> None:
    prediction = solve(*_grid(), BOX, CAMERA, MODEL)
    assert prediction.solved[0]
    assert _angle_deg(prediction.pose[0, :, :3], POSE[:, :3]) < 0.05
    np.testing.assert_allclose(prediction.pose[0, :, 3], POSE[:, 3], atol=1e-4)
    points = MODEL[0].numpy() @ POSE[:, :3].T + POSE[:, 3]
    np.testing.assert_allclose(prediction.control_px[0], 600 * points[:, :2] / points[:, 2:] + 256, atol=1e-2)
    np.testing.assert_allclose(prediction.confidence[0], 0.9, atol=1e-6)


def test_wild_proposals_are_outvoted_and_refining_does_no_harm() -> None:
    control, confidence = _grid(noise_px=1.0)
    control[0, :2] += 0.4  # a quarter of the cells points 80 px away, with the same confidence
    plain = solve(control, confidence, BOX, CAMERA, MODEL, proposals=40)
    both = solve(control, confidence, BOX, CAMERA, MODEL, refine=True, proposals=40)
    assert plain.solved[0]
    assert plain.refined is None
    assert both.refined is not None
    np.testing.assert_array_equal(both.pose, plain.pose)  # refinement leaves the plain pose alone
    errors = [_angle_deg(pose[0, :, :3], POSE[:, :3]) for pose in (both.pose, both.refined)]
    assert max(errors) < 1.5
    assert errors[1] <= errors[0] + 0.05


def test_proposals_are_those_of_repeated_arg_max_ties_and_all() -> None:
    generator = np.random.default_rng(0)
    confidence = generator.integers(0, 6, (2, 4, 4, 21)) / 6  # many ties
    control = generator.random((2, 4, 4, 21, 2))
    points, scores = best_proposals(control, confidence, count=10)
    left = confidence.reshape(2, 16, 21) + 1  # so that a zeroed pick is below all
    for pick in range(10):
        best = left.argmax(axis=1)
        for image in range(2):
            for joint in range(21):
                cell = best[image, joint]
                assert scores[image, pick, joint] == confidence.reshape(2, 16, 21)[image, cell, joint]
                np.testing.assert_array_equal(
                    points[image, pick, joint], control.reshape(2, 16, 21, 2)[image, cell, joint]
                )
                left[image, cell, joint] = 0


def test_too_few_sure_proposals_give_the_identity_a_metre_away() -> None:
    control, confidence = _grid(confidence=0.5)  # not above the cut
    prediction = solve(control, confidence, BOX, CAMERA, MODEL)
    assert not prediction.solved[0]
    np.testing.assert_array_equal(
        solve(control, confidence, BOX, CAMERA, MODEL, refine=True).refined, prediction.pose
    )  # fmt: skip
    np.testing.assert_array_equal(prediction.pose[0], [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1]])
    assert solve(control, confidence, BOX, CAMERA, MODEL, min_confidence=0.4).solved[0]


def test_images_without_box_camera_or_spread_are_unsolved() -> None:
    control, confidence = (x.repeat(4, *[1] * (x.dim() - 1)) for x in _grid())
    boxes, cameras, models = BOX.repeat(4, 1), CAMERA.repeat(4, 1, 1), MODEL.repeat(4, 1, 1)
    boxes[1], cameras[2] = torch.nan, torch.nan
    control[3] = torch.nan  # what the network says of an image without an object
    confidence[3] = 0
    prediction = solve(control, confidence, boxes, cameras, models)
    assert prediction.solved.tolist() == [True, False, False, False]
    assert np.isfinite(prediction.pose).all()
    assert np.isnan(prediction.control_px[3]).all()


def test_points_that_all_coincide_have_no_pose_or_a_finite_one() -> None:
    control, confidence = _grid()
    prediction = solve(control * 0 + 0.5, confidence, BOX, CAMERA, MODEL * 0, refine=True)
    assert np.isfinite(prediction.pose).all()
