"""python -m jobs.retrain data.pseudo.labels=DIR_OR_S3_URI output=DIR_OR_S3_URI [key=value ...] [--dry-run]

Trains on labelled images and pseudo-labels together (Sec. 5.2), from scratch or from train.init_checkpoint, with the
schedule of the first phase. Only images with object labels count in the object loss (Eq. 8). data.pseudo.labels is the
output of jobs.pseudo_label or jobs.refilter. train.pseudo_share sets the mixture; without it all samples are drawn
alike. The rest is as in jobs.train; student.* is of jobs.pipeline and has no effect here.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from hojoint.config import Config, StudentConfig
from jobs import command, train


def job(config: Config, dry_run: bool) -> None:
    """Train on ``train.datasets`` and pseudo-labels."""
    command.refuse_missing(config, "retrain")
    if idle := _idle(config.student):
        print(
            f"note: {', '.join(idle)} {'have' if len(idle) > 1 else 'has'} no effect here: jobs.retrain trains by "
            "train.*, and student.* is of jobs.pipeline"
        )
    datasets = tuple(dict.fromkeys((*config.train.datasets, "pseudo")))
    config = config.model_copy(update={"train": config.train.model_copy(update={"datasets": datasets})})
    train.job(config, dry_run)


def _idle(student: StudentConfig) -> list[str]:
    """The settings of ``student`` that are not their defaults."""
    default = StudentConfig()
    return [
        f"student.{name}" for name in StudentConfig.model_fields if getattr(student, name) != getattr(default, name)
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return command.run(job, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
