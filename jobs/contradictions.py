"""Settings of a pipeline that contradict each other or would have no effect, refused before any work.

What a single job cannot do is refused by that job; here is what would otherwise show after hours of training.
"""

from __future__ import annotations

from cluster.labelling import quality_files
from cluster.training.job import refuse_idle
from hojoint.config import Config, FilterConfig, changed
from hojoint.errors import InputError
from hojoint.evaluation.examples import attention_cells
from hojoint.hand.model import fingertip_ids
from hojoint.labelling import reasons
from hojoint.labelling.quality import views_of
from hojoint.model.opening import untrained_views
from hojoint.synthetic import write_ho3d
from jobs.inputs import Inputs
from jobs.own_data import has_own_data, labelled_sets


def refuse(config: Config) -> None:
    """InputError for what can be told from the settings alone."""
    _refuse_uncalibrated(config)
    fingertip_ids(config.mano.fingertips)
    attention_cells(config)
    if not has_own_data(config):
        size = config.synthetic
        write_ho3d.sequence_names("train", size.train_sequences, size.train_objects)
    refuse_idle(changed(config, train={"datasets": labelled_sets(config), "pseudo_share": None}))
    student: dict[str, object] = {"datasets": (*labelled_sets(config), "pseudo")}
    if config.student.from_teacher:
        student["init_checkpoint"] = "the teacher's"  # which brings what it has learned
    refuse_idle(changed(config, train=student))
    if config.loss.quality_power > 0 and not config.calibrate.enabled and config.filters.quality_model is None:
        raise InputError(
            f"loss.quality_power={config.loss.quality_power:g} weighs labels by their quality, and nothing would tell "
            "it: give calibrate.enabled=true with train.held_out=N, or filters.quality_model=FILE of jobs.calibrate"
        )
    reasons.refuse_one_view(config.filters.enabled, config.tta.views)
    if config.calibrate.enabled:
        reasons.refuse_one_view(config.calibrate.rules, config.tta.views, "calibrate.rules")
    if (fault := untrained_views(config)) is not None:
        raise InputError(fault)
    if config.labelling.extend or config.labelling.retry is not None:
        name = "labelling.extend=true" if config.labelling.extend else f"labelling.retry={config.labelling.retry}"
        raise InputError(
            f"{name}: the student of a pipeline has learned from the labels as they were, so a pipeline does not add "
            "to them. Give the pipeline another output, or run jobs.pseudo_label and jobs.retrain one by one"
        )


def refuse_replaced(config: Config) -> None:
    """InputError for a setting that a pipeline sets itself: a value from the user would have no effect."""
    given: dict[str, object] = {
        "teacher.checkpoint": config.teacher.checkpoint,
        "teacher.sha256": config.teacher.sha256,
        "evaluate.checkpoint": config.evaluate.checkpoint,
        "data.pseudo.labels": config.data.pseudo.labels,
    }
    if config.calibrate.enabled:
        given["filters.quality_model"] = config.filters.quality_model
        given |= {f"calibrate.{name}": getattr(config.calibrate, name) for name in ("predictions", "truth")}
        given["calibrate.split"] = "train" if config.calibrate.split == "train" else None  # 'evaluation' is the default
        if config.filters.mode == "quality":
            chosen = FilterConfig.model_fields["min_quality"].default
            given["filters.min_quality"] = None if config.filters.min_quality == chosen else config.filters.min_quality
            if config.study.grid != "filters":  # one of its rows has thresholds
                given["calibrate.rules"] = config.calibrate.rules
    for name, value in given.items():
        if value is not None:
            raise InputError(
                f"{name}={value}: a pipeline trains its teacher, labels and measures under its output, and would not "
                f"use it. Leave {name} out, or run jobs.pseudo_label, jobs.retrain and jobs.evaluate one by one"
            )


def _refuse_uncalibrated(config: Config) -> None:
    if config.calibrate.enabled and config.train.held_out == 0:
        raise InputError(
            "calibrate.enabled=true needs recordings that no network saw: give train.held_out=N, the number of "
            "recordings of HO-3D that are kept out of training"
        )
    searches = config.calibrate.enabled and config.filters.mode == "thresholds"
    if searches and not (config.calibrate.rules or config.filters.enabled):
        raise InputError(
            "calibrate.enabled=true searches thresholds, and filters.enabled=[] leaves no rule to search one for; "
            "enable rules, or let the quality decide with filters.mode=quality"
        )
    if config.filters.mode == "quality" and config.filters.quality_model is None and not config.calibrate.enabled:
        raise InputError(
            "filters.mode=quality needs a model of the quality: give calibrate.enabled=true with train.held_out=N, or "
            "filters.quality_model=FILE of jobs.calibrate"
        )


def refuse_unjudgeable(config: Config, inputs: Inputs) -> None:
    """InputError for rules and a quality model that the labeller's frames could not be judged by once it is trained."""
    asked = {"filters.enabled": config.filters.enabled}
    if config.calibrate.enabled and config.calibrate.rules is not None:
        asked["calibrate.rules"] = config.calibrate.rules
    name = next((name for name, rules in asked.items() if "side" in rules), None)
    if config.model.side_head or (name is None and config.filters.quality_model is None):
        told = True
    else:  # calibration labels recordings whose sides no annotation gives
        told = config.labelling.side != "both" or not (config.calibrate.enabled or inputs.sideless)
    if name is not None and not told:
        raise InputError(
            f"{name} names the rule 'side', and with model.side_head=false nothing could say how sure the side of a "
            "hand is; set model.side_head=true, give the sides with the boxes or as labelling.side, or leave the rule "
            "out"
        )
    # Without a model of the user's, the calibration of this pipeline fits one.
    mode = "thresholds" if config.filters.quality_model is None else config.filters.mode
    judged = config.filters.model_copy(update={"mode": mode})
    quality_files.read(judged, side_head=told, views=views_of(config.tta))
