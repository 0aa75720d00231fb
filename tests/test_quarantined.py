"""The first message of each class of quarantine in the summaries of jobs.pseudo_label and jobs.detect."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from cluster.labelling import commits
from cluster.labelling.counts import Counts
from cluster.labelling.decoding import Failure
from cluster.store import open_store
from hojoint.labelling import tables
from hojoint.labelling.faults import CLASSES
from jobs import quarantined


def test_each_class_shows_its_first_message_and_its_remedy(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    units = [[("b", "boxes_rate", "24 per second."), ("c", "missing", "no file")], [("d", "boxes_rate", "other")], []]
    for number, failures in enumerate(units):
        rows = [Failure(video, "decode", kind, message, 1) for video, kind, message in failures]
        written = {
            "predictions": tables.PREDICTIONS_SCHEMA.empty_table(),
            "pseudo_labels": tables.PSEUDO_LABELS_SCHEMA.empty_table(),
            "quarantine": commits.quarantine_table(rows),
        }
        counts = Counts(quarantined=len(rows), quarantine=Counter(kind for _, kind, _ in failures))
        commits.commit(store, f"u{number:05d}", "attempt", written, counts=counts, started=0.0, seconds={})
    done = commits.read_commits(store)
    (tmp_path / done[1].files["quarantine"]).unlink()  # is not read: its class is known already
    first = quarantined.firsts(store, done)
    assert first == {"boxes_rate": ("b", "24 per second."), "missing": ("c", "no file")}
    assert quarantined.lines({"boxes_rate": 2, "missing": 1, "timeout": 1}, first) == [
        "  boxes_rate: first b: 24 per second.",
        f"             {CLASSES['boxes_rate'].remedy}",
        "  missing: c: no file.",
        f"          {CLASSES['missing'].remedy}",
        f"  timeout: {CLASSES['timeout'].remedy}",
    ]
    own = quarantined.lines({"missing": 1, "timeout": 1}, first, {"timeout": "Ask again."})
    assert own[1:] == [f"          {CLASSES['missing'].remedy}", "  timeout: Ask again."]
