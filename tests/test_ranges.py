"""Every setting that is a range moves, on a cluster of several simulated nodes of one CPU each.

``cluster.teachers``, ``detect.actors`` and ``refilter.actors`` are the range of ``pool.commit_all``,
``evaluate.actors`` that of a ``GrowingPool``, ``cluster.workers`` that of ``scaling_of``.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from cluster import session
from cluster.growing import GrowingPool
from cluster.labelling import pool
from cluster.nodes import NodeChanges
from cluster.store.local import LocalStore

pytestmark = [pytest.mark.ray, pytest.mark.slow]

NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_log_monitor": False}
PATIENCE_S = 120.0


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    """Two nodes; tests add more."""
    with session._environment(session.QUIET | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}):
        cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
        try:
            cluster.add_node(**NODE)
            ray.init(address=cluster.address, log_to_driver=False)
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()


def running() -> int:
    """Nodes of the cluster."""
    return sum(node["Alive"] for node in ray.nodes())


def wait_for_files(folder: Path, count: int) -> bool:
    """Whether the folder holds so many files within the patience."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        if len(list(folder.iterdir())) >= count:
            return True
        time.sleep(0.1)
    return False


class Meeting:
    """A worker whose units end only when so many processes have worked, noted by a file of each."""

    def __init__(self, folder: Path, processes: int) -> None:
        self._folder, self._processes = folder, processes

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        (self._folder / f"{os.getpid()}").touch()
        if row["unit"] != "u0":
            assert wait_for_files(self._folder, self._processes)
        return {"commit": b""}

    def work(self, row: dict[str, Any]) -> int:
        self(row)
        return int(row["unit"][1:])


def wait_until_free() -> None:
    """Until no actor holds a CPU: a run would start on fewer nodes, and soon again on all."""
    until = time.monotonic() + PATIENCE_S
    while ray.available_resources().get("CPU", 0) < running():
        assert time.monotonic() < until
        time.sleep(0.1)


def test_an_elastic_run_takes_a_node_that_comes_later(nodes: Cluster, tmp_path: Path, monkeypatch) -> None:
    """cluster.workers=[1,8]: training restarts with a worker more."""
    import ray.train
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    from cluster.training import run as training  # here: the pools' actors import this file, and need no torch
    from hojoint.config import ClusterConfig

    monkeypatch.setattr(training, "RESIZE_S", 2.0)
    (tmp_path / "sizes").mkdir()
    wait_until_free()
    before = running()
    trainer = DataParallelTrainer(
        until_it_has_grown,
        train_loop_config={"folder": str(tmp_path / "sizes"), "workers": before + 1},
        # As much of a node as leaves room for nothing else: one worker on each.
        scaling_config=training.scaling_of(ClusterConfig(workers=(1, 8), worker_cpus=1.0)),
        run_config=ray.train.RunConfig(name="elastic", storage_path=str(tmp_path / "runs")),
    )
    with ThreadPoolExecutor(1) as aside:
        fitted = aside.submit(trainer.fit)
        assert wait_for_files(tmp_path / "sizes", 1)
        nodes.add_node(**NODE)
        fitted.result(PATIENCE_S)
    sizes = sorted(int(path.name) for path in (tmp_path / "sizes").iterdir())
    assert sizes[-1] == before + 1


def until_it_has_grown(job: dict[str, Any]) -> None:
    """A loop that notes the number of workers and ends when there are enough, or after the patience."""
    import ray.train

    context = ray.train.get_context()
    size = context.get_world_size()
    if context.get_world_rank() == 0:
        (Path(job["folder"]) / f"{size}").touch()
    until = time.monotonic() + PATIENCE_S
    while size < job["workers"] and time.monotonic() < until:
        time.sleep(0.2)
    ray.train.report({"workers": size})


def test_actors_that_find_no_room_hold_up_no_task_of_the_others(nodes: Cluster, tmp_path: Path) -> None:
    """evaluate.actors=[1,8] on a cluster that holds fewer."""
    (tmp_path / "met").mkdir()
    made = ray.remote(num_cpus=1)(Meeting)
    actors = [made.remote(tmp_path / "met", running()) for _ in range(8)]
    tasks = [{"unit": f"u{number}"} for number in range(24)]
    waiting = GrowingPool(actors)
    for _ in range(2):  # a pool may be used again
        assert list(waiting.map(lambda actor, row: actor.work.remote(row), tasks)) == list(range(24))
    assert len(list((tmp_path / "met").iterdir())) == running()
    for actor in actors:
        ray.kill(actor)


def test_a_pool_fills_the_cluster_and_takes_a_later_node(nodes: Cluster, tmp_path: Path) -> None:
    """cluster.teachers=[1,8]: the run ends only if as many Teachers work as there are nodes, the last of them new."""
    (tmp_path / "met").mkdir()
    before = running()
    commits = pool.commit_all(
        functools.partial(Meeting, tmp_path / "met", before + 1),
        [{"unit": f"u{number}"} for number in range(12)],
        store=LocalStore(tmp_path / "out"),
        actors=(1, 8),
        cpus=1.0,
    )
    with ThreadPoolExecutor(1) as aside:  # Ray starts a node from the main thread only
        counted = aside.submit(lambda: sum(1 for _ in commits))
        assert wait_for_files(tmp_path / "met", before)
        nodes.add_node(**NODE)
        assert counted.result(PATIENCE_S) == 12
    assert len(list((tmp_path / "met").iterdir())) == before + 1


def test_a_killed_node_is_told_and_so_is_a_new_one(nodes: Cluster) -> None:
    node_changes = NodeChanges()
    assert node_changes.changes() == []
    added = nodes.add_node(**NODE)
    nodes.wait_for_nodes()
    [joined] = node_changes.changes()
    assert joined.startswith("a node has joined: ")
    assert "(1 CPU)" in joined
    nodes.remove_node(added, allow_graceful=False)
    until = time.monotonic() + PATIENCE_S
    while not (lines := node_changes.changes()):
        assert time.monotonic() < until
        time.sleep(0.2)
    assert lines == [line for line in lines if line.startswith("a node is lost: ") and "(1 CPU)" in line]
