"""A report's sentences and tables on labels: bars per verdict, counts that add up, quality against the truth.

Nothing here knows HTML, pictures or files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hojoint.report.formats import percent, share

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
REASONS = {**RULES, "quality": "too small a chance of being correct"}
BOUNDS = {"aligned_mm": ("PA-MPJPE", " mm"), "wrist_mm": ("MPJPE", " mm"), "joints_2d": ("2D error", " box sides")}
"""Error of a correct label -> how it is called, and its unit."""


def labelling(report: Mapping[str, Any], rules: Sequence[str] = tuple(RULES)) -> dict[str, Any]:
    """Bars per verdict, and the sums that must hold; ``rules`` are the enabled ones."""
    frames, videos = report["frames"], report["videos"]
    bars = [_bar("kept", "kept", frames["kept"], frames["predicted"])]
    for rule, count in frames["rejected"].items():
        if rule not in rules and count == 0:
            continue
        bars.append(_bar(f"{rule}: {REASONS.get(rule, rule)}", "rejected", count, frames["predicted"]))
    return {"bars": bars, "checks": checks(videos, frames), "passed": checks_of(rules)}


def _bar(label: str, tone: str, count: int, total: int) -> dict[str, Any]:
    text = f"{count:,} ({share(count, total)})"
    return {"label": label, "tone": tone, "width": round(100 * count / max(total, 1), 2), "text": text}


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


def checks_of(rules: Sequence[str]) -> str:
    """How many rules were on, in words."""
    if not rules:
        return "all checks (none was on)"
    return "the one check that was on" if len(rules) == 1 else f"{len(rules)} checks of space and time"


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
        "These videos have true poses that neither the teacher nor the rules have seen. A label is correct when its "
        f"side is correct, its PA-MPJPE is at most {when['aligned_mm']:g} mm, {oriented}and its 2D joints are on "
        f"average within {when['joints_2d']:g} hand-box sides of the truth. The alignment forbids mirroring. With "
        "good rules the kept labels are correct more often than the rejected ones."
        + (" The student learns the refined labels; the other rows are of the predictions." if labels else "")
        + (f" Measured on {some} units, evenly spaced." if (some := some_units(worth)) else "")
    )
    return {"text": text, "rows": rows, "sides": sides, "promise": promise(worth.get("promise"), when)}


def other_bounds(promised: Mapping[str, Any] | None, measured: Mapping[str, Any] | None) -> str:
    """A sentence where a promise is of other correct labels than are measured; '' where not, and where it is unknown.

    Args:
        promised, measured: ``CorrectWhen.told``, None in files of earlier versions.
    """
    if not promised or not measured or all(promised.get(name) == measured.get(name) for name in BOUNDS):
        return ""
    return (
        "CAUTION: the promise and the measured share call different labels correct: promised within "
        f"{bounds(promised)}; measured within {bounds(measured)}."
    )


def bounds(when: Mapping[str, Any]) -> str:
    """``CorrectWhen.told`` in words, as in 'PA-MPJPE 15 mm, 2D error 0.15 box sides'."""
    return ", ".join(
        f"{text} {when[name]:g}{unit}" for name, (text, unit) in BOUNDS.items() if when.get(name) is not None
    )


def some_units(worth: Mapping[str, Any]) -> str | None:
    """'24 of 63' where only so many units were read; None where all were, and in reports of earlier versions."""
    units = worth.get("units")
    return None if units is None or units["read"] == units["all"] else f"{units['read']:,} of {units['all']:,}"


def promise(kept: Mapping[str, Any] | None, right_when: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """What the frames' quality promised and what is correct, by bins.

    Args:
        kept: of ``promise.promised_and_measured``.
        right_when: the bounds within which a label counts as correct there.
    """
    if kept is None:
        return None
    rows = [
        {"name": f"{one['from']:.1f} to {one['to']:.1f}", "frames": f"{one['frames']:,}", "promised":
         percent(one["promised"]), "correct": percent(one["right"])}
        for one in kept["reliability"]
    ]  # fmt: skip
    worth = kept["kept"]
    rows.append(
        {"name": "kept", "frames": f"{worth['kept']:,}", "promised": percent(worth["promised"]),
         "correct": percent(worth["precision"])}
    )  # fmt: skip
    text = (
        "Each frame has a quality, its chance of being correct as a model fitted on labelled recordings has it. It "
        "keeps its promise where as many are correct as promised."
    )
    fitted = kept["fitted"] or {}
    others = other_bounds(fitted.get("right_when"), right_when)
    return {"text": " ".join(filter(None, [text + _fitted(fitted), others])), "rows": rows}


def _fitted(about: Mapping[str, Any]) -> str:
    """What the model promised where it was fitted; reports of earlier versions do not tell how that was measured."""
    promised = about.get("promised")
    if not promised:
        return ""
    ways = {True: ", out of fold,", False: ", on the very frames that fitted it,", None: ""}
    limit = about.get("min_quality")
    least = "" if limit is None else f" with a quality of at least {limit:g}"
    return (
        f" On the recordings it was calibrated on{ways[about.get('out_of_fold')]} the model promised "
        f"{percent(promised['precision'])} correct labels among the {percent(promised['yield'])} of the frames{least}."
    )


def _quality_row(label: str, group: Mapping[str, Any], *, head: bool = False) -> dict[str, Any]:
    def number(key: str, digits: int) -> str:
        return "–" if group[key] is None else f"{group[key]:.{digits}f}"

    cells = [f"{group['frames']:,}", percent(group["precision"])]
    cells += [number(key, 1) for key in ("aligned_mm_median", "aligned_mm_mean", "wrist_mm_median")]
    return {"label": label, "cells": [*cells, number("joints_2d_median", 3)], "head": head}
