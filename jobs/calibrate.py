"""python -m jobs.calibrate data.ho3d.root=DIR teacher.checkpoint=FILE output=DIR [calibrate.precision=0.9]
python -m jobs.calibrate calibrate.predictions=LABELS calibrate.truth=FILE.parquet output=DIR [calibrate.precision=0.9]

Measures what each rule of labelling is worth (Sec. 5.1.1, 5.1.2) where the true hand is known: its precision and yield
at every threshold, alone and with the other rules. It proposes thresholds that reach calibrate.precision. The first
form labels HO-3D's sequences with the teacher as if they were videos. The second form takes the output of
jobs.pseudo_label and a table of true poses (video_id, frame, side, joints_px, joints), such as the synthetic world has.
Under the output: calibration.json, calibration.png, filters.yaml. The job is one process; it uses a GPU if one exists
and cluster.teacher_gpus is above 0.

CAUTION: the first form takes HO-3D's evaluation split, which the teacher has not seen. Its truth is then in the
thresholds, so do not report scores on that split of a student trained with them. To report there, give
calibrate.split=train calibrate.sequences=[NAME,...] and a teacher trained without these recordings (remove all their
cameras from its train.txt). With a teacher that has seen them, the measured precision is too good to be true.
"""

from __future__ import annotations

import functools
import io
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from tqdm import tqdm

from cluster.labelling import commits, units
from cluster.sources import mirror
from cluster.store import Store, open_store, read_uri
from hojoint.config import Config
from hojoint.datasets import sequences
from hojoint.datasets.ho3d import HO3D
from hojoint.errors import InputError
from hojoint.evaluation import calibration, label_quality, sequence_labels
from hojoint.hand.factory import hand_layer
from hojoint.labelling import tables
from hojoint.model import checkpoint
from hojoint.report import calibration as calibration_figure
from jobs import command, printing, sets


def job(config: Config, dry_run: bool) -> None:
    """Collect predictions and truth, measure, write and print."""
    output = command.output_of(config, "DIR_OR_S3_URI")
    given = config.calibrate.predictions is not None
    if given:
        command.need(config.calibrate.truth, "calibrate.truth", "FILE.parquet")
    else:
        command.need(config.data.ho3d.root, "data.ho3d.root", "DIR")
        path = command.need(config.teacher.checkpoint, "teacher.checkpoint", "FILE")
        _, merged, _ = checkpoint.open_teacher(read_uri(path), config)
        if (note := checkpoint.overridden(config, merged)) is not None:
            print(f"note: {note}")
    config = mirror.localised(config, "mano", "data.ho3d")
    if dry_run:
        print(_plan(config))
        return
    predictions, truth, config = _given(config) if given else _labelled(config)
    result = _measured(predictions, truth, config)
    store = open_store(output)
    store.put("calibration.json", json.dumps(result, indent=1).encode())
    store.put("calibration.png", calibration_figure.draw(result))
    if result["proposed"] is not None:
        store.put("filters.yaml", proposal(result).encode())
    print(summary(result))
    print(
        f"\nwrote {store.uri('calibration.json')}, calibration.png" + (", filters.yaml" if result["proposed"] else "")
    )


def _measured(predictions: pa.Table, truth: pa.Table, config: Config) -> dict[str, Any]:
    """Content of calibration.json."""
    joints_of = functools.partial(label_quality.hand_joints, hand_layer(config.mano))
    errors = label_quality.errors_of_tables(predictions, truth, joints_of)
    bounds = config.calibrate
    when = label_quality.RightWhen(max_aligned_mm=bounds.max_aligned_mm, max_joints_2d=bounds.max_joints_2d)
    judged = calibration.Judged(predictions, errors.right(when), _recordings(predictions, config))
    return {**calibration.calibrate(judged, config.filters, bounds.precision), "caution": _caution(config)}


def proposal(result: Mapping[str, Any]) -> str:
    """filters.yaml: the proposed thresholds, how to use them, and what to know before that."""
    limits = result["proposed"]
    overrides = " ".join(f"filters.{name}={limit:g}" for name, limit in limits.items())
    return (
        "".join(f"# {warning}\n" for warning in _warnings(result))
        + "# Thresholds that jobs.calibrate proposes. Merge them into the 'filters:' of your own config.\n"
        "# --config takes complete files: with this one alone every other setting has its default. As overrides:\n"
        f"# {overrides}\n" + yaml.safe_dump({"filters": dict(limits)}, sort_keys=False)
    )


def summary(result: Mapping[str, Any]) -> str:
    """The result as text for the terminal."""
    precision = f"{result['wanted_precision']:.0%}"
    frames, right, base = result["frames"], result["right"], result["base_precision"]
    text = [
        f"{frames} predicted frames, {right} right ({base:.0%} without any rule)",
        "",
        _rules_table(result, precision),
        "",
        _together_table(result),
    ]
    if result["proposed"] is None:
        text.append(f"no thresholds reach {precision}; try a better teacher, or a lower calibrate.precision")
    if result["recordings"] == 1:
        text.append(
            "all frames show one recording, so the proposed thresholds are measured on the frames that they come from"
        )
    return "\n".join([*text, *_warnings(result)])


