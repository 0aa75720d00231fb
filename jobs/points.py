"""From the points of a study to stages, which run beside those of the pipeline that the points share.

Points that share a folder share its stages. Which points there are: ``grids``; what each stage does: ``point_stages``.
"""

from __future__ import annotations

from collections.abc import Sequence

from cluster.training.job import refuse_idle
from hojoint.config import Config, changed
from hojoint.errors import InputError
from jobs import contradictions, grids, plan
from jobs.grids import Point
from jobs.plan import Shared
from jobs.point_stages import MeasureLabels, OracleLabels, PointLabels, PointScores, PointStudent
from jobs.results import of_round
from jobs.stage import Stage

BASE = "points/base"  # folder of what a study measures of the pipeline's own labels


def stages(config: Config, points: Sequence[Point]) -> list[Stage]:
    """The stages of all points that the pipeline of ``config`` does not have itself, in order."""
    own = plan.shared(config)
    made: dict[str, Stage] = {}
    for point in points:
        for stage in _of_point(own, point):
            made.setdefault(stage.name, stage)
    return list(made.values())


def refuse_impossible(made: Sequence[Stage]) -> None:
    """InputError for a point whose rules or quality model could not judge labels, or whose student would not learn.

    Args:
        made: what ``stages`` returns; nothing of it has run.
    """
    for stage in made:
        try:
            if isinstance(stage, PointLabels):
                what = "the labels of the study's point {} could not be judged"
                contradictions.refuse_unjudgeable(stage.config, stage.inputs)
            elif isinstance(stage, PointStudent):
                what = "the student of the study's point {} could not be trained"
                refuse_idle(stage.config)
        except InputError as error:
            name = stage.prefix.rstrip("/").rpartition("/")[2]
            raise InputError(
                f"{what.format(name)}: {error}. Or leave its row out with study.points=[KEY,...]"
            ) from None


def labels_of(point: Point) -> str:
    """Folder of what is measured of a point's labels (``MeasureLabels``), with a slash at its end."""
    some = "pseudo_fraction" in point.changes.get("train", {})
    if point.relabelled or some or "model" in point.changes:
        return point.prefix or f"{BASE}/"
    return f"{BASE}{of_round(point.round_number)}/"


def _of_point(own: Shared, point: Point) -> list[Stage]:
    config = changed(own.config, **point.changes)
    if not point.prefix:
        return _base_labels(own, point)
    if "model" in point.changes:
        return _complete_chain(own, config, point)
    prefix, made, labelled, labels = point.prefix, [], "pseudo_label", "labels"
    if point.relabelled:
        made = _labels(own, config, point)
        labelled, labels = made[-1].name, f"{prefix}labels"
    made = [*made, _measure(own, labels_of(point), labels, labelled, config)]
    begun = ("train",) if config.student.from_teacher else ()
    settings = plan.trained_on(own, config, f"{own.out}/{labels}", name="student", prefix=prefix, begun_prefix="")
    student = PointStudent(
        f"{prefix}retrain", (settings,), (*own.drawn, *begun, labelled, "retrain"), own.inputs, prefix
    )
    return [*made, student, _scores(own, config, prefix, ["student"], [student.name])]


def _base_labels(own: Shared, point: Point) -> list[Stage]:
    """Only measures the pipeline's own labels, those that a row's network learned from."""
    if point.network in ("teacher", "control"):
        return []
    end = labels_of(point).removeprefix(BASE).rstrip("/")
    return [_measure(own, labels_of(point), f"labels{end}", f"pseudo_label{end}")]


def _complete_chain(own: Shared, config: Config, point: Point) -> list[Stage]:
    """Another teacher and all that follows from it."""
    prefix = point.prefix
    labels = plan.labels(own, config, prefix=prefix)
    student = plan.student_stage(own, config, prefix=prefix)
    student = PointStudent(student.name, student.configs, student.needs, student.inputs, prefix)
    trained = [f"{prefix}train", student.name]
    measured = _measure(own, prefix, f"{prefix}labels", labels[-1].name)
    return [
        plan.teacher(own, config, prefix=prefix),
        *labels,
        measured,
        student,
        _scores(own, config, prefix, ["teacher", "student"], trained),
    ]


def _labels(own: Shared, config: Config, point: Point) -> list[Stage]:
    """Labels made from the pipeline's by other rules or by an oracle, after what they are made from."""
    prefix = point.prefix
    if point.oracle is None:
        return [_refiltered(own, config, point)]
    source, made, before = "labels", "pseudo_label", []
    unfiltered = grids.placed(grids.unfiltered(), own.config, "filters")
    if point.unfiltered and unfiltered.prefix:
        before = [_refiltered(own, changed(own.config, **unfiltered.changes), unfiltered)]
        source, made = f"{unfiltered.prefix}labels", before[0].name
    pseudo = {"pseudo": {"labels": f"{own.out}/{source}"}}
    settings = changed(config, name="labels", output=f"{own.out}/{prefix}labels", data=pseudo)
    return [
        *before,
        OracleLabels(f"{prefix}oracle", (settings,), (*own.drawn, made), own.inputs, prefix, oracle=point.oracle),
    ]


def _refiltered(own: Shared, config: Config, point: Point) -> Stage:
    prefix, pseudo = point.prefix, {"pseudo": {"labels": f"{own.out}/labels"}}
    # Without videos.root the pictures of newly kept frames come from where the labelling run read them.
    settings = changed(config, name="labels", output=f"{own.out}/{prefix}labels", data=pseudo, videos={"root": None})
    calibrated = config.calibrate.enabled
    needs = (*own.drawn, "pseudo_label", *(["calibrate"] if calibrated else []))
    calibration_folder = "calibration" if calibrated else ""
    return PointLabels(
        f"{prefix}refilter",
        (settings,),
        needs,
        own.inputs,
        prefix,
        calibration_folder=calibration_folder,
        calibrated=point.calibrated,
    )


def _measure(own: Shared, prefix: str, labels: str, labelled: str, config: Config | None = None) -> Stage:
    """``config``: of the network that learns from them, if not the pipeline's."""
    settings = changed(config or own.config, name="quality", output=f"{own.out}/{labels}")
    return MeasureLabels(f"{prefix}measure", (settings,), (*own.drawn, labelled), own.inputs, prefix, labels=labels)


def _scores(own: Shared, config: Config, prefix: str, networks: Sequence[str], trained: Sequence[str]) -> Stage:
    """Scores alone: the pictures of a report are not asked for at every point."""
    plain = changed(config, evaluate={"examples": 0, "write_predictions": False})
    measured = tuple(plan.evaluation(own, plain, network, prefix=prefix) for network in networks)
    return PointScores(f"{prefix}evaluate", measured, (*own.drawn, *trained), own.inputs, prefix)
