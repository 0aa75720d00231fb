"""Refiltering: other thresholds return what labelling with them returns, without the network."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import wild
from video_files import FPS, HEIGHT, WIDTH, write_video

from cluster import progress as board
from cluster.labelling import commits, files, refilter_actor, refiltering, sameness, totals
from cluster.labelling import run as labelling
from cluster.labelling.job import LabellingJob
from cluster.labelling.refilter_actor import Refilter
from cluster.labelling.refiltering import refilter
from cluster.labelling.teacher import Teacher
from cluster.sources import Entry, list_videos
from cluster.store.local import LocalStore
from hojoint.config import FilterConfig
from hojoint.errors import InputError
from hojoint.labelling import quality, reasons, tables
from hojoint.labelling.quality import Curve, QualityModel
from hojoint.labelling.video import VideoError
from jobs import refilter as command_of_refilter

pytestmark = pytest.mark.slow  # seconds each: files, videos or processes

# Random weights: thresholds in the middle of what they score keep some frames and reject some.
LOOSE = {"enabled": ["pose_step", "shape_spread"], "max_pose_step": 0.06}
STRICT = LOOSE | {"max_pose_step": 0.015}


def label_here(config) -> None:
    """``labelling.label`` with a Teacher in this process."""
    store = LocalStore(config.output)
    plan = labelling.make_plan(config, store)
    labelling.begin(config, store, plan)
    one = Teacher(LabellingJob(config, store.root, plan.teacher_sha256, "driver", quality=plan.quality))
    for unit in plan.manifest:
        one.work(unit)
    one.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wild")
    wild.write_wild(folder, good=5, frames=8)
    (folder / "videos" / "104.webm").write_bytes(b"no video")
    wild.write_teacher(folder / "teacher.pt")
    for name, rules in (("loose", LOOSE), ("strict", STRICT)):
        label_here(wild.config_of(folder, folder / name, filters=rules))
    return folder


def config_to(made: Path, output: Path, source: str, rules: dict, *, videos: bool = True, **groups):
    groups |= {"data": {"pseudo": {"labels": str(made / source)}}, "filters": rules}
    return wild.config_of(made, output, **groups, videos={} if videos else {"root": None})


def kept(output: Path) -> list[tuple[str, int]]:
    rows = wild.rows_of(output, "predictions").to_pylist()
    return [(row["clip_id"], row["frame"]) for row in rows if row["verdict"] == "kept"]


def test_other_thresholds_need_no_hand_model(made: Path, tmp_path: Path, no_ray: None) -> None:
    nowhere = {"path": str(made / "no" / "MANO_RIGHT.pkl")}
    refilter(config_to(made, tmp_path / "out", "loose", STRICT, mano=nowhere))
    assert kept(tmp_path / "out") == kept(made / "strict")


def test_decoding_pictures_again_is_a_sign_of_progress(made: Path, tmp_path: Path, no_ray, monkeypatch) -> None:
    told: list[tuple] = []
    monkeypatch.setattr(board, "signs_of", lambda watched: lambda: len(told))
    monkeypatch.setattr(board, "Reporter", lambda *args: lambda *sign: told.append(sign))
    seen = wild.watches(monkeypatch)
    refilter(config_to(made, tmp_path / "out", "strict", LOOSE))
    pictures = [videos for videos, _ in told if videos]
    assert pictures == [{"with_pictures": 1}] * len(pictures)
    assert len(pictures) > 1
    judged = sum((Counter(frames) for _, frames in told), Counter())
    assert judged.total() == wild.rows_of(made / "strict", "predictions").num_rows
    assert [signs() for signs, _ in seen] == [len(told)]


def test_prometheus_sees_what_a_refiltering_has_committed(made: Path, tmp_path: Path, no_ray, monkeypatch) -> None:
    shown = wild.gauges(monkeypatch)
    report = refilter(config_to(made, tmp_path / "out", "loose", STRICT))
    assert shown["listed_videos", "refiltering"] == report["videos"]["listed"]
    assert shown["committed_videos", "refiltering", "labelled"] == report["videos"]["labelled"] > 0
    assert shown["committed_frames", "refiltering", "kept"] == report["frames"]["kept"] > 0
    assert ("last_commit_timestamp_seconds", "refiltering") in shown


def test_the_two_sets_of_thresholds_differ(made: Path) -> None:
    assert 0 < len(kept(made / "strict")) < len(kept(made / "loose"))


@pytest.mark.parametrize(("source", "rules", "target"), [("loose", STRICT, "strict"), ("strict", LOOSE, "loose")])
def test_refiltering_equals_labelling_with_those_thresholds(
    made: Path, tmp_path: Path, no_ray, source: str, rules: dict, target: str
) -> None:
    report = refilter(config_to(made, tmp_path / "out", source, rules))
    for table in commits.TABLES:
        wild.assert_same_rows(wild.rows_of(tmp_path / "out", table), wild.rows_of(made / target, table))
    assert report["frames"]["without_image"] == 0
    expected = totals.report_of(commits.read_commits(LocalStore(made / target)), reasons.REASONS)
    assert report["videos"] == expected["videos"]
    assert report["frames"] == expected["frames"]


def quality_file(path: Path, middle: float) -> QualityModel:
    """A model by the spread of the views' rotations: a chance above one half below the middle."""
    part = Curve((0.0, 2 * middle), (2.0, 0.0), 0.0)
    model = QualityModel({"rotation_spread": part}, 0.0, (0.0, 2.0), (0.1, 0.9), quality.readings_of(FilterConfig()))
    path.write_bytes(model.to_bytes())
    return model


