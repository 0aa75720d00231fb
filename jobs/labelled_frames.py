"""The labelled frames that a report shows and measures: rows of the tables, their pixels, their true poses if known.

Of a large output only some units are read, evenly spaced; the galleries and the quality tell how many. Used by
``jobs.report``. Drawing is in ``hojoint.report.album``, measuring in ``hojoint.evaluation.label_quality``.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from cluster.labelling import commits, label_tables, quality_files
from cluster.labelling.decoding import GuardedDecoder, Request
from cluster.labelling.files import VideoFiles
from cluster.labelling.units import check_hand
from cluster.sources import Entry, FetchLimits, fetched, list_videos, mirror
from cluster.store import Store
from hojoint.config import Config, LabellingConfig
from hojoint.evaluation import label_quality, promise
from hojoint.hand.factory import hand_layer
from hojoint.hand.layer import HandLayer
from hojoint.labelling import reasons, tables
from hojoint.labelling.video import Decoded
from hojoint.report import album
from hojoint.report.album import KEPT
from hojoint.report.page import Gallery, Picture
from hojoint.rows import evenly

MOST_UNITS = 24  # some 60,000 frames
KEPT_SHOWN, REJECTED_SHOWN = 12, 3  # the latter per rule
KEYS = ({"colour": "#2e86de", "text": "the given hand box"}, {"colour": "#96c4f0", "text": "the labelled hand"})


@dataclass(frozen=True)
class LabelledFrames:
    """What a report shows of a labelling run."""

    quality: dict[str, Any] | None  # label_quality.summary, 'promise' and 'units', where true poses are known
    galleries: list[Gallery]


def read(config: Config, labels: Store, truth: Path | None) -> LabelledFrames:
    """Read, measure and draw; ``truth`` is a parquet file of true poses, if they are known."""
    run = commits.read_label_run(labels)
    check_hand(run, config, labels.root)
    units = sorted(commits.committed_units(labels))
    some = [units[row] for row in evenly(len(units), MOST_UNITS)]
    done = commits.read_commits(labels, some)
    predictions = label_tables.read(labels, [commit.files["predictions"] for commit in done])
    layer = hand_layer(mirror.localised(config, "mano").mano)
    errors, quality, of_all = None, None, {"read": len(some), "all": len(units)}
    if truth is not None and len(predictions):
        refined = None
        if any(name.startswith("refine.") for name in run["fingerprint"]):
            keys, schema = [commit.files["pseudo_labels"] for commit in done], tables.LABELS_SCHEMA
            refined = label_tables.read(labels, keys, schema=schema, columns=schema.names)
        errors, quality = _measured(predictions, refined, pyarrow.parquet.read_table(truth), layer, config, labels)
        quality["units"] = of_all
    rows = album.chosen_rows(predictions, reasons.REASONS, KEPT_SHOWN, REJECTED_SHOWN)
    shown = set(predictions["video_id"].take(pa.array(rows)).to_pylist())
    files = VideoFiles(labels, run.get(commits.MANIFEST), _other_root(config, run)).of(some, shown)
    pixels = _pixels(_places(predictions, rows), files, config.labelling)
    judged = {} if errors is None else _judged(errors, rows, label_quality.CorrectWhen.of(config.calibrate))
    pictures = _pictures(predictions, pixels, layer, judged)
    kept = [picture for picture in pictures if picture.tag == KEPT]
    rejected = [picture for picture in pictures if picture.tag != KEPT]
    note = "" if len(some) == len(units) else f" From {len(some)} of {len(units)} units."
    return LabelledFrames(quality, _galleries(kept, rejected, note))


def _measured(
    predictions: pa.Table,
    refined: pa.Table | None,
    truth: pa.Table,
    layer: HandLayer,
    config: Config,
    labels: Store,
) -> tuple[label_quality.LabelErrors, dict[str, Any]]:
    """Errors of the predictions, and the summary of them and of the labels that were refined from them."""
    when = label_quality.CorrectWhen.of(config.calibrate)
    joints_of = label_quality.joints_of(layer)
    errors = label_quality.errors_of_tables(predictions, truth, joints_of)
    quality = _quality(predictions, errors, when, labels)
    if refined is not None:
        filled = np.array(refined["filled"].to_pylist(), dtype=bool)
        after = label_quality.errors_of_tables(refined, truth, joints_of)
        quality["refined"] = label_quality.refined_summary(after, filled, when)
    return errors, quality


def _quality(
    predictions: pa.Table, errors: label_quality.LabelErrors, when: label_quality.CorrectWhen, labels: Store
) -> dict[str, Any]:  # fmt: skip
    """Kept and rejected frames against the truth, and what their quality promised."""
    verdicts = predictions["verdict"].to_pylist()
    model = quality_files.kept(labels)
    chances = tables.array_of(predictions, "quality").astype(np.float64)
    promised = promise.promised_and_measured(
        chances, errors.correct(when), verdicts, None if model is None else model.about
    )
    return {**label_quality.summary(errors, verdicts, reasons.REASONS, when), "promise": promised}


def _judged(
    errors: label_quality.LabelErrors, rows: np.ndarray, when: label_quality.CorrectWhen
) -> dict[int, album.Judged]:
    """What the truth says of some rows."""
    correct = errors.correct(when)
    return {
        int(row): album.Judged(float(errors.aligned_mm[row]), bool(errors.side_correct[row]), bool(correct[row]))
        for row in rows
    }


def _galleries(kept: Sequence[Picture], rejected: Sequence[Picture], note: str) -> list[Gallery]:
    about = "Frames of the unlabelled videos with the mesh that the teacher predicted, projected by the fitted camera."
    return [
        Gallery(
            "Pseudo-labelled frames", f"{about} One frame from the middle of each of some videos.{note}", kept, KEYS
        ),
        Gallery(
            "Rejected frames", f"The same, with the rule that each frame broke and its score.{note}", rejected, KEYS
        ),
    ]


def _places(predictions: pa.Table, rows: np.ndarray) -> Iterator[tuple[int, str, int]]:
    """Row, video id and frame number of some rows."""
    some = predictions.select(["video_id", "frame"]).take(pa.array(rows)).to_pylist()
    yield from ((int(number), row["video_id"], row["frame"]) for number, row in zip(rows, some, strict=True))


def _other_root(config: Config, run: Mapping[str, Any]) -> Callable[[], Iterable[Entry]] | None:
    """Lists ``videos.root`` where it is another one than that of the run, whose manifest names the files already."""
    root, of_run = config.videos.root, run.get("config", {}).get("videos", {}).get("root")
    if root is None or (commits.MANIFEST in run and root == of_run):
        return None
    return functools.partial(list_videos, root)


def _pixels(
    places: Iterable[tuple[int, str, int]], files: Mapping[str, Entry], config: LabellingConfig
) -> dict[int, np.ndarray | None]:
    """Row -> one frame (H, W, 3), or None where it cannot be read any more.

    Videos are untrusted input, so they are decoded under the limits of labelling.
    """
    listed = {entry.uri: entry for entry in files.values()}
    limits = FetchLimits.of(config)

    def lend(uri: str) -> contextlib.AbstractContextManager[str]:
        return fetched(uri, limits, size=listed[uri].size, etag=listed[uri].etag)

    places = list(places)
    pixels: dict[int, np.ndarray | None] = {number: None for number, _, _ in places}
    found = [place for place in places if place[1] in files]
    requests = (Request(name, files[name].uri, np.array([frame]), annotated_frames=0) for _, name, frame in found)
    with contextlib.closing(GuardedDecoder.of(config, ahead=config.decode_children + 1, fetch=lend)) as decoder:
        for (number, _, _), (_, answer) in zip(found, decoder.decode(requests), strict=True):
            if isinstance(answer, Decoded) and len(answer.rgb):
                pixels[number] = answer.rgb[0]
    return pixels


def _pictures(
    predictions: pa.Table,
    pixels: Mapping[int, np.ndarray | None],
    layer: HandLayer,
    judged: Mapping[int, album.Judged],
) -> list[Picture]:
    """Drawn rows; ``pixels`` holds the frame of each, None for one that is left out."""
    out = []
    for number, row in zip(pixels, predictions.take(pa.array(list(pixels), pa.int64())).to_pylist(), strict=True):
        rgb = pixels[number]
        if rgb is not None:
            out.append(album.label_picture(row, rgb, np.zeros(2), layer, layer.faces, judged.get(number)))
    return out
