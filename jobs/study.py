"""python -m jobs.study output=DIR_OR_S3_URI [study.seeds=[0,1,2]] [study.grid=GRID] [--config FILE] [--dry-run]

Runs the pipeline with its control once per seed and summarises the runs: mean and spread of teacher, control and
student in both domains, paired differences with their 95 % intervals, and the precision of labels. All seeds share one
world (the run's seed draws it), so the spread is that of training alone; with study.own_worlds=true each draws its own.

study.grid adds points to each seed, which share the stages of its pipeline and have as many steps as its student:
  filters    which rules (Tables 4, 8)               reasoning  contextual reasoning (Tables 2, 3)
  fraction   share of the pseudo-labels (Fig. 9)     rounds     the student labels, and a next one learns
  labels     what better labels would be worth       share      share of a batch that is pseudo-labelled
  refine     each part of the labels' refinement     terms      terms of the loss that they take part in
study.points=[KEY,...] makes these rows of the grid alone; --dry-run names the rows.
Under the output: world/ seed-N/ study.json study.md study_GRID.png; all grids of one output stand in the one study.md.
The same command resumes a study that was stopped. Seeds may be run by several processes at once, each with its own
study.seeds=[N] and the same output; the command with all seeds then finds them complete and summarises them.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from cluster import locks, session
from cluster.store import Store, open_store
from hojoint.config import Config, changed
from hojoint.errors import InputError, MachineError
from hojoint.report import study as study_report
from hojoint.report.tables import DOMAINS, METRICS, NETWORKS
from hojoint.synthetic import write
from jobs import command, grids, pipeline, plan, points, printing, results, study_summary
from jobs.grids import Grid, Point
from jobs.inputs import world_of
from jobs.own_data import has_own_data, refuse_hidden_world_here
from jobs.point_stages import MEASURED
from jobs.stage import Stage


def job(config: Config, dry_run: bool) -> None:
    """Run or finish each seed, then summarise their numbers."""
    output = command.output_of(config, "runs/study").rstrip("/")
    config = config.model_copy(update={"output": output})
    grid = config.study.grid
    _refuse_one_world(config)
    refuse_hidden_world_here(config, "study")  # of a seed's run the world is named
    if dry_run:
        for seed in config.study.seeds:
            print(f"seed {seed}")
            _plan(run_of(config, seed), grid)
        return
    with session.start(config.cluster):
        for number, seed in enumerate(config.study.seeds, start=1):
            print(f"=== seed {seed} ({number} of {len(config.study.seeds)}) ===", flush=True)
            run_seed(run_of(config, seed), grid)
    _write(config, open_store(output))


def _refuse_one_world(config: Config) -> None:
    """InputError where ``study.own_worlds`` asks for a world per seed, and the settings name one, or data."""
    if not config.study.own_worlds:
        return
    if has_own_data(config):
        raise InputError(
            "study.own_worlds=true draws a world for each seed, and with your own data none is drawn; leave "
            "study.own_worlds out, or leave the data out (data.*.root, videos.root, videos.boxes)"
        )
    if config.world is not None or config.synthetic.seed is not None:
        name = "synthetic.seed" if config.world is None else "world"
        raise InputError(
            f"study.own_worlds=true draws a world for each seed, and {name} names one; leave one of them out"
        )


def run_of(config: Config, seed: int) -> Config:
    """The pipeline of one seed."""
    output = f"{config.output}/seed-{seed}"
    if config.study.own_worlds:
        return changed(config, seed=seed, output=output, control=True, world=None, synthetic={"seed": None})
    drawn = {"seed": write.seed_of(config)}
    return changed(config, seed=seed, output=output, control=True, world=str(world_of(config)), synthetic=drawn)


def run_seed(run: Config, grid: Grid | None) -> None:
    """The pipeline of one seed and the grid's points beside it; what is complete is skipped."""
    output = str(run.output)
    local = "://" not in output
    own = locks.alone(Path(output), "runs this seed", wait=False) if local else contextlib.nullcontext()
    with own:
        base, store = grids.pipeline_of(run, grid), open_store(output)
        stages = [] if grid is None else points.stages(base, grids.points(base, grid))
        points.refuse_impossible(stages)
        for stage in stages:  # one that is stale is refused before the pipeline works for hours
            stage.complete(store)
        pipeline.job(base, False)
        pipeline.run_stages(stages, store)


def _plan(run: Config, grid: Grid | None) -> None:
    base = grids.pipeline_of(run, grid)
    pipeline.job(base, True)
    if grid is not None:
        store = open_store(str(run.output))
        made = grids.points(base, grid)
        print(f"rows of the grid: {', '.join(f'{point.key} ({point.title})' for point in made)}")
        stages = points.stages(base, made)
        points.refuse_impossible(stages)
        rows = [(stage.name, "complete" if stage.complete(store) else "run", stage.planned()) for stage in stages]
        print(printing.table(("stage", "state", "on"), rows))