def test_the_quality_judges_again_without_the_network(made: Path, tmp_path: Path, no_ray) -> None:
    loose = wild.rows_of(made / "loose", "predictions")
    fits = tables.array_of(loose, "camera")[:, 0] > 0  # with random weights not every camera does
    middle = float(np.median(tables.array_of(loose, "rotation_spread")[fits]))
    file = tmp_path / "quality.json"
    model = quality_file(file, middle)
    rules = {"mode": "quality", "quality_model": str(file), "min_quality": 0.5}
    report = refilter(config_to(made, tmp_path / "out", "loose", rules))
    after = wild.rows_of(tmp_path / "out", "predictions")
    expected = model.quality({"rotation_spread": tables.array_of(after, "rotation_spread").astype(float)})
    chances = tables.array_of(after, "quality")
    fits = tables.array_of(after, "camera")[:, 0] > 0
    np.testing.assert_allclose(chances, np.where(fits, expected, 0), atol=1e-6)
    assert report["frames"]["kept"] == (chances >= 0.5).sum() > 0
    assert report["frames"]["rejected"]["quality"] == (fits & (chances < 0.5)).sum() > 0
    assert report["frames"]["rejected"]["box_iou"] == (~fits).sum()
    assert (tmp_path / "out" / "quality.json").read_bytes() == file.read_bytes()
    label_here(wild.config_of(made, tmp_path / "direct", filters=rules))
    for table in commits.TABLES:
        wild.assert_same_rows(wild.rows_of(tmp_path / "out", table), wild.rows_of(tmp_path / "direct", table))
    assert min(wild.rows_of(tmp_path / "out", "pseudo_labels")["quality"].to_pylist()) >= 0.5
    quality_file(file, middle / 2)  # the same name, another content
    with pytest.raises(InputError, match="quality_model"):
        refilter(config_to(made, tmp_path / "out", "loose", rules))
    with pytest.raises(InputError, match=r"filters\.quality_model, which is not set"):
        refilter(config_to(made, tmp_path / "other", "loose", {"mode": "quality"}))
    with pytest.raises(InputError, match=r"judge frames by side, which the labels at .* do not have"):
        refilter(config_to(made, tmp_path / "other", "loose", {"enabled": ["side"]}))
    assert not (tmp_path / "other").exists()


def test_the_manifest_names_the_videos_of_newly_kept_frames(made: Path, tmp_path: Path, no_ray) -> None:
    report = refilter(config_to(made, tmp_path / "out", "strict", LOOSE, videos=False))
    wild.assert_same_rows(
        wild.rows_of(tmp_path / "out", "pseudo_labels"), wild.rows_of(made / "loose", "pseudo_labels")
    )
    assert report["frames"]["without_image"] == 0
    again = refilter(config_to(tmp_path, tmp_path / "again", "out", STRICT, videos=False))  # has the manifest too
    expected = totals.report_of(commits.read_commits(LocalStore(made / "strict")), reasons.REASONS)
    assert again["frames"] == expected["frames"]


