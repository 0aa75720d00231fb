"""A dry run refuses what the run itself would find missing or wrong, in one message that names it."""

from __future__ import annotations

import json

import pytest
from labelled import draw_world, write_teacher

from cluster.labelling import commits, units
from cluster.store import open_store
from hojoint import config as settings
from jobs import bench, calibrate, evaluate, refilter, submit


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A world, a config file, a teacher, and a labelling run without units."""
    folder = tmp_path_factory.mktemp("place")
    world = draw_world(folder / "world", frames=2)
    write_teacher(world, folder / "teacher.pt")
    (folder / "config.yaml").write_text(json.dumps(settings.to_tree(world)))
    (folder / "junk").write_bytes(b"junk")
    fingerprint = units.fingerprint(world, "abc", units.hand_digest(world), [])
    commits.open_run(
        open_store(str(folder / "labels")), fingerprint, {"units": 0, "videos": 0, "config": settings.to_tree(world)}
    )
    return folder


def dry(job, place, *arguments):
    words = [argument.replace("PLACE", str(place)) for argument in arguments]
    at = 1 if job is bench else 0
    return job.main([*words[:at], "--config", str(place / "config.yaml"), *words[at:], "--dry-run"])


@pytest.mark.parametrize(
    ("job", "given", "said"),
    [
        (evaluate, ["evaluate.checkpoint=/nowhere.pt"], "cannot read /nowhere.pt"),
        (evaluate, ["evaluate.checkpoint=PLACE/junk"], "junk (4 bytes) is not a whole torch checkpoint"),
        (evaluate, ["score.predictions=/nowhere.json", "score.truth=PLACE/world/HO3D_v2"], "/nowhere.json"),
        (
            calibrate,
            ["output=PLACE/c", "calibrate.predictions=/nowhere", "calibrate.truth=/nowhere.parquet"],
            "no labels at /nowhere",
        ),
        (
            calibrate,
            ["output=PLACE/c", "calibrate.predictions=PLACE/labels", "calibrate.truth=/none.parquet"],
            "cannot read /none.parquet",
        ),
        (
            calibrate,
            ["output=PLACE/c", "calibrate.predictions=PLACE/labels", "calibrate.truth=PLACE/junk"],
            "not a parquet file",
        ),
        (calibrate, ["output=PLACE/c", "teacher.checkpoint=/nowhere.pt"], "cannot read /nowhere.pt"),
        (refilter, ["output=PLACE/r", "data.pseudo.labels=PLACE/labels", "videos.root=/nowhere"], "videos in /nowhere"),
        (bench, ["labelling", "videos.root=PLACE"], "videos.boxes=FILE_OR_DIR"),
        (bench, ["labelling", "videos.boxes=PLACE"], "videos.root=DIR"),
        (
            bench,
            ["labelling", "videos.root=/nowhere", "videos.boxes=PLACE/world/something/boxes"],
            "videos in /nowhere",
        ),
        (bench, ["training", "data.ho3d.root=/nowhere"], "/nowhere"),
        (submit, ["submit.job=status", "cluster.address=banana"], "found 'banana'"),
    ],
)
def test_a_dry_run_refuses_what_is_missing(job, given, said, place, capsys):
    assert dry(job, place, *given) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("job", "given", "said"),
    [
        (evaluate, ["evaluate.checkpoint=PLACE/teacher.pt"], "weights"),
        (calibrate, ["output=PLACE/c", "teacher.checkpoint=PLACE/teacher.pt"], "would label"),
        (refilter, ["output=PLACE/r", "data.pseudo.labels=PLACE/labels"], "source"),
        (bench, ["training"], "on 4 images"),
        (bench, ["labelling"], "videos of"),
    ],
)
def test_a_dry_run_lists_what_it_has_opened(job, given, said, place, capsys):
    assert dry(job, place, *given) == 0
    assert said in capsys.readouterr().out
