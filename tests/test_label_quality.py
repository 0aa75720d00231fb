"""Quality of labels: errors computed by hand, counts that add up, sides and frames that match."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from hojoint.errors import InputError
from hojoint.evaluation import label_quality as quality

RULES = ("box_iou", "reprojection")


@pytest.fixture
def hand() -> np.ndarray:
    points = np.random.default_rng(0).normal(size=(21, 3)) * 0.04
    return points - points[0]


def compare(joints, *, true=None, flipped=False, left=False, px_shift=0.0):
    true = joints if true is None else true
    px = np.zeros((1, 21, 2))
    return quality.errors_between(
        joints[None],
        px + np.array([px_shift, 0.0]),
        np.array([flipped]),
        np.array([[0.0, 0, 100, 50]]),
        true[None],
        px,
        np.array([left]),
    )


def turned(points, degrees, scale=1.0):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return scale * points @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]).T


def test_a_turned_scaled_moved_hand_has_no_aligned_error(hand):
    errors = quality.aligned_errors(turned(hand, 50, 1.7)[None] + 0.3, hand[None])
    np.testing.assert_allclose(errors, 0, atol=1e-12)


def test_a_mirrored_hand_has_an_error(hand):
    assert quality.aligned_errors((hand * [-1, 1, 1])[None], hand[None]).mean() > 0.01


def test_the_alignment_is_what_a_general_optimiser_finds(hand):
    from scipy.optimize import minimize
    from scipy.spatial.transform import Rotation

    rng = np.random.default_rng(1)
    noisy = turned(hand, 40, 0.8) + rng.normal(size=hand.shape) * 0.01

    def cost(x):
        moved = np.exp(x[3]) * Rotation.from_rotvec(x[:3]).apply(noisy) + x[4:]
        return ((moved - hand) ** 2).sum() * 1e4

    best = min(minimize(cost, [0, 0, start, 0, 0, 0, 0]).fun for start in (-0.7, 0.0, 0.7))
    ours = (quality.aligned_errors(noisy[None], hand[None]) ** 2).sum() * 1e4
    assert ours == pytest.approx(best, rel=1e-4)


def test_errors_in_the_image_are_in_longer_sides_of_the_box(hand):
    np.testing.assert_allclose(compare(hand, px_shift=20.0).joints_2d, 0.2)


def test_a_left_hand_is_compared_through_the_mirror(hand):
    told = compare(hand, flipped=True, left=True)  # both are the right-hand model's, of the mirrored image
    np.testing.assert_allclose(told.aligned_mm, 0, atol=1e-6)
    assert told.correct().tolist() == [True]
    missed = compare(hand, flipped=False, left=True)
    assert missed.aligned_mm[0] > 10
    assert missed.side_correct.tolist() == [False]
    assert missed.correct().tolist() == [False]


def test_a_wrong_orientation_shows_root_aligned_and_not_in_pa(hand):
    errors = compare(turned(hand, 90), true=hand)
    assert errors.aligned_mm[0] == pytest.approx(0, abs=1e-6)
    expected = np.linalg.norm(turned(hand, 90) - hand, axis=1).mean() * 1000
    assert errors.wrist_mm[0] == pytest.approx(expected)


def predictions_table(frames, boxes, verdicts):
    n = len(frames)
    return pa.table(
        {
            "video_id": ["7"] * n,
            "frame": frames,
            "flipped": [False] * n,
            "hand_box": boxes,
            "joints_px": [[float(box[0])] * 42 for box in boxes],
            "mano_pose": [[0.0] * 48] * n,
            "mano_shape": [[0.0] * 10] * n,
            "verdict": verdicts,
        }
    )


def test_nan_is_wrong_and_in_no_mean(hand):
    both = quality.errors_between(
        np.stack([np.full_like(hand, np.nan), hand]),
        np.zeros((2, 21, 2)),
        np.zeros(2, bool),
        np.array([[0.0, 0, 100, 50]] * 2),
        np.stack([hand, hand]),
        np.zeros((2, 21, 2)),
        np.zeros(2, bool),
    )
    group = quality.group(both, np.ones(2, bool))
    assert (group["frames"], group["right"], group["precision"]) == (2, 1, 0.5)
    assert group["aligned_mm_mean"] == pytest.approx(0, abs=1e-6)


def test_a_frame_is_matched_to_the_nearer_of_its_true_hands(hand):
    truth = pa.table(
        {
            "video_id": ["7", "7", "8"],
            "frame": [3, 3, 4],
            "side": ["right", "left", "right"],
            "joints_px": [[10.0] * 42, [90.0] * 42, [10.0] * 42],
            "joints": [hand.ravel().tolist()] * 3,
        }
    )
    predictions = predictions_table([3, 3, 4], [[0.0, 0, 20, 20], [80.0, 80, 100, 100], [0.0, 0, 20, 20]], ["kept"] * 3)
    errors = quality.errors_of_tables(predictions, truth, lambda pose, shape: np.repeat(hand[None], len(pose), 0))
    assert errors.truth.tolist() == [True, True, False]
    assert errors.left.tolist() == [False, True, False]
    assert errors.side_correct.tolist() == [True, False, False]
    np.testing.assert_allclose(errors.joints_2d[:2], [np.hypot(10, 10) / 20] * 2)


def test_groups_add_up_and_a_label_without_a_hand_is_wrong(hand):
    errors = quality.errors_between(
        np.repeat(hand[None], 4, 0),
        np.zeros((4, 21, 2)),
        np.zeros(4, bool),
        np.tile([0.0, 0, 100, 100], (4, 1)),
        np.stack([hand, hand, np.full((21, 3), np.nan), hand]),
        np.zeros((4, 21, 2)) + np.array([0, 0, 0, 80.0])[:, None, None],
        np.zeros(4, bool),
    )
    out = quality.summary(errors, ["kept", "box_iou", "kept", "reprojection"], RULES)
    assert out["kept"]["frames"] + out["rejected"]["frames"] == out["frames"] == 4
    assert sum(out["by_rule"][rule]["frames"] for rule in RULES) == out["rejected"]["frames"]
    assert out["kept"]["precision"] == 0.5
    assert out["kept"]["without_hand"] == 1
    assert out["rejected"]["precision"] == 0.5  # the one far off in 2D is wrong, the other was correct
    assert out["by_rule"]["reprojection"]["right"] == 0
    assert out["sides"]["right_all"] == {"frames": 3, "told": 3, "share": 1.0}
    assert out["sides"]["left_all"]["share"] is None


def test_an_empty_table_has_none_for_its_numbers():
    numbers, masks = np.zeros(0), np.zeros(0, bool)
    empty = quality.LabelErrors(masks, numbers, numbers, numbers, masks, masks)
    out = quality.summary(empty, [], RULES)
    assert out["kept"]["precision"] is None
    assert out["all"]["frames"] == 0


def test_a_truth_without_its_columns_is_refused_by_name(hand):
    with pytest.raises(InputError, match="'side'"):
        quality.errors_of_tables(
            predictions_table([3], [[0.0, 0, 1, 1]], ["kept"]),
            pa.table({"video_id": ["7"], "frame": [3]}),
            lambda pose, shape: hand[None],
        )


def test_refined_labels_are_counted_apart_from_filled_ones(hand):
    errors = compare(hand)
    both = errors.take(np.array([0, 0, 0]))
    out = quality.refined_summary(both, np.array([False, True, True]))
    assert (out["kept"]["frames"], out["filled"]["frames"]) == (1, 2)
    assert out["filled"]["precision"] == 1.0
