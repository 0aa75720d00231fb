"""A label set rewritten by an oracle into a new output: same layout, committed and resumed unit by unit.

Only for videos whose true poses are known, as in the synthetic world; a study trains on such sets to tell what better
labels would be worth. The driver does the work, since no pixel is read: pictures are copied. Not here: what an oracle
rewrites (``hojoint.evaluation.oracle``).
"""

from __future__ import annotations

import functools
import hashlib
import io
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from cluster.labelling import commits, label_tables, listing, manifest, refiltering, units
from cluster.labelling import run as labelling
from cluster.labelling.commits import Commit
from cluster.labelling.counts import Counts
from cluster.labelling.refiltering import Source
from cluster.sources import mirror
from cluster.store import Store, arrow, check_conditional, read_uri
from hojoint.config import Config, changed
from hojoint.errors import InputError
from hojoint.evaluation import label_quality, oracle, true_poses
from hojoint.evaluation.label_quality import CorrectWhen
from hojoint.evaluation.oracle import Oracle, Rewritten
from hojoint.hand.factory import hand_layer
from hojoint.labelling import reasons, tables

PREDICTED = "predicted_by_labeller"
"""In the report: frames predicted in the source. Those that lost their label are not among ``frames.predicted``."""


@dataclass(frozen=True, eq=False)
class Truth:
    """The table of true poses, and what names its content."""

    table: pa.Table
    sha256: str

    @classmethod
    def at(cls, path: str, name: str | None = None) -> Truth:
        """Read a parquet file; ``name`` is what messages call it, None means its path.

        Raises:
            InputError: it does not exist, is no parquet file, or does not hold what ``true_poses.checked`` expects.
        """
        content = read_uri(path)
        try:
            table = pa.parquet.read_table(io.BytesIO(content))
        except pa.ArrowInvalid as error:
            raise InputError(
                f"{name or path} is not a parquet file of true poses: {str(error).splitlines()[0]}"
            ) from None
        return cls(true_poses.checked(table, name or path), hashlib.sha256(content).hexdigest())


def rewrite(config: Config, which: Oracle, truth: Truth, when: CorrectWhen) -> dict[str, Any]:
    """Rewrite the labels of ``data.pseudo.labels`` into ``config.output``; returns the report, which is written there.

    Raises:
        InputError: the source is not complete, the hand model is another, or the output holds other labels.
    """
    # An oracle judges nothing, so what decides about frames, and its model, are not asked for.
    unjudged = changed(config, filters={"mode": "thresholds", "quality_model": None, "enabled": ()})
    source, store = refiltering.open_source(unjudged), labelling.open_output(config)
    units.check_hand(source.run, config, source.store.root)
    fingerprint = fingerprint_of(source, which, truth, when)
    commits.check_fingerprint(store, fingerprint)
    if config.labelling.require_conditional_writes:
        check_conditional(store)
    aside = {name: source.run[name] for name in listing.ASIDE if name in source.run}
    facts = {"units": len(source.commits), "videos": source.run["videos"], **aside}
    facts |= {"config": source.run["config"], "oracle": which, "rewritten": source.store.root}
    if commits.MANIFEST in source.run:
        facts[commits.MANIFEST] = manifest.copy(source.store, source.run[commits.MANIFEST], store)
    commits.open_run(store, fingerprint, facts)
    done = commits.committed_units(store)
    rewritten = functools.partial(
        oracle.rewrite,
        truth=truth.table,
        oracle=which,
        when=when,
        joints_of=label_quality.joints_of(hand_layer(mirror.localised(config, "mano").mano)),
    )
    for commit in source.commits:
        if commit.unit not in done:
            _unit(source, store, commit, rewritten)
    aside |= {PREDICTED: sum(commit.counts.predicted for commit in source.commits)}
    report, _ = labelling.finish(store, [commit.unit for commit in source.commits], aside)
    return report


def fingerprint_of(source: Source, which: Oracle, truth: Truth, when: CorrectWhen) -> dict[str, Any]:
    """The source's fingerprint and everything else that decides the new labels."""
    return {
        **source.run["fingerprint"],
        "oracle": which,
        "true poses": truth.sha256,
        "right when": asdict(when),
        "rewritten": source.digest,
    }


def _unit(source: Source, store: Store, before: Commit, rewritten: Callable[[pa.Table, pa.Table], Rewritten]) -> None:
    started = time.time()
    keys = before.files
    made = rewritten(
        label_tables.read(source.store, [keys["predictions"]]),
        label_tables.read(source.store, [keys["pseudo_labels"]], schema=tables.PSEUDO_LABELS_SCHEMA),
    )
    new = {"predictions": made.predictions, "pseudo_labels": made.pseudo_labels}
    new["quarantine"] = arrow.read_table(source.store, keys["quarantine"])
    counts = _counts(before.counts, made)
    attempt, over = uuid.uuid4().hex[:12], before.taken_over
    commits.commit(store, before.unit, attempt, new, counts=counts, started=started, seconds={}, taken_over=over)


def _counts(before: Counts, made: Rewritten) -> Counts:
    """Counts of a unit whose labels were rewritten: a kept frame that lost its label is not predicted any more.

    Nor is one that had none because its picture was missing.
    """
    predictions = made.predictions
    verdicts = Counter(predictions["verdict"].to_pylist())
    kept = verdicts.pop(reasons.KEPT, 0)
    videos = set(predictions.filter(pc.equal(predictions["verdict"], reasons.KEPT))["video_id"].to_pylist())
    return replace(
        before,
        labelled=len(videos),
        empty=before.listed - before.quarantined - len(videos),
        predicted=len(predictions),
        kept=kept,
        filled=len(made.pseudo_labels) - kept,
        without_image=0,
        rejected=verdicts,
    )
