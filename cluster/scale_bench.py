"""What the driver costs as videos become many, and what more Teachers are worth; the work itself is replaced by waits.

Decoding and the network are measured first, on real videos. Then complete labelling jobs run whose workers wait for as
long as those took (``timed``); everything else is real: boxes, listing, manifest, Ray Data, ledger, commits, report.
Each job's driver is a process of its own, or the memory of one would be counted for the next. Not here: printing
(``jobs.bench``).
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cluster import benchmarks, ending, scale_driver, scale_world, session, simulated
from cluster.benchmarks import Measured
from cluster.labelling import commits, totals
from cluster.labelling.commits import Commit
from cluster.scale_driver import Driven
from cluster.store import open_store
from cluster.timed import Durations
from hojoint import config as settings
from hojoint.config import Config, changed
from hojoint.errors import MachineError

UNIT_S = 4.0  # of one unit where Teachers are compared: long beside what a unit costs around its work
FLAT = 1.1  # cost per video of the largest run over that of the run of ``REFERENCE`` videos, or of the smallest
REFERENCE = 1000
MEMORY_MB, RESUME_S, EFFICIENCY = 1000, 60.0, 0.95
HEADER = ("videos", "units", "to first unit s", "labelling s", "driver ms/video", "peak MB", "resume s")


def scale_speeds(config: Config) -> Measured:
    """Drivers of ``bench.videos_many`` videos, and the rate of ``bench.teachers`` Teachers on ``bench.nodes`` nodes."""
    small, large = config.bench.teachers
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        durations = _measured(config, folder)
        root = Path(folder)
        config = changed(config, cluster={"teacher_cpus": 1.0, "teacher_gpus": 0.0})
        with simulated.nodes(config.bench.nodes, cpus=-(-large // config.bench.nodes)) as cluster:
            rates = _rates(cluster.attached(config), root, durations)
        print(f"videos per second by Teachers: {rates}", file=sys.stderr, flush=True)
        runs = {}
        for videos in sorted(config.bench.videos_many):
            runs[videos] = _many(config, root, videos, durations)
            print(f"{videos} videos: {runs[videos]}", file=sys.stderr, flush=True)
    efficiency = rates[large] / rates[small] * small / large
    rows = [_row(videos, facts) for videos, facts in runs.items()]
    facts = {
        "videos": {str(videos): facts for videos, facts in runs.items()},
        "decode_s": round(durations.decode, 4),
        "predict_s": round(durations.predict, 4),
        "marginal_ms": _marginal(runs),
        "videos_per_s": {str(count): round(rate, 3) for count, rate in rates.items()},
        "efficiency": round(efficiency, 3),
        "holds": _holds(runs, efficiency),
    }
    return Measured(HEADER, rows, facts)


def _measured(config: Config, folder: str) -> Durations:
    """Seconds that decoding and predicting one video of ``bench.frames`` frames take here."""
    with session.start(config.cluster):
        decode, predict = benchmarks.durations(config, folder)
    return Durations(decode, predict)


def _many(config: Config, root: Path, videos: int, durations: Durations) -> dict[str, Any]:
    """A complete run over so many videos, and the same command again on its output."""
    world = root / f"world-{videos}"
    scale_world.write(world, videos, config.bench.frames)
    size = {"unit_videos": min(config.bench.unit_videos, videos)}
    config = changed(scale_world.on(config, world), labelling=size, output=_output(config, root))
    waits = Durations(durations.decode, durations.predict, config.bench.time_share)
    began = time.time()
    driven, again = _drive(config, waits), _drive(config, waits)
    done = commits.read_commits(open_store(str(config.output)))
    assert sum(commit.counts.listed for commit in done) == videos
    return {
        "units": len(done),
        "to_first_unit_s": round(min(commit.started for commit in done) - began, 1),
        "labelling_s": round(totals.busy_seconds(done), 1),
        "cpu_ms": round(1000 * driven.cpu_s / videos, 3),
        "cpu_s": round(driven.cpu_s, 1),
        "peak_mb": round(driven.peak_mb),
        "base_mb": round(driven.base_mb),
        "resume_s": round(again.wall_s, 1),
    }


def _output(config: Config, root: Path) -> str:
    return f"{config.output or root / 'out'}/scale-{uuid.uuid4().hex[:12]}"


def _drive(config: Config, waits: Durations) -> Driven:
    """Label in a process of its own; it ends where this one is interrupted.

    Raises:
        MachineError: it has failed; its message stands above.
    """
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        answer = Path(folder) / "answer.json"
        order = {"config": settings.to_tree(config), "waits": asdict(waits), "answer": str(answer)}
        path = os.pathsep.join(filter(None, [str(session.ROOT), os.environ.get("PYTHONPATH", "")]))
        process = subprocess.Popen(
            [sys.executable, "-c", scale_driver.PROGRAM], stdin=subprocess.PIPE, env=os.environ | {"PYTHONPATH": path}
        )
        try:
            ending.interruptibly(lambda: process.communicate(json.dumps(order).encode()))
        finally:
            process.terminate()
            process.wait()
        if not answer.exists():
            raise MachineError("the driver of a run ended without a result; its message stands above")
        return Driven(**json.loads(answer.read_text()))


def _rates(config: Config, root: Path, durations: Durations) -> dict[int, float]:
    """Number of Teachers -> videos per second, with units of about ``UNIT_S``."""
    unit_videos = max(1, round(UNIT_S / durations.video_s))
    most = max(config.bench.teachers) * config.bench.teacher_units * unit_videos
    world = root / "world-rates"
    scale_world.write(world, most, config.bench.frames)
    out = {}
    for count in config.bench.teachers:
        size = {"unit_videos": unit_videos, "limit": count * config.bench.teacher_units * unit_videos}
        sized = changed(scale_world.on(config, world), cluster={"teachers": (count, count)}, labelling=size)
        sized = changed(sized, output=_output(config, root))
        _drive(sized, durations)
        out[count] = steady_rate(commits.read_commits(open_store(str(sized.output))), count)
    return out


def steady_rate(done: Sequence[Commit], workers: int) -> float:
    """Videos per second while all workers were at work: without their start, and without the last units.

    The time is that from the first moment at which so many units were in progress to the last one. A unit that was in
    progress for a part of it counts with that part.
    """
    changes = sorted([(one.started, 1) for one in done] + [(one.finished, -1) for one in done])
    busy = list(itertools.accumulate(change for _, change in changes))
    reached = min(workers, max(busy))
    begin = next(at for (at, _), count in zip(changes, busy, strict=True) if count >= reached)
    end = max(at for (at, change), count in zip(changes, busy, strict=True) if count - change >= reached)
    videos = 0.0
    for one in done:
        shared = max(0.0, min(one.finished, end) - max(one.started, begin))
        videos += one.counts.listed * shared / (one.finished - one.started)
    return videos / (end - begin)


def _row(videos: int, facts: Mapping[str, Any]) -> tuple[str, ...]:
    peak = f"{facts['peak_mb']} ({facts['peak_mb'] - facts['base_mb']:+d})"
    ordered = (facts["units"], facts["to_first_unit_s"], facts["labelling_s"], facts["cpu_ms"], peak, facts["resume_s"])
    return (f"{videos:,}", *map(str, ordered))


def _marginal(runs: Mapping[int, Mapping[str, Any]]) -> dict[str, float]:
    """What each further video costs the driver from one size to the next, ms: without the fixed cost of a run."""
    pairs = itertools.pairwise(runs)
    return {
        f"{few}-{many}": round(1000 * (runs[many]["cpu_s"] - runs[few]["cpu_s"]) / (many - few), 3)
        for few, many in pairs
    }


def _holds(runs: Mapping[int, Mapping[str, Any]], efficiency: float) -> dict[str, bool]:
    """What this project asks of itself, and whether it was so here."""
    largest = runs[max(runs)]
    few = REFERENCE if REFERENCE in runs else min(runs)
    return {
        f"driver below {MEMORY_MB} MB": max(facts["peak_mb"] for facts in runs.values()) < MEMORY_MB,
        f"cost per video within {FLAT:g} of that of {few} videos": largest["cpu_ms"] <= FLAT * runs[few]["cpu_ms"],
        f"resume within {RESUME_S:g} s": max(facts["resume_s"] for facts in runs.values()) <= RESUME_S,
        f"efficiency of {EFFICIENCY:g}": efficiency >= EFFICIENCY,
    }
