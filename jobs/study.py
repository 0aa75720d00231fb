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
study.seeds=[N] and the same output. The files tell of all seeds that were run, and of each grid the seeds that have it.
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
from jobs import command, grids, pipeline, points, printing, study_rows, study_summary
from jobs.grids import Grid
from jobs.inputs import world_of
from jobs.own_data import has_own_data, refuse_hidden_world_here


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
    with _alone(output, "writes its tables", wait=True):  # each reads what the other has written
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
    with _alone(output, "runs this seed", wait=False):
        base, store = grids.pipeline_of(run, grid), open_store(output)
        stages = [] if grid is None else points.stages(base, grids.points(base, grid))
        points.refuse_impossible(stages)
        for stage in stages:  # one that is stale is refused before the pipeline works for hours
            stage.complete(store)
        pipeline.job(base, False)
        pipeline.run_stages(stages, store)


def _alone(output: str, doing: str, *, wait: bool) -> contextlib.AbstractContextManager[None]:
    """``locks.alone`` in a local folder; a bucket knows no locks."""
    return contextlib.nullcontext() if "://" in output else locks.alone(Path(output), doing, wait=wait)


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
    """study.json, study.md and the figures: of the seeds of this command and those told of before, every grid."""
    runs, unlike = _runs(config, store)
    finished = {seed: study_rows.result_of(str(run.output)) for seed, run in runs.items()}
    together = study_summary.summary(finished)
    grid, seeds = config.study.grid, config.study.seeds
    asked = study_rows.told(store)
    if grid is not None:
        asked[grid] = [*asked.get(grid, []), *seeds]
    made = {one: study_rows.of_grid(runs, one, asked.get(one, [])) for one in get_args(Grid)}
    found = {one: summary for one, summary in made.items() if summary is not None}
    if unlike:
        every = ",".join(map(str, sorted({*runs, *study_rows.held(store)})))
        print(
            f"note: {store.uri('study.md')} stays as it is: its seeds {_listed(unlike)} are not complete with these "
            f"settings. The same command with study.seeds=[{every}] and without study.grid completes them and writes it"
        )
    else:
        content = {"seeds": finished, "summary": together, "grids": found}
        store.put(study_rows.FILE, json.dumps(content, indent=1).encode())
        _write_page(store, together, found)
    if grid is not None and not _holds(found.get(grid), run_of(config, seeds[0]), seeds, grid):
        raise MachineError(
            f"the grid {grid} is not complete any more: something has changed {store.root} while the "
            "study ran. The same command completes it"
        )
    _print(together if grid is None else found[grid], grid)
    if not unlike:
        print(f"\nwritten: {store.uri('study.md')}")


def _runs(config: Config, store: Store) -> tuple[dict[int, Config], list[int]]:
    """The runs by seed that are told of together, and the seeds told of before that are not complete as these are.

    Where there are such, the runs are those of this command alone.
    """
    own = {seed: run_of(config, seed) for seed in config.study.seeds}
    others = {seed: run_of(config, seed) for seed in study_rows.held(store) if seed not in own}
    unlike = [seed for seed, run in others.items() if not study_rows.is_complete(run)]
    return (own if unlike else dict(sorted({**own, **others}.items()))), unlike


def _holds(shown: Mapping[str, Any] | None, run: Config, seeds: Sequence[int], grid: Grid) -> bool:
    """Whether the summary of the grid has all rows that this command was asked for, of all of its seeds."""
    asked = {point.key for point in grids.points(grids.pipeline_of(run, grid), grid)}
    rows = {} if shown is None else {row["key"]: row["seeds"] for row in shown["rows"]}
    return all(set(seeds) <= set(rows.get(key, ())) for key in asked)


def _print(shown: Mapping[str, Any], grid: Grid | None) -> None:
    """The tables of all seeds, or those of a grid, for the terminal."""
    print(f"\n{_head(shown['seeds']) if grid is None else study_report.heading(shown)}")
    for title, (headers, rows) in (tables(shown) if grid is None else study_report.tables(shown)).items():
        print(f"\n{title}\n{printing.table(headers, rows)}")
    if grid is not None:
        print("".join(f"\n{line}" for line in study_report.headline(shown)))


def _head(seeds: Sequence[int]) -> str:
    return f"{len(seeds)} seed{'s'[: len(seeds) > 1]}: {_listed(seeds)}"


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def _write_page(store: Store, together: Mapping[str, Any], found: Mapping[str, Mapping[str, Any]]) -> None:
    """study.md and the figures."""
    parts = [f"# {_head(together['seeds'])}", _sections("##", tables(together))]
    for name, grid in found.items():
        store.put(f"study_{name}.png", study_report.draw(grid))
        lines = "".join(f"{line}\n\n" for line in study_report.headline(grid))
        parts.append(f"## {study_report.heading(grid)}\n\n{lines}![{grid['title']}](study_{name}.png)")
        parts.append(_sections("###", study_report.tables(grid)))
    store.put("study.md", ("\n\n".join(parts) + "\n").encode())


def _sections(mark: str, made: Mapping[str, study_report.Table]) -> str:
    return "\n\n".join(f"{mark} {title}\n\n{printing.markdown(*rows)}" for title, rows in made.items())


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
