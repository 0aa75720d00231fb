"""Sending jobs: quoting, ids, tokens, a real job server; and the cluster file against Ray's own schema."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
import yaml

from hojoint import config as settings
from hojoint.errors import InputError
from jobs import submit as submit_job

pytest.importorskip("aiohttp", reason="Ray's job client is not installed (pip install -e '.[cluster]')")
submission = pytest.importorskip("cluster.submission")

ROOT = Path(__file__).resolve().parent.parent


def config_of(*overrides):
    return settings.load(ROOT / "configs" / "tiny.yaml", overrides)


@pytest.fixture(autouse=True)
def no_addresses(monkeypatch):
    for name in (*submission.OVERRIDING, "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)


def test_a_shell_reads_the_entrypoint_back_as_the_same_words():
    nasty = ["videos.root=/data/my videos; rm -rf $HOME", "name=`id`", 'world="quoted"']
    job = submission.Submission("jobs.pseudo_label", nasty, ROOT)
    assert shlex.split(job.entrypoint) == ["python", "-m", "jobs.pseudo_label", *nasty]


def test_the_id_is_the_same_for_the_same_command_and_another_for_another():
    one = submission.Submission("jobs.pseudo_label", ["seed=1"], ROOT)
    assert one.submission_id == submission.Submission("jobs.pseudo_label", ["seed=1"], ROOT).submission_id
    assert one.submission_id != submission.Submission("jobs.pseudo_label", ["seed=2"], ROOT).submission_id
    assert one.submission_id.startswith("hojoint-pseudo-label-")


def test_changed_code_is_another_job(tmp_path):
    (tmp_path / "jobs").mkdir()
    code = tmp_path / "jobs" / "train.py"
    code.write_text("a = 1\n")
    before = submission.code_version(tmp_path)
    code.write_text("a = 2\n")
    assert submission.code_version(tmp_path) != before


def test_the_arguments_rebuild_the_settings_on_the_other_side():
    config = config_of(
        "output=s3://bucket/run", "train.pseudo_share=0.5", "train.datasets=[ho3d,pseudo]", "cluster.address=http://h:1"
    )
    there = config_of(*submit_job.arguments(config))
    assert there.cluster.address == "auto"
    assert there.model_copy(update={"cluster": config.cluster}) == config


def test_an_unknown_job_is_refused_with_the_known_ones(capsys):
    assert submit_job.main(["submit.job=format_disk", "cluster.address=http://127.0.0.1:1"]) == 2
    assert "pseudo_label" in capsys.readouterr().err


def test_a_dry_run_shows_the_command_and_sends_nothing(capsys):
    assert submit_job.main(["submit.job=status", "cluster.address=http://127.0.0.1:1", "output=x", "--dry-run"]) == 0
    assert "python -m jobs.status" in capsys.readouterr().out


class Dashboard(http.server.BaseHTTPRequestHandler):
    """Answers like a Ray dashboard that asks for a token, or does not."""

    mode = "disabled"
    seen: list[str | None]

    def do_GET(self):
        self.seen.append(self.headers.get("Authorization"))
        answer = {"authentication_mode": self.mode} if "authentication_mode" in self.path else {"ray_version": "2.60.0"}
        body = json.dumps({"version": "4", **answer}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Quiet."""


