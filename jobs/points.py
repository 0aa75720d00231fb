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
            name = stage.at.rstrip("/").rpartition("/")[2]
            raise InputError(
                f"{what.format(name)}: {error}. Or leave its row out with study.points=[KEY,...]"
            ) from None


def labels_of(point: Point) -> str:
    """Folder of what is measured of a point's labels (``MeasureLabels``), with a slash at its end."""
    some = "pseudo_fraction" in point.changes.get("train", {})
    if point.relabelled or some or "model" in point.changes:
        return point.at or f"{BASE}/"
    return f"{BASE}{of_round(point.round_number)}/"


def _of_point(own: Shared, point: Point) -> list[Stage]:
    config = changed(own.config, **point.changes)
    if not point.at:
        return _base_labels(own, point)
    if "model" in point.changes:
        return _complete_chain(own, config, point)
    at, made, labelled, labels = point.at, [], "pseudo_label", "labels"
    if point.relabelled:
        made = _labels(own, config, point)
        labelled, labels = made[-1].name, f"{at}labels"
    made = [*made, _measure(own, labels_of(point), labels, labelled, config)]
    begun = ("train",) if config.student.from_teacher else ()
    settings = plan.trained_on(own, config, f"{own.out}/{labels}", name="student", at=at, begun_at="")
    student = PointStudent(f"{at}retrain", (settings,), (*own.drawn, *begun, labelled, "retrain"), own.inputs, at)
    return [*made, student, _scores(own, config, at, ["student"], [student.name])]


def _base_labels(own: Shared, point: Point) -> list[Stage]:
    """Only measures the pipeline's own labels, those that a row's network learned from."""
    if point.network in ("teacher", "control"):
        return []
    end = labels_of(point).removeprefix(BASE).rstrip("/")
    return [_measure(own, labels_of(point), f"labels{end}", f"pseudo_label{end}")]


def _complete_chain(own: Shared, config: Config, point: Point) -> list[Stage]:
    """Another teacher and all that follows from it."""
    at = point.at
    labels = plan.labels(own, config, at=at)
    student = plan.student_stage(own, config, at=at)
    student = PointStudent(student.name, student.configs, student.needs, student.inputs, at)
    trained = [f"{at}train", student.name]
    measured = _measure(own, at, f"{at}labels", labels[-1].name)
    return [
        plan.teacher(own, config, at=at),
        *labels,
        measured,
        student,
        _scores(own, config, at, ["teacher", "student"], trained),
    ]


def _labels(own: Shared, config: Config, point: Point) -> list[Stage]:
    """Labels made from the pipeline's by other rules or by an oracle, after what they are made from."""
    at = point.at
    if point.oracle is None:
        return [_refiltered(own, config, point)]
    source, made, before = "labels", "pseudo_label", []
    unfiltered = grids.placed(grids.unfiltered(), own.config, "filters")
    if point.unfiltered and unfiltered.at:
        before = [_refiltered(own, changed(own.config, **unfiltered.changes), unfiltered)]
        source, made = f"{unfiltered.at}labels", before[0].name
    pseudo = {"pseudo": {"labels": f"{own.out}/{source}"}}
    settings = changed(config, name="labels", output=f"{own.out}/{at}labels", data=pseudo)
    return [*before, OracleLabels(f"{at}oracle", (settings,), (*own.drawn, made), own.inputs, at, oracle=point.oracle)]


def _refiltered(own: Shared, config: Config, point: Point) -> Stage:
    at, pseudo = point.at, {"pseudo": {"labels": f"{own.out}/labels"}}
    # Without videos.root the pictures of newly kept frames come from where the labelling run read them.
    settings = changed(config, name="labels", output=f"{own.out}/{at}labels", data=pseudo, videos={"root": None})
    calibrated = config.calibrate.enabled
    needs = (*own.drawn, "pseudo_label", *(["calibrate"] if calibrated else []))
    calibration_at = "calibration" if calibrated else ""
    return PointLabels(
        f"{at}refilter", (settings,), needs, own.inputs, at, calibration_at=calibration_at, calibrated=point.calibrated
    )


def _measure(own: Shared, at: str, labels: str, labelled: str, config: Config | None = None) -> Stage:
    """``config``: of the network that learns from them, if not the pipeline's."""
    settings = changed(config or own.config, name="quality", output=f"{own.out}/{labels}")
    return MeasureLabels(f"{at}measure", (settings,), (*own.drawn, labelled), own.inputs, at, labels=labels)


def _scores(own: Shared, config: Config, at: str, networks: Sequence[str], trained: Sequence[str]) -> Stage:
    """Scores alone: the pictures of a report are not asked for at every point."""
    plain = changed(config, evaluate={"examples": 0, "write_predictions": False})
    measured = tuple(plan.evaluation(own, plain, network, at=at) for network in networks)
    return PointScores(f"{at}evaluate", measured, (*own.drawn, *trained), own.inputs, at)
