"""python -m jobs.submit submit.job=NAME cluster.address=http://HOST:8265 [--detach] [key=value ...] [--dry-run]

Sends a job to a running Ray cluster, follows its output, and exits with its result. All other settings are passed to
the job, so a command that works here works there with ``jobs.submit submit.job=NAME`` in front. Given again while the
job waits or runs, the command follows it, from its last lines on; after its end, it sends the job again, which looks at
its output and does what is missing there. --detach (submit.detach=true) returns when the job is sent. If this command
ends early, the job continues on the cluster; jobs.list shows it, jobs.stop ends it. A cluster beyond this machine must
ask for a token (RAY_AUTH_MODE=token on its side, RAY_AUTH_TOKEN_PATH here), unless cluster.insecure=true.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from hojoint import config as settings
from hojoint.config import Config
from hojoint.errors import InputError, Unavailable
from jobs import command, measured_as, retyped
from jobs.cli import JOBS
from jobs.remote import JobServer

ROOT = Path(__file__).resolve().parent.parent
STAY_HERE = {"submit", "stop", "list", "cluster_up", "deploy", "bench", "demo", "doctor"}
"""Jobs that are not sent: those that ask a cluster from outside or make one, one that measures the machine it runs
on, two that draw for a person in front."""
SENT_BY_ITSELF = ("doctor",)
"""Of those the one that its own command sends: the doctor of a cluster."""
READERS = {"status", "report", "doctor"}
"""Jobs of which several may look at one output."""
DETACH = "--detach"


def job(config: Config, dry_run: bool) -> None:
    """Send one job, unless the cluster works on it already, and follow it to its end."""
    name = command.need(config.submit.job, "submit.job", "pseudo_label")
    if name not in sendable_jobs():
        raise InputError(
            f"submit.job={name} is not a job that can be sent; expected one of {', '.join(sendable_jobs())}"
        )
    send(config, name, dry_run)


def send(config: Config, name: str, dry_run: bool) -> None:
    """Send the job ``name`` with these settings, and follow it unless ``submit.detach``.

    Raises:
        InputError: the settings, the address or the token are wrong, or the job itself says so of its input.
        command.RunFailed: it failed, or cannot be followed any more.
        Unavailable: the cluster has not answered for too long, or the job itself ended with 'try again'.
    """
    server = JobServer(config)
    command.refuse_missing(config, name)
    refuse_relative_paths(config)
    command.refuse_missing_data(config, name)
    what = server.submission.Submission(
        f"jobs.{name}", arguments(config), ROOT, config.name, config.output, name not in READERS
    )
    print(f"job      {what.submission_id}\naddress  {server.address}\ncommand  {what.entrypoint}", flush=True)
    if dry_run:
        return
    try:
        submission_id, sent = server.ask(lambda client: server.submission.submit(client, what))
    except KeyboardInterrupt:
        raise command.RunFailed(
            f"interrupted while {what.submission_id} was being sent: the cluster may have it and run it. See: "
            f"{server.command_line('list')}; the same command follows it, or sends it"
        ) from None
    print(f"sent as {submission_id}" if sent else f"{submission_id} runs already", flush=True)
    if config.submit.detach:
        print(f"It runs on without this command. The same command without {DETACH} follows it; see also:")
        print(f"  {server.command_line('list')}\n  {server.command_line('stop', submission_id)}")
        return
    _follow(server, submission_id, only_new=not sent)


def _follow(server: JobServer, submission_id: str, *, only_new: bool) -> None:
    """Print the job's output to its end; an exception unless it succeeds."""
    following = server.following
    if only_new:
        print(f"(the last {following.SHOWN_LINES} lines; all: ray job logs {submission_id})", flush=True)
    try:
        ended = following.follow(
            server.client, submission_id, lambda text: print(text, end="", flush=True), only_new=only_new
        )
    except following.Silent as silent:
        raise Unavailable(str(silent)) from None
    except following.FollowingStopped as stopped:
        raise command.RunFailed(str(stopped)) from None
    except KeyboardInterrupt:
        raise command.RunFailed(
            f"interrupted here; {submission_id} runs on, on the cluster. The same command follows it again; to stop "
            f"it: {server.command_line('stop', submission_id)}"
        ) from None
    if ended.good:
        print(f"{submission_id} is done")
        return
    reason = (ended.message.splitlines() or ["no reason given"])[0]
    if ended.exit_code == command.Exit.WRONG_INPUT:
        raise InputError(f"{submission_id} ended with exit code 2: its message above says what is wrong")
    if ended.exit_code == command.Exit.TRY_AGAIN:
        raise Unavailable(f"{submission_id} could not go on, as its message above says; the same command resumes it")
    raise command.RunFailed(f"{submission_id} failed: {reason}. Give the same command again to resume")


def refuse_relative_paths(config: Config) -> None:
    """InputError for a path that means another folder where the job runs, one that Ray removes after the job."""
    for name in command.PATH_SETTINGS:
        value = command.local_path_of(config, name)
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
            "submit": settings.SubmitConfig(),
            "deploy": settings.DeployConfig(),
            "cluster": config.cluster.model_copy(update={"address": "auto", "insecure": False}),
        }
    )
    shipped = settings.load(command.DEFAULT_CONFIG)
    words = dict(retyped.differences(remote, shipped))
    words |= {key: value for key, value in measured_as.given(config) if key not in words}
    return [f"{key}={retyped.letters(json.dumps(value))}" for key, value in words.items()]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    words = sys.argv[1:] if argv is None else argv
    return command.run(job, __doc__, ["submit.detach=true" if word == DETACH else word for word in words])


if __name__ == "__main__":
    sys.exit(main())
