"""cluster.labelling.run without Ray: the counts add up, faults are rows, and resuming adds nothing.

``label`` calls the Teacher in a plain loop here, in place of Ray Data; test_faults runs it on Ray.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pytest
import wild
from video_files import write_video

from cluster.labelling import commits, listing, pool
from cluster.labelling import run as labelling
from cluster.labelling.budget import BudgetExceeded
from cluster.labelling.failures import UnitFailure
from cluster.labelling.run import label
from cluster.labelling.teacher import Teacher
from cluster.labelling.units import Video
from cluster.store.local import LocalStore
from hojoint.errors import InputError, MachineError, Unavailable
from hojoint.labelling import reasons, tables
from jobs import pseudo_label, status

pytestmark = pytest.mark.slow  # seconds each: files, videos or processes


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wild.write_faulty(tmp_path_factory.mktemp("wild"))


@pytest.fixture(scope="module")
def labelled(made: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """The output and the report of a run, for tests that only read them."""
    output = tmp_path_factory.mktemp("labelled") / "out"
    with pytest.MonkeyPatch.context() as patch:
        wild.without_ray(patch)
        return output, label(wild.config_of(made, output))


def report_adds_up(report: dict) -> None:
    videos, frames = report["videos"], report["frames"]
    assert videos["listed"] == videos["labelled"] + videos["empty"] + videos["quarantined"]
    assert frames["predicted"] == frames["kept"] + sum(frames["rejected"].values())
    assert list(frames["rejected"]) == list(reasons.REASONS)


def unmirrored(predictions: pa.Table) -> list[bool]:
    """Rows whose camera does not mirror: no others are kept, even with all rules off; random weights have some."""
    return [scale > 0 for scale, _, _ in predictions["camera"].to_pylist()]


def test_a_folder_with_every_fault_is_labelled_and_counts_add_up(labelled: tuple[Path, dict]) -> None:
    output, report = labelled
    report_adds_up(report)
    assert report["videos"] == {"listed": 17, "labelled": 9, "empty": 1, "quarantined": 7}
    # Eight videos with one hand and one with two, six frames each.
    assert report["frames"]["predicted"] == 8 * 6 + 2 * 6
    assert report["frames"]["decoded"] == 9 * 6
    assert report == json.loads((output / "report.json").read_text())
    assert [report[name] for name in (*listing.ASIDE, "short_clips")] == [0] * 5
    predictions = wild.rows_of(output, "predictions")
    assert Counter(predictions["video_id"].to_pylist()) == {**{f"{100 + n}": 6 for n in range(8)}, "two": 12}
    assert report["frames"]["kept"] == sum(unmirrored(predictions)) > 30
    quarantine = {row["video_id"]: row for row in wild.rows_of(output, "quarantine").to_pylist()}
    classes = {video_id: row["class"] for video_id, row in quarantine.items()}
    assert classes == {
        "gone": "missing", "junk": "not_video", "empty": "not_video", "half": "truncated", "sound": "no_pictures",
        "huge": "too_large", "nothing": "no_pictures",
    }  # fmt: skip
    assert all(row["message"] and row["stage"] == "decode" for row in quarantine.values())


def test_a_hanging_video_costs_two_deadlines_and_no_neighbour(tmp_path: Path, no_ray) -> None:
    boxes = wild.write_wild(tmp_path, good=2)
    os.mkfifo(tmp_path / "videos" / "100a.webm")  # between the two, by id
    wild.write_boxes(tmp_path, boxes | wild.boxes_of(["100a"]))
    wild.write_teacher(tmp_path / "teacher.pt")
    report = label(wild.config_of(tmp_path, tmp_path / "out", labelling={"decode_deadline_s": 1.5}))
    assert report["videos"] == {"listed": 3, "labelled": 2, "empty": 0, "quarantined": 1}
    [row] = wild.rows_of(tmp_path / "out", "quarantine").to_pylist()
    assert (row["video_id"], row["class"], row["message"]) == ("100a", "timeout", "no answer within 1.5 s")
    assert 3.0 <= report["seconds"] < 8.0


def test_the_output_holds_exactly_what_the_contract_names(labelled: tuple[Path, dict]) -> None:
    output, _ = labelled
    names = {path.name for path in output.iterdir() if not path.name.startswith(".")}
    names -= {
        "attempts",
        "listings",
        json.loads((output / "run.json").read_text())["manifest"],
    }  # of how the work went
    assert names == {"run.json", "report.json", "commits", "predictions", "pseudo_labels", "quarantine"}
    assert not any(path.is_file() for path in (output / "attempts").rglob("*"))
    for table, schema in (
        ("predictions", tables.PREDICTIONS_SCHEMA),
        ("pseudo_labels", tables.PSEUDO_LABELS_SCHEMA),
        ("quarantine", commits.QUARANTINE_SCHEMA),
    ):
        assert pa.dataset.dataset(output / table).schema.equals(schema)


def test_a_kept_frame_carries_the_picture_of_that_frame(made: Path, labelled: tuple[Path, dict]) -> None:
    import cv2

    from hojoint.labelling.video import decode

    output, _ = labelled
    rows = wild.rows_of(output, "pseudo_labels").to_pylist()
    assert len(rows) == sum(unmirrored(wild.rows_of(output, "predictions"))) > 30
    for row in rows[::5]:
        image = cv2.imdecode(np.frombuffer(row["image"], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        x0, y0, x1, y1 = map(int, row["image_box"])
        assert image.shape == (y1 - y0, x1 - x0, 3)
        rgb = decode(str(made / "videos" / f"{row['video_id']}.webm")).rgb
        errors = [np.abs(frame[y0:y1, x0:x1].astype(int) - image).mean() for frame in rgb]
        assert int(np.argmin(errors)) == row["frame"]
        assert errors[row["frame"]] < 6  # JPEG


def test_which_videos_share_a_unit_or_a_batch_changes_no_row(made: Path, labelled, tmp_path: Path, no_ray) -> None:
    label(wild.config_of(made, tmp_path / "b", labelling={"unit_videos": 17, "batch_views": 7, "decode_children": 2}))
    label(wild.config_of(made, tmp_path / "c", labelling={"unit_videos": 1, "batch_views": 1000}))
    for table in ("predictions", "quarantine"):
        wild.assert_same_rows(wild.rows_of(labelled[0], table), wild.rows_of(tmp_path / "b", table))
        wild.assert_same_rows(wild.rows_of(labelled[0], table), wild.rows_of(tmp_path / "c", table))


def test_run_again_it_does_nothing_and_reports_the_same(made: Path, tmp_path: Path, no_ray, monkeypatch) -> None:
    config = wild.config_of(made, tmp_path / "out")
    report = label(config)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.parquet")}
    monkeypatch.setattr(labelling, "_route", lambda *arguments: pytest.fail("no unit is pending"))
    assert label(config) == report
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.parquet")} == before


def test_an_interrupted_run_resumes_to_an_unbroken_ones_rows(
    made: Path, labelled: tuple[Path, dict], tmp_path: Path, no_ray, monkeypatch
) -> None:
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
        wild.assert_same_rows(wild.rows_of(labelled[0], table), wild.rows_of(tmp_path / "out", table))


def test_a_limit_takes_the_first_videos_by_id(made: Path, tmp_path: Path, no_ray) -> None:
    report = label(wild.config_of(made, tmp_path / "out", labelling={"limit": 2}))
    assert report["videos"]["listed"] == 2
    assert set(wild.rows_of(tmp_path / "out", "predictions")["video_id"].to_pylist()) == {"100", "101"}


def test_boxes_one_frame_beyond_the_video_lose_one_counted_frame(tmp_path: Path, no_ray) -> None:
    wild.write_wild(tmp_path, good=1, frames=6)
    wild.write_boxes(tmp_path, wild.boxes_of(["100"], 7))
    wild.write_teacher(tmp_path / "teacher.pt")
    report = label(wild.config_of(tmp_path, tmp_path / "out"))
    assert (report["frames"]["predicted"], report["frames"]["absent"]) == (6, 1)
    wild.write_boxes(tmp_path, wild.boxes_of(["100"], 8))
    report = label(wild.config_of(tmp_path, tmp_path / "out2"))
    assert report["quarantine"] == {"truncated": 1}


def test_the_report_counts_short_hands_and_videos_without_boxes(tmp_path: Path, no_ray) -> None:
    wild.write_wild(tmp_path, good=2, frames=6)
    # The second hand: in the last of six frames and in one beyond; in the other video in one frame only.
    late = [wild.frame("100", n, hands=1 + (n >= 5)) for n in range(7)]
    once = [wild.frame("101", n, hands=1 + (n == 2)) for n in range(6)]
    write_video(tmp_path / "videos" / "alone.webm", 6)
    wild.write_boxes(tmp_path, {"100": late, "101": once})
    wild.write_teacher(tmp_path / "teacher.pt")
    report = label(wild.config_of(tmp_path, tmp_path / "out"))
    expected = {"left_out": 0, "videos_without_boxes": 1, "short_tracks": 1, "short_boxes": 1, "short_clips": 1}
    assert {name: report[name] for name in expected} == expected
    assert (report["frames"]["predicted"], report["frames"]["absent"]) == (12, 1 + 2)


def test_a_limit_causes_no_notes_on_the_videos_beyond_it(tmp_path: Path) -> None:
    boxes = wild.write_wild(tmp_path, good=3)
    config = wild.config_of(tmp_path, "unused", labelling={"limit": 2})
    assert listing.listed(config).notes == ()
    wild.write_boxes(tmp_path, wild.boxes_of(["0gone"]) | boxes)
    listed = listing.listed(config)
    videos, notes = videos_of(listed), listed.notes
    assert [(video.video_id, bool(video.uri)) for video in videos] == [("0gone", False), ("100", True)]
    assert len(notes) == 1
    assert "annotated videos without a file" in notes[0]
    config = wild.config_of(tmp_path, "unused", labelling={"limit": 1})
    assert [video.video_id for video in videos_of(listing.listed(config))] == ["0gone"]


def videos_of(listed: listing.Listed) -> list[Video]:
    return [video for unit in listed.manifest for video in unit.videos]


def test_a_job_too_large_for_the_cluster_writes_no_run(made: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot hold this job"):
        label(wild.config_of(made, tmp_path / "out", cluster={"teacher_cpus": 64}))
    assert not (tmp_path / "out" / "run.json").exists()


# Nodes that do not share a folder.


def test_commits_in_a_folder_that_nodes_do_not_share_end_the_run(
    made: Path, tmp_path: Path, no_ray, monkeypatch
) -> None:
    real = labelling._route

    def elsewhere(config, store, pending, job, watched, **others):
        folder = tmp_path / "a node's folder"
        folder.mkdir()
        shutil.copy(tmp_path / "out" / job.manifest, folder)
        return real(config, store, pending, dataclasses.replace(job, output=str(folder)), watched, **others)

    monkeypatch.setattr(labelling, "_route", elsewhere)
    with pytest.raises(InputError, match=r"1 units \(the first: u000000\) are done and not in .*out"):
        label(wild.config_of(made, tmp_path / "out"))


def test_an_input_error_in_an_actor_ends_the_run_as_one(made: Path, tmp_path: Path, no_ray, monkeypatch) -> None:
    real = labelling.make_plan
    stale = lambda *given: dataclasses.replace(real(*given), teacher_sha256="0" * 64)  # noqa: E731
    monkeypatch.setattr(labelling, "make_plan", stale)
    said = r"^teacher\.checkpoint changed during the run: expected 0+, found \w+\. Restore it.*output$"
    with pytest.raises(InputError, match=said):
        label(wild.config_of(made, tmp_path / "out"))


def test_an_actor_returns_errors_as_rows() -> None:
    def refuse():
        raise InputError("no teacher")

    def away():
        raise Unavailable("store unreachable")

    def worker(row):
        raise row["error"]

    assert pool.UnitActor(refuse)({"unit": "u0"}) == {"commit": b"", "refused": "no teacher", "failed": ""}
    actor = pool.UnitActor(lambda: worker)
    fault = UnitFailure.from_json(actor({"unit": "u1", "error": ZeroDivisionError("by zero")})["failed"])
    assert (fault.unit, fault.kind, fault.message) == ("u1", "fault", "ZeroDivisionError: by zero")
    assert "in worker" in fault.trace
    answer = actor({"unit": "u2", "error": InputError("no folder")})
    assert answer == {"commit": b"", "refused": "no folder", "failed": ""}
    assert UnitFailure.from_json(pool.UnitActor(away)({"unit": "u3"})["failed"]).kind == "outage"
    with pytest.raises(ZeroDivisionError):  # Ray starts another in its place
        pool.UnitActor(lambda: 1 / 0)


def test_one_failed_unit_ends_no_dataset(made: Path, tmp_path: Path, no_ray, monkeypatch, capsys) -> None:
    real, calls = Teacher.work, []

    def work(self, unit):
        calls.append(unit.unit_id)
        if unit.unit_id == "u000000" and (always or calls.count("u000000") == 1):
            raise ZeroDivisionError("a fault of one unit")
        return real(self, unit)

    monkeypatch.setattr(Teacher, "work", work)
    always = True
    config = wild.config_of(made, tmp_path / "out", labelling={"unit_videos": 1, "limit": 3})
    with pytest.raises(
        MachineError, match=r"1 of 3 units failed 2 times; the first, u000000: ZeroDivisionError: a fault"
    ):
        label(config)
    assert (calls.count("u000000"), len(commits.committed_units(LocalStore(tmp_path / "out")))) == (2, 2)
    assert "in work" in capsys.readouterr().err  # the traceback of a bug is seen
    always = False
    calls.clear()
    assert label(config)["videos"]["labelled"] == 3
    assert calls == ["u000000", "u000000"]  # it fails once more, and the next try commits it


def test_labels_with_former_names_of_settings_are_resumed(made: Path, tmp_path: Path, no_ray, capsys) -> None:
    config = wild.config_of(made, tmp_path / "out", labelling={"limit": 2})
    report = label(config)
    wild.write_former_names(tmp_path / "out")
    assert "crop.hand_roi" in json.loads((tmp_path / "out" / "run.json").read_text())["fingerprint"]
    assert label(config) == report
    assert "all 1 units" in capsys.readouterr().out
    status.job(config, dry_run=False)
    assert "1 of 1 committed" in capsys.readouterr().out


def test_too_many_quarantined_videos_end_a_run_that_can_resume(made: Path, tmp_path: Path, no_ray) -> None:
    strict = {"error_budget_count": 2, "error_budget_share": 0.2}
    with pytest.raises(BudgetExceeded, match="4 of 12 videos so far are quarantined") as caught:
        label(wild.config_of(made, tmp_path / "out", labelling=strict))
    assert "error_budget_count=2" in str(caught.value)
    with pytest.raises(BudgetExceeded):  # unchanged, so it fails before any work
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


def test_other_settings_or_another_teacher_need_another_output(made: Path, tmp_path: Path, no_ray) -> None:
    base = {"limit": 1}
    label(wild.config_of(made, tmp_path / "out", labelling=base))
    with pytest.raises(InputError, match=r"tta.views: 2 before, 3 now"):
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
    label(wild.config_of(moved, tmp_path / "out", labelling=base))  # the same inputs under another path


def test_a_pinned_checksum_is_that_of_the_file_or_its_weights(made: Path, tmp_path: Path, no_ray) -> None:
    store = LocalStore(tmp_path / "out")
    sha256 = labelling.make_plan(wild.config_of(made, tmp_path / "out"), store).teacher_sha256
    path = str(made / "teacher.pt")
    labelling.make_plan(wild.config_of(made, "out", teacher={"checkpoint": path, "sha256": sha256}), store)
    with pytest.raises(InputError, match=r"teacher.sha256"):
        labelling.make_plan(wild.config_of(made, "out", teacher={"checkpoint": path, "sha256": "0" * 64}), store)


def test_a_dry_run_prints_the_work_and_writes_nothing(made: Path, tmp_path: Path, capsys) -> None:
    config = wild.config_of(made, tmp_path / "out")
    pseudo_label.job(config, dry_run=True)
    printed = capsys.readouterr().out
    assert "17, 16 clips of a hand" in printed
    assert "6 of up to 3 videos; 0 committed, 6 to do" in printed
    assert "the cluster has 2 CPU" in printed
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        ({"videos": {"root": "/nowhere"}}, "/nowhere"),
        ({"videos": {"boxes": "/nowhere.json"}}, "/nowhere.json"),
        ({"teacher": {"checkpoint": "/nowhere.pt"}}, "/nowhere.pt"),
        ({"cluster": {"teacher_cpus": 64}}, "cannot hold"),
        ({"filters": {"enabled": ["side"]}}, "the teacher has no side head"),
    ],
)
def test_a_wrong_input_is_an_input_error(made: Path, tmp_path: Path, broken: dict, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        pseudo_label.job(wild.config_of(made, tmp_path / "out", **broken), dry_run=True)


def test_a_corrupt_checkpoint_is_refused(made: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.pt").write_bytes((made / "teacher.pt").read_bytes()[:3000])
    with pytest.raises(InputError):
        pseudo_label.job(wild.config_of(made, tmp_path / "o", teacher={"checkpoint": str(tmp_path / "bad.pt")}), True)
