"""cluster.labelling.teacher: a video that cannot be decoded or predicted, or that kills, costs no other video.

Ray is replaced by a loop in this process; test_faults runs the same on Ray.
"""

from __future__ import annotations

import dataclasses
import weakref
from pathlib import Path

import pytest
import torch
import wild
from video_files import HEIGHT, WIDTH, write_video

from cluster.labelling import attempts, commits, teacher, units
from cluster.labelling import run as labelling
from cluster.labelling.job import LabellingJob
from cluster.labelling.run import label
from cluster.labelling.teacher import Teacher
from cluster.store.local import LocalStore
from hojoint.errors import InputError, NoRoom
from hojoint.labelling import labels

pytestmark = pytest.mark.slow  # seconds each: files, videos or processes


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wild.write_faulty(tmp_path_factory.mktemp("wild"))


def test_a_second_attempt_at_a_unit_changes_nothing(made: Path, tmp_path: Path, no_ray) -> None:
    """A zombie actor ends its unit after another has committed it."""
    config = wild.config_of(made, tmp_path / "out", labelling={"unit_videos": 4, "limit": 4})
    store = LocalStore(tmp_path / "out")
    plan = labelling.make_plan(config, store)
    late, early = (Teacher(LabellingJob(config, store.root, plan.teacher_sha256, name)) for name in ("one", "other"))
    won = []

    def meanwhile(videos, frames):
        if sum(videos.values()) and not won:
            won.append(early.work(next(iter(plan.manifest))))

    late._progress = meanwhile
    assert late.work(next(iter(plan.manifest))) is None
    assert won[0] is not None
    assert early.work(next(iter(plan.manifest))) is None
    assert [commit.attempt for commit in commits.read_commits(store)] == [won[0].attempt]
    assert len(list(store.list("predictions"))) == 1
    late.close()
    early.close()


def one_teacher(made: Path, output: Path) -> tuple[Teacher, list[units.Unit]]:
    config = wild.config_of(made, output)
    plan = labelling.make_plan(config, LocalStore(output))
    return Teacher(LabellingJob(config, str(output), plan.teacher_sha256, "driver")), list(plan.manifest)


def test_a_missing_file_ends_the_run_and_a_broken_link_does_not(made: Path, tmp_path: Path) -> None:
    one, [unit, *_] = one_teacher(made, tmp_path / "out")
    first, *others = unit.videos
    gone = dataclasses.replace(first, size=None, uri=str(tmp_path / "videos" / "100.webm"))
    with pytest.raises(InputError, match=r"the nodes do not share .*videos"):
        one.work(units.Unit("u000000", (gone, *others)))
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "100.webm").symlink_to("nowhere")
    done = one.work(units.Unit("u000000", (gone, *others)))
    one.close()
    assert done is not None
    assert dict(done.counts.quarantine) == {"missing": 1}


def test_a_video_that_prediction_fails_on_is_quarantined_alone(made: Path, tmp_path: Path, no_ray, monkeypatch) -> None:
    real = labels.label_clips

    def picky(predictor, clips, frames, **options):
        if any(clip.video_id == "103" for clip in clips):
            raise FloatingPointError("something is infinite")
        return real(predictor, clips, frames, **options)

    monkeypatch.setattr(labels, "label_clips", picky)
    options = {"limit": 8, "unit_videos": 8, "batch_views": 1000}
    report = label(wild.config_of(made, tmp_path / "out", labelling=options))
    assert report["videos"]["quarantined"] == 1
    assert report["frames"]["predicted"] == 7 * 6
    [row] = wild.rows_of(tmp_path / "out", "quarantine").to_pylist()
    assert (row["video_id"], row["stage"], row["class"]) == ("103", "predict", "FloatingPointError")


def test_running_out_of_device_memory_halves_the_batch_once(made: Path, tmp_path: Path, no_ray, monkeypatch) -> None:
    real, batches = labels.label_clips, []

    def full(predictor, clips, frames, **options):
        batches.append(predictor.batch_views)
        if predictor.batch_views > 4:
            raise torch.cuda.OutOfMemoryError("full")
        return real(predictor, clips, frames, **options)

    monkeypatch.setattr(labels, "label_clips", full)
    report = label(wild.config_of(made, tmp_path / "out", labelling={"limit": 3, "batch_views": 8}))
    assert report["videos"]["labelled"] == 3
    assert batches == [8, 4, 4, 4]


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
    monkeypatch.setattr(teacher, "groups_of", lambda videos, size: [videos])
    one, [unit, *_] = one_teacher(made, tmp_path / "out")
    done = one.work(unit)
    one.close()
    assert done is not None
    assert done.counts.labelled == 3
    assert alive
    assert not any(alive)


