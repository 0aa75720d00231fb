"""From one Config to the stages of a pipeline, each with the settings that it runs with. Nothing here runs.

Every stage is another job, called with another output and other inputs. Stages come in chains: a teacher, its
calibration, its labels, a student. A study adds chains beside the pipeline's own (``points``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from hojoint.config import Config, changed, to_tree
from hojoint.synthetic import write
from jobs import contradictions
from jobs.inputs import Inputs, world_of
from jobs.own_data import has_own_data, labelled_sets
from jobs.results import of_round, student
from jobs.stage import Stage
from jobs.stages import Calibrate, Evaluate, Matched, PseudoLabel, Report, SecondPhase, Synthesize, Training


@dataclass(frozen=True, eq=False)
class Shared:
    """What all chains of one output share."""

    config: Config  # the user's, in which every data path is set
    labelled: tuple[str, ...]  # sets
    drawn: tuple[str, ...]  # the stage that draws the world, if one does
    inputs: Inputs

    @property
    def out(self) -> str:
        return str(self.config.output).rstrip("/")

    @property
    def alone(self) -> dict[str, Any]:
        """``train`` of a network without pseudo-labels, whose share is the student's alone."""
        return {"datasets": self.labelled, "pseudo_share": None}


def shared(config: Config) -> Shared:
    """What the chains of ``config.output`` share.

    Raises:
        InputError: some data are given and others are missing, or settings contradict each other.
    """
    assert config.output is not None
    contradictions.refuse(config)
    given = has_own_data(config)
    base = config if given else write.with_world(changed(config, world=str(world_of(config))))
    labelled = labelled_sets(config)
    teacher = changed(base, train={"datasets": labelled, "pseudo_share": None})
    inputs = Inputs(config, teacher)
    contradictions.refuse_unjudgeable(config, inputs)
    return Shared(base, labelled, () if given else ("synthesize",), inputs)


def stages(config: Config) -> list[Stage]:
    """All stages in order.

    Raises:
        InputError: as ``shared``.
    """
    own = shared(config)
    base, drawn = own.config, own.drawn
    world = changed(base, output=base.world, synthetic={"seed": write.seed_of(config)})
    begun = ("train",) if config.student.from_teacher else ()
    round_numbers = range(1, config.student.rounds + 1)
    first = [teacher(own, base), *labels(own, base), student_stage(own, base)]
    control = Matched("control", (_control(own, base),), (*drawn, *begun, "retrain"), own.inputs)
    later = [
        stage
        for round_number in round_numbers[1:]
        for stage in (
            *labels(own, base, round_number=round_number),
            student_stage(own, base, round_number=round_number),
        )
    ]
    networks = ["train", "retrain", *(["control"] if config.control else [])]
    by_name = {stage.name: stage for stage in (*first, control)}
    measured = tuple(evaluation(own, base, by_name[name].config.name) for name in networks)
    scores: list[Stage] = [Evaluate("evaluate", measured, (*drawn, *networks), own.inputs)]
    scores += [
        Evaluate(
            f"evaluate{of_round(round_number)}",
            (evaluation(own, base, student(round_number)),),
            (*drawn, f"retrain{of_round(round_number)}"),
            own.inputs,
        )
        for round_number in round_numbers[1:]
    ]
    labelled = [f"pseudo_label{of_round(round_number)}" for round_number in round_numbers]
    return [
        *([Synthesize("synthesize", (world,), (), own.inputs)] if drawn else []),
        *first,
        *([control] if config.control else []),
        *later,
        *scores,
        Report("report", (base,), (*labelled, *(stage.name for stage in scores)), own.inputs),
    ]


def teacher(own: Shared, config: Config, *, prefix: str = "") -> Training:
    """The first phase; ``prefix``: the folder of its chain, with a slash at its end."""
    made = changed(config, name="teacher", output=f"{own.out}/{prefix}teacher", train=own.alone)
    return Training(f"{prefix}train", (made,), own.drawn, own.inputs, prefix)


