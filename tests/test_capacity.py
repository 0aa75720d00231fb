"""cluster.capacity on a running cluster: what is too small is wrong input, and what is away is waited for."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pytest
import ray

from cluster import capacity, ingesting
from cluster.capacity import Need
from cluster.detection import run as detection
from cluster.labelling import run as labelling
from cluster.store import open_store
from cluster.training import run as training
from hojoint.config import ClusterConfig, Config
from hojoint.errors import InputError, Unavailable

WORKERS = Need("training workers", 2, 4.0)
RUNNING = ClusterConfig(address="auto")


@pytest.fixture
def nodes(monkeypatch):
    """The CPUs of each node of the cluster that ``RUNNING`` attaches to; a test fills it. One more node is dead."""
    cpus: list[float] = []

    def known():
        return [{"Alive": True, "Resources": {"CPU": count}} for count in cpus] + [
            {"Alive": False, "Resources": {"CPU": 64.0}}
        ]

    monkeypatch.setattr(capacity.session, "start", lambda config: contextlib.nullcontext())
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "nodes", known)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": sum(cpus)})
    monkeypatch.setattr(ray._private.state.state, "get_max_resources_from_cluster_config", lambda: None)
    monkeypatch.setattr(capacity, "_groups", list)
    return cpus


@pytest.mark.parametrize(
    ("cpus", "begun", "kind", "message"),
    [
        ([0.0], False, Unavailable, r"seem to be away: none of its nodes that are there has a CPU\. Wait for them"),
        ([], False, Unavailable, "seem to be away: none of its nodes"),
        ([0.0], True, Unavailable, "seem to be away: none of its nodes"),
        ([0.0, 4.0], True, Unavailable, r"away: this run has begun, so it had room before.* the cluster has 4 CPU"),
        ([0.0, 3.0, 3.0, 3.0], True, Unavailable, r"each of the training workers needs \(4 CPU, 0 GPU\) on one node"),
        ([0.0, 4.0], False, InputError, "^the cluster cannot hold this job: 2 training workers"),
        ([0.0, 3.0, 3.0, 3.0], False, InputError, "^the cluster cannot hold this job: each of the training workers"),
    ],
)
def test_room_that_is_away_is_waited_for(nodes, cpus, begun, kind, message):
    nodes.extend(cpus)
    with pytest.raises(kind, match=message):
        capacity.feasibility(RUNNING, [WORKERS], begun=begun)
    nodes[:] = [0.0, 4.0, 4.0]
    assert "the cluster has 8 CPU" in capacity.feasibility(RUNNING, [WORKERS], begun=begun)


def test_a_machine_too_small_for_a_resumed_run_is_refused():
    with pytest.raises(InputError, match="cannot hold this job"):
        capacity.feasibility(ClusterConfig(cpus=2), [WORKERS], begun=True)


@pytest.mark.parametrize(("pending", "begun"), [(["u0", "u1"], False), (["u1"], True)])
@pytest.mark.parametrize("feasible", [labelling._feasible, detection._feasible, ingesting.feasible])
def test_a_run_with_commits_has_begun(monkeypatch, feasible, pending, begun):
    monkeypatch.setattr(capacity, "feasibility", lambda *given, begun: begun)
    plan = SimpleNamespace(pending=pending, unit_ids=["u0", "u1"], layout=SimpleNamespace(unit_ids=["u0", "u1"]))
    assert feasible(Config(), plan) is begun


def test_a_training_with_a_checkpoint_has_begun(monkeypatch, tmp_path):
    monkeypatch.setattr(capacity, "feasibility", lambda *given, begun: begun)
    store, job = open_store(str(tmp_path)), SimpleNamespace(config=Config(), name="run-1")
    store.put("runs/run-1/checkpoint_manager_snapshot.json", b"{}")
    store.put("runs/run-2/checkpoint_1/checkpoint.pt", b"of another run")
    assert not training.feasible(job, store)
    store.put("runs/run-1/checkpoint_1/checkpoint.pt", b"weights")
    assert training.feasible(job, store)
