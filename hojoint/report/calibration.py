"""The figure of a calibration: precision against yield, a panel for each rule and one for all together (PNG)."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

CURVE, NOW, PROPOSED, AIM = "#0f766e", "#be123c", "#1d4ed8", "#9ca3af"


def draw(result: Mapping[str, Any]) -> bytes:
    """The PNG of a result of ``evaluation.calibration.calibrate``."""
    figure = Figure(figsize=(13, 6.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 4, sharex=True, sharey=True).ravel()
    for axes, (name, rule) in zip(panels, result["rules"].items(), strict=False):
        _panel(axes, name if rule["enabled"] else f"{name} (off)", rule["curve"], result)
        _dot(axes, rule["alone"], NOW, f"now: {rule['current']:g}")
        _legend(axes)
    together = result["together"]
    _panel(panels[-1], "all together", together["curve"], result)
    _dot(panels[-1], together["current"], NOW, "now")
    _dot(panels[-1], together["proposed"], PROPOSED, "proposed")
    _dot(
        panels[-1], together["held_out"], PROPOSED, "fitted on one half, measured on the other", marker="D", hollow=True
    )
    _legend(panels[-1])
    figure.supxlabel("yield: share of the predicted frames that is kept", fontsize=10)
    figure.supylabel("precision: share of correct labels among the kept", fontsize=10)
    figure.suptitle(
        f"{result['frames']:,} predicted frames, {result['base_precision']:.0%} of them correct (dotted); dashed: "
        f"calibrate.precision={result['wanted_precision']:g}",
        fontsize=11,
    )
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=120, metadata={"Software": None})
    return out.getvalue()


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
