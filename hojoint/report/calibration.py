"""The figure of a calibration: precision against yield (PNG).

A panel for each rule, one for the quality where the result has a model of it, and one for all rules together.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

CURVE, NOW, PROPOSED, AIM = "#0f766e", "#be123c", "#1d4ed8", "#9ca3af"
COLUMNS = 4


def draw(result: Mapping[str, Any]) -> bytes:
    """The PNG of a result of ``evaluation.calibration.calibrate``, with or without ``quality`` (``quality_fit``)."""
    out = io.BytesIO()
    figure_of(result).savefig(out, format="png", dpi=120, metadata={"Software": None})
    return out.getvalue()


def figure_of(result: Mapping[str, Any]) -> Figure:
    """The figure that ``draw`` writes."""
    rules, quality = result["rules"], result.get("quality")
    shown = len(rules) + (quality is not None) + 1
    rows = math.ceil(shown / COLUMNS)
    figure = Figure(figsize=(13, 3.1 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, (name, rule) in zip(panels[: len(rules)], rules.items(), strict=True):
        _panel(axes, name if rule["enabled"] else f"{name} (off)", rule["curve"], result)
        _dot(axes, rule["alone"], NOW, f"now: {rule['current']:g}")
        _legend(axes)
    if quality is not None:
        _panel(panels[shown - 2], "quality", _quality_curve(quality["reliability"]), result)
        _dot(panels[shown - 2], quality["promised"], PROPOSED, f"proposed: {quality['min_quality']}")
        _legend(panels[shown - 2])
    _together(panels[shown - 1], result)
    for number in range(shown, len(panels)):
        panels[number].set_visible(False)
        if number >= COLUMNS:  # the lowest panel of a column has the numbers
            panels[number - COLUMNS].tick_params(labelbottom=True)
    figure.supxlabel("yield: share of the predicted frames that is kept", fontsize=10)
    figure.supylabel("precision: share of correct labels among the kept", fontsize=10)
    figure.suptitle(
        f"{result['frames']:,} predicted frames, {result['base_precision']:.0%} of them correct (dotted); dashed: "
        f"calibrate.precision={result['wanted_precision']:g}",
        fontsize=11,
    )
    return figure


def _together(axes: Axes, result: Mapping[str, Any]) -> None:
    together = result["together"]
    _panel(axes, "all together", together["curve"], result)
    _dot(axes, together["current"], NOW, "now")
    _dot(axes, together["proposed"], PROPOSED, "proposed")
    _dot(axes, together["held_out"], PROPOSED, "fitted on one half, measured on the other", marker="D", hollow=True)
    _legend(axes)


def _quality_curve(reliability: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    """[least chance, precision, yield] at the lower end of each bin of ``promise.reliability``, the best bin first."""
    frames = np.array([row["frames"] for row in reliability[::-1]], float)
    correct = frames * [row["right"] for row in reliability[::-1]]
    kept = frames.cumsum()
    least = np.array([row["from"] for row in reliability[::-1]])
    return np.stack([least, correct.cumsum() / kept, kept / kept[-1]], axis=1).tolist()


def _panel(axes: Axes, title: str, points: list[list[float]], result: Mapping[str, Any]) -> None:
    axes.plot([point[2] for point in points], [point[1] for point in points], color=CURVE, linewidth=1.6)
    axes.axhline(result["wanted_precision"], color=AIM, linestyle="--", linewidth=1)
    axes.axhline(result["base_precision"], color=AIM, linestyle=":", linewidth=1)
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.set_title(title, fontsize=10, loc="left")
    axes.tick_params(labelsize=8, length=3)
    axes.grid(alpha=0.25, linewidth=0.6)
    for spine in ("top", "right"):
        axes.spines[spine].set_visible(False)


def _dot(
    axes: Axes, worth: Mapping[str, Any] | None, colour: str, label: str, *, marker: str = "o", hollow: bool = False
) -> None:  # fmt: skip
    if worth is None or worth["precision"] is None:
        return
    axes.plot(
        [worth["yield"]], [worth["precision"]], marker, color=colour, label=label, markersize=7,
        markerfacecolor="none" if hollow else colour, linestyle="none", clip_on=False, zorder=3,
    )  # fmt: skip


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:  # a rule that keeps no frame has no dot
        axes.legend(frameon=False, fontsize=8, loc="lower left")
