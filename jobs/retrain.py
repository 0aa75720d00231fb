"""Retrain on the union: python -m jobs.retrain data.pseudo.labels=URI output=URI [key=value ...]

Labelled images and pseudo-labels (Sec. 5.2), from scratch, with the schedule of the first phase; the object loss only
where objects are labelled (Eq. 8). data.pseudo.labels is the output of jobs.pseudo_label or jobs.refilter. The mixture
is train.pseudo_share; without one the union is sampled uniformly. The same function as jobs.train.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from cluster import commits
from cluster.store import open_store
from hojoint.config import Config, digest
from jobs import command
from jobs.train import train

TEACHER = "teacher"  # its name in a labelling run's fingerprint


def job(config: Config, dry_run: bool) -> None:
    """Train on ``train.datasets`` and pseudo-labels, whose run is noted as the parent."""
    uri = command.need(config.data.pseudo.labels, "data.pseudo.labels", "runs/labels")
    datasets = tuple(dict.fromkeys((*config.train.datasets, "pseudo")))
    config = config.model_copy(update={"train": config.train.model_copy(update={"datasets": datasets})})
    train(config, dry_run, parents=parents_of(uri))


def parents_of(uri: str) -> dict[str, Any]:
    """The teacher's checksum, and a digest of all that decided the labels, as their run noted them."""
    fingerprint = commits.read_run(open_store(uri))["fingerprint"]
    return {"teacher": fingerprint.get(TEACHER, "unknown"), "labels": digest(fingerprint)}


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return command.run(job, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