def test_a_teacher_that_is_exchanged_during_a_run_is_refused(made: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"changed during the run: expected 0{12}, found"):
        Teacher(LabellingJob(wild.config_of(made, tmp_path), str(tmp_path), "0" * 64, "driver"))


def test_suspects_are_taken_last_and_alone_the_guilty_never(made: Path, tmp_path: Path, monkeypatch) -> None:
    config = wild.config_of(made, tmp_path / "out", labelling={"unit_videos": 8, "limit": 8, "batch_views": 1000})
    store = LocalStore(tmp_path / "out")
    plan = labelling.make_plan(config, store)
    suspicion = attempts.Suspicion(frozenset({"101", "104"}), {"102": 2})
    monkeypatch.setattr(attempts.Ledger, "suspicion", lambda self, allowed: suspicion)
    calls, noted = [], []
    real_call, real_note = Teacher._call, attempts.Ledger.note

    def call(self, clips, frames):
        calls.append(sorted(clip.video_id for clip in clips))
        return real_call(self, clips, frames)

    def note(self, videos):
        noted.append(sorted(videos))
        real_note(self, videos)

    monkeypatch.setattr(Teacher, "_call", call)
    monkeypatch.setattr(attempts.Ledger, "note", note)
    one = Teacher(LabellingJob(config, store.root, plan.teacher_sha256, "driver"))
    done = one.work(next(iter(plan.manifest)))
    one.close()
    assert done is not None
    assert calls == [["100"], ["103", "105"], ["106", "107"], ["101"], ["104"]]
    assert noted[-3:] == [["101"], ["104"], []]  # a death while the unit is committed is nobody's
    # Whatever is predicted was noted before.
    for group in calls:
        assert any(set(group) <= set(videos) for videos in noted)
    assert dict(done.counts.quarantine) == {"killed_worker": 1}
    [row] = wild.rows_of(tmp_path / "out", "quarantine").to_pylist()
    assert (row["video_id"], row["stage"], row["attempts"]) == ("102", "process", 2)


def test_a_unit_that_fails_by_an_exception_blames_no_video(made: Path, tmp_path: Path, monkeypatch) -> None:
    one, [unit, *_] = one_teacher(made, tmp_path / "out")

    def full(*given, **options):
        raise NoRoom("a disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(commits, "commit", full)
        patch.setattr(attempts.Ledger, "note", lambda self, videos, real=attempts.Ledger.note: real(self, ["100"]))
        with pytest.raises(NoRoom):
            one.work(unit)
    again = attempts.Ledger(LocalStore(tmp_path / "out"), unit.unit_id, "driver")
    assert again.suspicion(1) == attempts.Suspicion(frozenset(), {})
    done = one.work(unit)
    one.close()
    assert done is not None
    assert done.counts.quarantined == 0


def test_a_compiled_network_is_ready_before_the_first_unit(made: Path, tmp_path: Path, monkeypatch) -> None:
    sizes = []

    def compiled(network, **options):
        return lambda images, *rest, **more: (sizes.append(len(images)), network(images, *rest, **more))[1]

    monkeypatch.setattr(torch, "compile", compiled)
    config = wild.config_of(made, tmp_path / "out", labelling={"compile": True, "batch_views": 21})
    plan = labelling.make_plan(config, LocalStore(tmp_path / "out"))
    one = Teacher(LabellingJob(config, str(tmp_path / "out"), plan.teacher_sha256, "driver"))
    assert sizes == [one.predictor.batch_size]
    assert one.work(next(iter(plan.manifest))) is not None
    assert set(sizes) == {20}  # whole frames
    one.close()


def test_groups_begin_small_and_grow() -> None:
    assert [len(group) for group in teacher.groups_of(range(20), 8)] == [1, 2, 4, 8, 5]
    assert [len(group) for group in teacher.groups_of(range(3), 1)] == [1, 1, 1]
    assert list(teacher.groups_of([], 4)) == []


def test_frame_sizes_in_one_group_do_not_disturb_each_other(tmp_path: Path, no_ray) -> None:
    boxes = wild.write_wild(tmp_path, good=2)
    write_video(tmp_path / "videos" / "wide.webm", 6, width=WIDTH * 2, height=HEIGHT)
    wild.write_boxes(tmp_path, boxes | wild.boxes_of(["wide"]))
    wild.write_teacher(tmp_path / "teacher.pt")
    label(wild.config_of(tmp_path, tmp_path / "a", labelling={"batch_views": 1000}))
    label(wild.config_of(tmp_path, tmp_path / "b", labelling={"batch_views": 3}))
    wild.assert_same_rows(wild.rows_of(tmp_path / "a", "predictions"), wild.rows_of(tmp_path / "b", "predictions"))
