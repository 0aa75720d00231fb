"""A study's numbers: spread, paired differences, intervals, headroom; and their tables and figure."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import scipy.stats
from pipeline_jobs import hand

from hojoint.report import study as study_report
from jobs import study_summary
from jobs.grids import Point

POINTS = (
    Point("control", "control", "control"),
    Point("as_they_are", "as they are"),
    Point("true_kept", "true labels"),
    Point("gone", "nothing kept"),
)


def domains(error_mm):
    return {"freihand": {"images": 5, "hand": hand(error_mm), "object": None}}


def results(*errors):
    """One seed per (control, student, best)."""
    labels = {"frames": {"predicted": 200, "kept": 50}, "labels": {"precision": 0.8, "side_right": 0.9}}
    out = {}
    for seed, (control, student, best) in enumerate(errors):
        out[seed] = {
            "control": {"domains": domains(control)},
            "as_they_are": {"domains": domains(student), "labels": labels},
            "true_kept": {"domains": domains(best), "labels": None},
            "gone": {"domains": {}, "labels": None},
        }
    return out


def test_the_interval_of_a_mean_difference_is_students():
    before, after = {0: 10.0, 1: 11.0, 2: 12.0}, {0: 9.0, 1: 10.5, 2: 10.0}
    found = study_summary.paired(after, before)
    reference = scipy.stats.ttest_rel(list(after.values()), list(before.values())).confidence_interval(0.95)
    assert found["interval"] == pytest.approx([reference.low, reference.high])
    assert found["mean"] == pytest.approx(-3.5 / 3)
    assert study_summary.paired({0: 1.0}, {0: 2.0})["interval"] is None


def test_differences_are_paired_by_seed():
    grid = study_summary.of_grid("labels", POINTS, results((20, 18, 10), (30, 28, 20)))
    rows = {row["key"]: row["domains"] for row in grid["rows"]}
    student = rows["as_they_are"]["freihand"]["joints_mm"]
    assert student["minus control"] == {
        **{"mean": -2, "std": 0, "low": -2, "high": -2}, "seeds": 2, "interval": [-2, -2],
    }  # fmt: skip
    assert student["mean"] == 23
    assert student["values"] == {0: 18, 1: 28}
    assert "minus control" not in rows["control"]["freihand"]["joints_mm"]
    assert rows["gone"] == {}


def test_the_headroom_is_what_true_labels_would_give():
    grid = study_summary.of_grid("labels", POINTS, results((20, 18, 10), (30, 27, 20)))
    found = grid["headroom"]["joints_wrist_mm"]
    assert found["share"] == pytest.approx(0.25)  # 2.5 of 10 mm
    assert found["by_seed"] == {0: pytest.approx(0.2), 1: pytest.approx(0.3)}
    line = study_report.headline(grid)[0]
    assert "25% of the headroom" in line
    assert "student minus control -2.50 mm, true labels on its kept frames minus control -10.00 mm" in line


def test_without_headroom_no_share_is_told():
    grid = study_summary.of_grid("labels", POINTS, results((20, 18, 21)))
    assert grid["headroom"]["joints_wrist_mm"]["share"] is None
    assert "no share can be told" in study_report.headline(grid)[0]
    assert "headroom" not in study_summary.of_grid("filters", POINTS, results((20, 18, 21)))


def test_labels_are_told_in_per_cent_of_the_frames_predicted():
    measured = {"frames": {"predicted": 200, "kept": 50}, "labels": {"precision": 0.8}, "clips": {"side_right": 0.5}}
    flat = study_summary.flat_labels(measured)
    assert (flat["yield"], flat["precision"], flat["clips_side_right"], flat["side_right"]) == (25, 80, 50, None)
    assert study_summary.flat_labels({"frames": {"predicted": 0, "kept": 0}})["yield"] is None


def test_labels_that_training_reads_are_told_beside_kept_frames():
    """With filled frames they are more, without pictures fewer; earlier versions tell them where the truth is known."""
    measured = {"frames": {"predicted": 200, "kept": 50, "labels": 61}, "labels": {"frames": 61, "precision": 0.8}}
    row = {"domains": domains(9.0), "labels": measured}
    headers, body = list(study_report.tables(one_row(row)).values())[-1]
    assert (headers[1:3], body[0][1:4]) == (["labels", "frames kept"], ["61", "50", "25.0"])
    assert (
        study_summary.flat_labels({"frames": {"predicted": 200, "kept": 50}, "labels": {"frames": 49}})["labels"] == 49
    )
    headers, _ = list(study_report.tables(one_row(row | {"labels": {"frames": {"predicted": 9, "kept": 3}}})).values())[
        -1
    ]
    assert headers[1] == "frames kept"


def one_row(row):
    return study_summary.of_grid("terms", [Point("all", "all")], {0: {"all": row, "control": {"domains": {}}}})


def test_tables_show_ours_the_difference_and_the_labels():
    grid = study_summary.of_grid("labels", POINTS, results((20, 18, 10), (30, 27, 20)))
    made = study_report.tables(grid)
    scores, differences, labels = made.values()
    column = scores[0].index("PA-MPJPE")
    assert [row[column] for row in scores[1]] == ["25.00 ± 7.07", "22.50 ± 6.36", "15.00 ± 7.07", "-"]
    assert differences[1][1][column].startswith("-2.50 [")
    assert labels[1][1][1:4] == ["50 ± 0", "25.0 ± 0.0", "80.0 ± 0.0"]


def test_the_papers_numbers_stand_beside_ours():
    rows = (Point("no_spatial", "no spatial rule"), Point("none", "no rule"))
    found = {0: {key: {"domains": {"ho3d": {"images": 1, "hand": hand(9.0)}, **domains(9.0)}}
                 for key in ("control", "no_spatial", "none")}}  # fmt: skip
    made = list(study_report.tables(study_summary.of_grid("filters", rows, found)).values())
    headers, body = made[0]
    assert body[0][headers.index("PA-MPJPE, paper")] == "10.3"
    assert body[1][headers.index("PA-MPJPE, paper")] == "-"
    headers, body = made[2]
    assert body[1][headers.index("AUC (%), paper, FPHA")] == "74.9"


def test_out_of_domain_rounds_stand_beside_freihand():
    row = {"domains": domains(9.0)}
    rows = (Point("0", "teacher", "teacher"), Point("1", "round 1"), Point("2", "round 2"))
    grid = study_summary.of_grid("rounds", rows, {0: dict.fromkeys(("control", "0", "1", "2"), row)})
    headers, body = next(iter(study_report.tables(grid).values()))
    assert [line[headers.index("AUC (%), paper, FreiHAND")] for line in body] == ["69.1", "70.6", "-"]


def test_the_figure_shows_every_point():
    grid = study_summary.of_grid("labels", POINTS, results((20, 18, 10), (30, 27, 20)))
    png = study_report.draw(grid)
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[1] > 600
    assert study_report.draw(grid) == png
    fewer = study_report.draw(grid | {"rows": grid["rows"][:-1]})
    assert cv2.imdecode(np.frombuffer(fewer, np.uint8), cv2.IMREAD_COLOR).shape[0] < picture.shape[0]
