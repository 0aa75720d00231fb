"""The paper's published numbers for the grids of a study (Tables 2-4, 8): hand errors in mm, scores in per cent.

Measured on HO-3D, on FPHA (Table 8) and on FreiHAND, with networks of another size and data of another kind: beside
ours they tell whether the order is the same, not whether the numbers are.
"""

from __future__ import annotations

from collections.abc import Mapping

_NAMES = ("joints_mm", "mesh_mm", "f5", "f15", "add_0.1d")

HO3D: Mapping[tuple[str, str], Mapping[str, float]] = {
    point: dict(zip(_NAMES, numbers, strict=False))
    for point, numbers in {
        ("reasoning", "none teacher"): (10.2, 9.7, 53.7, 94.9, 62.2),  # Table 2
        ("reasoning", "h teacher"): (10.3, 9.8, 52.7, 94.9, 69.2),
        ("reasoning", "o teacher"): (10.1, 9.7, 53.2, 95.2, 67.7),
        ("reasoning", "ho teacher"): (10.7, 10.3, 51.6, 94.3, 69.9),
        ("reasoning", "none student"): (10.1, 9.6, 53.7, 95.2, 69.2),  # Table 3
        ("reasoning", "o student"): (9.9, 9.5, 52.6, 95.5, 76.1),
        ("filters", "no_spatial"): (10.3, 9.9, 50.5, 95.0),  # Table 4
        ("filters", "no_temporal"): (10.3, 9.8, 51.6, 95.1),
        ("filters", "printed"): (9.9, 9.5, 52.6, 95.5, 76.1),
        ("rounds", "0"): (10.1, 9.7, 53.2, 95.2, 67.7),
        ("rounds", "1"): (9.9, 9.5, 52.6, 95.5, 76.1),
    }.items()
}
"""(grid, point) -> metric -> number on HO-3D."""
FPHA: Mapping[tuple[str, str], Mapping[str, float]] = {
    ("filters", "none"): {"joints_auc": 74.9, "f5": 44.8, "f15": 92.5},  # Table 8
    ("filters", "printed"): {"joints_auc": 75.4, "f5": 45.7, "f15": 93.1},
}
"""The same on FPHA, which neither the labelled set nor the videos show."""
FREIHAND: Mapping[tuple[str, str], Mapping[str, float]] = {
    ("rounds", "0"): {"joints_auc": 69.1, "f5": 34.8, "f15": 85.3},
    ("rounds", "1"): {"joints_auc": 70.6, "f5": 36.3, "f15": 86.6},
}
"""The same on FreiHAND."""


def beside(grid: str, domain: str) -> tuple[str, Mapping[tuple[str, str], Mapping[str, float]]]:
    """The heading of the paper's numbers that stand beside ours of a domain in a grid, and those numbers."""
    if domain == "ho3d":
        return "paper", HO3D
    return ("paper, FreiHAND", FREIHAND) if grid == "rounds" else ("paper, FPHA", FPHA)
