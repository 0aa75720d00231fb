"""cluster.session: a local cluster that nests, ships our packages, and refuses what it cannot hold."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from cluster import capacity, session, waiting
from cluster.capacity import Need
from hojoint.config import ClusterConfig
from hojoint.errors import InputError, Unavailable
from jobs import command

TWO = ClusterConfig(cpus=2, object_store_mb=100)


def test_a_job_that_fits_is_described_in_one_line():
    line = capacity.feasibility(TWO, [Need("training workers", 2, 0.75), Need("loaders", 1, 0.5)])
    assert "2 training workers x (0.75 CPU, 0 GPU) + 1 loaders x (0.5 CPU, 0 GPU) = 2 CPU, 0 GPU" in line
    assert "the cluster has 2 CPU" in line


@pytest.mark.parametrize("need", [Need("training workers", 3, 1.0), Need("teachers", 1, 1.0, gpus=99.0)])
def test_a_job_that_does_not_fit_is_refused_with_both_numbers(need):
    with pytest.raises(InputError, match=re.escape(f"{need.processes} {need.what}") + ".*the cluster has 2 CPU"):
        capacity.feasibility(TWO, [need])


def test_a_process_larger_than_every_node_is_refused():
    nodes = [{"CPU": 0.0, "GPU": 0.0}, {"CPU": 4.0, "GPU": 1.0}, {"CPU": 16.0, "GPU": 0.0}]
    capacity._each_fits_a_node([Need("training workers", 8, 4, 1), Need("loaders", 1, 16)], nodes)
    with pytest.raises(InputError, match=r"each of the training workers needs \(8 CPU, 1 GPU\).*\(4 CPU, 1 GPU\)"):
        capacity._each_fits_a_node([Need("training workers", 1, 8, 1)], nodes)


def test_machines_are_told_apart_by_their_names(monkeypatch):
    here = {"Alive": True, "NodeManagerHostname": socket.gethostname(), "Resources": {}}
    monkeypatch.setattr(ray, "nodes", lambda: [here, here, {**here, "Alive": False, "NodeManagerHostname": "gone"}])
    monkeypatch.setattr(capacity, "_groups", list)
    assert capacity.other_machines() == []  # as of jobs.cluster_up, whose nodes are all here
    monkeypatch.setattr(ray, "nodes", lambda: [here, {**here, "NodeManagerHostname": "worker-3"}])
    assert capacity.other_machines() == ["the node worker-3"]
    monkeypatch.setattr(capacity, "_groups", lambda: ["group"])
    assert capacity.other_machines() == ["the node worker-3", "nodes that the autoscaler starts"]


def test_environment_changes_end_with_the_block(monkeypatch):
    monkeypatch.setenv("HOJOINT_TEST_SET", "mine")
    monkeypatch.delenv("HOJOINT_TEST_UNSET", raising=False)
    with session._environment({"HOJOINT_TEST_SET": "ours", "HOJOINT_TEST_UNSET": "ours"}):
        assert os.environ["HOJOINT_TEST_SET"] == "mine"
        assert os.environ["HOJOINT_TEST_UNSET"] == "ours"
    assert os.environ["HOJOINT_TEST_SET"] == "mine"
    assert "HOJOINT_TEST_UNSET" not in os.environ


@pytest.mark.parametrize("kind", [RuntimeError, Exception, ConnectionError])
def test_a_session_that_does_not_start_is_one_line(kind, monkeypatch, capsys):
    calls = []

    def late(**options):
        calls.append(options["_temp_dir"])
        raise kind("The current node timed out during startup.\nMore about it.")

    def job(config, dry_run):
        with session.start(TWO):
            raise AssertionError("it did not start")

    monkeypatch.setattr(ray, "init", late)
    assert command.run(job, "doc", []) == 75
    out, error = capsys.readouterr()
    assert "note: Ray did not start (The current node timed out during startup); try 2 of 2" in out
    assert re.match(r"failed: Ray did not start on the node \S+ in 2 tries: The current node timed out during", error)
    assert len(error.strip().splitlines()) == 1
    assert len(calls) == 2
    assert not Path(calls[0]).exists()


def test_a_session_that_starts_at_the_second_try_is_used(monkeypatch):
    answers = iter([RuntimeError("timed out"), None])

    def second(**options):
        if (answer := next(answers)) is not None:
            raise answer

    monkeypatch.setattr(ray, "init", second)
    with session.start(TWO):
        assert next(answers, "none") == "none"


@pytest.mark.ray
def test_a_dead_address_is_unavailable_and_names_the_token():
    with pytest.raises(Unavailable, match=r"cannot attach.*127\.0\.0\.1:1.*RAY_AUTH_MODE"):  # noqa: SIM117
        with session.start(ClusterConfig(address="127.0.0.1:1", patience_s=0.5)):
            pass
    assert not ray.is_initialized()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://127.0.0.1:8265", r"is the dashboard's address.* jobs\.submit submit\.job=NAME, or .*=auto"),
        ("https://head", "is the dashboard's address"),
        ("head", "expected auto, HOST:PORT"),
        ("head:", "expected auto, HOST:PORT"),
        ("head:70000", "expected auto, HOST:PORT"),
        ("ray://head", "expected auto, HOST:PORT"),
        ("grpc://head:6379", "expected auto, HOST:PORT"),
    ],
)
def test_an_address_to_which_nobody_attaches_is_refused_at_once(address, message, monkeypatch):
    monkeypatch.setattr(session, "_check_reachable", lambda address: pytest.fail("nothing is to be waited for"))
    with pytest.raises(InputError, match=message), session.start(ClusterConfig(address=address)):
        pass


def test_addresses_to_which_a_driver_attaches_are_taken():
    for address in ("auto", "10.0.0.4:6379", "ray://head:10001", "[::1]:6379"):
        session.refuse_other_addresses(address)


@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", socket.AF_INET), ("[::1]", socket.AF_INET6)])
def test_an_address_of_either_kind_is_reached(host, family):
    with socket.socket(family) as listening:
        try:
            listening.bind((host.strip("[]"), 0))
        except OSError:
            pytest.skip(f"this machine has no {host}")
        listening.listen()
        session._check_reachable(f"{host}:{listening.getsockname()[1]}")


SCRIPT = """
import os, sys
sys.path.insert(0, {root!r})
import ray
from cluster import capacity, session, waiting
from hojoint.config import ClusterConfig

