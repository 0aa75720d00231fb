"""Tables and the figure of a study's grid, from its summary (``jobs.study_summary``). Nothing is read here.

A table is headers and rows of text; the figure shows each point's mean, spread and seeds, with the control as a line.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hojoint.report import paper_numbers
from hojoint.report.figures import SERIES
from hojoint.report.tables import DOMAINS, METRICS, Metric

Table = tuple[list[str], list[list[str]]]
SHORT = {
    "joints_wrist_mm": "MPJPE", "joints_px": "2D (px)", "joints_mm": "PA-MPJPE", "mesh_mm": "PA-MPVPE",
    "joints_auc": "AUC (%)", "f5": "F@5 (%)", "f15": "F@15 (%)", "add_0.1d": "ADD-0.1D (%)",
    "add_median_mm": "ADD (mm)",
}  # fmt: skip
"""Metrics of a grid's tables, with the headings of their columns."""
SHOWN = [metric for metric in METRICS if metric.key in SHORT]
DRAWN = (
    ("freihand", "joints_wrist_mm"), ("freihand", "joints_mm"), ("freihand", "joints_auc"),
    ("ho3d", "joints_wrist_mm"), ("ho3d", "joints_mm"), ("ho3d", "add_0.1d"),
)  # fmt: skip
LABELS = (
    ("labels", "labels", 0), ("kept", "frames kept", 0), ("yield", "yield (%)", 1), ("precision", "correct (%)", 1),
    ("side_right", "side correct (%)", 1), ("clips_side_right", "side correct, all clips (%)", 1),
    ("wrist_mm_median", "MPJPE (mm)", 1),
    ("aligned_mm_median", "PA-MPJPE (mm)", 2), ("joints_2d_median", "2D (box sides)", 3),
)  # fmt: skip
"""What is told of labels: key, heading, digits. Labels are what training reads: of filled frames too."""
MINUS = "minus control"


def tables(grid: Mapping[str, Any]) -> dict[str, Table]:
    """Title -> table: per domain the scores and the paired differences to the control, then the labels."""
    out: dict[str, Table] = {}
    for domain, title in DOMAINS.items():
        metrics = [m for m in SHOWN if any(m.key in row["domains"].get(domain, {}) for row in grid["rows"])]
        if not metrics:
            continue
        out[title] = _scores(grid, domain, metrics)
        if any(MINUS in value for row in grid["rows"] for value in row["domains"].get(domain, {}).values()):
            out[f"{title}: minus the control of the same seed, mean [95 % interval]"] = _differences(
                grid, domain, metrics
            )
    seeds = len(grid["seeds"])
    shown = [(key, name, digits) for key, name, digits in LABELS if any(row["labels"].get(key) for row in grid["rows"])]
    if shown:
        body = [
            [row["title"], *(spread_text(row["labels"].get(key), digits, seeds) for key, _, digits in shown)]
            for row in grid["rows"]
        ]
        out["Labels that the network learned from, errors in the median"] = (
            ["", *(name for _, name, _ in shown)],
            body,
        )
    return out


def _scores(grid: Mapping[str, Any], domain: str, metrics: Sequence[Metric]) -> Table:
    heading, numbers = paper_numbers.beside(grid["grid"], domain)
    published = {row["key"]: numbers.get((grid["grid"], row["key"]), {}) for row in grid["rows"]}
    beside = [metric for metric in metrics if any(metric.key in found for found in published.values())]
    headers = ["", *(SHORT[m.key] for m in metrics), *(f"{SHORT[m.key]}, {heading}" for m in beside)]
    body = []
    for row in grid["rows"]:
        ours = row["domains"].get(domain, {})
        paper = [published[row["key"]].get(metric.key) for metric in beside]
        cells = [spread_text(ours.get(metric.key), metric.digits, len(grid["seeds"])) for metric in metrics]
        body.append([row["title"], *cells, *("-" if value is None else f"{value:g}" for value in paper)])
    return headers, body


def _differences(grid: Mapping[str, Any], domain: str, metrics: Sequence[Metric]) -> Table:
    body = []
    for row in grid["rows"]:
        ours = row["domains"].get(domain, {})
        cells = [interval_text(ours.get(m.key, {}).get(MINUS), m.digits, len(grid["seeds"])) for m in metrics]
        body.append([row["title"], *cells])
    return ["", *(SHORT[metric.key] for metric in metrics)], body


