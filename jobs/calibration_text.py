"""What a calibration says: tables for the terminal, and the proposals as YAML with what to know before using them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import yaml

from hojoint import settings_file
from hojoint.evaluation import precision, quality_fit
from hojoint.report import label_tables
from jobs import printing, retyped


def proposal(result: Mapping[str, Any]) -> str:
    """filters.yaml: the proposed thresholds, how to use them, and what to know before that."""
    limits = result["proposed"]
    return _yaml("Thresholds that jobs.calibrate proposes.", limits, _warnings(result))


def quality_proposal(result: Mapping[str, Any], model: str) -> str:
    """quality.yaml: the settings with which the quality decides; ``model`` is where quality.json lies."""
    limits = {"mode": "quality", "quality_model": model, "min_quality": result["quality"]["min_quality"]}
    return _yaml("The quality decides, as jobs.calibrate proposes.", limits, _quality_warnings(result))


def _yaml(title: str, limits: Mapping[str, Any], warnings: list[str]) -> str:
    overrides = shlex.join(_override(f"filters.{name}", limit) for name, limit in limits.items())
    return (
        "".join(f"# {warning}\n" for warning in warnings)
        + f"# {title} Merge them into the 'filters:' of your own config.\n"
        "# --config takes complete files: with this one alone every other setting has its default. As overrides:\n"
        f"# {overrides}\n" + yaml.safe_dump({"filters": dict(limits)}, sort_keys=False)
    )


def _override(name: str, value: Any) -> str:
    if isinstance(value, str):  # a path may hold anything
        return retyped.word(name, value)
    return f"{name}={value:g}" if isinstance(value, float) else f"{name}={settings_file.shown(value)}"


def summary(result: Mapping[str, Any]) -> str:
    """The result as text for the terminal."""
    precision = f"{result['wanted_precision']:.0%}"
    frames, correct, base = result["frames"], result["right"], result["base_precision"]
    text = [
        f"{frames} predicted frames, {correct} correct ({base:.0%} without any rule)",
        f"correct is within {label_tables.bounds(result['right_when'])}",
        "",
        _rules_table(result, precision),
        "",
        _together_table(result),
        "",
        _quality_table(result["quality"]),
    ]
    if result["proposed"] is None:
        text.append(f"no thresholds reach {precision}; try a better teacher, or a lower calibrate.precision")
    if result["recordings"] == 1:
        text.append(
            "all frames show one recording, so the proposed thresholds are measured on the frames that they come from"
        )
    if result["promise"] is not None:
        text += ["", _promise_table(result["promise"])]
        fitted = result["promise"]["fitted"] or {}
        text += filter(None, [label_tables.other_bounds(fitted.get("right_when"), result.get("right_when"))])
    return "\n".join([*text, *_warnings(result), *_quality_warnings(result)[bool(result["caution"]) :]])


def _rules_table(result: Mapping[str, Any], precision: str) -> str:
    """One row per rule: what it is worth now, and the threshold that it needs for ``precision``."""
    rows = [
        [
            rule if values["enabled"] else f"{rule} (off)",
            f"{values['current']:g}",
            _number(values["auc"]),
            _share(values["alone"]["precision"]),
            _share(values["alone"]["yield"]),
            _number(values["alone_for_wanted"]),
            _number(values["proposed"]),
        ]
        for rule, values in result["rules"].items()
    ]
    return printing.table(
        ["rule", "threshold", "AUC", "precision", "yield", f"alone for {precision}", "proposed"], rows
    )


def _together_table(result: Mapping[str, Any]) -> str:
    """All rules together: as they are, as proposed, and on recordings that were held out."""
    names = {"current": "now", "proposed": "proposed", "held_out": "proposed from half, measured on the other half"}
    rows = [
        [name, *(_share(worth[key]) for key in ("precision", "yield", "recall"))]
        for which, name in names.items()
        if (worth := result["together"][which]) is not None
    ]
    return printing.table(["all rules together", "precision", "yield", "correct labels kept"], rows)


def _quality_table(about: Mapping[str, Any]) -> str:
    """What the quality promises at its proposed limit: out of fold, on recordings that did not fit it; the limit was
    chosen on the same frames."""
    worth = about["promised"] or {"precision": None, "yield": None, "recall": None}
    name = f"filters.min_quality={_number(about['min_quality'])}"
    row = [name, _number(about["auc"]), *(_share(worth[key]) for key in ("precision", "yield", "recall"))]
    measured = "quality, out of fold" if about["out_of_fold"] else "quality, in sample"
    return printing.table([measured, "AUC", "precision", "yield", "correct labels kept"], [row])


def _promise_table(promise: Mapping[str, Any]) -> str:
    """The quality that the labels had, by bins: promised against correct; last the kept ones."""
    rows = [
        [f"{one['from']:.1f} to {one['to']:.1f}", str(one["frames"]), _share(one["promised"]), _share(one["right"])]
        for one in promise["reliability"]
    ]
    kept = promise["kept"]
    rows.append(["kept", str(kept["kept"]), _share(kept["promised"]), _share(kept["precision"])])
    return printing.table(["quality of these labels", "frames", "promised", "correct"], rows)


def _quality_warnings(result: Mapping[str, Any]) -> list[str]:
    """What is printed and written beside the proposed least quality."""
    about = result["quality"]
    warnings = [f"CAUTION: {result['caution']}"] if result["caution"] else []
    if not about["out_of_fold"]:
        warnings.append(
            f"CAUTION: the frames show {about['recordings']} recording{'s'[: about['recordings'] != 1]}, fewer than "
            f"{quality_fit.FEWEST_RECORDINGS}, so the quality is measured on the frames that fitted it: it promises "
            "too much"
        )
    if not about["reached"]:
        worth = about["promised"]
        found = (
            "too few frames have one" if worth is None else f"the best keeps {_share(worth['precision'])} correct ones"
        )
        warnings.append(f"CAUTION: no least quality reaches {about['wanted_precision']:.1%}: {found}")
    return warnings


def _warnings(result: Mapping[str, Any]) -> list[str]:
    """What is printed and written beside the proposed thresholds."""
    warnings = [f"CAUTION: {result['caution']}"] if result["caution"] else []
    worth = result["together"]["proposed"]
    if worth is not None and not result["reached"]:
        warnings.append(
            f"CAUTION: the proposed thresholds do not reach {result['wanted_precision']:.1%} with at least "
            f"{precision.FEWEST} frames: they keep {worth['kept']}, of which {_share(worth['precision'])} are correct"
        )
    return warnings


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
