"""python -m jobs.gc output=DIR_OR_S3_URI [--dry-run]

Removes what lost attempts and abandoned uploads have left in the output of jobs.pseudo_label, jobs.refilter,
jobs.ingest or jobs.detect (output=BOXES.parquet), and of all rounds of a pipeline. --dry-run prints what would go.
Nothing that a commit or run.json names is ever removed, and a run in progress is refused. Files of units without a
commit, and uploads, are left for gc.min_age_h hours.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence

from cluster import garbage
from cluster.store import Store
from hojoint.config import Config
from jobs import command, results


def job(config: Config, dry_run: bool) -> None:
    """Find, print, and remove."""
    given = results.store_of(command.need(config.output, "output", "DIR_OR_S3_URI"))
    runs = results.labelling_runs(given)
    if not runs and (text := results.before_labels(given)) is not None:
        print(f"output   {given.root}, a pipeline without labels yet\n{text}\ngarbage  none")
        return
    # Of all rounds before anything is removed: one that is at work is refused.
    found = [(store, garbage.find(store, config.gc.min_age_h * 3600)) for store in runs or [given]]
    for store, leftovers in found:
        _clear(store, leftovers, dry_run)


def _clear(store: Store, leftovers: Sequence[garbage.Leftover], dry_run: bool) -> None:
    counts, sizes = Counter[str](), Counter[str]()
    for leftover in leftovers:
        counts[leftover.kind] += 1
        sizes[leftover.kind] += leftover.size
    print(f"output   {store.root}")
    for kind, count in counts.items():
        first = next(leftover.name for leftover in leftovers if leftover.kind == kind)
        print(f"garbage  {count} {kind}, {sizes[kind] / 1e6:.1f} MB (first {first})")
    if not leftovers:
        print("garbage  none")
    elif dry_run:
        print(f"would remove {len(leftovers)} objects, {sizes.total() / 1e6:.1f} MB")
    else:
        garbage.remove(store, leftovers)
        print(f"removed {len(leftovers)} objects, {sizes.total() / 1e6:.1f} MB")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return command.run(job, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
