"""The teacher's predictor is held to the plain way, and bfloat16 to float32: in pixels, millimetres and verdicts."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch

from cluster.plain_way import PlainPredictor
from hojoint.config import CropConfig, FilterConfig, LabellingConfig, ManoConfig, ModelConfig, TtaConfig
from hojoint.hand.factory import hand_layer
from hojoint.labelling import labels
from hojoint.labelling.tta import HandPredictor
from hojoint.model.network import HOJoint
from hojoint.records import Clip, Frames, HandPrediction

FRAMES = 12
SIZES = [(160, 120), (200, 100)]  # width and height of each clip's frames
NUMBERS = [np.arange(FRAMES)] * len(SIZES)


def clip_of(index: int) -> Frames:
    """Blurred noise, a hand box that wanders, and an object box in every second frame."""
    random, (width, height) = np.random.default_rng(index), SIZES[index]
    coarse = random.integers(0, 255, (FRAMES, height // 8, width // 8, 3), np.uint8)
    rgb = np.stack([cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC) for image in coarse])
    corner = random.uniform(5, 45, (FRAMES, 2))
    boxes = np.concatenate([corner, corner + random.uniform(30, 70, (FRAMES, 2))], 1).astype(np.float32)
    objects = np.where(np.arange(FRAMES)[:, None] % 2, boxes + np.float32(10), np.float32(np.nan))
    return Frames(f"{index}-h0", rgb, boxes, objects)


CLIPS = [clip_of(index) for index in range(len(SIZES))]


def network() -> HOJoint:
    """Random weights; ``h+o+``, so that object boxes count for the hand, and a side head."""
    torch.manual_seed(0)
    config = ModelConfig(
        input_px=64, roi_cells=8, block="basic", blocks=(1, 1, 1, 1), width=8, channels=16, hourglass_depth=2,
        encoder_stages=2, mano_hidden=(32, 32), attention_hidden=16, reasoning="h+o+", side_head=True,
    )  # fmt: skip
    return HOJoint(config).eval()


def predictor_of(**options: Any) -> HandPredictor:
    crop = CropConfig(supersample=2, unlabelled_region="union")
    # Views turned half around would cancel out, and the mean of a random network's answers would mean nothing.
    tta = TtaConfig(rotation_deg=45)
    return HandPredictor(network(), hand_layer(ManoConfig()), crop, tta, "cpu", 24, **options)


def predict(predictor: HandPredictor | PlainPredictor) -> list[HandPrediction]:
    return predictor.predict(CLIPS, [False, True], numbers=NUMBERS, rows=NUMBERS)


@pytest.fixture(scope="module")
def predicted() -> list[HandPrediction]:
    return predict(predictor_of())


def furthest(ours: list[HandPrediction], others: list[HandPrediction]) -> tuple[float, float, float]:
    """The largest difference of a 2D joint (px), of a 3D joint (mm), and of a logit of the side."""
    pairs = list(zip(ours, others, strict=True))
    px = max(float((a.joints_px - b.joints_px).norm(dim=-1).max()) for a, b in pairs)
    mm = max(float(1e3 * (a.joints - b.joints).norm(dim=-1).max()) for a, b in pairs)
    assert all(a.side_logit is not None and b.side_logit is not None for a, b in pairs)
    return px, mm, max(float((a.side_logit - b.side_logit).abs().max()) for a, b in pairs)  # type: ignore[operator, union-attr]


def labelled(predictor: Any, threshold: float) -> list[labels.PseudoLabels]:
    clips = [
        Clip(frames.clip_id, frames.clip_id, "", NUMBERS[0].astype(np.int32), frames.hand_boxes, frames.object_boxes, 1)
        for frames in CLIPS
    ]
    rules = FilterConfig(enabled=("reprojection",), max_reprojection=threshold)
    side = LabellingConfig(side="right")
    return labels.label_clips(predictor, clips, CLIPS, filter_config=rules, labelling=side, teacher="")


@pytest.fixture(scope="module")
def middle() -> float:
    """A threshold that rejects every second frame, so that a small difference shows."""
    scores = torch.cat([label.scores["reprojection"] for label in labelled(predictor_of(), 0.65)])
    assert scores.unique().numel() > 20
    return float(scores.median())


def agreement(threshold: float, predictor: Any) -> float:
    """Share of the frames that get the same verdict as from the teacher in float32."""
    ours, others = labelled(predictor_of(), threshold), labelled(predictor, threshold)
    pairs = [pair for a, b in zip(ours, others, strict=True) for pair in zip(a.verdicts, b.verdicts, strict=True)]
    assert {verdict for verdict, _ in pairs} == {"kept", "reprojection"}
    return float(np.mean([one == other for one, other in pairs]))


def test_the_teacher_predicts_what_the_plain_way_predicts(predicted: list[HandPrediction]) -> None:
    px, mm, logit = furthest(predicted, predict(PlainPredictor(predictor_of())))
    assert px < 0.02  # OpenCV rounds its weights to 1/32 of a pixel, and pixels to whole numbers
    assert mm < 0.1
    assert logit < 1e-4


def test_bfloat16_moves_joints_little_but_it_moves_them(predicted: list[HandPrediction]) -> None:
    px, mm, logit = furthest(predicted, predict(predictor_of(precision="bfloat16")))
    assert 1e-3 < px < 0.1
    assert 1e-2 < mm < 1
    assert logit < 1e-2


def test_verdicts_are_those_of_the_plain_way(middle: float) -> None:
    assert agreement(middle, PlainPredictor(predictor_of())) >= 0.95


def test_bfloat16_changes_few_verdicts(middle: float) -> None:
    assert agreement(middle, predictor_of(precision="bfloat16")) >= 0.85


def test_bfloat16_is_for_the_network_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    predictor, seen = predictor_of(precision="bfloat16"), []
    pose = predictor.mano_layer.from_rotations
    monkeypatch.setattr(predictor.mano_layer, "from_rotations", lambda *given: (seen.extend(given), pose(*given))[1])
    prediction = predictor.predict(CLIPS[:1], [False], rows=[np.array([0])])[0]
    assert {value.dtype for value in seen} == {torch.float32}
    assert prediction.joints_px.dtype == prediction.vertices.dtype == torch.float32
    # Points in bfloat16 have 8 bits: none of these would be off the grid of halves.
    assert ((prediction.joints_px * 2) % 1).abs().max() > 1e-3
