"""python -m jobs.stop ID cluster.address=http://HOST:8265 [--dry-run], or output=URI [submit.job=NAME] in place of ID

Stops a job that jobs.submit has sent: the one with this id (submit.id), or those that work on this output, of all jobs
or of submit.job alone. What it has committed stays; the same jobs.submit command resumes it. jobs.list shows the ids.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence

from hojoint.config import Config
from hojoint.errors import InputError
from jobs import command, remote
from jobs.list import chosen, filters, refuse_unknown_job
from jobs.remote import JobServer


def job(config: Config, dry_run: bool) -> None:
    """Stop the chosen jobs, one after the other."""
    server = JobServer(config)
    with remote.soon(config):
        names = _names(server, config)
    for name in names:
        if dry_run:
            print(f"would stop {name}")
            continue
        with remote.soon(config):
            state = server.ask(functools.partial(server.submission.stop, submission_id=name))
        print(f"{name} is {state.lower()}; what it has committed stays, and the same jobs.submit command resumes it")


def _names(server: JobServer, config: Config) -> list[str]:
    """The ids to stop. Raises InputError where none is given, too much is given, or none fits."""
    if config.submit.id is not None:
        if given := filters(config):
            raise InputError(
                f"give the id of a job or what chooses among them, not both; found {config.submit.id} and {given}"
            )
        return [config.submit.id]
    refuse_unknown_job(config)
    if config.output is None:  # all trainings of everybody, say, are never meant
        alone = f"; submit.job={config.submit.job} alone chooses jobs of everybody" if config.submit.job else ""
        raise InputError(
            f"give the id of a job, or output=URI: {server.command_line('stop', 'ID')}; the ids: "
            f"{server.command_line('list')}{alone}"
        )
    names = [info.submission_id for info in chosen(server, config) if not info.status.is_terminal()]
    if not names:
        raise InputError(f"no job with {filters(config)} waits or runs at {server.address}")
    return names


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    words = list(sys.argv[1:] if argv is None else argv)
    return command.run(job, __doc__, remote.with_first_word(words, "submit.id"))


if __name__ == "__main__":
    sys.exit(main())
