"""Which thresholds the rules deserve: precision and yield of each and of all together, where truth is known (Sec. 5.1).

The paper's thresholds are bare numbers. Given scored frames and whether each label is right (``label_quality``), a
rule's *precision* is the share of right labels among those it keeps and its *yield* the share of frames it keeps; both
follow its threshold. ``propose`` looks for thresholds of all rules that reach a wanted precision with as many right
labels as it can find. What is fitted on some recordings is measured on others, or it would praise itself.
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

from hojoint.config import FilterConfig, Rule
from hojoint.errors import InputError
from hojoint.labelling import filters, tables

# N frames, L levels of strictness of a rule.

LEVELS = 60
CURVE_POINTS = 80
FEWEST = 20  # kept frames; the precision of fewer says nothing
ATTEMPTS, AIM_STEP = 8, 0.01  # at thresholds that reach the aim when frames are judged anew; how it rises each time


@dataclass(frozen=True, eq=False)
class Judged:
    """Predicted frames with their scores, and whether each label is right."""

    table: pa.Table  # of predictions, N rows
    right: np.ndarray  # (N,) bool
    recordings: np.ndarray | None = None  # (N,) str, what shows one moment from all sides; nothing means the video

    def score(self, rule: Rule) -> np.ndarray:
        """(N,) with larger meaning stricter met: negated where small scores are good, -inf where there is none."""
        score = tables.array_of(self.table, f"score_{rule}").astype(np.float64)
        signed = score if rule in filters.HIGHER_IS_BETTER else -score
        return np.where(np.isnan(signed), -np.inf, signed)

    def take(self, rows: np.ndarray) -> Judged:
        recordings = None if self.recordings is None else self.recordings[rows]
        return Judged(self.table.take(np.flatnonzero(rows)), self.right[rows], recordings)

    def recording(self) -> np.ndarray:
        """(N,) str: frames of one recording are too alike to be on both sides of a split."""
        return np.array(self.table["video_id"].to_pylist()) if self.recordings is None else self.recordings


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

    The search takes scores as they stand, but the shape rule learns from what the others keep. So what it finds is
    judged anew; where that falls short, it searches among the new scores with a higher aim. Where no aim is high enough
    the most precise settings found are returned; ``calibrate`` says what they reach.
    """
    seen, best, most = judged, None, -1.0
    for attempt in range(ATTEMPTS):
        found = _search(seen, config, min(1.0, precision + attempt * AIM_STEP))
        if found is None:
            break
        seen, kept = _anew(judged, found)
        if reaches(kept, seen.right, precision):
            return found
        reached = float(seen.right[kept].mean()) if kept.any() else 0.0
        if reached > most:
            best, most = found, reached
    return best


