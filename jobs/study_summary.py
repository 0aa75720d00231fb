"""The numbers of a study from those of its seeds: mean, spread, paired differences with their intervals, headroom.

Pure: results in, plain values for JSON out. Not here: running (``study``), tables and figures
(``hojoint.report.study``).
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import scipy.stats

from hojoint.report.label_tables import some_units
from hojoint.report.study import MINUS, SHOWN
from hojoint.report.tables import DOMAINS, METRICS, NETWORKS, Metric
from jobs.grids import TITLES, Grid, Point

DIFFERENCES = (("student", "teacher"), ("student", "control"))
QUALITY = ("precision", "aligned_mm_median", "joints_2d_median")
CONFIDENCE = 0.95
HEADROOM = ("joints_wrist_mm", "joints_mm")
"""Errors out of domain whose headroom is told."""
PER_CENT = ("yield", "precision", "side_right", "clips_side_right")

Results = Mapping[int, Mapping[str, Mapping[str, Any]]]
"""seed -> name of a network or key of a point -> {'domains': ..., 'labels': ...}; what is not known is missing."""


def summary(runs: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and spread over the seeds of every metric, of paired differences, and of the labels' quality.

    'units' are those by which the quality was measured, where it is not all of them.
    """
    out: dict[str, Any] = {"seeds": list(runs), "domains": {}, "labels": {}}
    for domain in DOMAINS:
        rows: dict[str, Any] = {}
        for metric in METRICS:
            scores = {seed: run["evaluation"] for seed, run in runs.items()}
            values = {name: _values(scores, name, domain, metric) for name in NETWORKS}
            if not any(values.values()):
                continue
            row: dict[str, Any] = {name: spread(list(numbers.values())) for name, numbers in values.items() if numbers}
            for after, before in DIFFERENCES:
                if (difference := paired(values[after], values[before])) is not None:
                    row[f"{after} - {before}"] = difference
            rows[metric.label] = row
        if rows:
            out["domains"][domain] = rows
    known = [run["quality"] for run in runs.values() if run.get("quality")]
    for group in ("kept", "rejected"):
        numbers = {key: [worth[group][key] for worth in known] for key in ("frames", *QUALITY)}
        out["labels"][group] = {
            key: spread([value for value in values if value is not None]) for key, values in numbers.items()
        }
    out["units"] = sorted({some for worth in known if (some := some_units(worth)) is not None})
    return out


def of_grid(grid: Grid, points: Sequence[Point], results: Results) -> dict[str, Any]:
    """The summary of a grid; ``results`` also holds each seed's 'control'."""
    control = _domains(results, "control", None)
    rows = [
        {
            "key": point.key,
            "title": point.title,
            "network": point.network,
            "seeds": [seed for seed, made in results.items() if point.key in made],
            "domains": _domains(results, point.key, None if point.network == "control" else "control"),
            "labels": _labels([seed[point.key].get("labels") for seed in results.values() if point.key in seed]),
        }
        for point in points
    ]
    out = {"grid": grid, "title": TITLES[grid], "seeds": list(results), "control": control, "rows": rows}
    if grid == "labels":
        out["headroom"] = {metric.key: found for metric in SHOWN if (found := _headroom(results, metric)) is not None}
    return out


def _domains(results: Results, key: str, control: str | None) -> dict[str, Any]:
    """Domain -> metric -> spread, each seed's value, and the paired difference to ``control``."""
    scores = {seed: {name: row["domains"] for name, row in rows.items()} for seed, rows in results.items()}
    out: dict[str, Any] = {}
    for domain in DOMAINS:
        row = {}
        for metric in SHOWN:
            values = _values(scores, key, domain, metric)
            if not values:
                continue
            row[metric.key] = {**(spread(list(values.values())) or {}), "values": values}
            before = {} if control is None else _values(scores, control, domain, metric)
            if (difference := paired(values, before)) is not None:
                row[metric.key][MINUS] = difference
        if row:
            out[domain] = row
    return out


def _labels(measured: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    """Spread of what is told of labels."""
    known = [flat_labels(value) for value in measured if value is not None]
    keys = dict.fromkeys(key for value in known for key in value)
    numbers = {key: [told for value in known if (told := value.get(key)) is not None] for key in keys}
    return {key: spread(values) for key, values in numbers.items() if values}


def flat_labels(measured: Mapping[str, Any]) -> dict[str, float | None]:
    """What ``MeasureLabels`` wrote, in the units of the tables; a share of the frames that the labeller predicted."""
    frames, labels = measured["frames"], measured.get("labels", {})
    names = ("precision", "side_right", "wrist_mm_median", "aligned_mm_median", "joints_2d_median")
    flat: dict[str, float | None] = {"kept": frames["kept"], **{name: labels.get(name) for name in names}}
    flat["labels"] = frames.get("labels", labels.get("frames"))  # of earlier versions where the truth is known
    flat["yield"] = frames["kept"] / frames["predicted"] if frames["predicted"] else None
    flat["clips_side_right"] = measured.get("clips", {}).get("side_right")
    return {name: None if value is None else 100 * value if name in PER_CENT else value for name, value in flat.items()}


def _headroom(results: Results, metric: Metric) -> dict[str, Any] | None:
    """What the student gains over the control, and what true labels on its kept frames would."""
    if metric.key not in HEADROOM:
        return None
    scores = {seed: {name: row["domains"] for name, row in rows.items()} for seed, rows in results.items()}
    control, student, best = (
        _values(scores, key, "freihand", metric) for key in ("control", "as_they_are", "true_kept")
    )
    seeds = [seed for seed in control if seed in student and seed in best]  # of a share, both sides need a seed
    control, student, best = ({seed: values[seed] for seed in seeds} for values in (control, student, best))
    gained, possible = paired(control, student), paired(control, best)  # control minus the other: positive is better
    if gained is None or possible is None:
        return None
    by_seed = {seed: _ratio(control[seed] - student[seed], control[seed] - best[seed]) for seed in seeds}
    return {
        "gained": gained,
        "possible": possible,
        "share": _ratio(gained["mean"], possible["mean"]),  # of the means: a seed without headroom has no share
        "by_seed": by_seed,
    }


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None


def _values(scores: Mapping[int, Mapping[str, Any]], name: str, domain: str, metric: Metric) -> dict[int, float]:
    """Seed -> value of a network; a seed whose network had nothing to train on has none."""
    parts = {seed: networks.get(name, {}).get(domain, {}).get(metric.part) for seed, networks in scores.items()}
    return {
        seed: part[metric.key] * metric.scale
        for seed, part in parts.items()
        if part and part.get(metric.key) is not None
    }


def spread(values: Sequence[float]) -> dict[str, Any] | None:
    """Mean, sample standard deviation (None of one value), range and number of values; None of no values."""
    if not values:
        return None
    deviation = statistics.stdev(values) if len(values) > 1 else None
    mean = statistics.fmean(values)
    return {"mean": mean, "std": deviation, "low": min(values), "high": max(values), "seeds": len(values)}


def paired(after: Mapping[int, float], before: Mapping[int, float]) -> dict[str, Any] | None:
    """Spread of the differences of the seeds that have both, and the interval of their mean (Student's t), None of one
    seed; None where no seed has both."""
    differences = [after[seed] - before[seed] for seed in after if seed in before]
    found = spread(differences)
    if found is None:
        return None
    interval = None
    if len(differences) > 1:
        reach = float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, len(differences) - 1))
        reach *= found["std"] / len(differences) ** 0.5
        interval = [found["mean"] - reach, found["mean"] + reach]
    return {**found, "interval": interval}
