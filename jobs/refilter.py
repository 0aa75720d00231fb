"""python -m jobs.refilter data.pseudo.labels=DIR_OR_S3_URI output=DIR_OR_S3_URI [filters.RULE=...] [videos.root=DIR]

Applies other thresholds without the network (Sec. 5.1.1, 5.1.2). It reads the predictions of a finished
jobs.pseudo_label, judges every frame again by the filters of this command, given or default, and writes labels of the
same layout to the output. What differs from the labels' own settings is printed.
Frames that were kept before bring their pictures. Frames that are kept only now are decoded again from where the
labelling run read them, or from videos.root (a folder or s3://bucket/prefix) if given. A frame whose video is not under
videos.root, is another file there (by its size) or does not decode is in predictions/ but not in pseudo_labels/, and is
counted as without_image. A video that cannot be reached ends the run, and the same command resumes; with
videos.missing=leave_out it is counted as well.
The number of actors is refilter.actors.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cluster.labelling import commits, refiltering
from cluster.store import open_store
from hojoint.config import Config
from hojoint.model import opening
from jobs import command, nothing_kept, pseudo_label, quarantined


def job(config: Config, dry_run: bool) -> None:
    """Judge again, and print the new report."""
    command.refuse_missing(config, "refilter")
    output = command.output_of(config, "DIR_OR_S3_URI")
    source = refiltering.open_source(config)
    if (note := opening.overridden(config, source.config, groups=("crop",), owner="the labelling run")) is not None:
        print(f"note: {note}")
    if dry_run:
        refiltering.dry_run(config)
        return
    print(refiltering.changes(source, config))
    report = refiltering.refilter(config)
    store = open_store(output)
    done = commits.read_commits(store) if report["quarantine"] else []
    print(pseudo_label.summary(report, quarantined.firsts(store, done)))
    if (note := nothing_kept.note(report, store, config)) is not None:
        print(f"note: {note}")
    missing = report["frames"]["without_image"]
    if missing:
        failed = ", ".join(f"{count} {name}" for name, count in report["videos_without_pictures"].items())
        reasons = f" ({failed}: videos that failed, see quarantine/)" if failed else ""
        print(
            f"note: {missing} of {report['frames']['kept']} kept frames have no picture and are not in pseudo_labels/"
            f"{reasons}; with videos.root=DIR_OR_S3_URI of their videos and another output they are decoded again"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return command.run(job, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
