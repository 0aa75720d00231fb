"""A labelling job under faults: whether its committed rows are those of a run without any, and what each fault costs.

A job is a process of its own on a simulated cluster of two nodes. Its videos and its output lie in a small S3 server
(``chaos_store``). Faults of one kind strike one run at a time, so that a lost row and a lost second have a cause. A job
that ends is started again with the same command, as a scheduler does. Not here: how rows are compared (``chaos_rows``).
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from cluster import chaos_rows, chaos_store, ending, memory, simulated
from cluster.benchmarks import Measured
from cluster.chaos_rows import Difference
from cluster.chaos_store import CUT, FULL, LOST, REFUSED, RESET, SKEW, SLOW, ChaosStore
from cluster.session import ROOT
from cluster.simulated import Simulated
from hojoint.config import Config, changed, to_tree
from hojoint.errors import InputError, MachineError

CHILD, ACTOR, NODE, DRIVER = "decoder child", "actor", "raylet", "driver"
WEIGHTS = {
    CHILD: 10,
    ACTOR: 6,
    NODE: 3,
    DRIVER: 4,
    REFUSED: 18,
    RESET: 15,
    CUT: 12,
    LOST: 12,
    SLOW: 10,
    FULL: 5,
    SKEW: 5,
}
"""Fault -> how many of a hundred."""
BUCKET = "chaos"
UNIT_VIDEOS = 2  # many units, so that something is under way whenever a fault strikes
PAUSE_S = (0.3, 1.2)  # between two faults
MEETING_S = 20.0  # until a request meets a fault of the store
RUN_S = 1800.0  # of one run, restarts included
RESTARTS = 30  # of one run, beside those whose driver was killed
HEADER = ("fault", "times", "runs", "rows lost", "rows twice", "rows different", "extra s", "extra s per fault")


@dataclass
class Outcome:
    """What the runs under one kind of fault came to."""

    times: int = 0
    runs: int = 0
    seconds: float = 0.0
    rows: Difference = field(default_factory=Difference)
    exits: Counter[int] = field(default_factory=Counter)  # exit code -> jobs that ended so by themselves

    def extra_s(self, calm_s: float) -> float:
        """Beyond as many runs without faults."""
        return self.seconds - self.runs * calm_s


def chaos(config: Config, job: str) -> Measured:
    """Label without faults, and then under ``bench.faults`` of all kinds; ``job`` is the module of the labelling job.

    Raises:
        InputError: ``output`` is no folder, or the job refuses its settings or its data.
        MachineError: a run does not end, or a fault cannot be brought about.
    """
    if config.output is not None and config.output.startswith("s3://"):
        raise InputError("jobs.bench chaos has an S3 server of its own: give output=DIR, or none")
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        root = Path(config.output or folder)
        (root / BUCKET).mkdir(parents=True, exist_ok=True)
        with chaos_store.serving(root) as server, simulated.nodes(2, cpus=1) as cluster:
            bench = _Bench(cluster.attached(_prepared(config, root, Path(folder))), job, server, cluster, Path(folder))
            calm = bench.runs("", 1)
            print(f"no fault: {calm}", file=sys.stderr, flush=True)
            outcomes = {}
            for fault, times in shares(config.bench.faults).items():
                outcomes[fault] = bench.runs(fault, times)
                print(f"{fault}: {outcomes[fault]}", file=sys.stderr, flush=True)
            rows = chaos_rows.count(bench.reference)
    return _measured(calm, outcomes, rows)


def shares(total: int) -> dict[str, int]:
    """How many faults of each kind: by ``WEIGHTS``, at least one of each."""
    weight = sum(WEIGHTS.values())
    counts = {fault: max(1, total * part // weight) for fault, part in WEIGHTS.items()}
    counts[REFUSED] += max(0, total - sum(counts.values()))
    return counts


def _prepared(config: Config, root: Path, folder: Path) -> Config:
    """The settings of the job: its videos in the server, every frame kept, innocent videos never suspected."""
    assert config.videos.root is not None
    shutil.copytree(config.videos.root, root / BUCKET / "videos", dirs_exist_ok=True)
    # The ledger would rightly take a video for a killer that was alone in progress when processes died twice.
    labelling = {"unit_videos": UNIT_VIDEOS, "attempts": 1000}
    cluster = {"teachers": (1, 2), "teacher_cpus": 1.0, "teacher_gpus": 0.0, "cache": str(folder / "cache")}
    filters = {"mode": "thresholds", "enabled": ()}  # by quality there may be no model yet
    config = changed(config, labelling=labelling, cluster=cluster, filters=filters)
    return changed(config, videos={"root": f"s3://{BUCKET}/videos"}, world=None)


def _measured(calm: Outcome, outcomes: Mapping[str, Outcome], rows: int) -> Measured:
    calm_s = calm.seconds / calm.runs
    table = []
    for fault, one in outcomes.items():
        extra = one.extra_s(calm_s)
        numbers = (one.times, one.runs, one.rows.lost, one.rows.twice, one.rows.different)
        table.append((fault, *map(str, numbers), f"{extra:.1f}", f"{extra / one.times:.1f}"))
    total = sum((one.rows for one in outcomes.values()), Difference())
    facts = {
        "faults": {fault: one.times for fault, one in outcomes.items()},
        "total": sum(one.times for one in outcomes.values()),
        "rows": rows,
        "lost": total.lost,
        "twice": total.twice,
        "different": total.different,
        "calm_s": round(calm_s, 1),
        "extra_s": {fault: round(one.extra_s(calm_s), 1) for fault, one in outcomes.items()},
        "exits": {fault: dict(one.exits) for fault, one in outcomes.items() if one.exits},
    }
    wrong = f"{total.lost} rows are lost, {total.twice} are there twice and {total.different} are different"
    return Measured(HEADER, table, facts, wrong if total else "")


class _Bench:
    """The job, the server that it talks to, and the cluster that it runs on."""

    def __init__(self, config: Config, job: str, server: ChaosStore, cluster: Simulated, folder: Path) -> None:
        self._config, self._job, self._server, self._cluster, self._folder = config, job, server, cluster, folder
        self._random = random.Random(config.seed)
        self._made, self._number = uuid.uuid4().hex[:12], 0  # an earlier call may have left outputs beside these
        self.reference = Path()  # output of the first run

    def runs(self, fault: str, times: int) -> Outcome:
        """Complete runs, each on an output of its own, until so many faults have struck; '' is one run without."""
        out = Outcome()
        while out.runs == 0 or (fault and out.times < times):
            if out.runs > times + 2:
                raise MachineError(f"only {out.times} of {times} faults ({fault}) struck in {out.runs} runs")
            name = f"out-{self._made}-{self._number}"
            self._number += 1
            began = time.monotonic()
            self._one(name, fault, times, out)
            out.seconds += time.monotonic() - began
            out.runs += 1
            output = self._server.path(f"{BUCKET}/{name}")
            if fault:
                out.rows += chaos_rows.difference(self.reference, output)
            else:
                self.reference = output
        return out

    def _one(self, name: str, fault: str, times: int, out: Outcome) -> None:
        """One run to its end, started again whenever it ends otherwise."""
        output, end = self._server.path(f"{BUCKET}/{name}"), time.monotonic() + RUN_S
        process, killed, struck_at, restarts = self._start(name), False, 0, 0
        try:
            while (code := process.poll()) != 0:
                if time.monotonic() > end or restarts > RESTARTS:
                    raise MachineError(f"a run under {fault or 'no fault'} did not end: {self._last_words(name)}")
                if code is not None:
                    if code == ending.WRONG_INPUT:
                        raise InputError(f"the job that is measured refuses its input: {self._last_words(name, 1)}")
                    if not killed:
                        out.exits[code] += 1
                        restarts += 1
                    process, killed = self._start(name), False
                if fault and out.times < times and self._is_time(fault, output, struck_at):
                    struck_at = _committed(output)
                    struck = self._strike(fault, process)
                    killed = killed or (struck and fault == DRIVER)
                    out.times += struck
                ending.sleep(self._random.uniform(*PAUSE_S) if fault else PAUSE_S[0])
        finally:
            self._server.arm("")
            process.kill()
            process.wait()

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        """The job as a user starts it."""
        config = self._folder / f"{name}.yaml"
        config.write_text(yaml.safe_dump(to_tree(changed(self._config, output=f"s3://{BUCKET}/{name}"))))
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        with open(self._log(name), "ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", self._job, "--config", str(config)],
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _is_time(self, fault: str, output: Path, struck_at: int) -> bool:
        """Whether a fault may strike: one of a process where units are in progress, and not before some progress."""
        if fault not in (CHILD, ACTOR, NODE, DRIVER):
            return True
        at_work = any(output.glob("attempts/u*/*.json"))
        return at_work and (fault == CHILD or _committed(output) > struck_at)

    def _strike(self, fault: str, process: subprocess.Popen[bytes]) -> bool:
        """Bring a fault about; whether it struck."""
        if fault == NODE:
            return self._cluster.replace_node()
        if fault == DRIVER:
            process.kill()
            process.wait()
            return True
        if fault in (CHILD, ACTOR):
            return self._kill("decoder" if fault == CHILD else "teacher")
        before, end = self._server.hits, time.monotonic() + MEETING_S
        self._server.arm(fault)
        while self._server.hits == before and process.poll() is None and time.monotonic() < end:
            ending.sleep(0.02)
        self._server.arm("")
        return self._server.hits > before

    def _kill(self, name: str) -> bool:
        """Kill one process of this name (``memory.family``) at once."""
        pids = sorted(pid for pid, (found, _) in memory.family(os.getpid()).items() if found == name)
        if not pids:
            return False
        try:
            os.kill(self._random.choice(pids), signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def _last_words(self, name: str, lines: int = 5) -> str:
        return " / ".join(self._log(name).read_text(errors="replace").splitlines()[-lines:])


def _committed(output: Path) -> int:
    return len(list(output.glob("commits/*.json")))
