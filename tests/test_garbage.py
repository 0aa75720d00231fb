"""cluster.garbage, cluster.labelling.presence and jobs.gc: what nothing reads goes, what a commit names never does."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from test_units import dead_note, put_commit

from cluster import garbage
from cluster.labelling import attempts, chain, commits, presence
from cluster.store import Store, base, open_store
from cluster.store.local import LocalStore
from hojoint.errors import InputError
from jobs import gc


def written(store: Store) -> set[str]:
    """A run of which one unit is committed, with garbage; returns the keys that must stay."""
    store.put(f"manifest-{'0' * 16}.parquet", b"m")
    store.put(f"manifest-{'1' * 16}.parquet", b"grown")
    commits.open_run(store, {}, {commits.MANIFEST: f"manifest-{'0' * 16}.parquet"})
    facts = {commits.MANIFEST: f"manifest-{'1' * 16}.parquet"}
    assert chain.append(store, commits.read_run(store), 1, facts, {"videos": 1})
    put_commit(store, "u000000", "first", listed=1)
    store.put("mine/notes-u000000-x.txt", b"a person's")
    for key in ("predictions/mine.parquet", f"predictions/u000000-{ATTEMPT}-copy.parquet", ".probe-mine"):
        store.put(key, b"a person's")
    keep = everything(store)
    for key in GARBAGE:
        store.put(key, b"four")
    return keep


ATTEMPT = "0123456789ab"
GARBAGE = (
    f"predictions/u000000-{ATTEMPT}.parquet",  # of a committed unit
    f"detections/u000000-{ATTEMPT}.parquet",
    f"samples/u000000-{ATTEMPT}.parquet",
    f"predictions/u000001-{ATTEMPT}.parquet",  # of one without a commit
    f"manifest-{'2' * 16}.parquet",
    f".probe-{'0' * 32}-raced",
)


def everything(store: Store) -> set[str]:
    return {entry.key for entry in store.entries("") if not entry.key.startswith(base.PARTIAL)}


@pytest.fixture(params=["folder", pytest.param("s3", marks=[pytest.mark.s3, pytest.mark.slow])])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return open_store(str(tmp_path / "out"))
    return open_store(request.getfixturevalue("bucket") + "/some/prefix")


def test_garbage_goes_and_nothing_else(store: Store) -> None:
    keep = written(store)
    assert all(0 <= entry.age_s < 60 for entry in store.entries("predictions/"))
    leftovers = garbage.find(store, 0.0)
    assert sorted(leftover.name for leftover in leftovers) == sorted(GARBAGE)
    assert {leftover.size for leftover in leftovers} == {4}
    assert everything(store) == keep | set(GARBAGE)  # nothing is removed by finding
    garbage.remove(store, leftovers)
    assert everything(store) == keep
    assert garbage.find(store, 0.0) == []
    assert len(commits.read_commits(store)) == 1


def test_what_may_still_be_committed_is_left_while_it_is_young(store: Store) -> None:
    written(store)
    assert {leftover.name for leftover in garbage.find(store, 3600.0)} == set(GARBAGE[:3])


@pytest.mark.s3
@pytest.mark.slow
def test_abandoned_uploads_of_the_output_go(bucket: str) -> None:
    store, beside = open_store(f"{bucket}/out"), open_store(f"{bucket}/other")
    commits.open_run(store, {}, {})
    client, name = boto3.client("s3"), bucket.removeprefix("s3://")
    for one, folder in ((store, "out"), (beside, "other")):
        begun = {"Bucket": name, "Key": f"{folder}/manifest-{'0' * 16}.parquet"}
        upload = client.create_multipart_upload(**begun)["UploadId"]
        client.upload_part(**begun, UploadId=upload, PartNumber=1, Body=bytes(5 * 2**20))
        assert len(list(one.unfinished())) == 1
    assert garbage.find(store, 3600.0) == []
    [leftover] = garbage.find(store, 0.0)
    assert leftover.name.startswith(f"manifest-{'0' * 16}.parquet?uploadId=")
    garbage.remove(store, [leftover])
    assert list(store.unfinished()) == []
    assert len(list(beside.unfinished())) == 1


def test_a_half_written_file_goes_once_it_is_old(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    commits.open_run(store, {}, {})
    half = tmp_path / base.PARTIAL / ("0" * 32)
    half.write_bytes(b"half a file")
    assert garbage.find(store, 60.0) == []
    os.utime(half, (0, 0))
    [leftover] = garbage.find(store, 60.0)
    garbage.remove(store, [leftover])
    assert not half.exists()


def test_a_table_of_boxes_that_was_not_moved_goes_once_old(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    commits.open_run(store, {}, {})
    left = f"boxes-{ATTEMPT}.partial"
    for key in (left, "boxes-mine.partial", f"boxes-{ATTEMPT}.parquet"):
        store.put(key, b"four")
    assert garbage.find(store, 60.0) == []
    os.utime(tmp_path / left, (0, 0))
    leftovers = garbage.find(store, 60.0)
    assert [leftover.name for leftover in leftovers] == [left]
    garbage.remove(store, leftovers)
    assert {"boxes-mine.partial", f"boxes-{ATTEMPT}.parquet", "run.json"} <= everything(store)
    assert not store.exists(left)


def test_a_living_driver_or_attempt_is_refused(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    commits.open_run(store, {}, {})
    sentence = rf"process {os.getpid()} on {socket.gethostname()} labels videos"
    with presence.announced(store, "labels videos"), pytest.raises(InputError, match=sentence):
        garbage.find(store, 0.0)
    assert list(store.list(attempts.ATTEMPTS)) == []
    ledger = attempts.Ledger(store, "u000003", "driver")
    ledger.note(["1"])
    with pytest.raises(InputError, match="works on a unit"):
        garbage.find(store, 0.0)
    ledger.close()


@pytest.mark.slow
def test_notes_of_the_dead_stay_until_their_unit_is_committed(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    commits.open_run(store, {}, {})
    for unit in ("u000000", "u000001"):
        dead_note(tmp_path, unit, "driver", ["1"])
    put_commit(store, "u000000", "first")
    assert [leftover.kind for leftover in garbage.find(store, 0.0)] == ["notes of dead processes"]


def test_a_note_of_another_machine_counts_while_it_is_young(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path)
    commits.open_run(store, {}, {})
    with presence.announced(store, "labels videos"):
        monkeypatch.setattr(attempts.socket, "gethostname", lambda: "elsewhere")
        assert len(presence.living(store)) == 1
        now = time.time()
        monkeypatch.setattr(attempts.time, "time", lambda: now + attempts.STALE_S + 1)
        assert presence.living(store) == []


def test_a_driver_renews_its_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "RENEWED_S", 0.01)
    store = LocalStore(tmp_path)
    with presence.announced(store, "labels videos"):
        [key] = store.list(presence.FOLDER)
        first = attempts.read(store, key)
        until = time.monotonic() + 20
        while attempts.read(store, key) == first:
            assert time.monotonic() < until
            time.sleep(0.01)


def test_the_job_prints_what_it_would_remove_and_removes_it(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    store = LocalStore(tmp_path)
    keep = written(store)
    place = [f"output={tmp_path}", "gc.min_age_h=0"]
    assert gc.main([*place, "--dry-run"]) == 0
    assert "would remove 6 objects" in capsys.readouterr().out
    assert everything(store) == keep | set(GARBAGE)
    assert gc.main(place) == 0
    assert "removed 6 objects" in capsys.readouterr().out
    assert everything(store) == keep
    assert gc.main([f"output={tmp_path}/nothing"]) == 2


def test_the_job_clears_all_rounds_of_a_pipeline(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    rounds = [LocalStore(tmp_path / folder) for folder in ("labels", "labels-2")]
    keep = [written(store) for store in rounds]
    place = [f"output={tmp_path}", "gc.min_age_h=0"]
    with presence.announced(rounds[1], "labels videos"):
        assert gc.main(place) == 2  # and nothing of the first round is removed
    assert everything(rounds[0]) == keep[0] | set(GARBAGE)
    assert gc.main(place) == 0
    assert capsys.readouterr().out.count("removed 6 objects") == 2
    assert [everything(store) for store in rounds] == keep


def test_the_job_takes_the_name_of_a_boxes_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    written(LocalStore(tmp_path / "boxes.parquet.run"))
    for name in ("boxes.parquet", "boxes.parquet.run"):
        assert gc.main([f"output={tmp_path / name}", "gc.min_age_h=0", "--dry-run"]) == 0
        assert "would remove 6 objects" in capsys.readouterr().out


def test_the_sweep_leaves_units_that_are_not_committed(tmp_path: Path) -> None:
    """Another driver may have let the run grow and be at work on them."""
    store = LocalStore(tmp_path)
    put_commit(store, "u000000", "first")
    store.put(f"predictions/u000001-{ATTEMPT}.parquet", b"")
    store.put(f"attempts/u000001/{ATTEMPT}.json", b"{}")
    store.put(f"predictions/u000000-{ATTEMPT}.parquet", b"")
    assert commits.sweep(store) == 1
    assert store.exists(f"predictions/u000001-{ATTEMPT}.parquet")
    assert store.exists(f"attempts/u000001/{ATTEMPT}.json")


def test_copies_that_a_person_made_stay(tmp_path: Path) -> None:
    """File managers and sync programs make them, and most of their names are no keys of a store."""
    store = LocalStore(tmp_path)
    commits.open_run(store, {}, {})
    put_commit(store, "u000000", "first")
    with presence.announced(store, "labels videos"):
        copies = [f"{table}/u000000-{ATTEMPT}{end}.parquet" for table in commits.TABLES for end in (" (copy)", "-copy")]
        copies += [f"{attempts.ATTEMPTS}/{of}/{ATTEMPT} (1).json" for of in ("u000000", "drivers")]
        copies += [f"{base.PARTIAL}/a (copy)", ".probe-a (copy)", f"manifest-{'0' * 16} (copy).parquet"]
        for name in copies:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(b"{}")
        assert commits.sweep(store) == 0
        assert attempts.Ledger(store, "u000000", "driver").suspicion(1) == attempts.Suspicion(frozenset(), {})
    assert garbage.find(store, 0.0) == []
    assert all((tmp_path / name).exists() for name in copies)


class Uploads(LocalStore):
    """A folder whose unfinished objects are those that a bucket would name."""

    def unfinished(self) -> Iterator[base.Entry]:
        keys = (f"manifest-{'0' * 16}.parquet", f"boxes-{ATTEMPT}.partial", "backup.tar", "mine/manifest.parquet")
        return (base.Entry(f"{key}{base.OF_UPLOAD}1", 0, 9.0) for key in keys)


def test_uploads_of_others_into_the_prefix_go_on(tmp_path: Path) -> None:
    store = Uploads(tmp_path)
    commits.open_run(store, {}, {})
    names = [leftover.name for leftover in garbage.find(store, 0.0)]
    assert names == [f"manifest-{'0' * 16}.parquet?uploadId=1", f"boxes-{ATTEMPT}.partial?uploadId=1"]
