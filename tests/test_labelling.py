"""cluster.labelling (teacher and run) without Ray: the counts add up, faults are rows, and resuming adds nothing.

``label`` is run here with the Teacher called in a plain loop in place of Ray Data; test_faults runs it on Ray.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pickle
import weakref
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pytest
import torch
import wild
from video_files import HEIGHT, WIDTH, write_broken, write_video

from cluster import progress as board
from cluster import session
from cluster.labelling import attempts, commits, teacher, units
from cluster.labelling import run as labelling
from cluster.labelling.run import BudgetExceeded, label
from cluster.labelling.teacher import LabellingJob, Teacher
from cluster.store import LocalStore
from hojoint.errors import InputError
from hojoint.labelling import filters, labels, tables
from jobs import pseudo_label


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight good videos, one without a hand, one with two hands, one without a file, six broken ones."""
    folder = tmp_path_factory.mktemp("wild")
    boxes = wild.write_wild(folder)
    write_video(folder / "videos" / "nohand.webm", 6)
    boxes["nohand"] = [wild.frame("nohand", n, box=False) for n in range(6)]
    write_video(folder / "videos" / "two.webm", 6)
    boxes["two"] = [wild.frame("two", n, hands=2) for n in range(6)]
    boxes |= wild.boxes_of(["gone"])
    broken = write_broken(folder / "videos", folder / "videos" / "100.webm")
    del broken["hang"]  # costs its deadline each time: it has a test of its own
    (folder / "videos" / "hang.webm").unlink()
    boxes |= wild.boxes_of(broken)
    wild.write_boxes(folder, boxes)
    wild.write_teacher(folder / "teacher.pt")
    return folder


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """One Teacher in this process in place of the route through Ray Data."""

    def route(config, pending, job, watched):
        def rows():
            one = Teacher(job)
            try:
                for unit in pending:
                    yield one({"unit": pickle.dumps(unit)})
            finally:
                one.close()

        return SimpleNamespace(iter_rows=rows)

    monkeypatch.setattr(labelling, "_route", route)
    monkeypatch.setattr(session, "start", lambda config: contextlib.nullcontext())
    monkeypatch.setattr(board, "Board", SimpleNamespace(remote=lambda: None))
    monkeypatch.setattr(board, "Progress", lambda *args, **kwargs: contextlib.nullcontext())


def report_adds_up(report: dict) -> None:
    videos, frames = report["videos"], report["frames"]
    assert videos["listed"] == videos["labelled"] + videos["empty"] + videos["quarantined"]
    assert frames["predicted"] == frames["kept"] + sum(frames["rejected"].values())
    assert list(frames["rejected"]) == list(filters.RULES)


def seen(predictions: pa.Table) -> list[bool]:
    """Rows whose camera does not mirror: no others are kept, even with all rules off; random weights have some."""
    return [scale > 0 for scale, _, _ in predictions["camera"].to_pylist()]


def test_a_folder_with_every_fault_is_labelled_and_its_counts_add_up(made: Path, tmp_path: Path, no_ray) -> None:
    report = label(wild.config_of(made, tmp_path / "out"))
    report_adds_up(report)
    assert report["videos"] == {"listed": 17, "labelled": 9, "empty": 1, "quarantined": 7}
    # Eight videos with one hand and one with two, six frames each.
    assert report["frames"]["predicted"] == 8 * 6 + 2 * 6
    assert report["frames"]["decoded"] == 9 * 6
    assert report == json.loads((tmp_path / "out" / "report.json").read_text())
    assert [report[name] for name in (*labelling.ASIDE, "short_clips")] == [0] * 5
    predictions = wild.rows_of(tmp_path / "out", "predictions")
    assert Counter(predictions["video_id"].to_pylist()) == {**{f"{100 + n}": 6 for n in range(8)}, "two": 12}
    assert report["frames"]["kept"] == sum(seen(predictions)) > 30
    quarantine = {row["video_id"]: row for row in wild.rows_of(tmp_path / "out", "quarantine").to_pylist()}
    classes = {video_id: row["class"] for video_id, row in quarantine.items()}
    assert classes == {
        "gone": "missing", "junk": "not_video", "empty": "not_video", "half": "truncated", "sound": "not_video",
        "huge": "too_large", "nothing": "unreadable",
    }  # fmt: skip
    assert all(row["message"] and row["stage"] == "decode" for row in quarantine.values())

