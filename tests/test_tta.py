"""Views are undone exactly, averaged on SO(3), and do not know whom they share a batch with (reading A10)."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from oracle_network import Eyes, OracleNetwork, blank_clip, predictor_of
from torch import Tensor

from hojoint import geometry
from hojoint.config import CropConfig, ManoConfig, ModelConfig, TtaConfig
from hojoint.hand.factory import hand_layer
from hojoint.labelling import views as view_table
from hojoint.labelling.tta import HandPredictor
from hojoint.model.network import HOJoint
from hojoint.records import Frames, HandPrediction

BOXES = [[40, 30, 100, 90], [10.5, 0, 70, 95], [90, 60, 160, 120]]


def truth(count: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    joints = 60 + 40 * torch.rand(count, 21, 2, generator=random)
    rotations = geometry.axis_angle_to_matrix(2 * torch.randn(count, 16, 3, generator=random))
    return joints, rotations, torch.randn(count, 10, generator=random)


def oracle(layer: Any, clips: list[Frames], truths: list[Any], **options: Any) -> tuple[Any, OracleNetwork]:
    network = OracleNetwork()
    predictor = predictor_of(network, layer, **options)
    for clip, known in zip(clips, truths, strict=True):
        network.learn(predictor, clip, np.arange(len(clip.rgb)), known)
    return predictor, network


def assert_same(a: HandPrediction, b: HandPrediction, *, px: float = 1e-3, other: float = 1e-5) -> None:
    torch.testing.assert_close(a.joints_px, b.joints_px, atol=px, rtol=0)
    for name in ("rotations", "betas", "joints", "vertices"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), atol=other, rtol=0)


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("views", [1, 8])
def test_undoing_is_exact(layer: Any, flipped: bool, views: int) -> None:
    clip, known = blank_clip("7-h0", BOXES), truth(3)
    predictor, _ = oracle(layer, [clip], [known], views=views)
    predicted = predictor.predict([clip], [flipped])[0]
    torch.testing.assert_close(predicted.joints_px, known[0], atol=2e-4, rtol=0)
    torch.testing.assert_close(predicted.rotations, known[1], atol=1e-5, rtol=0)
    torch.testing.assert_close(predicted.betas, known[2], atol=1e-5, rtol=0)
    assert predicted.flipped is flipped
    for spread in (predicted.joints_spread_px, predicted.rotation_spread):
        assert spread.isnan().all() if views == 1 else (spread < 1e-3).all()  # one view alone has no spread


def test_joints_and_pose_follow_from_the_averaged_rotations(layer: Any) -> None:
    clip, known = blank_clip("7-h0", BOXES), truth(3)
    predicted = oracle(layer, [clip], [known])[0].predict([clip], [False])[0]
    again = layer(predicted.pose, predicted.betas)
    torch.testing.assert_close(again.vertices, predicted.vertices, atol=1e-5, rtol=0)
    torch.testing.assert_close(again.joints, predicted.joints, atol=1e-5, rtol=0)
    torch.testing.assert_close(predicted.joints[:, 0], torch.zeros(3, 3))


def test_views_are_turned_by_equal_steps_about_the_hand(layer: Any) -> None:
    clip = blank_clip("7-h0", BOXES)
    predictor = predictor_of(OracleNetwork(), layer, crop=CropConfig())
    views = predictor.views(clip, False, np.arange(3), np.arange(3))
    angles = views.angles.reshape(3, 8).double()
    steps = torch.remainder(angles.diff(dim=1), 2 * math.pi)
    torch.testing.assert_close(steps, torch.full_like(steps, math.pi / 4), atol=1e-5, rtol=0)
    scale = torch.linalg.det(views.affines[..., :2]).sqrt().reshape(3, 8)
    sides = torch.tensor([60.0, 95.0, 70.0])[:, None]
    ratio = scale * 2.0 * sides / 64  # 1 where the crop of hand_context 2 fills the input exactly
    assert ((ratio > 0.89) & (ratio < 1.12)).all()
    centre = geometry.apply_affine(
        views.affines, torch.tensor(BOXES)[views.frame_rows].reshape(-1, 2, 2).mean(1)[:, None]
    )
    assert ((centre - 31.5).abs() < 0.05 * 64 * 1.2 + 1).all()


def test_draws_depend_on_clip_and_frame_number_alone() -> None:
    base = view_table.draws("7-h0", 5, TtaConfig())
    np.testing.assert_array_equal(base, view_table.draws("7-h0", 5, TtaConfig()))
    assert not np.allclose(base, view_table.draws("7-h0", 6, TtaConfig()))
    assert not np.allclose(base, view_table.draws("7-h1", 5, TtaConfig()))
    assert (np.abs(base[:, 1:]) <= 1).all()


def test_views_turn_no_further_than_they_may() -> None:
    angles = view_table.draws("7-h0", 5, TtaConfig(views=6, rotation_deg=45))[:, 0]
    np.testing.assert_allclose(np.diff(angles), math.radians(15))
    assert np.abs(angles).max() <= math.radians(45)


def test_the_order_of_the_views_does_not_matter(layer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clip, known = blank_clip("7-h0", BOXES), truth(3)

    def noise(joints: Tensor, rotations: Tensor, betas: Tensor) -> tuple[Tensor, ...]:
        # a different error in every view, which follows the view and not its row in the batch
        key = (joints[:, 3, 0] * 997).frac()[:, None]
        turn = geometry.rotation_z(0.3 * key[:, 0])[:, None]
        return joints + 0.05 * key[..., None], turn @ rotations, betas + key

    straight, network = oracle(layer, [clip], [known])
    network.noise = noise
    first = straight.predict([clip], [False])[0]
    draws, order = view_table.draws, np.random.default_rng(0).permutation(8)
    monkeypatch.setattr(view_table, "draws", lambda *key: draws(*key)[order])
    second = straight.predict([clip], [False])[0]
    assert_same(first, second, px=1e-4, other=1e-6)
    torch.testing.assert_close(first.joints_spread_px, second.joints_spread_px)
    assert (first.joints_spread_px > 0.5).all()


def test_the_spread_is_the_rms_distance_from_the_views_mean(layer: Any) -> None:
    clip, known = blank_clip("7-h0", BOXES[:1]), truth(1)
    predictor, network = oracle(layer, [clip], [known])
    views = predictor.views(clip, False, np.arange(1), np.arange(1))
    sign = torch.tensor([1.0, -1.0]).repeat(4)

    def noise(joints: Tensor, rotations: Tensor, betas: Tensor) -> tuple[Tensor, ...]:
        # 3 px of the native frame to the right or left; half the views turn every joint by +0.2 and half by -0.2 rad
        moved = (views.affines[..., :2] @ torch.tensor([3.0, 0.0])) * sign[:, None]
        size = views.hand_boxes[:, 2:] - views.hand_boxes[:, :2]
        turn = geometry.rotation_z(0.2 * sign)[:, None]
        return joints + (moved / size)[:, None], turn @ rotations, betas

    network.noise = noise
    predicted = predictor.predict([clip], [False])[0]
    torch.testing.assert_close(predicted.joints_px, known[0], atol=1e-3, rtol=0)
    assert predicted.joints_spread_px.item() == pytest.approx(3.0, abs=1e-3)
    assert predicted.rotation_spread.item() == pytest.approx(0.2, abs=1e-4)
    torch.testing.assert_close(predicted.rotations, known[1], atol=1e-5, rtol=0)


def test_a_rotation_near_pi_is_averaged_without_a_wrap(layer: Any) -> None:
    clip = blank_clip("7-h0", BOXES[:1])
    joints, rotations, betas = truth(1)
    rotations[0, 3] = geometry.axis_angle_to_matrix(torch.tensor([math.pi, 0.0, 0.0]))
    predictor, network = oracle(layer, [clip], [(joints, rotations, betas)])
    sign = torch.tensor([1.0, -1.0]).repeat(4)

    def noise(j: Tensor, r: Tensor, s: Tensor) -> tuple[Tensor, ...]:
        wobble = torch.zeros(8, 3)
        wobble[:, 0] = 0.1 * sign
        r = r.clone()
        r[:, 3] = geometry.axis_angle_to_matrix(wobble) @ r[:, 3]
        return j, r, s

    network.noise = noise
    predicted = predictor.predict([clip], [False])[0]
    assert geometry.geodesic(predicted.rotations[0, 3], rotations[0, 3]).item() < 1e-4


def test_a_view_that_is_not_finite_spoils_its_frame_and_no_other(layer: Any) -> None:
    clip, known = blank_clip("7-h0", BOXES), truth(3)
    predictor, network = oracle(layer, [clip], [known], batch_views=24)

    def noise(joints: Tensor, rotations: Tensor, betas: Tensor) -> tuple[Tensor, ...]:
        rotations = rotations.clone()
        rotations[9] = torch.nan  # the second view of the second frame
        return joints, rotations, betas

    network.noise = noise
    predicted = predictor.predict([clip], [False])[0]
    assert predicted.pose.isnan().any(1).tolist() == [False, True, False]
    assert predicted.vertices.isnan().any(2).any(1).tolist() == [False, True, False]


@pytest.mark.parametrize("batch_views", [1, 7, 8, 100])
def test_clips_that_share_batches_keep_their_own_answers(layer: Any, batch_views: int) -> None:
    clips = [blank_clip("a", BOXES), blank_clip("b", BOXES[:1]), blank_clip("c", BOXES[1:], size=(200, 140))]
    truths = [truth(3, 1), truth(1, 2), truth(2, 3)]
    predictor, network = oracle(layer, clips, truths, batch_views=batch_views)
    predicted = predictor.predict(clips, [False, True, False])
    for prediction, known in zip(predicted, truths, strict=True):
        torch.testing.assert_close(prediction.joints_px, known[0], atol=5e-4, rtol=0)
        torch.testing.assert_close(prediction.rotations, known[1], atol=1e-5, rtol=0)
    assert sum(network.asked) == 8 * 6
    assert max(network.asked) <= batch_views


def test_some_rows_are_predicted_as_they_are_among_all(layer: Any) -> None:
    clip, known = blank_clip("a", BOXES), truth(3)
    predictor, network = oracle(layer, [clip], [known])
    predicted = predictor.predict([clip], [False], rows=[np.array([2, 0])])[0]
    torch.testing.assert_close(predicted.joints_px, known[0][[2, 0]], atol=5e-4, rtol=0)
    assert network.asked == [16]


def tiny_network() -> HOJoint:
    torch.manual_seed(0)
    config = ModelConfig(
        input_px=64, roi_cells=8, block="basic", blocks=(1, 1, 1, 1), width=8, channels=16, hourglass_depth=2,
        encoder_stages=2, mano_hidden=(32, 32), attention_hidden=16, reasoning="h+o+",
    )  # fmt: skip
    return HOJoint(config).eval()


def noisy_clip(clip_id: str, count: int, seed: int, size: tuple[int, int] = (160, 120)) -> Frames:
    random = np.random.default_rng(seed)
    rgb = random.integers(0, 255, (count, size[1] // 8, size[0] // 8, 3), np.uint8)
    rgb = np.stack([cv2.resize(image, size, interpolation=cv2.INTER_CUBIC) for image in rgb])
    corner = random.uniform(10, 50, (count, 2))
    boxes = np.concatenate([corner, corner + random.uniform(30, 60, (count, 2))], 1).astype(np.float32)
    return Frames(clip_id, rgb, boxes, boxes + np.float32(10))


def test_a_frames_result_does_not_depend_on_its_batch(layer: Any) -> None:
    network = tiny_network()
    clips = [noisy_clip("a", 3, 1), noisy_clip("b", 2, 2, (200, 100))]
    alone = [predictor_of(network, layer, batch_views=5).predict([clip], [False])[0] for clip in clips]
    together = predictor_of(network, layer, batch_views=11).predict(clips, [False, False])
    single = predictor_of(network, layer).predict(clips[:1], [False], rows=[np.array([1])])[0]
    for a, b in zip(alone, together, strict=True):
        assert_same(a, b, px=1e-2, other=1e-4)
    torch.testing.assert_close(single.joints_px[0], alone[0].joints_px[1], atol=1e-2, rtol=0)


def test_a_left_hand_is_the_right_hand_of_the_mirrored_video(layer: Any) -> None:
    predictor = predictor_of(tiny_network(), layer)
    clip = noisy_clip("a", 3, 4)
    width = clip.rgb.shape[2]

    def mirrored(boxes: np.ndarray) -> np.ndarray:
        return np.stack([width - 1 - boxes[:, 2], boxes[:, 1], width - 1 - boxes[:, 0], boxes[:, 3]], 1)

    twin = Frames("a", clip.rgb[:, :, ::-1].copy(), mirrored(clip.hand_boxes), mirrored(clip.object_boxes))
    left, right = predictor.predict([clip], [True])[0], predictor.predict([twin], [False])[0]
    torch.testing.assert_close(width - 1 - left.joints_px[..., 0], right.joints_px[..., 0], atol=0.05, rtol=0)
    torch.testing.assert_close(left.joints_px[..., 1], right.joints_px[..., 1], atol=0.05, rtol=0)
    torch.testing.assert_close(left.rotations, right.rotations, atol=2e-3, rtol=0)


def test_object_boxes_turn_with_their_views(layer: Any) -> None:
    objects = [[50, 40, 110, 100], [np.nan] * 4, [60, 60, 120, 120]]
    clip, known = blank_clip("a", BOXES, objects=objects), truth(3)
    predictor, network = oracle(layer, [clip], [known])
    predictor.predict([clip], [False])
    seen = torch.cat(network.object_boxes).reshape(3, 8, 4)
    assert seen[1].isnan().all()
    # a square box keeps its side, up to the view's scale, whatever the turn
    views = predictor.views(clip, False, np.arange(3), np.arange(3))
    scale = torch.linalg.det(views.affines[..., :2]).sqrt().reshape(3, 8)
    torch.testing.assert_close((seen[..., 2] - seen[..., 0])[[0, 2]], 60 * scale[[0, 2]], atol=1e-3, rtol=0)


def test_hands_are_labelled_alone_unless_the_crop_is_the_union(layer: Any) -> None:
    network = tiny_network()
    clip = noisy_clip("a", 2, 1)
    bare = Frames("a", clip.rgb, clip.hand_boxes, np.full_like(clip.hand_boxes, np.nan))
    predictor = predictor_of(network, layer, crop=CropConfig())
    alone, without = (predictor.predict([one], [False])[0] for one in (clip, bare))
    assert_same(alone, without, px=0, other=0)
    union = predictor_of(network, layer)
    assert not torch.equal(union.predict([clip], [False])[0].joints_px, alone.joints_px)


@pytest.mark.parametrize("flipped", [False, True])
def test_joints_seen_in_turned_crops_return_to_the_frame(layer: Any, flipped: bool) -> None:
    width, height = 160, 120
    red, green = (70, 50), (95, 70)
    image = np.zeros((height, width, 3), np.float32)
    y, x = np.mgrid[:height, :width]
    for channel, (cx, cy) in enumerate((red, green)):
        image[..., channel] = 255 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 18)
    boxes = np.float32([[50, 30, 120, 90]])
    clip = Frames("a", image.round().astype(np.uint8)[None], boxes, np.full_like(boxes, np.nan))
    predicted = predictor_of(Eyes(), layer, crop=CropConfig(context=1.6)).predict([clip], [flipped])[0]
    torch.testing.assert_close(predicted.joints_px[0, 0], torch.tensor([70.0, 50.0]), atol=0.05, rtol=0)
    torch.testing.assert_close(predicted.joints_px[0, 1], torch.tensor([95.0, 70.0]), atol=0.05, rtol=0)
    assert predicted.joints_spread_px.item() < 0.2
    # the scene's own angle: of the mirrored scene for a left hand
    angle = math.atan2(20, -25 if flipped else 25)
    torch.testing.assert_close(
        predicted.rotations[0, 0], geometry.rotation_z(torch.tensor(angle)), atol=0.01, rtol=0
    )  # fmt: skip


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_predicts_what_the_cpu_predicts() -> None:
    clips = [noisy_clip("a", 3, 1), noisy_clip("b", 2, 2, (200, 100))]
    crop, settings = CropConfig(), TtaConfig()
    predicted = [
        HandPredictor(tiny_network(), hand_layer(ManoConfig()), crop, settings, device, 20).predict(
            clips, [False, True]
        )
        for device in ("cpu", "cuda")
    ]
    for a, b in zip(*predicted, strict=True):
        assert b.joints_px.device.type == "cpu"
        assert_same(a, b, px=0.5, other=0.02)  # TF32 convolutions
