"""Thresholds for the rules: precision and yield of each rule and of all together, where truth is known (Sec. 5.1).

The paper prints thresholds without a reason. ``propose`` searches thresholds of all rules that reach a given precision
with many correct labels. ``calibrate`` also fits on one half of the recordings and measures on the other, for an
unbiased number. Not here: what is correct (``label_quality``), precision and yield (``precision``), the figure
(``report.calibration``).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from hojoint.config import HIGHER_IS_BETTER, PAPER_RULES, THRESHOLDS, FilterConfig, Rule
from hojoint.errors import InputError
from hojoint.evaluation.precision import (
    LEVELS,
    Curve,
    Judged,
    alone,
    auc,
    curve,
    curve_together,
    in_unit_of,
    reaches,
    selection_scores,
)
from hojoint.labelling import reasons, rescoring, tables
from hojoint.rows import evenly

# N frames, L levels of strictness of a rule.

CURVE_POINTS = 80
ATTEMPTS, AIM_STEP = 8, 0.01  # to find thresholds that reach the aim when frames are judged anew; its rise each time


def propose(judged: Judged, config: FilterConfig, precision: float) -> FilterConfig | None:
    """Settings whose enabled rules together reach the precision and keep many correct labels; None where none do.

    The search takes the scores as they are, but the shape rule depends on what the others keep. So the frames are
    judged anew with its result; if that falls short, the search continues on the new scores with a higher aim. If no
    aim is high enough, the most precise settings are returned; ``calibrate`` reports what they reach.
    """
    rescored, best, highest = judged, None, -1.0
    for attempt in range(ATTEMPTS):
        candidate = _search(rescored, config, min(1.0, precision + attempt * AIM_STEP))
        if candidate is None:
            break
        rescored, kept = _anew(judged, candidate)
        if reaches(kept, rescored.correct, precision):
            return candidate
        reached = float(rescored.correct[kept].mean()) if kept.any() else 0.0
        if reached > highest:
            best, highest = candidate, reached
    return best


def _search(judged: Judged, config: FilterConfig, precision: float) -> FilterConfig | None:
    """Settings that reach the precision by the scores as they are.

    It starts at the loosest thresholds and takes the tightening that removes most wrong labels per correct one, until
    the precision is reached. Then it loosens each rule again as far as the precision allows.
    """
    rules = [rule for rule in reasons.RULES if rule in config.enabled]
    ladders = {rule: _ladder(judged, rule) for rule in rules}
    if any(len(ladder) == 0 for ladder in ladders.values()):
        return None
    passes = {rule: judged.score(rule) >= ladders[rule][:, None] for rule in rules}  # (L, N), loosest first
    chosen = dict.fromkeys(rules, 0)
    kept = _kept(passes, chosen)
    while not reaches(kept, judged.correct, precision):
        best = max(
            ((gain, rule, level) for rule in rules for level, gain in _gains(passes[rule], kept, judged.correct)),
            default=None,
        )
        if best is None:
            return None
        chosen[best[1]] = best[2]
        kept = _kept(passes, chosen)
    for rule in sorted(rules, key=lambda rule: -chosen[rule]):
        for level in range(chosen[rule]):
            if reaches(_kept(passes, {**chosen, rule: level}), judged.correct, precision):
                chosen[rule] = level
                break
    limits = {rule: _limit(rule, ladders[rule], chosen[rule], config) for rule in rules}
    return config.model_copy(update={THRESHOLDS[rule]: limit for rule, limit in limits.items()})


def kept_by(judged: Judged, config: FilterConfig) -> np.ndarray:
    """(N,) bool: the frames that the settings keep, judged anew, as the shape rule depends on what others keep."""
    kept = np.zeros(len(judged.correct), bool)
    kept[_clip_by_clip(judged)] = _anew(judged, config)[1]
    return kept


def calibrate(
    judged: Judged, config: FilterConfig, precision: float, rules: Sequence[Rule] | None = None
) -> dict[str, Any]:  # fmt: skip
    """All numbers of ``jobs.calibrate``, plain, for JSON; ``proposed`` is None where no settings come near the aim.

    ``filters.mode`` does not matter: it is thresholds that are judged and proposed.

    Args:
        judged: frames, correct and wrong ones.
        config: the rules and thresholds of now.
        precision: share of correct labels that is wanted.
        rules: whose thresholds are searched, and which the proposal enables; None means those of now.

    Raises:
        InputError: no label is correct, or no frame has a score of an enabled rule of ours.
    """
    config = config.model_copy(update={"mode": "thresholds"})
    if not judged.correct.any():
        raise InputError(f"none of {len(judged.correct)} predicted frames is correct; train the teacher longer")
    wanted = config if rules is None else config.model_copy(update={"enabled": tuple(rules)})
    searched = [rule for rule in reasons.RULES if rule in wanted.enabled]
    for rule in searched:
        if rule not in PAPER_RULES and not np.isfinite(judged.score(rule)).any():
            raise InputError(
                f"no frame has a score of the rule {rule}: the teacher gives none; leave the rule out, or train "
                "a teacher that does (model.side_head)"
            )
    proposed = propose(judged, wanted, precision)
    kept = None if proposed is None else kept_by(judged, proposed)
    return {
        "frames": len(judged.correct),
        "recordings": len(set(judged.recording())),
        "right": int(judged.correct.sum()),
        "base_precision": float(judged.correct.mean()),
        "wanted_precision": precision,
        "reached": kept is not None and reaches(kept, judged.correct, precision),
        "rules": {rule: _of_rule(judged, rule, config, proposed, precision) for rule in reasons.RULES},
        "together": {
            "current": selection_scores(kept_by(judged, config), judged.correct),
            "proposed": None if kept is None else selection_scores(kept, judged.correct),
            "held_out": _held_out(judged, wanted, precision),
            "curve": _points(curve_together(judged, searched)),
        },
        "proposed": None if proposed is None else _limits(proposed, searched),
    }


def _anew(judged: Judged, config: FilterConfig) -> tuple[Judged, np.ndarray]:
    """The frames with the scores that the settings lead to, clip by clip, and which of them are kept (N,) bool."""
    order = _clip_by_clip(judged)
    recordings = None if judged.recordings is None else judged.recordings[order]
    every = judged.table if judged.beside is None else pa.concat_tables([judged.table, judged.beside])
    known = np.concatenate([np.zeros(0, int), *tables.clips_of(every)]) < len(judged.correct)
    table = rescoring.rescored(every, config).filter(pa.array(known))
    kept = np.array([verdict == reasons.KEPT for verdict in table["verdict"].to_pylist()], dtype=bool)
    return Judged(table, judged.correct[order], recordings, judged.beside), kept


def _clip_by_clip(judged: Judged) -> np.ndarray:
    """(N,) row numbers in the order in which frames are judged."""
    return np.concatenate([np.zeros(0, int), *tables.clips_of(judged.table)])


def _of_rule(
    judged: Judged, rule: Rule, config: FilterConfig, proposed: FilterConfig | None, precision: float
) -> dict[str, Any]:  # fmt: skip
    limit = getattr(config, THRESHOLDS[rule])
    at_limit = judged.score(rule) >= (limit if rule in HIGHER_IS_BETTER else -limit)
    return {
        "setting": f"filters.{THRESHOLDS[rule]}",
        "enabled": rule in config.enabled,
        "auc": auc(judged.score(rule), judged.correct),
        "current": limit,
        "alone": selection_scores(at_limit, judged.correct),
        "alone_for_wanted": alone(judged, rule, precision),
        "proposed": None if proposed is None or rule not in proposed.enabled else getattr(proposed, THRESHOLDS[rule]),
        "curve": _points(curve(judged, rule)),
    }


def _held_out(judged: Judged, config: FilterConfig, precision: float) -> dict[str, Any] | None:
    """Scores on the second half of thresholds from the first; None without a second half or such thresholds."""
    first = _first_half(judged.recording())
    fitted = None if first.all() else propose(judged.take(first), config, precision)
    second = judged.take(~first)
    return None if fitted is None else selection_scores(kept_by(second, fitted), second.correct)


def _first_half(recordings: np.ndarray) -> np.ndarray:
    """(N,) bool, constant over a recording: each joins the smaller half so far, in an order fixed by their names."""
    names, index, counts = np.unique(recordings, return_inverse=True, return_counts=True)
    first, frames = np.zeros(len(names), bool), {True: 0, False: 0}
    for number in sorted(range(len(names)), key=lambda number: hashlib.sha256(str(names[number]).encode()).digest()):
        first[number] = frames[True] <= frames[False]
        frames[bool(first[number])] += int(counts[number])
    return first[index]


def _ladder(judged: Judged, rule: Rule) -> np.ndarray:
    """(L,) thresholds to choose from, loosest first, with the sign of ``Judged.score`` and rounded as they are written;
    values that the setting does not allow are left out (a tolerance below zero)."""
    score = judged.score(rule)
    finite = score[np.isfinite(score)]
    if len(finite) == 0:
        return finite
    steps = np.unique(np.quantile(finite, np.linspace(0, 0.98, LEVELS), method="lower"))
    allowed = steps[steps >= 0] if rule in HIGHER_IS_BETTER else steps[steps <= 0]
    limits = [_rounded(rule, float(in_unit_of(rule, step))) for step in (allowed if len(allowed) else [0.0])]
    return np.unique(in_unit_of(rule, np.array(limits)))


def _gains(passes: np.ndarray, kept: np.ndarray, correct: np.ndarray) -> list[tuple[int, float]]:
    """(level, wrong labels removed per correct one) of each tightening that removes wrong and keeps correct labels."""
    stays = passes & kept
    wrong_gone = (kept & ~correct).sum() - (stays & ~correct).sum(1)
    correct_left = (stays & correct).sum(1)
    gain = wrong_gone / ((kept & correct).sum() - correct_left + 1)
    return [(int(level), float(gain[level])) for level in np.flatnonzero((wrong_gone > 0) & (correct_left > 0))]


def _kept(passes: Mapping[Rule, np.ndarray], chosen: Mapping[Rule, int]) -> np.ndarray:
    return np.logical_and.reduce([passes[rule][level] for rule, level in chosen.items()])


def _limit(rule: Rule, ladder: np.ndarray, level: int, config: FilterConfig) -> float:
    """The threshold of a level; a rule that need not reject anything keeps its current threshold if that is looser."""
    limit = float(in_unit_of(rule, ladder[level]))
    current = float(getattr(config, THRESHOLDS[rule]))
    looser = min if rule in HIGHER_IS_BETTER else max
    return looser(limit, current) if level == 0 else limit


def _rounded(rule: Rule, limit: float) -> float:
    """Rounded to three digits, never stricter than ``limit``, and never zero where a setting must be positive."""
    if limit == 0:
        return 0.0 if rule in ("joint_angle", *HIGHER_IS_BETTER) else 1e-6
    unit = 10.0 ** (math.floor(math.log10(abs(limit))) - 2)
    digits = math.floor(limit / unit) if rule in HIGHER_IS_BETTER else math.ceil(limit / unit)
    return float(f"{digits * unit:.3g}")


def _points(line: Curve) -> list[list[float]]:
    """At most CURVE_POINTS of [threshold, precision, yield]."""
    rows = evenly(len(line.share), CURVE_POINTS)
    return [[float(v) for v in row] for row in np.stack([line.thresholds, line.precision, line.share], 1)[rows]]


def _limits(config: FilterConfig, rules: Sequence[Rule]) -> dict[str, float]:
    return {THRESHOLDS[rule]: getattr(config, THRESHOLDS[rule]) for rule in rules}
