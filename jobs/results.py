"""What the jobs left under an output, read back: markers of stages, trained networks, labels, scores.

Used by the pipeline, the study, the report and the status. Nothing here runs or writes.
"""

from __future__ import annotations

import json
from typing import Any

from cluster.labelling import commits
from cluster.store import Store, open_store
from hojoint.config import Config, from_stored, renamed
from hojoint.errors import InputError
from hojoint.report.tables import NETWORKS

PIPELINE = "pipeline.json"  # the settings that a pipeline was called with
ORDER = ("synthesize", "train", "pseudo_label", "retrain", "control", "evaluate", "report")  # of stages, in reports
LABELS = "labels"  # where a pipeline has its labelling run


def labelling_run(store: Store) -> Store | None:
    """Where the labelling run of an output lies; a pipeline keeps it in a folder of its output."""
    if store.exists(f"{LABELS}/{commits.RUN}"):
        return open_store(store.uri(LABELS))
    return store if store.exists(commits.RUN) else None


def pipeline_settings(store: Store) -> Config | None:
    """What a pipeline was called with; None where no pipeline ran."""
    return from_stored(read_json(store, PIPELINE)) if store.exists(PIPELINE) else None


def marker(stage: str, store: Store) -> dict[str, Any] | None:
    """What the pipeline noted when a stage was done; None while it is not."""
    key = f"stages/{stage}.json"
    if not store.exists(key):
        return None
    content = read_json(store, key)
    return content | {"settings": renamed(content.get("settings", {}))}


def markers(store: Store) -> dict[str, dict[str, Any]]:
    """Stage -> its marker, in the order of ``ORDER``, and after them the stages that it does not name."""
    names = [key.removeprefix("stages/").removesuffix(".json") for key in store.list("stages") if key.endswith(".json")]
    ordered = sorted(names, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
    return {name: stage for name in ordered if (stage := marker(name, store)) is not None}


def training(network: str, store: Store) -> dict[str, Any] | None:
    """Steps, samples, history, parents and checksum of a trained network; None while it is not finished."""
    key = f"{network}/training.json"
    return read_json(store, key) if store.exists(key) else None


def evaluations(store: Store) -> dict[str, dict[str, Any]]:
    """Network -> what its evaluation wrote."""
    keys = {name: f"evaluation/{name}.json" for name in NETWORKS}
    return {name: read_json(store, key) for name, key in keys.items() if store.exists(key)}


def scores(store: Store) -> dict[str, Any]:
    """Network -> data set -> scores."""
    return {name: facts["domains"] for name, facts in evaluations(store).items()}


def read_json(store: Store, key: str) -> dict[str, Any]:
    """One JSON object.

    Raises:
        InputError: the file is damaged.
    """
    try:
        content = json.loads(store.get(key))
    except ValueError:
        content = None
    if not isinstance(content, dict) or not content:
        raise InputError(f"{store.uri(key)} is damaged: expected a JSON object. Remove it and run that job again")
    return content
