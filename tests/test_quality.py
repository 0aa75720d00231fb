"""The quality of a label by a model: monotone, kept in a file, refused where it cannot tell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.interpolate
import torch

from hojoint.config import HIGHER_IS_BETTER, PAPER_RULES, FilterConfig, TtaConfig
from hojoint.errors import InputError
from hojoint.labelling import quality, reasons
from hojoint.labelling.quality import Curve, QualityModel

SCORES = (*reasons.RULES, "rotation_spread")


def model(**changes: Any) -> QualityModel:
    """Curves of all scores, with knots of their own."""
    random = np.random.default_rng(0)
    parts = {}
    for name in SCORES:
        gains = np.sort(random.uniform(0, 2, 4))
        knots = np.sort(random.uniform(0, 1, 4)).tolist()
        parts[name] = Curve(tuple(knots), tuple(gains if name in HIGHER_IS_BETTER else gains[::-1]), 0.1)
    parts = {name: Curve(part.scores, tuple(map(float, part.gains)), part.missing) for name, part in parts.items()}
    fields = {"bias": -5.0, "logits": (-4.0, 0.0, 8.0), "chances": (0.05, 0.5, 0.98)}
    readings = quality.readings_of(FilterConfig())
    return QualityModel(**({"parts": parts, "readings": readings, "about": {"frames": 3}} | fields | changes))


def frames(count: int = 200) -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    return {name: random.uniform(-0.2, 1.2, count) for name in SCORES}


@pytest.mark.parametrize("name", SCORES)
def test_a_better_score_never_has_a_lower_chance(name: str) -> None:
    made, scores = model(), frames()
    better = scores[name] + (0.1 if name in HIGHER_IS_BETTER else -0.1)
    before, after = made.quality(scores), made.quality({**scores, name: better})
    assert (after >= before).all()
    assert (after > before).any()


def test_the_chance_is_what_another_library_makes_of_the_curves() -> None:
    made, scores = model(), frames()

    def curve(x: Any, y: Any, at: np.ndarray) -> np.ndarray:
        return scipy.interpolate.interp1d(x, y, bounds_error=False, fill_value=(y[0], y[-1]))(at)

    total = sum(curve(part.scores, part.gains, scores[name]) for name, part in made.parts.items()) - 5.0
    np.testing.assert_allclose(made.quality(scores), curve(made.logits, made.chances, total), atol=1e-12)


def test_no_score_counts_as_the_file_says_and_infinity_as_worst() -> None:
    part = Curve((0.0, 1.0), (2.0, 0.0), 0.5)
    np.testing.assert_allclose(part.of(np.array([np.nan, np.inf, -np.inf, 0.25])), [0.5, 0.0, 2.0, 1.5])


def test_a_model_survives_its_file(tmp_path: Path) -> None:
    made = model()
    (tmp_path / "quality.json").write_bytes(made.to_bytes())
    assert quality.load(tmp_path / "quality.json") == made
    with pytest.raises(InputError, match=r"cannot read filters\.quality_model=.*nothing\.json"):
        quality.load(tmp_path / "nothing.json")


def damaged(**changes: Any) -> bytes:
    return json.dumps({**json.loads(model().to_bytes()), **changes}).encode()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"{", "is not a quality.json"),
        (b"[]", "is not a quality.json"),
        (damaged(format="other"), "is not a quality.json"),
        (damaged(version=2), "has version 2, expected 1"),
        (damaged(logits=[0.0, 0.0, 1.0]), "the chances is not monotone"),
        (damaged(chances=[0.5, 0.4, 0.9]), "the chances is not monotone"),
        (damaged(chances=[0.5, 0.6, 1.5]), "the chances is not monotone"),
        (damaged(bias=float("nan")), "the chances is not monotone"),
        (damaged(bias=None), "TypeError"),
        (damaged(parts={"box_iou": {"scores": [0, 1], "gains": [1, 0], "missing": 0}}), "the curve of box_iou"),
        (damaged(parts={"reprojection": {"scores": [0, 1], "gains": [0, 1], "missing": 0}}), "curve of reprojection"),
        (damaged(parts={"box_iou": {"scores": [0, 1], "gains": [0, 1]}}), "KeyError: 'missing'"),
        (damaged(parts={"luck": {"scores": [0, 1], "gains": [1, 0], "missing": 0}}), "luck is no score"),
        (damaged(readings={}), "does not name the readings"),
    ],
)
def test_a_damaged_file_is_refused_in_one_sentence(data: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        quality.read(data, "quality.json")


def test_the_spread_of_other_views_is_refused() -> None:
    readings = {**quality.readings_of(FilterConfig()), **quality.views_of(TtaConfig(rotation_deg=45))}
    fitted, others = model(readings=readings), quality.views_of(TtaConfig(views=4, rotation_deg=45))
    quality.read(fitted.to_bytes(), "q.json").check(FilterConfig(), views=quality.views_of(TtaConfig(rotation_deg=45)))
    with pytest.raises(InputError, match=r"fitted with tta\.views=8, and these frames have tta\.views=4; label with"):
        fitted.check(FilterConfig(), views=others)
    model().check(FilterConfig(), views=others)  # a model of an earlier version does not tell
    model(parts={"box_iou": model().parts["box_iou"]}, readings=readings).check(FilterConfig(), views=others)


def test_scores_of_other_readings_are_refused() -> None:
    model().check(FilterConfig(max_reprojection=0.1))  # a threshold is no reading
    with pytest.raises(InputError, match=r"with filters\.bone_reference=palm, and these are made with span"):
        model().check(FilterConfig(bone_reference="span"))


def test_scores_that_nothing_gives_are_refused() -> None:
    with pytest.raises(InputError, match="needs the score side, which nothing gives here") as refused:
        model().check(FilterConfig(), side_head=False)
    assert f"calibrate.quality_scores=[{','.join(PAPER_RULES)},view_spread,rotation_spread]" in str(refused.value)
    with pytest.raises(InputError, match="needs the scores rotation_spread, side, view_spread"):
        model().check(FilterConfig(), network=False)
    model(parts={"box_iou": model().parts["box_iou"]}).check(FilterConfig(), network=False, side_head=False)


def test_tensors_are_taken_as_they_are() -> None:
    taken = quality.inputs_of({"box_iou": torch.tensor([0.5, torch.nan])}, torch.tensor([0.1, 0.2]))
    assert {name: score.dtype for name, score in taken.items()} == {
        "box_iou": np.float64,
        "rotation_spread": np.float64,
    }
    np.testing.assert_array_equal(taken["box_iou"], [0.5, np.nan])
