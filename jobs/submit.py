"""python -m jobs.submit submit.job=NAME cluster.address=http://HOST:8265 [--config FILE] [key=value ...] [--dry-run]

Sends a job to a running Ray cluster, follows its output, and exits with its result. All other settings are passed to
the job, so a command that works here works there with ``jobs.submit submit.job=NAME`` in front. The same command on
the same code is sent once; given again, it follows the job that was sent. A cluster beyond this machine must ask for
a token (RAY_AUTH_MODE=token on its side, RAY_AUTH_TOKEN_PATH here), unless cluster.insecure=true.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hojoint import config as settings
from hojoint.config import Config
from hojoint.errors import InputError
from jobs import command, retyped

ROOT = Path(__file__).resolve().parent.parent
JOBS = (
    "pipeline", "synthesize", "train", "pseudo_label", "refilter", "retrain", "evaluate", "calibrate", "report",
    "status", "study",
)  # fmt: skip


def job(config: Config, dry_run: bool) -> None:
    """Send one job, unless it is there already, and follow it to its end."""
    name = command.need(config.submit.job, "submit.job", "pseudo_label")
    if name not in JOBS:
        raise InputError(f"unknown job {name!r}; known: {', '.join(JOBS)}")
    address = command.need(config.cluster.address, "cluster.address", "http://127.0.0.1:8265")
    submission = _import_submission()
    submission.check_address(address)
    what = submission.Submission(f"jobs.{name}", arguments(config), ROOT)
    print(f"job      {what.submission_id}\naddress  {address}\ncommand  {what.entrypoint}", flush=True)
    if dry_run:
        return
    client = submission.connect(address, insecure=config.cluster.insecure)
    submission_id, sent = submission.submit(client, what)
    print(f"sent as {submission_id}" if sent else f"{submission_id} is there already; following it", flush=True)
    good, message = submission.follow(client, submission_id, lambda text: print(text, end="", flush=True))
    if not good:
        raise command.RunFailed(f"{submission_id} failed: {message}. Send the same command again to go on")
    print(f"{submission_id} is done")


def arguments(config: Config) -> list[str]:
    """The overrides that turn the shipped tiny.yaml into ``config`` on the other side, as key=JSON.

    Values rather than a file: the config file may lie outside the folder that is shipped.
    """
    there = config.model_copy(
        update={
            "submit": config.submit.model_copy(update={"job": None}),
            "cluster": config.cluster.model_copy(update={"address": "auto", "insecure": False}),
        }
    )
    shipped = settings.load(command.DEFAULT_CONFIG)
    return [f"{key}={json.dumps(value)}" for key, value in retyped.differences(there, shipped)]


def _import_submission() -> Any:
    try:
        from cluster import submission
    except ImportError as error:
        raise InputError(f"jobs.submit needs Ray's job client ({error}): pip install -e '.[cluster]'") from None
    return submission


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return command.run(job, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
