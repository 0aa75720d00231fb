"""python -m jobs.pipeline output=DIR_OR_S3_URI [control=true] [--config FILE] [key=value ...] [--dry-run]

Runs the complete method: synthesize -> train (the teacher) -> pseudo_label -> retrain (the student) -> evaluate ->
report. Stages that are complete are skipped, so the same command resumes after a failure and does nothing at the end.
With other settings or data, the cheap stages (calibrate, evaluate, report) run again, the expensive ones are refused.
With control=true, a network of labelled images alone is trained for as many steps as the student, for comparison.
With calibrate.enabled=true train.held_out=N, the rules' limits are chosen on N recordings that no network is trained
on. With student.rounds=N, each student labels the videos for the next, which takes as many steps as the first.
Under the output: pipeline.json stages/ world/ teacher/ calibration/ labels/ student/ control/ evaluation/ and
report.{html,json}; of later rounds calibration-2/ labels-2/ student-2/ and so on.
With an s3:// output the world lies in a local folder, because decoders read files; on a cluster of several machines it
must be named (world=), in a folder that all nodes see.
Actors: training takes cluster.workers, labelling cluster.teachers, evaluation evaluate.actors.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence

from cluster import capacity, session
from cluster.store import Store, check_writable, open_store
from hojoint.config import Config, to_tree
from hojoint.report import formats, rounds
from hojoint.report import tables as report_tables
from jobs import command, contradictions, plan, printing, results
from jobs.inputs import world_of
from jobs.own_data import has_own_data, refuse_hidden_world_here
from jobs.stage import Stage


def job(config: Config, dry_run: bool) -> None:
    """Run what is not complete, in one Ray session, and print a closing table."""
    config = config.model_copy(update={"output": command.output_of(config, "runs/tiny").rstrip("/")})
    store = open_store(str(config.output))
    if not has_own_data(config):
        check_writable(str(world_of(config)))
    if (note := plan.length_note(config)) is not None:
        print(f"note: {note}")
    contradictions.refuse_replaced(config)
    stages = plan.stages(config)
    todo: list[str] = []
    for stage in stages:
        if not stage.complete(store) or set(todo) & set(stage.needs):
            todo.append(stage.name)
    if unknown := [stage.name for stage in stages if stage.data_unknown(store)]:
        print(
            f"note: {', '.join(unknown)} ran under an earlier version, which did not note all data; these stay as made"
        )
    if todo:
        refuse_hidden_world_here(config, "pipeline")
        stages[0].inputs.check(complete=dry_run)  # before hours of work, not when a stage reads them
    if dry_run:
        _print_plan(config, stages, todo)
        return
    if not todo:
        print(f"all {len(stages)} stages of {config.output} are complete; nothing to do")
    else:
        store.put(results.PIPELINE, json.dumps(to_tree(config), indent=1).encode())
        with session.start(config.cluster):
            run_stages(stages, store)
    _print_results(stages, store, ran=todo)


def run_stages(stages: Sequence[Stage], store: Store) -> None:
    """Run in order what is not complete; a finished stage is marked, so that the next call skips it."""
    for number, stage in enumerate(stages, start=1):
        head = f"[{number}/{len(stages)}] {stage.name:<12}"
        if stage.complete(store):
            stage.restore()  # something after it runs and may read it
            print(f"{head} is complete", flush=True)
            continue
        print(f"{head} ...", flush=True)
        started = time.perf_counter()
        stage.unmark(store)
        stage.run(store)
        seconds = time.perf_counter() - started
        stage.mark(store, seconds)
        print(f"{head} {formats.seconds(seconds):>12}   {stage.result(store)}", flush=True)


def _print_plan(config: Config, stages: Sequence[Stage], todo: Sequence[str]) -> None:
    rows = [(stage.name, "run" if stage.name in todo else "complete", stage.planned()) for stage in stages]
    print(printing.table(("stage", "state", "on"), rows))
    for line in stages[0].inputs.describe():
        print(line)
    for need in dict.fromkeys(need for stage in stages for need in stage.resources()):
        print(capacity.feasibility(config.cluster, [need]))
    print(f"dry run: {len(todo)} of {len(stages)} stages would run under {config.output}")


def _print_results(stages: Sequence[Stage], store: Store, ran: Sequence[str]) -> None:
    rows = []
    for stage in stages:
        marker = results.marker(stage.name, store)
        assert marker is not None
        spent = formats.seconds(marker["seconds"])
        rows.append((stage.name, spent, "now" if stage.name in ran else "before", marker["what"]))
    print("\n" + printing.table(("stage", "time", "ran", "result"), rows))
    if store.exists("labels/report.json"):
        frames = results.read_json(store, "labels/report.json", "frames")["frames"]
        rejected = ", ".join(f"{rule} {count}" for rule, count in frames["rejected"].items() if count)
        print(f"\nframes predicted {frames['predicted']} = kept {frames['kept']} + rejected ({rejected})")
    for comparison in report_tables.comparison(results.scores(store)):
        rows = [(row["label"], *(cell["text"] for cell in row["cells"]), row["change"]) for row in comparison["rows"]]
        print(f"\n{comparison['title']}, {comparison['note']}")
        print(printing.table(("", *comparison["columns"], comparison["change"]), rows))
    by_round = results.read_json(store, "report.json").get("by_round", [])
    for title, found in (
        ("By round", rounds.by_round(results.scores(store), by_round)),
        ("What calibration promised, and what the labels of the videos are", rounds.promises(by_round)),
    ):
        if found is not None:
            print(f"\n{title}\n{printing.table(found['columns'], found['rows'])}")
            if found.get("note"):
                print(found["note"])
    print(f"\nreport: {store.uri('report.html')}")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return command.run(job, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
