"""What the jobs left under an output, read back: markers of stages, trained networks, labels, scores.

Used by the pipeline, the study, the report and the status. Nothing here runs or writes.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Any

from cluster.detection import boxes_file
from cluster.labelling import commits
from cluster.labelling.units import makers
from cluster.store import Store, open_store
from hojoint.config import Config, ConfigError, from_stored, renamed
from hojoint.errors import InputError
from hojoint.report.tables import NETWORKS

PIPELINE = "pipeline.json"  # the settings that a pipeline was called with
ORDER = ("synthesize", "train", "calibrate", "pseudo_label", "retrain", "control", "evaluate", "report")
"""Of stages, in reports. Those of a later round, as 'retrain-2', stand behind the control."""
TRAINED = ("sha256", "steps", "samples", "history")
"""What is needed of a finished network's facts."""
HAND_PATH = "mano.path"
"""In a network's evaluation: the hand model whose mesh it predicts; null is the stand-in hand."""
LABELS = "labels"  # where a pipeline has its labelling run


def store_of(output: str) -> Store:
    """The store of an output; jobs.detect keeps its run beside the file that it is given."""
    return open_store(boxes_file.store_place(output))


def labelling_runs(store: Store) -> list[Store]:
    """Where the labelling runs of an output lie; a pipeline keeps that of each round in a folder of its output."""
    folders = (f"{LABELS}{of_round(round_number)}" for round_number in itertools.count(1))
    begun = itertools.takewhile(lambda folder: store.exists(f"{folder}/{commits.RUN}"), folders)
    return [open_store(store.uri(folder)) for folder in begun] or [store] * store.exists(commits.RUN)


def labelling_run(store: Store) -> Store | None:
    """The first of them, of which reports tell."""
    return next(iter(labelling_runs(store)), None)


def unfinished(labels: Store, report: Mapping[str, Any] | None = None) -> str | None:
    """A sentence on a labelling run that has units to do, or no report of all of them; None for a finished one.

    A run that grows keeps its former ``report``, where that is known, until all of its new units are committed.
    """
    run, committed = commits.read_label_run(labels), len(commits.committed_units(labels))
    units = run.get("units", committed)
    again = f"Repeat the command that made it ({makers(run)})"
    if committed != units:
        return f"{labels.root} is not complete: {committed} of {units} units are committed. {again}, or see jobs.status"
    told = (report or {}).get("units", units) if labels.exists(commits.REPORT) else None
    if told == units:
        return None
    state = "is not written" if told is None else f"tells of {told}"
    return (
        f"{labels.root} is not complete: all {units} units are committed, and its {commits.REPORT} {state}. {again}, "
        "which writes it"
    )


def refuse_run(output: str) -> None:
    """InputError where an output holds labels or shards, some of whose files another job would replace or remove.

    The scores of a network that is named 'run' have the name of that record too; they may be written again.
    """
    store = open_store(output)
    if not store.exists(commits.RUN):
        return
    try:
        content = json.loads(store.get(commits.RUN))
    except ValueError:
        content = None
    if not isinstance(content, dict) or "domains" not in content:
        raise InputError(
            f"{store.root} holds labels or shards ({commits.RUN}), and files of this job would replace theirs; give "
            "another output"
        )


def labels_report(labels: Store) -> dict[str, Any]:
    """The report of a finished set of labels.

    Raises:
        InputError: it is damaged, or the run is not finished: the report would not be that of the committed units.
    """
    report = read_json(labels, commits.REPORT, "videos", "frames")
    begun = labels.exists(commits.RUN)  # a point of a study without a label has a report alone
    if begun and (sentence := unfinished(labels, report)) is not None:
        raise InputError(sentence)
    return report