@contextlib.contextmanager
def dashboard(mode):
    handler = type("Handler", (Dashboard,), {"mode": mode, "seen": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler.seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("address", ["127.0.0.1:8265", "ray://head:10001", "ftp://x", "http://"])
def test_an_address_that_is_no_dashboard_is_refused(address):
    with pytest.raises(InputError, match="http://127"):
        submission.connect(address)


def test_an_address_where_nobody_answers_is_the_users_to_mend():
    with pytest.raises(InputError, match="nobody answers"):
        submission.connect("http://127.0.0.1:9")


def test_a_cluster_elsewhere_that_asks_for_no_token_is_refused_unless_told_otherwise(monkeypatch):
    monkeypatch.setattr(submission, "_is_loopback", lambda host: False)
    with dashboard("disabled") as (address, _):
        with pytest.raises(InputError, match="anybody who reaches it can run code"):
            submission.connect(address)
        submission.connect(address, insecure=True)


def test_a_token_goes_only_to_a_cluster_that_asks_and_a_missing_one_is_named(monkeypatch, tmp_path):
    token = tmp_path / "token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    with dashboard("token") as (address, seen):
        with pytest.raises(InputError, match="asks for a token"):
            submission.connect(address)
        token.write_text("secret-word\n")
        submission.connect(address)
        assert seen[-1] == "Bearer secret-word"
    with dashboard("disabled") as (address, seen):
        submission.connect(address)
        assert set(seen) == {None}


def test_an_environment_variable_that_would_send_the_job_elsewhere_is_refused(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "http://other:8265")
    with pytest.raises(InputError, match="RAY_ADDRESS"):
        submission.connect("http://127.0.0.1:8265")


@pytest.mark.parametrize(
    ("host", "local"), [("localhost", True), ("127.0.0.1", True), ("127.8.9.1", True), ("::1", True),
                        ("10.0.0.4", False), ("127.evil.example", False), ("localhost.example", False)]
)  # fmt: skip
def test_only_this_machine_is_local(host, local):
    assert submission._is_loopback(host) is local


class Jobs:
    """Stands for the job server: what is there, and what was sent."""

    def __init__(self, **known):
        self.known = known
        self.sent = []

    def list_jobs(self):
        return [type("Info", (), {"submission_id": name, "status": status}) for name, status in self.known.items()]

    def submit_job(self, *, entrypoint, submission_id, runtime_env):
        self.sent.append((submission_id, runtime_env))


def test_a_job_is_sent_once_and_again_only_after_it_failed():
    job = submission.Submission("jobs.train", [], ROOT)
    name = job.submission_id
    fresh = Jobs()
    assert submission.submit(fresh, job) == (name, True)
    assert "env_vars" not in fresh.sent[0][1]  # readable through the API: nothing secret may be there
    assert submission.submit(Jobs(**{name: submission.JobStatus.RUNNING}), job) == (name, False)
    assert submission.submit(Jobs(**{name: submission.JobStatus.SUCCEEDED}), job) == (name, False)
    failed = {name: submission.JobStatus.FAILED}
    assert submission.submit(Jobs(**failed), job) == (f"{name}-2", True)
    assert submission.submit(Jobs(**failed, **{f"{name}-2": submission.JobStatus.PENDING}), job) == (f"{name}-2", False)


def test_the_cluster_file_is_valid_for_rays_launcher():
    import jsonschema
    import ray

    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    cluster = yaml.safe_load((ROOT / "ray-cluster.yaml").read_text())
    jsonschema.validate(cluster, schema)
    assert cluster["head_node_type"] in cluster["available_node_types"]


def test_the_cluster_file_binds_the_dashboard_to_loopback_and_starts_every_node_with_the_token():
    cluster = yaml.safe_load((ROOT / "ray-cluster.yaml").read_text())
    starts = [
        line for part in ("head", "worker") for line in cluster[f"{part}_start_ray_commands"] if "ray start" in line
    ]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in line and "RAY_AUTH_TOKEN_PATH" in line for line in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert "~/.ray/auth_token" in cluster["file_mounts"]
    assert any("ray[" in line and "==2.60" in line for line in cluster["setup_commands"])


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture
def head(monkeypatch):
    """A real head node of one CPU with a token, killed by its own process group."""
    port, dashboard_port, agent, metrics = free_ports(4)
    folder = tempfile.mkdtemp(prefix="r", dir="/tmp")
    token = Path(folder) / "token"
    token.write_text("0123456789abcdef" * 4)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    command = [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=1", f"--port={port}",
        f"--dashboard-port={dashboard_port}", "--dashboard-host=127.0.0.1", f"--dashboard-agent-listen-port={agent}",
        f"--metrics-export-port={metrics}", "--object-store-memory=100000000", f"--temp-dir={folder}",
        "--disable-usage-stats",
    ]  # fmt: skip
    env = {**os.environ, "RAY_AUTH_MODE": "token", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with open(Path(folder) / "out", "w") as out:
        process = subprocess.Popen(command, env=env, stdout=out, stderr=out, start_new_session=True)
    try:
        yield f"http://127.0.0.1:{dashboard_port}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(6)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.ray
@pytest.mark.slow
def test_a_real_job_server_runs_the_job_once_and_hands_back_its_output(head, capsys):
    deadline = time.monotonic() + 90
    while True:
        try:
            client = submission.connect(head)
            break
        except InputError:
            assert time.monotonic() < deadline, "the head node did not come up"
            time.sleep(1)
    job = submission.Submission("no_such_module", [], ROOT)
    name, sent = submission.submit(client, job)
    assert sent
    good, _ = submission.follow(client, name, lambda text: None)
    assert not good
    assert submit_job.main(["submit.job=status", f"cluster.address={head}", "--dry-run"]) == 0
    help_job = submission.Submission("jobs.report", ["--help"], ROOT)
    name, sent = submission.submit(client, help_job)
    said: list[str] = []
    good, message = submission.follow(client, name, said.append)
    assert good, (message, said)
    assert "python -m jobs.report" in "".join(said)
    assert submission.submit(client, help_job) == (name, False)
