"""python -m jobs.pipeline output=DIR_OR_S3_URI [control=true] [--config FILE] [key=value ...] [--dry-run]

The whole method: synthesize -> train (the teacher) -> pseudo_label -> retrain (the student) -> evaluate -> report.
Stages that are whole are skipped, so the same command goes on after a failure, and does nothing once all is done.
With control=true, a network of labelled images alone is trained for as many steps as the student, for comparison.
Under the output: pipeline.json world/ teacher/ labels/ student/ control/ evaluation/ report.{html,json}. With an s3://
output the world lies in a local folder (world=), because decoders read files.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Iterator, Sequence

from cluster import session
from cluster.labelling import run as labelling
from cluster.store import Store, check_writable, open_store
from cluster.training import data as training_data
from hojoint.config import Config, digest, to_tree
from hojoint.errors import InputError
from hojoint.evaluation import scores as evaluation
from hojoint.hand.factory import hand_model
from hojoint.report import tables as report_tables
from jobs import command, printing, results
from jobs.stages import NETWORK, Stage, has_own_data, stages, world_of


def job(config: Config, dry_run: bool) -> None:
    """Run what is not whole, in one Ray session, and print a closing table."""
    config = config.model_copy(update={"output": command.output_of(config, "runs/tiny").rstrip("/")})
    store = open_store(_output(config))
    if not has_own_data(config):
        check_writable(str(world_of(config)))
    plan = stages(config)
    todo = [stage.name for stage in plan if not whole(stage, store)]
    if dry_run:
        _print_plan(config, plan, todo)
        return
    if not todo:
        print(f"all {len(plan)} stages of {config.output} are whole; nothing to do")
    else:
        store.put(results.PIPELINE, json.dumps(to_tree(config), indent=1).encode())
        with session.start(config.cluster):
            _run(config, plan, store)
    _print_results(config, plan, store, ran=todo)


def whole(stage: Stage, store: Store) -> bool:
    """Whether a stage is done, with these settings and from the inputs that are there now.

    Raises:
        InputError: it was done with other settings, and is too dear to be done again without being asked.
    """
    done = results.marker(stage.name, store)
    if done is None:
        return False
    wanted = json.loads(json.dumps(stage.settings()))
    differs = [name for name in wanted if done["settings"].get(name) != wanted[name]]
    differs += [f"result of {name}" for name in stage.needs if done["inputs"].get(name) != _made(name, store)]
    if differs and not stage.cheap:
        first = differs[0]
        raise InputError(
            f"{store.root} holds a run whose stage '{stage.name}' was made otherwise: {first} was "
            f"{done['settings'].get(first, 'another')!r} and is now {wanted.get(first, 'made again')!r} "
            f"({len(differs)} differences); give another output, or remove that one"
        )
    return not differs


def _run(config: Config, plan: Sequence[Stage], store: Store) -> None:
    for number, planned in enumerate(plan, start=1):
        stage = planned
        if stage.name == "control":  # as many steps as the student took, which is known only now
            done = results.marker("retrain", store)
            assert done is not None
            stage = next(other for other in stages(config, done["steps"]) if other.name == "control")
        head = f"[{number}/{len(plan)}] {stage.name:<12}"
        if whole(planned, store):
            print(f"{head} is whole", flush=True)
            continue
        print(f"{head} ...", flush=True)
        started = time.perf_counter()
        module = importlib.import_module(f"jobs.{stage.module}")
        if stage.name == "evaluate":  # all networks with the same actors
            module.measure(stage.configs)
        else:
            module.job(stage.configs[0], False)
        seconds = time.perf_counter() - started
        _mark(planned, store, seconds)
        print(f"{head} {report_tables.seconds(seconds):>12}   {results.describe(stage.name, store)}", flush=True)


def _mark(stage: Stage, store: Store, seconds: float) -> None:
    done = {
        "settings": stage.settings(),
        "inputs": {name: _made(name, store) for name in stage.needs},
        "seconds": round(seconds, 2),
        "made": digest(stage.settings(), time.time()),
        "what": results.describe(stage.name, store),
    }
    if stage.name in NETWORK:
        trained = results.training(NETWORK[stage.name], store)
        done["steps"] = None if trained is None else trained["steps"]
    store.put(f"stages/{stage.name}.json", json.dumps(done, indent=1).encode())


def _made(name: str, store: Store) -> str | None:
    """A name for one making of a stage's result; another after it was made again."""
    done = results.marker(name, store)
    return None if done is None else done["made"]


