"""jobs.status: units, Teachers and the driver's sign of life, from the output alone."""

from __future__ import annotations

import json
import os
import socket
import time
from collections import Counter
from pathlib import Path

import pytest

from cluster.detection import findings
from cluster.labelling import commits, presence
from cluster.labelling.commits import Commit
from cluster.labelling.counts import Counts
from cluster.store.local import LocalStore
from cluster.training import shard_counts
from hojoint import config as settings
from hojoint.errors import Unavailable
from jobs import command, gc, results, status


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


def test_a_run_at_work_says_how_many_teachers_live(half: LocalStore, capsys, monkeypatch) -> None:
    monkeypatch.setattr(presence, "RENEWED_S", 0.01)
    with presence.announced(half, "labels videos") as note:
        note.tell(teachers=3, wanted=8)
        until = time.monotonic() + 20
        while "wanted" not in presence.drivers(half)[0]:
            assert time.monotonic() < until
            time.sleep(0.01)
        out = printed(half, capsys, "report.price_per_gpu_hour=9")
    me = f"process {os.getpid()} on {socket.gethostname()}"
    assert f"driver   {me} labels videos, Teachers 3 of 8, heard of 0 s ago" in out
    assert "units    1 of 2 committed, 4 of 8 videos (50%)" in out
    assert "spent    wait 0%, predict 75%" in out
    assert "cost 0.1, 25 per 1,000 videos" in out  # 40 s of a GPU for four videos


def test_a_long_unit_of_a_living_driver_is_slow_and_not_stalled(tmp_path: Path, capsys) -> None:
    store = LocalStore(tmp_path)
    commits.open_run(store, {}, {"units": 2, "videos": 8, "config": settings.to_tree(settings.Config())})
    run = json.loads(store.get(commits.RUN))
    store.put(commits.RUN, json.dumps(run | {"begun": time.time() - 7200}).encode())
    assert "state    stalled or stopped: no commit for 2.0 h" in printed(store, capsys)
    note_of(store)  # of an earlier version, which does not say when it began
    assert "state    slow: no commit for 2.0 h" in printed(store, capsys)
    note_of(store, began=time.time() - 3600)
    assert "state    slow: no commit for 1.0 h" in printed(store, capsys)


def test_a_run_that_was_resumed_now_is_not_slow(half: LocalStore, capsys) -> None:
    """The break of three days before is no silence of this driver."""
    [key] = half.list(commits.COMMITS)
    commit, old = json.loads(half.get(key)), time.time() - 3 * 86400
    half.put(key, json.dumps(commit | {"started": old - 40, "finished": old}).encode())
    assert "state    stalled or stopped: no commit for 3.0 days" in printed(half, capsys)
    with presence.announced(half, "labels videos"):
        out = printed(half, capsys)
    assert "last     commit 3.0 days ago" in out
    assert "state    slow" not in out
    assert "left     about 40 s" in out


def note_of(half: LocalStore, **facts: object) -> None:
    """A driver's note that nobody renews."""
    note = {"host": "elsewhere/x", "pid": 7, "started": 1, "driver": "", "doing": "labels videos", "at": time.time()}
    half.put(f"{presence.FOLDER}/0123456789ab.json", json.dumps(note | facts).encode())


def test_a_driver_elsewhere_is_at_work_while_its_note_is_young(half: LocalStore, capsys) -> None:
    note_of(half, at=time.time() - 30)
    assert "driver   process 7 on elsewhere labels videos, heard of 30 s ago" in printed(half, capsys)
    note_of(half, at=time.time() - 1000)
    assert "driver   process 7 on elsewhere is silent for 16.7 min" in printed(half, capsys)


def test_a_killed_driver_of_this_machine_is_silent_at_once(half: LocalStore, capsys) -> None:
    with presence.announced(half, "labels videos"):
        [note] = presence.drivers(half)
    note_of(half, **note | {"started": "1"})  # its number has another process now
    assert "is silent for 0 s" in printed(half, capsys)


def test_a_driver_that_ends_takes_its_note_with_it(half: LocalStore, capsys) -> None:
    with presence.announced(half, "labels videos"):
        assert len(presence.drivers(half)) == 1
    assert presence.drivers(half) == []
    assert "driver   none at work" in printed(half, capsys)


def test_a_driver_takes_the_place_of_a_dead_one(half: LocalStore) -> None:
    note_of(half)
    with presence.announced(half, "labels videos"):
        assert len(presence.drivers(half)) == 2  # one elsewhere may live
    note_of(half, at=0.0)
    with presence.announced(half, "labels videos"):
        assert len(presence.drivers(half)) == 1


def test_a_store_that_is_away_is_not_asked_again(half: LocalStore) -> None:
    with pytest.raises(Unavailable), presence.announced(half, "labels videos"):
        raise Unavailable("gone")
    assert len(presence.drivers(half)) == 1


