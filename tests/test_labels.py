"""Clips become pseudo-labels: the side is found, frames stay in order, bad boxes get a verdict and raise nothing."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from oracle_network import OracleNetwork, blank_clip, predictor_of

from hojoint import geometry
from hojoint.config import FilterConfig, LabellingConfig
from hojoint.errors import InputError
from hojoint.labelling import camera, labels, reasons
from hojoint.records import Clip, Frames, PseudoLabels

SIZE = (240, 180)
CAMERA = torch.tensor([600.0, 120.0, 90.0])


class World:
    """Clips of a smoothly turning hand whose truth an oracle network knows."""

    def __init__(
        self,
        layer: Any,
        *,
        lefts: dict[str, bool],
        count: int = 20,
        batch_views: int = 64,
        sides: dict[str, float] | None = None,
    ) -> None:
        self.network = OracleNetwork(lost={clip_id: not left for clip_id, left in lefts.items()}, sides=sides)
        self.predictor = predictor_of(self.network, layer, batch_views=batch_views)
        self.clips, self.frames, self.truths = [], [], []
        for seed, (clip_id, left) in enumerate(lefts.items()):
            self._add(layer, clip_id, left, count, seed)

    def _add(self, layer: Any, clip_id: str, left: bool, count: int, seed: int) -> None:
        torch.manual_seed(seed)
        pose = 0.1 * torch.randn(48) + torch.linspace(0, 0.2, count)[:, None] * torch.randn(48).sign() * 0.3
        betas = 0.3 * torch.randn(10).expand(count, 10)
        out = layer(pose, betas)
        fixed = CAMERA.expand(count, 3)
        joints_px = camera.project(out.joints, fixed, flipped=left)
        boxes = geometry.box_of_points(camera.project(out.vertices, fixed, flipped=left)).numpy()
        numbers = np.arange(10, 10 + count, dtype=np.int32)
        pixels = blank_clip(clip_id, boxes, size=SIZE)
        clip = Clip(clip_id, clip_id, "x.webm", numbers, boxes, pixels.object_boxes, 40)
        truth = (joints_px, geometry.axis_angle_to_matrix(pose.reshape(count, 16, 3)), betas)
        # learnt as the labeller will ask: boxes clipped to the frame
        work = labels._work(clip, pixels)
        self.network.learn(self.predictor, work.frames, numbers, truth)
        self.clips.append(clip), self.frames.append(pixels), self.truths.append((truth, pose, left))

    def label(self, filter_config: FilterConfig | None = None, **labelling: Any) -> list[PseudoLabels]:
        return labels.label_clips(
            self.predictor,
            self.clips,
            self.frames,
            filter_config=filter_config or FilterConfig(),
            labelling=LabellingConfig(**labelling),
            teacher="t",
        )


def test_the_side_is_found_and_a_clear_clip_is_kept(layer: Any) -> None:
    world = World(layer, lefts={"a": False, "b": True, "c": True})
    labelled = world.label()
    assert [label.prediction.flipped for label in labelled] == [False, True, True]
    for label, (truth, pose, _) in zip(labelled, world.truths, strict=True):
        assert label.verdicts == (reasons.KEPT,) * 20
        torch.testing.assert_close(label.prediction.joints_px, truth[0], atol=1e-2, rtol=0)
        torch.testing.assert_close(label.prediction.pose, pose, atol=1e-4, rtol=0)
        torch.testing.assert_close(label.camera, CAMERA.expand(20, 3), atol=0.2, rtol=1e-3)
        assert label.teacher == "t"


def test_the_camera_carries_the_joints_to_the_labelled_pixels(layer: Any) -> None:
    # the contract's words: px = s * xy + t, xy of the right-hand model, negated in x for a left hand
    for label in World(layer, lefts={"a": False, "b": True}).label():
        xy = label.prediction.joints[..., :2].numpy().copy()
        if label.prediction.flipped:
            xy[..., 0] *= -1
        s, t = label.camera[:, :1].numpy()[:, None], label.camera[:, 1:].numpy()[:, None]
        np.testing.assert_allclose(s * xy + t, label.prediction.joints_px.numpy(), atol=0.05)


def test_probed_frames_are_not_predicted_again(layer: Any) -> None:
    world = World(layer, lefts={"a": True}, count=20)
    world.label(side_probe_frames=5)
    assert sum(world.network.asked) == 8 * (5 + 5 + 15)


def test_probing_changes_nothing_but_the_work(layer: Any) -> None:
    world = World(layer, lefts={"a": False, "b": False})
    probed, fixed = world.label(), world.label(side="right")
    assert sum(world.network.asked) == 8 * (2 * 8 * 2 + 12 * 2) + 8 * 40
    for a, b in zip(probed, fixed, strict=True):
        assert a.verdicts == b.verdicts
        torch.testing.assert_close(a.prediction.vertices, b.prediction.vertices, atol=1e-6, rtol=0)
        torch.testing.assert_close(a.prediction.joints_px, b.prediction.joints_px, atol=1e-4, rtol=0)


def test_a_clip_no_longer_than_the_probe_is_complete_after_it(layer: Any) -> None:
    for count in (1, 2, 8):
        world = World(layer, lefts={"a": True}, count=count)
        (label,) = world.label()
        assert label.prediction.flipped
        assert len(label.verdicts) == len(label.prediction.pose) == count
        assert sum(world.network.asked) == 16 * count


@pytest.mark.parametrize("left", [False, True])
def test_a_configured_side_is_not_doubted(layer: Any, left: bool) -> None:
    (label,) = World(layer, lefts={"a": not left}).label(side="left" if left else "right")
    assert label.prediction.flipped is left
    assert reasons.KEPT not in label.verdicts  # the oracle knows nothing of this side


def test_a_hand_outside_the_frame_is_rejected_as_box_iou(layer: Any) -> None:
    world = World(layer, lefts={"a": False}, count=10)
    clip, pixels = world.clips[0], world.frames[0]
    clip.hand_boxes[4] = (-90, 20, -30, 60)  # wholly outside
    clip.hand_boxes[5] = (100, 100, 100, 130)  # no width
    world.network.learn(world.predictor, labels._work(clip, pixels).frames, clip.frames, world.truths[0][0])
    (label,) = world.label()
    assert label.verdicts[:4] == (reasons.KEPT,) * 4
    assert label.verdicts[4:6] == ("box_iou", "box_iou")
    assert label.scores["box_iou"].isnan().tolist() == [t in (4, 5) for t in range(10)]
    assert (label.clip.hand_boxes >= 0).all()
    assert (label.clip.hand_boxes[:, 2:] <= SIZE).all()
    for value in vars(label.prediction).values():
        assert not isinstance(value, torch.Tensor) or value.isfinite().all()


def test_an_object_outside_the_frame_is_none(layer: Any) -> None:
    world = World(layer, lefts={"a": False}, count=3)
    clip = world.clips[0]
    clip.object_boxes[:] = [[-50, 0, -10, 20], [200, 150, 300, 300], [np.nan] * 4]
    work = labels._work(clip, world.frames[0])
    np.testing.assert_array_equal(
        work.clip.object_boxes, np.float32([[np.nan] * 4, [200, 150, 240, 180], [np.nan] * 4])
    )  # fmt: skip


def test_frames_of_another_clip_or_length_are_refused(layer: Any) -> None:
    world = World(layer, lefts={"a": False}, count=3)
    pixels = world.frames[0]
    world.frames[0] = Frames("b", pixels.rgb, pixels.hand_boxes, pixels.object_boxes)
    with pytest.raises(AssertionError):
        world.label()
    world.frames[0] = Frames("a", pixels.rgb[:2], pixels.hand_boxes[:2], pixels.object_boxes[:2])
    with pytest.raises(AssertionError):
        world.label()


def test_no_clips_make_no_labels(layer: Any) -> None:
    world = World(layer, lefts={})
    assert world.label() == []


def test_a_side_of_the_annotation_is_used_and_not_guessed(layer: Any) -> None:
    lefts = {"a": False, "b": True, "c": True, "d": False}
    world = World(layer, lefts=lefts)
    given = {"b": "left", "d": "right"}
    world.clips = [dataclasses.replace(clip, side=given.get(clip.clip_id)) for clip in world.clips]
    labelled = world.label()
    assert [label.prediction.flipped for label in labelled] == [False, True, True, False]
    assert [label.clip.clip_id for label in labelled] == list(lefts)
    # 8 views: 20 frames of each given clip once; of the others 8 probed twice and 12 more
    assert sum(world.network.asked) == 8 * (2 * 20 + 2 * (2 * 8 + 12))
    # Even where the other side fits better; but a setting is the last word.
    world.clips = [dataclasses.replace(clip, side="left") for clip in world.clips]
    assert [label.prediction.flipped for label in world.label()] == [True] * 4
    assert [label.prediction.flipped for label in world.label(side="right")] == [False] * 4


def test_a_side_head_decides_and_its_confidence_is_the_score(layer: Any) -> None:
    # of "b" the pose fits as a left hand, and the head is the last word
    world = World(layer, lefts={"a": False, "b": True, "c": True}, sides={"a": 2.0, "b": 0.5, "c": -0.25})
    world.clips[0] = dataclasses.replace(world.clips[0], side="right")
    labelled = world.label()
    assert [label.prediction.flipped for label in labelled] == [False, False, True]
    confidences = [1.0, 1 / (1 + np.exp(-0.5)), 1 / (1 + np.exp(-0.25))]
    for label, confidence, logit in zip(labelled, confidences, [2.0, 0.5, 0.25], strict=True):
        torch.testing.assert_close(label.scores["side"], torch.full((20,), confidence), atol=1e-6, rtol=0)
        torch.testing.assert_close(label.prediction.side_logit, torch.full((20,), logit))  # as the network saw it
    for side in ("right", "left"):
        assert all((label.scores["side"] == 1).all() for label in world.label(side=side))


def test_the_rule_rejects_all_frames_of_an_unsure_clip(layer: Any) -> None:
    world = World(layer, lefts={"a": False, "b": True}, sides={"a": 0.8, "b": -4.0})
    rule = FilterConfig(enabled=("box_iou", "side"), min_side_confidence=0.9)
    assert [label.verdicts for label in world.label(rule)] == [("side",) * 20, (reasons.KEPT,) * 20]


def test_a_vote_has_no_confidence_and_the_rule_refuses_it(layer: Any) -> None:
    world = World(layer, lefts={"a": True})
    assert all(label.scores["side"].isnan().all() for label in world.label())
    rule = FilterConfig(enabled=("side",))
    with pytest.raises(InputError, match=r"no side head"):
        world.label(rule)
    assert world.label(rule, side="left")[0].verdicts == (reasons.KEPT,) * 20
