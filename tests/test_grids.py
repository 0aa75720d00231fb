"""Grids: which points a study compares, which of them are the pipeline's own, and which stages they need."""

from __future__ import annotations

import pytest

from hojoint import config as settings
from hojoint.config import PAPER_RULES
from hojoint.errors import InputError
from hojoint.labelling import reasons
from jobs import command, grids, plan, points
from jobs.point_stages import OracleLabels, PointStudent

CALIBRATED = ("calibrate.enabled=true", "train.held_out=4")


def config_of(*overrides):
    return settings.load(command.DEFAULT_CONFIG, ["output=o", "control=true", *overrides])


def made(grid, *overrides):
    config = grids.pipeline_of(config_of(*overrides), grid)
    rows = grids.points(config, grid)
    return {row.key: row for row in rows}, [stage.name for stage in points.stages(config, rows)]


def kinds(names, point):
    prefix = f"points/{point}/"
    return [name.removeprefix(prefix) for name in names if name.startswith(prefix)]


@pytest.mark.parametrize("grid", list(grids.TITLES))
@pytest.mark.parametrize("overrides", [(), CALIBRATED, (*CALIBRATED, "filters.mode=quality")])
def test_every_point_has_the_network_that_its_row_shows(grid, overrides):
    config = grids.pipeline_of(config_of(*overrides), grid)
    rows = grids.points(config, grid)
    all_stages = [*plan.stages(config), *points.stages(config, rows)]
    names = [stage.name for stage in all_stages]
    assert len(set(names)) == len(names)
    trained = {stage.home for stage in all_stages if hasattr(stage, "from_stage")}
    for row in rows:
        assert f"{row.prefix}{row.network}" in trained
    for number, stage in enumerate(all_stages):
        assert set(stage.needs) <= set(names[:number]), stage.name
    assert len({row.key for row in rows}) == len(rows)


def test_without_a_difference_a_point_is_the_pipelines_own():
    rows, names = made("filters")
    assert [key for key, row in rows.items() if not row.prefix] == ["printed"]
    assert rows["no_spatial"].changes["filters"]["enabled"] == ("joint_step", "pose_step", "shape_spread")
    assert set(rows["no_temporal"].changes["filters"]["enabled"]) == set(reasons.SPATIAL_RULES)
    assert kinds(names, "filters-no_spatial") == ["refilter", "measure", "retrain", "evaluate"]
    assert not any(name.endswith(("train", "pseudo_label")) and "retrain" not in name for name in names)


def test_with_calibration_the_printed_thresholds_are_a_point():
    rows, names = made("filters", *CALIBRATED)
    assert [key for key, row in rows.items() if not row.prefix] == ["calibrated"]
    assert rows["printed"].prefix == "points/filters-printed/"
    assert kinds(names, "filters-quality") == ["refilter", "measure", "retrain", "evaluate"]
    config = config_of(*CALIBRATED)
    by_name = {stage.name: stage for stage in points.stages(config, list(rows.values()))}
    printed, quality = (by_name[f"points/filters-{name}/refilter"] for name in ("printed", "quality"))
    assert (printed.calibrated, quality.calibrated) == (False, True)
    assert printed.config.filters.enabled == PAPER_RULES
    assert quality.config.filters.mode == "quality"
    assert "calibrate" in printed.needs  # the chance of being right is known at every point


def test_with_quality_in_the_pipeline_only_that_point_is_its_own():
    rows, _ = made("filters", *CALIBRATED, "filters.mode=quality")
    assert [key for key, row in rows.items() if not row.prefix] == ["quality"]


def test_reasoning_trains_teachers_whose_chains_two_rows_share():
    rows, names = made("reasoning")
    assert len(rows) == 8
    assert [key for key, row in rows.items() if not row.prefix] == ["o teacher", "o student"]
    assert kinds(names, "reasoning-h") == ["train", "pseudo_label", "measure", "retrain", "evaluate"]


@pytest.mark.parametrize(("grid", "count"), [("fraction", 4), ("share", 4)])
def test_points_that_differ_in_training_share_the_labels(grid, count):
    _, names = made(grid)
    assert [name.rpartition("/")[2] for name in names].count("retrain") == count
    assert not any(name.endswith(("refilter", "oracle", "pseudo_label")) for name in names)


@pytest.mark.parametrize(("grid", "setting"), [("fraction", "pseudo_fraction"), ("share", "pseudo_share")])
def test_the_pipelines_own_value_is_a_row_too(grid, setting):
    rows, names = made(grid, f"train.{setting}=0.3")
    assert [key for key, row in rows.items() if not row.prefix] == ["0.3"]
    assert "points/base/measure" in names