def test_without_videos_newly_kept_frames_have_no_picture(made: Path, tmp_path: Path, no_ray) -> None:
    shutil.copytree(made / "strict", tmp_path / "strict")
    run = json.loads((tmp_path / "strict" / "run.json").read_text())
    del run["manifest"]  # a run of an earlier version
    (tmp_path / "strict" / "run.json").write_text(json.dumps(run))
    config = config_to(made, tmp_path / "out", "strict", LOOSE, videos=False)
    labels = {"pseudo": {"labels": str(tmp_path / "strict")}}
    report = refilter(refiltering.settings.changed(config, data=labels))
    assert kept(tmp_path / "out") == kept(made / "loose")
    pictured = wild.rows_of(tmp_path / "out", "pseudo_labels")
    assert len(pictured) == len(kept(made / "strict"))
    assert report["frames"]["without_image"] == report["frames"]["kept"] - len(pictured) > 0


@pytest.mark.parametrize("kind", ["unreachable", "missing"])
def test_a_video_that_may_come_back_ends_the_run(made: Path, tmp_path: Path, no_ray, monkeypatch, kind: str) -> None:
    real = refilter_actor.fetched

    def broken(uri, limits, **listed):
        if kind == "unreachable":
            raise VideoError("unreachable", "SlowDown")
        return real(uri, limits)

    config = config_to(made, tmp_path / "out", "strict", LOOSE, videos=False)
    with monkeypatch.context() as patch:
        patch.setattr(refilter_actor, "fetched", broken)
        if kind == "missing":
            where = lambda self, units, ids: {name: Entry(name, f"/nowhere/{name}.webm", None) for name in ids}  # noqa: E731
            patch.setattr(refilter_actor.VideoFiles, "of", where)
        words = "SlowDown.*" if kind == "unreachable" else "does not exist on the node.*"
        with pytest.raises(InputError, match=f"{words}The same command then resumes"):
            refilter(config)
        left_out = refiltering.settings.changed(config, output=str(tmp_path / "less"), videos={"missing": "leave_out"})
        report = refilter(left_out)
        assert report["videos_without_pictures"].keys() == {kind}
        assert report["frames"]["without_image"] > 0
    refilter(config)
    wild.assert_same_rows(
        wild.rows_of(tmp_path / "out", "pseudo_labels"), wild.rows_of(made / "loose", "pseudo_labels")
    )


def test_videos_that_bring_no_pictures_are_named(made: Path, tmp_path: Path, no_ray, capsys) -> None:
    source, target = set(kept(made / "strict")), set(kept(made / "loose"))
    rows = wild.rows_of(made / "loose", "pseudo_labels").to_pylist()
    names = sorted({row["video_id"] for row in rows if (row["clip_id"], row["frame"]) in target - source})
    assert len(names) > 1
    shutil.copytree(made / "videos", tmp_path / "videos")
    damaged = tmp_path / "videos" / f"{names[0]}.webm"
    damaged.write_bytes(b"no video any more".ljust(damaged.stat().st_size))
    (tmp_path / "videos" / f"{names[1]}.webm").unlink()
    config = config_to(made, tmp_path / "out", "strict", LOOSE)
    config = refiltering.settings.changed(config, videos={"root": str(tmp_path / "videos")})
    command_of_refilter.job(config, dry_run=False)
    assert "(1 missing, 1 not_video: videos that failed, see quarantine/)" in capsys.readouterr().out
    added = [row for row in wild.rows_of(tmp_path / "out", "quarantine").to_pylist() if row["stage"] == "picture"]
    assert {row["video_id"]: row["class"] for row in added} == {names[0]: "not_video", names[1]: "missing"}
    again = config_to(tmp_path, tmp_path / "again", "out", LOOSE)
    again = refiltering.settings.changed(again, videos={"root": str(made / "videos")})
    assert refilter(again)["videos_without_pictures"] == {}
    for table in commits.TABLES:
        wild.assert_same_rows(wild.rows_of(tmp_path / "again", table), wild.rows_of(made / "loose", table))


def pictures_of(made: Path, output: Path, source: Path, root: Path) -> dict[str, tuple[str, str]]:
    """Class and message of the videos under another root that bring no pictures; all others bring theirs."""
    config = config_to(made, output, str(source), LOOSE)
    refilter(refiltering.settings.changed(config, videos={"root": str(root)}))
    failed = [row for row in wild.rows_of(output, "quarantine").to_pylist() if row["stage"] == "picture"]
    videos = {row["video_id"] for row in failed}
    added = set(kept(made / "loose")) - set(kept(made / "strict"))
    lacking = lambda row: row["video_id"] in videos and (row["clip_id"], row["frame"]) in added  # noqa: E731
    expected = [row for row in wild.rows_of(made / "loose", "pseudo_labels").to_pylist() if not lacking(row)]
    found = wild.rows_of(output, "pseudo_labels")
    wild.assert_same_rows(found, pa.Table.from_pylist(expected, found.schema))
    return {row["video_id"]: (row["class"], row["message"]) for row in failed}