def labels(own: Shared, config: Config, *, prefix: str = "", round_number: int = 1) -> list[Stage]:
    """The calibration of a round's labeller, where asked for, and its labels."""
    end = of_round(round_number)
    labeller, trained = (
        ("teacher", f"{prefix}train")
        if round_number == 1
        else (student(round_number - 1), f"{prefix}retrain{of_round(round_number - 1)}")
    )
    made_by = {"teacher": {"checkpoint": f"{own.out}/{prefix}{labeller}/checkpoint.pt"}}
    out: list[Stage] = []
    needs, calibration_folder = (*own.drawn, trained), ""
    if config.calibrate.enabled:
        calibration_folder = f"{prefix}calibration{end}"
        judged = {"split": "held_out", "predictions": None, "truth": None}
        measured = changed(
            config, name=f"calibration{end}", output=f"{own.out}/{calibration_folder}", calibrate=judged, **made_by
        )
        out.append(Calibrate(f"{prefix}calibrate{end}", (measured,), needs, own.inputs, prefix))
        needs = (*needs, f"{prefix}calibrate{end}")
    made = changed(config, name=f"labels{end}", output=f"{own.out}/{prefix}labels{end}", **made_by)
    return [
        *out,
        PseudoLabel(
            f"{prefix}pseudo_label{end}", (made,), needs, own.inputs, prefix, calibration_folder=calibration_folder
        ),
    ]


def student_stage(own: Shared, config: Config, *, prefix: str = "", round_number: int = 1) -> SecondPhase:
    """The student of a round. All but the first of the pipeline take that one's steps."""
    end = of_round(round_number)
    begun = (f"{prefix}train",) if config.student.from_teacher else ()
    first = not prefix and round_number == 1
    made = trained_on(own, config, f"{own.out}/{prefix}labels{end}", name=student(round_number), prefix=prefix)
    needs = (*own.drawn, *begun, f"{prefix}pseudo_label{end}", *(() if first else ("retrain",)))
    return (SecondPhase if first else Matched)(f"{prefix}retrain{end}", (made,), needs, own.inputs, prefix)


def trained_on(
    own: Shared, config: Config, labels_at: str, *, name: str, prefix: str, begun_prefix: str | None = None
) -> Config:
    """The settings of a student; ``begun_prefix``: the folder of the teacher it may start from, if not ``prefix``."""
    weights = f"{own.out}/{prefix if begun_prefix is None else begun_prefix}teacher/checkpoint.pt"
    train = {**_second_phase(config, weights), "datasets": (*own.labelled, "pseudo")}
    pseudo = {"pseudo": {"labels": labels_at}}
    made = changed(config, name=name, output=f"{own.out}/{prefix}{name}", data=pseudo, train=train)
    return made if (prefix == "" and name == "student") else changed(made, train={"steps": None})


def _control(own: Shared, config: Config) -> Config:
    """The control's steps are the student's, which are known only when that is trained."""
    second = _second_phase(config, f"{own.out}/teacher/checkpoint.pt")
    train = {**second, **own.alone, "steps": None}
    pseudo = {"pseudo": {"labels": f"{own.out}/labels"}}
    return changed(config, name="control", output=f"{own.out}/control", train=train, data=pseudo)


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
    """What ``student`` changes in ``train``. Its length is fixed, so that all students and the control have one."""
    train, student = config.train, config.student
    epochs = student.epochs or train.epochs
    every = train.lr_decay_every_epochs * epochs / train.epochs
    if train.plateau_epochs is not None:  # the first phase decays so often, however many epochs it takes
        every = math.ceil(epochs / (train.plateau_decays + 1))
    changes: dict[str, Any] = {
        "epochs": epochs,
        "learning_rate": student.learning_rate or train.learning_rate,
        "lr_decay_every_epochs": max(1, round(every)),
        "plateau_epochs": None,
    }
    if student.augment is not None:
        changes["pseudo_augment"] = to_tree(student.augment)
    return changes | ({"init_checkpoint": teacher} if student.from_teacher else {})


def evaluation(own: Shared, config: Config, network: str, *, prefix: str = "") -> Config:
    """The settings by which a network of a chain is measured."""
    checkpoint = {"checkpoint": f"{own.out}/{prefix}{network}/checkpoint.pt"}
    return changed(config, name=network, output=f"{own.out}/{prefix}evaluation", evaluate=checkpoint)
