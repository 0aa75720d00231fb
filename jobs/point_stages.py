"""The stages of a study's points: labels made from those of the pipeline, students of equal length, their measures."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from cluster.labelling import commits, oracles
from cluster.labelling.oracles import Truth
from cluster.session import Need
from cluster.sources import mirror
from cluster.store import Store, open_store
from hojoint.config import Config
from hojoint.evaluation import label_quality
from hojoint.evaluation.label_quality import LabelErrors
from hojoint.evaluation.oracle import Oracle
from hojoint.hand.factory import hand_layer
from hojoint.labelling import tables
from hojoint.synthetic import write
from jobs import evaluate, refilter, results
from jobs.stage import Stage
from jobs.stages import Evaluate, Labelling, Matched

MEASURED = "labels_quality.json"
NOTHING_KEPT = "nothing_kept.json"


class PointLabels(Labelling):
    """Judges the pipeline's predictions by other rules, or refines its labels in another way."""

    groups = ("filters", "refine")

    def run(self, store: Store) -> None:
        refilter.job(self.judged(store), False)

    def data(self) -> dict[str, str]:
        return self.inputs.quality

    def planned(self) -> str:
        rules = self.config.filters
        return "by quality" if rules.mode == "quality" else f"by {', '.join(rules.enabled) or 'no rule'}"

    def resources(self) -> list[Need]:
        return [Need("refilter actors", self.config.refilter.actors[0], self.config.cluster.teacher_cpus)]


@dataclass(frozen=True, eq=False)
class OracleLabels(Labelling):
    """Rewrites labels from the true poses."""

    groups = ("calibrate",)
    oracle: Oracle = "truth"

    def run(self, store: Store) -> None:
        oracles.tell(self.config, self.oracle, Truth.at(_truth_path(self.config)), right_when(self.config))

    def settings(self) -> dict[str, Any]:
        return super().settings() | {"oracle": self.oracle}

    def planned(self) -> str:
        return f"oracle '{self.oracle}' on {self.config.data.pseudo.labels}"


class PointStudent(Matched):
    """Trains as the first student; where no label is left to train on, it trains nothing and notes that."""

    def run(self, store: Store) -> None:
        labels = open_store(str(self.config.data.pseudo.labels))
        if results.read_json(labels, commits.REPORT)["frames"]["kept"] == 0:
            store.put(f"{self.home}/{NOTHING_KEPT}", b'{"kept": 0}')
            return
        super().run(store)

    def products(self) -> list[str]:
        return []  # a checkpoint, or the note that there is none

    def result(self, store: Store) -> str:
        return "no label is kept" if store.exists(f"{self.home}/{NOTHING_KEPT}") else super().result(store)


class PointScores(Evaluate):
    """Measures the networks of a point that exist."""

    def run(self, store: Store) -> None:
        trained = [config for config in self.configs if store.exists(f"{self.at}{config.name}/checkpoint.pt")]
        if trained:
            evaluate.measure(trained)

    def products(self) -> list[str]:
        return []  # none of a network that had nothing to train on


@dataclass(frozen=True, eq=False)
class MeasureLabels(Stage):
    """Compares labels with the truth, where it is known: what a student learned from, and the sides of all clips."""

    groups = ("mano", "calibrate")
    cheap = True
    labels: str = "labels"  # folder of the labels in the output

    def run(self, store: Store) -> None:
        labels = open_store(store.uri(self.labels))
        frames = results.read_json(labels, commits.REPORT)["frames"]
        measured = {"frames": {name: frames[name] for name in ("predicted", "kept")}}
        if not self.inputs.own:
            measured |= _against(Truth.at(_truth_path(self.config)).table, labels, self.config)
        store.put(f"{self.at}{MEASURED}", json.dumps(measured, indent=1).encode())

    def products(self) -> list[str]:
        return [f"{self.at}{MEASURED}"]

    def planned(self) -> str:
        return self.labels

    def result(self, store: Store) -> str:
        measured = results.read_json(store, f"{self.at}{MEASURED}")
        right = measured.get("labels", {}).get("precision")
        return f"{measured['frames']['kept']} kept" + ("" if right is None else f", {right:.0%} right")


def right_when(config: Config) -> label_quality.RightWhen:
    """What counts as a right label."""
    bounds = config.calibrate
    return label_quality.RightWhen(max_aligned_mm=bounds.max_aligned_mm, max_joints_2d=bounds.max_joints_2d)


def _truth_path(config: Config) -> str:
    return str(write.truth_path(Path(str(config.world))))


def _against(truth: pa.Table, labels: Store, config: Config) -> dict[str, Any]:
    """Labels that training reads, refined and filled ones too, and all clips' sides, against the truth."""
    layer = hand_layer(mirror.localised(config, "mano").mano)
    joints_of = functools.partial(label_quality.hand_joints, layer)
    filesystem, root = labels.filesystem()

    def errors_of(name: str) -> tuple[pa.Table, LabelErrors]:
        table = tables.read([f"{root}/{key}" for key in commits.committed_files(labels, name)], filesystem)
        return table, label_quality.errors_of_tables(table, truth, joints_of)

    table, errors = errors_of("pseudo_labels")
    measured = label_quality.group(errors, np.ones(len(table), bool), right_when(config))
    measured["side_right"] = _share(errors.side_right[errors.truth])
    return {"labels": measured, "clips": _clips(*errors_of("predictions"))}


def _clips(predictions: pa.Table, errors: LabelErrors) -> dict[str, Any]:
    """Of how many clips with a true hand the side is right: a clip has one side in all of its frames."""
    told = [errors.side_right[rows[errors.truth[rows]]] for rows in tables.clips_of(predictions)]
    seen = np.array([sides.mean() > 0.5 for sides in told if len(sides)], dtype=bool)
    return {"clips": len(seen), "side_right": _share(seen)}


def _share(flags: np.ndarray) -> float | None:
    return float(flags.mean()) if len(flags) else None
