"""Fitting the quality on frames whose chance of being correct is known by construction."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import scipy.optimize
from made_tables import labels as made_labels

from hojoint.config import HIGHER_IS_BETTER, FilterConfig
from hojoint.evaluation import precision, quality_fit
from hojoint.labelling import quality, reasons, tables


def judged(chance: np.ndarray, seed: int = 0, **scores: np.ndarray) -> precision.Judged:
    """Frames in clips of five, correct by chance; scores that are not given are NaN."""
    random = np.random.default_rng(seed + 1000)  # another one than that of the scores
    count = len(chance)
    one = tables.predictions_table([made_labels("v-h0-0000-0004")])
    table = one.take(np.arange(count) % 5)
    for rule in reasons.RULES:
        values = np.asarray(scores.get(rule, np.full(count, np.nan)), np.float32)
        place = table.schema.get_field_index(f"score_{rule}")
        table = table.set_column(place, table.schema.field(place), pa.array(values))
    place = table.schema.get_field_index("rotation_spread")
    table = table.set_column(place, table.schema.field(place), pa.array(np.full(count, np.nan, np.float32)))
    recordings = np.array([f"r{number // 25}" for number in range(count)])
    return precision.Judged(table, random.random(count) < chance, recordings)


def known(count: int, seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The chance of each frame, and two scores from which it follows; a third is noise."""
    random = np.random.default_rng(seed)
    iou, error = random.random(count), random.random(count)
    logit = 6 * (np.minimum(iou, 0.7) - 0.4) - 8 * np.maximum(error - 0.3, 0)
    return 1 / (1 + np.exp(-logit)), {"box_iou": iou, "reprojection": error, "pose_step": random.random(count)}


@pytest.fixture(scope="module")
def fitted() -> tuple[quality.QualityModel, np.ndarray, precision.Judged]:
    chance, scores = known(4000, 0)
    frames = judged(chance, **scores)
    return *quality_fit.fit(frames, FilterConfig(), 0.8), frames


def test_chances_are_found_on_frames_that_were_not_fitted(fitted: Any) -> None:
    model = fitted[0]
    chance, scores = known(4000, 1)
    found = model.quality(quality_fit.inputs_of(judged(chance, 1, **scores)))
    assert np.abs(found - chance).mean() < 0.04
    assert np.abs(found - chance).max() < 0.25
    for low in np.arange(0.1, 0.9, 0.2):
        rows = (found >= low) & (found < low + 0.2)
        assert abs(found[rows].mean() - chance[rows].mean()) < 0.03


def test_the_promise_is_kept_out_of_fold(fitted: Any) -> None:
    model, chances, frames = fitted
    about = model.about
    assert about["out_of_fold"]
    assert about["reached"]
    kept = chances >= about["min_quality"]
    assert about["promised"]["precision"] == pytest.approx(frames.correct[kept].mean())
    assert about["promised"]["precision"] >= 0.8
    chance, scores = known(4000, 2)
    later = model.quality(quality_fit.inputs_of(judged(chance, 2, **scores))) >= about["min_quality"]
    assert chance[later].mean() == pytest.approx(about["promised"]["precision"], abs=0.03)
    assert about["auc"] > max(value for rule in ("box_iou", "reprojection", "pose_step")
                              if (value := precision.auc(frames.score(rule), frames.correct)))  # fmt: skip


def test_a_fitted_model_is_monotone_and_survives_its_file(fitted: Any) -> None:
    model = fitted[0]
    assert quality.read(model.to_bytes(), "quality.json") == model
    assert set(model.parts) == {"box_iou", "reprojection", "pose_step"}  # nothing is known of the others
    for name, part in model.parts.items():
        steps = np.diff(part.gains)
        assert (steps >= 0).all() if name in HIGHER_IS_BETTER else (steps <= 0).all()
    assert np.ptp(model.parts["pose_step"].gains) < 0.2 * np.ptp(model.parts["box_iou"].gains)


def test_the_regression_is_that_of_another_optimiser() -> None:
    random = np.random.default_rng(3)
    design = random.random((300, 3))
    correct = random.random(300) < 1 / (1 + np.exp(-(3 * design[:, 0] - 2 * design[:, 1] - 0.5)))
    weights, bias = quality_fit._logistic(design, correct, 2.0)

    def loss(numbers: np.ndarray) -> float:
        logits = design @ numbers[1:] + numbers[0]
        return float((np.log1p(np.exp(logits)) - correct * logits).sum() + (numbers[1:] ** 2).sum())

    other = scipy.optimize.minimize(loss, np.ones(4), method="SLSQP", bounds=[(None, None), *[(0, None)] * 3])
    np.testing.assert_allclose([bias, *weights], other.x, atol=2e-3)
    assert weights[1] == 0  # it would be negative