def added_videos(made: Path) -> list[str]:
    """Videos with frames that only the loose thresholds keep."""
    clips = {clip for clip, _ in set(kept(made / "loose")) - set(kept(made / "strict"))}
    rows = wild.rows_of(made / "loose", "predictions").to_pylist()
    return sorted({row["video_id"] for row in rows if row["clip_id"] in clips})


def test_another_file_of_the_same_name_gives_no_pictures(made: Path, tmp_path: Path, no_ray) -> None:
    root = tmp_path / "videos"
    shutil.copytree(made / "videos", root)
    assert pictures_of(made, tmp_path / "same", made / "strict", root) == {}
    one, other, *_ = added_videos(made)
    write_video(root / f"{one}.webm", 8, width=WIDTH // 2, height=HEIGHT // 2)
    write_video(root / f"{other}.webm", 16, fps=2 * FPS)
    failed = pictures_of(made, tmp_path / "out", made / "strict", root)
    assert {name: kind for name, (kind, _) in failed.items()} == {one: "changed", other: "changed"}
    now, before = ((place / f"{one}.webm").stat().st_size for place in (root, made / "videos"))
    assert f"{one}.webm has {now} bytes, and the labelled video " in failed[one][1]
    assert failed[one][1].endswith(f"{one}.webm had {before}")


def test_where_no_size_is_known_the_pictures_tell(made: Path, tmp_path: Path, no_ray) -> None:
    source, root = tmp_path / "strict", tmp_path / "videos"
    shutil.copytree(made / "strict", source)
    run = json.loads((source / "run.json").read_text())
    del run["manifest"]  # a run of an earlier version
    (source / "run.json").write_text(json.dumps(run))
    shutil.copytree(made / "videos", root)
    assert pictures_of(made, tmp_path / "same", source, root) == {}
    small, longer, faster, *_ = added_videos(made)
    write_video(root / f"{small}.webm", 8, width=WIDTH // 2, height=HEIGHT // 2)
    write_video(root / f"{longer}.webm", 16)
    write_video(root / f"{faster}.webm", 8, fps=2 * FPS)
    failed = pictures_of(made, tmp_path / "out", source, root)
    assert {name: kind for name, (kind, _) in failed.items()} == dict.fromkeys((small, longer, faster), "changed")
    assert f"{small}.webm: {WIDTH // 2} x {HEIGHT // 2} px, and boxes of the labelled video reach" in failed[small][1]
    assert failed[longer][1].endswith("16 pictures, and the labelled video had 8")
    assert " s, and that of the labelled video at " in failed[faster][1]


def test_another_root_is_listed_once(made: Path, tmp_path: Path, no_ray, monkeypatch) -> None:
    calls, real = [], files.list_videos
    monkeypatch.setattr(files, "list_videos", lambda root, **how: calls.append(root) or real(root, **how))
    monkeypatch.chdir(made)
    config = config_to(made, tmp_path / "out", "strict", LOOSE)
    config = refiltering.settings.changed(config, videos={"root": "videos"})
    command_of_refilter.job(config, dry_run=False)
    assert calls == ["videos"]
    monkeypatch.setattr(files, "list_videos", lambda root, **how: pytest.fail("no unit is pending"))
    command_of_refilter.job(config, dry_run=False)
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(files, "list_videos", real)
    config = refiltering.settings.changed(
        config, output=str(tmp_path / "new"), videos={"root": str(tmp_path / "empty")}
    )
    for dry_run in (True, False):
        with pytest.raises(InputError, match=r"found none in .*empty; it is empty"):
            command_of_refilter.job(config, dry_run=dry_run)
    assert not (tmp_path / "new").exists()


def test_run_again_does_nothing_and_other_thresholds_are_refused(
    made: Path, tmp_path: Path, no_ray, monkeypatch, capsys
) -> None:
    config = config_to(made, tmp_path / "out", "loose", STRICT)
    report = refilter(config)
    monkeypatch.setattr(Refilter, "work", lambda self, unit: pytest.fail("no unit is pending"))
    assert refilter(config) == report
    assert "nothing to do" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"filters.max_pose_step: 0.015 before, 0.02 now"):
        refilter(config_to(made, tmp_path / "out", "loose", STRICT | {"max_pose_step": 0.02}))


def test_where_every_write_wins_other_thresholds_are_refused(made: Path, tmp_path: Path, no_ray, monkeypatch) -> None:
    """As on a server that ignores If-None-Match: run.json must not be rewritten over labels of other thresholds."""
    monkeypatch.setattr(LocalStore, "put_new", lambda self, key, data: self.put(key, data) is None)
    careless = {"labelling": {"require_conditional_writes": False}}
    refilter(config_to(made, tmp_path / "out", "loose", STRICT, **careless))
    with pytest.raises(InputError, match=r"filters.max_pose_step: 0.015 before, 0.02 now"):
        refilter(config_to(made, tmp_path / "out", "loose", STRICT | {"max_pose_step": 0.02}, **careless))


def test_a_reading_that_needs_the_hand_is_refused(made: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"filters.bone_reference=span.*palm"):
        refilter(config_to(made, tmp_path / "out", "loose", LOOSE | {"bone_reference": "span"}))


def test_an_incomplete_source_or_the_output_itself_is_refused(made: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="are both"):
        refilter(config_to(made, made / "loose", "loose", STRICT))
    config = wild.config_of(made, tmp_path / "half", filters=LOOSE)
    store = LocalStore(tmp_path / "half")
    labelling.begin(config, store, labelling.make_plan(config, store))
    with pytest.raises(InputError, match="0 of 2 units are committed"):
        refilter(config_to(tmp_path, tmp_path / "out", "half", STRICT))


def test_a_job_too_large_for_the_cluster_leaves_nothing(made: Path, tmp_path: Path) -> None:
    config = config_to(made, tmp_path / "out", "loose", STRICT, cluster={"teacher_cpus": 64})
    for run in (refilter, refiltering.dry_run):
        with pytest.raises(InputError, match="cannot hold this job: 1 refilter actors"):
            run(config)
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_checks_the_output_and_counts_its_units(made: Path, tmp_path: Path, no_ray, capsys) -> None:
    refilter(config_to(made, tmp_path / "out", "loose", STRICT))
    refiltering.dry_run(config_to(made, tmp_path / "out", "loose", STRICT))
    assert "2 committed, 0 to do" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"filters.max_pose_step: 0.015 before, 0.02 now"):
        refiltering.dry_run(config_to(made, tmp_path / "out", "loose", STRICT | {"max_pose_step": 0.02}))