@pytest.mark.slow

def test_a_video_that_hangs_costs_its_deadline_twice_and_not_its_neighbours(tmp_path: Path, no_ray) -> None:
    boxes = wild.write_wild(tmp_path, good=2)
    os.mkfifo(tmp_path / "videos" / "100a.webm")  # between the two, by id
    wild.write_boxes(tmp_path, boxes | wild.boxes_of(["100a"]))
    wild.write_teacher(tmp_path / "teacher.pt")
    report = label(wild.config_of(tmp_path, tmp_path / "out", labelling={"decode_deadline_s": 2.5}))
    assert report["videos"] == {"listed": 3, "labelled": 2, "empty": 0, "quarantined": 1}
    [row] = wild.rows_of(tmp_path / "out", "quarantine").to_pylist()
    assert (row["video_id"], row["class"], row["message"]) == ("100a", "timeout", "no answer within 2.5 s")
    assert 5.0 <= report["seconds"] < 10.0


def test_the_output_holds_what_the_contract_names_and_nothing_else(made: Path, tmp_path: Path, no_ray) -> None:
    label(wild.config_of(made, tmp_path / "out"))
    names = {path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")}
    names -= {"attempts"}  # an empty folder
    assert names == {"run.json", "report.json", "commits", "predictions", "pseudo_labels", "quarantine"}
    assert not any(path.is_file() for path in (tmp_path / "out" / "attempts").rglob("*"))
    for table, schema in (
        ("predictions", tables.PREDICTIONS_SCHEMA),
        ("pseudo_labels", tables.PSEUDO_LABELS_SCHEMA),
        ("quarantine", commits.QUARANTINE_SCHEMA),
    ):
        assert pa.dataset.dataset(tmp_path / "out" / table).schema.equals(schema)


def test_a_kept_frame_carries_the_picture_of_its_own_video_and_frame(made: Path, tmp_path: Path, no_ray) -> None:
    import cv2

    from hojoint.labelling.video import decode

    label(wild.config_of(made, tmp_path / "out"))
    rows = wild.rows_of(tmp_path / "out", "pseudo_labels").to_pylist()
    assert len(rows) == sum(seen(wild.rows_of(tmp_path / "out", "predictions"))) > 30
    for row in rows[::5]:
        image = cv2.imdecode(np.frombuffer(row["image"], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        x0, y0, x1, y1 = map(int, row["image_box"])
        assert image.shape == (y1 - y0, x1 - x0, 3)
        whole = decode(str(made / "videos" / f"{row['video_id']}.webm")).rgb
        errors = [np.abs(frame[y0:y1, x0:x1].astype(int) - image).mean() for frame in whole]
        assert int(np.argmin(errors)) == row["frame"]
        assert errors[row["frame"]] < 6  # JPEG

@pytest.mark.slow

def test_which_videos_share_a_unit_or_a_batch_changes_no_row(made: Path, tmp_path: Path, no_ray) -> None:
    label(wild.config_of(made, tmp_path / "a"))
    label(wild.config_of(made, tmp_path / "b", labelling={"unit_videos": 17, "batch_views": 7, "decode_children": 2}))
    label(wild.config_of(made, tmp_path / "c", labelling={"unit_videos": 1, "batch_views": 1000}))
    for table in ("predictions", "quarantine"):
        wild.assert_same_rows(wild.rows_of(tmp_path / "a", table), wild.rows_of(tmp_path / "b", table))
        wild.assert_same_rows(wild.rows_of(tmp_path / "a", table), wild.rows_of(tmp_path / "c", table))


def test_run_again_it_does_nothing_and_reports_the_same(made: Path, tmp_path: Path, no_ray, monkeypatch) -> None:
    config = wild.config_of(made, tmp_path / "out")
    report = label(config)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.parquet")}
    monkeypatch.setattr(labelling, "_route", lambda *arguments: pytest.fail("there is nothing to do"))
    assert label(config) == report
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.parquet")} == before

@pytest.mark.slow

def test_an_interrupted_run_goes_on_and_ends_with_the_rows_of_an_unbroken_one(
    made: Path, tmp_path: Path, no_ray, monkeypatch
) -> None:
    label(wild.config_of(made, tmp_path / "whole"))
    config = wild.config_of(made, tmp_path / "out")
    real = Teacher.work
    begun = []

    def work(self, unit):
        begun.append(unit.unit_id)
        if len(begun) == 3:
            raise KeyboardInterrupt
        return real(self, unit)

    monkeypatch.setattr(Teacher, "work", work)
    with pytest.raises(KeyboardInterrupt):
        label(config)
    report_adds_up(label(config))
    assert begun == ["u000000", "u000001", "u000002", "u000002", "u000003", "u000004", "u000005"]
    for table in commits.TABLES:
        wild.assert_same_rows(wild.rows_of(tmp_path / "whole", table), wild.rows_of(tmp_path / "out", table))


def test_a_second_attempt_at_a_unit_changes_nothing(made: Path, tmp_path: Path, no_ray) -> None:
    """A zombie actor ends its unit after another has committed it."""
    config = wild.config_of(made, tmp_path / "out", labelling={"unit_videos": 4, "limit": 4})
    store = LocalStore(tmp_path / "out")
    plan = labelling.make_plan(config, store)
    late, early = (Teacher(LabellingJob(config, store.root, plan.teacher_sha256, name)) for name in ("one", "other"))
    won = []

    def meanwhile(videos, frames):
        if sum(videos.values()) and not won:
            won.append(early.work(plan.units[0]))

    late._progress = meanwhile
    assert late.work(plan.units[0]) is None
    assert won[0] is not None
    assert early.work(plan.units[0]) is None
    assert [commit.attempt for commit in commits.read_commits(store)] == [won[0].attempt]
    assert len(list(store.list("predictions"))) == 1
    late.close()
    early.close()


def test_a_limit_takes_the_first_videos_by_id(made: Path, tmp_path: Path, no_ray) -> None:
    report = label(wild.config_of(made, tmp_path / "out", labelling={"limit": 2}))
    assert report["videos"]["listed"] == 2
    assert set(wild.rows_of(tmp_path / "out", "predictions")["video_id"].to_pylist()) == {"100", "101"}


def test_a_list_longer_than_the_video_by_one_loses_one_counted_frame(tmp_path: Path, no_ray) -> None:
    wild.write_wild(tmp_path, good=1, frames=6)
    wild.write_boxes(tmp_path, wild.boxes_of(["100"], 7))
    wild.write_teacher(tmp_path / "teacher.pt")
    report = label(wild.config_of(tmp_path, tmp_path / "out"))
    assert (report["frames"]["predicted"], report["frames"]["absent"]) == (6, 1)
    wild.write_boxes(tmp_path, wild.boxes_of(["100"], 8))
    report = label(wild.config_of(tmp_path, tmp_path / "out2"))
    assert report["quarantine"] == {"truncated": 1}


def test_hands_and_clips_that_are_too_short_and_videos_without_boxes_are_in_the_report(tmp_path: Path, no_ray) -> None:
    wild.write_wild(tmp_path, good=2, frames=6)
    # The second hand is seen in the last frame of six and in one beyond; in the other video in one frame of all.
    late = [wild.frame("100", n, hands=1 + (n >= 5)) for n in range(7)]
    once = [wild.frame("101", n, hands=1 + (n == 2)) for n in range(6)]
    write_video(tmp_path / "videos" / "alone.webm", 6)
    wild.write_boxes(tmp_path, {"100": late, "101": once})
    wild.write_teacher(tmp_path / "teacher.pt")
    report = label(wild.config_of(tmp_path, tmp_path / "out"))
    wanted = {"left_out": 0, "videos_without_boxes": 1, "short_tracks": 1, "short_boxes": 1, "short_clips": 1}
    assert {name: report[name] for name in wanted} == wanted
    assert (report["frames"]["predicted"], report["frames"]["absent"]) == (12, 1 + 2)


def test_a_limit_says_nothing_false_of_the_videos_beyond_it(tmp_path: Path) -> None:
    boxes = wild.write_wild(tmp_path, good=3)
    config = wild.config_of(tmp_path, "unused", labelling={"limit": 2})
    assert labelling.list_videos(config)[1] == ()
    wild.write_boxes(tmp_path, wild.boxes_of(["0gone"]) | boxes)
    videos, notes, _ = labelling.list_videos(config)
    assert [(video.video_id, bool(video.path)) for video in videos] == [("0gone", False), ("100", True)]
    assert len(notes) == 1
    assert "1 annotated videos have no file" in notes[0]
    config = wild.config_of(tmp_path, "unused", labelling={"limit": 1})
    assert [video.video_id for video in labelling.list_videos(config)[0]] == ["0gone"]


def test_a_job_that_does_not_fit_the_cluster_begins_no_output(made: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot hold this job"):
        label(wild.config_of(made, tmp_path / "out", cluster={"teacher_cpus": 64}))
    assert not (tmp_path / "out" / "run.json").exists()


# Nodes that do not share a folder.


def one_teacher(made: Path, output: Path) -> tuple[Teacher, list[units.Unit]]:
    config = wild.config_of(made, output)
    plan = labelling.make_plan(config, LocalStore(output))
    return Teacher(LabellingJob(config, str(output), plan.teacher_sha256, "driver")), plan.units


def test_a_listed_file_that_is_not_on_the_node_ends_the_run_and_a_link_to_nowhere_is_a_row(
    made: Path, tmp_path: Path
) -> None:
    one, [unit, *_] = one_teacher(made, tmp_path / "out")
    first, *others = unit.videos
    gone = dataclasses.replace(first, path=str(tmp_path / "videos" / "100.webm"))
    with pytest.raises(InputError, match=r"the nodes do not share .*videos"):
        one.work(units.Unit("u000000", (gone, *others)))
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "100.webm").symlink_to("nowhere")
    done = one.work(units.Unit("u000000", (gone, *others)))
    one.close()
    assert done is not None
    assert dict(done.counts.quarantine) == {"missing": 1}


def test_units_that_another_node_committed_into_a_folder_of_its_own_end_the_run(
    made: Path, tmp_path: Path, no_ray, monkeypatch
) -> None:
    there = labelling._route

    def elsewhere(config, pending, job, watched):
        return there(config, pending, dataclasses.replace(job, output=str(tmp_path / "a node's own")), watched)

    monkeypatch.setattr(labelling, "_route", elsewhere)
    with pytest.raises(InputError, match=r"1 units \(as u000000\) are done and not in .*out"):
        label(wild.config_of(made, tmp_path / "out"))


def test_what_a_teacher_finds_the_user_must_mend_comes_back_as_a_row_and_ends_the_run_as_an_input_error(
    made: Path, tmp_path: Path, no_ray, monkeypatch
) -> None:
    monkeypatch.setattr(board, "Reporter", lambda watched: None)

    def route(config, pending, job, watched):
        actor = labelling.TeacherActor(dataclasses.replace(job, teacher_sha256="0" * 64), watched)
        return SimpleNamespace(iter_rows=lambda: (actor({"unit": pickle.dumps(unit)}) for unit in pending))

    monkeypatch.setattr(labelling, "_route", route)
    with pytest.raises(InputError, match=r"^teacher\.checkpoint changed"):
        label(wild.config_of(made, tmp_path / "out"))


def test_a_video_that_the_network_cannot_take_is_quarantined_and_its_batch_is_not(
    made: Path, tmp_path: Path, no_ray, monkeypatch
) -> None:
    real = labels.label_clips

    def picky(predictor, clips, frames, **options):
        if any(clip.video_id == "103" for clip in clips):
            raise FloatingPointError("something is infinite")
        return real(predictor, clips, frames, **options)

    monkeypatch.setattr(labels, "label_clips", picky)
    options = {"limit": 8, "unit_videos": 8, "batch_views": 1000}
    report = label(wild.config_of(made, tmp_path / "out", labelling=options))
    report_adds_up(report)
    assert report["videos"]["quarantined"] == 1
    [row] = wild.rows_of(tmp_path / "out", "quarantine").to_pylist()
    assert (row["video_id"], row["stage"], row["class"]) == ("103", "predict", "FloatingPointError")


def test_running_out_of_device_memory_halves_the_batch_once(made: Path, tmp_path: Path, no_ray, monkeypatch) -> None:
    real, seen = labels.label_clips, []

    def full(predictor, clips, frames, **options):
        seen.append(predictor.batch_views)
        if predictor.batch_views > 4:
            raise torch.cuda.OutOfMemoryError("full")
        return real(predictor, clips, frames, **options)

    monkeypatch.setattr(labels, "label_clips", full)
    report = label(wild.config_of(made, tmp_path / "out", labelling={"limit": 3, "batch_views": 8}))
    assert report["videos"]["labelled"] == 3
    assert seen == [8, 4, 4, 4]


@pytest.mark.parametrize("error", [torch.cuda.OutOfMemoryError, RuntimeError])
def test_a_failed_try_holds_no_memory_while_it_is_tried_again(
    error: type, made: Path, tmp_path: Path, monkeypatch
) -> None:
    real, failed, alive = labels.label_clips, [], []

    def full(predictor, clips, frames, **options):
        alive.extend(one() is not None for one in failed)
        if not failed:
            activations = torch.zeros(9)
            failed.append(weakref.ref(activations))
            raise error("full")
        return real(predictor, clips, frames, **options)

    monkeypatch.setattr(labels, "label_clips", full)
    monkeypatch.setattr(teacher, "_groups", lambda videos, size: [videos])
    one, [unit, *_] = one_teacher(made, tmp_path / "out")
    done = one.work(unit)
    one.close()
    assert done is not None
    assert done.counts.labelled == 3
    assert alive
    assert not any(alive)


def test_too_many_quarantined_videos_end_the_run_loudly_and_it_can_go_on(made: Path, tmp_path: Path, no_ray) -> None:
    strict = {"error_budget_count": 2, "error_budget_share": 0.2}
    with pytest.raises(BudgetExceeded, match="4 of 12 videos so far are quarantined") as caught:
        label(wild.config_of(made, tmp_path / "out", labelling=strict))
    assert "error_budget_count=2" in str(caught.value)
    with pytest.raises(BudgetExceeded):  # nothing has changed, so it says so before any work
        label(wild.config_of(made, tmp_path / "out", labelling=strict))
    report_adds_up(label(wild.config_of(made, tmp_path / "out")))


def test_mostly_missing_videos_are_refused_before_any_work(tmp_path: Path, no_ray) -> None:
    boxes = wild.write_wild(tmp_path, good=3)
    wild.write_boxes(tmp_path, boxes | wild.boxes_of([f"gone{n}" for n in range(30)]))
    wild.write_teacher(tmp_path / "teacher.pt")
    with pytest.raises(InputError, match="30 of 33 annotated videos are not in"):
        label(wild.config_of(tmp_path, tmp_path / "out"))
    assert not (tmp_path / "out" / "run.json").exists()
    config = wild.config_of(tmp_path, tmp_path / "out", videos={"missing": "leave_out"})
    report = label(config)
    assert (report["videos"]["listed"], report["left_out"]) == (3, 30)


def test_other_settings_or_another_teacher_are_refused_on_the_same_output(made: Path, tmp_path: Path, no_ray) -> None:
    base = {"limit": 1}
    label(wild.config_of(made, tmp_path / "out", labelling=base))
    with pytest.raises(InputError, match=r"tta.views: 2 there, 3 now"):
        label(wild.config_of(made, tmp_path / "out", labelling=base, tta={"views": 3}))
    other = wild.write_teacher(tmp_path / "other.pt", seed=1)
    with pytest.raises(InputError, match="teacher: "):
        label(wild.config_of(made, tmp_path / "out", labelling=base, teacher={"checkpoint": str(other)}))
    with pytest.raises(InputError, match="clips: "):
        label(wild.config_of(made, tmp_path / "out", labelling={"limit": 2}))
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("videos", "boxes.json", "teacher.pt"):
        os.symlink(made / name, moved / name)
    label(wild.config_of(moved, tmp_path / "out", labelling=base))  # the same things in another place


def test_a_pinned_checksum_is_held_against_the_file_and_its_weights(made: Path, tmp_path: Path, no_ray) -> None:
    store = LocalStore(tmp_path / "out")
    sha256 = labelling.make_plan(wild.config_of(made, tmp_path / "out"), store).teacher_sha256
    path = str(made / "teacher.pt")
    labelling.make_plan(wild.config_of(made, "out", teacher={"checkpoint": path, "sha256": sha256}), store)
    with pytest.raises(InputError, match=r"teacher.sha256"):
        labelling.make_plan(wild.config_of(made, "out", teacher={"checkpoint": path, "sha256": "0" * 64}), store)


def test_a_teacher_that_is_exchanged_during_a_run_is_refused(made: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="changed while the run was under way"):
        Teacher(LabellingJob(wild.config_of(made, tmp_path), str(tmp_path), "0" * 64, "driver"))


def test_suspects_are_taken_last_and_alone_and_the_guilty_not_at_all(made: Path, tmp_path: Path, monkeypatch) -> None:
    config = wild.config_of(made, tmp_path / "out", labelling={"unit_videos": 8, "limit": 8, "batch_views": 1000})
    store = LocalStore(tmp_path / "out")
    plan = labelling.make_plan(config, store)
    suspicion = attempts.Suspicion(frozenset({"101", "104"}), {"102": 2})
    monkeypatch.setattr(attempts.Ledger, "suspicion", lambda self, allowed: suspicion)
    calls, in_hand = [], []
    real_call, real_note = Teacher._call, attempts.Ledger.note

    def call(self, clips, frames):
        calls.append(sorted(clip.video_id for clip in clips))
        return real_call(self, clips, frames)

    def note(self, videos):
        in_hand.append(sorted(videos))
        real_note(self, videos)

    monkeypatch.setattr(Teacher, "_call", call)
    monkeypatch.setattr(attempts.Ledger, "note", note)
    one = Teacher(LabellingJob(config, store.root, plan.teacher_sha256, "driver"))
    done = one.work(plan.units[0])
    one.close()
    assert done is not None
    assert calls == [["100"], ["103", "105"], ["106", "107"], ["101"], ["104"]]
    assert in_hand[-2:] == [["101"], ["104"]]
    # Whatever is predicted was noted before.
    for group in calls:
        assert any(set(group) <= set(noted) for noted in in_hand)
    assert dict(done.counts.quarantine) == {"killed_worker": 1}
    [row] = wild.rows_of(tmp_path / "out", "quarantine").to_pylist()
    assert (row["video_id"], row["stage"], row["attempts"]) == ("102", "process", 2)


def test_groups_begin_small_and_grow() -> None:
    assert [len(group) for group in teacher._groups(range(20), 8)] == [1, 2, 4, 8, 5]
    assert [len(group) for group in teacher._groups(range(3), 1)] == [1, 1, 1]
    assert list(teacher._groups([], 4)) == []


def test_the_command_says_what_it_would_do_and_writes_nothing(made: Path, tmp_path: Path, capsys) -> None:
    config = wild.config_of(made, tmp_path / "out")
    pseudo_label.job(config, dry_run=True)
    said = capsys.readouterr().out
    assert "17, 16 clips of a hand" in said
    assert "6 of up to 3 videos; 0 committed, 6 to do" in said
    assert "the cluster has 2 CPU" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("broken", "wanted"),
    [
        ({"videos": {"root": "/nowhere"}}, "/nowhere"),
        ({"videos": {"boxes": "/nowhere.json"}}, "/nowhere.json"),
        ({"teacher": {"checkpoint": "/nowhere.pt"}}, "/nowhere.pt"),
        ({"cluster": {"teacher_cpus": 64}}, "cannot hold"),
    ],
)
def test_what_is_wrong_is_the_users_to_mend(made: Path, tmp_path: Path, broken: dict, wanted: str) -> None:
    with pytest.raises(InputError, match=wanted):
        pseudo_label.job(wild.config_of(made, tmp_path / "out", **broken), dry_run=True)


def test_a_corrupt_checkpoint_is_refused(made: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.pt").write_bytes((made / "teacher.pt").read_bytes()[:3000])
    with pytest.raises(InputError):
        pseudo_label.job(wild.config_of(made, tmp_path / "o", teacher={"checkpoint": str(tmp_path / "bad.pt")}), True)


def test_frames_of_another_size_in_one_group_do_not_disturb_each_other(tmp_path: Path, no_ray) -> None:
    boxes = wild.write_wild(tmp_path, good=2)
    write_video(tmp_path / "videos" / "wide.webm", 6, width=WIDTH * 2, height=HEIGHT)
    wild.write_boxes(tmp_path, boxes | wild.boxes_of(["wide"]))
    wild.write_teacher(tmp_path / "teacher.pt")
    label(wild.config_of(tmp_path, tmp_path / "a", labelling={"batch_views": 1000}))
    label(wild.config_of(tmp_path, tmp_path / "b", labelling={"batch_views": 3}))
    wild.assert_same_rows(wild.rows_of(tmp_path / "a", "predictions"), wild.rows_of(tmp_path / "b", "predictions"))
