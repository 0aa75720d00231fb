"""Refiltering: other thresholds give what labelling with them would have given, without the network."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
import wild

from cluster.labelling import commits, refiltering
from cluster.labelling import run as labelling
from cluster.labelling.refiltering import Refilter, refilter
from cluster.labelling.teacher import LabellingJob, Teacher
from cluster.store import LocalStore
from hojoint.errors import InputError
from hojoint.labelling import filters
from jobs import refilter as command_of_refilter

# Random weights: thresholds in the middle of what they score keep some frames and reject some.
LOOSE = {"enabled": ["pose_step", "shape_spread"], "max_pose_step": 0.06}
STRICT = LOOSE | {"max_pose_step": 0.015}


def label_here(config) -> None:
    """``labelling.label`` with a Teacher in this process."""
    store = LocalStore(config.output)
    plan = labelling.make_plan(config, store)
    facts = {"units": len(plan.units), "videos": plan.videos, "config": refiltering.settings.to_tree(config)}
    commits.open_run(store, plan.fingerprint, facts)
    one = Teacher(LabellingJob(config, store.root, plan.teacher_sha256, "driver"))
    for unit in plan.units:
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


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def from_items(rows, **_):
        def mapped(kind, *, fn_constructor_kwargs, **_):
            def iter_rows():
                one = kind(**fn_constructor_kwargs)
                with contextlib.closing(one):
                    for row in rows:
                        yield one(row)

            return SimpleNamespace(iter_rows=iter_rows, context=SimpleNamespace())

        return SimpleNamespace(map=mapped)

    monkeypatch.setattr(refiltering.ray.data, "from_items", from_items)
    monkeypatch.setattr(refiltering.session, "start", lambda config: contextlib.nullcontext())


def config_to(made: Path, output: Path, source: str, rules: dict, *, videos: bool = True):
    groups = {"data": {"pseudo": {"labels": str(made / source)}}, "filters": rules}
    return wild.config_of(made, output, **groups, videos={} if videos else {"root": None})


def kept(output: Path) -> list[tuple[str, int]]:
    rows = wild.rows_of(output, "predictions").to_pylist()
    return [(row["clip_id"], row["frame"]) for row in rows if row["verdict"] == "kept"]


def test_the_two_sets_of_thresholds_differ(made: Path) -> None:
    assert 0 < len(kept(made / "strict")) < len(kept(made / "loose"))


@pytest.mark.parametrize(("source", "rules", "wanted"), [("loose", STRICT, "strict"), ("strict", LOOSE, "loose")])
def test_refiltering_gives_the_rows_that_labelling_with_those_thresholds_gives(
    made: Path, tmp_path: Path, no_ray, source: str, rules: dict, wanted: str
) -> None:
    report = refilter(config_to(made, tmp_path / "out", source, rules))
    for table in commits.TABLES:
        wild.assert_same_rows(wild.rows_of(tmp_path / "out", table), wild.rows_of(made / wanted, table))
    assert report["frames"]["without_image"] == 0
    expected = commits.report_of(commits.read_commits(LocalStore(made / wanted)), filters.RULES)
    assert report["videos"] == expected["videos"]
    assert report["frames"] == expected["frames"]


def test_without_the_videos_newly_kept_frames_are_counted_and_have_no_picture(
    made: Path, tmp_path: Path, no_ray
) -> None:
    report = refilter(config_to(made, tmp_path / "out", "strict", LOOSE, videos=False))
    assert kept(tmp_path / "out") == kept(made / "loose")
    pictured = wild.rows_of(tmp_path / "out", "pseudo_labels")
    assert len(pictured) == len(kept(made / "strict"))
    assert report["frames"]["without_image"] == report["frames"]["kept"] - len(pictured) > 0


def test_run_again_it_does_nothing_and_other_thresholds_are_refused(
    made: Path, tmp_path: Path, no_ray, monkeypatch, capsys
) -> None:
    config = config_to(made, tmp_path / "out", "loose", STRICT)
    report = refilter(config)
    monkeypatch.setattr(Refilter, "work", lambda self, unit: pytest.fail("there is nothing to do"))
    assert refilter(config) == report
    assert "nothing to do" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"filters.max_pose_step: 0.015 there, 0.02 now"):
        refilter(config_to(made, tmp_path / "out", "loose", STRICT | {"max_pose_step": 0.02}))


def test_a_reading_that_needs_the_hand_is_refused(made: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"filters.bone_reference=span.*palm"):
        refilter(config_to(made, tmp_path / "out", "loose", LOOSE | {"bone_reference": "span"}))


def test_a_source_that_is_not_whole_or_is_the_output_is_refused(made: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="are both"):
        refilter(config_to(made, made / "loose", "loose", STRICT))
    config = wild.config_of(made, tmp_path / "half", filters=LOOSE)
    store = LocalStore(tmp_path / "half")
    plan = labelling.make_plan(config, store)
    facts = {"units": 2, "videos": 5, "config": refiltering.settings.to_tree(config)}
    commits.open_run(store, plan.fingerprint, facts)
    with pytest.raises(InputError, match="0 of 2 units are committed"):
        refilter(config_to(tmp_path, tmp_path / "out", "half", STRICT))


def test_a_dry_run_says_what_changes_and_writes_nothing(made: Path, tmp_path: Path, capsys) -> None:
    command_of_refilter.job(config_to(made, tmp_path / "out", "loose", STRICT), dry_run=True)
    said = capsys.readouterr().out
    assert "filters.max_pose_step: 0.06 -> 0.015" in said
    assert "shape_sigmas" not in said
    assert not (tmp_path / "out").exists()


@pytest.mark.ray
def test_the_command_runs_on_ray(made: Path, tmp_path: Path, capsys) -> None:
    command_of_refilter.job(config_to(made, tmp_path / "out", "loose", STRICT), dry_run=False)
    assert "kept" in capsys.readouterr().out
    wild.assert_same_rows(
        wild.rows_of(tmp_path / "out", "pseudo_labels"), wild.rows_of(made / "strict", "pseudo_labels")
    )
    assert isinstance(wild.rows_of(tmp_path / "out", "quarantine"), pa.Table)
