"""Which points a study compares: one grid per table or figure of the paper, and five of our own (``study.grid``).

A point is a network of a chain that differs from the pipeline's own in a few settings, or in an oracle. Pure: nothing
here knows stages or files. From points to stages: ``points``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hojoint.config import PAPER_RULES, THRESHOLDS, Config, FilterConfig, LossConfig, RefineConfig, changed, to_tree
from hojoint.errors import InputError
from hojoint.evaluation.oracle import Oracle
from hojoint.labelling import reasons
from jobs.results import student

Grid = Literal["filters", "reasoning", "fraction", "rounds", "labels", "share", "refine", "terms"]
TITLES: Mapping[Grid, str] = {
    "filters": "Rules (Tables 4, 8)",
    "reasoning": "Contextual reasoning (Tables 2, 3)",
    "fraction": "Share of the pseudo-labels (Fig. 9)",
    "rounds": "Rounds of self-training",
    "labels": "What better labels would be worth",
    "share": "Share of a batch that is pseudo-labelled",
    "refine": "Refinement of the labels",
    "terms": "Terms of the loss that pseudo-labels take part in",
}
FRACTIONS = (0.2, 0.4, 0.6, 0.8, 1.0)
SHARES = (0.25, 0.5, 0.75, 1.0)
REASONING: Mapping[str, str] = {"none": "none", "h+": "h", "o+": "o", "h+o+": "ho"}
"""Contextual reasoning -> its name in folders."""
ROUNDS = 3  # of a study of rounds that does not set student.rounds
PARTS: Mapping[str, Mapping[str, Any]] = {
    "one_shape": {"one_shape": True},
    "smooth": {"smooth_frames": 3},
    "fill": {"fill_frames": 3},
    "fit": {"fit_steps": 10},
}
"""Part of the refinement -> what turns it on, where the settings do not."""
TERMS: Mapping[str, tuple[str, Mapping[str, float]]] = {
    "all": ("all, as the paper", {}),
    "2d": ("2D joints alone", {"pseudo_3d": 0.0}),
    "3d": ("pose and shape alone", {"pseudo_2d": 0.0}),
    "weak_3d": ("2D joints, pose and shape at 0.3", {"pseudo_3d": 0.3}),
    "no_root": ("all but the global orientation", {"pseudo_root": 0.0}),
    "by_quality": ("all, weighted by quality", {"quality_power": 1.0}),
}
"""Point -> its title, and the weights of pseudo-labels that differ from the paper's."""
PRINTED = tuple(THRESHOLDS[rule] for rule in PAPER_RULES)


@dataclass(frozen=True)
class Point:
    """One row of a grid's table."""

    key: str  # its name in the grid, as in study.json
    title: str
    network: str = "student"
    changes: Mapping[str, Any] = field(default_factory=dict)  # of the pipeline's settings, as for ``changed``
    calibrated: bool = True  # its rules take the calibration's thresholds, where there are any
    oracle: Oracle | None = None
    unfiltered: bool = False  # the oracle rewrites every predicted frame instead of the kept ones
    round_number: int = 1  # round of self-training whose labels its network learned from
    folder: str = ""  # name of its folder in the grid's, which points may share; '' for its key
    prefix: str = ""  # folder of its chain, with a slash at its end; '' for the pipeline's own

    @property
    def relabelled(self) -> bool:
        """Whether it has labels of its own, made from the pipeline's."""
        return self.oracle is not None or bool({"filters", "refine"} & set(self.changes)) or not self.calibrated


def pipeline_of(config: Config, grid: Grid | None) -> Config:
    """The settings of the pipeline that a grid's points share.

    Raises:
        InputError: the settings leave nothing to compare.
    """
    if grid == "rounds" and config.student.rounds == 1:
        return changed(config, student={"rounds": ROUNDS})
    return config


def points(config: Config, grid: Grid) -> list[Point]:
    """The rows of a grid, those of ``study.points`` where it is given; ``config`` as ``pipeline_of`` returns it.

    Raises:
        InputError: a part of the grid contradicts the settings, or ``study.points`` names a row that it does not have.
    """
    made = {
        "filters": _filters, "reasoning": _reasoning, "fraction": _fraction, "rounds": _rounds, "labels": _labels,
        "share": _share, "refine": _refine, "terms": _terms,
    }[grid](config)  # fmt: skip
    wanted = config.study.points if grid == config.study.grid else None
    if wanted is not None:
        keys = [point.key for point in made]
        if unknown := [key for key in wanted if key not in keys]:
            raise InputError(
                f"study.points: the grid {grid} has no row {unknown[0]!r} with these settings; it has {', '.join(keys)}"
            )
        made = [point for point in made if point.key in wanted]
    return [placed(point, config, grid) for point in made]


def placed(point: Point, config: Config, grid: Grid) -> Point:
    """The point with its folder in a grid; one that differs in nothing has the pipeline's own networks."""
    free = config.filters.mode == "thresholds" and config.calibrate.enabled
    same = changed(config, **point.changes) == config and (point.calibrated or not free) and point.oracle is None
    prefix = "" if same else f"points/{grid}-{point.folder or point.key}/"
    return Point(**{**vars(point), "prefix": prefix})


