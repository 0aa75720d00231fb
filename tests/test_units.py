"""Units, commits and attempts of labelling: the rules that exactly-once rests on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from cluster.labelling import attempts, commits, totals, units
from cluster.labelling.attempts import Ledger
from cluster.labelling.commits import Commit
from cluster.labelling.counts import Counts
from cluster.labelling.decoding import Failure
from cluster.labelling.units import Video, make_units
from cluster.store import base
from cluster.store.local import LocalStore
from cluster.training import data as training_data
from hojoint.config import Config, digest
from hojoint.errors import InputError, NoRoom, Unavailable
from hojoint.labelling import tables
from hojoint.records import Clip


def video(video_id: str, *, shift: float = 0.0, path: str = "/videos", size: int = 7) -> Video:
    boxes = np.array([[0, 0, 10, 10], [1, 1, 11, 11]], np.float32) + np.float32(shift)
    clip = Clip(f"{video_id}-h0", video_id, path, np.array([0, 1], np.int32), boxes, boxes * np.nan, 2)
    return Video(video_id, f"{path}/{video_id}.webm", (clip,), size)


def settings(**groups: dict) -> Config:
    return Config.model_validate(groups)


def test_units_are_cut_from_videos_in_the_order_of_ids() -> None:
    cut = list(make_units((video(str(n)) for n in range(10)), 4))
    assert [[v.video_id for v in unit.videos] for unit in cut] == [list("0123"), list("4567"), list("89")]
    assert [unit.unit_id for unit in cut] == ["u000000", "u000001", "u000002"]
    with pytest.raises(AssertionError):
        list(make_units([video("2"), video("1")], 4))


def digests_of(videos: list[Video]) -> units.Digests:
    digests = units.Digests()
    for one in videos:
        digests.add(one)
    return digests


def fingerprint(config: Config, teacher: str, hand: str, videos: list[Video]) -> dict:
    return units.fingerprint(config, teacher, hand, digests_of(videos))


def test_the_fingerprint_holds_exactly_what_changes_results() -> None:
    videos = [video("1"), video("2")]
    base = fingerprint(Config(), "teacher", "hand", videos)
    same = [
        fingerprint(settings(cluster={"teachers": [4, 9]}), "teacher", "hand", videos),
        fingerprint(settings(labelling={"batch_views": 7, "attempts": 5, "compile": True}), "teacher", "hand", videos),
        fingerprint(settings(output="elsewhere"), "teacher", "hand", videos),
        fingerprint(Config(), "teacher", "hand", [video("1", path="/mnt/moved"), video("2")]),
    ]
    for other in same:
        assert units.differences(base, other) == []
    different = {
        "filters.min_box_iou": fingerprint(settings(filters={"min_box_iou": 0.5}), "teacher", "hand", videos),
        "tta.views": fingerprint(settings(tta={"views": 4}), "teacher", "hand", videos),
        "labelling.unit_videos": fingerprint(settings(labelling={"unit_videos": 9}), "teacher", "hand", videos),
        "labelling.max_file_mb": fingerprint(settings(labelling={"max_file_mb": 9}), "teacher", "hand", videos),
        "labelling.decode_memory_mb": fingerprint(
            settings(labelling={"decode_memory_mb": 999}), "teacher", "hand", videos
        ),
        "labelling.precision": fingerprint(settings(labelling={"precision": "bfloat16"}), "teacher", "hand", videos),
        "teacher": fingerprint(Config(), "another", "hand", videos),
        "hand_model": fingerprint(Config(), "teacher", "another", videos),
        "clips": fingerprint(Config(), "teacher", "hand", [video("1"), video("2", shift=0.1)]),
        "video_files": fingerprint(Config(), "teacher", "hand", [video("1"), video("2", size=8)]),
    }
    for name, other in different.items():
        [line] = units.differences(base, other)
        assert line.startswith(name)


@pytest.mark.parametrize(
    ("groups", "named"),
    [
        ({}, set()),
        ({"model": {"reasoning": "h+"}}, {"object_boxes"}),
        ({"model": {"reasoning": "h+o+"}, "crop": {"unlabelled_region": "union"}}, set()),
        ({"tta": {"views": 1}}, {"spreads"}),
        ({"refine": {"smooth_frames": 2}}, {"refined_by"}),
    ],
)
def test_what_earlier_versions_did_otherwise_is_named(groups: dict, named: set[str]) -> None:
    found = fingerprint(settings(**groups), "teacher", "hand", [video("1")])
    assert {"object_boxes", "spreads", "refined_by"} & found.keys() == named


def test_the_fingerprint_survives_json() -> None:
    before = fingerprint(Config(), "teacher", "hand", [video("1")])
    assert units.differences(json.loads(json.dumps(before)), before) == []


def test_another_fingerprint_is_refused_and_named(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    commits.open_run(store, {"filters.min_box_iou": 0.6, "tta.views": 8}, {})
    commits.open_run(store, {"filters.min_box_iou": 0.6, "tta.views": 8}, {})
    with pytest.raises(InputError, match=r"filters.min_box_iou: 0.6 before, 0.7 now") as caught:
        commits.open_run(store, {"filters.min_box_iou": 0.7, "tta.views": 8}, {})
    assert "tta.views" not in str(caught.value)


def test_a_digest_of_labels_does_not_change_with_names(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    former = {"crop.hand_roi": 1.1, "tta.views": 8, "teacher": "abc"}
    store.put(commits.RUN, json.dumps({"fingerprint": former, "begun": 0.0}).encode())
    labels = training_data.labels_of(Config(data={"pseudo": {"labels": str(tmp_path)}}))
    assert labels == {"teacher": "abc", "labels": digest(former)}  # as networks that were trained before note it


def test_a_run_with_former_names_of_settings_is_resumed(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    former = {"crop.hand_roi": 1.1, "crop.object_roi": 1.0, "tta.views": 8}
    store.put(commits.RUN, json.dumps({"fingerprint": former, "begun": 0.0}).encode())
    now = {"crop.hand_roi_scale": 1.1, "crop.object_roi_scale": 1.0, "tta.views": 8}
    commits.open_run(store, now, {})
    commits.check_fingerprint(store, now)
    with pytest.raises(InputError, match=r"crop.hand_roi_scale: 1.1 before, 1.2 now"):
        commits.check_fingerprint(store, now | {"crop.hand_roi_scale": 1.2})


def test_a_folder_without_labels_or_with_other_files_is_refused(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    with pytest.raises(InputError, match="no labels at"):
        commits.read_run(store)
    for content in (b"not json", b"[]", b"{}", b'{"fingerprint": 3}'):
        store.put(commits.RUN, content)
        with pytest.raises(InputError, match=r"is not the run.json"):
            commits.read_run(store)


def contents(video_ids: list[str]) -> dict[str, pa.Table]:
    rows = {name: [None] * len(video_ids) for name in tables.PREDICTIONS_SCHEMA.names}
    rows |= dict.fromkeys(("video_id", "clip_id", "verdict", "teacher"), video_ids)
    rows |= {"frame": [0] * len(video_ids), "flipped": [False] * len(video_ids)}
    predictions = pa.table(rows, schema=tables.PREDICTIONS_SCHEMA)
    failures = [Failure(video_id, "decode", "truncated", "half", 1) for video_id in video_ids]
    return {
        "predictions": predictions,
        "pseudo_labels": tables.PSEUDO_LABELS_SCHEMA.empty_table(),
        "quarantine": commits.quarantine_table(failures),
    }


def put_commit(store: LocalStore, unit: str, attempt: str, **counts: int) -> Commit | None:
    return commits.commit(
        store, unit, attempt, contents([attempt]), counts=Counts(**counts), started=0.0, seconds={"predict": 1.0}
    )


def test_the_first_commit_wins_and_the_loser_removes_its_files(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    first = put_commit(store, "u0", "first", listed=1)
    assert first is not None
    assert put_commit(store, "u0", "second", listed=1) is None
    for table in commits.TABLES:
        assert commits.committed_files(store, table) == [f"{table}/u0-first.parquet"]
        assert list(store.list(table)) == [f"{table}/u0-first.parquet"]
    [committed] = commits.read_commits(store)
    assert committed == first
    store.put(f"{commits.COMMITS}/.nfs000001", b"")
    store.put(f"{commits.COMMITS}/u0-copy.json", b"")
    assert commits.committed_units(store) == {"u0"}
    assert [commit.unit for commit in commits.read_commits(store)] == ["u0"]
    [row] = pyarrow.parquet.read_table(tmp_path / committed.files["quarantine"]).to_pylist()
    assert row == {"video_id": "first", "stage": "decode", "class": "truncated", "message": "half", "attempts": 1}


def test_the_sweep_removes_what_no_commit_names_and_nothing_else(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    put_commit(store, "u0", "first")
    store.put("predictions/u0-0123456789ab.parquet", b"half a file")
    store.put("attempts/u0/0123456789ab.json", b"{}")
    store.put("mine/notes.txt", b"")
    half = tmp_path / base.PARTIAL / "killed"
    half.write_bytes(b"half a file")
    os.utime(half, (0, 0))
    assert commits.sweep(store) == 3
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"commits/u0.json", "mine/notes.txt", *(f"{table}/u0-first.parquet" for table in commits.TABLES)}


def test_counts_add_up_across_commits_and_breaks_are_no_time() -> None:
    def made(started: float, finished: float, **counts) -> Commit:
        return Commit("u", "a", {}, {}, Counts(**counts), started, finished, {})

    report = totals.report_of(
        [
            made(0, 10, listed=3, labelled=1, quarantined=2, predicted=6, kept=4, rejected=Counter(box_iou=2)),
            made(5, 20, listed=2, empty=2, predicted=3, rejected=Counter(box_iou=1, joint_step=2)),
            made(100, 110, listed=1, labelled=1, predicted=1, kept=1),
        ],
        ("box_iou", "joint_step", "pose_step"),
    )
    assert report["videos"] == {"listed": 6, "labelled": 2, "empty": 2, "quarantined": 2}
    assert report["frames"]["predicted"] == 10
    assert report["frames"]["rejected"] == {"box_iou": 3, "joint_step": 2, "pose_step": 0}
    assert report["seconds"] == 30
    assert report["frames_per_second"] == pytest.approx(10 / 30, abs=1e-3)


# The ledger. A "dead" attempt belongs to another process, which has ended before its note is read.


def dead_note(folder: Path, unit: str, driver: str, videos: list[str]) -> None:
    code = (
        "from pathlib import Path; from cluster.labelling.attempts import Ledger; "
        "from cluster.store.local import LocalStore; "
        f"Ledger(LocalStore(Path({str(folder)!r})), {unit!r}, {driver!r}).note({videos!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_death_makes_suspects_and_two_deaths_alone_make_guilt(tmp_path: Path) -> None:
    ledger = Ledger(LocalStore(tmp_path), "u0", "driver")
    assert ledger.suspicion(2) == attempts.Suspicion(frozenset(), {})
    dead_note(tmp_path, "u0", "driver", ["1", "2", "3"])
    dead_note(tmp_path, "u1", "driver", ["9"])
    assert ledger.suspicion(2) == attempts.Suspicion(frozenset({"1", "2", "3"}), {})
    dead_note(tmp_path, "u0", "driver", ["2"])
    assert ledger.suspicion(2) == attempts.Suspicion(frozenset({"1", "3"}), {"2": 2})
    assert ledger.suspicion(3) == attempts.Suspicion(frozenset({"1", "2", "3"}), {})


def test_videos_that_died_only_in_company_are_never_guilty(tmp_path: Path) -> None:
    for _ in range(3):
        dead_note(tmp_path, "u0", "driver", ["1", "2"])
    assert Ledger(LocalStore(tmp_path), "u0", "driver").suspicion(1).guilty == {}


@pytest.mark.slow
def test_a_death_with_its_driver_makes_suspects_and_no_guilt(tmp_path: Path) -> None:
    ledger = Ledger(LocalStore(tmp_path), "u0", "a later driver")
    for interruption in range(4):
        dead_note(tmp_path, "u0", f"driver {interruption}", ["1"])
    assert ledger.suspicion(2) == attempts.Suspicion(frozenset({"1"}), {})
    dead_note(tmp_path, "u0", "a later driver", ["1"])
    assert ledger.suspicion(2) == attempts.Suspicion(frozenset({"1"}), {})
    dead_note(tmp_path, "u0", "a later driver", ["1"])
    assert ledger.suspicion(2) == attempts.Suspicion(frozenset(), {"1": 2})


@pytest.mark.parametrize("error", [ValueError("a fault"), NoRoom("a disk is full")])
def test_an_attempt_that_raises_blames_no_video(error: Exception, tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    ledger = Ledger(store, "u0", "driver")

    def attempt() -> None:
        with ledger.closed_on_error():
            ledger.note(["1"])
            raise error

    with pytest.raises(type(error)):
        attempt()
    assert Ledger(store, "u0", "driver").suspicion(1) == attempts.Suspicion(frozenset(), {})


def test_an_outage_is_not_waited_for_twice(tmp_path: Path, monkeypatch) -> None:
    ledger = Ledger(LocalStore(tmp_path), "u0", "driver")
    monkeypatch.setattr(ledger, "close", lambda: pytest.fail("the store is away"))
    with pytest.raises(Unavailable), ledger.closed_on_error():
        raise Unavailable("the store is away")


def test_a_running_attempt_of_another_driver_is_no_death(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    alive = Ledger(store, "u0", "another driver")
    alive.note(["1"])
    assert Ledger(store, "u0", "driver").suspicion(1) == attempts.Suspicion(frozenset(), {})
    alive.close()
    assert list(store.list(attempts.ATTEMPTS)) == []


def test_a_note_from_another_machine_is_a_death_when_it_is_stale(tmp_path: Path, monkeypatch) -> None:
    store = LocalStore(tmp_path)
    monkeypatch.setattr(attempts.socket, "gethostname", lambda: "elsewhere")
    Ledger(store, "u0", "another driver").note(["1"])
    monkeypatch.undo()
    ledger = Ledger(store, "u0", "driver")
    assert not ledger.suspicion(1).suspects
    monkeypatch.setattr(attempts, "STALE_S", -1.0)
    assert ledger.suspicion(1).suspects == {"1"}
