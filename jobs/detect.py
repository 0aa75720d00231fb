"""python -m jobs.detect videos.root=DIR_OR_S3_URI output=FILE_OR_S3_URI.parquet [detect.models=FILE.whl]

Finds hands in videos without boxes and writes one table of boxes, which jobs.pseudo_label reads as videos.boxes. The
detector is MediaPipe's, whose two networks are found in an installed mediapipe or at detect.models. Beside the output,
<output>.run holds run.json, commits/, detections/, quarantine/ and report.json. The same command resumes a run that was
stopped, whatever the cause. The number of actors is detect.actors; docs/detect.md tells what is found and what is not.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.detection import boxes_file
from cluster.detection import run as detection
from cluster.detection.findings import Counts
from cluster.labelling import commits
from cluster.labelling.budget import BudgetExceeded
from cluster.labelling.commits import Commit
from cluster.store import Store, check_writable
from hojoint.config import Config
from hojoint.errors import InputError
from jobs import command, quarantined, retyped

NAMED = 3  # units that a remedy names; a unit's commit holds its classes
TRY_AGAIN = {
    "missing": ("Bring the file back, then", "; or set another output."),
    "timeout": ("Raise labelling.decode_deadline_s, then", "; or cut a long video and set another output."),
    "unreachable": ("Check rights, network and mounts, then", "; or set another output."),
    "changed": ("Set another output; or bring the former file back,", ". Do not replace videos while they are read."),
}
"""Class -> what stands before and after the names of the commits to remove."""


def job(config: Config, dry_run: bool) -> None:
    """Check what is needed, detect, and print the report."""
    command.refuse_missing(config, "detect")
    output = command.need(config.output, "output", "FILE.parquet")
    _refuse_growth(config)
    check_writable(boxes_file.run_of(output))
    if dry_run:
        detection.dry_run(config)
        return
    try:
        report = detection.detect(config)
    except BudgetExceeded as error:
        raise command.RunFailed(str(error)) from None
    store = detection.open_run(config)
    done = commits.read_commits(store, counts_of=Counts.of) if report["quarantine"] else []
    print(summary(report, quarantined.firsts(store, done), remedies(store, done)))
    print(f"boxes    {output}; label with: {labelling_command(str(config.videos.root), output)}")


def labelling_command(root: str, boxes: str) -> str:
    """The command that labels the videos by these boxes, quoted for a shell."""
    given = (retyped.word("videos.root", root), retyped.word("videos.boxes", boxes))
    return shlex.join(["python", "-m", "jobs.pseudo_label", *given, "teacher.checkpoint=FILE", "output=DIR"])


def _refuse_growth(config: Config) -> None:
    """InputError for settings by which jobs.pseudo_label adds to an output: a table of boxes is one run's."""
    if config.labelling.extend:
        raise InputError(
            "labelling.extend=true: jobs.detect adds no videos to a table that it has begun; set another output"
        )
    if config.labelling.retry is not None:
        raise InputError(
            f"labelling.retry={config.labelling.retry}: jobs.detect does not try videos again by a setting; set "
            "another output, or follow the remedies that jobs.status prints for this one"
        )


def remedies(store: Store, done: Sequence[Commit]) -> dict[str, str]:
    """Class of quarantine -> what to do, where the remedy of labelling is ``labelling.retry``.

    A unit without its commit is done anew, also in a complete run, as long as the videos are those of before.
    """
    out = {}
    for kind, (before, after) in TRY_AGAIN.items():
        units = [commit.unit for commit in done if commit.failed[kind]]
        names = [commits.commit_key(unit) for unit in units[:NAMED]]
        more = f" and those of {len(units) - NAMED} more units" if len(units) > NAMED else ""
        if units:
            out[kind] = (
                f"{before} remove {', '.join(names)}{more} in {store.root} and give the same command again{after}"
            )
    return out


def summary(
    report: Mapping[str, Any], first: Mapping[str, tuple[str, str]], remedy: Mapping[str, str]
) -> str:  # fmt: skip
    """The report as a person reads it, with the first message of each class of quarantine (``quarantined.firsts``)."""
    videos, boxes, sides = report["videos"], report["boxes"], report["sides"]
    classes = ", ".join(f"{count} {kind}" for kind, count in report["quarantine"].items())
    return "\n".join(
        [
            f"videos   {videos['listed']} = {videos['with_hands']} with hands + {videos['without_hands']} without + "
            f"{videos['quarantined']} quarantined{f' ({classes})' if classes else ''}",
            *quarantined.lines(report["quarantine"], first, remedy),
            f"boxes    {boxes['found']} found + {boxes['filled']} filled, in {report['pictures']} pictures",
            f"tracks   {report['tracks']} = {sides['right']} right + {sides['left']} left + {sides['unknown']} of "
            f"unknown side; {report['short_tracks']} too short, left out",
            f"time     {report['seconds']:.1f} s, {report['pictures_per_second']:.1f} pictures/s",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return command.run(job, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
