"""A real cluster of two nodes on this machine: jobs sent, listed, stopped; nodes examined and lost; nothing left."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from hojoint.config import ClusterUpConfig
from hojoint.errors import InputError
from jobs import cluster_up, doctor
from jobs import list as list_job
from jobs import stop as stop_job
from jobs import submit as submit_job

pytest.importorskip("aiohttp", reason="Ray's job client is not installed (pip install -e '.[cluster]')")
local_cluster = pytest.importorskip("cluster.local_cluster")
job_server = pytest.importorskip("cluster.job_server")
submission = pytest.importorskip("cluster.submission")
following = pytest.importorskip("cluster.following")
tails = pytest.importorskip("cluster.tails")

ROOT = Path(__file__).resolve().parent.parent


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def folder():
    made = Path(tempfile.mkdtemp(prefix="hc", dir="/tmp"))  # short, for the sockets in it
    made.rmdir()
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def marked(folder):
    """Two processes that carry the mark, of nodes 1 and 2, and one that carries another's."""
    folder.mkdir()

    def sleeper(where, node):
        env = {**os.environ, local_cluster.MARK: str(where), local_cluster.NODE: str(node)}
        return subprocess.Popen(["sleep", "60"], env=env, start_new_session=True)

    made = [sleeper(folder, 1), sleeper(folder, 2), sleeper(f"{folder}0", 1)]
    end = time.monotonic() + 10
    while len(local_cluster.processes(folder)) < 2 and time.monotonic() < end:
        time.sleep(0.01)  # a process shows its environment a moment after it has started
    yield made
    for process in made:
        process.kill()
        process.wait()


def test_stopping_ends_the_marked_processes_and_no_others(folder, marked):
    ours, other = marked[:2], marked[2]
    assert local_cluster.processes(folder) == {ours[0].pid: 1, ours[1].pid: 2}
    assert local_cluster.stop(folder) == 2
    assert [process.wait(5) for process in ours] == [-signal.SIGTERM] * 2
    assert other.poll() is None
    assert not folder.exists()
    assert local_cluster.stop(folder) == 0


def test_a_lost_node_is_killed_and_never_the_head(folder, marked):
    assert local_cluster.lose_node(folder) == 2
    assert marked[1].wait(5) == -signal.SIGKILL
    assert local_cluster.lose_node(folder) is None
    assert marked[0].poll() is None


def test_a_second_cluster_is_refused_and_remains_are_removed(folder, marked):
    with pytest.raises(InputError, match=r"runs already .*jobs\.cluster_up stop"):
        local_cluster._make_folder(folder)
    local_cluster._end(local_cluster.processes(folder), signal.SIGKILL)
    (folder / "old").touch()
    local_cluster._make_folder(folder)
    assert list(folder.iterdir()) == []
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.fixture
def taken_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def test_a_cluster_that_runs_is_named_before_its_port(folder, marked, taken_port):
    """Another port would be no help."""
    config = ClusterUpConfig(port=taken_port)
    with pytest.raises(InputError, match="runs already"), local_cluster.running(config, folder):
        pass


def test_a_cluster_without_rays_dashboard_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(cluster_up, "DASHBOARD", ("no_such_package",))
    assert cluster_up.main([]) == 2
    assert "no_such_package is not installed: pip install -e '.[cluster]'" in capsys.readouterr().err


def test_a_taken_port_is_refused_before_anything_is_made(folder, taken_port):
    config = ClusterUpConfig(port=taken_port)
    with pytest.raises(InputError, match="port=8266"), local_cluster.running(config, folder):
        pass
    assert not folder.exists()


def test_the_environment_leads_to_no_other_cluster(folder, monkeypatch):
    for name in local_cluster.UNSET:
        monkeypatch.setenv(name, "elsewhere")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store:1")
    environment = local_cluster._environment(folder, 2)
    assert not set(local_cluster.UNSET) & set(environment)
    assert environment["AWS_ENDPOINT_URL"] == "http://store:1"
    assert environment["RAY_AUTH_MODE"] == "token"
    assert environment["PATH"].split(":")[0] == str(Path(sys.executable).parent)


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("", "it said nothing"),
        ("one\n\x1b[31mtwo\x1b[0m\n", "one / two"),
        (
            "Traceback (most recent call last):\n  call()\n  ^^^^\nException: too slow.\n",
            "Exception: too slow",
        ),
    ],
)
def test_a_node_that_did_not_start_is_quoted_in_one_line(tmp_path, log, words):
    (tmp_path / "node.log").write_text(log)
    assert local_cluster._last_words(tmp_path / "node.log") == words


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], ["start"]),
        (["nodes=2", "port=9000"], ["start", "cluster_up.nodes=2", "cluster_up.port=9000"]),
        (["stop"], ["stop"]),
        (["start", "cpus=1", "seed=3"], ["start", "cluster_up.cpus=1", "seed=3"]),
        (["--dry-run"], ["start", "--dry-run"]),
    ],
)
def test_short_words_stand_for_settings(given, expected):
    assert cluster_up.named(given) == expected


