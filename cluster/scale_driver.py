"""One driver of the benchmark of scale, in a process of its own: it labels, and writes what it measured of itself.

It imports what ``jobs.pseudo_label`` does and little more, because its memory is what is measured. The order comes as
JSON on its standard input. Not here: which drivers are compared (``scale_bench``).
"""

from __future__ import annotations

import functools
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cluster import ending, session, timed
from cluster.labelling import run as labelling
from cluster.timed import Durations
from hojoint import config as settings

PROGRAM = "from cluster import scale_driver; scale_driver.run()"


@dataclass(frozen=True)
class Driven:
    """What a driver's process measured of itself."""

    wall_s: float
    cpu_s: float  # of all its threads
    base_mb: float  # resident, with the libraries loaded and Ray connected
    peak_mb: float


def run() -> None:
    """Do what the order says: ``{"config": tree, "waits": Durations, "answer": path}``."""
    order = json.load(sys.stdin)
    driven = drive(order["config"], Durations(**order["waits"]))
    Path(order["answer"]).write_text(json.dumps(asdict(driven)))


def drive(tree: dict[str, Any], waits: Durations) -> Driven:
    """Label in this process."""
    config = settings.from_tree(tree)
    with ending.guarded(), session.start(config.cluster):
        base_mb, began, cpu_s = _peak_mb(), time.perf_counter(), time.process_time()
        labelling.label(config, functools.partial(timed.timed_teacher, waits))
        wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_s
    return Driven(wall_s, cpu_s, base_mb, _peak_mb())


def _peak_mb() -> float:
    """The largest resident memory of this process so far, shared pages included; Linux."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise OSError("/proc/self/status has no VmHWM")
