"""The sentences and tables of a report from plain numbers: before and after, counts that add up, quality of labels.

Hand errors are in mm, scores in per cent, as in the paper's Tables 1-5. Nothing here knows HTML, pictures or files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
RULES = {
    "box_iou": "mesh box misses the hand box",
    "reprojection": "mesh and 2D joints disagree",
    "bone_length": "a bone is too short",
    "joint_angle": "a joint bends too far",
    "joint_step": "2D joints jump between frames",
    "pose_step": "the pose jumps between frames",
    "shape_spread": "hand shape unlike the rest of its clip",
    "view_spread": "the views disagree",
    "side": "right or left hand is not sure",
}
REASONS = {**RULES, "quality": "too small a chance of being right"}


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
            f"{frames['predicted']:,} frames, {frames['kept']:,} passed {_checks_of(rules)} and were kept as "
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


def _checks_of(rules: Sequence[str]) -> str:
    if not rules:
        return "all checks (none was on)"
    return "the one check that was on" if len(rules) == 1 else f"{len(rules)} checks of space and time"


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
        kept_right, lost_right = worth["kept"]["precision"], worth["rejected"]["precision"]
        note = f"{percent(lost_right)} of the rejected ones are right"
        out.append({"label": "kept labels that are right", "value": percent(kept_right), "note": note, "tone": "soft"})
    spent = [stage["seconds"] for stage in stages if stage["seconds"] is not None]
    if spent and len(out) < 4:
        out.append({"label": "time", "value": seconds(sum(spent)), "note": "all stages", "tone": "soft"})
    return out


def labelling(report: Mapping[str, Any], rules: Sequence[str] = tuple(RULES)) -> dict[str, Any]:
    """Bars per verdict, and the sums that must hold; ``rules`` are the enabled ones."""
    frames, videos = report["frames"], report["videos"]
    most = max([frames["kept"], *frames["rejected"].values(), 1])
    bars = [_bar("kept", "kept", frames["kept"], most, frames["predicted"])]
    for rule, count in frames["rejected"].items():
        if rule not in rules and count == 0:
            continue
        bars.append(_bar(f"{rule}: {REASONS.get(rule, rule)}", "rejected", count, most, frames["predicted"]))
    return {"bars": bars, "checks": checks(videos, frames), "passed": _checks_of(rules)}


def _bar(label: str, tone: str, count: int, most: int, total: int) -> dict[str, Any]:
    text = f"{count:,} ({share(count, total)})"
    return {"label": label, "tone": tone, "width": round(100 * count / most, 2), "text": text}


def checks(videos: Mapping[str, int], frames: Mapping[str, Any]) -> list[dict[str, Any]]:
    """No video and no frame is dropped without a count: both sums as sentences, and whether they hold."""
    rejected = sum(frames["rejected"].values())
    return [
        {
            "sentence": f"{videos['listed']:,} videos listed = {videos['labelled']:,} labelled + {videos['empty']:,} "
            f"without kept frames + {videos['quarantined']:,} quarantined",
            "holds": videos["listed"] == videos["labelled"] + videos["empty"] + videos["quarantined"],
        },
        {
            "sentence": f"{frames['predicted']:,} frames predicted = {frames['kept']:,} kept + {rejected:,} rejected",
            "holds": frames["predicted"] == frames["kept"] + rejected,
        },
    ]


def quality(worth: Mapping[str, Any]) -> dict[str, Any]:
    """Kept frames, rejected frames and those of each rule against the truth; ``worth`` of ``label_quality.summary``."""
    when = worth["right_when"]
    wrist = when.get("wrist_mm")  # reports of earlier versions have none
    oriented = "" if wrist is None else f"its MPJPE at most {wrist:g} mm "
    rows = [_quality_row(name, worth[name], head=True) for name in ("kept", "rejected", "all")]
    labels = {"kept, refined": "kept", "filled between kept": "filled"} if "refined" in worth else {}
    rows[1:1] = [_quality_row(label, worth["refined"][name], head=True) for label, name in labels.items()]
    rows += [_quality_row(f"rejected by {rule}", group) for rule, group in worth["by_rule"].items() if group["frames"]]
    everywhere, kept = (
        " and ".join(
            f"{group['told']:,} of {group['frames']:,} {side} hands ({percent(group['share'])})"
            for side in ("left", "right")
            for group in [worth["sides"][f"{side}_{which}"]]
        )
        for which in ("all", "kept")
    )
    sides = f"The predicted side is the true one for {everywhere}; in kept frames for {kept}."
    text = (
        "These videos have true poses that neither the teacher nor the rules have seen. A label is right when its side "
        f"is right, its PA-MPJPE is at most {when['aligned_mm']:g} mm, {oriented}and its 2D joints are on average "
        f"within {when['joints_2d']:g} hand-box sides of the truth. The alignment forbids mirroring. Good rules keep a "
        "larger share of right labels than they reject."
        + (" The student learns the refined labels; the other rows are of the predictions." if labels else "")
    )
    return {"text": text, "rows": rows, "sides": sides, "promise": promise(worth.get("promise"))}


def promise(kept: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What the frames' quality promised and what is right, by bins; ``kept`` of ``promise.kept_promise``."""
    if kept is None:
        return None
    rows = [
        {"name": f"{one['from']:.1f} to {one['to']:.1f}", "frames": f"{one['frames']:,}", "promised":
         percent(one["promised"]), "right": percent(one["right"])}
        for one in kept["reliability"]
    ]  # fmt: skip
    worth = kept["kept"]
    rows.append(
        {"name": "kept", "frames": f"{worth['kept']:,}", "promised": percent(worth["promised"]),
         "right": percent(worth["precision"])}
    )  # fmt: skip
    text = (
        "Each frame has a quality, its chance of being right as a model fitted on labelled recordings has it. It keeps "
        "its promise where as many are right as promised."
    )
    fitted = (kept["fitted"] or {}).get("promised")
    if fitted:
        text += (
            " On the recordings it was calibrated on, out of fold, the model promised "
            f"{percent(fitted['precision'])} right labels among {percent(fitted['yield'])} of the frames."
        )
    return {"text": text, "rows": rows}


def _quality_row(label: str, group: Mapping[str, Any], *, head: bool = False) -> dict[str, Any]:
    def number(key: str, digits: int) -> str:
        return "–" if group[key] is None else f"{group[key]:.{digits}f}"

    cells = [f"{group['frames']:,}", percent(group["precision"])]
    cells += [number(key, 1) for key in ("aligned_mm_median", "aligned_mm_mean", "wrist_mm_median")]
    return {"label": label, "cells": [*cells, number("joints_2d_median", 3)], "head": head}


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


def share(part: float, whole: float) -> str:
    """A part of a whole in per cent; '–' where the whole is zero."""
    return percent(part / whole) if whole else "–"


def percent(value: float | None) -> str:
    """0.123 -> '12 %', with one more digit below ten."""
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" if abs(value) < 0.0995 else f"{100 * value:.0f} %"


def seconds(value: float) -> str:
    """12.3 -> '12.3 s', 200 -> '3 min 20 s'."""
    if value < 100:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