def test_isotonic_means_are_those_of_pooling_by_hand() -> None:
    random = np.random.default_rng(4)
    logits = random.normal(size=400)
    correct = random.random(400) < 1 / (1 + np.exp(-2 * logits))
    across, up = quality_fit.isotonic(logits, correct)
    groups = np.split(np.argsort(logits), 20)
    blocks = [[(correct[group].sum() + 0.5) / 21, 1] for group in groups]
    at = 0
    while at < len(blocks) - 1:  # pool adjacent violators
        if blocks[at][0] > blocks[at + 1][0]:
            (a, n), (b, m) = blocks[at], blocks.pop(at + 1)
            blocks[at] = [(a * n + b * m) / (n + m), n + m]
            at = max(at - 1, 0)
        else:
            at += 1
    np.testing.assert_allclose(up, np.concatenate([[value] * number for value, number in blocks]), atol=1e-12)
    np.testing.assert_allclose(across, [logits[group].mean() for group in groups])


def test_frames_of_equal_logits_have_their_mean_chance() -> None:
    random = np.random.default_rng(7)
    correct = np.r_[random.random(100) < 0.1, np.arange(200) >= 140, np.ones(45, bool)]
    logits = np.r_[random.normal(-3, 0.5, 100), np.full(200, 0.1), np.full(45, 2.0)]
    rows = random.permutation(len(logits))
    across, up = quality_fit.isotonic(logits[rows], correct[rows])
    np.testing.assert_allclose(np.interp([0.1, 2.0], across, up), [60.5 / 201, 45.5 / 46], atol=1e-6)
    assert quality_fit.isotonic(np.ones(90), np.arange(90) >= 60) == ([1.0], [pytest.approx(30.5 / 91)])


def test_scores_that_are_missing_have_a_worth_of_their_own() -> None:
    random = np.random.default_rng(5)
    error = random.random(2000)
    missing = random.random(2000) < 0.3
    chance = np.where(missing, 0.05, np.where(error < 0.5, 0.9, 0.4))
    frames = judged(chance, reprojection=np.where(missing, np.nan, error))
    part = quality_fit.fit(frames, FilterConfig(), 0.8)[0].parts["reprojection"]
    assert part.missing == 0  # never better than the worst
    often = judged(np.where(missing, 0.88, chance), reprojection=np.where(missing, np.nan, error))
    part = quality_fit.fit(often, FilterConfig(), 0.8)[0].parts["reprojection"]
    assert max(part.gains) / 2 < part.missing <= max(part.gains)


def test_few_recordings_have_nothing_to_be_held_out() -> None:
    chance, scores = known(100, 6)
    frames = judged(chance, **scores)
    assert quality_fit.fit(frames, FilterConfig(), 0.9)[0].about["out_of_fold"] is False  # four recordings


def test_the_best_frames_of_one_recording_promise_nothing() -> None:
    chances, correct = np.repeat([0.3, 0.95], 60), np.r_[np.arange(60) % 2, np.ones(60)].astype(bool)
    spread, alone = np.tile(["a", "b", "c"], 40), np.r_[np.tile(["a", "b", "c"], 20), np.repeat("d", 60)]
    assert quality_fit.least_quality(chances, correct, 0.9, spread)["min_quality"] == pytest.approx(0.305)
    found = quality_fit.least_quality(chances, correct, 0.9, alone)
    assert (found["reached"], found["min_quality"], found["promised"]["kept"]) == (False, 0.0, 120)


def test_out_of_reach_the_loosest_limit_near_the_best_is_taken() -> None:
    chances = np.repeat([0.2, 0.5, 0.8], 100)
    correct = np.r_[np.arange(100) % 4 == 0, np.arange(100) % 10 < 7, np.arange(100) % 10 < 8].astype(bool)
    found = quality_fit.least_quality(chances, correct, 0.95)
    assert not found["reached"]
    assert found["promised"]["kept"] == 100  # 75 % of the best 200 lie more than one error (4 points) below 80 %
    near = quality_fit.least_quality(chances, np.r_[correct[:100], correct[200:], correct[200:]], 0.95)
    assert near["promised"]["kept"] == 200


def test_folds_never_part_a_recording_and_are_about_as_large() -> None:
    recordings = np.repeat([f"v{n}" for n in range(20)], 5)
    folds = quality_fit.folds_of(recordings)
    assert len(set(zip(recordings, folds, strict=True))) == 20
    assert np.bincount(folds).tolist() == [20] * 5


def test_the_least_quality_is_the_loosest_that_suffices() -> None:
    chances = np.repeat([0.2, 0.55, 0.9], 40)
    correct = np.r_[np.zeros(40), np.arange(40) % 2, np.ones(40)].astype(bool)
    found = quality_fit.least_quality(chances, correct, 0.75)
    assert found["min_quality"] == pytest.approx(0.205)
    assert found["promised"]["kept"] == 80
    assert quality_fit.least_quality(chances, correct, 0.9)["min_quality"] == pytest.approx(0.555)
    short = quality_fit.least_quality(chances[:80], correct[:80], 0.9)
    assert (short["reached"], short["min_quality"]) == (False, pytest.approx(0.205))
    assert quality_fit.least_quality(chances[:10], correct[:10], 0.9) == {
        "min_quality": None, "reached": False, "promised": None,
    }  # fmt: skip
