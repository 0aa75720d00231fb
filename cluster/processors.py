"""How many CPUs this process may use: those that it may run on, and no more than its container's quota; how many GPUs.

A quota is a share of time: a container with a quota of 1 sees all CPUs of its host, and Ray's resources and ours would
not agree. Read from cgroup v2 (``cpu.max``) and v1 (``cpu.cfs_quota_us``), of this process's group and of those around
it. Sources: Linux, Documentation/admin-guide/cgroup-v2.rst and scheduler/sched-bwc.rst.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

GROUPS = Path("proc/self/cgroup")
MOUNT = Path("sys/fs/cgroup")
GPU_DRIVERS = ("dev/nvidiactl", "dev/dxg", "dev/kfd")
"""Of NVIDIA, of NVIDIA under WSL, of AMD."""


def usable(root: Path = Path("/")) -> int:
    """Whole CPUs that this process may use, at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = quota(root)
    return allowed if share is None else max(1, min(allowed, math.floor(share + 1e-6)))


def gpus(root: Path = Path("/")) -> int:
    """GPUs that torch finds; where no driver of one is, torch, which takes half a gigabyte, is not loaded."""
    if not any((root / path).exists() for path in GPU_DRIVERS):
        return 0
    import torch

    return torch.cuda.device_count()


def quota(root: Path = Path("/")) -> float | None:
    """The smallest quota over this process, in CPUs; None where there is none. ``root`` holds /proc and /sys."""
    found = [value for folder in _folders(root) if (value := _quota_of(folder)) is not None]
    return min(found, default=None)


def _folders(root: Path) -> Iterator[Path]:
    """The folders of this process's group and of the groups around it, in both versions.

    A container may see its own group at the top of the mount, and the group's path as the host has it.
    """
    text = _read(root / GROUPS) or ""
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        kinds, _, path = rest.partition(":")
        if kinds and "cpu" not in kinds.split(","):
            continue
        names = ("",) if not kinds else (kinds, "cpu", "cpu,cpuacct")
        for top in dict.fromkeys(root / MOUNT / name for name in names):
            folder = top / path.lstrip("/")
            yield from (inner for inner in (folder, *folder.parents) if inner.is_relative_to(top))


def _quota_of(folder: Path) -> float | None:
    words = (_read(folder / "cpu.max") or "").split()  # v2: 'max 100000' or '150000 100000'
    if len(words) != 2:
        words = [
            _read(folder / f"cpu.cfs_{name}_us") or "" for name in ("quota", "period")
        ]  # v1: a quota of -1 is none
    try:
        time_us, period_us = (float(word) for word in words)
    except ValueError:
        return None
    return time_us / period_us if time_us > 0 and period_us > 0 else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None
