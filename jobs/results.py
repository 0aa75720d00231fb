"""What the jobs left under an output, read back: stages' notes, trained networks, labels, scores.

Used by the pipeline (what is whole), the study (what the seeds say) and the report. Nothing here runs or writes.
"""

from __future__ import annotations

import json
from typing import Any

from cluster.labelling import commits
from cluster.store import Store, open_store
from hojoint.config import Config, from_stored, renamed
from hojoint.report.tables import NETWORKS
from jobs.stages import NETWORK

PIPELINE = "pipeline.json"  # the settings that a pipeline was called with
LABELS = "labels"  # where a pipeline has its labelling run


def labelling_run(store: Store) -> Store | None:
    """Where the labelling run of an output lies: a pipeline's has a folder of its own."""
    if store.exists(f"{LABELS}/{commits.RUN}"):
        return open_store(store.uri(LABELS))
    return store if store.exists(commits.RUN) else None


def pipeline_settings(store: Store) -> Config | None:
    """What a pipeline was called with; nothing where no pipeline was."""
    return from_stored(read_json(store, PIPELINE)) if store.exists(PIPELINE) else None


def marker(stage: str, store: Store) -> dict[str, Any] | None:
    """What the pipeline noted when a stage was done; nothing while it is not."""
    key = f"stages/{stage}.json"
    if not store.exists(key):
        return None
    done = read_json(store, key)
    return done | {"settings": renamed(done.get("settings", {}))}


def training(network: str, store: Store) -> dict[str, Any] | None:
    """Steps, samples, history and checksum of a trained network; nothing while it is not finished."""
    key = f"{network}/training.json"
    return read_json(store, key) if store.exists(key) else None


def evaluations(store: Store) -> dict[str, dict[str, Any]]:
    """Network -> what its evaluation wrote."""
    keys = {name: f"evaluation/{name}.json" for name in NETWORKS}
    return {name: read_json(store, key) for name, key in keys.items() if store.exists(key)}


def scores(store: Store) -> dict[str, Any]:
    """Network -> data set -> scores."""
    return {name: facts["domains"] for name, facts in evaluations(store).items()}


def describe(stage: str, store: Store) -> str:
    """What a stage made, in a few words."""
    if stage in NETWORK:
        facts = training(NETWORK[stage], store)
        return "" if facts is None else f"{facts['steps']} steps on {facts['samples']} samples"
    if stage == "synthesize" and store.exists("world/world.json"):  # it may lie elsewhere
        world = read_json(store, "world/world.json")
        return (
            f"{world['labelled_frames']} labelled frames, {world['videos']} videos, {world['test_images']} test images"
        )
    if stage == "pseudo_label" and store.exists("labels/report.json"):
        labels = read_json(store, "labels/report.json")
        videos, frames = labels["videos"], labels["frames"]
        return (
            f"{videos['listed']} videos ({videos['quarantined']} quarantined), "
            f"{frames['kept']} of {frames['predicted']} frames kept"
        )
    if stage == "evaluate":
        return ", ".join(evaluations(store))
    return store.uri("report.html") if stage == "report" else ""


def read_json(store: Store, key: str) -> dict[str, Any]:
    """One JSON object."""
    content: dict[str, Any] = json.loads(store.get(key))
    return content
