"""Data belong to a stage's identity: not only changed settings are noticed, also changed data. Jobs are stand-ins."""

from __future__ import annotations

import json
import shutil

import pytest
from labelled import draw_world
from pipeline_jobs import stand_in_jobs
from test_ingest import written

from hojoint.hand.stand_in.model import save_model, stand_in_model
from jobs import pipeline

pytestmark = pytest.mark.slow  # seconds each: files, videos or processes

VIDEOS = "something/20bn-something-something-v2"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A small set of data in the real layouts, to be copied and changed."""
    folder = tmp_path_factory.mktemp("drawn") / "data"
    draw_world(folder, frames=2)
    return folder


@pytest.fixture
def data(drawn, tmp_path):
    return shutil.copytree(drawn, tmp_path / "data")


@pytest.fixture
def jobs(monkeypatch):
    return stand_in_jobs(monkeypatch)


def given(data):
    return [
        *(f"data.ho3d.root={data}/HO3D_v2", f"data.ho3d.object_models={data}/object_models"),
        *(f"videos.root={data}/{VIDEOS}", f"videos.boxes={data}/something/boxes"),
    ]


def run(output, data, *overrides):
    return pipeline.main([f"output={output}", "train.steps=7", *given(data), *overrides])


def change(data, pattern):
    """Add a byte to the file of a pattern; it may name the first listed training frame."""
    sequence, frame = (data / "HO3D_v2" / "train.txt").read_text().split()[0].split("/")
    path = next(data.glob(pattern.format(sequence=sequence, frame=frame)))
    path.write_bytes(path.read_bytes() + b" ")


def test_the_same_data_elsewhere_are_the_same(jobs, data, tmp_path, capsys):
    assert run(tmp_path / "out", data) == 0
    done = len(jobs.calls)
    moved = data.rename(tmp_path / "moved")
    assert run(tmp_path / "out", moved) == 0
    assert len(jobs.calls) == done
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "stage", "what"),
    [
        ("HO3D_v2/train/{sequence}/meta/{frame}.pkl", "train", "data of ho3d"),
        ("HO3D_v2/train/{sequence}/rgb/{frame}.*", "train", "data of ho3d"),
        ("HO3D_v2_segmentations_rendered/train/{sequence}/seg/{frame}.*", "train", "data of ho3d objects"),
        (f"{VIDEOS}/*", "pseudo_label", "data of videos"),
    ],
)
def test_changed_data_of_an_expensive_stage_are_refused(jobs, data, tmp_path, capsys, name, stage, what):
    assert run(tmp_path / "out", data) == 0
    done = len(jobs.calls)
    change(data, name)
    assert run(tmp_path / "out", data) == 2
    error = capsys.readouterr().err
    assert f"stage '{stage}'" in error
    assert what in error
    assert len(jobs.calls) == done


def test_changed_boxes_and_objects_are_refused(jobs, data, tmp_path, capsys):
    assert run(tmp_path / "out", data) == 0
    boxes = max((data / "something" / "boxes").glob("*.json"), key=lambda path: path.stat().st_size)
    before = boxes.read_text()
    tree = json.loads(before)
    label = next(label for frames in tree.values() for frame in frames for label in frame["labels"])
    label["box2d"]["x1"] += 5
    boxes.write_text(json.dumps(tree))
    assert run(tmp_path / "out", data) == 2
    assert "data of videos" in capsys.readouterr().err
    boxes.write_text(before)
    points = next((data / "object_models").glob("*/points.xyz"))
    points.write_text(points.read_text() + "0.001 0.001 0.001\n")
    assert run(tmp_path / "out", data) == 2
    assert "data of ho3d objects" in capsys.readouterr().err


def test_another_labelled_set_or_other_videos_are_refused(jobs, data, tmp_path, capsys):
    assert run(tmp_path / "out", data) == 0
    other = tmp_path / "other"
    draw_world(other, frames=2, seed=9)
    assert run(tmp_path / "out", data, f"data.ho3d.root={other}/HO3D_v2") == 2
    assert "data of ho3d: 4 samples" in capsys.readouterr().err
    assert run(tmp_path / "out", data, f"videos.root={other}/{VIDEOS}", f"videos.boxes={other}/something/boxes") == 2
    assert "data of videos: 1 videos" in capsys.readouterr().err


def test_a_run_on_the_synthetic_world_is_not_one_on_given_data(jobs, data, tmp_path, capsys):
    assert pipeline.main([f"output={tmp_path / 'out'}", "train.steps=7"]) == 0
    assert run(tmp_path / "out", data) == 2
    error = capsys.readouterr().err
    assert "data of ho3d: synthetic" in error
    assert "result of synthesize" in error


def test_another_layout_of_the_world_is_refused(jobs, tmp_path, capsys):
    assert pipeline.main([f"output={tmp_path}", "train.steps=7"]) == 0
    assert pipeline.main([f"output={tmp_path}", "train.steps=7", "synthetic.ho3d_version=v3"]) == 2
    assert "synthetic.ho3d_version: v2 before, v3 now" in capsys.readouterr().err


def test_shards_without_the_other_data_are_refused(jobs, tmp_path, capsys):
    """A world that is drawn beside them would be measured on, and they would be in no stage's identity."""
    assert pipeline.main([f"output={tmp_path / 'out'}", "train.steps=7", "data.ho3d.shards=/shards"]) == 2
    said = "data.ho3d.shards given without data.ho3d.root and videos.root and videos.boxes: a pipeline takes"
    assert said in capsys.readouterr().err
    assert jobs.calls == []


