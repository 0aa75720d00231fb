"""A worker for the benchmark of scale: it waits for as long as decoding and predicting were measured to take.

All around the two is that of a Teacher: the manifest, the ledger, tables, the commit, reports to the board. The tables
hold a few generated labels whatever the unit, because the driver never opens them. Only ``scale_bench`` uses it. Not
here: what a Teacher does (``labelling.teacher``).
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from cluster import progress as board
from cluster.labelling import commits, manifest
from cluster.labelling.attempts import Ledger
from cluster.labelling.commits import Commit
from cluster.labelling.counts import Counts
from cluster.labelling.job import LabellingJob, Progress
from cluster.labelling.units import Unit
from cluster.store import open_store
from hojoint.labelling import tables

ROWS = 4  # of both tables of a unit


@dataclass(frozen=True)
class Durations:
    """Seconds per video, and the share of them that the worker waits."""

    decode: float
    predict: float
    share: float = 1.0

    @property
    def video_s(self) -> float:
        """Of a Teacher: children decode the next videos while the network works on these."""
        return self.share * max(self.decode, self.predict)


def timed_teacher(durations: Durations, job: LabellingJob, watched: Any) -> TimedTeacher:
    """The worker inside Ray, which reports to a board."""
    return TimedTeacher(durations, job, board.Reporter(watched, "labelling", job.output))


class TimedTeacher:
    """Callable on rows ``{"unit": id}``; returns ``{"commit": JSON bytes}``, empty if another was first."""

    def __init__(self, durations: Durations, job: LabellingJob, progress: Progress) -> None:
        self._durations, self._job, self._progress = durations, job, progress
        self._store = open_store(job.output)
        self._manifest = manifest.Reader(self._store, job.manifest)
        from cluster import stream_bench  # in the actor: what it imports would weigh on the driver

        labels = stream_bench.table_of(ROWS, seed=os.getpid())
        schema = tables.PREDICTIONS_SCHEMA
        columns = [labels[name] if name in labels.column_names else pa.nulls(ROWS, kind.type)
                   for name, kind in ((field.name, field) for field in schema)]  # fmt: skip
        self._tables = {
            "predictions": pa.table(columns, schema=schema),
            "pseudo_labels": labels,
            "quarantine": commits.quarantine_table([]),
        }

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        commit = self._work(self._manifest.unit(row["unit"]))
        return {"commit": b"" if commit is None else commit.to_bytes()}

    def _work(self, unit: Unit) -> Commit | None:
        began = time.time()
        if self._store.exists(commits.commit_key(unit.unit_id)):
            return None
        ledger = Ledger(self._store, unit.unit_id, self._job.driver)
        ledger.suspicion(self._job.config.labelling.attempts)
        ledger.note(video.video_id for video in unit.videos)
        waited = len(unit.videos) * self._durations.video_s
        time.sleep(waited)
        counts = self._counts(unit)
        self._progress(*counts.since(Counts()))
        commit = commits.commit(
            self._store,
            unit.unit_id,
            ledger.attempt,
            self._tables,
            counts=counts,
            started=began,
            seconds={"predict": waited},
            held=lambda: {"teacher": time.time() - began, "cpu": time.time() - began},
        )
        ledger.close()
        if commit is not None:
            self._progress.spent(commit.seconds)
        return commit

    def _counts(self, unit: Unit) -> Counts:
        """As if every frame had been kept."""
        videos, frames = len(unit.videos), unit.frames
        clips = unit.clips
        return Counts(listed=videos, labelled=videos, clips=clips, decoded=frames, predicted=frames, kept=frames)

    def close(self) -> None:
        """Nothing is open."""
