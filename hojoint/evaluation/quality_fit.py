"""Fitting the model of a label's quality where truth is known: monotone curves of all scores, calibrated out of fold.

Each score's curve is a sum of ramps between its quantiles with weights that are not negative, found by logistic
regression (L-BFGS-B with bounds, a ridge on the weights). What the regression says of recordings that it has not seen
is mapped to chances by an isotonic regression, so that of labels with a chance of 0.9 nine in ten are correct, on
recordings like these. Not here: what is correct (``label_quality``), thresholds of single rules (``calibration``),
applying the model (``labelling.quality``).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import scipy.optimize
import scipy.special

from hojoint.config import HIGHER_IS_BETTER, THRESHOLDS, FilterConfig
from hojoint.evaluation.precision import FEWEST, Judged, auc, selection_scores
from hojoint.evaluation.promise import reliability
from hojoint.labelling import quality, reasons, tables
from hojoint.labelling.quality import Curve, QualityModel

# N frames, F scores, K ramps of all scores.

KNOTS = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)  # quantiles of a score
FOLDS = 5
RIDGES = (3.0, 10.0, 30.0, 100.0, 300.0)  # on the weights; the one that predicts unseen recordings best is taken
RIDGE = 30.0  # where nothing is out of fold
BIN, FEW_BINS, SMALL_BIN = 20, 10, 5  # frames of a step of the isotonic regression; of few frames, smaller steps
FEWEST_RECORDINGS = 10  # with fewer, other recordings say nothing of one: they differ more than their frames
GRID = np.arange(0, 1, 0.005)  # of filters.min_quality
FEWEST_KEPT_FROM = 3  # recordings


def inputs_of(judged: Judged, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """What a model of the scores ``names`` takes, (N,) each, from a table of predictions; None means all."""
    some = [name for name in quality.SCORES if names is None or name in names]
    columns = {name: reasons.COLUMNS.get(name, name) for name in some}
    return {name: tables.array_of(judged.table, column).astype(np.float64) for name, column in columns.items()}


def fit(
    judged: Judged, config: FilterConfig, precision: float, names: Collection[str] | None = None
) -> tuple[QualityModel, np.ndarray]:
    """A model of frames whose worth is known, and the chances (N,) that models without their recordings give them.

    With fewer recordings than ``FEWEST_RECORDINGS`` nothing is out of fold, and the chances are those of the model
    itself; ``about`` tells.

    Args:
        judged: frames, correct and wrong ones.
        config: readings of the scores, and the rules that judge beside the quality.
        precision: share of correct labels for which ``about`` has the ``min_quality``.
        names: the scores that the model may look at; None means all.
    """
    scores, correct = inputs_of(judged, names), judged.correct
    fold = folds_of(judged.recording())
    ridge, logits = _out_of_fold(scores, correct, fold)
    chances = _calibrated_out_of_fold(logits, correct, fold)
    parts, bias = _regression(scores, correct, ridge)
    across, up = isotonic(logits, correct)
    about = {
        "frames": len(correct),
        "recordings": len(set(judged.recording())),
        "base_precision": float(correct.mean()),
        "out_of_fold": bool(fold.max() > 0),
        "ridge": ridge,
        "auc": auc(chances, correct),
        "wanted_precision": precision,
        **least_quality(
            np.where(_judged_alike(judged, config), chances, -1.0),
            correct,
            precision,
            judged.recording() if fold.max() > 0 else None,
        ),
        "reliability": reliability(chances, correct),
    }
    readings = quality.readings_of(config)
    return QualityModel(parts, bias, tuple(across), tuple(up), readings, about), chances


def least_quality(
    chances: np.ndarray, correct: np.ndarray, precision: float, recordings: np.ndarray | None = None
) -> dict[str, Any]:  # fmt: skip
    """The least ``min_quality`` that reaches the precision with enough frames, and what it is worth.

    Enough are ``FEWEST`` frames of ``FEWEST_KEPT_FROM`` recordings: the best few frames of one recording promise
    nothing. Where none reaches it, ``reached`` is False, and the limit is the least one whose precision lies within one
    standard error of the best; None where too few frames have a chance.

    Args:
        chances: (N,); below zero where another rule rejects the frame.
        correct: (N,) bool.
        precision: share of correct labels that is wanted.
        recordings: (N,) the recording of each frame; None asks for frames alone.
    """
    steps = []
    for limit in GRID:
        kept = chances >= limit
        several = recordings is None or len(set(recordings[kept])) >= FEWEST_KEPT_FROM
        if int(kept.sum()) < FEWEST or not several:
            break
        steps.append((round(float(limit), 3), selection_scores(kept, correct)))
        if steps[-1][1]["precision"] >= precision:
            return {"min_quality": steps[-1][0], "reached": True, "promised": steps[-1][1]}
    if not steps:
        return {"min_quality": None, "reached": False, "promised": None}
    best = max((value for _, value in steps), key=lambda value: value["precision"])
    error = math.sqrt(best["precision"] * (1 - best["precision"]) / best["kept"])
    limit, value = next(step for step in steps if step[1]["precision"] >= best["precision"] - error)
    return {"min_quality": limit, "reached": False, "promised": value}


def _judged_alike(judged: Judged, config: FilterConfig) -> np.ndarray:
    """(N,) bool: frames that pass the rules which judge beside the quality (``reasons.judging``)."""
    beside = reasons.judging(config.model_copy(update={"mode": "quality"}))
    passing = np.ones(len(judged.correct), bool)
    for rule in beside:
        limit = getattr(config, THRESHOLDS[rule])
        passing &= judged.score(rule) >= (limit if rule in HIGHER_IS_BETTER else -limit)
    return passing


def folds_of(recordings: np.ndarray, folds: int = FOLDS) -> np.ndarray:
    """(N,) number of each frame's fold, constant over a recording; each joins the smallest fold, in a fixed order.

    There is one fold where the recordings are too few.
    """
    names, index, counts = np.unique(recordings, return_inverse=True, return_counts=True)
    folds = folds if len(names) >= FEWEST_RECORDINGS else 1
    fold, frames = np.zeros(len(names), int), np.zeros(folds, int)
    for number in sorted(range(len(names)), key=lambda number: hashlib.sha256(str(names[number]).encode()).digest()):
        fold[number] = frames.argmin()
        frames[fold[number]] += counts[number]
    return fold[index]


def isotonic(logits: np.ndarray, correct: np.ndarray) -> tuple[list[float], list[float]]:
    """Knots of the chance that rises with the logit: isotonic means of groups of frames, by their mean logits.

    Each mean counts half a correct and half a wrong frame more, so that no few frames promise certainty.
    """
    order = np.argsort(logits, kind="stable")
    groups = _groups(order, logits[order])
    sizes = np.array([len(group) for group in groups], float)
    middles = np.array([logits[group].mean() for group in groups])
    shares = np.array([(correct[group].sum() + 0.5) / (len(group) + 1) for group in groups])
    fitted = scipy.optimize.isotonic_regression(shares, weights=sizes).x
    middles, first = np.unique(middles, return_index=True)  # means of other groups may round to one
    return middles.tolist(), np.clip(np.maximum.accumulate(fitted[first]), 0, 1).tolist()


def _groups(order: np.ndarray, ascending: np.ndarray) -> list[np.ndarray]:
    """``order`` cut into groups of about ``BIN``, moved where a cut would part equal logits.

    Parted, they would be sorted by chance: an isotonic regression over several groups of one logit makes them rise.
    """
    parts = np.array_split(order, max(len(order) // BIN, min(FEW_BINS, len(order) // SMALL_BIN), 1))
    cuts = np.cumsum([len(part) for part in parts])[:-1]
    first = np.searchsorted(ascending, ascending[cuts], "left")  # of the logits that equal the one behind the cut
    behind = np.searchsorted(ascending, ascending[cuts], "right")
    nearest = np.where((cuts - first <= behind - cuts), first, behind)
    return np.split(order, [cut for cut in np.unique(nearest) if 0 < cut < len(order)])


def _out_of_fold(
    scores: Mapping[str, np.ndarray], correct: np.ndarray, fold: np.ndarray
) -> tuple[float, np.ndarray]:  # fmt: skip
    """The ridge whose regressions predict unseen recordings best, and their logits (N,)."""
    best: tuple[float, float, np.ndarray] | None = None
    for ridge in RIDGES if fold.max(initial=0) > 0 else (RIDGE,):
        logits = np.zeros(len(correct))
        for rows, rest in _splits(fold):
            parts, bias = _regression({name: score[rest] for name, score in scores.items()}, correct[rest], ridge)
            plain = QualityModel(parts, bias, (0.0,), (0.0,), {})
            logits[rows] = plain.logit({name: score[rows] for name, score in scores.items()})
        loss = float((np.logaddexp(0, logits) - correct * logits).mean())
        if best is None or loss < best[0]:
            best = loss, ridge, logits
    assert best is not None
    return best[1], best[2]


def _calibrated_out_of_fold(logits: np.ndarray, correct: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """(N,) chances by isotonic curves of the other folds."""
    chances = np.zeros(len(logits))
    for rows, rest in _splits(fold):
        chances[rows] = np.interp(logits[rows], *isotonic(logits[rest], correct[rest]))
    return chances


def _splits(fold: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows of each fold and those of all others; both are all rows where there is one fold."""
    everything = np.ones(len(fold), bool)
    if fold.max(initial=0) == 0:
        return [(everything, everything)]
    return [(fold == one, fold != one) for one in range(fold.max() + 1)]