def _write(config: Config, store: Store) -> None:
    """study.json, study.md and the figures, from every row of every grid that all seeds have complete."""
    runs = {seed: run_of(config, seed) for seed in config.study.seeds}
    finished = {seed: result_of(str(run.output)) for seed, run in runs.items()}
    together = study_summary.summary(finished)
    found = {grid: made for grid in get_args(Grid) if (made := _grid(runs, grid)) is not None}
    held = _held(store)
    if more := [seed for seed in held if seed not in runs]:
        print(f"note: {store.uri('study.md')} keeps what it tells of {len(held)} seeds; give all to write it again")
    else:
        content = {"seeds": finished, "summary": together, "grids": found}
        store.put("study.json", json.dumps(content, indent=1).encode())
        _write_page(store, together, found)
    grid_shown = None if config.study.grid is None else found.get(config.study.grid)
    if config.study.grid is not None and not _holds(grid_shown, next(iter(runs.values())), config.study.grid):
        raise MachineError(
            f"the grid {config.study.grid} is not complete any more: something has changed {store.root} while the "
            "study ran. The same command completes it"
        )
    shown = tables(together) if grid_shown is None else study_report.tables(grid_shown)
    for title, (headers, rows) in shown.items():
        print(f"\n{title}\n{printing.table(headers, rows)}")
    if grid_shown is not None:
        print("".join(f"\n{line}" for line in study_report.headline(grid_shown)))
    if not more:
        print(f"\nwritten: {store.uri('study.md')}")


def _holds(shown: Mapping[str, Any] | None, run: Config, grid: Grid) -> bool:
    """Whether the summary of the grid has all rows that this command was asked for."""
    asked = {point.key for point in grids.points(grids.pipeline_of(run, grid), grid)}
    return shown is not None and asked <= {row["key"] for row in shown["rows"]}


def _held(store: Store) -> list[int]:
    """The seeds that ``study.json`` tells of and that are still there."""
    if not store.exists("study.json"):
        return []
    seeds = results.read_json(store, "study.json", "seeds")["seeds"]
    return [int(seed) for seed in seeds if store.exists(f"seed-{seed}/report.json")]


def _write_page(store: Store, together: Mapping[str, Any], found: Mapping[str, Mapping[str, Any]]) -> None:
    """study.md and the figures."""
    seeds = together["seeds"]
    head = f"# {len(seeds)} seed{'s'[: len(seeds) > 1]}: {', '.join(map(str, seeds))}"
    parts = [head, _sections("##", tables(together))]
    for name, grid in found.items():
        store.put(f"study_{name}.png", study_report.draw(grid))
        lines = "".join(f"{line}\n\n" for line in study_report.headline(grid))
        parts.append(f"## {grid['title']}\n\n{lines}![{grid['title']}](study_{name}.png)")
        parts.append(_sections("###", study_report.tables(grid)))
    store.put("study.md", ("\n\n".join(parts) + "\n").encode())


def _sections(mark: str, made: Mapping[str, study_report.Table]) -> str:
    return "\n\n".join(f"{mark} {title}\n\n{printing.markdown(*rows)}" for title, rows in made.items())


def _grid(runs: Mapping[int, Config], grid: Grid) -> dict[str, Any] | None:
    """The summary of a grid by the rows that every seed has complete; None where it was not begun.

    Not only the rows of ``study.points``: another command may have made the others.
    """
    every, shown, found = [], None, {}
    for seed, run in runs.items():
        store = open_store(str(run.output))
        try:
            base = grids.pipeline_of(changed(run, study={"points": None}), grid)
            every = grids.points(base, grid)
            if not _complete([stage for stage in plan.stages(base) if stage.name != "report"], store):
                return None
            done = {point.key for point in every if _complete(points.stages(base, [point]), store)}
        except InputError:  # made with other settings, or not possible with these
            return None
        shown = done if shown is None else shown & done
        found[seed] = {point.key: _row(store, point) for point in every if point.key in done}
        found[seed]["control"] = _row(store, Point("control", "", "control"))
    rows = [point for point in every if point.key in (shown or ())]
    if len(rows) < len(every) and not any(point.at for point in rows):  # the pipeline alone is no row of this grid
        return None
    left_out = [point.title for point in every if point not in rows]
    return study_summary.of_grid(grid, rows, found) | {"left_out": left_out}


def _complete(stages: Sequence[Stage], store: Store) -> bool:
    return all(results.marker(stage.name, store) and stage.complete(store) for stage in stages)


def _row(store: Store, point: Point) -> dict[str, Any]:
    """Scores and labels of a point; no scores of a network that had nothing to train on."""
    scores, labels = f"{point.at}evaluation/{point.network}.json", f"{points.labels_of(point)}{MEASURED}"
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


def tables(together: Mapping[str, Any]) -> dict[str, tuple[list[str], list[list[str]]]]:
    """Title -> headers and rows, for the terminal and for Markdown."""
    out, seeds = {}, len(together["seeds"])
    differences = [f"{after} - {before}" for after, before in study_summary.DIFFERENCES]
    digits = {metric.label: metric.digits for metric in METRICS}
    for domain, rows in together["domains"].items():
        columns = [name for name in (*NETWORKS, *differences) if any(name in row for row in rows.values())]
        body = [
            [label, *(_cell(row.get(name), digits[label], name, seeds) for name in columns)]
            for label, row in rows.items()
        ]
        out[DOMAINS[domain]] = (["", *columns], body)
    names = {"frames": 0, "precision": 3, "aligned_mm_median": 2, "joints_2d_median": 3}
    body = [
        [group, *(_cell(row[key], names[key], "", seeds) for key in names)] for group, row in together["labels"].items()
    ]
    some = f", {' and '.join(together['units'])} units" if together["units"] else ""
    out[f"Labels against the held-out truth{some}"] = (
        ["", "frames", "share correct", "PA-MPJPE, median (mm)", "2D error, median (box sides)"],
        body,
    )
    return out


def _cell(value: Mapping[str, Any] | None, digits: int, column: str, seeds: int) -> str:
    told = study_report.spread_text(value, digits, seeds, "+" if " - " in column else "")
    if value is None or value.get("interval") is None:
        return told
    return f"{told} [{value['interval'][0]:+.{digits}f}, {value['interval'][1]:+.{digits}f}]"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return command.run(job, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