def test_labels_with_former_names_of_settings_are_refiltered(made: Path, tmp_path: Path, no_ray) -> None:
    shutil.copytree(made / "loose", tmp_path / "former")
    wild.write_former_names(tmp_path / "former")
    tree = json.loads((tmp_path / "former" / "run.json").read_text())["config"]
    assert {"evaluation", "job"} <= tree.keys()
    assert {"hand_roi", "object_roi"} <= tree["crop"].keys()
    output = tmp_path / "out"
    config = wild.config_of(made, output, data={"pseudo": {"labels": str(tmp_path / "former")}}, filters=STRICT)
    refiltering.dry_run(config)
    refilter(config)
    wild.assert_same_rows(wild.rows_of(output, "pseudo_labels"), wild.rows_of(made / "strict", "pseudo_labels"))
    wild.write_former_names(output, of_config=False)  # the config is the source's
    again = wild.config_of(made, tmp_path / "again", data={"pseudo": {"labels": str(output)}}, filters=STRICT)
    assert refilter(again)["videos"] == refilter(config)["videos"]  # the second is resumed


def test_folders_that_nodes_do_not_share_are_input_errors(made: Path, tmp_path: Path, no_ray, monkeypatch) -> None:
    real = refiltering.RefilterJob
    changes = {"source": str(tmp_path / "elsewhere")}
    monkeypatch.setattr(refiltering, "RefilterJob", lambda *args: dataclasses.replace(real(*args), **changes))
    with pytest.raises(InputError, match=r"elsewhere.*was listed by the driver and does not exist on the node"):
        refilter(config_to(made, tmp_path / "one", "loose", STRICT))
    changes = {"output": str(tmp_path / "elsewhere")}
    with pytest.raises(InputError, match=r"u000000\) are done and not in .*two"):
        refilter(config_to(made, tmp_path / "two", "loose", STRICT, videos=False))