def test_stop_and_kill_without_a_cluster_say_so(folder, monkeypatch, capsys):
    monkeypatch.setattr(local_cluster, "usual_folder", lambda: folder)
    for word in ("stop", "kill"):
        assert cluster_up.main([word]) == 2
        assert "no cluster of jobs.cluster_up is there" in capsys.readouterr().err
    assert cluster_up.main(["nodes=2", "--dry-run"]) == 0
    assert "would start 2 nodes of 2 CPU, 0 GPU" in capsys.readouterr().out


@pytest.mark.ray
@pytest.mark.slow
def test_a_cluster_of_two_nodes_does_all_of_it(folder, monkeypatch, capsys, tmp_path):
    for name in (*job_server.OVERRIDING, "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    config = ClusterUpConfig(nodes=2, cpus=1, object_store_mb=80, port=free_port())
    with local_cluster.running(config, folder) as made:
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(made.token))
        assert stat.S_IMODE(made.token.stat().st_mode) == 0o600
        assert made.alive() == [1, 2]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAY_AUTH_TOKEN", "fedcba9876543210" * 4)
            with pytest.raises(InputError, match="refuses the token"):
                job_server.connect(made.dashboard)
        sends_lists_and_stops(made.dashboard, capsys)
        is_examined(made.dashboard, capsys, tmp_path)
        assert local_cluster.lose_node(folder) == 2
        assert made.nodes[2].wait(30) is not None
        assert made.alive() == [1]
    assert local_cluster.processes(folder) == {}
    assert not folder.exists()


def sends_lists_and_stops(address, capsys):
    client = job_server.connect(address)
    name, sent = submission.submit(client, submission.Submission("no_such_module", [], ROOT))
    assert sent
    ended = following.follow(client, name, lambda text: None)
    assert (ended.good, ended.exit_code) == (False, 1)
    assert submit_job.main(["submit.job=status", f"cluster.address={address}", "--dry-run"]) == 0
    job = submission.Submission("jobs.gc", ["--help"], ROOT, "a-name", "s3://bucket/x")
    name, sent = submission.submit(client, job)
    output: list[str] = []
    ended = following.follow(client, name, output.append)
    assert ended.good, (ended, output)
    log = client.get_job_logs(name)
    assert "".join(output) == log
    assert "python -m jobs.gc" in log
    tail = tails.tail_of(client, name, client.get_job_info(name))
    assert tail(3) == "".join(log.splitlines(keepends=True)[-3:])
    assert tail(tails.COMPLETE) == log
    assert submission.submit(client, job) == (f"{name}-2", True)
    assert stop_job.main([f"{name}-2", f"cluster.address={address}"]) == 0
    assert list_job.main([f"cluster.address={address}", "output=s3://bucket/x"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in printed[-2:]] == [f"{name}-2", name]
    assert "gc a-name" in printed[-1]
    assert stop_job.main(["hojoint-nobody", f"cluster.address={address}"]) == 2
    assert "knows no job hojoint-nobody" in capsys.readouterr().err


def is_examined(address, capsys, tmp_path):
    """Through the job server: what is right on both nodes, and a place that is missing with a remedy."""
    (tmp_path / "videos").mkdir()
    words = ["cluster", f"cluster.address={address}", f"output={tmp_path / 'out'}", f"videos={tmp_path / 'videos'}"]
    assert doctor.main([*words, "boxes=/nowhere.json"]) == 2
    out = capsys.readouterr().out
    assert "videos.boxes=/nowhere.json: missing" in out
    rows = [line.split() for line in out.splitlines()]
    assert ["node", "ok", "all", "2", "answers"] in rows
    assert any(row[:4] == ["output", "ok", "all", "2"] for row in rows)
    assert any(row[:4] == ["mounts", "ok", "all", "2"] for row in rows)
    assert any(row[:4] == ["versions", "ok", "all", "2"] for row in rows)
    assert any(row[:4] == ["clock", "ok", "all", "2"] for row in rows)
    assert list((tmp_path / "out").glob(".probe*")) == []
