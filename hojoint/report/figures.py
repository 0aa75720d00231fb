"""Curves and figures of the paper drawn with matplotlib: PCK (Fig. 8), attention (Fig. 7), errors in 3D (Fig. 6).

Functions return an SVG or PNG as bytes (attention: RGB pixels) and leave no state behind: they do not use pyplot, so no
window opens and no figure leaks. Drawing over the pixels of an image is in ``draw``.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.art3d import Poly3DCollection

from hojoint.report import draw

SERIES = {"teacher": "#6b7280", "control": "#d97706", "student": "#0f766e"}
"""Colour of each network in every figure and in the report."""
OTHERS = ("#1d4ed8", "#be123c", "#7c3aed", "#4d7c0f", "#0891b2", "#a16207", "#334155")


def pck(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]], title: str = "", *, kind: Literal["svg", "png"] = "svg"
) -> bytes:
    """PCK after Procrustes alignment (Fig. 8), one curve per name; the legend shows the AUC.

    Args:
        curves: name -> (thresholds (T,) mm, share of points within each (T,) in [0, 1]).
    """
    figure, axes = _plot(title, "threshold of the error after Procrustes alignment, PA (mm)", "PCK (share of points)")
    for number, (name, (thresholds, share)) in enumerate(curves.items()):
        area = float(np.trapezoid(share, thresholds) / (thresholds[-1] - thresholds[0]))
        axes.plot(thresholds, share, label=f"{name}   AUC {area:.3f}", color=colour_of(name, number), linewidth=1.8)
    axes.set(xlim=(0, None), ylim=(0, 1))
    axes.legend(loc="lower right", frameon=False, fontsize=9)
    return _svg(figure) if kind == "svg" else _png(figure)


def lines(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    title: str,
    across: str,
    up: str,
    log: bool = False,
) -> bytes:
    """Training curves: name -> (x, y), in one SVG; ``across`` and ``up`` are the titles of the axes.

    A series of one point is a dot: a line through it would show nothing.
    """
    figure, axes = _plot(title, across, up)
    for number, (name, (x, y)) in enumerate(series.items()):
        axes.plot(
            x, y, label=name, color=colour_of(name, number), linewidth=1.6, marker="o" if len(x) == 1 else None
        )  # fmt: skip
    if log:
        axes.set_yscale("log")
    if len(series) > 1:
        axes.legend(frameon=False, fontsize=9)
    return _svg(figure)


def attention(
    image: np.ndarray,
    weights: np.ndarray,
    cells: Sequence[tuple[int, int]],
    *,
    hand_box: np.ndarray,
    object_box: np.ndarray,
) -> np.ndarray:
    """Attention of object cells (Fig. 7), (S, W, 3) RGB: one tile per cell, side by side.

    Args:
        image: (S, S, 3) RGB, the network's input.
        weights: (R * R, R * R) attention of object cells (rows) over cells of the intersection box, row-major.
        cells: (row, column) of the object grid, marked by a dot.
        hand_box, object_box: (4,) xyxy px of ``image``.
    """
    side = round(np.sqrt(weights.shape[1]))
    shared = np.concatenate([np.maximum(hand_box[:2], object_box[:2]), np.minimum(hand_box[2:], object_box[2:])])
    tiles = []
    for row, column in cells:
        attended = weights[row * side + column].reshape(side, side)
        tile = draw.heat(image, attended - attended.min(), shared)  # uniform attention shows as none
        for xyxy, colour in ((hand_box, draw.HAND), (object_box, draw.OBJECT), (shared, draw.SHARED)):
            tile = draw.box(tile, xyxy, colour)
        at = object_box[:2] + (np.array([column, row]) + 0.5) / side * (object_box[2:] - object_box[:2])
        tile = draw.box(tile, np.concatenate([at - 2, at + 2]), (255, 255, 255), thickness=3)
        tiles.append(tile)
    return draw.sheet(tiles, columns=len(tiles))


def errors_in_space(
    vertices: np.ndarray,
    errors_mm: np.ndarray,
    faces: np.ndarray,
    *,
    worst_mm: float,
    object_points: np.ndarray | None = None,
) -> bytes:
    """A mesh seen from the camera and from the side, coloured by its distance to the truth (Fig. 6); PNG.

    Args:
        vertices: (V, 3) m, camera frame.
        errors_mm: (V,) distance of each to the truth after Procrustes alignment.
        faces: (F, 3) vertex indices.
        object_points: (P, 3) m in the same frame, drawn as dots.
    """
    paint = draw.error_colours(errors_mm, worst_mm)[faces].mean(axis=1) / 255
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    for column, (elevation, azimuth, title) in enumerate(((-90, -90, "from the camera"), (0, 0, "from the side"))):
        axes: Any = figure.add_subplot(1, 2, column + 1, projection="3d")
        axes.add_collection3d(Poly3DCollection(vertices[faces], facecolors=paint, edgecolors="none"))
        points = vertices
        if object_points is not None:
            axes.scatter(*object_points.T, s=1, color="#f08c1e", alpha=0.3)
            points = np.concatenate([vertices, object_points])
        middle, reach = points.mean(axis=0), np.ptp(points, axis=0).max() / 2
        axes.set(**{f"{name}lim": (m - reach, m + reach) for name, m in zip("xyz", middle, strict=True)})
        axes.view_init(elevation, azimuth)
        axes.set_axis_off()
        axes.set_title(title, fontsize=9)
    figure.suptitle(f"hand: PA-MPVPE {errors_mm.mean():.1f} mm (blue 0, red {worst_mm:.0f} mm and more)", fontsize=9)
    return _png(figure)


def colour_of(name: str, number: int) -> str:
    """The colour of a series: fixed for teacher, control and student, else by its number."""
    return SERIES.get(name, OTHERS[number % len(OTHERS)])


def _plot(title: str, across: str, up: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.2, 3.3), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_xlabel(across, fontsize=9)
    axes.set_ylabel(up, fontsize=9)
    axes.set_title(title, fontsize=10, loc="left")
    axes.tick_params(labelsize=8, length=3)
    axes.grid(alpha=0.25, linewidth=0.6)
    for spine in ("top", "right"):
        axes.spines[spine].set_visible(False)
    return figure, axes


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=120)
    return out.getvalue()


def _svg(figure: Figure) -> bytes:
    out = io.BytesIO()
    with rc_context({"svg.hashsalt": "hojoint"}):  # equal data make equal bytes
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()