def spread_text(value: Mapping[str, Any] | None, digits: int, seeds: int, sign: str = "") -> str:
    """Mean and, of several seeds, sample standard deviation; how many seeds, where it is not all ``seeds``."""
    if value is None:
        return "-"
    deviation = "" if value["std"] is None else f" ± {value['std']:.{digits}f}"
    return f"{value['mean']:{sign}.{digits}f}{deviation}{_of_seeds(value, seeds)}"


def _of_seeds(value: Mapping[str, Any], seeds: int) -> str:
    return "" if value["seeds"] == seeds else f" ({value['seeds']} of {seeds} seeds)"


def interval_text(value: Mapping[str, Any] | None, digits: int, seeds: int) -> str:
    """Mean of a difference and its interval, which one seed alone does not have; as ``spread_text``."""
    if value is None:
        return "-"
    if value["interval"] is None:
        return f"{value['mean']:+.{digits}f}{_of_seeds(value, seeds)}"
    low, high = value["interval"]
    return f"{value['mean']:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]{_of_seeds(value, seeds)}"


def heading(grid: Mapping[str, Any]) -> str:
    """What is compared, and over which seeds."""
    return f"{grid['title']}: {_seeds(grid['seeds'])}"


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s'[: len(seeds) > 1]} {', '.join(map(str, seeds))}"


def headline(grid: Mapping[str, Any]) -> list[str]:
    """What share of the headroom the student recovers, one line per metric, and which rows some or all seeds lack."""
    lines = []
    if partly := [row for row in grid["rows"] if row.get("seeds", grid["seeds"]) != grid["seeds"]]:
        told = "; ".join(f"{row['title']} ({_seeds(row['seeds'])})" for row in partly)
        lines.append(f"Rows that not every seed has: {told}.")
    if left_out := grid.get("left_out"):
        lines.append(f"Rows that no seed has: {', '.join(left_out)}.")
    for key, found in grid.get("headroom", {}).items():
        share, gained, possible = found["share"], -found["gained"]["mean"], -found["possible"]["mean"]
        lines.append(
            f"{SHORT[key]}: student minus control {gained:+.2f} mm, "
            f"true labels on its kept frames minus control {possible:+.2f} mm: "
            + ("no share can be told" if share is None else f"{share:.0%} of the headroom")
        )
    return lines


def draw(grid: Mapping[str, Any]) -> bytes:
    """A PNG: one panel per metric, a line per point."""
    rows = grid["rows"]
    panels = [one for one in DRAWN if any(one[1] in row["domains"].get(one[0], {}) for row in rows)]
    columns = max(1, min(3, len(panels)))
    lines = max(1, -(-len(panels) // columns))
    figure = Figure(figsize=(2.2 + 3.4 * columns, lines * (1.3 + 0.27 * len(rows))), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for number, place in enumerate(axes.ravel()):
        if number < len(panels):
            _panel(place, grid, *panels[number])
        else:
            place.set_axis_off()
    seeds = ", ".join(str(seed) for seed in grid["seeds"])
    what = f"seed {seeds}" if len(grid["seeds"]) == 1 else f"mean, spread and each of the seeds {seeds}"
    figure.suptitle(f"{grid['title']}: {what}; dashed: the control", fontsize=10)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=120, metadata={"Software": None})
    return out.getvalue()


def _panel(axes: Axes, grid: Mapping[str, Any], domain: str, key: str) -> None:
    rows = grid["rows"]
    for number, row in enumerate(rows):
        value = row["domains"].get(domain, {}).get(key)
        if value is None:
            continue
        colour = SERIES.get(row["network"].partition("-")[0], SERIES["student"])
        axes.errorbar(value["mean"], number, xerr=value["std"] or 0.0, fmt="o", color=colour, capsize=3, markersize=5)
        seeds = list(value["values"].values())
        axes.plot(seeds, [number] * len(seeds), "|", color=colour, markersize=7, alpha=0.6)
    control = grid["control"].get(domain, {}).get(key)
    if control is not None:
        axes.axvline(control["mean"], color=SERIES["control"], linestyle="--", linewidth=1)
    where = "out of domain" if domain == "freihand" else "labelled domain"
    axes.set_title(f"{SHORT[key]}, {where}", fontsize=9, loc="left")
    axes.set_yticks(range(len(rows)), [row["title"] for row in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", alpha=0.25, linewidth=0.6)
    for spine in ("top", "right"):
        axes.spines[spine].set_visible(False)
