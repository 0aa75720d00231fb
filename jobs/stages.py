"""The stages of a pipeline: one class per job, which runs it, describes it, and names the data that it reads.

When a stage is complete: ``stage``. Which stages a pipeline has, and with which settings: ``plan``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from cluster import calibrating, scoring
from cluster.capacity import Need
from cluster.store import Store
from cluster.training import run as training
from hojoint.config import Config, changed, digest, to_tree
from hojoint.report.tables import NETWORKS
from jobs import calibrate, calibration_found, evaluate, pseudo_label, report, results, synthesize, train
from jobs.stage import Stage

UNREFINED = ("refine.max_turn_deg", "refine.fit_orientation_weight", "refine.fit_smooth_weight")
"""Settings without effect where no part of the refinement is on."""


class Synthesize(Stage):
    """Draws the synthetic world."""

    groups = ("synthetic",)

    def run(self, store: Store) -> None:
        synthesize.job(self.config, False)

    def restore(self) -> None:
        if not (Path(str(self.config.world)) / "world.json").is_file():
            synthesize.job(self.config, False)

    def planned(self) -> str:
        size = self.config.synthetic
        return (
            f"{size.train_sequences} x {size.train_frames} labelled frames, {size.wild_videos} videos, "
            f"{size.test_images} test images"
        )

    def result(self, store: Store) -> str:
        if not store.exists("world/world.json"):  # the world may lie elsewhere
            return ""
        world = results.read_json(store, "world/world.json", "labelled_frames", "videos", "test_images")
        return (
            f"{world['labelled_frames']} labelled frames (training and evaluation), {world['videos']} videos, "
            f"{world['test_images']} test images"
        )


class Training(Stage):
    """Trains one network; its name is that of its settings and of its folder."""

    groups: ClassVar[tuple[str, ...]] = ("seed", "model", "mano", "crop", "augment", "loss", "train")

    def run(self, store: Store) -> None:
        train.work(self.config, False)

    @property
    def from_stage(self) -> bool:
        """Whether it starts from the teacher's weights, which are another stage's result."""
        return any(name.rpartition("/")[2] == "train" for name in self.needs)

    def products(self) -> list[str]:
        return [f"{self.home}/checkpoint.pt", f"{self.home}/training.json"]

    def data(self) -> dict[str, str]:
        weights = dict(self.inputs.weights)
        if self.from_stage:
            weights.pop("train.init_checkpoint", None)
        return {**self.inputs.labelled, **self.inputs.hand, **weights}

    def known_data(self, store: Store) -> dict[str, str]:
        facts = results.training(self.home, store)
        if facts is None or not self.inputs.own:
            return {}
        return {name: digest for name, digest in facts.get("parents", {}).get("data", {}).items() if name != "pseudo"}

    def planned(self) -> str:
        train = self.config.train
        length = f"{train.steps} steps" if train.steps else f"{train.epochs} epochs"
        return f"{' + '.join(train.datasets)}, {length} of {train.batch_size}"

    def resources(self) -> list[Need]:
        return training.needs(self.config)

    def result(self, store: Store) -> str:
        facts = results.training(self.home, store)
        return "" if facts is None else f"{facts['steps']} steps on {facts['samples']} samples"

    def facts(self, store: Store) -> dict[str, Any]:
        facts = results.training(self.home, store)
        return {"steps": None if facts is None else facts["steps"]}


class SecondPhase(Training):
    """Trains the student: labelled images and pseudo-labels."""

    groups = (*Training.groups, "student")


class Matched(SecondPhase):
    """Trains for as many steps as the first student took: the control, students of later rounds, points of a study."""

    def run(self, store: Store) -> None:
        train.work(changed(self.config, train={"steps": first_steps(store)}), False)

    def planned(self) -> str:
        train = self.config.train
        return f"{' + '.join(train.datasets)}, as many steps of {train.batch_size} as the student"


def first_steps(store: Store) -> int:
    """Steps of the first student."""
    student = results.marker("retrain", store)
    assert student is not None
    return int(student["steps"])


class Calibrate(Stage):
    """Measures the labeller on the recordings that no network saw, for thresholds and the chance of being correct."""

    groups = ("mano", "crop", "tta", "filters", "labelling", "calibrate")
    cheap = True

    def run(self, store: Store) -> None:
        calibrate.job(self.config, False)

    def resources(self) -> list[Need]:
        return calibrating.needs(self.config)

    def settings(self) -> dict[str, Any]:
        return super().settings() | {"train.held_out": self.config.train.held_out}

    def products(self) -> list[str]:
        return [f"{self.home}/{calibrate.RESULT}", f"{self.home}/{calibrate.QUALITY}"]

    def version(self, store: Store) -> str:
        return digest(*(hashlib.sha256(store.get(key)).hexdigest() for key in self.products()))

    def data(self) -> dict[str, str]:
        return {**self.inputs.labelled, **self.inputs.hand}

    def planned(self) -> str:
        return (
            f"{self.config.train.held_out} recordings held out of training, for {self.config.calibrate.precision:.0%}"
        )

    def result(self, store: Store) -> str:
        return calibration_found.text(store, self.home, self.config)


@dataclass(frozen=True, eq=False)
class Labelling(Stage):
    """Makes a set of labels; what the videos' labels are judged by may come from calibration."""

    calibration_folder: str = ""  # folder of the calibration; '' where there is none
    calibrated: bool = True  # take its thresholds; otherwise only the chance of being correct

    def products(self) -> list[str]:
        return [f"{self.home}/run.json", f"{self.home}/report.json"]

    def settings(self) -> dict[str, Any]:
        own = super().settings()
        if not self.config.refine.active:  # as in the fingerprint of labels: how a part refines counts where one does
            own = {name: value for name, value in own.items() if name not in UNREFINED}
        if not self.calibration_folder:
            return own
        # Compared here too: labels that would be stale are refused before another calibration replaces theirs.
        measured = {f"calibrate.{name}": value for name, value in to_tree(self.config.calibrate).items()}
        return own | {"thresholds": self.calibrated} | measured

    def judged(self, store: Store) -> Config:
        """The settings with what calibration found."""
        if not self.calibration_folder:
            return self.config
        return calibration_found.applied(self.config, store, self.calibration_folder, thresholds=self.calibrated)

    def result(self, store: Store) -> str:
        if not store.exists(f"{self.home}/report.json"):
            return ""
        labels = results.read_json(store, f"{self.home}/report.json", "videos", "frames")
        videos, frames = labels["videos"], labels["frames"]
        return (
            f"{videos['listed']} videos ({videos['quarantined']} quarantined), "
            f"{frames['kept']} of {frames['predicted']} frames kept"
        )