def test_shards_beside_the_files_count_by_their_content(jobs, data, tmp_path, capsys):
    worlds = [draw_world(tmp_path / f"world{seed}", frames=2, seed=seed) for seed in (3, 9)]
    first, second = (written(world, tmp_path / f"shards{number}") for number, world in enumerate(worlds))
    assert run(tmp_path / "out", data, f"data.ho3d.shards={first}") == 0
    done = len(jobs.calls)
    copy = shutil.copytree(first, tmp_path / "copy")
    assert run(tmp_path / "out", data, f"data.ho3d.shards={copy}") == 0
    assert len(jobs.calls) == done
    assert run(tmp_path / "out", data, f"data.ho3d.shards={second}") == 2
    assert "data of ho3d: 4 samples" in capsys.readouterr().err


@pytest.mark.parametrize("own", [True, False])
def test_a_test_set_added_later_is_measured(jobs, data, tmp_path, own):
    arguments = [f"output={tmp_path / 'out'}", "train.steps=7", *(given(data) if own else [])]
    assert pipeline.main(arguments) == 0
    done = len(jobs.calls)
    added = f"data.freihand.root={data}/FreiHAND_pub_v2_eval"
    assert pipeline.main([*arguments, added]) == 0
    assert jobs.names[done:] == ["evaluate:teacher", "evaluate:student", "report"]
    assert jobs.calls[done][1].data.freihand.root == added.partition("=")[2]
    assert pipeline.main([*arguments, added]) == 0
    assert len(jobs.calls) == done + 3


@pytest.mark.parametrize("name", ["HO3D_v2/evaluation_xyz.json", "HO3D_v2/evaluation/*/meta/*.pkl"])
def test_a_changed_test_set_is_measured_again(jobs, data, tmp_path, name):
    assert run(tmp_path / "out", data) == 0
    done = len(jobs.calls)
    change(data, name)
    assert run(tmp_path / "out", data) == 0
    assert jobs.names[done:] == ["evaluate:teacher", "evaluate:student", "report"]


def test_measuring_again_leaves_no_former_scores(jobs, data, tmp_path):
    assert run(tmp_path / "out", data, "control=true") == 0
    examples = tmp_path / "out" / "evaluation" / "teacher_freihand_examples.npz"
    examples.write_bytes(b"of a test set that was given once")
    assert run(tmp_path / "out", data) == 0
    assert sorted(path.name for path in examples.parent.glob("[a-z]*")) == ["student.json", "teacher.json"]


def test_the_hand_model_counts_by_its_content(jobs, data, tmp_path, capsys):
    models = [tmp_path / f"{name}.pkl" for name in ("one", "same", "other")]
    for path in models[:2]:
        save_model(stand_in_model(), path)
    model = stand_in_model()
    save_model(type(model)(**{**vars(model), "v_template": 1.1 * model.v_template}), models[2])
    assert run(tmp_path / "out", data, f"mano.path={models[0]}") == 0
    done = len(jobs.calls)
    assert run(tmp_path / "out", data, f"mano.path={models[1]}") == 0
    assert len(jobs.calls) == done
    assert run(tmp_path / "out", data, f"mano.path={models[2]}") == 2
    assert "data of mano.path" in capsys.readouterr().err


def test_weights_to_start_from_count_by_their_content(jobs, data, tmp_path, capsys):
    weights = tmp_path / "weights.pt"
    weights.write_bytes(b"one")
    arguments = [tmp_path / "out", data, f"train.init_checkpoint={weights}"]
    assert run(*arguments) == 0
    weights.write_bytes(b"two")
    assert run(*arguments) == 2
    assert "data of train.init_checkpoint" in capsys.readouterr().err


def test_a_run_from_before_data_were_noted_is_measured_again(jobs, data, tmp_path, capsys):
    assert run(tmp_path / "out", data) == 0
    for path in (tmp_path / "out" / "stages").iterdir():
        marker = json.loads(path.read_text())
        del marker["data"]
        if path.stem != "evaluate":
            marker["settings"]["mano.path"] = None  # as they noted it
        path.write_text(json.dumps(marker))
    done = len(jobs.calls)
    assert run(tmp_path / "out", data) == 0
    assert jobs.names[done:] == ["evaluate:teacher", "evaluate:student", "report"]
    for path in (tmp_path / "out" / "stages").glob("train.json"):
        path.write_text(
            json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "data"})
        )
    save_model(stand_in_model(), tmp_path / "MANO_RIGHT.pkl")
    assert run(tmp_path / "out", data, f"mano.path={tmp_path / 'MANO_RIGHT.pkl'}") == 2
    assert "mano.path" in capsys.readouterr().err