def _print_plan(config: Config, plan: Sequence[Stage], todo: Sequence[str]) -> None:
    rows = [(stage.name, "run" if stage.name in todo else "whole", _units(stage)) for stage in plan]
    print(printing.table(("stage", "state", "on"), rows))
    for line in _data(config, plan):
        print(line)
    size = config.cluster
    workers = session.Need("training worker", size.workers[0], size.worker_cpus, size.worker_gpus)
    teachers = session.Need("Teacher actor", size.teachers[0], size.teacher_cpus, size.teacher_gpus)
    for need in (workers, teachers):
        print(session.feasibility(size, [need]))
    print(f"dry run: {len(todo)} of {len(plan)} stages would run under {config.output}")


def _data(config: Config, plan: Sequence[Stage]) -> Iterator[str]:
    """What the given data hold, opened to see; or that none are given."""
    if not has_own_data(config):
        yield f"no data of yours: the synthetic world stands in, under {world_of(config)}"
        return
    hand_model(config.mano)  # says what is wrong with its file
    by_name = {stage.name: stage.configs[0] for stage in plan}
    data = training_data.open_data(by_name["train"])
    for name, each in zip(data.names, data.sets, strict=True):
        yield f"labelled {name}: {len(each)} images"
    for domain in evaluation.domains_of(by_name["evaluate"]):
        yield f"measured on {domain}: {len(evaluation.open_domain(domain, by_name['evaluate']))} images"
    videos, notes, _ = labelling.list_videos(by_name["pseudo_label"])
    yield f"videos: {len(videos)} with {sum(len(video.clips) for video in videos)} clips of a hand"
    yield from (f"note: {note}" for note in notes)


def _units(stage: Stage) -> str:
    config, size = stage.configs[0], stage.configs[0].synthetic
    if stage.name == "synthesize":
        return (
            f"{size.train_sequences} x {size.train_frames} labelled frames, {size.wild_videos} videos, "
            f"{size.test_images} test images"
        )
    if stage.name in NETWORK:
        length = f"{config.train.steps} steps" if config.train.steps else f"{config.train.epochs} epochs"
        return f"{' + '.join(config.train.datasets)}, {length} of {config.train.batch_size}"
    if stage.name == "pseudo_label":
        videos = f"about {size.wild_videos + size.broken_videos} videos" if "synthesize" in stage.needs else "videos"
        return f"{videos} in units of {config.labelling.unit_videos}, {config.tta.views} views a frame"
    return ", ".join(each.name for each in stage.configs) if stage.name == "evaluate" else ""


def _print_results(config: Config, plan: Sequence[Stage], store: Store, ran: Sequence[str]) -> None:
    rows = []
    for stage in plan:
        done = results.marker(stage.name, store)
        assert done is not None
        spent = report_tables.seconds(done["seconds"])
        rows.append((stage.name, spent, "now" if stage.name in ran else "before", done["what"]))
    print("\n" + printing.table(("stage", "time", "ran", "result"), rows))
    if store.exists("labels/report.json"):
        frames = json.loads(store.get("labels/report.json"))["frames"]
        lost = ", ".join(f"{rule} {count}" for rule, count in frames["rejected"].items() if count)
        print(f"\nframes predicted {frames['predicted']} = kept {frames['kept']} + rejected ({lost})")
    for comparison in report_tables.comparison(results.scores(store)):
        rows = [(row["label"], *(cell["text"] for cell in row["cells"]), row["change"]) for row in comparison["rows"]]
        print(f"\n{comparison['title']}, {comparison['note']}")
        print(printing.table(("", *comparison["columns"], comparison["change"]), rows))
    print(f"\nreport: {store.uri('report.html')}")


def _output(config: Config) -> str:
    assert config.output is not None
    return config.output


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return command.run(job, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
