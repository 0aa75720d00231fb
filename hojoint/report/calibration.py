"""The picture of a calibration: precision against yield, a frame for each rule and one for all together (PNG)."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

CURVE, NOW, PROPOSED, WANTED = "#0f766e", "#be123c", "#1d4ed8", "#9ca3af"


def draw(found: Mapping[str, Any]) -> bytes:
    """From the result of ``calibration.calibrate``."""
    figure = Figure(figsize=(13, 6.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 4, sharex=True, sharey=True).ravel()
    for axes, (name, rule) in zip(panels, found["rules"].items(), strict=False):
        _frame(axes, name if rule["enabled"] else f"{name} (off)", rule["curve"], found)
        _dot(axes, rule["alone"], NOW, f"now: {rule['current']:g}")
        _legend(axes)
    together = found["together"]
    _frame(panels[-1], "all together", together["curve"], found)
    _dot(panels[-1], together["current"], NOW, "now")
    _dot(panels[-1], together["proposed"], PROPOSED, "proposed")
    _dot(panels[-1], together["held_out"], PROPOSED, "fitted on half, seen on the other", marker="D", hollow=True)
    _legend(panels[-1])
    figure.supxlabel("yield: share of the predicted frames that is kept", fontsize=10)
    figure.supylabel("precision: share of right labels among the kept", fontsize=10)
    figure.suptitle(
        f"{found['frames']:,} predicted frames, {found['base_precision']:.0%} of them right; dashed: the wanted "
        f"{found['wanted_precision']:.0%}",
        fontsize=11,
    )
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=120, metadata={"Software": None})
    return out.getvalue()


def _frame(axes: Axes, title: str, points: list[list[float]], found: Mapping[str, Any]) -> None:
    axes.plot([point[2] for point in points], [point[1] for point in points], color=CURVE, linewidth=1.6)
    axes.axhline(found["wanted_precision"], color=WANTED, linestyle="--", linewidth=1)
    axes.axhline(found["base_precision"], color=WANTED, linestyle=":", linewidth=1)
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
    if axes.get_legend_handles_labels()[0]:  # a rule that keeps nothing has no dot to name
        axes.legend(frameon=False, fontsize=8, loc="lower left")
