"""Precision and yield of rules where truth is known: how good the frames are that a threshold keeps.

Given scored frames and whether each label is correct (``label_quality``), a rule's *precision* is the share of
correct labels among those it keeps and its *yield* the share of frames it keeps; both depend on its threshold. Not
here: which thresholds are chosen (``calibration``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from hojoint.config import HIGHER_IS_BETTER, Rule
from hojoint.labelling import tables

LEVELS = 60  # of strictness of a rule
FEWEST = 20  # kept frames; the precision of fewer means nothing


@dataclass(frozen=True, eq=False)
class Judged:
    """Predicted frames with their scores, and whether each label is correct."""

    table: pa.Table  # of predictions, N rows
    correct: np.ndarray  # (N,) bool
    recordings: np.ndarray | None = None  # (N,) str, one for all cameras of a scene; None means the video is one
    beside: pa.Table | None = None  # frames of unknown worth in the same clips: judged along, and never counted

    def score(self, rule: Rule) -> np.ndarray:
        """(N,) where larger is better: the score, negated if small scores are good; -inf where it is NaN."""
        score = tables.array_of(self.table, f"score_{rule}").astype(np.float64)
        signed = score if rule in HIGHER_IS_BETTER else -score
        return np.where(np.isnan(signed), -np.inf, signed)

    def take(self, rows: np.ndarray) -> Judged:
        """The frames of a mask (N,) bool."""
        recordings = None if self.recordings is None else self.recordings[rows]
        return Judged(self.table.take(np.flatnonzero(rows)), self.correct[rows], recordings, self.beside)

    def recording(self) -> np.ndarray:
        """(N,) str: a split keeps frames of one recording together, as they are too alike."""
        return np.array(self.table["video_id"].to_pylist()) if self.recordings is None else self.recordings


@dataclass(frozen=True, eq=False)
class Curve:
    """Precision and yield from the strictest to the loosest threshold."""

    thresholds: np.ndarray  # (K,) in the rule's unit; a level in (0, 1] for all rules together
    precision: np.ndarray  # (K,)
    share: np.ndarray  # (K,) yield


def selection_scores(kept: np.ndarray, correct: np.ndarray) -> dict[str, Any]:
    """Plain numbers from masks (N,) bool: frames kept, their precision, yield and the recall of correct labels."""
    good = int((kept & correct).sum())
    return {
        "frames": len(correct),
        "kept": int(kept.sum()),
        "precision": good / int(kept.sum()) if kept.any() else None,
        "yield": float(kept.mean()) if len(kept) else None,
        "recall": good / int(correct.sum()) if correct.any() else None,
    }


def auc(score: np.ndarray, correct: np.ndarray) -> float | None:
    """Area under the ROC curve: how often a correct frame has a higher score than a wrong one; ties count half.

    Args:
        score: (N,) larger is better; may be infinite.
        correct: (N,) bool.
    """
    goods = int(correct.sum())
    if goods in (0, len(correct)):
        return None
    _, group, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[group]
    return float((ranks[correct].sum() - goods * (goods + 1) / 2) / (goods * (len(correct) - goods)))


def curve(judged: Judged, rule: Rule) -> Curve:
    """The curve of one rule alone, at every threshold that changes what it keeps."""
    score = judged.score(rule)
    order = np.argsort(-score, kind="stable")
    order = order[np.isfinite(score[order])]
    last = np.flatnonzero(np.diff(score[order], append=-np.inf) < 0)  # the last frame of each group of equal scores
    kept, good = last + 1, np.cumsum(judged.correct[order])[last]
    return Curve(in_unit_of(rule, score[order[last]]), good / kept, kept / len(score))


def curve_together(judged: Judged, rules: Sequence[Rule]) -> Curve:
    """The curve of all rules together: at level q each keeps the share q of the frames for which it has a score."""
    levels = np.linspace(1, 0.02, LEVELS)
    points = []
    for level in levels[::-1]:
        kept = np.ones(len(judged.correct), bool)
        for rule in rules:
            score = judged.score(rule)
            finite = score[np.isfinite(score)]
            kept &= score >= (np.quantile(finite, 1 - level) if len(finite) else np.inf)
        if kept.any():
            points.append((level, judged.correct[kept].mean(), kept.mean()))
    return Curve(*np.array(points).reshape(-1, 3).T)


def alone(judged: Judged, rule: Rule, precision: float) -> float | None:
    """The loosest threshold with which the rule alone reaches the precision; None where none does."""
    line = curve(judged, rule)
    enough = np.flatnonzero((line.precision >= precision) & (line.share * len(judged.correct) > FEWEST - 0.5))
    return float(line.thresholds[enough[-1]]) if len(enough) else None


def reaches(kept: np.ndarray, correct: np.ndarray, precision: float) -> bool:
    """Whether enough frames are kept and enough of them are correct."""
    return int(kept.sum()) >= FEWEST and float(correct[kept].mean()) >= precision


def in_unit_of(rule: Rule, score: Any) -> Any:
    """From the sign of ``Judged.score`` to the rule's unit, and back."""
    return score if rule in HIGHER_IS_BETTER else -score
