"""python -m jobs.calibrate data.ho3d.root=DIR teacher.checkpoint=FILE output=DIR [calibrate.precision=0.9]
python -m jobs.calibrate calibrate.predictions=LABELS calibrate.truth=FILE.parquet output=DIR [calibrate.precision=0.9]

Measures what each rule of labelling is worth (Sec. 5.1.1, 5.1.2) where the true hand is known: its precision and yield
at every threshold, alone and with the other rules. It proposes thresholds that reach calibrate.precision, of the
enabled rules or of calibrate.rules. It also fits a model of all scores together, quality.json: with it as
filters.quality_model each frame gets its chance of being correct; filters.mode=quality keeps frames with at least
filters.min_quality. The first form labels HO-3D's sequences with the teacher as if they were videos, also mirrored, so
that the side is judged. The second form takes the output of jobs.pseudo_label and a table of true poses (video_id,
frame, side, joints_px, joints), such as the synthetic world has; it also compares what a quality that is there promised
with what is correct, and takes calibrate.max_* from the labels' run unless they are given. A row without joints says
that no hand is there, so a label is wrong; frames and videos without a row are left out and counted. Under the output:
calibration.json, calibration.png, filters.yaml, quality.json, quality.yaml. One process labels, with the GPU if one
exists and cluster.teacher_gpus is above 0; on a cluster it is a task on a node with cluster.teacher_cpus and
teacher_gpus.

CAUTION: the first form takes HO-3D's evaluation split, which the teacher has not seen. Its truth is then in the
thresholds, so do not report scores on that split of a student trained with them. To report there, give
calibrate.split=held_out and a teacher trained with the same train.held_out. With a teacher that has seen the
recordings, the measured precision is too good to be true.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster import calibrating, capacity
from cluster.labelling import commits, label_tables, quality_files, units
from cluster.labelling.commits import Commit
from cluster.labelling.oracles import Truth
from cluster.sources import mirror
from cluster.store import Store, open_store, read_uri
from cluster.training import seen
from cluster.training.data import digest_of
from cluster.training.seen import Seen, Wanted
from hojoint.config import Config
from hojoint.datasets import sequences
from hojoint.datasets.ho3d import HO3D
from hojoint.errors import InputError
from hojoint.evaluation import calibration, label_quality, precision, promise, quality_fit, sequence_labels
from hojoint.hand.chosen import added_mean
from hojoint.hand.factory import hand_layer
from hojoint.labelling import quality, reasons, rescoring, tables
from hojoint.labelling.quality import QualityModel
from hojoint.model import opening
from hojoint.report import calibration as calibration_figure
from jobs import calibration_text, command, measured_as, results, sets

RESULT, QUALITY = "calibration.json", "quality.json"


def job(config: Config, dry_run: bool) -> None:
    """Collect predictions and truth, measure, write and print."""
    output = command.output_of(config, "DIR_OR_S3_URI")
    results.refuse_run(output)
    given = config.calibrate.predictions is not None
    if given:
        command.need(config.calibrate.truth, "calibrate.truth", "FILE.parquet")
        ignored = [name for name in ("sequences", "limit") if getattr(config.calibrate, name) is not None]
        if config.calibrate.split != "evaluation":
            ignored.append("split")
        if ignored:
            names = ", ".join(f"calibrate.{name}" for name in ignored)
            raise InputError(f"{names}: calibrate.predictions judges labels that are made, all of them; leave it out")
    else:
        command.need(config.data.ho3d.root, "data.ho3d.root", "DIR")
        _check_teacher(config)
    if given:
        run = commits.read_label_run(open_store(str(config.calibrate.predictions)))
        config, notes = measured_as.as_made(
            _as_labelled(config, run),
            measured_as.of_run(run),
            str(config.calibrate.predictions),
            measured_as.CORRECT,
        )
        for note in notes:
            print(f"note: {note}")
    near = mirror.localised(config, "mano", "data.ho3d")
    if dry_run:
        print(_plan(near))
        return
    if given:
        predictions, truth, config = _given(near)
    else:
        frames = sum(len(clip.indices) for clip in _clips(near))
        predictions, truth, config = calibrating.label_sequences(config, frames)
    judged = _judged(predictions, truth, config)
    if judged.beside is not None:
        print(f"note: left out, without a true pose: {len(judged.beside)} frames in videos that have some")
    result = calibration.calibrate(judged, config.filters, config.calibrate.precision, config.calibrate.rules)
    if result["proposed"] is not None and config.calibrate.rules is not None:
        result["proposed"] = {**result["proposed"], "enabled": list(config.calibrate.rules)}
    when = {"right_when": label_quality.CorrectWhen.of(config.calibrate).told()}
    model, _ = quality_fit.fit(judged, config.filters, config.calibrate.precision, config.calibrate.quality_scores)
    readings = {**model.readings, **quality.views_of(config.tta)}
    model = dataclasses.replace(model, about={**model.about, **when}, readings=readings)
    result |= {**when, "quality": model.about, "caution": _caution(config), "promise": _promise(judged, config)}
    _write(open_store(output), result, model)


def _as_labelled(config: Config, run: Mapping[str, Any]) -> Config:
    """The settings with the fingertips and the views of a labelling run, for its scores are of these."""
    tips, made = units.fingertips_of(run), run["fingerprint"]
    if config.mano.fingertips != tips:
        print(f"note: the labels were made with mano.fingertips={tips}, so they are judged with it")
    views = {name.removeprefix("tta."): made[name] for name in quality.OF_VIEWS if name in made}
    mano, tta = config.mano.model_copy(update={"fingertips": tips}), config.tta.model_copy(update=views)
    return config.model_copy(update={"mano": mano, "tta": tta})


def _check_teacher(config: Config) -> None:
    """Print notes on the teacher. Raises InputError where it cannot be read or has seen what is taken for unseen."""
    for name, rules in (("filters.enabled", config.filters.enabled), ("calibrate.rules", config.calibrate.rules)):
        reasons.refuse_one_view(rules, config.tta.views, name)
    content = read_uri(command.need(config.teacher.checkpoint, "teacher.checkpoint", "FILE"))
    _, merged, _ = opening.open_teacher(content, config, near=mirror.with_hand)
    network, count = seen.of_file(content), config.train.held_out
    _refuse_seen(config, network, Wanted(count))  # before the data are copied
    if config.calibrate.split == "held_out":
        near = mirror.localised(merged, "mano", "data.ho3d")
        apart = HO3D(near.data.ho3d, "held_out", near.crop, held_out=count, mean_pose=added_mean(near.mano))
        digest = digest_of(apart) if network.recordings is None and network.digest is not None else None
        _refuse_seen(config, network, Wanted(count, seen.recordings_of(apart.names), digest))
    for note in filter(None, [opening.overridden(config, merged), opening.untrained_views(merged)]):
        print(f"note: {note}")


def _refuse_seen(config: Config, network: Seen, wanted: Wanted) -> None:
    """Raise InputError where the teacher has seen recordings that ``calibrate.split=held_out`` takes for unseen."""
    if config.calibrate.split != "held_out" or (fault := seen.fault(network, wanted)) is None:
        return
    few = network.held_out is not None and 0 < network.held_out < wanted.count
    other = f"set train.held_out={network.held_out}" if few else "give calibrate.split=evaluation"
    raise InputError(
        f"calibrate.split=held_out takes train.held_out={wanted.count} recordings that no training has seen, and the "
        f"teacher was trained {fault}; {other}, or train the teacher with the number here"
    )


def _judged(predictions: pa.Table, truth: pa.Table, config: Config) -> precision.Judged:
    """The frames that the truth has a row for; the others of their clips stand beside them."""
    known = label_quality.matching_rows(predictions, truth) >= 0
    beside, predictions = predictions.filter(pa.array(~known)), predictions.filter(pa.array(known))
    joints_of = label_quality.joints_of(hand_layer(config.mano))
    errors = label_quality.errors_of_tables(predictions, truth, joints_of)
    correct = errors.correct(label_quality.CorrectWhen.of(config.calibrate))
    return precision.Judged(predictions, correct, _recordings(predictions, config), beside if len(beside) else None)


def _promise(judged: precision.Judged, config: Config) -> dict[str, Any] | None:
    """What the quality that the labels have already promised, against what is correct; None where they have none."""
    if config.calibrate.predictions is None:
        return None
    model = quality_files.kept(open_store(config.calibrate.predictions))
    chances = tables.array_of(judged.table, "quality").astype(np.float64)
    verdicts = judged.table["verdict"].to_pylist()
    return promise.promised_and_measured(chances, judged.correct, verdicts, None if model is None else model.about)


def _write(store: Store, result: Mapping[str, Any], model: QualityModel) -> None:
    """All files, and the summary on the terminal."""
    files = {RESULT: json.dumps(result, indent=1).encode(), "calibration.png": calibration_figure.draw(result)}
    if result["proposed"] is not None:
        files["filters.yaml"] = calibration_text.proposal(result).encode()
    files[QUALITY] = model.to_bytes()
    if model.about["min_quality"] is not None:
        files["quality.yaml"] = calibration_text.quality_proposal(result, store.uri(QUALITY)).encode()
    for name in {"filters.yaml", "quality.yaml"} - files.keys():  # of an earlier call, with other findings
        store.delete(name)
    for name, content in files.items():
        store.put(name, content)
    print(calibration_text.summary(result))
    print(f"\nwrote {', '.join([store.uri(RESULT), *list(files)[1:]])}")


def proposed_filters(store: Store, mode: str, home: str) -> dict[str, Any]:
    """Changes to the settings ``filters`` that a calibration proposes.

    Args:
        store: with what this job wrote.
        mode: 'thresholds' or 'quality', ``filters.mode``; in both the frames get their quality.
        home: its folder in ``store``; '' for the store itself.

    Raises:
        InputError: it found no thresholds, or no least quality.
    """
    place = f"{home}/" if home else ""
    found = json.loads(store.get(f"{place}{RESULT}"))
    changes: dict[str, Any] = {"mode": mode, "quality_model": store.uri(f"{place}{QUALITY}")}
    if mode == "quality":
        if found["quality"]["min_quality"] is None:
            raise InputError(
                f"calibration judged {found['frames']} frames, too few for a least quality; calibrate on more"
            )
        return changes | {"min_quality": found["quality"]["min_quality"]}
    if found["proposed"] is None:
        raise InputError(
            f"calibration found no thresholds by which {found['wanted_precision']:.0%} of kept labels are correct; "
            "lower calibrate.precision, or let the quality decide with filters.mode=quality"
        )
    return changes | found["proposed"]


def _caution(config: Config) -> str | None:
    if config.calibrate.predictions is not None or config.calibrate.split == "held_out":
        return None
    if config.calibrate.split == "evaluation":
        return (
            "HO-3D's evaluation truth is in these thresholds; do not report scores on the evaluation split of a "
            "student trained with them"
        )
    return (
        "these are frames of HO-3D's training split; with a teacher that was trained on them the measured precision "
        "is too good to be true"
    )


def _recordings(predictions: pa.Table, config: Config) -> np.ndarray | None:
    if config.calibrate.predictions is not None:
        return None  # each video is one
    return np.array([sequences.recording_of(clip_id) for clip_id in predictions["clip_id"].to_pylist()])


def _run_and_truth(config: Config) -> tuple[Store, list[Commit], pa.Table]:
    """A complete labelling run that can be compared, its commits, and the table of its truth."""
    assert config.calibrate.predictions is not None
    assert config.calibrate.truth is not None
    store = open_store(config.calibrate.predictions)
    run, done = commits.read_complete(store)
    units.check_hand(run, config, store.root)
    units.check_readings(run, config, store.root)
    return store, done, Truth.at(config.calibrate.truth, f"calibrate.truth={config.calibrate.truth}").table


def _given(config: Config) -> tuple[pa.Table, pa.Table, Config]:
    """The tables of a labelling run and of its truth."""
    store, done, truth = _run_and_truth(config)
    predictions = label_tables.read(store, [commit.files["predictions"] for commit in done])
    if predictions.num_rows == 0:
        raise InputError(f"{store.root} holds no predicted frame, so nothing can be judged; give the labels of others")
    known = pc.is_in(predictions["video_id"], value_set=truth["video_id"].combine_chunks())
    if not pc.any(known).as_py():
        raise InputError(f"{config.calibrate.truth} holds no video of the {predictions.num_rows} predicted frames")
    if others := len(predictions.filter(pc.invert(known))["video_id"].unique()):
        print(f"note: left out, without a true pose: {others} complete videos")
    # The run may have read its temporal scores in another way: those that are judged are of the readings given here.
    return rescoring.with_scores(predictions.filter(known), config.filters), truth, config


def _clips(config: Config) -> list[sequences.SequenceClip]:
    dataset = sequence_labels.open_split(config)
    sets.check(dataset, config, hand=False)
    least = config.labelling.min_clip_frames
    if left_out := sequences.too_short(dataset, config.calibrate, least):
        print(f"note: left out: {left_out} frames in clips shorter than labelling.min_clip_frames={least}")
    return sequences.sequence_clips(dataset, config.calibrate, sequences.copies_of(config), least)


def _plan(config: Config) -> str:
    aim = f"would search for thresholds with a precision of {config.calibrate.precision:.0%}"
    if config.calibrate.predictions is not None:
        store, done, truth = _run_and_truth(config)
        return f"would compare the predictions of {len(done)} units in {store.root} with {len(truth)} true poses; {aim}"
    clips = _clips(config)
    frames = sum(len(clip.indices) for clip in clips)
    plan = f"would label {frames} frames in {len(clips)} clips of HO-3D's {config.calibrate.split} split; {aim}"
    if need := calibrating.needs(config):
        plan += f"\n{capacity.feasibility(config.cluster, need)}"
    caution = _caution(config)
    return plan if caution is None else f"{plan}\nCAUTION: {caution}"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; see the top of the file."""
    return command.run(job, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
