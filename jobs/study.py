"""python -m jobs.study output=DIR_OR_S3_URI [study.seeds=[0,1,2]] [study.own_worlds=true] [--config FILE] [--dry-run]

Runs the pipeline with its control once per seed and summarises the runs: mean and spread of teacher, control and
student in both domains, the paired differences, and the precision of kept and of rejected labels. All seeds share
one world (the run's seed draws it), so the spread is that of training alone; with study.own_worlds=true each seed draws
its own. Under the output: world/ seed-N/ study.json study.md. The same command resumes a study that was stopped.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from cluster import session
from cluster.store import open_store
from hojoint.config import Config, changed
from hojoint.report.tables import DOMAINS, METRICS, NETWORKS, Metric
from hojoint.synthetic import write
from jobs import command, pipeline, printing, results
from jobs.inputs import world_of

DIFFERENCES = (("student", "teacher"), ("student", "control"))
QUALITY = ("precision", "aligned_mm_median", "joints_2d_median")


def job(config: Config, dry_run: bool) -> None:
    """Run or finish each seed, then summarise their numbers."""
    output = command.output_of(config, "runs/study").rstrip("/")
    config = config.model_copy(update={"output": output})
    runs = {seed: run_of(config, seed) for seed in config.study.seeds}
    if dry_run:
        for seed, run in runs.items():
            print(f"seed {seed}")
            pipeline.job(run, True)
        return
    with session.start(config.cluster):
        for number, (seed, run) in enumerate(runs.items(), start=1):
            print(f"=== seed {seed} ({number} of {len(runs)}) ===", flush=True)
            pipeline.job(run, False)
    finished = {seed: result_of(str(run.output)) for seed, run in runs.items()}
    together = summary(finished)
    store = open_store(output)
    store.put("study.json", json.dumps({"seeds": finished, "summary": together}, indent=1).encode())
    text = "\n\n".join(f"{title}\n\n{printing.markdown(*rows)}" for title, rows in tables(together).items())
    store.put("study.md", f"# {len(finished)} seeds: {', '.join(map(str, finished))}\n\n{text}\n".encode())
    for title, (headers, rows) in tables(together).items():
        print(f"\n{title}\n{printing.table(headers, rows)}")
    print(f"\nwritten: {store.uri('study.md')}")


def run_of(config: Config, seed: int) -> Config:
    """The pipeline of one seed."""
    output = f"{config.output}/seed-{seed}"
    if config.study.own_worlds:
        return changed(config, seed=seed, output=output, control=True, world=None, synthetic={"seed": None})
    drawn = {"seed": write.seed_of(config)}
    return changed(config, seed=seed, output=output, control=True, world=str(world_of(config)), synthetic=drawn)


def result_of(output: str) -> dict[str, Any]:
    """Scores and label quality of one finished run."""
    store = open_store(output)
    report = json.loads(store.get("report.json"))
    return {
        "evaluation": results.scores(store),
        "quality": report.get("quality"),
        "frames": json.loads(store.get("labels/report.json"))["frames"],
    }


def summary(runs: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and spread over the seeds of every metric, of paired differences, and of the labels' quality."""
    out: dict[str, Any] = {"domains": {}, "labels": {}}
    for domain in DOMAINS:
        rows: dict[str, Any] = {}
        for metric in METRICS:
            values = {name: _values(runs, name, domain, metric) for name in NETWORKS}
            if not any(values.values()):
                continue
            row = {name: spread(numbers) for name, numbers in values.items() if numbers}
            for after, before in DIFFERENCES:
                if values[after] and values[before]:
                    pairs = zip(values[after], values[before], strict=True)
                    row[f"{after} - {before}"] = spread([a - b for a, b in pairs])
            rows[metric.label] = row
        if rows:
            out["domains"][domain] = rows
    for group in ("kept", "rejected"):
        known = [run["quality"][group] for run in runs.values() if run.get("quality")]
        out["labels"][group] = {
            key: spread([value[key] for value in known if value[key] is not None]) for key in ("frames", *QUALITY)
        }
    return out


def _values(runs: Mapping[int, Mapping[str, Any]], name: str, domain: str, metric: Metric) -> list[float]:
    parts = [run["evaluation"].get(name, {}).get(domain, {}).get(metric.part) for run in runs.values()]
    values = [part[metric.key] * metric.scale for part in parts if part and part.get(metric.key) is not None]
    return values if len(values) == len(runs) else []  # a pair needs both


def spread(values: Sequence[float]) -> dict[str, float] | None:
    """Mean, sample standard deviation and range; None of no values."""
    if not values:
        return None
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.fmean(values), "std": deviation, "low": min(values), "high": max(values)}


def tables(together: Mapping[str, Any]) -> dict[str, tuple[list[str], list[list[str]]]]:
    """Title -> headers and rows, for the terminal and for Markdown."""
    out = {}
    differences = [f"{after} - {before}" for after, before in DIFFERENCES]
    digits = {metric.label: metric.digits for metric in METRICS}
    for domain, rows in together["domains"].items():
        columns = [name for name in (*NETWORKS, *differences) if any(name in row for row in rows.values())]
        body = [
            [label, *(_cell(row.get(name), digits[label], name) for name in columns)] for label, row in rows.items()
        ]
        out[DOMAINS[domain]] = (["", *columns], body)
    names = {"frames": 0, "precision": 3, "aligned_mm_median": 2, "joints_2d_median": 3}
    body = [[group, *(_cell(row[key], names[key], "") for key in names)] for group, row in together["labels"].items()]
    out["Labels against the held-out truth"] = (
        ["", "frames", "share right", "PA-MPJPE, median (mm)", "2D error, median (box sides)"],
        body,
    )
    return out


def _cell(value: Mapping[str, float] | None, digits: int, column: str) -> str:
    if value is None:
        return "-"
    sign = "+" if " - " in column else ""
    return f"{value['mean']:{sign}.{digits}f} ± {value['std']:.{digits}f}"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return command.run(job, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
