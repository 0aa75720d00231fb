"""One process at a time in a folder: others wait or are told; the lock goes with its holder."""

from __future__ import annotations

import errno
import threading

import pytest

from cluster import locks
from hojoint.errors import InputError


def test_a_second_holder_is_refused_and_a_later_one_is_not(tmp_path):
    second = locks.alone(tmp_path, "draws", wait=False)
    with locks.alone(tmp_path, "draws", wait=False), pytest.raises(InputError, match="another process draws in"):
        second.__enter__()
    with locks.alone(tmp_path, "draws", wait=False):
        pass


def test_one_that_waits_goes_on_when_the_first_is_done(tmp_path, capsys):
    order = []

    def second():
        with locks.alone(tmp_path, "draws", wait=True):
            order.append("second")

    with locks.alone(tmp_path, "draws", wait=True):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]
    assert f"waiting: another process draws in {tmp_path}" in capsys.readouterr().out


def test_a_file_system_without_locks_is_worked_in_with_a_note(tmp_path, capsys, monkeypatch):
    def unable(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", unable)
    with locks.alone(tmp_path, "draws", wait=False):
        pass
    assert f"note: {tmp_path} knows no locks (No locks available)" in capsys.readouterr().out


def test_the_lock_goes_when_its_holder_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), locks.alone(tmp_path, "draws", wait=False):
        _ = 1 / 0
    with locks.alone(tmp_path, "draws", wait=False):
        pass
