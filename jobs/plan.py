"""From one Config to the stages of a pipeline, each with the settings that it runs with. Nothing here runs.

Every stage is another job, called with another output and other inputs.
"""

from __future__ import annotations

from typing import Any

from hojoint.config import Config, changed
from hojoint.errors import InputError
from hojoint.synthetic import write
from jobs.inputs import Inputs, has_own_data, labelled_sets, world_of
from jobs.stage import Stage
from jobs.stages import Control, Evaluate, PseudoLabel, Report, SecondPhase, Synthesize, Training


def stages(config: Config) -> list[Stage]:
    """All stages in order.

    Raises:
        InputError: some data are given and others are missing.
    """
    assert config.output is not None
    out, given = config.output.rstrip("/"), has_own_data(config)
    base = config if given else write.with_world(changed(config, world=str(world_of(config))))
    base = changed(base, data={"pseudo": {"labels": f"{out}/labels"}})
    labelled, weights = labelled_sets(config), f"{out}/teacher/checkpoint.pt"
    alone = {"datasets": labelled, "pseudo_share": None}  # the share is the student's: these see no pseudo-labels
    second = _second_phase(config, weights)
    world = changed(base, output=base.world, synthetic={"seed": write.seed_of(config)})
    teacher = changed(base, name="teacher", output=f"{out}/teacher", train=alone)
    labels = changed(base, name="labels", output=f"{out}/labels", teacher={"checkpoint": weights})
    student = changed(
        base, name="student", output=f"{out}/student", train={**second, "datasets": (*labelled, "pseudo")}
    )
    # The control's steps are the student's, which are known only when that is trained.
    control = changed(base, name="control", output=f"{out}/control", train={**second, **alone, "steps": None})
    inputs = Inputs(config, teacher)
    drawn = () if given else ("synthesize",)
    begun = ("train",) if config.student.from_teacher else ()
    networks = [
        Training("train", (teacher,), drawn, inputs),
        SecondPhase("retrain", (student,), (*drawn, *begun, "pseudo_label"), inputs),
        *([Control("control", (control,), (*drawn, *begun, "retrain"), inputs)] if config.control else []),
    ]
    measured = tuple(_evaluation(base, stage.config.name) for stage in networks)
    return [
        *([] if given else [Synthesize("synthesize", (world,), (), inputs)]),
        networks[0],
        PseudoLabel("pseudo_label", (labels,), (*drawn, "train"), inputs),
        *networks[1:],
        Evaluate("evaluate", measured, (*drawn, *(stage.name for stage in networks)), inputs),
        Report("report", (base,), ("pseudo_label", "evaluate"), inputs),
    ]


def refuse_replaced(config: Config) -> None:
    """InputError for a setting that a pipeline sets itself: a value from the user would have no effect."""
    given = {
        "teacher.checkpoint": config.teacher.checkpoint,
        "evaluate.checkpoint": config.evaluate.checkpoint,
        "data.pseudo.labels": config.data.pseudo.labels,
    }
    for name, value in given.items():
        if value is not None:
            raise InputError(
                f"{name}={value}: a pipeline trains its teacher, labels and measures under its output, and would not "
                f"use it. Leave {name} out, or run jobs.pseudo_label, jobs.retrain and jobs.evaluate one by one"
            )


def length_note(config: Config) -> str | None:
    """A note where ``train.steps`` takes the place of epochs. It is no error: the shipped files give epochs."""
    train, student = config.train, config.student
    if train.steps is None:
        return None
    epochs = "" if student.epochs is None else f" student.epochs={student.epochs} has no effect, and"
    return (
        f"train.steps={train.steps} sets the length of training, of the teacher and of the student:{epochs} "
        f"train.epochs={train.epochs} only sets how often the learning rate decays"
    )


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
