"""The sentences and tables of a report from plain numbers: what was done, and scores before and after.

Hand errors are in mm, scores in per cent, as in the paper's Tables 1-5. Nothing here knows HTML, pictures or files. Not
here: tables on labels (``label_tables``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hojoint.report.formats import percent, seconds, share
from hojoint.report.label_tables import RULES, checks_of

DOMAINS = {
    "ho3d": "In the labelled domain (HO-3D layout, evaluation split)",
    "freihand": "Out of domain (FreiHAND layout, wide test set)",
}
KINDS = {"ho3d": "of the labelled kind", "freihand": "of a wider kind"}
NETWORKS = {
    "teacher": "trained on labelled images alone",
    "control": "labelled images alone, for as many steps as the student",
    "student": "labelled images and pseudo-labels",
}


@dataclass(frozen=True)
class Metric:
    """One row of the before/after table."""

    part: str  # 'hand' or 'object'
    key: str
    label: str
    scale: float
    digits: int
    lower_is_better: bool


METRICS = (
    Metric("hand", "joints_wrist_mm", "MPJPE, root-aligned (mm)", 1, 1, True),
    Metric("hand", "joints_px", "2D joint error (px of the input)", 1, 2, True),
    Metric("hand", "joints_mm", "PA-MPJPE, joints aligned (mm)", 1, 2, True),
    Metric("hand", "mesh_mm", "PA-MPVPE, mesh aligned (mm)", 1, 2, True),
    Metric("hand", "joints_auc", "joint AUC, 0-50 mm (%)", 100, 1, False),
    Metric("hand", "mesh_auc", "mesh AUC, 0-50 mm (%)", 100, 1, False),
    Metric("hand", "f5", "F-score at 5 mm (%)", 100, 1, False),
    Metric("hand", "f15", "F-score at 15 mm (%)", 100, 1, False),
    Metric("object", "add_0.1d", "object ADD-0.1D, box diagonal (%)", 100, 1, False),
    Metric("object", "add_0.1d_true_diameter", "object ADD-0.1D, true diameter (%)", 100, 1, False),
    Metric("object", "adds_0.1d_true_diameter", "object ADD-S-0.1D, true diameter (%)", 100, 1, False),
    Metric("object", "rep_5", "object REP-5 (%)", 100, 1, False),
    Metric("object", "add_median_mm", "object ADD, median (mm)", 1, 1, True),
    Metric("object", "depth_median_mm", "object depth error, median (mm)", 1, 1, True),
    Metric("object", "lateral_median_mm", "object error across the view, median (mm)", 1, 1, True),
    Metric("object", "rotation_median_deg", "object rotation error, median (degrees)", 1, 1, True),
    Metric("object", "add_0.1d_refined", "object ADD-0.1D after refinement (%)", 100, 1, False),
    Metric("object", "add_median_mm_refined", "object ADD after refinement, median (mm)", 1, 1, True),
)

Scores = Mapping[str, Mapping[Any, Any]]
"""network -> domain -> {'images', 'hand': {...}, 'object': {...} or None}"""


def comparison(evaluation: Scores) -> list[dict[str, Any]]:
    """A table per domain: a row per metric, a column per network, and what the student changed."""
    names = [name for name in NETWORKS if name in evaluation] + [name for name in evaluation if name not in NETWORKS]
    out = []
    for domain, title in DOMAINS.items():
        columns = [name for name in names if domain in evaluation[name]]
        if not columns:
            continue
        scores = [evaluation[name][domain] for name in columns]
        rows = [row for metric in METRICS if (row := _row(metric, scores, columns))]
        change = "teacher → student" if {"teacher", "student"} <= set(columns) else ""
        note = f"{scores[0]['images']:,} images"
        out.append({"title": title, "note": note, "columns": columns, "change": change, "rows": rows})
    return out


def _row(metric: Metric, scores: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any] | None:
    exact = [(score.get(metric.part) or {}).get(metric.key) for score in scores]
    if all(value is None for value in exact):
        return None
    # Rounded as shown: of two equal numbers on the page none is better.
    values = [None if value is None else round(value * metric.scale, metric.digits) for value in exact]
    numbers = [value for value in values if value is not None]
    best = (min if metric.lower_is_better else max)(numbers)
    cells = [
        {
            "text": "–" if value is None else f"{value:.{metric.digits}f}",
            "best": value == best and min(numbers) < max(numbers),
        }
        for value in values
    ]
    by_name = dict(zip(names, values, strict=True))
    before, after = by_name.get("teacher"), by_name.get("student")
    change, tone = "", ""
    if before is not None and after is not None:
        change = f"{after - before:{'+' if after != before else ''}.{metric.digits}f}"
        better = after < before if metric.lower_is_better else after > before
        tone = "good" if better else "bad" if after != before else ""
    return {"label": metric.label, "cells": cells, "change": change, "tone": tone}


def comparison_text(evaluation: Scores, training: Mapping[str, Mapping[str, Any]]) -> str:
    """What the columns are, and what each network started from where ``training`` tells."""
    later = {name: "the same with the labels of the student before" for name in evaluation if name not in NETWORKS}
    columns = "; ".join(
        ", ".join(filter(None, [f"{name}: {what}", started_from(name, training)]))
        for name, what in {**NETWORKS, **later}.items()
        if name in evaluation
    )
    return (
        f"{columns}. Aligned errors, AUC and F-scores are the official ones after Procrustes alignment, which forgives "
        "a wrong global orientation; root-aligned, it counts. The best of each row is bold. One run each: "
        "differences of a few tenths of a millimetre need several seeds (jobs.study)."
    )


def summary(
    labels: Mapping[str, Any] | None,
    evaluation: Scores,
    training: Mapping[str, Mapping[str, Any]],
    rules: Sequence[str] = tuple(RULES),
) -> str:
    """What was done, in one paragraph for readers who do not know the project; ``rules`` are the enabled ones."""
    parts = [
        "A network that estimates the 3D pose and shape of a hand and the pose of the object it holds from one colour "
        "image was first trained on labelled images (the teacher)."
    ]
    if labels:
        videos, frames = labels["videos"], labels["frames"]
        parts.append(
            f"The teacher then labelled {videos['listed']:,} videos without annotations; of "
            f"{frames['predicted']:,} frames, {frames['kept']:,} passed {checks_of(rules)} and were kept as "
            "pseudo-labels."
        )
    if "student" in training or "student" in evaluation:
        origin = started_from("student", training)
        start = f", starting {origin}" if origin else ""
        parts.append(f"Another network (the student) was trained on both together{start}.")
    if evaluation:
        kinds = [kind for domain, kind in KINDS.items() if any(domain in scores for scores in evaluation.values())]
        parts.append(f"All were measured on images that none had seen, {' and '.join(kinds)}.")
    return " ".join(parts)


def cards(
    labels: Mapping[str, Any] | None,
    worth: Mapping[str, Any] | None,
    evaluation: Scores,
    stages: Sequence[Mapping[str, Any]],
) -> list[dict[str, str]]:
    """The most important numbers, for the top of the page."""
    out = []
    for domain, where in (("freihand", "out of domain"), ("ho3d", "labelled domain")):
        label = f"hand error, {where}: MPJPE (root-aligned)"
        errors = {
            name: scores[domain]["hand"]["joints_wrist_mm"] for name, scores in evaluation.items() if domain in scores
        }
        if {"teacher", "student"} <= set(errors):
            change = round(errors["student"], 1) - round(errors["teacher"], 1)  # rounded as shown
            note = f"teacher → student: {change:+.1f} mm ({change / errors['teacher']:+.0%})"
            tone = "soft" if change == 0 else "good" if change < 0 else "bad"
            value = f"{errors['teacher']:.1f} → {errors['student']:.1f} mm"
            out.append({"label": label, "value": value, "note": note, "tone": tone})
    if labels:
        kept, predicted = labels["frames"]["kept"], labels["frames"]["predicted"]
        note = f"{kept:,} of {predicted:,} frames passed"
        out.append({"label": "pseudo-labels kept", "value": share(kept, predicted), "note": note, "tone": "soft"})
    if worth:
        kept_correct, lost_correct = worth["kept"]["precision"], worth["rejected"]["precision"]
        note = f"{percent(lost_correct)} of the rejected ones are correct"
        out.append(
            {"label": "kept labels that are correct", "value": percent(kept_correct), "note": note, "tone": "soft"}
        )
    spent = [stage["seconds"] for stage in stages if stage["seconds"] is not None]
    if spent and len(out) < 4:
        out.append({"label": "time", "value": seconds(sum(spent)), "note": "all stages", "tone": "soft"})
    return out


def training_text(training: Mapping[str, Mapping[str, Any]]) -> str:
    """Steps, samples and starting weights of each network."""
    parts = []
    for name, facts in training.items():
        if facts.get("steps") is not None:
            samples = f" on {facts['samples']:,} samples" if facts.get("samples") else ""
            origin = started_from(name, training)
            parts.append(f"{name}: {facts['steps']:,} steps{samples}" + (f", {origin}" if origin else ""))
    return "Loss per step, smoothed by epoch. " + "; ".join(parts) + ("." if parts else "")


def started_from(name: str, training: Mapping[str, Mapping[str, Any]]) -> str:
    """'from scratch', or from which weights a network was trained; '' where its facts (training.json) do not tell."""
    facts = training.get(name, {})
    if "parents" not in facts:
        return ""
    parents, identity = facts["parents"], facts.get("identity", {})
    sha256 = parents.get("init_checkpoint") or parents.get("initial") or identity.get("train.initial")  # or older files
    if sha256 is not None:
        known = [other for other, others in training.items() if other != name and others.get("sha256") == sha256]
        return f"from the weights of the {known[0]}" if known else f"from the weights {str(sha256)[:12]}"
    pretrained = identity.get("model.pretrained")
    return "from scratch" if pretrained is None else f"from scratch, with a backbone from {pretrained}"
