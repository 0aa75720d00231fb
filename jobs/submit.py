"""python -m jobs.submit submit.job=NAME cluster.address=http://HOST:8265 [--config FILE] [key=value ...] [--dry-run]

Sends a job to a running Ray cluster, follows its output, and exits with its result. All other settings are passed to
the job, so a command that works here works there with ``jobs.submit submit.job=NAME`` in front. The same command on
the same code is sent once; given again, it follows the job that was sent. If this command ends early, the job continues
on the cluster. A cluster beyond this machine must ask for a token (RAY_AUTH_MODE=token on its side, RAY_AUTH_TOKEN_PATH
here), unless cluster.insecure=true.
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
from jobs.cli import JOBS

ROOT = Path(__file__).resolve().parent.parent
STAY_HERE = {"submit", "bench", "demo", "doctor", "deploy"}
"""Jobs that are not sent: two that send, one that measures its machine, two that draw for a person."""


def job(config: Config, dry_run: bool) -> None:
    """Send one job, unless the cluster has it already, and follow it to its end."""
    name = command.need(config.submit.job, "submit.job", "pseudo_label")
    if name not in sendable_jobs():
        raise InputError(
            f"submit.job={name} is not a job that can be sent; expected one of {', '.join(sendable_jobs())}"
        )
    address = command.need(config.cluster.address, "cluster.address", "http://127.0.0.1:8265")
    submission, following = _import_client()
    submission.check_address(address)
    refuse_relative_paths(config)
    what = submission.Submission(f"jobs.{name}", arguments(config), ROOT)
    print(f"job      {what.submission_id}\naddress  {address}\ncommand  {what.entrypoint}", flush=True)
    if dry_run:
        return
    client = submission.connect(address, insecure=config.cluster.insecure)
    try:
        submission_id, sent = submission.submit(client, what)
    except InputError:
        raise
    except following.FAULTS as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        message = f"{what.submission_id} could not be sent ({reason}). Give the same command again"
        raise command.RunFailed(message) from None
    print(f"sent as {submission_id}" if sent else f"{submission_id} was sent before; following it", flush=True)
    _follow(client, submission_id, following, address)


def _follow(client: Any, submission_id: str, following: Any, address: str) -> None:
    """Print the job's output to its end; RunFailed unless it succeeds."""
    try:
        good, message = following.follow(client, submission_id, lambda text: print(text, end="", flush=True))
    except following.FollowingStopped as stopped:
        raise command.RunFailed(str(stopped)) from None
    except KeyboardInterrupt:
        raise command.RunFailed(
            f"interrupted; {submission_id} continues on the cluster. Give the same command again to follow it, or stop "
            f"it with: ray job stop {submission_id} --address={address}"
        ) from None
    if not good:
        raise command.RunFailed(f"{submission_id} failed: {message}. Give the same command again to resume")
    print(f"{submission_id} is done")


def refuse_relative_paths(config: Config) -> None:
    """InputError for a path that means another folder where the job runs, one that Ray removes after the job."""
    for name in command.PLACES:
        value = command.place_of(config, name)
        if value is not None and not Path(value).is_absolute():
            raise InputError(
                f"{name}={value} is a relative path, and a job on a cluster runs in another folder. Give an absolute "
                "path that all nodes see, or an s3:// URI"
            )


def sendable_jobs() -> list[str]:
    """The jobs of ``cli.JOBS`` that run on a cluster."""
    return sorted(JOBS.keys() - STAY_HERE)


def arguments(config: Config) -> list[str]:
    """The overrides that turn the shipped tiny.yaml into ``config`` on the cluster, as key=JSON.

    Values rather than a file: a config file is not among the shipped packages.
    """
    remote = config.model_copy(
        update={
            "submit": config.submit.model_copy(update={"job": None}),
            "cluster": config.cluster.model_copy(update={"address": "auto", "insecure": False}),
        }
    )
    shipped = settings.load(command.DEFAULT_CONFIG)
    return [f"{key}={json.dumps(value)}" for key, value in retyped.differences(remote, shipped)]


def _import_client() -> tuple[Any, Any]:
    try:
        from cluster import following, submission
    except ImportError as error:
        raise InputError(f"jobs.submit needs Ray's job client ({error}): pip install -e '.[cluster]'") from None
    return submission, following


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return command.run(job, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
