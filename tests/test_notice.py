"""cluster.notify: what a real server on this machine is told, and addresses that are refused."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from cluster import notice
from hojoint.errors import InputError, Unavailable
from jobs import cli, command


@pytest.fixture
def hook() -> Iterator[tuple[str, list, list]]:
    """A server's address, what it was told, and the statuses that it answers with."""
    told: list[dict] = []
    statuses = [200]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(statuses[0])
            self.end_headers()

        def log_message(self, *words: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook", told, statuses
    server.shutdown()
    server.server_close()


def ended(address: str, error: BaseException | None, *words: str, job_name: str = "pseudo_label") -> int:
    """The exit code of a job that ends with ``error``."""

    def job(config: object, dry_run: bool) -> None:
        if error is not None:
            raise error

    return command.run(job, f"python -m jobs.{job_name} ...", [f"cluster.notify={address}", "output=s3://b/x", *words])


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (None, 0, "pseudo_label is done"),
        (InputError("no such file"), 2, "was refused"),
        (Unavailable("store away"), 75, "asks to be tried again"),
        (command.RunFailed("too many"), 1, "failed"),
        (ValueError("a bug\nof ours"), 1, "failed"),
        (OSError(28, "No space left on device"), 75, "tried again"),
    ],
)
def test_the_end_of_a_job_is_told(hook, capsys, error, code, words) -> None:
    address, told, _ = hook
    assert ended(address, error) == code
    [message] = told
    assert (message["exit_code"], message["job"], message["output"]) == (code, "pseudo_label", "s3://b/x")
    assert words in message["text"]
    assert message["message"] == ("" if error is None else str(error).splitlines()[0])


def test_a_dry_run_tells_nothing_and_checks_the_address(hook) -> None:
    address, told, _ = hook
    assert ended(address, None, "--dry-run") == 0
    assert told == []
    assert ended("http://example.org/x", None, "--dry-run") == 2


@pytest.mark.parametrize("name", ["submit", "deploy", "status", "list", "stop", "doctor", "gc"])
def test_a_job_that_answers_at_once_tells_nothing(hook, name) -> None:
    """The variable belongs to where a job that is sent or deployed runs."""
    address, told, _ = hook
    assert ended(address, None, job_name=name) == 0
    assert ended("env:NOT_SET_HERE", None, job_name=name) == 0
    assert told == []


def test_every_job_that_tells_its_end_exists() -> None:
    assert not command.TELLING - cli.JOBS.keys()


def test_a_message_that_is_not_delivered_changes_no_exit_code(hook, capsys) -> None:
    address, _, statuses = hook
    statuses[0] = 503
    assert ended(address, None) == 0
    assert "was not delivered: it answered 503" in capsys.readouterr().err
    assert ended("http://127.0.0.1:1/secret", None) == 0
    error = capsys.readouterr().err
    assert "was not delivered" in error
    assert "secret" not in error


def test_a_hook_on_this_machine_is_told_without_a_proxy(hook, monkeypatch) -> None:
    address, told, _ = hook
    for name in ("http_proxy", "all_proxy", "no_proxy"):
        for spelling in (name, name.upper()):  # an empty one in small letters would hide the other
            monkeypatch.setenv(spelling, "")
            monkeypatch.delenv(spelling)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert ended(address, None) == 0
    assert len(told) == 1


def test_an_address_may_stand_in_a_variable(hook, monkeypatch) -> None:
    address, told, _ = hook
    monkeypatch.setenv("HOOK", address)
    assert ended("env:HOOK", None) == 0
    assert len(told) == 1


@pytest.mark.parametrize(
    "setting",
    [
        *("http://example.org/x", "file:///etc/passwd", "ftp://h/x", "example.org", "env:NOT_SET_HERE", "https://"),
        *("https://[::1/hook", "https://h:99999/hook"),
    ],
)
def test_other_addresses_are_refused_before_the_work(setting, capsys) -> None:
    with pytest.raises(InputError, match=r"cluster\.notify"):
        notice.address_of(setting)
    assert ended(setting, ValueError("the job must not begin")) == 2
