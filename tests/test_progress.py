"""The board and the bar: one of each for labelling and training, lines where stderr is a file."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from cluster import progress
from cluster.training import run as training


@pytest.fixture
def board(monkeypatch):
    """A board in this process, read without Ray."""
    inner = progress.Board.__ray_metadata__.modified_class()
    monkeypatch.setattr(progress.ray, "get", lambda value, timeout: value)
    remote = {name: SimpleNamespace(remote=getattr(inner, name)) for name in ("add", "put", "beat", "read")}
    return SimpleNamespace(**remote)


def test_a_board_sums_counts_and_replaces_values(board):
    board.add.remote(done=2, frames=80)
    board.add.remote(done=1, frames=40)
    board.put.remote(stage="training", loss=2.0)
    board.put.remote(loss=1.0)
    assert board.read.remote() == {"done": 3, "frames": 120, "stage": "training", "loss": 1.0}


def test_actors_count_as_alive_until_they_are_silent(board, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    text = progress.FrameRate("Teachers", 8)
    assert text(board.read.remote()) == "0.0 frames/s, Teachers 0 of 8"
    for actor in ("one", "other", "third", "one"):
        board.beat.remote(actor)
    board.add.remote(frames=40)
    now[0] += 20
    board.beat.remote("one")
    assert text(board.read.remote()) == "2.0 frames/s, Teachers 3 of 8"
    now[0] += 20  # one of them was heard of within the last half minute
    assert text(board.read.remote()) == "1.0 frames/s, Teachers 1 of 8"


def test_no_more_actors_live_than_were_asked_for():
    """An actor that takes a dead one's place beats before the dead one counts as silent."""
    board = progress.Board.__ray_metadata__.modified_class(wanted=2)
    for actor in ("first", "second", "in the place of the first"):
        board.beat(actor)
    assert board.read()["alive"] == 2


def test_actors_without_a_unit_are_not_wanted(monkeypatch):
    """At the end of a run they are released one by one, which is no fault."""
    shown = {}

    def of_run(name, run, **labels):
        return SimpleNamespace(set=lambda value: shown.__setitem__(name, value))

    monkeypatch.setattr(progress.metrics, "of_run", of_run)
    board = progress.Board.__ray_metadata__.modified_class("labelling", 8, "/out")
    for left, wanted in ((20, 8), (8, 8), (3, 3), (0, 0)):
        board.useful(left)
        board.read()
        assert shown["hojoint_actors_wanted"] == wanted


def test_an_elastic_run_says_how_many_workers_it_has():
    state = {"stage": "training", "done": 4, "loss": 1.0, "workers": 3}
    assert training._position(2, (2, 8))(state) == "epoch 2.0, loss 1.00, workers 3 of 8"
    assert training._position(2, (3, 3))(state) == "epoch 2.0, loss 1.00"


def test_a_note_that_hangs_holds_neither_the_bar_nor_the_end(board, monkeypatch):
    monkeypatch.setattr(progress, "ANSWER_S", 0.1)
    begun, never = [], threading.Event()

    def hang(state):
        begun.append(state)
        never.wait(30)

    with progress.Progress(board, "a", "step", total=9, text=lambda state: "", note=hang) as bar:
        for done in (1, 2):
            board.put.remote(done=done)
            bar._look()
            assert bar._bar.done == done
    assert len(begun) == 1
    never.set()


def test_a_file_gets_a_line_now_and_then_and_no_bar(capsys, monkeypatch):
    monkeypatch.setattr(progress.time, "monotonic", iter([0.0, 10.0, 31.0, 31.0, 40.0, 70.0, 70.0]).__next__)
    with progress.Bar("labelling", "video", total=100, done=10) as bar:
        for done in (20, 30, 40, 50):
            bar.move(done, "8.0 frames/s")
    assert capsys.readouterr().err.splitlines() == [
        "labelling: 30 of 100 videos, 8.0 frames/s",
        "labelling: 50 of 100 videos, 8.0 frames/s",
    ]


def test_a_bar_advances_by_what_is_finished(capsys, monkeypatch):
    monkeypatch.setattr(progress, "LINE_EVERY_S", -1.0)
    with progress.Bar("labelling", "frame", total=9) as bar:
        bar.advance(4)
        bar.advance(5)
    assert capsys.readouterr().err.splitlines() == ["labelling: 4 of 9 frames", "labelling: 9 of 9 frames"]


def test_a_terminal_gets_a_bar_that_ends_at_its_total(board, capsys, monkeypatch):
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    text = training._position(2, (1, 1))
    with progress.Progress(board, "teacher", "step", total=160, text=text) as bar:
        board.put.remote(stage="training", done=5, loss=3.25)
        bar._look()
        assert bar._bar.done == 5
    assert bar._bar.done == 160
    err = capsys.readouterr().err
    assert "teacher" in err
    assert "epoch 2.5, loss 3.25" in err


def test_a_bar_never_passes_its_total(board):
    with progress.Progress(board, "labelling", "video", total=4, done=2, text=lambda state: "") as bar:
        board.add.remote(done=3, frames=9)  # one of them by an attempt that began again
        bar._look()
        assert bar._bar.done == 4


def test_a_run_that_fails_leaves_the_bar_where_it_was(board):
    with pytest.raises(RuntimeError), progress.Progress(board, "a", "step", total=9, text=lambda state: "") as bar:  # noqa: PT012
        board.put.remote(done=3)
        bar._look()
        raise RuntimeError
    assert bar._bar.done == 3


def test_a_board_that_does_not_answer_costs_nothing(monkeypatch):
    def no_answer(value, timeout):
        raise progress.ray.exceptions.GetTimeoutError

    monkeypatch.setattr(progress.ray, "get", no_answer)
    silent = SimpleNamespace(read=SimpleNamespace(remote=lambda: None))
    with progress.Progress(silent, "a", "step", total=9, text=lambda state: "") as bar:
        bar._look()
    assert bar._bar.done == 0