def other_run(root: Path, fingerprint: dict[str, object], counts: object, **facts: object) -> LocalStore:
    """A run of another job, of which one of two units is committed."""
    store = LocalStore(root)
    commits.open_run(store, fingerprint, {"units": 2, "config": settings.to_tree(settings.Config()), **facts})
    done = Commit("u000000", "a", {}, {}, counts, time.time() - 40, time.time(), {})
    store.put(commits.commit_key("u000000"), done.to_bytes())
    return store


def test_the_boxes_of_a_detection_run_are_counted(tmp_path: Path, capsys) -> None:
    counts = findings.Counts(listed=4, with_hands=3, without_hands=1, pictures=90, found=70, filled=5, tracks=3)
    store = other_run(tmp_path / "boxes.parquet.run", {"boxes_version": 1}, counts, videos=8)
    for output in (str(tmp_path / "boxes.parquet"), store.root):  # the file that was asked for, or the run beside it
        assert status.main([f"output={output}"]) == 0
        out = capsys.readouterr().out
        assert "units    1 of 2 committed, 4 of 8 videos (50%)" in out
        assert "videos   4 = 3 with hands + 1 without + 0 quarantined" in out
        assert "boxes    70 found + 5 filled, in 90 pictures" in out
        assert "left     about 40 s" in out


@pytest.mark.parametrize(("facts", "part"), [({"images": 10}, ", 4 of 10 images (40%)\n"), ({}, "\n")])
def test_the_images_of_an_ingest_run_are_counted(facts, part, tmp_path: Path, capsys) -> None:
    """Also of a run whose run.json does not say how many images there are, as those of earlier versions."""
    counts = shard_counts.Counts(samples=4, held_out=1, image_bytes=3_000_000)
    out = printed(other_run(tmp_path, {"samples_version": 1}, counts, **facts), capsys)
    assert f"units    1 of 2 committed{part}" in out
    assert "images   4 (1 held out, 3 MB)" in out


def committed(root: Path, units: int) -> LocalStore:
    """A labelling run of two units, of which the first ones are committed."""
    store = LocalStore(root)
    commits.open_run(store, {}, {"units": 2, "videos": 8, "config": settings.to_tree(settings.Config())})
    for number in range(units):
        counts = Counts(listed=4, labelled=4, predicted=9, kept=9, rejected=Counter())
        done = Commit(f"u{number:06d}", "a", {}, {}, counts, time.time() - 40, time.time(), {})
        store.put(commits.commit_key(done.unit), done.to_bytes())
    return store


def test_of_a_pipeline_the_last_round_is_shown(tmp_path: Path, capsys) -> None:
    for folder, units in (("labels", 2), ("labels-2", 1)):
        committed(tmp_path / folder, units)
    out = printed(LocalStore(tmp_path), capsys)
    assert f"output   {tmp_path}/labels-2, begun" in out
    assert "units    1 of 2 committed" in out


@pytest.mark.parametrize(
    ("words", "done", "following"),
    [
        ((), (), "synthesize"),
        ((), ("synthesize",), "train"),
        ((), ("train", "synthesize"), "pseudo_label"),
        (("calibrate.enabled=true", "train.held_out=2"), ("synthesize", "train"), "calibrate"),
        (("videos.root=v",), (), "train"),
    ],
)
def test_a_pipeline_before_its_labels_tells_its_stage(words, done, following, tmp_path: Path, capsys) -> None:
    """And does not advise to run jobs.pseudo_label into the pipeline's own folder."""
    store = LocalStore(tmp_path)
    made = settings.load(command.DEFAULT_CONFIG, [*words, f"output={tmp_path}"])
    store.put(results.PIPELINE, json.dumps(settings.to_tree(made)).encode())
    for stage in done:
        marker = {"settings": {}, "inputs": {}, "made": "", "what": "", "seconds": 1.0}
        store.put(f"stages/{stage}.json", json.dumps(marker).encode())
    shown = ", ".join(sorted(done)) or "none"
    out = printed(store, capsys)
    assert out.splitlines() == [
        f"output   {tmp_path}, a pipeline without labels yet",
        f"stages   complete: {shown}",
        f"next     {following}: at work, or to be begun by the command of the pipeline",
    ]
    assert gc.main([f"output={tmp_path}"]) == 0
    assert capsys.readouterr().out == out + "garbage  none\n"


def test_a_training_tells_whether_it_is_complete(tmp_path: Path, capsys) -> None:
    store = LocalStore(tmp_path)
    store.put(f"{status.RUNS}/train-1/checkpoint.pt", b"")
    assert f"output   {tmp_path}, a training\nstate    not complete" in printed(store, capsys)
    store.put(status.FACTS, json.dumps({"sha256": "1", "steps": 7, "samples": 5, "history": []}).encode())
    assert "state    complete, 7 steps on 5 samples" in printed(store, capsys)
