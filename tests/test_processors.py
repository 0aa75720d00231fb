"""cluster.processors: a container's CPU quota counts, in both versions of cgroups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import ray

from cluster import capacity, processors, session
from hojoint.config import ClusterConfig
from hojoint.errors import InputError


def made(root: Path, groups: str, files: dict[str, str]) -> Path:
    """A root folder with /proc/self/cgroup and files under /sys/fs/cgroup."""
    for name, text in {
        "proc/self/cgroup": groups,
        **{f"sys/fs/cgroup/{name}": text for name, text in files.items()},
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("groups", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),  # version 2, in a container
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        (
            "0::/a/b\n",
            {"cpu.max": "max 100000\n", "a/cpu.max": "100000 50000\n", "a/b/cpu.max": "400000 100000\n"},
            2.0,
        ),
        ("0::/host/path\n", {"cpu.max": "300000 100000\n"}, 3.0),  # the host's path, and the own group on top
        (
            "4:cpu,cpuacct:/docker/x\n1:memory:/\n",
            {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"},
            0.5,
        ),
        (
            "4:cpu,cpuacct:/d\n",
            {"cpu,cpuacct/d/cpu.cfs_quota_us": "-1", "cpu,cpuacct/d/cpu.cfs_period_us": "100000"},
            None,
        ),
        ("4:cpu:/d\n0::/\n", {"cpu/d/cpu.cfs_quota_us": "200000", "cpu/d/cpu.cfs_period_us": "100000"}, 2.0),
        ("", {}, None),
    ],
)
def test_the_smallest_quota_over_a_process_is_found(tmp_path, groups, files, quota):
    assert processors.quota(made(tmp_path, groups, files)) == quota


@pytest.mark.parametrize(
    ("words", "cpus"), [("100000 100000", 1), ("250000 100000", 2), ("50000 100000", 1), ("max 1", 8)]
)
def test_whole_cpus_and_at_least_one_may_be_used(tmp_path, monkeypatch, words, cpus):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert processors.usable(made(tmp_path, "0::/\n", {"cpu.max": words})) == cpus


def test_ray_and_the_check_before_it_count_the_same(monkeypatch):
    """Under a quota of 1 on two CPUs, a job of two was found feasible, and then waited without end."""
    monkeypatch.setattr(processors, "usable", lambda: 1)
    asked = {}
    monkeypatch.setattr(ray, "init", lambda **options: asked.update(options))
    with session.start(ClusterConfig()):
        assert asked["num_cpus"] == 1
    with pytest.raises(InputError, match="the cluster has 1 CPU"):
        capacity.feasibility(ClusterConfig(), [capacity.Need("training workers", 2, 1.0)])
