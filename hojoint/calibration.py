"""Which thresholds the rules deserve: precision and yield of each and of all together, where truth is known (Sec. 5.1).

The paper's thresholds are bare numbers. Given scored frames and whether each label is right (``label_quality``), a
rule's *precision* is the share of right labels among those it keeps and its *yield* the share of frames it keeps; both
follow its threshold. ``propose`` looks for thresholds of all rules that reach a wanted precision with as many right
labels as it can find. What is fitted on some clips is measured on others, or it would praise itself.
Not here: what is right (``label_quality``), the figure (``calibration_figure``).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from hojoint import filters, tables
from hojoint.config import FilterConfig, Rule
from hojoint.errors import InputError

# N frames, L levels of strictness of a rule.

LEVELS = 60
CURVE_POINTS = 80
FEWEST = 20  # kept frames; the precision of fewer says nothing


@dataclass(frozen=True, eq=False)
class Judged:
    """Predicted frames with their scores, and whether each label is right."""

    table: pa.Table  # of predictions, N rows
    right: np.ndarray  # (N,) bool

    def score(self, rule: Rule) -> np.ndarray:
        """(N,) with larger meaning stricter met: negated where small scores are good, -inf where there is none."""
        score = tables.array_of(self.table, f"score_{rule}").astype(np.float64)
        signed = score if rule in filters.HIGHER_IS_BETTER else -score
        return np.where(np.isnan(signed), -np.inf, signed)

    def take(self, rows: np.ndarray) -> Judged:
        return Judged(self.table.take(np.flatnonzero(rows)), self.right[rows])


@dataclass(frozen=True, eq=False)
class Curve:
    """Precision and yield from the strictest to the loosest threshold."""

    thresholds: np.ndarray  # in the rule's own unit; a level in (0, 1] for all rules together
    precision: np.ndarray
    share: np.ndarray  # yield


def worth(kept: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    """Plain numbers: frames kept, their precision, their yield and the recall of right labels."""
    good = int((kept & right).sum())
    return {
        "frames": len(right),
        "kept": int(kept.sum()),
        "precision": good / int(kept.sum()) if kept.any() else None,
        "yield": float(kept.mean()) if len(kept) else None,
        "recall": good / int(right.sum()) if right.any() else None,
    }


def curve(judged: Judged, rule: Rule) -> Curve:
    """One rule alone, at every threshold that changes anything."""
    score = judged.score(rule)
    order = np.argsort(-score, kind="stable")
    order = order[np.isfinite(score[order])]
    last = np.flatnonzero(np.diff(score[order], append=-np.inf) < 0)  # the last frame of each group of equal scores
    kept, good = last + 1, np.cumsum(judged.right[order])[last]
    return Curve(_own_unit(rule, score[order[last]]), good / kept, kept / len(score))


def curve_together(judged: Judged, rules: Sequence[Rule]) -> Curve:
    """All rules tightened together: at level q each keeps the share q of the frames that it can judge."""
    levels = np.linspace(1, 0.02, LEVELS)
    found = []
    for level in levels[::-1]:
        kept = np.ones(len(judged.right), bool)
        for rule in rules:
            score = judged.score(rule)
            finite = score[np.isfinite(score)]
            kept &= score >= (np.quantile(finite, 1 - level) if len(finite) else np.inf)
        if kept.any():
            found.append((level, judged.right[kept].mean(), kept.mean()))
    return Curve(*np.array(found).reshape(-1, 3).T)


def alone(judged: Judged, rule: Rule, precision: float) -> float | None:
    """The loosest threshold with which the rule alone reaches the precision; nothing where none does."""
    line = curve(judged, rule)
    reached = np.flatnonzero((line.precision >= precision) & (line.share * len(judged.right) > FEWEST - 0.5))
    return float(line.thresholds[reached[-1]]) if len(reached) else None


def propose(judged: Judged, config: FilterConfig, precision: float) -> FilterConfig | None:
    """Settings whose enabled rules together reach the precision and keep many right labels; nothing where none do.

    From the loosest thresholds on, the tightening that removes most wrong labels per right one is taken until the
    precision is reached; then each rule is loosened again as far as the precision allows.
    """
    rules = [rule for rule in filters.RULES if rule in config.enabled]
    ladders = {rule: _ladder(judged, rule) for rule in rules}
    if any(len(ladder) == 0 for ladder in ladders.values()):
        return None
    passes = {rule: judged.score(rule) >= ladders[rule][:, None] for rule in rules}  # (L, N), loosest first
    chosen = dict.fromkeys(rules, 0)
    kept = _kept(passes, chosen)
    while not _reaches(kept, judged.right, precision):
        best = max(
            ((gain, rule, level) for rule in rules for level, gain in _gains(passes[rule], kept, judged.right)),
            default=None,
        )
        if best is None:
            return None
        chosen[best[1]] = best[2]
        kept = _kept(passes, chosen)
    for rule in sorted(rules, key=lambda rule: -chosen[rule]):
        for level in range(chosen[rule]):
            if _reaches(_kept(passes, {**chosen, rule: level}), judged.right, precision):
                chosen[rule] = level
                break
    limits = {rule: _limit(rule, ladders[rule], chosen[rule], config) for rule in rules}
    return config.model_copy(update={filters.THRESHOLDS[rule]: limit for rule, limit in limits.items()})


def kept_by(judged: Judged, config: FilterConfig) -> np.ndarray:
    """(N,) bool: the frames that the settings keep, judged anew, for the shape rule learns from what others keep."""
    order = np.concatenate([np.zeros(0, int), *tables.clips_of(judged.table)])
    kept = np.zeros(len(judged.right), bool)
    verdicts = tables.rescored(judged.table, config)["verdict"].to_pylist()
    kept[order] = [verdict == filters.KEPT for verdict in verdicts]
    return kept


def calibrate(judged: Judged, config: FilterConfig, precision: float) -> dict[str, Any]:
    """Everything that the report shows, as plain numbers; ``proposed`` is None where no thresholds reach the aim."""
    if not judged.right.any():
        raise InputError(f"none of the {len(judged.right)} predicted frames is right; the teacher must learn first")
    rules = [rule for rule in filters.RULES if rule in config.enabled]
    first = _first_half(judged.table)
    fitted = propose(judged.take(first), config, precision)
    proposed = propose(judged, config, precision)
    return {
        "frames": len(judged.right),
        "right": int(judged.right.sum()),
        "base_precision": float(judged.right.mean()),
        "wanted_precision": precision,
        "rules": {rule: _of_rule(judged, rule, config, proposed, precision) for rule in filters.RULES},
        "together": {
            "current": worth(kept_by(judged, config), judged.right),
            "proposed": None if proposed is None else worth(kept_by(judged, proposed), judged.right),
            "held_out": None if fitted is None else _worth_of(judged.take(~first), fitted),
            "curve": _points(curve_together(judged, rules)),
        },
        "proposed": None if proposed is None else _limits(proposed, rules),
    }


def _of_rule(
    judged: Judged, rule: Rule, config: FilterConfig, proposed: FilterConfig | None, precision: float
) -> dict[str, Any]:  # fmt: skip
    limit = getattr(config, filters.THRESHOLDS[rule])
    at_limit = judged.score(rule) >= (limit if rule in filters.HIGHER_IS_BETTER else -limit)
    return {
        "setting": f"filters.{filters.THRESHOLDS[rule]}",
        "enabled": rule in config.enabled,
        "current": limit,
        "alone": worth(at_limit, judged.right),
        "alone_for_wanted": alone(judged, rule, precision),
        "proposed": None if proposed is None else getattr(proposed, filters.THRESHOLDS[rule]),
        "curve": _points(curve(judged, rule)),
    }


def _worth_of(judged: Judged, config: FilterConfig) -> dict[str, Any]:
    return worth(kept_by(judged, config), judged.right)


def _first_half(table: pa.Table) -> np.ndarray:
    """(N,) bool, constant over a video: frames of one video are too alike to be on both sides."""
    half = {v: hashlib.sha256(v.encode()).digest()[0] % 2 == 0 for v in set(table["video_id"].to_pylist())}
    return np.array([half[video] for video in table["video_id"].to_pylist()], dtype=bool)


def _ladder(judged: Judged, rule: Rule) -> np.ndarray:
    """(L,) thresholds to choose from, loosest first, in the sense of ``Judged.score``; what a setting may not be is
    left out (a tolerance below zero)."""
    score = judged.score(rule)
    finite = score[np.isfinite(score)]
    if len(finite) == 0:
        return finite
    steps = np.unique(np.quantile(finite, np.linspace(0, 0.98, LEVELS), method="lower"))
    allowed = steps[steps >= 0] if rule in filters.HIGHER_IS_BETTER else steps[steps <= 0]
    return allowed if len(allowed) else np.zeros(1)


def _gains(passes: np.ndarray, kept: np.ndarray, right: np.ndarray) -> list[tuple[int, float]]:
    """(level, wrong labels removed per right one) of every tightening that removes wrong ones and leaves right ones."""
    stays = passes & kept
    wrong_gone = (kept & ~right).sum() - (stays & ~right).sum(1)
    right_left = (stays & right).sum(1)
    gain = wrong_gone / ((kept & right).sum() - right_left + 1)
    return [(int(level), float(gain[level])) for level in np.flatnonzero((wrong_gone > 0) & (right_left > 0))]


def _kept(passes: Mapping[Rule, np.ndarray], chosen: Mapping[Rule, int]) -> np.ndarray:
    return np.logical_and.reduce([passes[rule][level] for rule, level in chosen.items()])


def _reaches(kept: np.ndarray, right: np.ndarray, precision: float) -> bool:
    return int(kept.sum()) >= FEWEST and float(right[kept].mean()) >= precision


def _own_unit(rule: Rule, score: Any) -> Any:
    return score if rule in filters.HIGHER_IS_BETTER else -score


def _limit(rule: Rule, ladder: np.ndarray, level: int, config: FilterConfig) -> float:
    """The threshold of a level; a rule that need not reject anything keeps its present threshold if that is looser."""
    limit = _rounded(rule, float(_own_unit(rule, ladder[level])))
    present = float(getattr(config, filters.THRESHOLDS[rule]))
    looser = min if rule in filters.HIGHER_IS_BETTER else max
    return looser(limit, present) if level == 0 else limit


def _rounded(rule: Rule, limit: float) -> float:
    """Three digits, never stricter than the threshold found, and never zero where a setting must be positive."""
    if limit == 0:
        return 0.0 if rule in ("joint_angle", *filters.HIGHER_IS_BETTER) else 1e-6
    unit = 10.0 ** (math.floor(math.log10(abs(limit))) - 2)
    whole = math.floor(limit / unit) if rule in filters.HIGHER_IS_BETTER else math.ceil(limit / unit)
    return float(f"{whole * unit:.3g}")


def _points(line: Curve) -> list[list[float]]:
    """At most CURVE_POINTS of [threshold, precision, yield]."""
    some = np.unique(np.linspace(0, len(line.share) - 1, min(CURVE_POINTS, len(line.share))).round().astype(int))
    return [[float(v) for v in row] for row in np.stack([line.thresholds, line.precision, line.share], 1)[some]]


def _limits(config: FilterConfig, rules: Sequence[Rule]) -> dict[str, float]:
    return {filters.THRESHOLDS[rule]: getattr(config, filters.THRESHOLDS[rule]) for rule in rules}
