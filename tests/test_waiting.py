"""cluster.waiting: what a worker raised is told as it was, and no wait is without end."""

from __future__ import annotations

import errno
from types import SimpleNamespace

import pytest
import ray
from ray.exceptions import RayTaskError

from cluster import growing, synthesis, waiting
from cluster.labelling import stalls
from hojoint.errors import InputError, MachineError, NoRoom, Unavailable
from hojoint.synthetic import write
from jobs import command


def wrapped(cause):
    """As ``ray.get`` raises what a task raised."""
    return RayTaskError("work", "Traceback (most recent call last):\n  many lines", cause, ip="10.0.0.7")


def failing(error):
    def get(reference):
        raise error

    return get


@pytest.mark.parametrize(
    ("cause", "kind", "message", "code"),
    [
        (InputError("the list is empty"), InputError, "the list is empty", 2),
        (Unavailable("store away"), Unavailable, "store away", 75),
        (NoRoom("full"), NoRoom, "full", 75),
        (MachineError("clock"), MachineError, "clock", 1),
    ],
)
def test_what_a_worker_raised_is_one_sentence(cause, kind, message, code, monkeypatch, capsys):
    monkeypatch.setattr(ray, "get", failing(wrapped(cause).as_instanceof_cause()))
    assert command.run(lambda config, dry_run: waiting.result("reference"), "doc", []) == code
    error = capsys.readouterr().err
    assert error.endswith(f": {message}\n")
    assert error.count("\n") == 1
    with pytest.raises(kind):
        waiting.result("reference")


def test_a_full_disk_in_a_worker_is_named_with_its_node(monkeypatch):
    monkeypatch.setattr(waiting.socket, "gethostname", lambda: "worker-3")
    message = r"^/w/x.png on the node worker-3 has no room \(No space left on device\); free some"
    with pytest.raises(NoRoom, match=message), waiting.full_disk_named():
        raise OSError(errno.ENOSPC, "No space left on device", "/w/x.png")
    with pytest.raises(FileNotFoundError), waiting.full_disk_named():
        raise FileNotFoundError(errno.ENOENT, "No such file", "/w/x.png")


def test_a_workers_own_fault_keeps_its_traceback(monkeypatch):
    error = wrapped(ZeroDivisionError("ours")).as_instanceof_cause()
    monkeypatch.setattr(ray, "get", failing(error))
    with pytest.raises(ZeroDivisionError, match="many lines") as raised:
        waiting.result("reference")
    assert raised.value is error


@pytest.fixture
def silent(monkeypatch):
    """Nothing comes back, and a second of silence is too long."""
    monkeypatch.setattr(ray, "wait", lambda waiting, num_returns, timeout: ([], waiting))
    monkeypatch.setattr(stalls, "FIRST_S", 0.001)


def test_an_evaluation_that_stands_still_may_be_tried_again(silent):
    actor = SimpleNamespace(__ray_ready__=SimpleNamespace(remote=lambda: "ready"))
    pool = growing.GrowingPool([actor])
    with pytest.raises(Unavailable, match=r"nothing was finished .*no unit is done yet.* The same command measures"):
        list(pool.map(lambda actor, task: "reference", [1, 2]))


def test_a_world_that_stands_still_may_be_tried_again(silent, monkeypatch):
    monkeypatch.setattr(synthesis, "_marked", lambda config: "mark")
    monkeypatch.setattr(synthesis, "_piece", SimpleNamespace(remote=lambda *given: "reference"))
    monkeypatch.setattr(write, "frames_of", lambda piece, config: 1)
    with pytest.raises(Unavailable, match=r"nothing was finished .* The same command draws what is missing"):
        synthesis._draw(None, ["piece"])


def test_the_first_that_is_done_ends_the_wait(monkeypatch):
    answers = [([], ["a", "b"]), (["b"], ["a"])]
    looks = []
    monkeypatch.setattr(ray, "wait", lambda waiting, num_returns, timeout: answers.pop(0))
    assert waiting.first_done(["a", "b"], lambda: looks.append(1)) == ["b"]
    assert len(looks) == 1
