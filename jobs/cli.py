"""python -m jobs.cli JOB [key=value ...] [--dry-run], installed as the command: hojoint JOB [key=value ...] [--dry-run]

One command for all jobs: ``hojoint train ...`` does what ``python -m jobs.train ...`` does. The jobs are a table here,
so that the list and a typo cost no import.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence

JOBS = {
    "pipeline": "the complete method: synthesize, train, pseudo_label, retrain, evaluate, report",
    "demo": "draw the hand mesh that a trained network predicts on an image or a short video",
    "synthesize": "draw the synthetic world in the formats of the real data sets",
    "ingest": "write a labelled set as shards, from which training can stream",
    "train": "train the network on labelled images (Sec. 6.1)",
    "detect": "find hands in videos without boxes, and write their boxes",
    "pseudo_label": "label videos with a trained teacher and filter the labels (Sec. 5.1)",
    "refilter": "apply other thresholds to a finished labelling run, without the network",
    "retrain": "train on labelled images and pseudo-labels together (Sec. 5.2)",
    "evaluate": "measure a network, or score a submission file as the official scripts do",
    "calibrate": "measure each rule where the hand is known, and propose thresholds",
    "report": "write the HTML report of a pipeline or a labelling run",
    "study": "run the pipeline for several seeds and compare them",
    "bench": "measure speed, scale and what faults cost, from decoding to a complete job",
    "doctor": "check data sets, or the nodes of a cluster: counts, faults and remedies",
    "status": "show progress of labelling, detection or ingestion",
    "gc": "remove what lost attempts and abandoned uploads left in an output",
    "submit": "send a job to a running Ray cluster and follow it",
    "deploy": "print a RayJob for Kubernetes or a Slurm script for a job",
    "list": "show the jobs that were sent to a cluster",
    "stop": "stop a job that was sent to a cluster",
    "cluster_up": "start a cluster of several nodes on this machine, to try all of this",
}
"""Job -> one line for ``hojoint --help``."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(usage(), file=sys.stdout if words else sys.stderr)
        return 0 if words else 2
    name = words[0].replace("-", "_")
    if name not in JOBS:
        print(f"error: unknown job {words[0]!r}; {_hint(name)}", file=sys.stderr)
        return 2
    sys.argv[0] = f"hojoint {name}"  # argparse calls the program by it
    result: int = importlib.import_module(f"jobs.{name}").main(words[1:])
    return result


def usage() -> str:
    """What ``hojoint --help`` prints."""
    width = max(map(len, JOBS))
    lines = [f"  {name:<{width}}  {text}" for name, text in JOBS.items()]
    return "\n".join(
        [
            "usage: hojoint JOB [--config FILE] [key=value ...] [--dry-run]",
            "",
            "Semi-supervised 3D hand-object pose estimation (Liu et al., CVPR 2021). Jobs:",
            "",
            *lines,
            "",
            "hojoint JOB --help explains a job and its settings. Without --config: configs/tiny.yaml.",
            "Exit codes: 0 done, 2 the input is wrong, 1 the run failed, 75 try again: a store or the cluster did not",
            "answer, or a disk is full.",
        ]
    )


def _hint(name: str) -> str:
    near = difflib.get_close_matches(name, JOBS, n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else f"jobs: {', '.join(JOBS)}"


if __name__ == "__main__":
    sys.exit(main())
