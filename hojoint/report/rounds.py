"""Tables of a report by round of self-training: labels and students, and what calibration promised of the labels.

Plain numbers in, columns and rows of text out. Not here: the tables of a run with one round (``tables``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hojoint.report.formats import percent, share
from hojoint.report.label_tables import other_bounds
from hojoint.report.tables import METRICS, Scores

ROUND_METRICS = (
    ("freihand", "joints_wrist_mm", "MPJPE, out of domain (mm)"),
    ("freihand", "joints_mm", "PA-MPJPE, out of domain (mm)"),
    ("ho3d", "joints_wrist_mm", "MPJPE, labelled domain (mm)"),
    ("ho3d", "joints_mm", "PA-MPJPE, labelled domain (mm)"),
    ("ho3d", "add_0.1d", "object ADD-0.1D (%)"),
)
"""Columns of the table by round: domain, metric, heading."""


def by_round(evaluation: Scores, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """A row per round: its labels and its student; None where there was one round.

    Args:
        entries: 'round', 'network', 'frames', and 'labels' where the truth is known, of each
            (``jobs.label_measures``).
    """
    if len(entries) < 2:
        return None
    metrics = {metric.key: metric for metric in METRICS}
    rows = []
    for entry in ({"round": 0, "network": "teacher"}, *entries):
        frames, labels = entry.get("frames"), entry.get("labels")
        kept = "–" if frames is None else f"{frames['kept']:,} ({share(frames['kept'], frames['predicted'])})"
        cells = [entry["network"], kept, "–" if labels is None else percent(labels["precision"])]
        for domain, key, _ in ROUND_METRICS:
            metric, score = metrics[key], evaluation.get(entry["network"], {}).get(domain, {})
            value = (score.get(metric.part) or {}).get(key)
            cells.append("–" if value is None else f"{value * metric.scale:.{metric.digits}f}")
        rows.append([str(entry["round"]), *cells])
    headings = [heading for _, _, heading in ROUND_METRICS]
    return {"columns": ["round", "network", "frames kept for it", "of them correct", *headings], "rows": rows}


def promises(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """What calibration promised beside what the labels of the videos are; None where nothing was calibrated.

    'note' tells where both call different labels correct.
    """
    rows, notes = [], []
    for entry in entries:
        promised, frames, labels = entry["promised"], entry["frames"], entry.get("labels")
        if promised is not None:
            rows.append([
                str(entry["round"]), percent(promised["precision"]), percent(promised["yield"]),
                "–" if labels is None else percent(labels["precision"]), share(frames["kept"], frames["predicted"]),
            ])  # fmt: skip
            when = entry.get("right_when") or {}
            notes.append(other_bounds(when.get("promised"), when.get("measured")))
    if not rows:
        return None
    columns = ["round", "promised: correct", "promised: kept", "measured: correct", "measured: kept"]
    return {"columns": columns, "rows": rows, "note": " ".join(dict.fromkeys(filter(None, notes)))}