def test_a_dry_run_prints_what_changes_and_writes_nothing(made: Path, tmp_path: Path, capsys) -> None:
    command_of_refilter.job(config_to(made, tmp_path / "out", "loose", STRICT), dry_run=True)
    printed = capsys.readouterr().out
    assert "filters.max_pose_step: 0.06 -> 0.015" in printed
    assert "shape_sigmas" not in printed
    assert not (tmp_path / "out").exists()


def test_settings_of_refinement_that_change_are_printed_too(made: Path, tmp_path: Path, capsys) -> None:
    config = config_to(made, tmp_path / "out", "loose", STRICT)
    refined = refiltering.settings.changed(config, refine={"one_shape": True})
    command_of_refilter.job(refined, dry_run=True)
    assert "refine.one_shape: None -> True" in capsys.readouterr().out


@pytest.mark.ray
def test_an_input_error_in_an_actor_is_its_message_alone(made: Path, tmp_path: Path, ray_session: None) -> None:
    config = config_to(made, tmp_path / "out", "loose", STRICT)
    (tmp_path / "no videos").mkdir()
    config = refiltering.settings.changed(config, videos={"root": str(tmp_path / "no videos")})
    with pytest.raises(
        InputError, match=r"^videos\.root must hold <id>\.webm .*found none in .*no videos; it is empty$"
    ):
        refilter(config)


@pytest.mark.ray
def test_the_command_runs_on_ray(made: Path, tmp_path: Path, ray_session: None, capsys) -> None:
    command_of_refilter.job(config_to(made, tmp_path / "out", "loose", STRICT), dry_run=False)
    printed = capsys.readouterr().out
    assert "kept" in printed
    assert "filters.max_pose_step: 0.06 -> 0.015" in printed
    wild.assert_same_rows(
        wild.rows_of(tmp_path / "out", "pseudo_labels"), wild.rows_of(made / "strict", "pseudo_labels")
    )
    assert isinstance(wild.rows_of(tmp_path / "out", "quarantine"), pa.Table)


REFINE = {"one_shape": True, "smooth_frames": 2, "fill_frames": 3, "fit_steps": 5, "max_turn_deg": 180.0}


def test_refiltering_refines_as_labelling_does(made: Path, tmp_path: Path, no_ray) -> None:
    label_here(wild.config_of(made, tmp_path / "refined", filters=STRICT, refine=REFINE))
    report = refilter(config_to(made, tmp_path / "out", "loose", STRICT, refine=REFINE))
    for table in commits.TABLES:
        wild.assert_same_rows(wild.rows_of(tmp_path / "out", table), wild.rows_of(tmp_path / "refined", table))
    labels, raw = wild.rows_of(tmp_path / "out", "pseudo_labels"), wild.rows_of(tmp_path / "out", "predictions")
    wild.assert_same_rows(raw, wild.rows_of(made / "strict", "predictions"))
    frames = report["frames"]
    assert frames["filled"] == sum(labels["filled"].to_pylist()) > 0
    assert len(labels) == frames["kept"] + frames["filled"]
    assert frames["predicted"] == frames["kept"] + sum(frames["rejected"].values())
    for row in labels.to_pylist():
        assert row["filled"] == (row["verdict"] != "kept")


def test_refinement_is_part_of_what_an_output_is(made: Path, tmp_path: Path, no_ray) -> None:
    refilter(config_to(made, tmp_path / "out", "loose", STRICT))
    with pytest.raises(InputError, match=r"refine\.fill_frames"):
        refilter(config_to(made, tmp_path / "out", "loose", STRICT, refine=REFINE))


def test_the_size_of_a_folder_is_that_of_its_pictures(tmp_path: Path) -> None:
    for place, suffix in (("one", "jpg"), ("two", "jpg"), ("three", "png")):
        for number in (1, 2):
            path = tmp_path / place / "v" / f"{number}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(suffix.encode() * (1000 if suffix == "jpg" else 1500))
        (tmp_path / place / "v" / "note.txt").write_text(place)
    one, two, three = (next(list_videos(tmp_path / place)) for place in ("one", "two", "three"))
    assert sameness.other_size(one, two) == ""
    assert sameness.other_size(one, three) == f"{three.uri} has 9000 bytes, and the labelled video {one.uri} had 6000"
    assert sameness.other_size(None, two) is None
    assert sameness.other_size(Entry("v", one.uri, None), two) is None