def before_labels(store: Store) -> str | None:
    """How far a pipeline is that has no labels yet, in two lines; None for any other output."""
    done, settings = markers(store), pipeline_settings(store)
    if not done and settings is None:
        return None
    lines = [f"stages   complete: {', '.join(done) or 'none'}"]
    if settings is not None:
        drawn = ["synthesize"] if settings.videos.root is None else []
        first = [*drawn, "train", *(["calibrate"] if settings.calibrate.enabled else []), "pseudo_label"]
        stage = next((stage for stage in first if stage not in done), first[-1])
        lines.append(f"next     {stage}: at work, or to be begun by the command of the pipeline")
    return "\n".join(lines)


def pipeline_settings(store: Store) -> Config | None:
    """What a pipeline was called with; None where no pipeline ran."""
    if not store.exists(PIPELINE):
        return None
    try:
        return from_stored(read_json(store, PIPELINE))
    except ConfigError as error:
        raise InputError(f"{store.uri(PIPELINE)} does not hold the settings of a pipeline: {error}") from None


def marker(stage: str, store: Store) -> dict[str, Any] | None:
    """What the pipeline noted when a stage was done; None while it is not."""
    key = f"stages/{stage}.json"
    if not store.exists(key):
        return None
    content = read_json(store, key, "settings", "inputs", "made", "what", "seconds")
    return content | {"settings": renamed(content["settings"])}


def markers(store: Store) -> dict[str, dict[str, Any]]:
    """Stage -> its marker, in the order of ``ORDER``, and after them the stages that it does not name."""
    names = [key.removeprefix("stages/").removesuffix(".json") for key in store.list("stages") if key.endswith(".json")]
    own = [name for name in names if "/" not in name]  # the others are those of a study's points
    return {name: stage for name in sorted(own, key=_place) if (stage := marker(name, store)) is not None}


def _place(stage: str) -> tuple[int, int, int, str]:
    """Where a stage stands in reports: by round, except that all is evaluated at the end."""
    name, _, number = stage.partition("-")
    known = ORDER.index(name) if name in ORDER else len(ORDER)
    late = known >= ORDER.index("evaluate")
    round_number = int(number) if number.isdigit() else 1
    return (known, round_number, 0, stage) if late else (0, round_number, known, stage)


def training(network: str, store: Store) -> dict[str, Any] | None:
    """Steps, samples, history, parents and checksum of a trained network; None while it is not finished."""
    key = f"{network}/training.json"
    return read_json(store, key, *TRAINED) if store.exists(key) else None


def evaluations(store: Store) -> dict[str, dict[str, Any]]:
    """Network -> what its evaluation wrote."""
    keys = {name: f"evaluation/{name}.json" for name in networks("evaluation/{}.json", store)}
    return {name: read_json(store, key, "domains", "sha256") for name, key in keys.items()}


def networks(key: str, store: Store) -> list[str]:
    """Which networks an output has, by a key with their name at ``{}``: the usual ones, then later rounds' students."""
    later = itertools.takewhile(lambda name: store.exists(key.format(name)), (student(r) for r in itertools.count(2)))
    return [*(name for name in NETWORKS if store.exists(key.format(name))), *later]


def student(round_number: int) -> str:
    """Name of the student of a round, from 1."""
    return f"student{of_round(round_number)}"


def of_round(round_number: int) -> str:
    """Ending of the names of a round's stages and folders; the first has none."""
    return "" if round_number == 1 else f"-{round_number}"


def scores(store: Store) -> dict[str, Any]:
    """Network -> data set -> scores."""
    return {name: facts["domains"] for name, facts in evaluations(store).items()}


def read_json(store: Store, key: str, *needed: str) -> dict[str, Any]:
    """One JSON object that holds the keys ``needed``.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        content = json.loads(store.get(key))
    except KeyError:
        raise InputError(f"{store.uri(key)} is missing; run the job that writes it again") from None
    except ValueError:
        content = None
    if not isinstance(content, dict) or not content or any(name not in content for name in needed):
        names = f" with {', '.join(needed)}" if needed else ""
        raise InputError(
            f"{store.uri(key)} is damaged: expected a JSON object{names}. Remove it and run that job again"
        )
    return content