def _regression(
    scores: Mapping[str, np.ndarray], correct: np.ndarray, ridge: float
) -> tuple[dict[str, Curve], float]:  # fmt: skip
    """Curves and bias by penalised logistic regression; a score that never differs has no curve."""
    knots = {name: found for name in scores if len(found := _knots(scores[name])) > 1}
    blocks = {name: _ramps(scores[name], knots[name], name in HIGHER_IS_BETTER) for name in knots}
    design_NK = np.concatenate([np.zeros((len(correct), 0)), *blocks.values()], axis=1)
    weights, bias = _logistic(design_NK, correct, ridge)
    parts, at = {}, 0
    for name, found in knots.items():
        steps = weights[at : at + len(found) - 1]
        missing = float(weights[at + len(found) - 1])
        at += len(found)
        rising = np.concatenate([[0.0], np.cumsum(steps)])
        gains = rising if name in HIGHER_IS_BETTER else rising[-1] - np.concatenate([[0.0], np.cumsum(steps)])
        parts[name] = Curve(tuple(found.tolist()), tuple(gains.tolist()), min(missing, float(rising[-1])))
    return parts, bias


def _knots(score: np.ndarray) -> np.ndarray:
    """Ascending quantiles of the finite scores, each once."""
    finite = score[np.isfinite(score)]
    return np.unique(np.quantile(finite, KNOTS)) if len(finite) else finite


