"""python -m jobs.status output=DIR_OR_S3_URI

Prints the progress of a labelling run, also that of a pipeline, from its commits and from the sign of life that its
driver leaves beside them. It asks nothing of the cluster, so it works during the run, after it, and from another
machine.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.labelling import commits, costs, signs, stalls
from cluster.store import open_store
from hojoint.config import Config
from hojoint.labelling import filters
from jobs import command, pseudo_label, quarantined, remote, results

SILENT_S = 300.0  # ten times the interval between two signs of a driver


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
    if done < listed and "refiltered" not in run:  # jobs.refilter leaves no sign
        print(f"driver   {_driver(signs.read(store))}")
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


def _driver(sign: Mapping[str, Any] | None) -> str:
    """Whether a driver is at work, and with how many Teachers."""
    if sign is None:
        return "none at work; give the command of the run again to go on"
    silent = time.time() - sign["at"]
    if silent > SILENT_S:
        return (
            f"silent for {remote.age(silent)}: it was killed, its machine is gone, or it cannot write to the output. "
            "Give the command of the run again to go on"
        )
    return f"Teachers {sign['teachers']} of {sign['wanted']}, heard of {remote.age(max(silent, 0.0))} ago"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return command.run(job, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
