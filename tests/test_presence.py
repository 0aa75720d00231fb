"""cluster.labelling.presence: of several drivers of one training one is at work, and the dead hold nobody up."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cluster import ending
from cluster.labelling import attempts, presence
from cluster.store import open_store
from cluster.store.local import LocalStore
from hojoint.errors import Unavailable

NOTE = f"{presence.FOLDER}/0123456789ab.json"


@pytest.fixture
def store(tmp_path, monkeypatch) -> LocalStore:
    monkeypatch.setattr(presence, "LOOK_S", 0.02)
    return open_store(str(tmp_path))


def note_of(store, **facts):
    """A driver's note, as one on another machine has left it now."""
    note = {"host": "elsewhere/boot", "pid": 7, "started": "1", "doing": "trains", "of": "run-1", "driver": ""}
    store.put(NOTE, json.dumps(note | {"at": time.time(), "began": time.time()} | facts).encode())


def test_one_driver_of_several_is_at_work(store):
    """Each leaves its note before it looks for others."""
    begin, inside, most = threading.Barrier(4), [], []

    def drive(number):
        begin.wait()
        for _ in range(3):
            with presence.alone(store, "trains", "run-1"):
                inside.append(number)
                most.append(len(inside))
                time.sleep(0.02)
                inside.remove(number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(drive, range(4)))
    assert most == [1] * 12
    assert list(store.list(presence.FOLDER)) == []


def test_a_driver_waits_for_the_living_and_says_so(store, capsys):
    went_on = threading.Event()

    def wait():
        with presence.alone(store, "trains", "run-1"):
            went_on.set()

    with presence.alone(store, "trains", "run-1"):
        with presence.alone(store, "trains", "run-2"):  # of another run: not waited for
            pass
        second = threading.Thread(target=wait)
        second.start()
        assert not went_on.wait(0.3)
    assert went_on.wait(10)
    second.join()
    assert capsys.readouterr().out.count(f"trains in {store.root} already") == 1


def test_a_driver_killed_here_holds_nobody_up(store):
    note_of(store, host=attempts.process()["host"], pid=2**22 + 1)  # above the kernel's highest
    with presence.alone(store, "trains", "run-1"):
        pass
    assert not store.exists(NOTE)


def test_a_driver_killed_elsewhere_is_waited_for_a_while(store, monkeypatch):
    monkeypatch.setattr(presence, "SILENT_S", 0.5)
    begun = time.monotonic()
    note_of(store)
    with presence.alone(store, "trains", "run-1"):
        assert 0.4 < time.monotonic() - begun < 10


def test_a_driver_that_failed_may_begin_again_at_once(store):
    """Its note stays where the store is away, and its process may live on."""
    for _ in range(2):
        with pytest.raises(Unavailable), presence.alone(store, "trains", "run-1"):
            raise Unavailable("store away")
    with presence.alone(store, "trains", "run-1"):
        assert len(list(store.list(presence.FOLDER))) == 1


def test_a_driver_that_waits_does_not_hold_up_an_ending(store, monkeypatch):
    monkeypatch.setattr(ending._state, "begun", threading.Event())
    ending._state.begun.set()
    note_of(store)
    with pytest.raises(Unavailable, match="is being ended"), presence.alone(store, "trains", "run-1"):
        pytest.fail("another driver is at work")
