"""A dry run refuses what the run itself would find missing or wrong, in one message that names it."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest
from damage import edit_points, image_of, metas
from labelled import draw_world, write_teacher

from cluster.labelling import commits, units
from cluster.store import open_store
from hojoint import config as settings
from hojoint.hand.stand_in.model import save_model, stand_in_model
from jobs import bench, calibrate, evaluate, pipeline, pseudo_label, refilter, submit, train


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A world, a config file, a teacher, and a labelling run without units."""
    folder = tmp_path_factory.mktemp("place")
    world = draw_world(folder / "world", frames=2)
    write_teacher(world, folder / "teacher.pt")
    (folder / "config.yaml").write_text(json.dumps(settings.to_tree(world)))
    (folder / "junk").write_bytes(b"junk")
    fingerprint = units.fingerprint(world, "abc", units.hand_digest(world), units.Digests())
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
        (evaluate, ["evaluate.checkpoint=PLACE/junk"], "junk (4 bytes) is not a complete torch checkpoint"),
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
        (
            submit,
            ["submit.job=retrain", "cluster.address=http://127.0.0.1:8265", "output=s3://bucket/student"],
            "'data.pseudo.labels' is needed",
        ),
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
        (calibrate, ["output=PLACE/c", "teacher.checkpoint=PLACE/teacher.pt", "calibrate.stride=1"], "would label"),
        (refilter, ["output=PLACE/r", "data.pseudo.labels=PLACE/labels"], "source"),
        (bench, ["training"], "on 4 images"),
        (bench, ["labelling"], "videos of"),
    ],
)
def test_a_dry_run_lists_what_it_has_opened(job, given, said, place, capsys):
    assert dry(job, place, *given) == 0
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    ("job", "given"),
    [
        (evaluate, ["evaluate.checkpoint=PLACE/teacher.pt"]),
        (calibrate, ["output=PLACE/c", "teacher.checkpoint=PLACE/teacher.pt", "calibrate.stride=1"]),
        (refilter, ["output=PLACE/r", "data.pseudo.labels=PLACE/labels"]),
        (
            pseudo_label,
            [
                *("output=PLACE/p", "teacher.checkpoint=PLACE/teacher.pt", "videos.boxes=PLACE/world/something/boxes"),
                "videos.root=PLACE/world/something/20bn-something-something-v2",
            ],
        ),
    ],
)
def test_settings_that_a_checkpoint_replaces_are_noted(job, given, place, capsys):
    assert dry(job, place, *given) == 0
    assert "replace those of" not in capsys.readouterr().out
    assert dry(job, place, *given, "crop.context=1.7", "model.width=16") == 0
    said = capsys.readouterr().out
    assert "crop.context=1.7 (the " in said
    assert said.count("replace those of the command line") == 1
    assert job is refilter or "model.width=16 (the checkpoint has 8)" in said


def test_a_hand_model_that_a_checkpoint_replaces_is_noted(place, capsys):
    save_model(stand_in_model(), place / "MANO_RIGHT.pkl")
    given = ["evaluate.checkpoint=PLACE/teacher.pt", "mano.path=PLACE/MANO_RIGHT.pkl"]
    assert dry(evaluate, place, *given) == 0
    assert "MANO_RIGHT.pkl (the checkpoint has null)" in capsys.readouterr().out


def test_only_given_settings_count_as_replaced(place, capsys):
    (place / "few.yaml").write_text("crop: {context: 1.7}\n")
    world = [f"data.ho3d.root={place}/world/HO3D_v2", f"data.ho3d.object_models={place}/world/object_models"]
    arguments = ["--config", str(place / "few.yaml"), f"evaluate.checkpoint={place}/teacher.pt", *world, "--dry-run"]
    assert evaluate.main(arguments) == 0
    said = capsys.readouterr().out
    assert "config file: crop.context=1.7 (the checkpoint has 1.5)\n" in said


@pytest.fixture
def copy(place, tmp_path):
    """The world of HO-3D, to be damaged, and the arguments that name it."""
    shutil.copytree(place / "world", tmp_path / "world")
    root = tmp_path / "world" / "HO3D_v2"
    return root, [
        f"output={tmp_path / 'out'}",
        f"data.ho3d.root={root}",
        f"data.ho3d.object_models={root.parent}/object_models",
    ]


def test_a_dry_run_looks_at_every_listed_file(copy, place, capsys):
    root, arguments = copy
    assert dry(train, place, *arguments) == 0
    said = capsys.readouterr().out
    assert "listed 4, sequences 2, left out 0, missing 0, used 4, compared 4, segmentations 4" in said
    paths = metas(root)
    image_of(paths[1]).unlink()
    paths[3].unlink()
    for job in (train, pipeline_of(root)):
        assert dry(job, place, *arguments) == 2
        error = capsys.readouterr().err
        assert "Traceback" not in error
        assert "data.ho3d.missing=leave_out to drop and count them" in error
        for path in (paths[1], paths[3]):
            assert path.parent.parent.name in error
    assert dry(train, place, *arguments, "data.ho3d.missing=leave_out") == 0
    said = capsys.readouterr().out
    assert "note: 2 of the 4 frames of train.txt cannot be used (1 without image, 1 without meta file" in said
    assert "data set ho3d: 2 samples" in said


def pipeline_of(root):
    """jobs.pipeline with the videos beside the labelled set."""
    folder = root.parent / "something"
    videos = [f"videos.root={folder / '20bn-something-something-v2'}", f"videos.boxes={folder / 'boxes'}"]
    return SimpleNamespace(main=lambda argv: pipeline.main([*argv[:-1], *videos, argv[-1]]))


def test_a_job_stops_before_it_starts_on_wrong_labels(copy, place, capsys):
    root, arguments = copy
    edit_points(root.parent / "object_models", lambda points: 1.5 * points)
    for job in (train, pipeline_of(root)):
        assert dry(job, place, *arguments) == 2
        error = capsys.readouterr().err
        assert "another object's model or one of another scale" in error
        assert error.rstrip().endswith("If the labels are right all the same, set data.ho3d.checks=note")
    assert dry(train, place, *arguments, "data.ho3d.checks=note") == 0
    assert "another scale" in capsys.readouterr().out


def test_missing_files_are_refused_whatever_the_checks_say(copy, place, capsys):
    root, arguments = copy
    metas(root)[0].unlink()
    assert dry(train, place, *arguments, "data.ho3d.checks=note") == 2
    assert "data.ho3d.checks" not in capsys.readouterr().err