def test_each_fraction_shows_the_labels_that_it_uses():
    config = config_of()
    rows = {row.key: row for row in grids.points(config, "fraction")}
    measures = {
        stage.prefix: stage for stage in points.stages(config, list(rows.values())) if stage.name.endswith("measure")
    }
    for key, row in rows.items():
        assert measures[points.labels_of(row)].settings()["train.pseudo_fraction"] == float(key)
    assert points.labels_of(grids.points(config, "share")[0]) == "points/base/"  # all of them, which are measured once


def test_labels_are_measured_for_any_row_that_shows_them():
    config = config_of()
    [one, *_] = grids.points(config, "share")
    assert [stage.name.rpartition("/")[2] for stage in points.stages(config, [one])] == [
        "measure",
        "retrain",
        "evaluate",
    ]


def test_rounds_are_the_pipelines_own_and_three_unless_set():
    rows, names = made("rounds")
    assert list(rows) == ["0", "1", "2", "3"]
    assert all(not row.prefix for row in rows.values())
    assert all(name.endswith("measure") for name in names)
    assert list(made("rounds", "student.rounds=2")[0]) == ["0", "1", "2"]


def test_oracles_rewrite_the_kept_labels_or_all():
    rows, names = made("labels")
    config = config_of()
    by_name = {stage.name: stage for stage in points.stages(config, list(rows.values()))}
    sources = {stage.oracle: set() for stage in by_name.values() if isinstance(stage, OracleLabels)}
    for stage in by_name.values():
        if isinstance(stage, OracleLabels):
            sources[stage.oracle].add(stage.config.data.pseudo.labels)
    assert sources == {
        "right": {"o/labels"},
        "side": {"o/labels"},
        "truth": {"o/labels", "o/points/filters-none/labels"},
    }
    assert kinds(names, "filters-none") == ["refilter"]  # its student is the other grid's
    assert made("labels", "filters.enabled=[]")[1].count("points/filters-none/refilter") == 0


def test_students_of_points_differ_in_their_labels_alone():
    config = config_of()
    rows = grids.points(config, "labels")
    first = next(stage for stage in plan.stages(config) if stage.name == "retrain").config
    for stage in points.stages(config, rows):
        if isinstance(stage, PointStudent):
            assert stage.config.train == first.train
            assert "retrain" in stage.needs


def test_refinement_is_switched_part_by_part():
    rows, _ = made("refine", "refine.smooth_frames=4", "refine.one_shape=true")
    assert not any(rows["none"].changes["refine"].values())
    assert rows["smooth"].changes["refine"] == {**rows["none"].changes["refine"], "smooth_frames": 4}
    assert all(rows["all"].changes["refine"].values())


def test_terms_differ_from_the_paper_one_by_one():
    """Whatever the settings' own weights are: only the point that has them is the pipeline's own."""
    rows, _ = made("terms", "loss.pseudo_3d=0")
    assert [key for key, row in rows.items() if not row.prefix] == ["control", "2d"]
    assert "by_quality" not in rows  # nothing here knows a quality
    rows, names = made("terms", *CALIBRATED)
    assert rows["all"].prefix == ""
    assert rows["by_quality"].changes["loss"]["quality_power"] == 1
    assert kinds(names, "terms-3d") == ["retrain", "evaluate"]


def test_perfect_labels_need_videos_with_a_truth():
    given = ("data.ho3d.root=/d", "videos.root=/v", "videos.boxes=/b")
    with pytest.raises(InputError, match=r"leave videos\.root out"):
        made("labels", *given)


def test_some_rows_of_a_grid_may_be_made_alone():
    rows, names = made("terms", "study.grid=terms", "study.points=[2d,all]")
    assert list(rows) == ["all", "2d"]  # in the grid's order
    assert kinds(names, "terms-2d") == ["retrain", "evaluate"]
    assert not kinds(names, "terms-3d")
    everything, _ = made("labels", "study.grid=terms", "study.points=[2d]")  # of another grid
    assert "true_all" in everything
    with pytest.raises(InputError, match="terms has no row 'right' with these settings; it has control, all, 2d"):
        made("terms", "study.grid=terms", "study.points=[right]")


@pytest.mark.parametrize("given", ["study.points=[2d]", "study.points=[]"])
def test_rows_of_no_grid_are_refused(given):
    with pytest.raises(InputError, match=r"study\.points"):
        config_of(given)
