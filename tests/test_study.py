"""A study of a grid: points share the pipeline's stages, and a stopped study goes on. The jobs are stand-ins."""

from __future__ import annotations

import json

import pytest
from pipeline_jobs import quality_file, stand_in_jobs

from cluster import locks
from hojoint.config import Config, changed
from hojoint.errors import InputError
from jobs import own_data, pipeline, study

SMALL = ["synthetic.wild_videos=4", "train.steps=7", "study.seeds=[3,4]"]
CALIBRATED = ["calibrate.enabled=true", "train.held_out=2"]
DRAW = study.study_report.draw


@pytest.fixture
def jobs(monkeypatch):
    """The jobs stand in, and so do the figures: each run draws every grid anew."""
    monkeypatch.setattr(study.study_report, "draw", lambda grid: f"figure of {grid['title']}".encode())
    return stand_in_jobs(monkeypatch)


@pytest.fixture
def drawing(jobs, monkeypatch):
    """The figures are drawn after all."""
    monkeypatch.setattr(study.study_report, "draw", DRAW)


def run(output, *overrides):
    return study.main([f"output={output}", *SMALL, *overrides])


def test_points_run_beside_one_pipeline_per_seed(jobs, drawing, tmp_path, capsys):
    assert run(tmp_path, "study.grid=labels") == 0
    assert jobs.names.count("pseudo_label") == 2  # one per seed, whatever the points
    assert jobs.names.count("refilter") == 2
    assert jobs.under("labels-right") == ["oracle", "train", "evaluate"] * 2
    steps = {config.train.steps for name, config in jobs.calls if name == "train" and "/points/" in config.output}
    assert steps == {14}  # the stand-in's first student
    found = json.loads((tmp_path / "study.json").read_text())["grids"]["labels"]
    rows = {row["key"]: row for row in found["rows"]}
    assert rows["true_all"]["domains"]["freihand"]["joints_mm"]["mean"] == 18.5
    assert rows["as_they_are"]["labels"]["precision"]["mean"] == 50
    assert (tmp_path / "study_labels.png").read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "study.md").read_text()
    assert "## What better labels would be worth" in text
    assert "true labels on all predicted frames" in capsys.readouterr().out


@pytest.mark.parametrize("grid", ["labels", "filters", "refine"])
def test_points_of_a_pipeline_by_quality_have_its_model(jobs, tmp_path, grid):
    assert run(tmp_path, f"study.grid={grid}", *CALIBRATED, "filters.mode=quality", "study.seeds=[3]") == 0
    refiltered = [config.filters for name, config in jobs.calls if name == "refilter"]
    assert refiltered
    assert {rules.quality_model for rules in refiltered} == {f"{tmp_path}/seed-3/calibration/quality.json"}
    by_quality = [rules.min_quality for rules in refiltered if rules.mode == "quality"]
    assert by_quality == [0.7] * (len(by_quality) if grid != "refine" else len(refiltered))
    found = json.loads((tmp_path / "study.json").read_text())["grids"][grid]
    assert all(row["domains"] for row in found["rows"])


def test_a_stopped_study_loses_one_stage(jobs, tmp_path):
    jobs.fails_at = "refilter"
    assert run(tmp_path, "study.grid=labels") == 1
    before = list(jobs.names)
    jobs.fails_at = None
    assert run(tmp_path, "study.grid=labels") == 0
    seed = [config.output for _, config in jobs.calls if "seed-3/" in str(config.output)]
    again = [out for out in set(seed) if seed.count(out) > 1 and "evaluation" not in out]
    assert again == []
    assert jobs.names[: len(before)] == before
    done = len(jobs.calls)
    assert run(tmp_path, "study.grid=labels") == 0
    assert len(jobs.calls) == done


def test_a_stale_point_is_refused_before_the_pipeline_works(jobs, tmp_path, capsys):
    assert run(tmp_path, "study.grid=labels") == 0
    marker = tmp_path / "seed-3" / "stages" / "points" / "labels-right" / "oracle.json"
    content = json.loads(marker.read_text())
    marker.write_text(json.dumps(content | {"settings": content["settings"] | {"oracle": "side"}}))
    done = len(jobs.calls)
    assert run(tmp_path, "study.grid=labels", "evaluate.examples=3") == 2  # which the pipeline would measure again
    assert "oracle: side before, right now" in capsys.readouterr().err
    assert len(jobs.calls) == done


