"""Sending jobs: quoting, ids, tokens, what is shipped; and the cluster file against Ray's own schema."""

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
following = pytest.importorskip("cluster.following")

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


def test_another_command_has_another_id():
    one = submission.Submission("jobs.pseudo_label", ["seed=1"], ROOT)
    assert one.submission_id == submission.Submission("jobs.pseudo_label", ["seed=1"], ROOT).submission_id
    assert one.submission_id != submission.Submission("jobs.pseudo_label", ["seed=2"], ROOT).submission_id
    assert one.submission_id.startswith("hojoint-pseudo-label-")


def layout(root):
    """Our packages as an installation or a checkout has them, with strangers beside and between them."""
    for name in (*submission.PACKAGES, "torch", "jobs/__pycache__", "configs/.cache", "hojoint/report"):
        (root / name).mkdir(exist_ok=True, parents=True)
        (root / name / "__init__.py").write_text("")
    (root / "torch" / "weights.bin").write_bytes(b"large")
    (root / "hojoint" / "report" / "page.html.jinja").write_text("")
    (root / "hojoint" / "py.typed").write_text("")
    (root / "configs" / "tiny.yaml").write_text("")


OURS = {*(f"{name}/__init__.py" for name in ("hojoint", "hojoint/report", "cluster", "jobs", "configs"))}
OURS |= {"hojoint/report/page.html.jinja", "hojoint/py.typed", "configs/tiny.yaml"}


@pytest.mark.parametrize("beside", ["pyproject.toml", "numpy-2.0.dist-info"])
def test_a_checkout_and_an_installation_ship_our_packages_only(tmp_path, beside):
    layout(tmp_path)
    (tmp_path / beside).write_text("")
    jobs = Jobs()
    submission.submit(jobs, submission.Submission("jobs.train", [], tmp_path))
    assert jobs.sent[0][2] == OURS


@pytest.mark.slow
def test_this_checkout_ships_what_its_jobs_need(tmp_path):
    with submission.working_dir(ROOT) as folder:
        assert {path.name for path in folder.iterdir()} == set(submission.PACKAGES)
        command = [sys.executable, "-I", "-c", "import sys; sys.path[:0] = ['.']; import jobs.train as job; job.main()"]
        done = subprocess.run([*command, "--help"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "python -m jobs.train" in done.stdout


def test_a_folder_without_our_packages_is_refused(tmp_path):
    for name in ("hojoint", "cluster"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
    with pytest.raises(
        InputError, match=r"hojoint, cluster, jobs, configs side by side in .* jobs, configs is missing"
    ):
        submission.shipped(tmp_path)


def test_changed_code_is_another_job(tmp_path):
    layout(tmp_path)
    code = tmp_path / "jobs" / "train.py"
    code.write_text("a = 1\n")
    before = submission.code_version(tmp_path)
    code.write_text("a = 2\n")
    assert submission.code_version(tmp_path) != before


def test_the_arguments_rebuild_the_settings_on_the_other_side():
    config = config_of(
        "output=s3://bucket/run", "train.pseudo_share=0.5", "train.datasets=[ho3d,pseudo]", "cluster.address=http://h:1"
    )
    remote = config_of(*submit_job.arguments(config))
    assert remote.cluster.address == "auto"
    assert remote.model_copy(update={"cluster": config.cluster}) == config


def test_an_unknown_job_is_refused_with_the_known_ones(capsys):
    assert submit_job.main(["submit.job=format_disk", "cluster.address=http://127.0.0.1:1"]) == 2
    assert "submit.job=format_disk" in (error := capsys.readouterr().err)
    assert "pseudo_label" in error


def test_every_job_can_be_sent_but_those_that_stay_here():
    jobs = {path.stem for path in (ROOT / "jobs").glob("*.py") if "python -m jobs." in path.read_text()[:200]}
    assert set(submit_job.sendable_jobs()) == jobs - submit_job.STAY_HERE - {"command", "cli"}
    assert {"train", "pipeline", "status"} <= set(submit_job.sendable_jobs())


def test_a_dry_run_shows_the_command_and_sends_nothing(capsys):
    assert submit_job.main(["submit.job=status", "cluster.address=http://127.0.0.1:1", "output=/x", "--dry-run"]) == 0
    assert "python -m jobs.status" in capsys.readouterr().out


@pytest.mark.parametrize("place", ["output=runs/x", "videos.root=data/videos", "evaluate.checkpoint=c.pt"])
def test_relative_paths_are_refused_before_sending(place, capsys):
    sent = ["submit.job=evaluate", "cluster.address=http://127.0.0.1:1", "output=s3://bucket/x", place, "--dry-run"]
    assert submit_job.main(sent) == 2
    assert f"error: {place} is a relative path" in capsys.readouterr().err


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


def test_an_address_where_nobody_answers_is_an_input_error():
    with pytest.raises(InputError, match="nobody answers"):
        submission.connect("http://127.0.0.1:9")


def test_a_remote_cluster_without_a_token_is_refused(monkeypatch):
    monkeypatch.setattr(submission, "_is_loopback", lambda host: False)
    with dashboard("disabled") as (address, _):
        with pytest.raises(InputError, match="anybody who reaches it can run code"):
            submission.connect(address)
        submission.connect(address, insecure=True)


def test_a_token_goes_only_to_a_cluster_that_asks_for_it(monkeypatch, tmp_path):
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


def test_a_variable_that_sends_the_job_elsewhere_is_refused(monkeypatch):
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
    """Stands for the job server: the jobs it knows, and those that were sent."""

    def __init__(self, **known):
        self.known = known
        self.sent = []

    def list_jobs(self):
        return [type("Info", (), {"submission_id": name, "status": status}) for name, status in self.known.items()]

    def submit_job(self, *, entrypoint, submission_id, runtime_env):
        folder = Path(runtime_env.pop("working_dir"))
        files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        self.sent.append((submission_id, runtime_env, files))


def test_a_job_is_sent_once_and_again_only_after_it_failed():
    job = submission.Submission("jobs.train", [], ROOT)
    name = job.submission_id
    fresh = Jobs()
    assert submission.submit(fresh, job) == (name, True)
    assert fresh.sent[0][1] == {}  # readable through the API: no secret may stand in it
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


def test_the_cluster_file_has_a_token_and_a_local_dashboard():
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
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
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
def test_a_real_job_server_runs_the_job_once(head, capsys):
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
    good, _ = following.follow(client, name, lambda text: None)
    assert not good
    assert submit_job.main(["submit.job=status", f"cluster.address={head}", "--dry-run"]) == 0
    help_job = submission.Submission("jobs.report", ["--help"], ROOT)
    name, sent = submission.submit(client, help_job)
    output: list[str] = []
    good, message = following.follow(client, name, output.append)
    assert good, (message, output)
    assert "".join(output) == client.get_job_logs(name)
    assert "python -m jobs.report" in "".join(output)
    assert submission.submit(client, help_job) == (name, False)
