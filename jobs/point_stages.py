"""The stages of a study's points: labels made from those of the pipeline, students of equal length, their measures."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cluster.capacity import Need
from cluster.labelling import commits, oracles
from cluster.labelling.oracles import Truth
from cluster.store import Store, open_store
from hojoint.config import Config
from hojoint.errors import InputError
from hojoint.evaluation.label_quality import CorrectWhen
from hojoint.evaluation.oracle import Oracle
from hojoint.synthetic import write
from jobs import evaluate, label_measures, refilter, results
from jobs.stage import Stage
from jobs.stages import Evaluate, Labelling, Matched

MEASURED = "labels_quality.json"
NOTHING_KEPT = "nothing_kept.json"


class PointLabels(Labelling):
    """Judges the pipeline's predictions by other rules, or refines its labels in another way."""

    groups = ("filters", "refine")

    def run(self, store: Store) -> None:
        try:
            settings = self.judged(store)
        except InputError as error:  # calibration proposes nothing: a result of this point, and no end of the study
            print(f"note: {error}")
            nothing = {"videos": {"listed": 0, "quarantined": 0}, "frames": {"predicted": 0, "kept": 0}}
            store.put(f"{self.home}/{commits.REPORT}", json.dumps(nothing).encode())
            return
        refilter.job(settings, False)

    def products(self) -> list[str]:
        return [f"{self.home}/{commits.REPORT}"]

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

    oracle: Oracle = "truth"

    def run(self, store: Store) -> None:
        truth = Truth.at(str(_truth_path(self.config)))
        oracles.rewrite(self.config, self.oracle, truth, CorrectWhen.of(self.config.calibrate))

    def settings(self) -> dict[str, Any]:
        when = asdict(CorrectWhen.of(self.config.calibrate))
        return (
            super().settings() | {f"calibrate.{name}": value for name, value in when.items()} | {"oracle": self.oracle}
        )

    def planned(self) -> str:
        return f"oracle '{self.oracle}' on {self.config.data.pseudo.labels}"


class PointStudent(Matched):
    """Trains as the first student; where no label is left to train on, it trains nothing and notes that."""

    def run(self, store: Store) -> None:
        labels = open_store(str(self.config.data.pseudo.labels))
        if results.read_json(labels, commits.REPORT, "frames")["frames"]["kept"] == 0:
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
        trained = [config for config in self.configs if store.exists(f"{self.prefix}{config.name}/checkpoint.pt")]
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
        truth = None if self.inputs.own else _truth_path(self.config)
        measured = label_measures.measured(open_store(store.uri(self.labels)), truth, self.config)
        store.put(f"{self.prefix}{MEASURED}", json.dumps(measured, indent=1).encode())

    def settings(self) -> dict[str, Any]:
        return super().settings() | {"train.pseudo_fraction": self.config.train.pseudo_fraction}

    def products(self) -> list[str]:
        return [f"{self.prefix}{MEASURED}"]

    def planned(self) -> str:
        return self.labels

    def result(self, store: Store) -> str:
        measured = results.read_json(store, f"{self.prefix}{MEASURED}", "frames")
        correct = measured.get("labels", {}).get("precision")
        return f"{measured['frames']['kept']} kept" + ("" if correct is None else f", {correct:.0%} correct")


def _truth_path(config: Config) -> Path:
    return write.truth_path(Path(str(config.world)))
