"""jobs.train and jobs.retrain: one function, other data; wrong input ends with 2 and one message."""

from __future__ import annotations

import dataclasses
import json

import pyarrow as pa
import pytest
from labelled import draw_world
from made_tables import row

from cluster.labelling import commits, units
from cluster.labelling.counts import Counts
from cluster.store import open_store
from cluster.training import job as training_job
from hojoint import config as settings
from hojoint.hand.stand_in.model import save_model, stand_in_model
from hojoint.labelling import tables
from hojoint.model import checkpoint
from hojoint.model.network import HOJoint
from jobs import retrain, train

pytestmark = pytest.mark.slow  # seconds each: files, videos or processes


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return draw_world(tmp_path_factory.mktemp("world"), frames=2)


@pytest.fixture
def labels(tmp_path):
    """A labelling output of one unit with three pseudo-labels, and garbage that no commit names."""
    store = open_store(str(tmp_path / "labels"))
    fingerprint = units.fingerprint(settings.Config(), "abc", units.hand_digest(settings.Config()), units.Digests())
    commits.open_run(store, fingerprint, {"units": 1})
    rows = [row("1-a", frame, flipped=False) for frame in (1, 2, 3)]
    kept = pa.Table.from_pylist(rows, schema=tables.PSEUDO_LABELS_SCHEMA)
    empty = {
        "predictions": tables.PREDICTIONS_SCHEMA.empty_table(),
        "quarantine": commits.QUARANTINE_SCHEMA.empty_table(),
    }
    commits.commit(
        store, "u00000", "attempt", {"pseudo_labels": kept, **empty}, counts=Counts(), started=0.0, seconds={}
    )
    store.put("pseudo_labels/garbage.parquet", b"not parquet")
    return store.root


def config_file(tmp_path, world, **changes):
    tree = settings.to_tree(world) | changes
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(tree))
    return str(path)


