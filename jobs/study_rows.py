"""What the seeds of a study have left, read back: the scores of their runs, and the rows of grids that are complete.

Each row of a grid is told of the seeds that have it, whatever command made it. Not here: running (``study``), numbers
over seeds (``study_summary``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from cluster.store import Store, open_store
from hojoint.config import Config, changed
from hojoint.errors import InputError
from jobs import grids, plan, points, results, study_summary
from jobs.grids import Grid, Point
from jobs.point_stages import MEASURED
from jobs.stage import Stage

FILE = "study.json"


def held(store: Store) -> list[int]:
    """The seeds that ``study.json`` tells of and that are still there."""
    if not store.exists(FILE):
        return []
    seeds = results.read_json(store, FILE, "seeds")["seeds"]
    return [int(seed) for seed in seeds if store.exists(f"seed-{seed}/report.json")]


def told(store: Store) -> dict[str, list[int]]:
    """Grid -> the seeds of which ``study.json`` tells its rows."""
    content = results.read_json(store, FILE, "seeds") if store.exists(FILE) else {}
    return {grid: list(made.get("seeds", [])) for grid, made in content.get("grids", {}).items()}


def is_complete(run: Config) -> bool:
    """Whether the pipeline of a seed is complete with these settings, with or without the rounds of its grid."""
    store, one = open_store(str(run.output)), changed(run, study={"points": None})
    try:
        return any(_complete(plan.stages(grids.pipeline_of(one, grid)), store) for grid in (None, "rounds"))
    except InputError:  # made with other settings, or its data are gone
        return False


def of_grid(runs: Mapping[int, Config], grid: Grid, asked: Collection[int]) -> dict[str, Any] | None:
    """The summary of a grid over the seeds that have rows of it; None where no seed has.

    Not only the rows of ``study.points``: another command may have made the others.

    Args:
        runs: seed -> its run.
        asked: seeds on which this command or one before was to make the grid. Of others the pipeline's own rows alone
            are no grid.
    """
    every: list[Point] = []
    found: dict[int, dict[str, dict[str, Any]]] = {}
    for seed, run in runs.items():
        store = open_store(str(run.output))
        try:
            base = grids.pipeline_of(changed(run, study={"points": None}), grid)
            every = grids.points(base, grid)
            if not _complete([stage for stage in plan.stages(base) if stage.name != "report"], store):
                continue
            done = [point for point in every if _complete(points.stages(base, [point]), store)]
        except InputError:  # made with other settings, or not possible with these
            continue
        if seed in asked or len(done) == len(every) or any(point.prefix for point in done):
            found[seed] = {point.key: _row(store, point) for point in done}
            found[seed]["control"] = _row(store, Point("control", "", "control"))
    if not found:
        return None
    rows = [point for point in every if any(point.key in seed for seed in found.values())]
    left_out = [point.title for point in every if point not in rows]
    return study_summary.of_grid(grid, rows, found) | {"left_out": left_out}


def _complete(stages: Sequence[Stage], store: Store) -> bool:
    return all(results.marker(stage.name, store) and stage.complete(store) for stage in stages)


def _row(store: Store, point: Point) -> dict[str, Any]:
    """Scores and labels of a point; no scores of a network that had nothing to train on."""
    scores, labels = f"{point.prefix}evaluation/{point.network}.json", f"{points.labels_of(point)}{MEASURED}"
    learned = point.network not in ("teacher", "control") and store.exists(labels)
    return {
        "domains": results.read_json(store, scores, "domains")["domains"] if store.exists(scores) else {},
        "labels": results.read_json(store, labels, "frames") if learned else None,
    }


def result_of(output: str) -> dict[str, Any]:
    """Scores and label quality of one finished run."""
    store = open_store(output)
    return {
        "evaluation": results.scores(store),
        "quality": results.read_json(store, "report.json").get("quality"),
        "frames": results.read_json(store, f"{results.LABELS}/report.json", "frames")["frames"],
    }