def test_an_oracle_is_told_apart_by_what_it_reads(jobs, tmp_path, capsys):
    """Markers of earlier versions held all of ``calibrate``; what no oracle reads makes no other labels."""
    asked = ["study.grid=labels", "study.points=[right]", "study.seeds=[3]"]
    assert run(tmp_path, *asked) == 0
    marker = tmp_path / "seed-3" / "stages" / "points" / "labels-right" / "oracle.json"
    content = json.loads(marker.read_text())
    marker.write_text(json.dumps(content | {"settings": content["settings"] | {"calibrate.precision": 0.8}}))
    assert run(tmp_path, *asked, "calibrate.precision=0.7", "calibrate.stride=3") == 0
    assert jobs.names.count("oracle") == 1
    capsys.readouterr()
    assert run(tmp_path, *asked, "calibrate.max_aligned_mm=5") == 2
    assert "calibrate.max_aligned_mm: 15.0 before, 5.0 now" in capsys.readouterr().err


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_a_model_of_other_thresholds_is_refused_at_once(jobs, tmp_path, capsys, dry):
    model = quality_file(tmp_path / "q.json", "shape_spread")
    asked = ["study.grid=filters", "study.seeds=[3]", model, "filters.min_box_iou=0.3", *dry]
    assert run(tmp_path / "out", *asked) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "point filters-quality could not be judged: filters.quality_model was fitted on clips" in said
    assert jobs.calls == []
    assert run(tmp_path / "out", *asked, "study.points=[printed]") == 0
    assert pipeline.main([f"output={tmp_path / 'one'}", model, "filters.min_box_iou=0.3", "filters.mode=quality"]) == 2


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_a_student_that_nothing_would_teach_is_refused_at_once(jobs, tmp_path, capsys, dry):
    asked = ["study.grid=share", "study.seeds=[3]", "model.side_head=true", "student.from_teacher=false", *dry]
    assert run(tmp_path / "out", *asked) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "student of the study's point share-1 could not be trained: model.side_head=true needs images" in said
    assert jobs.calls == []
    assert run(tmp_path / "out", *asked, "study.points=[0.25]") == 0


def test_grids_of_one_output_share_its_pipelines(jobs, tmp_path):
    assert run(tmp_path, "study.grid=labels") == 0
    done = len(jobs.calls)
    assert run(tmp_path, "study.grid=filters") == 0
    assert {name for name, _ in jobs.calls[done:]} == {"refilter", "train", "evaluate"}
    assert jobs.under("filters-none") == ["refilter", "refilter", "train", "evaluate", "train", "evaluate"]
    text = (tmp_path / "study.md").read_text()
    assert "(study_labels.png)" in text
    assert "(study_filters.png)" in text
    assert run(tmp_path, "study.seeds=[3,4,5]") == 0  # the third seed has no points
    text = (tmp_path / "study.md").read_text()
    assert text.startswith("# 3 seeds: 3, 4, 5")
    assert "## What better labels would be worth: seeds 3, 4\n" in text


def test_a_grid_on_some_seeds_is_written_beside_the_others(jobs, tmp_path, capsys):
    assert run(tmp_path, "study.seeds=[1,2,3]", "study.grid=terms", "study.points=[all,2d]") == 0
    assert run(tmp_path, "study.seeds=[3]", "study.grid=filters") == 0
    out = capsys.readouterr().out
    assert "Rules (Tables 4, 8): seed 3\n" in out
    assert out.count("written: ") == 2
    text = (tmp_path / "study.md").read_text()
    assert text.startswith("# 3 seeds: 1, 2, 3")
    assert "## Terms of the loss that pseudo-labels take part in: seeds 1, 2, 3\n" in text
    assert "## Rules (Tables 4, 8): seed 3\n" in text
    assert (tmp_path / "study_filters.png").exists()
    found = json.loads((tmp_path / "study.json").read_text())
    assert (list(found["seeds"]), found["grids"]["filters"]["seeds"]) == (["1", "2", "3"], [3])
    done = len(jobs.calls)
    assert run(tmp_path, "study.seeds=[1,2,3]") == 0
    assert (len(jobs.calls), (tmp_path / "study.md").read_text()) == (done, text)


def test_a_row_that_some_seeds_have_tells_which(jobs, drawing, tmp_path, capsys):
    assert run(tmp_path, "study.grid=labels", "study.points=[right]") == 0
    assert run(tmp_path, "study.grid=labels", "study.points=[side]", "study.seeds=[4]") == 0
    rows = json.loads((tmp_path / "study.json").read_text())["grids"]["labels"]["rows"]
    assert {row["key"]: row["seeds"] for row in rows if row["key"] in ("right", "side")} == {
        "right": [3, 4],
        "side": [4],
    }
    text = (tmp_path / "study.md").read_text()
    assert "Rows that not every seed has: true labels where the side is wrong (seed 4)." in text
    assert "(1 of 2 seeds)" in text


