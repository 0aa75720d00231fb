"""python -m jobs.pseudo_label videos.root=DIR videos.boxes=FILE_OR_DIR teacher.checkpoint=FILE output=DIR_OR_S3_URI

Labels videos with a trained teacher (Sec. 5.1). Every frame with a hand box is predicted in eight views; the rules
keep it or reject it. videos.root is a folder or s3://bucket/prefix with <id>.webm (.mp4 .mov .mkv .m4v .avi), folders
<id>/000001.jpg or tar files of videos; videos.boxes is Something-Else JSON, a CSV or Parquet table, or 100DOH's JSON
(docs/boxes.md). Under the output: run.json and the manifest of all videos, commits/, predictions/, pseudo_labels/,
quarantine/, report.json. The same command resumes a run that was stopped, whatever the cause. The number of Teacher
actors is cluster.teachers.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.labelling import commits, costs
from cluster.labelling import run as labelling
from cluster.labelling.budget import BudgetExceeded
from hojoint.config import Config
from jobs import command, nothing_kept, quarantined


def job(config: Config, dry_run: bool) -> None:
    """Check what is needed, label, and print the report."""
    command.refuse_missing(config, "pseudo_label")
    command.output_of(config, "DIR_OR_S3_URI")
    if dry_run:
        labelling.dry_run(config)
        return
    try:
        report = labelling.label(config)
    except BudgetExceeded as error:
        raise command.RunFailed(str(error)) from None
    store = labelling.open_output(config)
    print(summary(report, quarantined.firsts(store, commits.read_commits(store)) if report["quarantine"] else {}))
    note = nothing_kept.note(report, store, config)
    if note is not None:
        print(f"note: {note}")
    print(f"written  {store.root}")


def summary(report: Mapping[str, Any], first: Mapping[str, tuple[str, str]]) -> str:
    """The report as a person reads it, with the first message of each class of quarantine (``quarantined.firsts``)."""
    videos, frames = report["videos"], report["frames"]
    predicted = max(frames["predicted"], 1)
    share = {rule: f"{rule} {count} ({count / predicted:.0%})" for rule, count in frames["rejected"].items() if count}
    classes = ", ".join(f"{count} {kind}" for kind, count in report["quarantine"].items())
    return "\n".join(
        [
            f"videos   {videos['listed']} = {videos['labelled']} labelled + {videos['empty']} without kept frames + "
            f"{videos['quarantined']} quarantined{f' ({classes})' if classes else ''}",
            *quarantined.lines(report["quarantine"], first),
            f"frames   {frames['predicted']} predicted = {frames['kept']} kept ({frames['kept'] / predicted:.0%}) + "
            f"{frames['predicted'] - frames['kept']} rejected{_filled(frames['filled'])}",
            f"rejected {', '.join(share.values()) or 'none'}",
            f"time     {report['seconds']:.1f} s, {report['frames_per_second']:.1f} frames/s",
            *(costs.lines(report["costs"]) if "costs" in report else []),
        ]
    )


def _filled(count: int) -> str:
    return f", of which {count} have a label between kept ones" if count else ""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return command.run(job, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
