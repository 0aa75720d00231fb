"""The actor of ``jobs.refilter``: judges the predictions of one unit again and commits its new labels.

Pictures of frames that were kept before are copied, those of frames that are kept only now are decoded again. Not here:
the run as a whole (``refiltering``), the scores (``hojoint.labelling.rescoring``).
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from cluster.labelling import commits, label_tables, manifest, quality_files, sameness, sharing
from cluster.labelling.commits import Commit
from cluster.labelling.decoding import Failure, GuardedDecoder, Request
from cluster.labelling.files import VideoFiles
from cluster.labelling.job import NullProgress, Progress, RefilterJob
from cluster.sources import Entry, FetchLimits, fetched, mirror
from cluster.store import arrow, open_store
from hojoint.hand.factory import hand_layer
from hojoint.labelling import reasons, refined_tables, rescoring, tables

PICTURE = "picture"  # stage of a video that was labelled and brings no pictures for newly kept frames


class Refilter:
    """Callable on rows ``{"unit": id}``, plain Python like the Teacher; commits the unit under the new output."""

    def __init__(self, job: RefilterJob, progress: Progress | None = None) -> None:
        self._job, self._progress = job, progress or NullProgress()
        self._source = open_store(job.source)
        self._model = quality_files.model_of(job.quality)
        self._store = open_store(job.output, conditional=job.config.labelling.require_conditional_writes)
        listing = None if job.listing is None else manifest.Reader(self._store, job.listing).entries
        self._files = VideoFiles(self._source, job.manifest, listing)
        self._layer = hand_layer(mirror.localised(job.config, "mano").mano) if job.config.refine.active else None
        self._found: dict[str, Entry] = {}  # of the unit in progress, by URI
        labelling = job.config.labelling
        self._limits = FetchLimits.of(labelling)
        self._decoder = GuardedDecoder.of(labelling, ahead=labelling.decode_children + 1, fetch=self._fetched)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        commit = self.work(row["unit"])
        return {"commit": b"" if commit is None else commit.to_bytes()}

    def work(self, unit_id: str) -> Commit | None:
        """Judge one unit again and commit it; None if another attempt was first."""
        started = time.time()
        sharing.check_source(self._source, commits.commit_key(unit_id))
        [before] = commits.read_commits(self._source, [unit_id])
        old = {table: self._read(before, table) for table in commits.TABLES}
        predictions = rescoring.rescored(old["predictions"], self._job.config.filters, self._model)
        verdicts = Counter(predictions["verdict"].to_pylist())
        self._progress({}, dict(verdicts))
        verdicts.pop(reasons.KEPT, None)
        labels = refined_tables.labels_of(predictions, self._job.config.refine, self._layer)
        failures: list[Failure] = []
        pseudo_labels = self._with_images(unit_id, labels, old["pseudo_labels"], failures)
        kept = len(labels) - _filled(labels)
        filled = _filled(pseudo_labels)
        quarantined = old["quarantine"].filter(pyarrow.compute.not_equal(old["quarantine"]["stage"], PICTURE))
        quarantine = pa.concat_tables([quarantined, commits.quarantine_table(failures)])
        new = {"predictions": predictions, "pseudo_labels": pseudo_labels, "quarantine": quarantine}
        labelled = len(set(labels["video_id"].to_pylist()))
        counts = replace(
            before.counts,
            labelled=labelled,
            empty=before.counts.listed - before.counts.quarantined - labelled,
            kept=kept,
            filled=filled,
            rejected=verdicts,
            without_image=kept - (len(pseudo_labels) - filled),
            pictures=Counter(failure.kind for failure in failures),
        )
        attempt = uuid.uuid4().hex[:12]
        return commits.commit(
            self._store, unit_id, attempt, new, counts=counts, started=started, seconds={}, taken_over=before.taken_over
        )

    def close(self) -> None:
        """End the decoding children."""
        self._decoder.close()

    def _read(self, commit: Commit, table: str) -> pa.Table:
        key = commit.files[table]
        if table == "quarantine":
            return arrow.read_table(self._source, key)
        schema = tables.PREDICTIONS_SCHEMA if table == "predictions" else tables.PSEUDO_LABELS_SCHEMA
        return label_tables.read(self._source, [key], schema=schema)

    def _fetched(self, uri: str) -> contextlib.AbstractContextManager[str]:
        """A local path of a video of the unit in progress, for a decoding thread."""
        return fetched(uri, self._limits, size=self._found[uri].size, etag=self._found[uri].etag)

    def _with_images(self, unit_id: str, labels: pa.Table, before: pa.Table, failures: list[Failure]) -> pa.Table:
        """The labels with pictures: copied from ``before`` or decoded again; rows without one are left out."""
        row_of = {key: row for row, key in enumerate(tables.keys_of(before))}
        rows = np.array([row_of.get(key, -1) for key in tables.keys_of(labels)], int)  # in ``before``
        known = np.flatnonzero(rows >= 0)
        pictures = before.take(rows[known])
        old = labels.take(known)
        for name in ("image", "image_box"):
            old = old.append_column(tables.PSEUDO_LABELS_SCHEMA.field(name), pictures[name])
        new = self._decoded(unit_id, labels.take(np.flatnonzero(rows < 0)), failures)
        return pa.concat_tables([old.cast(tables.PSEUDO_LABELS_SCHEMA), *new])

    def _same_files(
        self, unit_id: str, video_ids: set[str], failures: list[Failure]
    ) -> tuple[dict[str, Entry], set[str]]:
        """The files of some videos, and which of them their pictures must tell to be the labelled ones.

        ``failures`` takes the videos that are not under another root, or are other files there.
        """
        found = self._files.of([unit_id], video_ids)
        if self._job.listing is None:
            return found, set()
        absent = sorted(video_ids - found.keys())
        failures += [Failure(name, PICTURE, "missing", "not under videos.root", attempts=0) for name in absent]
        labelled = self._files.labelled([unit_id], video_ids)
        sizes = {name: sameness.other_size(labelled.get(name), entry) for name, entry in sorted(found.items())}
        failures += [_changed(name, what) for name, what in sizes.items() if what]
        same = {name: entry for name, entry in found.items() if not sizes[name]}
        return same, {name for name in same if sizes[name] is None}

    def _decoded(self, unit_id: str, rows: pa.Table, failures: list[Failure]) -> list[pa.Table]:
        """The rows of the videos that can be decoded, with their pictures; ``failures`` takes the other videos."""
        ids = np.array(rows["video_id"].to_pylist(), dtype=object)
        found, unchecked = self._same_files(unit_id, set(ids), failures)
        self._found = {entry.uri: entry for entry in found.values()}
        rows_of = {video_id: rows.take(np.flatnonzero(ids == video_id)) for video_id in sorted(found)}
        requests = (
            Request(video_id, found[video_id].uri, np.unique(tables.array_of(video_rows, "frame")), 0)
            for video_id, video_rows in rows_of.items()
        )
        parts = []
        for request, answer in self._decoder.decode(requests):
            video_rows = rows_of[request.video_id]
            if request.video_id in unchecked and not isinstance(answer, Failure):
                what = sameness.other_pictures(video_rows, answer)
                answer = answer if what is None else _changed(request.video_id, f"{request.path}: {what}")
            self._progress({"without_pictures" if isinstance(answer, Failure) else "with_pictures": 1}, {})
            if isinstance(answer, Failure):
                if self._job.config.videos.missing != "leave_out":
                    sharing.check_picture(request.path, answer)
                failures.append(replace(answer, stage=PICTURE))
            else:
                index_of = {int(number): index for index, number in enumerate(answer.numbers)}
                indices = [index_of.get(int(number), -1) for number in tables.array_of(video_rows, "frame")]
                present = np.flatnonzero(np.array(indices) >= 0)
                pixels = [answer.rgb[indices[row]] for row in present]
                parts.append(tables.with_images(video_rows.take(present), pixels, self._job.images))
        return parts


def _changed(video_id: str, message: str) -> Failure:
    return Failure(video_id, PICTURE, "changed", message, attempts=0)


def _filled(labels: pa.Table) -> int:
    return pyarrow.compute.sum(labels["filled"]).as_py() or 0
