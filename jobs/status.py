"""python -m jobs.status output=DIR_OR_S3_URI

Prints the progress of a labelling run, also that of a pipeline, from its commits and from the note that its driver
leaves beside them. It asks nothing of the cluster, so it works during the run, after it, and from another
machine.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from cluster.labelling import commits, costs, presence, stalls
from cluster.store import open_store
from hojoint.config import Config
from hojoint.labelling import filters
from jobs import command, pseudo_label, quarantined, remote, results


def job(config: Config, dry_run: bool) -> None:
    """Read the commits and print; a dry run does the same, because nothing is written."""
    store = open_store(command.need(config.output, "output", "DIR_OR_S3_URI"))
    store = results.labelling_run(store) or store
    run = commits.read_run(store)
    committed = commits.read_commits(store)
    report = commits.report_of(committed, filters.REASONS)
    listed, done = run["videos"], report["videos"]["listed"]
    report["costs"] = costs.costs_of(committed, config.report, done)
    part = done / max(listed, 1)
    print(f"output   {store.root}, begun {remote.age(time.time() - run['begun'])} ago")
    print(f"units    {len(committed)} of {run['units']} committed, {done} of {listed} videos ({part:.0%})")
    if len(committed) < run["units"]:
        print(f"driver   {_driver(presence.drivers(store))}")
    if committed:
        last = time.time() - max(commit.finished for commit in committed)
        print(f"last     commit {remote.age(last)} ago")
        print(pseudo_label.summary(report, quarantined.firsts(store, committed)))
    silent = time.time() - max((commit.finished for commit in committed), default=run["begun"])
    limit = stalls.limit_s(stalls.longest_unit_s(committed))
    if len(committed) < run["units"] and silent > limit:
        usual = f"long for these units (more than {remote.age(limit)})"
        print(f"state    stalled or stopped: no commit for {remote.age(silent)}, {usual}")
    elif 0 < done < listed:
        print(f"left     about {remote.age(report['seconds'] * (listed - done) / done)} at the rate so far")
    elif len(committed) == run["units"]:
        print("state    complete")


def _driver(notes: Sequence[dict[str, Any]]) -> str:
    """Who is at work, and with how many Teachers."""
    alive = [note for note in notes if not presence.is_silent(note)]
    for note in alive:
        size = f", Teachers {note['teachers']} of {note['wanted']}" if "wanted" in note else ""
        heard = remote.age(max(time.time() - note["at"], 0.0))
        others = f"; {len(alive) - 1} others too" if len(alive) > 1 else ""
        return f"{presence.name_of(note)} {note['doing']}{size}, heard of {heard} ago{others}"
    if notes:
        silent = remote.age(time.time() - notes[0]["at"])
        return (
            f"{presence.name_of(notes[0])} is silent for {silent}: it was killed, its machine is gone, or it cannot "
            "write to the output. Give the command of the run again to continue"
        )
    return "none at work; give the command of the run again to continue"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return command.run(job, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