@pytest.mark.parametrize(
    ("grid", "rows"),
    [("rounds", "[1]"), ("rounds", "[0,1,2]"), ("labels", "[control,as_they_are]"), ("fraction", "[1]")],
)
def test_rows_that_are_the_pipelines_own_may_be_all(jobs, tmp_path, grid, rows):
    assert run(tmp_path, f"study.grid={grid}", f"study.points={rows}") == 0
    made = json.loads((tmp_path / "study.json").read_text())["grids"][grid]["rows"]
    assert [row["key"] for row in made if row["key"] in rows] == rows.strip("[]").split(",")
    text = (tmp_path / "study.md").read_text()
    assert run(tmp_path) == 0
    assert (tmp_path / "study.md").read_text() == text  # what was asked for stays


def test_rows_that_are_complete_stay_whatever_is_asked_next(jobs, tmp_path, capsys):
    assert run(tmp_path, "study.grid=labels", "study.points=[right]") == 0
    assert run(tmp_path, "study.grid=filters", "study.points=[none,printed]") == 0
    assert run(tmp_path, "study.grid=labels", "study.points=[true_kept]") == 0
    found = json.loads((tmp_path / "study.json").read_text())["grids"]
    own = {name: {row["key"] for row in grid["rows"]} for name, grid in found.items()}
    assert {"right", "true_kept"} <= own["labels"]
    assert {"side", "true_all"}.isdisjoint(own["labels"])
    assert own["filters"] == {"none", "printed"}
    assert set(found) == {"labels", "filters"}  # the pipeline's own rows are no grid
    text = (tmp_path / "study.md").read_text()
    assert "Rows that no seed has: true labels where the side is wrong, true labels on all predicted frames." in text
    done = len(jobs.calls)
    assert run(tmp_path, "study.grid=labels") == 0
    assert {name for name, _ in jobs.calls[done:]} == {"oracle", "train", "evaluate"}
    assert "left_out" in json.loads((tmp_path / "study.json").read_text())["grids"]["filters"]
    assert json.loads((tmp_path / "study.json").read_text())["grids"]["labels"]["left_out"] == []


def test_a_point_that_keeps_nothing_is_a_row_without_numbers(jobs, drawing, tmp_path):
    jobs.kept = {"filters-no_spatial": 0}
    assert run(tmp_path, "study.grid=filters") == 0
    assert jobs.under("filters-no_spatial") == ["refilter"] * 2
    found = json.loads((tmp_path / "study.json").read_text())["grids"]["filters"]
    row = next(row for row in found["rows"] if row["key"] == "no_spatial")
    assert row["domains"] == {}
    assert row["labels"]["kept"]["mean"] == 0


def test_rounds_stay_when_another_grid_follows(jobs, tmp_path):
    assert run(tmp_path, "study.grid=rounds") == 0
    labelled = [config for name, config in jobs.calls if name == "pseudo_label" and "seed-3/" in config.output]
    assert [config.output.rpartition("/")[2] for config in labelled] == ["labels", "labels-2", "labels-3"]
    assert labelled[2].teacher.checkpoint == f"{tmp_path}/seed-3/student-2/checkpoint.pt"
    rows = json.loads((tmp_path / "study.json").read_text())["grids"]["rounds"]["rows"]
    assert [row["domains"]["freihand"]["joints_mm"]["mean"] for row in rows] == [23.5, 18.5, 18.5, 18.5]
    done = len(jobs.calls)
    assert run(tmp_path, "study.grid=fraction") == 0
    assert not {name for name, _ in jobs.calls[done:]} & {"pseudo_label", "synthesize"}
    assert "study_rounds.png" in (tmp_path / "study.md").read_text()


def test_calibrated_points_take_what_it_proposes(jobs, tmp_path):
    assert run(tmp_path, "study.grid=filters", *CALIBRATED) == 0
    filters = {
        config.output.partition("/points/")[2].partition("/")[0]: config.filters
        for name, config in jobs.calls
        if name == "refilter"
    }
    assert filters["filters-quality"].min_quality == 0.7
    assert filters["filters-printed"].max_reprojection == 0.65
    assert all(found.quality_model.endswith("/calibration/quality.json") for found in filters.values())
    base = next(config for name, config in jobs.calls if name == "pseudo_label")
    assert base.filters.max_reprojection == 0.25


def test_without_a_proposal_a_point_keeps_nothing(jobs, tmp_path, monkeypatch, capsys):
    leave = jobs.leave

    def without(name, config):
        leave(name, config)
        if name == "calibrate":
            path = tmp_path / config.output / "calibration.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), "proposed": None}))

    monkeypatch.setattr(jobs, "leave", without)
    assert run(tmp_path, "study.grid=filters", *CALIBRATED, "filters.mode=quality") == 0
    assert "note: calibration found no thresholds" in capsys.readouterr().out
    assert jobs.under("filters-calibrated") == []