def _filters(config: Config) -> list[Point]:
    printed = {name: FilterConfig.model_fields[name].default for name in PRINTED}
    printed |= {"mode": "thresholds", "enabled": PAPER_RULES}

    def without(rules: Sequence[str]) -> dict[str, Any]:
        return {"filters": printed | {"enabled": tuple(rule for rule in PAPER_RULES if rule not in rules)}}

    spatial = [rule for rule in PAPER_RULES if rule in reasons.SPATIAL_RULES]
    temporal = [rule for rule in PAPER_RULES if rule not in reasons.SPATIAL_RULES]
    out = [
        unfiltered(),
        Point("no_spatial", "no spatial rule", changes=without(spatial), calibrated=False),
        Point("no_temporal", "no temporal rule", changes=without(temporal), calibrated=False),
        Point("printed", "the paper's seven, as printed", changes={"filters": printed}, calibrated=False),
    ]
    if config.calibrate.enabled:
        by_rule = {"filters": {"mode": "thresholds"}}
        out.append(Point("calibrated", f"thresholds calibrated for {config.calibrate.precision:.0%}", changes=by_rule))
    if config.calibrate.enabled or config.filters.quality_model is not None:
        by_chance = {"filters": {"mode": "quality"}}
        limit = f"calibrated for {config.calibrate.precision:.0%}"
        limit = limit if config.calibrate.enabled else f"of at least {config.filters.min_quality:g}"
        out.append(Point("quality", f"quality {limit}", changes=by_chance))
    return out


def unfiltered() -> Point:
    """Data distillation (Table 8): every frame is kept."""
    none = {"filters": {"mode": "thresholds", "enabled": ()}}
    return Point("none", "no rule (data distillation)", changes=none, calibrated=False, prefix="points/filters-none/")


def _reasoning(config: Config) -> list[Point]:
    return [
        Point(f"{name} {network}", f"{value}, {what}supervised", network, {"model": {"reasoning": value}}, folder=name)
        for what, network in (("", "teacher"), ("semi-", "student"))
        for value, name in REASONING.items()
    ]


def _fraction(config: Config) -> list[Point]:
    parts = sorted({*FRACTIONS, config.train.pseudo_fraction})
    return [Point(f"{part:g}", f"{part:.0%}", changes={"train": {"pseudo_fraction": part}}) for part in parts]


def _rounds(config: Config) -> list[Point]:
    round_numbers = range(1, config.student.rounds + 1)
    students = (Point(f"{one}", f"round {one}", student(one), round_number=one) for one in round_numbers)
    return [Point("0", "teacher", "teacher"), *students]


def _labels(config: Config) -> list[Point]:
    if config.videos.root is not None:
        raise InputError(
            "study.grid=labels compares with the true poses of the videos, which only the synthetic world has; leave "
            "videos.root out, or take another grid"
        )
    return [
        Point("teacher", "(teacher, before)", "teacher"),
        Point("control", "labelled images alone (control)", "control"),
        Point("as_they_are", "pseudo-labels as they are"),
        Point("right", "the correct labels alone", oracle="right"),
        Point("side", "true labels where the side is wrong", oracle="side"),
        Point("true_kept", "true labels on the kept frames", oracle="truth"),
        Point("true_all", "true labels on all predicted frames", oracle="truth", unfiltered=True),
    ]


def _share(config: Config) -> list[Point]:
    own = config.train.pseudo_share
    shares: tuple[float | None, ...] = (*sorted({*SHARES, *([] if own is None else [own])}), None)
    return [
        Point(
            "alike" if part is None else f"{part:g}",
            "every sample alike" if part is None else f"{part:.0%}",
            changes={"train": {"pseudo_share": part}},
        )
        for part in shares
    ]


def _refine(config: Config) -> list[Point]:
    off = to_tree(RefineConfig())
    of_part = {
        part: {name: value if getattr(config.refine, name) == off[name] else getattr(config.refine, name)}
        for part, switch in PARTS.items()
        for name, value in switch.items()
    }
    none = {name: off[name] for switch in PARTS.values() for name in switch}
    every = {name: value for switch in of_part.values() for name, value in switch.items()}
    return [
        Point("none", "none", changes={"refine": none}),
        *(Point(part, f"{part} alone", changes={"refine": none | switch}) for part, switch in of_part.items()),
        Point("all", "all", changes={"refine": every}),
    ]


def _terms(config: Config) -> list[Point]:
    """Whatever weights the settings have, these points have the paper's or their own."""
    papers = {name: LossConfig.model_fields[name].default for _, weights in TERMS.values() for name in weights}
    known = config.calibrate.enabled or config.filters.quality_model is not None
    return [
        Point("control", "none (control)", "control"),
        *(
            Point(key, title, changes={"loss": {**papers, **weights}})
            for key, (title, weights) in TERMS.items()
            if known or key != "by_quality"
        ),
    ]