@ray.remote
def where():
    import cluster, hojoint
    return hojoint.__file__, os.environ.get("AWS_REGION")

config = ClusterConfig(cpus=1, object_store_mb=100)
with session.start(config):
    with session.start(config):
        print(*ray.get(where.remote()))
    assert ray.is_initialized(), "the inner block must not close the outer one's session"
    print(capacity.capacity(config)["CPU"])
assert not ray.is_initialized()
"""


@pytest.mark.ray
def test_workers_import_our_packages_and_inherit_credentials(tmp_path):
    root = Path(session.ROOT)
    environment = {**os.environ, "AWS_REGION": "here-1", "RAY_AUTH_MODE": "disabled"}
    environment.pop("PYTHONPATH", None)
    script = tmp_path / "driver.py"
    script.write_text(SCRIPT.format(root=str(root)))
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    first, cpus = done.stdout.splitlines()
    assert first == f"{root / 'hojoint' / '__init__.py'} here-1"
    assert cpus == "1.0"


@pytest.mark.ray
def test_a_worker_that_is_lost_again_and_again_is_a_sentence():
    @ray.remote(max_retries=0)
    def crash():
        os._exit(1)

    @ray.remote
    class Actor:
        def crash(self):
            os._exit(1)

    said = r"a worker was lost.*died unexpectedly.*\). Look for.*resumes$"  # nothing of a full memory

    def lose_both():
        with session.start(TWO):
            with pytest.raises(Unavailable, match=said), session._losses_named():
                waiting.result(crash.remote())
            waiting.result(Actor.remote().crash.remote())

    with pytest.raises(Unavailable, match=said):
        lose_both()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ray.exceptions.OutOfMemoryError("the node was low on memory"), "the node's memory is full"),
        (ray.exceptions.NodeDiedError("gone"), r"lost.*gone\). Look for"),
    ],
)
def test_what_ray_says_of_a_lost_worker_is_kept(error, said):
    with pytest.raises(Unavailable, match=said), session._losses_named():
        raise error


def test_an_actor_that_cannot_be_made_stays_a_fault():
    class Failed(ray.exceptions.ActorDiedError):
        def __str__(self):
            return "The actor died because of an error raised in its creation task, ray::Actor.__init__()"

    with pytest.raises(Failed), session._losses_named():
        raise Failed
