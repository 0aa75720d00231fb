"""What the labels of an output are worth where the truth is known, and by round: for the report and for studies.

Measured is what a network learns from: refined and filled labels too. Not here: the errors themselves
(``hojoint.evaluation.label_quality``).
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from cluster.labelling import commits, label_tables
from cluster.labelling.oracles import PREDICTED
from cluster.sources import mirror
from cluster.store import Store, open_store
from hojoint.config import Config
from hojoint.datasets import pseudo
from hojoint.evaluation import label_quality
from hojoint.evaluation.label_quality import LabelErrors
from hojoint.hand.factory import hand_layer
from hojoint.labelling import reasons, tables
from jobs import calibration_found, results


def measured(labels: Store, truth: Path | None, config: Config) -> dict[str, Any]:
    """Frames predicted and kept, rows that training reads, and where true poses are known, 'labels' and 'clips' against
    them; for JSON.

    Kept frames, rows and 'labels' are those of the clips that ``train.pseudo_fraction`` uses. A kept frame without a
    picture is no row, and a filled one is.
    """
    report = results.labels_report(labels)
    counted = report["frames"]
    # All yields of one labeller have one denominator, also where an oracle took some of the frames away.
    frames = {"predicted": report.get(PREDICTED, counted["predicted"]), "kept": counted["kept"]}
    frames["labels"] = counted["kept"] + counted.get("filled", 0) - counted.get("without_image", 0)
    some = config.train.pseudo_fraction < 1
    if not counted["kept"] or (truth is None and not some):
        return {"frames": frames}
    table = _learned_from(labels, config)
    frames["labels"] = len(table)
    if some:
        frames["kept"] = table["verdict"].to_pylist().count(reasons.KEPT)
    return {"frames": frames} | ({} if truth is None else _against(table, truth, labels, config))


def by_round(config: Config, store: Store, truth: Path | None) -> list[dict[str, Any]]:
    """One entry per round of a pipeline: its student, its labels, and what its calibration promised.

    Empty where there is one round and no calibration, since its labels are told elsewhere.
    """
    round_numbers = list(itertools.takewhile(lambda number: store.exists(_report(number)), itertools.count(1)))
    found = {
        number: calibration_found.read(store, f"calibration{results.of_round(number)}") for number in round_numbers
    }
    if len(round_numbers) < 2 and not any(found.values()):
        return []
    when = label_quality.CorrectWhen.of(config.calibrate)
    return [
        {
            "round": round_number,
            "network": results.student(round_number),
            **measured(open_store(store.uri(f"{results.LABELS}{results.of_round(round_number)}")), truth, config),
            "promised": calibration_found.promise(found[round_number], config),
            "right_when": {"promised": (found[round_number] or {}).get("right_when"), "measured": when.told()},
        }
        for round_number in round_numbers
    ]


def _report(round_number: int) -> str:
    return f"{results.LABELS}{results.of_round(round_number)}/{commits.REPORT}"


def _against(table: pa.Table, path: Path, labels: Store, config: Config) -> dict[str, Any]:
    """The labels that training reads, ``table``, and all clips' sides, against the truth at ``path``."""
    truth = pyarrow.parquet.read_table(path)
    layer = hand_layer(mirror.localised(config, "mano").mano)
    joints_of = label_quality.joints_of(layer)

    def errors_of(table: pa.Table) -> LabelErrors:
        return label_quality.errors_of_tables(table, truth, joints_of)

    errors = errors_of(table)
    group = label_quality.group(errors, np.ones(len(table), bool), label_quality.CorrectWhen.of(config.calibrate))
    group["side_right"] = _share(errors.side_correct[errors.truth])
    predictions = _table(labels, "predictions")
    return {"labels": group, "clips": _clips(predictions, errors_of(predictions))}


def _learned_from(labels: Store, config: Config) -> pa.Table:
    """The labels that training reads."""
    table = _table(labels, "pseudo_labels")
    if config.train.pseudo_fraction == 1:
        return table
    clips = pseudo.some_clips(table["clip_id"].to_pylist(), config.train.pseudo_fraction)
    return table.filter(pc.is_in(table["clip_id"], value_set=pa.array(clips, pa.string())))


def _table(labels: Store, name: str) -> pa.Table:
    keys = commits.committed_files(labels, name)
    return label_tables.read(labels, keys, columns=tables.PREDICTIONS_SCHEMA.names)  # without the pictures


def _clips(predictions: pa.Table, errors: LabelErrors) -> dict[str, Any]:
    """Of how many clips with a true hand the side is correct: a clip has one side in all of its frames."""
    told = [errors.side_correct[rows[errors.truth[rows]]] for rows in tables.clips_of(predictions)]
    seen = np.array([sides.mean() > 0.5 for sides in told if len(sides)], dtype=bool)
    return {"clips": len(seen), "side_right": _share(seen)}


def _share(flags: np.ndarray) -> float | None:
    return float(flags.mean()) if len(flags) else None