def _search(judged: Judged, config: FilterConfig, precision: float) -> FilterConfig | None:
    """Settings that reach the precision by the scores as they stand.

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
    while not reaches(kept, judged.right, precision):
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
            if reaches(_kept(passes, {**chosen, rule: level}), judged.right, precision):
                chosen[rule] = level
                break
    limits = {rule: _limit(rule, ladders[rule], chosen[rule], config) for rule in rules}
    return config.model_copy(update={filters.THRESHOLDS[rule]: limit for rule, limit in limits.items()})


def kept_by(judged: Judged, config: FilterConfig) -> np.ndarray:
    """(N,) bool: the frames that the settings keep, judged anew, for the shape rule learns from what others keep."""
    kept = np.zeros(len(judged.right), bool)
    kept[_clip_by_clip(judged)] = _anew(judged, config)[1]
    return kept


def calibrate(judged: Judged, config: FilterConfig, precision: float) -> dict[str, Any]:
    """Everything that the report shows, as plain numbers; ``proposed`` is None where none come near the aim."""
    if not judged.right.any():
        raise InputError(f"none of the {len(judged.right)} predicted frames is right; the teacher must learn first")
    rules = [rule for rule in filters.RULES if rule in config.enabled]
    proposed = propose(judged, config, precision)
    kept = None if proposed is None else kept_by(judged, proposed)
    return {
        "frames": len(judged.right),
        "recordings": len(set(judged.recording())),
        "right": int(judged.right.sum()),
        "base_precision": float(judged.right.mean()),
        "wanted_precision": precision,
        "reached": kept is not None and reaches(kept, judged.right, precision),
        "rules": {rule: _of_rule(judged, rule, config, proposed, precision) for rule in filters.RULES},
        "together": {
            "current": worth(kept_by(judged, config), judged.right),
            "proposed": None if kept is None else worth(kept, judged.right),
            "held_out": _held_out(judged, config, precision),
            "curve": _points(curve_together(judged, rules)),
        },
        "proposed": None if proposed is None else _limits(proposed, rules),
    }


def _anew(judged: Judged, config: FilterConfig) -> tuple[Judged, np.ndarray]:
    """The frames with the scores that they have under the settings, clip by clip, and (N,) bool: which are kept."""
    order = _clip_by_clip(judged)
    recordings = None if judged.recordings is None else judged.recordings[order]
    table = tables.rescored(judged.table, config)
    kept = np.array([verdict == filters.KEPT for verdict in table["verdict"].to_pylist()], dtype=bool)
    return Judged(table, judged.right[order], recordings), kept


def _clip_by_clip(judged: Judged) -> np.ndarray:
    """Row numbers in the order in which frames are judged."""
    return np.concatenate([np.zeros(0, int), *tables.clips_of(judged.table)])


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


def _held_out(judged: Judged, config: FilterConfig, precision: float) -> dict[str, Any] | None:
    """What thresholds from one half are worth on the other; nothing where there is no other, or no such thresholds."""
    first = _first_half(judged.recording())
    fitted = None if first.all() else propose(judged.take(first), config, precision)
    other = judged.take(~first)
    return None if fitted is None else worth(kept_by(other, fitted), other.right)


def _first_half(recordings: np.ndarray) -> np.ndarray:
    """(N,) bool, constant over a recording: each goes where fewer frames are so far, in an order that names fix."""
    names, place, counts = np.unique(recordings, return_inverse=True, return_counts=True)
    first, frames = np.zeros(len(names), bool), {True: 0, False: 0}
    for number in sorted(range(len(names)), key=lambda number: hashlib.sha256(str(names[number]).encode()).digest()):
        first[number] = frames[True] <= frames[False]
        frames[bool(first[number])] += int(counts[number])
    return first[place]


def _ladder(judged: Judged, rule: Rule) -> np.ndarray:
    """(L,) thresholds to choose from, loosest first, in the sense of ``Judged.score`` and rounded as they are written;
    what a setting may not be is left out (a tolerance below zero)."""
    score = judged.score(rule)
    finite = score[np.isfinite(score)]
    if len(finite) == 0:
        return finite
    steps = np.unique(np.quantile(finite, np.linspace(0, 0.98, LEVELS), method="lower"))
    allowed = steps[steps >= 0] if rule in filters.HIGHER_IS_BETTER else steps[steps <= 0]
    limits = [_rounded(rule, float(_own_unit(rule, step))) for step in (allowed if len(allowed) else [0.0])]
    return np.unique(_own_unit(rule, np.array(limits)))


def _gains(passes: np.ndarray, kept: np.ndarray, right: np.ndarray) -> list[tuple[int, float]]:
    """(level, wrong labels removed per right one) of every tightening that removes wrong ones and leaves right ones."""
    stays = passes & kept
    wrong_gone = (kept & ~right).sum() - (stays & ~right).sum(1)
    right_left = (stays & right).sum(1)
    gain = wrong_gone / ((kept & right).sum() - right_left + 1)
    return [(int(level), float(gain[level])) for level in np.flatnonzero((wrong_gone > 0) & (right_left > 0))]


def _kept(passes: Mapping[Rule, np.ndarray], chosen: Mapping[Rule, int]) -> np.ndarray:
    return np.logical_and.reduce([passes[rule][level] for rule, level in chosen.items()])


def reaches(kept: np.ndarray, right: np.ndarray, precision: float) -> bool:
    """Whether enough frames are kept and enough of them are right."""
    return int(kept.sum()) >= FEWEST and float(right[kept].mean()) >= precision


def _own_unit(rule: Rule, score: Any) -> Any:
    return score if rule in filters.HIGHER_IS_BETTER else -score


def _limit(rule: Rule, ladder: np.ndarray, level: int, config: FilterConfig) -> float:
    """The threshold of a level; a rule that need not reject anything keeps its present threshold if that is looser."""
    limit = float(_own_unit(rule, ladder[level]))
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
