"""cluster.patience: outages are ridden out for as long as it is set, and said."""

from __future__ import annotations

import itertools
import os
import threading
import time

import pytest

from cluster import ending, patience
from hojoint.config import ClusterConfig, Config
from hojoint.errors import Unavailable
from jobs import remote


def is_network(error: Exception) -> bool:
    return isinstance(error, ConnectionError)


def test_the_default_is_that_of_the_setting(monkeypatch):
    monkeypatch.delenv(patience.VARIABLE, raising=False)
    assert patience.seconds() == ClusterConfig().patience_s
    with patience.granted(7.5):
        assert patience.seconds() == 7.5
        with patience.granted(1.0):
            assert os.environ[patience.VARIABLE] == "1"
        assert patience.seconds() == 7.5
    assert patience.VARIABLE not in os.environ


def test_a_fault_that_passes_is_ridden_out_and_said_once(monkeypatch, capsys):
    monkeypatch.setattr(patience, "SAY_AFTER_S", 0.0)
    heard, tries = [], []
    patience.listen(heard.append)

    def request():
        tries.append(time.monotonic())
        if len(tries) < 4:
            raise ConnectionError("refused.\nMore about it.")
        return "answer"

    try:
        assert patience.ridden_out(request, is_network, "store s3://b/x") == "answer"
    finally:
        patience.listen(None)
    assert heard == ["store s3://b/x unreachable for 0 s", ""]
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("store s3://b/x unreachable for 0 s (refused); trying again, for 300 s in all")
    assert last.startswith("store s3://b/x answers again after")
    waits = [after - before for before, after in itertools.pairwise(tries)]
    assert min(waits) >= patience.FIRST_WAIT_S / 2  # never a storm of requests


def test_a_long_attempt_that_breaks_off_is_repeated():
    tries = []

    def read():
        tries.append(1)
        if len(tries) == 1:
            time.sleep(0.6)  # longer than the patience: the answer came, and broke off
            raise ConnectionError("reset")
        return "answer"

    with patience.granted(0.5):
        assert patience.ridden_out(read, is_network, "store") == "answer"
    assert len(tries) == 2


def test_a_longer_patience_makes_more_tries():
    counts = []
    for seconds in (0.0, 0.3, 1.0):
        tries = []

        def request(tries=tries):
            tries.append(1)
            raise ConnectionError("refused")

        with patience.granted(seconds), pytest.raises(Unavailable, match=r"from the node .*cluster\.patience_s="):
            patience.ridden_out(request, is_network, "store")
        counts.append(len(tries))
    assert counts[0] == 1
    assert counts[0] < counts[1] < counts[2]


def test_a_patience_that_no_setting_gives_is_told_as_such(monkeypatch, capsys):
    def request():
        raise ConnectionError("refused")

    monkeypatch.setattr(patience, "SAY_AFTER_S", 0.0)
    monkeypatch.setattr(remote, "ANSWER_S", 0.3)
    with (
        remote.soon(Config()),
        pytest.raises(Unavailable, match=r"no other try fits into the 0\.3 s that this command waits\. When"),
    ):
        patience.ridden_out(request, is_network, "cluster")
    assert "trying again, for 0 s in all (this command)" in capsys.readouterr().err
    with (
        remote.soon(Config(cluster={"patience_s": 0.1})),
        pytest.raises(Unavailable, match=r"cluster\.patience_s=0\.1"),
    ):
        patience.ridden_out(request, is_network, "another cluster")


def test_a_fault_that_does_not_pass_is_raised_at_once():
    tries = []

    def request():
        tries.append(1)
        raise KeyError("no such key")

    with pytest.raises(KeyError):
        patience.ridden_out(request, is_network, "store")
    assert tries == [1]


def test_a_thread_that_waits_does_not_hold_up_an_ending(monkeypatch):
    def request():
        raise ConnectionError("refused")

    monkeypatch.setattr(ending._state, "begun", threading.Event())
    threading.Timer(0.3, ending._state.begun.set).start()
    began = time.monotonic()
    with pytest.raises(Unavailable, match="is being ended"):
        patience.ridden_out(request, is_network, "store")
    assert time.monotonic() - began < 5.0
