"""Oracles: labels rewritten from the truth, in steps; pictures stay, counts add up, an output resumes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from hojoint.config import ManoConfig
from hojoint.evaluation import label_quality, oracle
from hojoint.evaluation.label_quality import CorrectWhen
from hojoint.hand.factory import hand_layer
from hojoint.labelling import tables

FRAMES = 6
WRONG_SIDE, WRONG_POSE, REJECTED, NO_HAND = 1, 2, 3, 4  # rows


@pytest.fixture(scope="module")
def joints_of():
    return label_quality.joints_of(hand_layer(ManoConfig()))


def truth_of(joints_of, rng):
    """True poses of all frames but one; every second hand is a left one."""
    pose = rng.normal(0, 0.1, (FRAMES, 48)).astype(np.float32)
    shape = rng.normal(0, 0.5, (FRAMES, 10)).astype(np.float32)
    joints = joints_of(pose, shape)
    left = np.arange(FRAMES) % 2 == 1
    px = 400 * joints[:, :, :2] * np.where(left[:, None, None], [-1.0, 1], 1.0) + 100
    rows = [
        {
            "video_id": "v", "frame": number, "side": "left" if left[number] else "right",
            "pose": pose[number].tolist(), "shape": shape[number].tolist(),
            "joints_px": px[number].ravel().tolist(), "joints": joints[number].ravel().tolist(),
        }
        for number in range(FRAMES)
        if number != NO_HAND
    ]  # fmt: skip
    return pa.Table.from_pylist(rows), pose, shape, left, px


@pytest.fixture(scope="module")
def made(joints_of):
    """Two tables of labels that are correct but for the named rows, and the truth."""
    truth, pose, shape, left, px = truth_of(joints_of, np.random.default_rng(0))
    rows = []
    for number in range(FRAMES):
        predicted = pose[number] + (1.5 if number == WRONG_POSE else 0)
        rows.append({
            "video_id": "v", "clip_id": "v-0", "frame": number, "flipped": bool(left[number]) != (number == WRONG_SIDE),
            "hand_box": [*px[number].min(0), *px[number].max(0)], "object_box": None,
            "joints_px": px[number].ravel().tolist(), "mano_pose": predicted.tolist(),
            "mano_shape": shape[number].tolist(), "camera": [400.0, 100.0, 100.0],
            "verdict": "box_iou" if number == REJECTED else "kept", "teacher": "t", "quality": 0.5, "filled": False,
            "image": b"picture %d" % number, "image_box": [0.0, 0.0, 9.0, 9.0],
        })  # fmt: skip
    labels = pa.Table.from_pylist(rows, schema=tables.PSEUDO_LABELS_SCHEMA)
    predictions = pa.Table.from_pylist(rows, schema=tables.PREDICTIONS_SCHEMA)
    return predictions, labels.take(pa.array([n for n in range(FRAMES) if n != REJECTED])), truth


def rewritten(made, joints_of, which):
    predictions, labels, truth = made
    out = oracle.rewrite(predictions, labels, truth, oracle=which, when=CorrectWhen(), joints_of=joints_of)
    assert out.predictions.schema.equals(tables.PREDICTIONS_SCHEMA)
    assert out.pseudo_labels.schema.equals(tables.PSEUDO_LABELS_SCHEMA)
    kept = [row["frame"] for row in out.predictions.to_pylist() if row["verdict"] == "kept"]
    assert kept == out.pseudo_labels["frame"].to_pylist()
    assert REJECTED in out.predictions["frame"].to_pylist()
    for row in out.pseudo_labels.to_pylist():
        assert row["image"] == b"picture %d" % row["frame"]
    return out, label_quality.errors_of_tables(out.pseudo_labels, truth, joints_of)


def test_the_right_ones_alone_are_left_as_they_are(made, joints_of):
    out, errors = rewritten(made, joints_of, "right")
    assert out.pseudo_labels["frame"].to_pylist() == [0, 5]
    assert errors.correct().all()
    before = {row["frame"]: row for row in made[1].to_pylist()}
    assert all(row == before[row["frame"]] for row in out.pseudo_labels.to_pylist())


def test_only_a_label_of_the_wrong_side_gets_the_true_one(made, joints_of):
    out, errors = rewritten(made, joints_of, "side")
    assert out.pseudo_labels["frame"].to_pylist() == [0, 1, 2, 4, 5]
    assert errors.side_correct[errors.truth].all()
    after = {row["frame"]: row for row in out.pseudo_labels.to_pylist()}
    before = {row["frame"]: row for row in made[1].to_pylist()}
    assert [frame for frame in after if after[frame] != before[frame]] == [WRONG_SIDE]
    assert after[WRONG_SIDE]["flipped"]
    assert after[WRONG_SIDE]["quality"] == 1


def test_true_labels_are_exact(made, joints_of):
    out, errors = rewritten(made, joints_of, "truth")
    assert out.pseudo_labels["frame"].to_pylist() == [0, 1, 2, 5]
    assert NO_HAND not in out.predictions["frame"].to_pylist()
    assert errors.wrist_mm.max() < 1e-3
    assert errors.joints_2d.max() < 1e-5
    np.testing.assert_allclose(tables.array_of(out.pseudo_labels, "camera"), [[400, 100, 100]] * 4, rtol=1e-4)


def test_a_true_label_of_a_rejected_frame_stays_one(made, joints_of):
    predictions, labels, truth = made
    filled = np.array([True] + [False] * (len(labels) - 1))
    labels = labels.set_column(labels.schema.get_field_index("filled"), labels.schema.field("filled"), pa.array(filled))
    out = oracle.rewrite(predictions, labels, truth, oracle="truth", when=CorrectWhen(), joints_of=joints_of)
    assert out.pseudo_labels["filled"].to_pylist() == [True, False, False, False]
    assert out.pseudo_labels["quality"].to_pylist() == [1] * 4


def test_a_unit_without_labels_stays_one(made, joints_of):
    predictions, labels, truth = made
    wrong = oracle.rewrite(
        predictions, labels.slice(WRONG_POSE, 1), truth, oracle="right", when=CorrectWhen(), joints_of=joints_of
    )
    assert len(wrong.pseudo_labels) == 0  # a unit of which no label is correct
    nothing = predictions.slice(REJECTED, 1)
    for which in ("right", "side", "truth"):
        out = oracle.rewrite(nothing, labels.slice(0, 0), truth, oracle=which, when=CorrectWhen(), joints_of=joints_of)
        assert len(out.pseudo_labels) == 0
        assert out.predictions.equals(nothing)
