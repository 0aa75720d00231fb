"""The labels of videos checked: what a labelling run counted, whether its tables can be trained on, rows to look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from cluster.labelling import commits, label_tables, totals, units
from cluster.store import Store, open_store
from hojoint.config import Config
from hojoint.datasets import listing
from hojoint.datasets.pseudo import PseudoLabelled
from hojoint.errors import InputError
from hojoint.hand.factory import hand_layer
from hojoint.labelling import tables
from hojoint.report import album, draw, health
from hojoint.report.health import Checked, Count, Finding

MOST_UNITS = 24  # whose images are read
LEGEND = "Kept frames with the given hand box (blue) and the labelled hand."


def check(config: Config, progress: Callable[[str, int, int], None]) -> list[Checked]:
    """The output of jobs.pseudo_label or jobs.refilter; ``progress`` is called with what is read, done and of all."""
    return [_check(config, progress)]


def _check(config: Config, progress: Callable[[str, int, int], None]) -> Checked:
    place = str(config.data.pseudo.labels)
    try:
        store = open_store(place)
        run, done = commits.read_label_run(store), commits.read_commits(store)
        total = totals.total_of(done)
    except InputError as error:
        return health.failed("pseudo", place, error)
    counts = [Count(name, getattr(total, name)) for name in ("listed", "labelled", "empty", "quarantined")]
    counts += [Count(f"frames {name}", getattr(total, name)) for name in ("decoded", "predicted", "kept")]
    findings = []
    if len(done) != run["units"]:
        text = f"{len(done)} of {run['units']} units are committed"
        findings.append(Finding("not_complete", run["units"] - len(done), text, "give the same command again", True))
    for kind, count in sorted((+total.quarantine).items()):
        findings.append(Finding(kind, count, f"{count} of {total.listed} videos are in quarantine for it"))
    rules = {rule: count for rule, count in total.rejected.items() if count}
    if rules:
        text = ", ".join(f"{rule} {count:,}" for rule, count in rules.items())
        findings.append(Finding("rejected", sum(rules.values()), f"frames rejected by rule: {text}"))
    if not total.kept:
        text = f"none of the {total.predicted:,} predicted frames is kept"
        findings.append(Finding("nothing_kept", 1, text, "there is nothing to train on; see the rules", True))
        return Checked("pseudo", place, counts, findings)
    files = [commit.files["pseudo_labels"] for commit in done]
    try:
        drawn = _known_hand(run, config, store.root, findings)
        sheet, wrong = _look(config, store, files, progress, drawn=drawn)
    except InputError as error:
        findings.append(Finding("labels_unread", 1, str(error), fatal=True))
        return Checked("pseudo", place, counts, findings)
    return Checked("pseudo", place, counts, [*findings, *wrong], sheet, LEGEND)


def _known_hand(run: Mapping[str, Any], config: Config, root: str, findings: list[Finding]) -> bool:
    """Whether the settings name the hand of the labels; without mano.path another hand is a note.

    Raises:
        InputError: mano.path is another hand than theirs.
    """
    try:
        units.check_hand(run, config, root)
    except InputError as error:
        if config.mano.path is not None:
            raise
        remedy = "give the mano set (mano=MANO_RIGHT.pkl) of their run, as training on them needs it"
        findings.append(Finding("hand_unknown", 1, f"the labels are not drawn: {error}", remedy))
        return False
    return True


def _look(
    config: Config, store: Store, files: list[str], progress: Callable[[str, int, int], None], *, drawn: bool
) -> tuple[bytes | None, list[Finding]]:
    """The rows of some units: each image is opened, some are drawn with the hand of the settings."""
    table = label_tables.read(store, listing.evenly(files, MOST_UNITS), schema=tables.PSEUDO_LABELS_SCHEMA)
    samples, damaged = PseudoLabelled(table, config.crop), []
    for row, name in enumerate(samples.names):
        progress("labelled frames", row, len(samples))
        try:
            samples[row]
        except InputError as error:
            damaged.append(f"{name}: {error}")
    findings = []
    if damaged:
        text = f"{len(damaged)} of {len(samples)} rows cannot be read, first {damaged[0]}"
        findings.append(Finding("rows_damaged", len(damaged), text, "label these videos again", fatal=True))
    if not drawn:
        return None, findings
    chosen = album.spread_rows(table["video_id"].to_pylist(), np.arange(len(table)), config.doctor.pictures)
    layer, tiles = hand_layer(config.mano), []
    for row in table.take(pa.array(chosen)).to_pylist():
        try:
            image = draw.open_jpeg(row["image"])
        except InputError:
            tiles.append(health.blank(row["clip_id"]))
            continue
        picture = album.label_picture(row, image, np.asarray(row["image_box"][:2]), layer, layer.faces)
        tiles.append((draw.open_jpeg(picture.data), [row["video_id"], f"frame {row['frame']}"]))
    return health.sheet(tiles), findings
