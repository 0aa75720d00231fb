"""Peak memory of this process and of its descendants, by name, read from /proc while work is in progress.

Ray's workers are grandchildren of the driver and carry their class in their title (``ray::MapWorker...``). Counted
is resident memory without shared pages, because every process maps the object store. Linux only; other systems have no
numbers.
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from pathlib import Path
from types import TracebackType

PROC = Path("/proc")
PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 2**20


class PeakMemory:
    """A context that samples from a thread; ``peaks_mb`` afterwards holds name -> megabytes, ``total_mb`` their sum."""

    def __init__(self, every_s: float = 0.25) -> None:
        self.peaks_mb: dict[str, float] = {}
        self.total_mb = 0.0
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.is_set():
            now = family(os.getpid())
            largest: dict[str, float] = defaultdict(float)
            for name, size in now.values():
                largest[name] = max(largest[name], size)
            for name, size in largest.items():
                self.peaks_mb[name] = max(self.peaks_mb.get(name, 0.0), size)
            self.total_mb = max(self.total_mb, sum(size for _, size in now.values()))
            self._stop.wait(self._every_s)


def family(root: int) -> dict[int, tuple[str, float]]:
    """Process id -> name and MB, of a process and all its descendants."""
    parents = {pid: parent for pid in _processes() if (parent := _parent(pid)) is not None}
    children: dict[int, list[int]] = defaultdict(list)
    for pid, parent in parents.items():
        children[parent].append(pid)
    sizes, waiting = {}, [root]
    while waiting:
        pid = waiting.pop()
        waiting += children[pid]
        size = _private_mb(pid)
        if size is not None:
            sizes[pid] = ("driver" if pid == root else _name(pid), size)
    return sizes


def _processes() -> list[int]:
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()] if PROC.is_dir() else []


def _parent(pid: int) -> int | None:
    text = _read(pid, "stat")
    return int(text.rpartition(")")[2].split()[1]) if text else None  # a name before it may hold spaces and brackets


def _private_mb(pid: int) -> float | None:
    fields = _read(pid, "statm").split()
    return (int(fields[1]) - int(fields[2])) * PAGE_MB if fields else None


def _name(pid: int) -> str:
    """'teacher' for an actor, 'decoder' for its child, 'ray' for Ray's own processes, else 'other'."""
    line = _read(pid, "cmdline").replace("\0", " ")
    if line.startswith("ray::MapWorker"):
        return "teacher"
    if "hojoint.labelling.video" in line:
        return "decoder"
    if line.startswith("ray::"):
        return line[5:].split("(")[0].split(".")[0].split(" ")[0].lower() or "worker"
    return "ray" if "/ray/" in line or "raylet" in line or "gcs_server" in line else "other"


def _read(pid: int, name: str) -> str:
    try:
        return (PROC / str(pid) / name).read_text(errors="replace")
    except OSError:  # the process has ended
        return ""
