"""What the quality of labels promised against what they turned out to be, where the truth is known.

A chance is worth something if of the frames that have it as many are correct: the model was fitted on labelled images,
and videos may be of another kind. Not here: fitting (``quality_fit``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hojoint.evaluation.precision import auc, selection_scores

BINS = 10
FITTED = (
    *("frames", "recordings", "right_when", "base_precision", "out_of_fold"),
    *("auc", "wanted_precision", "min_quality", "promised"),
)
"""What is told of the model's own frames."""


def reliability(chances: np.ndarray, correct: np.ndarray, bins: int = BINS) -> list[dict[str, Any]]:
    """One row per used bin of [0, 1]: its frames, the mean chance that they were given, the share that is correct."""
    number = np.minimum((chances * bins).astype(int), bins - 1)
    used = [(int(one), number == one) for one in np.unique(number)]
    return [
        {
            "from": one / bins,
            "to": (one + 1) / bins,
            "frames": int(rows.sum()),
            "promised": float(chances[rows].mean()),
            "right": float(correct[rows].mean()),
        }
        for one, rows in used
    ]


def promised_and_measured(
    chances: np.ndarray, correct: np.ndarray, verdicts: Sequence[str], about: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """Promised and measured, plain numbers for JSON; None where no frame has a quality.

    Args:
        chances: (N,) the column ``quality``, NaN where it is null.
        correct: (N,) bool.
        verdicts: (N,) 'kept' or why not.
        about: of the model that gave the chances, with what it promised where it was fitted; None where it is lost.
    """
    known = np.isfinite(chances)
    if not known.any():
        return None
    kept = np.array([verdict == "kept" for verdict in verdicts]) & known
    return {
        "frames": int(known.sum()),
        "auc": auc(chances[known], correct[known]),
        "promised": float(chances[known].mean()),
        "right": float(correct[known].mean()),
        "kept": {
            **selection_scores(kept, correct),
            "promised": float(chances[kept].mean()) if kept.any() else None,
        },
        "reliability": reliability(chances[known], correct[known]),
        "fitted": None if about is None else {name: about.get(name) for name in FITTED},
    }