def test_missing_data_are_refused_before_the_work(jobs, data, tmp_path, capsys):
    assert run(tmp_path / "out", data, "data.freihand.root=/nowhere") == 2
    assert "/nowhere" in capsys.readouterr().err
    assert jobs.calls == []


def test_a_measurement_that_fails_is_not_taken_for_done(jobs, data, tmp_path):
    freihand = f"data.freihand.root={data}/FreiHAND_pub_v2_eval"
    assert run(tmp_path / "out", data, freihand) == 0
    jobs.fails_at = "evaluate"
    assert run(tmp_path / "out", data, freihand, "evaluate.examples=3") == 1
    jobs.fails_at, done = None, len(jobs.calls)
    assert run(tmp_path / "out", data, freihand) == 0
    assert jobs.names[done:] == ["evaluate:teacher", "evaluate:student", "report"]


def test_a_broken_link_among_the_videos_is_no_traceback(jobs, data, tmp_path, capsys):
    video = next((data / VIDEOS).iterdir())
    video.unlink()
    video.symlink_to(tmp_path / "nowhere.webm")
    assert run(tmp_path / "out", data) == 0
    assert "Traceback" not in capsys.readouterr().err


def test_a_listed_frame_without_its_file_is_refused_by_name(jobs, data, tmp_path, capsys):
    sequence, frame = (data / "HO3D_v2" / "evaluation.txt").read_text().split()[0].split("/")
    (data / "HO3D_v2" / "evaluation" / sequence / "meta" / f"{frame}.pkl").unlink()
    assert run(tmp_path / "out", data) == 2
    error = capsys.readouterr().err
    assert (
        f"1 of the 2 frames of evaluation.txt cannot be used (1 without meta file; by sequence: {sequence} 1" in error
    )
    assert "set data.ho3d.missing=leave_out to drop and count them" in error
    assert "Traceback" not in error


@pytest.mark.parametrize("name", ["teacher.checkpoint", "evaluate.checkpoint", "data.pseudo.labels"])
def test_a_setting_that_a_pipeline_would_replace_is_refused(jobs, data, tmp_path, capsys, name):
    assert run(tmp_path / "out", data, f"{name}=/x") == 2
    assert f"error: {name}=/x: a pipeline trains its teacher" in capsys.readouterr().err


def test_data_that_an_earlier_version_noted_are_compared(jobs, data, tmp_path, capsys):
    assert run(tmp_path / "out", data) == 0
    for path in (tmp_path / "out" / "stages").iterdir():
        path.write_text(
            json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "data"})
        )
    facts = tmp_path / "out" / "teacher" / "training.json"
    parents = {"data": {"ho3d": "480 samples of another day"}}
    facts.write_text(json.dumps(json.loads(facts.read_text()) | {"parents": parents}))
    assert run(tmp_path / "out", data) == 2
    assert "data of ho3d: 480 samples of another day before" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("lost", "again"),
    [
        ("teacher/checkpoint.pt", "train:teacher"),
        ("evaluation/student.json", "evaluate:student"),
        ("report.html", "report"),
    ],
)
def test_a_stage_whose_product_is_gone_runs_again(jobs, data, tmp_path, lost, again):
    assert run(tmp_path / "out", data) == 0
    (tmp_path / "out" / lost).unlink()
    done = len(jobs.calls)
    run(tmp_path / "out", data)
    assert again in jobs.names[done:]


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_damaged_note_of_a_stage_is_one_message(jobs, data, tmp_path, capsys, content):
    assert run(tmp_path / "out", data) == 0
    (tmp_path / "out" / "stages" / "train.json").write_text(content)
    assert run(tmp_path / "out", data, "--dry-run") == 2
    assert "train.json is damaged" in capsys.readouterr().err


def test_frames_without_numbers_are_refused_before_training(jobs, data, tmp_path, capsys):
    """Calibration, after the teacher's training, needs to know which frames are neighbours."""
    root = data / "HO3D_v2"
    names = (root / "train.txt").read_text().split()
    for sequence, frame in (name.split("/") for name in names):
        for path in (root / "train" / sequence).glob(f"*/{frame}.*"):
            path.rename(path.with_name(f"frame_{path.name}"))
    (root / "train.txt").write_text("".join(f"{name.replace('/', '/frame_')}\n" for name in names))
    assert run(tmp_path / "plain", data) == 0
    done = len(jobs.calls)
    assert run(tmp_path / "out", data, "calibrate.enabled=true", "train.held_out=1") == 2
    error = capsys.readouterr().err
    assert "frames must be named by their numbers in time, as in MC1/0000; found " in error
    assert "/frame_0000 in the held_out split" in error
    assert len(jobs.calls) == done