def _rules_table(result: Mapping[str, Any], precision: str) -> str:
    """One row per rule: what it is worth now, and the threshold that it needs for ``precision``."""
    rows = [
        [
            rule if values["enabled"] else f"{rule} (off)",
            f"{values['current']:g}",
            _share(values["alone"]["precision"]),
            _share(values["alone"]["yield"]),
            _number(values["alone_for_wanted"]),
            _number(values["proposed"]),
        ]
        for rule, values in result["rules"].items()
    ]
    return printing.table(["rule", "threshold", "precision", "yield", f"alone for {precision}", "proposed"], rows)


def _together_table(result: Mapping[str, Any]) -> str:
    """All rules together: as they are, as proposed, and on recordings that were held out."""
    names = {"current": "now", "proposed": "proposed", "held_out": "proposed from half, measured on the other half"}
    rows = [
        [name, *(_share(worth[key]) for key in ("precision", "yield", "recall"))]
        for which, name in names.items()
        if (worth := result["together"][which]) is not None
    ]
    return printing.table(["all rules together", "precision", "yield", "right labels kept"], rows)


def _warnings(result: Mapping[str, Any]) -> list[str]:
    """What is printed and written beside the proposed thresholds."""
    warnings = [f"CAUTION: {result['caution']}"] if result["caution"] else []
    worth = result["together"]["proposed"]
    if worth is not None and not result["reached"]:
        warnings.append(
            f"CAUTION: the proposed thresholds do not reach {result['wanted_precision']:.1%} with at least "
            f"{calibration.FEWEST} frames: they keep {worth['kept']}, of which {_share(worth['precision'])} are right"
        )
    return warnings


def _caution(config: Config) -> str | None:
    if config.calibrate.predictions is not None:
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


def _run_and_truth(config: Config) -> tuple[Store, pa.Table]:
    """A labelling run that can be compared, and the table of its truth."""
    assert config.calibrate.predictions is not None
    assert config.calibrate.truth is not None
    store = open_store(config.calibrate.predictions)
    run = commits.read_run(store)
    units.check_hand(run, config, store.root)
    units.check_readings(run, config, store.root)
    try:
        return store, pq.read_table(io.BytesIO(read_uri(config.calibrate.truth)))
    except pa.ArrowInvalid as error:
        raise InputError(
            f"calibrate.truth={config.calibrate.truth} is not a parquet file: {str(error).splitlines()[0]}"
        ) from None


def _given(config: Config) -> tuple[pa.Table, pa.Table, Config]:
    """The tables of a labelling run and of its truth."""
    store, truth = _run_and_truth(config)
    filesystem, base = store.filesystem()
    predictions = tables.read([f"{base}/{key}" for key in commits.committed_files(store, "predictions")], filesystem)
    known = pc.is_in(predictions["video_id"], value_set=truth["video_id"].combine_chunks())
    if predictions.num_rows == 0 or not pc.any(known).as_py():
        raise InputError(f"{config.calibrate.truth} holds no video of the {predictions.num_rows} predicted frames")
    return predictions.filter(known), truth, config


def _labelled(config: Config) -> tuple[pa.Table, pa.Table, Config]:
    """Predictions of the teacher on HO-3D's sequences, their truth, and the teacher's own settings."""
    assert config.teacher.checkpoint is not None
    clips = _clips(config)
    with tqdm(total=sum(len(clip.indices) for clip in clips), unit="frame", desc="labelling") as bar:
        return sequence_labels.label_sequences(config, read_uri(config.teacher.checkpoint), bar.update)


def _clips(config: Config) -> list[sequences.SequenceClip]:
    dataset = HO3D(config.data.ho3d, config.calibrate.split, config.crop)
    sets.check(dataset, config, hand=False)
    return sequences.sequence_clips(dataset, config.calibrate)


def _plan(config: Config) -> str:
    aim = f"would search for thresholds with a precision of {config.calibrate.precision:.0%}"
    if config.calibrate.predictions is not None:
        store, truth = _run_and_truth(config)
        committed = len(commits.committed_units(store))
        return f"would compare the predictions of {committed} units in {store.root} with {len(truth)} true poses; {aim}"
    clips = _clips(config)
    frames = sum(len(clip.indices) for clip in clips)
    return (
        f"would label {frames} frames in {len(clips)} clips of HO-3D's {config.calibrate.split} split; {aim}\n"
        f"CAUTION: {_caution(config)}"
    )


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; see the top of the file."""
    return command.run(job, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
