"""python -m jobs.list cluster.address=http://HOST:8265 [output=URI] [submit.job=NAME] [--dry-run]

Shows the jobs that jobs.submit has sent to a cluster and that the cluster remembers, the last one first: how each is,
since when, and on which output. output= and submit.job= choose among them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from hojoint.config import Config
from hojoint.errors import InputError
from jobs import command, remote, submit
from jobs.printing import table
from jobs.remote import JobServer, age


def job(config: Config, dry_run: bool) -> None:
    """Print the table."""
    server = JobServer(config)
    refuse_unknown_job(config)
    if dry_run:
        print(f"would ask {server.address} for its jobs")
        return
    with remote.soon(config):
        infos = chosen(server, config)
    if not infos:
        wanted = filters(config)
        print(f"no jobs of this project{wanted and f' with {wanted}'} are known at {server.address}")
        return
    now = time.time()
    print(table(["job", "state", "began", "took", "output", "id"], [row(info, now) for info in infos]))


def chosen(server: JobServer, config: Config) -> list[Any]:
    """The jobs that the settings choose, the last one first."""
    infos = server.ask(lambda client: server.submission.ours(client, config.output))
    return [info for info in infos if config.submit.job in (None, (info.metadata or {}).get("job"))]


def refuse_unknown_job(config: Config) -> None:
    """InputError where ``submit.job`` is none that can be sent: no job would ever fit."""
    known = sorted({*submit.sendable_jobs(), *submit.SENT_BY_ITSELF})
    if config.submit.job not in (None, *known):
        raise InputError(
            f"submit.job={config.submit.job} is not a job that can be sent; expected one of {', '.join(known)}"
        )


def filters(config: Config) -> str:
    """The settings that choose among jobs, as the command line writes them; '' without any."""
    chosen_by = {"output": config.output, "submit.job": config.submit.job}
    return " and ".join(f"{name}={value}" for name, value in chosen_by.items() if value is not None)


def row(info: Any, now: float) -> list[str]:
    """One job of the table; ``now`` in seconds since the epoch, as Ray's times are in milliseconds."""
    facts = info.metadata or {}
    began, ended = (time_ms and time_ms / 1000 for time_ms in (info.start_time, info.end_time))
    took = (ended or now) - began if began else None
    return [
        facts.get("job_name", "-"),
        info.status.value.lower(),
        f"{age(max(0.0, now - began))} ago" if began else "not yet",
        age(max(0.0, took)) if took is not None else "-",
        facts.get("output", "-"),
        info.submission_id,
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return command.run(job, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
