"""Sending jobs: quoting, ids, tokens, what is shipped; and the cluster file against Ray's own schema."""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import shlex
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests
import yaml

from cluster import patience
from hojoint import config as settings
from hojoint.errors import InputError, MachineError, Unavailable
from jobs import list as list_job
from jobs import remote
from jobs import stop as stop_job
from jobs import submit as submit_job

pytest.importorskip("aiohttp", reason="Ray's job client is not installed (pip install -e '.[cluster]')")
job_server = pytest.importorskip("cluster.job_server")
submission = pytest.importorskip("cluster.submission")
following = pytest.importorskip("cluster.following")
tails = pytest.importorskip("cluster.tails")

from ray.job_submission import JobStatus  # noqa: E402

RUNNING, PENDING = JobStatus.RUNNING, JobStatus.PENDING
ROOT = Path(__file__).resolve().parent.parent


def config_of(*overrides):
    return settings.load(ROOT / "configs" / "tiny.yaml", overrides)


@pytest.fixture(autouse=True)
def no_addresses(monkeypatch):
    for name in (*job_server.OVERRIDING, "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
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


def test_bounds_that_are_given_are_sent_even_as_defaults():
    """The job measures labels by the bounds of their run, unless the user gives others."""
    own = config_of("output=s3://bucket/run", "calibrate.max_wrist_mm=null", "calibrate.max_aligned_mm=15")
    given = {word.partition("=")[0] for word in submit_job.arguments(own)}
    assert {"calibrate.max_wrist_mm", "calibrate.max_aligned_mm"} <= given
    assert "calibrate.max_joints_2d" not in given


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
    token: str | None = None  # of those who get an answer; None: of all
    busy: list[int]  # status codes of the first answers
    seen: list[str | None]

    def do_GET(self):
        self.seen.append(self.headers.get("Authorization"))
        if self.busy:
            self.send_error(self.busy.pop(0))
            return
        if (
            self.token is not None
            and "authentication_mode" not in self.path
            and self.token not in (self.seen[-1] or "")
        ):
            self.send_error(403)
            return
        answer = {"authentication_mode": self.mode} if "authentication_mode" in self.path else {"ray_version": "2.60.0"}
        body = json.dumps({"version": "4", **answer}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Quiet."""


@contextlib.contextmanager
def dashboard(mode, token=None, busy=()):
    handler = type("Handler", (Dashboard,), {"mode": mode, "token": token, "seen": [], "busy": list(busy)})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler.seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:8265", "ray://head:10001", "ftp://x", "http://", "http://[::1:8265", "http://h:99999"],
)
def test_an_address_that_is_no_dashboard_is_refused(address):
    with pytest.raises(InputError, match="http://127"):
        job_server.connect(address)


def test_an_address_where_nobody_answers_may_be_tried_again():
    with pytest.raises(Unavailable, match="nobody answers"):
        job_server.connect("http://127.0.0.1:9")


@pytest.mark.parametrize(("number", "kind"), [(socket.EAI_NONAME, InputError), (socket.EAI_AGAIN, Unavailable)])
def test_a_host_that_nobody_knows_is_named(number, kind, monkeypatch):
    def unknown(*_args, **_named):
        raise socket.gaierror(number, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(kind, match=r"the host head\.example of .* is not known here"):
        job_server.connect("http://head.example:8265")


def test_a_remote_cluster_without_a_token_is_refused(monkeypatch):
    monkeypatch.setattr(job_server, "is_this_machine", lambda host: False)
    with dashboard("disabled") as (address, _):
        with pytest.raises(InputError, match="anybody who reaches it can run code"):
            job_server.connect(address)
        job_server.connect(address, insecure=True)


def test_a_token_goes_only_to_a_cluster_that_asks_for_it(monkeypatch, tmp_path):
    token = tmp_path / "token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    with dashboard("token") as (address, seen):
        with pytest.raises(InputError, match="asks for a token"):
            job_server.connect(address)
        token.write_text("secret-word\n")
        job_server.connect(address)
        assert seen[-1] == "Bearer secret-word"
    with dashboard("disabled") as (address, seen):
        job_server.connect(address)
        assert set(seen) == {None}


def test_a_proxy_sees_no_request_to_this_machine(monkeypatch):
    for name in ("http_proxy", "all_proxy", "no_proxy"):
        for spelling in (name, name.upper()):  # an empty one in small letters would hide the other
            monkeypatch.setenv(spelling, "")
            monkeypatch.delenv(spelling)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret-word")
    with dashboard("token") as (proxy, through), dashboard("token") as (address, seen):
        monkeypatch.setenv("HTTP_PROXY", proxy)
        job_server.connect(address)
    assert through == []
    assert seen[-1] == "Bearer secret-word"


def test_a_variable_that_sends_the_job_elsewhere_is_refused(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "http://other:8265")
    with pytest.raises(InputError, match="RAY_ADDRESS"):
        job_server.connect("http://127.0.0.1:8265")


@pytest.mark.parametrize(
    ("host", "local"), [("localhost", True), ("127.0.0.1", True), ("127.8.9.1", True), ("::1", True),
                        ("10.0.0.4", False), ("127.evil.example", False), ("localhost.example", False)]
)  # fmt: skip
def test_only_this_machine_is_local(host, local):
    assert job_server.is_this_machine(host) is local


class Jobs:
    """Stands for the job server: the jobs it knows, and those that were sent."""

    def __init__(self, **known):
        self.known = {
            name: fact if isinstance(fact, SimpleNamespace) else SimpleNamespace(status=fact, metadata={})
            for name, fact in known.items()
        }
        self.sent = []

    def list_jobs(self):
        driver = SimpleNamespace(submission_id=None, status=RUNNING, metadata=None, start_time=9)  # not sent by anybody
        return [driver, *(SimpleNamespace(submission_id=name, **vars(info)) for name, info in self.known.items())]

    def submit_job(self, *, entrypoint, submission_id, runtime_env, metadata):
        if submission_id in self.known:
            raise RuntimeError(f"Request failed: Job with submission_id {submission_id} already exists.")
        folder = Path(runtime_env.pop("working_dir"))
        files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        self.sent.append((submission_id, runtime_env, files))
        self.known[submission_id] = SimpleNamespace(status=RUNNING, metadata=metadata)


def test_a_job_is_sent_once_while_it_runs():
    job = submission.Submission("jobs.train", [], ROOT)
    name = job.submission_id
    fresh = Jobs()
    assert submission.submit(fresh, job) == (name, True)
    assert fresh.sent[0][1] == {}  # readable through the API: no secret may stand in it
    assert submission.submit(fresh, job) == (name, False)
    assert submission.submit(Jobs(**{name: PENDING}), job) == (name, False)


@pytest.mark.parametrize("state", ["SUCCEEDED", "FAILED", "STOPPED"])
def test_a_job_that_ended_looks_at_its_output_again(state):
    job = submission.Submission("jobs.train", [], ROOT)
    name, ended = job.submission_id, JobStatus[state]
    assert submission.submit(Jobs(**{name: ended}), job) == (f"{name}-2", True)
    assert submission.submit(Jobs(**{name: ended, f"{name}-2": PENDING}), job) == (f"{name}-2", False)
    assert submission.submit(Jobs(**{name: ended, f"{name}-2": ended}), job) == (f"{name}-3", True)


def test_two_commands_at_once_send_one_job():
    job = submission.Submission("jobs.train", [], ROOT)
    jobs = Jobs()
    looked = jobs.list_jobs

    def slow_look():
        jobs.list_jobs = looked
        before = looked()
        submission.submit(jobs, job)  # the other command is faster
        return before

    jobs.list_jobs = slow_look
    assert submission.submit(jobs, job) == (job.submission_id, False)
    assert len(jobs.sent) == 1


def test_another_command_on_a_running_output_is_refused():
    def job(module, seed, output, **more):
        return submission.Submission(module, [f"seed={seed}"], ROOT, output=output, **more)

    jobs = Jobs()
    submission.submit(jobs, job("jobs.pseudo_label", 1, "s3://b/x"))
    with pytest.raises(InputError, match=r"is working on s3://b/x with other settings .* jobs\.stop hojoint-pseudo"):
        submission.submit(jobs, job("jobs.pseudo_label", 2, "s3://b/x"))
    assert submission.submit(jobs, job("jobs.pseudo_label", 2, "s3://b/y"))[1]
    assert submission.submit(jobs, job("jobs.train", 2, "s3://b/x"))[1]
    assert submission.submit(jobs, job("jobs.status", 1, "s3://b/x", alone=False))[1]
    assert submission.submit(jobs, job("jobs.status", 2, "s3://b/x", alone=False))[1]


def test_a_job_carries_a_name_and_facts_without_secrets(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-word")
    jobs = Jobs()
    submission.submit(jobs, submission.Submission("jobs.pseudo_label", [], ROOT, "july", "s3://b/x"))
    (info,) = jobs.known.values()
    assert info.metadata == {
        "job_name": "pseudo_label july",
        "job": "pseudo_label",
        "output": "s3://b/x",
        "code": submission.code_version(ROOT),
    }


@pytest.mark.parametrize("place", ["variable", "file"])
def test_a_wrong_token_is_one_sentence(place, monkeypatch, tmp_path):
    path = tmp_path / "token"
    if place == "variable":
        monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong-word")
    else:
        path.write_text("wrong-word\n")
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    named = "RAY_AUTH_TOKEN" if place == "variable" else re.escape(str(path))
    with (
        dashboard("token", token="right-word") as (address, _),
        pytest.raises(InputError, match=rf"refuses the token of {named} .*RAY_AUTH_TOKEN_PATH") as refused,
    ):
        job_server.connect(address)
    assert "wrong-word" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (RuntimeError("Request failed with status code 413: <html>\n<title>413"), InputError, "client_max_body_size"),
        (ConnectionResetError("peer"), Unavailable, "Is the tunnel still open"),
        (requests.ConnectionError("HTTPConnectionPool"), Unavailable, "Is the tunnel still open"),
        (RuntimeError("Request failed with status code 500: trace\nback"), MachineError, "status code 500"),
    ],
)
def test_a_fault_of_the_connection_is_one_sentence(error, kind, said):
    found = job_server.explained(error, "http://h:1")
    assert isinstance(found, kind)
    assert said in str(found)
    assert "\n" not in str(found)


def test_a_dropped_connection_is_tried_again_and_a_413_not(monkeypatch):
    monkeypatch.setattr(patience, "FIRST_WAIT_S", 0.001)
    answers = [ConnectionResetError(), RuntimeError("Request failed with status code 502: bad gateway"), "sent"]
    calls = []

    def call():
        calls.append(1)
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert job_server.asked(call, "http://h:1") == "sent"
    assert len(calls) == 3
    answers[:] = [RuntimeError("Request failed with status code 413: too large"), "sent"]
    with pytest.raises(InputError, match="413"):
        job_server.asked(call, "http://h:1")
    answers[:] = [ConnectionResetError()] * 10_000
    with patience.granted(0.02), pytest.raises(Unavailable, match=r"unreachable .* Is the tunnel"):
        job_server.asked(call, "http://h:1")
    assert len(answers) > 9_900


@pytest.mark.parametrize("status", [408, 429, 502, 503])
def test_a_busy_proxy_is_asked_again_before_anything_is_sent(status, monkeypatch):
    monkeypatch.setattr(patience, "FIRST_WAIT_S", 0.001)
    with dashboard("disabled", busy=[status, status]) as (address, seen):
        assert job_server.asked(lambda: job_server.connect(address), address).get_address() == address
        assert len(seen) > 2
    with dashboard("disabled", busy=[status] * 1000) as (address, _):  # noqa: SIM117
        with patience.granted(0.01), pytest.raises(Unavailable, match=rf"answers with status code {status}"):
            job_server.asked(lambda: job_server.connect(address), address)
    with dashboard("disabled", busy=[404]) as (address, _), pytest.raises(InputError, match="answered 404"):
        job_server.asked(lambda: job_server.connect(address), address)


@pytest.fixture
def silent():
    """The address of a server that takes a connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(("job", "words"), [(list_job, []), (stop_job, ["hojoint-train-1"])])
def test_a_person_does_not_wait_for_a_silent_host(job, words, silent, monkeypatch, capsys):
    monkeypatch.setattr(remote, "ANSWER_S", 0.5)
    monkeypatch.setattr(job_server, "LEAST_ANSWER_S", 0.1)
    begun = time.monotonic()
    assert job.main([*words, f"cluster.address={silent}"]) == 75
    assert time.monotonic() - begun < 5
    assert "no other try fits into the 0.5 s that this command waits" in capsys.readouterr().err


def test_our_jobs_are_listed_last_first():
    def sent(output, start_time):
        return SimpleNamespace(status=RUNNING, metadata={"output": output}, start_time=start_time)

    jobs = Jobs(**{"hojoint-a": sent("x", 1), "hojoint-b": sent("y", 2), "raysubmit_1": sent("x", 3)})
    assert [info.submission_id for info in submission.ours(jobs)] == ["hojoint-b", "hojoint-a"]
    assert [info.submission_id for info in submission.ours(jobs, "x")] == ["hojoint-a"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("s3://b/x/", "s3://b/x"),
        ("s3://b/x", "s3://b/x"),
        ("/data//t/./", "/data/t"),
        ("/", "/"),
        ("s3://b", "s3://b"),
        ("file:///d//x/", "/d/x"),
        ("x/", "x"),
    ],
)
def test_an_output_has_one_spelling(typed, meant):
    assert submission.one_spelling(typed) == meant


def test_a_slash_at_its_end_makes_no_other_output():
    jobs = Jobs()
    for output in ("s3://b/x", "/data/t/"):
        submission.submit(jobs, submission.Submission("jobs.train", ["seed=1", output], ROOT, output=output))
    jobs.known["hojoint-old"] = SimpleNamespace(status=JobStatus.FAILED, metadata={"output": "/data/t/"})  # as typed
    for info in jobs.known.values():
        info.start_time = 1
    for output, count in (("s3://b/x/", 1), ("s3://b/x", 1), ("/data/t", 2), ("/data/t/", 2)):
        assert len(submission.ours(jobs, output)) == count
        with pytest.raises(InputError, match=f"is working on {output.rstrip('/')} with other settings"):
            submission.submit(jobs, submission.Submission("jobs.train", ["seed=2"], ROOT, output=output))


@pytest.fixture
def asked(monkeypatch):
    """The jobs that a server knows, for jobs.list and jobs.stop."""
    jobs = Jobs()
    monkeypatch.setattr(remote.JobServer, "client", jobs)
    return jobs


def test_a_list_without_jobs_names_its_filter(asked, capsys):
    given = ["cluster.address=http://127.0.0.1:1"]
    assert list_job.main([*given, "output=s3://b/x", "submit.job=train"]) == 0
    said = "no jobs of this project with output=s3://b/x and submit.job=train are known at http://127.0.0.1:1\n"
    assert capsys.readouterr().out == said
    assert list_job.main(given) == 0
    assert capsys.readouterr().out == "no jobs of this project are known at http://127.0.0.1:1\n"


@pytest.mark.parametrize("job", [list_job, stop_job])
def test_a_list_of_a_job_that_does_not_exist_is_refused(asked, job, capsys):
    given = ["cluster.address=http://127.0.0.1:1"]
    assert job.main([*given, "submit.job=trian"]) == 2
    assert "submit.job=trian is not a job that can be sent; expected one of " in capsys.readouterr().err
    assert list_job.main([*given, "submit.job=doctor"]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["submit.job=train"], "submit.job=train alone chooses jobs of everybody"),
        (["hojoint-train-1", "output=s3://b/x"], "found hojoint-train-1 and output=s3://b/x"),
        (["hojoint-train-1", "submit.job=train"], "found hojoint-train-1 and submit.job=train"),
        ([], "give the id of a job, or output=URI: python -m jobs.stop ID"),
        (["output=s3://b/x", "submit.job=train"], ""),
        (["output=s3://b/x"], ""),
        (["hojoint-train-2"], ""),
    ],
)
def test_a_stop_names_one_job_or_an_output(asked, words, message, capsys):
    for number, output in ((1, "s3://b/x"), (2, "s3://b/y")):
        facts = {"job": "train", "output": output}
        asked.known[f"hojoint-train-{number}"] = SimpleNamespace(status=RUNNING, metadata=facts, start_time=number)
    code = stop_job.main([*words, "cluster.address=http://127.0.0.1:1", "--dry-run"])
    out, err = capsys.readouterr()
    assert (code, message in err) == (2 if message else 0, True)
    assert out.count("would stop") == (0 if message else 1)