class PseudoLabel(Labelling):
    """Labels the videos with the teacher."""

    groups = ("mano", "crop", "tta", "filters", "refine", "labelling")

    def run(self, store: Store) -> None:
        pseudo_label.job(self.judged(store), False)

    def data(self) -> dict[str, str]:
        return {**self.inputs.videos, **self.inputs.hand, **self.inputs.quality}

    def planned(self) -> str:
        size = self.config.synthetic
        videos = "videos" if self.inputs.own else f"about {size.wild_videos + size.broken_videos} videos"
        return f"{videos} in units of {self.config.labelling.unit_videos}, {self.config.tta.views} views a frame"

    def resources(self) -> list[Need]:
        size = self.config.cluster
        return [Need("Teacher actors", size.teachers[0], size.teacher_cpus, size.teacher_gpus)]


class Evaluate(Stage):
    """Measures all networks with the same actors."""

    groups = ("mano", "crop", "evaluate")
    cheap = True

    def run(self, store: Store) -> None:
        names = {*self.mine, *(config.name for config in self.configs)}
        for name in names:  # scores of another data set, or of a network no longer asked for
            evaluate.remove_files(store, name, home=self.home)
        evaluate.measure(self.configs)

    @property
    def home(self) -> str:
        return f"{self.prefix}evaluation"

    @property
    def mine(self) -> Collection[str]:
        """Networks that no other stage measures."""
        return NETWORKS if self.name == "evaluate" else ()

    def products(self) -> list[str]:
        return [f"{self.home}/{config.name}.json" for config in self.configs]

    def data(self) -> dict[str, str]:
        return {**self.inputs.measured, **self.inputs.hand}

    def planned(self) -> str:
        return ", ".join(config.name for config in self.configs)

    def resources(self) -> list[Need]:
        return scoring.needs(self.config)

    def result(self, store: Store) -> str:
        return ", ".join(config.name for config in self.configs if store.exists(f"{self.home}/{config.name}.json"))


class Report(Stage):
    """Writes the page."""

    groups = ("calibrate", "report")  # what a correct label is, and prices
    cheap = True

    def run(self, store: Store) -> None:
        report.job(self.config, False)

    def products(self) -> list[str]:
        return ["report.html", "report.json"]

    def planned(self) -> str:
        return ""

    def result(self, store: Store) -> str:
        return store.uri("report.html")
