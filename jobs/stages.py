"""The stages of a pipeline and the settings that each of them runs with, derived from one Config.

Every stage is another job called with another output and other inputs; nothing here runs. Which settings a stage's
result depends on is said here too, so that a finished stage is not mistaken for one with other settings.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.labelling.units import LABELLING
from cluster.training.run import NOT_RESULT
from hojoint import config as settings
from hojoint.config import Config, LabellingConfig, changed
from hojoint.errors import InputError
from hojoint.synthetic import write

TRAINING = ("seed", "model", "mano", "crop", "augment", "loss", "train")
RESULT: dict[str, tuple[str, ...]] = {
    "synthesize": ("synthetic",),
    "train": TRAINING,
    "pseudo_label": ("mano", "crop", "tta", "filters", "labelling"),
    "retrain": (*TRAINING, "student"),
    "control": (*TRAINING, "student"),
    "evaluate": ("mano", "crop", "evaluate"),
    "report": (),
}
"""Stage -> the groups of settings its result depends on (places and resources are not among them)."""
HOW = {
    "train": NOT_RESULT,
    "labelling": set(LabellingConfig.model_fields) - {*LABELLING, "limit"},
    "evaluate": {"checkpoint", "actors"},
}
"""Settings in those groups that say how a stage works and not what comes out."""
NETWORK = {"train": "teacher", "retrain": "student", "control": "control"}
"""Stage -> the network it trains, which also names its folder."""


@dataclass(frozen=True)
class Stage:
    """One job of the pipeline, called once with each of ``configs``."""

    name: str
    module: str  # jobs.<module>
    configs: tuple[Config, ...]
    needs: tuple[str, ...]  # stages whose results it reads
    cheap: bool = False  # done again when its settings or inputs change, rather than refused

    def settings(self) -> dict[str, Any]:
        """What its result depends on, flat: dotted name -> value."""
        out: dict[str, Any] = {"runs": [config.name for config in self.configs]}
        tree = settings.to_tree(self.configs[0])
        for group in RESULT[self.name]:
            _flatten(tree[group], group, out)
            for name in HOW.get(group, ()):
                del out[f"{group}.{name}"]
        if "train" in self.needs:  # the weights to start from are that stage's, wherever they lie
            out.pop("train.init_checkpoint", None)
        return out


def world_of(config: Config) -> Path:
    """Where the synthetic world lies: on this machine, for decoders and readers need files.

    Beside the run when that is local; else in the folder for temporary files, under a name that its contents give it.
    """
    if config.world is not None:
        return Path(config.world)
    assert config.output is not None
    if "://" not in config.output:
        return Path(config.output) / "world"
    return Path(tempfile.gettempdir()) / f"hojoint-world-{write.digest_of(config)}"


def has_own_data(config: Config) -> bool:
    """Labelled images and videos are given, so no world is drawn.

    Raises:
        InputError: some are given and some are not: synthetic ones beside real ones would teach nothing of either.
    """
    sets = [name for name in config.train.datasets if name != "pseudo"] or ["ho3d"]
    needed = {f"data.{name}.root": getattr(config.data, name).root for name in sets}
    needed |= {"videos.root": config.videos.root, "videos.boxes": config.videos.boxes}
    missing = [name for name, value in needed.items() if value is None]
    given = [name for name in needed if name not in missing]
    if given and missing:
        raise InputError(
            f"{' and '.join(given)} given without {' and '.join(missing)}: a pipeline takes labelled images and videos "
            f"of yours together. Give {' '.join(f'{name}=...' for name in missing)} too, or none of them for the "
            "synthetic world"
        )
    return not missing


def stages(config: Config, control_steps: int | None = None) -> list[Stage]:
    """All stages in order. ``control_steps``: how many the student took, once it is known."""
    assert config.output is not None
    out = config.output.rstrip("/")
    base = config if has_own_data(config) else write.with_world(changed(config, world=str(world_of(config))))
    base = changed(base, data={"pseudo": {"labels": f"{out}/labels"}})
    world = changed(base, output=base.world, synthetic={"seed": write.seed_of(config)})
    labelled = tuple(name for name in config.train.datasets if name != "pseudo") or ("ho3d",)
    alone = {"datasets": labelled, "pseudo_share": None}  # the share is the student's: these see no pseudo-labels
    teacher = changed(base, name="teacher", output=f"{out}/teacher", train=alone)
    labels = changed(
        base, name="labels", output=f"{out}/labels", teacher={"checkpoint": f"{out}/teacher/checkpoint.pt"}
    )
    second = _second_phase(config, f"{out}/teacher/checkpoint.pt")
    student = changed(
        base, name="student", output=f"{out}/student", train={**second, "datasets": (*labelled, "pseudo")}
    )
    control = changed(base, name="control", output=f"{out}/control", train={**second, **alone, "steps": control_steps})
    drawn = () if has_own_data(config) else ("synthesize",)
    begun = ("train",) if config.student.from_teacher else ()
    found = [
        Stage("synthesize", "synthesize", (world,), ()),
        Stage("train", "train", (teacher,), drawn),
        Stage("pseudo_label", "pseudo_label", (labels,), (*drawn, "train")),
        Stage("retrain", "retrain", (student,), (*drawn, *begun, "pseudo_label")),
        Stage("control", "train", (control,), (*drawn, *begun, "retrain")),
    ]
    found = found if drawn else found[1:]
    found = found if config.control else [stage for stage in found if stage.name != "control"]
    trained = [stage.name for stage in found if stage.name in NETWORK]
    judged = tuple(_evaluation(base, NETWORK[stage]) for stage in trained)
    return [
        *found,
        Stage("evaluate", "evaluate", judged, (*drawn, *trained), cheap=True),
        Stage("report", "report", (base,), ("pseudo_label", "evaluate"), cheap=True),
    ]


def _second_phase(config: Config, teacher: str) -> dict[str, Any]:
    """What ``student`` changes in ``train``."""
    train, student = config.train, config.student
    epochs = student.epochs or train.epochs
    changes = {
        "epochs": epochs,
        "learning_rate": student.learning_rate or train.learning_rate,
        "lr_decay_every_epochs": max(1, round(train.lr_decay_every_epochs * epochs / train.epochs)),
    }
    return changes | ({"init_checkpoint": teacher} if student.from_teacher else {})


def _evaluation(base: Config, network: str) -> Config:
    out = str(base.output).rstrip("/")
    checkpoint = {"checkpoint": f"{out}/{network}/checkpoint.pt"}
    return changed(base, name=network, output=f"{out}/evaluation", evaluate=checkpoint)


def _flatten(value: Any, prefix: str, out: dict[str, Any]) -> None:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _flatten(inner, f"{prefix}.{key}", out)
    else:
        out[prefix] = value