def test_the_cluster_file_is_valid_for_rays_launcher():
    import jsonschema
    import ray

    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    cluster = yaml.safe_load((ROOT / "ray-cluster.yaml").read_text())
    jsonschema.validate(cluster, schema)
    assert cluster["head_node_type"] in cluster["available_node_types"]


def test_the_head_has_a_profile_of_its_own_with_ec2_rights():
    """Ray gives EC2 rights only to a head without a profile: with the workers' one it could start no node."""
    text = (ROOT / "ray-cluster.yaml").read_text()
    types = yaml.safe_load(text)["available_node_types"]
    profiles = {name: kind["node_config"]["IamInstanceProfile"]["Name"] for name, kind in types.items()}
    assert profiles == {"head": "hojoint-head", "gpu": "hojoint-nodes"}
    for needed in ("ec2:RunInstances", "iam:PassRole on the role of hojoint-nodes"):
        assert needed in text


def test_a_node_is_there_before_a_job_looks_for_room():
    """Ray 2.60 reports no limits of its autoscaler, and a job that is not begun asks it for no node."""
    kinds = yaml.safe_load((ROOT / "ray-cluster.yaml").read_text())["available_node_types"]
    assert kinds["head"]["resources"]["CPU"] == 0
    assert kinds["gpu"]["min_workers"] >= 1


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


def test_the_word_of_a_command_line_stands_anywhere():
    for words in (["ID", "submit.detach=true"], ["--config", "c.yaml", "ID"], ["--dry-run", "ID"]):
        assert remote.with_first_word(words, "submit.id") == ["submit.id=ID" if w == "ID" else w for w in words]
    assert remote.with_first_word(["--config", "c.yaml", "a=b"], "submit.id") == ["--config", "c.yaml", "a=b"]
