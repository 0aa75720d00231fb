"""python -m jobs.ingest ingest.dataset=ho3d|freihand data.ho3d.root=DIR_OR_S3_URI output=DIR_OR_S3_URI [--dry-run]

Writes a labelled set as shards, Parquet files with images and labels, which jobs.train and jobs.retrain then read from
a folder or from object storage: data.ho3d.shards=OUTPUT (data.freihand.shards). The samples are those of the files, bit
for bit, for any crop and any size of the network's input. With train.held_out the held-out recordings have shards of
their own. Under the output: run.json, commits/, samples/ and report.json. The same command resumes a run that was
stopped. The number of actors is ingest.actors, the images per shard ingest.shard_samples.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cluster import ingesting
from hojoint.config import Config
from jobs import command, sets


def job(config: Config, dry_run: bool) -> None:
    """Check the set, then write its shards."""
    name = config.ingest.dataset
    command.need(getattr(config.data, name).root, f"data.{name}.root", "DIR_OR_S3_URI")
    output = command.output_of(config, "DIR_OR_S3_URI")
    labelled = ingesting.LabelledSet(config)
    for part in (labelled.train, labelled.held_out):
        if part is not None:
            sets.check(part, config, complete=dry_run)
    if dry_run:
        plan = ingesting.make_plan(config, labelled, ingesting.open_output(config))
        total, pending = len(plan.layout.unit_ids), len(plan.pending)
        print(f"images     {plan.layout.samples} to train on, {plan.layout.held_out} held out")
        most = plan.layout.shard_samples
        print(f"shards     {total} of up to {most} images; {total - pending} committed, {pending} to do")
        print(f"resources  {ingesting.feasible(config, plan)}")
        return
    report = ingesting.ingest(config)
    size = f"{report['held_out']} held out, {report['image_bytes'] / 1e6:.0f} MB"
    print(
        f"{output}: {report['samples']} images ({size}) in {report['shards']} shards, {report['seconds']:.1f} s; train "
        f"with data.{name}.shards={output}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return command.run(job, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
