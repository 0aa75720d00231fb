"""jobs.status: units, Teachers and the driver's sign of life, from the output alone."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import pytest

from cluster.labelling import commits, signs
from cluster.labelling.commits import Commit, Counts
from cluster.store.local import LocalStore
from hojoint import config as settings
from jobs import status


@pytest.fixture
def half(tmp_path: Path) -> LocalStore:
    """A run of which one of two units is committed."""
    store = LocalStore(tmp_path)
    commits.open_run(store, {}, {"units": 2, "videos": 8, "config": settings.to_tree(settings.Config())})
    counts = Counts(listed=4, labelled=4, predicted=9, kept=9, rejected=Counter())
    held = {"teacher": 40.0, "gpu": 40.0, "cpu": 40.0, "decoder": 40.0}
    now = time.time()
    done = Commit("u000000", "a", {}, {}, counts, now - 40, now, {"predict": 30.0, "decode": 10.0}, held)
    store.put(commits.commit_key("u000000"), done.to_bytes())
    return store


def printed(store: LocalStore, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert status.main([f"output={store.root}", *words]) == 0
    return capsys.readouterr().out


def test_a_run_at_work_says_how_many_teachers_live(half: LocalStore, capsys) -> None:
    signs.leave(half, 8, {"alive": 3, "frames": 7})
    out = printed(half, capsys, "report.price_per_gpu_hour=9")
    assert "driver   Teachers 3 of 8, heard of 0 s ago" in out
    assert "units    1 of 2 committed, 4 of 8 videos (50%)" in out
    assert "spent    wait 0%, predict 75%" in out
    assert "cost 0.1, 25 per 1,000 videos" in out  # 40 s of a GPU for four videos


def test_a_driver_that_was_killed_is_called_silent(half: LocalStore, capsys) -> None:
    half.put(signs.SIGN, json.dumps({"at": time.time() - 1000, "teachers": 3, "wanted": 8}).encode())
    assert "driver   silent for 16.7 min" in printed(half, capsys)


@pytest.mark.parametrize("junk", [None, b"", b"[]", b'{"at": 1}'])
def test_without_a_sign_no_driver_is_at_work(half: LocalStore, capsys, junk: bytes | None) -> None:
    if junk is not None:
        half.put(signs.SIGN, junk)
    assert "driver   none at work" in printed(half, capsys)


def test_a_driver_that_ends_takes_its_sign_with_it(half: LocalStore) -> None:
    signs.leave(half, 8, {})
    signs.remove(half)
    assert signs.read(half) is None


def test_a_store_that_refuses_the_sign_costs_nothing() -> None:
    class Broken:
        def put(self, key: str, data: bytes) -> None:
            raise OSError("full")

        delete = put

    signs.leave(Broken(), 8, {})  # type: ignore[arg-type]
    signs.remove(Broken())  # type: ignore[arg-type]
