"""Refinement of a clip: what each part does to labels whose truth is known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from hojoint import geometry
from hojoint.config import RefineConfig
from hojoint.hand.layer import ManoLayer
from hojoint.hand.stand_in.model import stand_in_model
from hojoint.labelling import refine
from hojoint.records import Refined

FRAMES = 9


@pytest.fixture(scope="module")
def layer() -> ManoLayer:
    return ManoLayer(stand_in_model())


@dataclasses.dataclass(frozen=True)
class Scene:
    """A hand that turns slowly in boxes that follow it, with exact 2D joints."""

    pose: Tensor
    betas: Tensor
    joints_px: Tensor
    boxes: Tensor
    frames: Tensor

    def refined(self, layer: ManoLayer, **changes) -> Refined:
        given = {
            **vars(self), "flipped": False, "kept": torch.ones(len(self.frames), dtype=torch.bool), "quality": None,
            "layer": layer, "device": "cpu",
        }  # fmt: skip
        given |= {name: changes.pop(name) for name in list(changes) if name in given}
        return refine.refined(**given, config=RefineConfig(**changes))


def scene_of(layer: ManoLayer, seed: int = 0) -> Scene:
    generator = torch.Generator().manual_seed(seed)
    pose = torch.zeros(FRAMES, 48)
    pose[:, 3:] = 0.3 * torch.randn(45, generator=generator)
    turn = torch.stack([torch.tensor([0.4, 0.05 * t, 0.3 + 0.06 * t]) for t in range(FRAMES)])
    pose[:, :3] = turn
    betas = torch.randn(1, 10, generator=generator).expand(FRAMES, 10).clone()
    joints = layer(pose, betas).joints
    middle = torch.stack([torch.tensor([150.0 + 5 * t, 100.0]) for t in range(FRAMES)])
    px = 800 * joints[..., :2] + middle[:, None]
    boxes = torch.cat([px.amin(1) - 10, px.amax(1) + 10], 1)
    return Scene(pose, betas, px, boxes, torch.arange(FRAMES))


def orientation_of(pose: Tensor) -> Tensor:
    return geometry.axis_angle_to_matrix(pose[:, :3].double())


def mirrored(scene: Scene, width: float = 400.0) -> Scene:
    px, boxes = scene.joints_px.clone(), scene.boxes.clone()
    px[..., 0] = width - px[..., 0]
    boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
    return dataclasses.replace(scene, joints_px=px, boxes=boxes)


def test_a_label_without_any_part_is_the_prediction(layer: ManoLayer) -> None:
    scene = scene_of(layer)
    labels = scene.refined(layer)
    assert labels.rows.tolist() == list(range(FRAMES))
    assert not labels.filled.any()
    torch.testing.assert_close(labels.pose, scene.pose, atol=1e-5, rtol=0)
    torch.testing.assert_close(labels.joints_px, scene.joints_px, atol=1e-3, rtol=0)
    torch.testing.assert_close(labels.camera[:, 0], torch.full((FRAMES,), 800.0), atol=0.1, rtol=0)


def test_no_kept_frame_gives_no_label(layer: ManoLayer) -> None:
    labels = scene_of(layer).refined(layer, kept=torch.zeros(FRAMES, dtype=torch.bool), one_shape=True, fit_steps=3)
    assert len(labels.rows) == len(labels.pose) == len(labels.camera) == 0


def test_one_shape_is_the_mean_weighted_by_quality(layer: ManoLayer) -> None:
    scene = scene_of(layer)
    betas = scene.betas.clone()
    betas[0] += 3.0
    scene = dataclasses.replace(scene, betas=betas)
    torch.testing.assert_close(scene.refined(layer, one_shape=True).betas[4], betas.mean(0))
    quality = torch.ones(FRAMES)
    quality[0] = 0.0
    weighted = scene.refined(layer, one_shape=True, quality=quality).betas
    torch.testing.assert_close(weighted, betas[1:2].expand(FRAMES, 10), atol=1e-5, rtol=0)


def test_smoothing_removes_noise_and_leaves_a_steady_motion(layer: ManoLayer) -> None:
    scene = scene_of(layer)
    same = scene.refined(layer, smooth_frames=3)
    torch.testing.assert_close(same.pose, scene.pose, atol=2e-3, rtol=0)
    generator = torch.Generator().manual_seed(1)
    noisy = dataclasses.replace(
        scene,
        pose=scene.pose + 0.05 * torch.randn(FRAMES, 48, generator=generator),
        joints_px=scene.joints_px + 3 * torch.randn(FRAMES, 21, 2, generator=generator),
    )
    labels = noisy.refined(layer, smooth_frames=3)
    assert (labels.pose - scene.pose).square().mean() < 0.5 * (noisy.pose - scene.pose).square().mean()
    assert (labels.joints_px - scene.joints_px).square().mean() < 0.5 * (
        noisy.joints_px - scene.joints_px
    ).square().mean()


def test_a_frame_that_disagrees_is_not_averaged_in(layer: ManoLayer) -> None:
    scene = scene_of(layer)
    pose = scene.pose.clone()
    pose[4, :3] += torch.tensor([0.0, 0.0, 2.0])
    labels = dataclasses.replace(scene, pose=pose).refined(layer, smooth_frames=1, max_turn_deg=10.0)
    torch.testing.assert_close(labels.pose, pose, atol=2e-3, rtol=0)


@pytest.mark.parametrize("flipped", [False, True], ids=["right", "left"])
def test_the_fit_finds_the_orientation_of_exact_joints(layer: ManoLayer, flipped: bool) -> None:
    true = scene_of(layer)
    scene = mirrored(true) if flipped else true
    off = scene.pose.clone()
    off[:, :3] += torch.tensor([0.25, -0.2, 0.3])
    labels = dataclasses.replace(scene, pose=off).refined(
        layer, flipped=flipped, fit_steps=30, fit_orientation_weight=1e-6, fit_smooth_weight=0.0
    )
    before = geometry.geodesic(orientation_of(off), orientation_of(scene.pose))
    after = geometry.geodesic(orientation_of(labels.pose), orientation_of(scene.pose))
    assert (after < 0.02).all()
    assert (before > 0.3).all()
    torch.testing.assert_close(labels.pose[:, 3:], off[:, 3:], atol=1e-5, rtol=0)
    expected = layer(labels.pose, labels.betas).joints * torch.tensor([-1.0 if flipped else 1.0, 1, 1])
    projected = geometry.project_weak(expected, labels.camera)
    torch.testing.assert_close(projected, scene.joints_px, atol=1.0, rtol=0)


def test_a_gap_between_kept_frames_is_filled_on_the_way(layer: ManoLayer) -> None:
    scene = scene_of(layer)
    kept = torch.ones(FRAMES, dtype=torch.bool)
    kept[[0, 3, 4]] = False
    broken = dataclasses.replace(scene, pose=scene.pose.clone(), joints_px=scene.joints_px.clone())
    broken.pose[[0, 3, 4]] = torch.nan
    broken.joints_px[[0, 3, 4]] = torch.nan
    labels = broken.refined(layer, kept=kept, fill_frames=2)
    assert labels.rows.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert labels.rows[labels.filled].tolist() == [3, 4]
    rows = torch.from_numpy(labels.rows)
    apart = geometry.geodesic(orientation_of(labels.pose), orientation_of(scene.pose[rows]))
    assert float(apart.max()) < 0.01
    assert float((labels.joints_px - scene.joints_px[rows]).abs().max()) < 5
    assert not broken.refined(layer, kept=kept, fill_frames=1).filled.any()
    assert not broken.refined(layer, kept=kept, fill_frames=2, max_turn_deg=1.0).filled.any()


def test_frames_between_count_by_number_and_not_by_row(layer: ManoLayer) -> None:
    scene = scene_of(layer)
    kept = torch.tensor([True, False, *[True] * (FRAMES - 2)])
    holed = dataclasses.replace(scene, frames=torch.tensor([0, 1, *range(5, FRAMES + 3)]))
    assert not holed.refined(layer, kept=kept, fill_frames=3).filled.any()
    assert holed.refined(layer, kept=kept, fill_frames=4).filled.sum() == 1


@pytest.mark.parametrize("pictures", [[4] * FRAMES, [2, 3] * FRAMES], ids=["every_4th", "two_and_three"])
def test_frames_count_by_the_step_of_the_boxes(layer: ManoLayer, pictures: list[int]) -> None:
    scene = scene_of(layer)
    spread = dataclasses.replace(scene, frames=torch.tensor([0, *pictures[: FRAMES - 1]]).cumsum(0))
    kept = torch.tensor([True, False, *[True] * (FRAMES - 2)])
    assert spread.refined(layer, kept=kept, fill_frames=1).filled.sum() == 1
    assert not spread.refined(layer, kept=kept, fill_frames=1, max_turn_deg=3.0).filled.any()
    pose = scene.pose + 0.05 * torch.randn(scene.pose.shape, generator=torch.Generator().manual_seed(1))
    noisy = dataclasses.replace(spread, pose=pose)
    smoothed, close = (noisy.refined(layer, smooth_frames=reach).pose for reach in (2, 1))
    assert float((smoothed - noisy.pose).abs().max()) > 0.01
    assert float((close - smoothed).abs().max()) > 0.001


def test_refinement_does_not_depend_on_rejected_predictions(layer: ManoLayer) -> None:
    scene = scene_of(layer)
    kept = torch.tensor([True, True, False, *[True] * (FRAMES - 3)])
    other = dataclasses.replace(scene, pose=scene.pose.clone(), betas=scene.betas.clone())
    other.pose[2], other.betas[2] = 1.0, 9.0
    options = {"one_shape": True, "smooth_frames": 2, "fill_frames": 2, "fit_steps": 4, "kept": kept}
    one, two = scene.refined(layer, **options), other.refined(layer, **options)
    for name in ("pose", "betas", "joints_px", "camera"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