def test_processes_may_share_the_seeds_and_not_one_seed(jobs, tmp_path, capsys):
    assert run(tmp_path, "study.grid=fraction", "study.seeds=[4]") == 0
    with locks.alone(tmp_path / "seed-3", "runs this seed", wait=False):
        assert run(tmp_path, "study.grid=fraction") == 2
        assert "another process runs this seed" in capsys.readouterr().err
    assert run(tmp_path, "study.grid=fraction", "study.seeds=[3]") == 0
    done = len(jobs.calls)
    assert run(tmp_path, "study.grid=fraction") == 0
    assert len(jobs.calls) == done
    assert json.loads((tmp_path / "study.json").read_text())["grids"]["fraction"]["seeds"] == [3, 4]


def test_a_dry_run_lists_the_points_and_writes_nothing(jobs, tmp_path, capsys):
    assert run(tmp_path, "study.grid=labels", "--dry-run") == 0
    assert "points/labels-true_all/retrain" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given", ["synthetic.seed=7", "world=somewhere"])
def test_worlds_of_their_own_have_no_common_name(jobs, tmp_path, capsys, given):
    assert run(tmp_path, "study.own_worlds=true", given) == 2
    assert f"and {given.partition('=')[0]} names one" in capsys.readouterr().err
    assert jobs.calls == []


def test_worlds_of_their_own_beside_given_data_are_refused(jobs, tmp_path, capsys):
    data = ["data.ho3d.root=/d", "videos.root=/v", "videos.boxes=/b"]
    assert run(tmp_path, "study.own_worlds=true", *data, "--dry-run") == 2
    assert "with your own data none is drawn; leave study.own_worlds out" in capsys.readouterr().err
    assert jobs.calls == []


def test_a_hidden_world_per_seed_is_not_told_to_be_one():
    config = changed(Config(), output="s3://b/study", study={"own_worlds": True})
    with pytest.raises(InputError, match=r"do not see it\. Give output=DIR, a folder") as told:
        own_data.refuse_hidden_world(config, "study")
    assert "world=DIR" not in str(told.value)
    assert "your own data" not in str(told.value)


def test_fewer_seeds_do_not_replace_what_is_told_of_more(jobs, tmp_path, capsys):
    assert run(tmp_path) == 0
    before = (tmp_path / "study.md").read_text()
    assert before.startswith("# 2 seeds: 3, 4")
    assert run(tmp_path, "study.seeds=[4]") == 0
    assert (tmp_path / "study.md").read_text() == before
    capsys.readouterr()
    assert run(tmp_path, "study.seeds=[4]", "calibrate.max_aligned_mm=5") == 0  # which the other seed does not have
    out = capsys.readouterr().out
    assert "study.md stays as it is: its seeds 3 are not complete with these settings" in out
    assert "with study.seeds=[3,4] and without study.grid completes them" in out
    assert "written" not in out
    assert "±" not in out  # of one seed nothing is known
    assert (tmp_path / "study.md").read_text() == before
    assert run(tmp_path, "calibrate.max_aligned_mm=5") == 0
    assert "written" in capsys.readouterr().out


def test_what_a_right_label_is_makes_another_report(jobs, tmp_path):
    assert run(tmp_path) == 0
    done = len(jobs.calls)
    assert run(tmp_path, "calibrate.max_aligned_mm=5") == 0
    assert [name for name, _ in jobs.calls[done:]] == ["report"] * 2


@pytest.mark.parametrize(("content", "message"), [('{"eva', "is damaged"), ('{"a": 1}', "is damaged"), (None, None)])
@pytest.mark.parametrize("key", ["labels/report.json", "evaluation/student.json"])
def test_a_damaged_file_of_a_seed_is_one_sentence(jobs, tmp_path, capsys, key, content, message):
    assert run(tmp_path) == 0
    path = tmp_path / "seed-3" / key
    if content is None:
        path.unlink()
        assert run(tmp_path) in (0, 2)  # cheap results are made again, the others are asked for
        return
    path.write_text(content)
    capsys.readouterr()
    assert run(tmp_path) == 2
    told = capsys.readouterr().err
    assert message in told
    assert key in told


def test_a_lost_report_is_written_again(jobs, tmp_path):
    assert run(tmp_path) == 0
    (tmp_path / "seed-3" / "report.json").unlink()
    assert run(tmp_path) == 0
    assert (tmp_path / "seed-3" / "report.json").exists()
