"""Retrain on the union: python -m jobs.retrain data.pseudo.labels=URI output=URI [key=value ...]

Labelled images and pseudo-labels (Sec. 5.2), from scratch, with the schedule of the first phase; the object loss only
where objects are labelled (Eq. 8). data.pseudo.labels is the output of jobs.pseudo_label or jobs.refilter. The mixture
is train.pseudo_share; without one the union is sampled uniformly. The same function as jobs.train.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from hojoint.config import Config
from jobs import command, train


def job(config: Config, dry_run: bool) -> None:
    """Train on ``train.datasets`` and pseudo-labels."""
    command.need(config.data.pseudo.labels, "data.pseudo.labels", "runs/labels")
    datasets = tuple(dict.fromkeys((*config.train.datasets, "pseudo")))
    config = config.model_copy(update={"train": config.train.model_copy(update={"datasets": datasets})})
    train.job(config, dry_run)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return command.run(job, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