def _ramps(score: np.ndarray, knots: np.ndarray, rising: bool) -> np.ndarray:
    """(N, ramps + 1): each rises from 0 to 1, for a better score, between two knots; last, whether there is no score.

    The ramps of a score that is better when small stand in the order of the knots as well.
    """
    known = ~np.isnan(score)
    share = (np.where(known, score, 0.0)[:, None].clip(knots[0], knots[-1]) - knots[:-1]) / np.diff(knots)
    ramps = share.clip(0, 1) if rising else 1 - share.clip(0, 1)
    return np.concatenate([np.where(known[:, None], ramps, 0.0), ~known[:, None]], axis=1)


def _logistic(design: np.ndarray, correct: np.ndarray, ridge: float) -> tuple[np.ndarray, float]:
    """Weights (K,), none negative, and bias of the least penalised log loss."""

    def loss(numbers: np.ndarray) -> tuple[float, np.ndarray]:
        logits = design @ numbers[1:] + numbers[0]
        value = np.logaddexp(0, logits).sum() - logits[correct].sum() + ridge / 2 * (numbers[1:] ** 2).sum()
        residual = scipy.special.expit(logits) - correct
        return float(value), np.concatenate([[residual.sum()], design.T @ residual + ridge * numbers[1:]])

    bounds = [(None, None), *[(0, None)] * design.shape[1]]
    start = np.zeros(design.shape[1] + 1)
    found = scipy.optimize.minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 500, "ftol": 1e-8}
    )
    return found.x[1:], float(found.x[0])
