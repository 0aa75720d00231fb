"""python -m jobs.status output=DIR_OR_S3_URI

Prints the progress of a labelling run, also that of a pipeline, from its commits. It asks nothing of the cluster, so it
works during the run, after it, and from another machine.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from cluster.labelling import commits
from cluster.store import open_store
from hojoint.config import Config
from hojoint.labelling import filters
from jobs import command, pseudo_label, quarantined, results


def job(config: Config, dry_run: bool) -> None:
    """Read the commits and print; a dry run does the same, because nothing is written."""
    store = open_store(command.need(config.output, "output", "DIR_OR_S3_URI"))
    store = results.labelling_run(store) or store
    run = commits.read_run(store)
    committed = commits.read_commits(store)
    report = commits.report_of(committed, filters.REASONS)
    listed, done = run["videos"], report["videos"]["listed"]
    part = done / max(listed, 1)
    print(f"output   {store.root}, begun {_ago(time.time() - run['begun'])} ago")
    print(f"units    {len(committed)} of {run['units']} committed, {done} of {listed} videos ({part:.0%})")
    if committed:
        last = time.time() - max(commit.finished for commit in committed)
        print(f"last     commit {_ago(last)} ago")
        print(pseudo_label.summary(report, quarantined.firsts(store, committed)))
    if 0 < done < listed:
        print(f"left     about {_ago(report['seconds'] * (listed - done) / done)} at the rate so far")
    elif len(committed) == run["units"]:
        print("state    complete")


def _ago(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return command.run(job, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