def test_retraining_adds_the_committed_labels_to_its_parents(world, labels, tmp_path, capsys):
    path = config_file(tmp_path, world, output=str(tmp_path / "student"))
    assert retrain.main(["--config", path, f"data.pseudo.labels={labels}", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "data set ho3d: 4 samples" in said
    assert "data set pseudo: 3 samples" in said
    assert "6 steps of 4 samples, 2 an epoch" in said
    assert "teacher: abc" in said


def test_all_that_a_run_is_made_of_is_among_its_parents(world, labels, tmp_path):
    network = HOJoint(world.model)
    initial = tmp_path / "initial.pt"
    seen = training_job.plan_job(world).parents["seen"]
    initial.write_bytes(checkpoint.save(network, world, progress={}, parents={"seen": seen}))
    data = {"data": {"pseudo": {"labels": labels}}}
    both = settings.changed(world, train={"datasets": ["ho3d", "pseudo"], "init_checkpoint": str(initial)}, **data)
    job = training_job.plan_job(both)
    assert job.parents == {
        "teacher": "abc",
        "labels": settings.digest(commits.read_run(open_store(labels))["fingerprint"]),
        "data": job.data.fingerprints(),
        "seen": seen,
        "init_checkpoint": checkpoint.weights_sha256(network.state_dict()),
    }
    assert set(job.parents["data"]) == {"hand model", "ho3d", "ho3d objects", "pseudo"}
    assert list(training_job.plan_job(world).parents) == ["data", "seen"]


@pytest.mark.parametrize(
    ("facts", "makers"),
    [({}, "jobs.pseudo_label, a pipeline or a study"), ({"refiltered": "labels"}, "jobs.refilter or a study")],
)
def test_incomplete_labels_are_refused(world, labels, tmp_path, capsys, facts, makers):
    store = open_store(labels)
    store.put(commits.RUN, json.dumps(commits.read_run(store) | {"units": 3} | facts).encode())
    path = config_file(tmp_path, world, output=str(tmp_path / "student"))
    assert retrain.main(["--config", path, f"data.pseudo.labels={labels}", "--dry-run"]) == 2
    assert f"1 of 3 units are committed. Repeat the command that made it ({makers})" in capsys.readouterr().err


def test_weights_by_a_quality_that_no_label_has_are_refused(world, labels, tmp_path, capsys):
    path = config_file(tmp_path, world, output=str(tmp_path / "student"))
    words = ["--config", path, f"data.pseudo.labels={labels}", "loss.quality_power=1", "--dry-run"]
    assert retrain.main(words) == 2
    assert f"weighs labels by their quality, and those at {labels} have none" in capsys.readouterr().err
    store = open_store(labels)
    run = commits.read_run(store)
    run["fingerprint"]["quality_model"] = "of a model"
    store.put(commits.RUN, json.dumps(run).encode())
    assert retrain.main(words) == 0


def test_labels_of_another_hand_model_are_refused(world, labels, tmp_path, capsys):
    path = config_file(tmp_path, world, output=str(tmp_path / "student"))
    model = stand_in_model()
    save_model(dataclasses.replace(model, v_template=1.2 * model.v_template), tmp_path / "MANO_RIGHT.pkl")
    other = ["train.datasets=[pseudo]", f"mano.path={tmp_path / 'MANO_RIGHT.pkl'}"]
    assert retrain.main(["--config", path, f"data.pseudo.labels={labels}", *other, "--dry-run"]) == 2
    assert "poses of another hand model" in capsys.readouterr().err


def test_settings_of_a_pipelines_student_are_noted(world, labels, tmp_path, capsys):
    path = config_file(tmp_path, world, output=str(tmp_path / "student"))
    words = ["--config", path, f"data.pseudo.labels={labels}", "--dry-run"]
    assert retrain.main([*words, "student.epochs=3", "student.from_teacher=true"]) == 0
    assert "note: student.from_teacher, student.epochs have no effect here" in capsys.readouterr().out
    assert retrain.main(words) == 0
    assert "student." not in capsys.readouterr().out


def test_labels_of_other_fingertips_are_refused(world, labels, tmp_path, capsys):
    path = config_file(tmp_path, world, output=str(tmp_path / "student"))
    words = ["--config", path, f"data.pseudo.labels={labels}", "mano.fingertips=smplx", "--dry-run"]
    assert retrain.main(words) == 2
    error = capsys.readouterr().err
    assert "have the fingertips of mano.fingertips=ho3d_v2, and this training has mano.fingertips=smplx" in error


def test_steps_in_the_place_of_epochs_are_noted(world, tmp_path, capsys):
    path = config_file(tmp_path, world, output=str(tmp_path / "out"))
    assert train.main(["--config", path, "train.steps=5", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "note: train.steps=5 sets the length of training; train.epochs=3 only sets how often" in said
    assert "5 steps of 4 samples" in said


def test_a_set_that_is_given_and_not_trained_on_is_noted(world, tmp_path, capsys):
    path = config_file(tmp_path, world, output=str(tmp_path / "out"))
    (tmp_path / "training_xyz.json").touch()
    assert train.main(["--config", path, f"data.freihand.root={tmp_path}", "--dry-run"]) == 0
    said = "note: data.freihand.root is given and not trained on; to train on it: train.datasets=[ho3d,freihand]"
    assert said in capsys.readouterr().out


def test_missing_segmentations_are_one_note_before_the_work(world, tmp_path, capsys):
    path = config_file(tmp_path, world, output=str(tmp_path / "out"))
    assert train.main(["--config", path, "--dry-run"]) == 0
    assert "note:" not in capsys.readouterr().out
    (tmp_path / "HO3D").symlink_to(world.data.ho3d.root)
    assert train.main(["--config", path, f"data.ho3d.root={tmp_path}/HO3D", "--dry-run"]) == 0
    assert capsys.readouterr().out.count(f"note: found no {tmp_path}/HO3D_segmentations_rendered/train") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["output="], "'output' is needed"),
        (["data.ho3d.root=/nowhere"], "no /nowhere/train.txt"),
        (["train.epochs=0"], "train.epochs"),
        (["train.epoch=3"], "did you mean 'train.epochs'"),
        (["train.init_checkpoint=/nowhere.pt"], "train.init_checkpoint=/nowhere.pt: cannot read"),
        (["cluster.workers=[4,4]"], "cannot hold this job"),
    ],
)
def test_wrong_input_is_one_message_and_exit_code_2(world, tmp_path, capsys, arguments, message):
    path = config_file(tmp_path, world, output=str(tmp_path / "out"))
    assert train.main(["--config", path, *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said


def test_retraining_without_labels_asks_for_them(world, tmp_path, capsys):
    path = config_file(tmp_path, world, output=str(tmp_path / "out"))
    assert retrain.main(["--config", path]) == 2
    assert "data.pseudo.labels" in capsys.readouterr().err
    assert retrain.main(["--config", path, f"data.pseudo.labels={tmp_path}"]) == 2
    assert "no run.json" in capsys.readouterr().err
