"""Everything that shapes a result is part of a run's identity by content, at the same path too."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest
import torch
from damage import edit_meta, edit_points, image_of, metas
from labelled import draw_world
from made_tables import row
from pipeline_jobs import stand_in_jobs
from test_freihand import write_training_set

from cluster.labelling import commits, units
from cluster.labelling.counts import Counts
from cluster.store import open_store
from cluster.training import job as training_job
from hojoint import config as settings
from hojoint.config import Config
from hojoint.datasets.freihand import FreiHAND
from hojoint.datasets.ho3d import HO3D
from hojoint.hand import identity as hand_identity
from hojoint.hand.stand_in.model import save_model, stand_in_model
from hojoint.labelling import tables
from hojoint.model.encoder import ResNet
from jobs import pipeline, retrain, train

pytestmark = pytest.mark.slow  # seconds each: files


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return draw_world(tmp_path_factory.mktemp("drawn"), frames=20)


@pytest.fixture
def world(drawn, tmp_path):
    """A copy with a MANO file beside it, and its settings."""
    folder = tmp_path / "world"
    shutil.copytree(drawn.world, folder)
    save_model(stand_in_model(), folder / "MANO_RIGHT.pkl")
    text = json.dumps(settings.to_tree(drawn)).replace(str(drawn.world), str(folder))
    return settings.changed(settings.from_tree(json.loads(text)), mano={"path": str(folder / "MANO_RIGHT.pkl")})


def other_mean(world):
    """Another MANO at the same path: only its mean pose differs, which no labelled joint of HO-3D shows."""
    model = stand_in_model()
    save_model(dataclasses.replace(model, hands_mean=model.hands_mean + 0.01), Path(world.mano.path))


def other_points(world):
    edit_points(Path(world.data.ho3d.object_models), lambda points: 1.002 * points)


def other_mesh(world):
    path = next(Path(world.data.ho3d.object_models).glob("*/textured_simple.obj"))
    path.write_text(path.read_text().replace("v 0.0", "v 0.1", 1))


def unsampled(world):
    """A listed frame that is not among those whose images a fingerprint reads."""
    return metas(Path(world.data.ho3d.root))[1]


def other_meta(world):
    edit_meta(unsampled(world), lambda meta: {**meta, "handBeta": meta["handBeta"] + np.float32(1e-3)})


def other_image_size(world):
    path = image_of(unsampled(world))
    path.write_bytes(path.read_bytes() + b"\0")


def another_mask(world):
    reader = HO3D(world.data.ho3d)
    path = reader.mask_path(reader.names[1])
    cv2.imwrite(str(path), np.zeros_like(cv2.imread(str(path))))


CHANGES = [other_mean, other_points, other_mesh, other_meta, other_image_size, another_mask]


@pytest.mark.parametrize("change", CHANGES)
def test_other_content_at_the_same_path_is_another_run(world, change):
    before = training_job.plan_job(world)
    assert training_job.plan_job(world).name == before.name
    change(world)
    after = training_job.plan_job(world)
    assert after.name != before.name
    assert after.parents != before.parents


def test_other_pretrained_weights_at_the_same_path_count(drawn, tmp_path):
    path = tmp_path / "resnet.pth"
    start = settings.changed(drawn, model={"pretrained": str(path)})

    def planned(value: float) -> training_job.TrainingJob:
        weights = {name: torch.full_like(tensor, value) for name, tensor in ResNet(drawn.model).state_dict().items()}
        torch.save(weights, path)
        return training_job.plan_job(start)

    one, other = planned(0.0), planned(1.0)
    assert planned(0.0).name == one.name != other.name
    assert one.parents["pretrained"] != other.parents["pretrained"]
    path.rename(tmp_path / "moved.pth")
    moved = training_job.plan_job(settings.changed(drawn, model={"pretrained": str(tmp_path / "moved.pth")}))
    assert moved.name == one.name


def test_the_same_content_elsewhere_is_the_same_run(world, tmp_path):
    before = training_job.plan_job(world)
    moved = Path(world.world).rename(tmp_path / "moved")
    for path in moved.rglob("*"):
        os.utime(path, (1, 1))
    text = json.dumps(settings.to_tree(world)).replace(str(tmp_path / "world"), str(moved))
    assert training_job.plan_job(settings.from_tree(json.loads(text))).name == before.name


def finish(config: Config, output: Path, **changes) -> None:
    """Leave what a finished run leaves."""
    job = training_job.plan_job(config)
    identity = {name: value for name, value in {**job.identity, **changes}.items() if value is not None}
    facts = {"identity": identity, "sha256": "a" * 64, "steps": 6, "samples": 40, "history": [{"total": 1.0}]}
    store = open_store(str(output))
    store.put("checkpoint.pt", b"weights")
    store.put("training.json", json.dumps({**facts, "seconds": 1.0}).encode())


def config_file(config: Config, tmp_path: Path) -> str:
    (tmp_path / "config.yaml").write_text(json.dumps(settings.to_tree(config)))
    return str(tmp_path / "config.yaml")


@pytest.mark.parametrize(
    ("change", "name"),
    [(other_mean, "data.hand model"), (other_points, "data.ho3d objects"), (other_meta, "data.ho3d")],
)
def test_jobs_train_does_not_call_other_data_finished(world, tmp_path, capsys, change, name):
    finish(world, tmp_path / "out")
    arguments = ["--config", config_file(world, tmp_path), f"output={tmp_path / 'out'}"]
    assert train.main(arguments) == 0
    assert "is finished (6 steps); nothing to do" in capsys.readouterr().out
    change(world)
    assert train.main(arguments) == 2
    error = capsys.readouterr().err
    assert "different settings or data (1 differences):" in error
    assert f"  {name}: " in error
    assert train.main([*arguments, "--dry-run"]) == 2


def test_a_run_without_an_optional_group_is_another_one(world, tmp_path, capsys):
    noisy = settings.changed(world, train={"pseudo_augment": {"blur_px": 3}})
    arguments = [f"output={tmp_path / 'out'}", "--config"]
    finish(noisy, tmp_path / "out")
    assert train.main([*arguments, config_file(noisy, tmp_path)]) == 0
    assert train.main([*arguments, config_file(world, tmp_path)]) == 2
    assert "train.pseudo_augment" in capsys.readouterr().err


def write_labels(folder: Path, config: Config) -> str:
    """A labelling output of one unit with three pseudo-labels."""
    store = open_store(str(folder))
    commits.open_run(store, units.fingerprint(config, "abc", units.hand_digest(config), units.Digests()), {"units": 1})
    rows = [row("1-a", frame, flipped=False) for frame in (1, 2, 3)]
    written = {
        "pseudo_labels": pa.Table.from_pylist(rows, schema=tables.PSEUDO_LABELS_SCHEMA),
        "predictions": tables.PREDICTIONS_SCHEMA.empty_table(),
        "quarantine": commits.QUARANTINE_SCHEMA.empty_table(),
    }
    commits.commit(store, "u00000", "attempt", written, counts=Counts(), started=0.0, seconds={})
    return store.root


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (other_points, "(1 differences):\n  data.ho3d objects: "),
        (other_mean, "poses of another hand model than"),
    ],
)
def test_jobs_retrain_does_not_call_other_data_finished(world, tmp_path, capsys, change, said):
    data = {"pseudo": {"labels": write_labels(tmp_path / "labels", world)}}
    student = settings.changed(world, data=data, train={"datasets": ["ho3d", "pseudo"]})
    finish(student, tmp_path / "out")
    arguments = ["--config", config_file(student, tmp_path), f"output={tmp_path / 'out'}"]
    assert retrain.main(arguments) == 0
    assert "nothing to do" in capsys.readouterr().out
    change(world)
    assert retrain.main(arguments) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "what"),
    [(other_mean, "data of mano.path"), (other_points, "data of ho3d objects"), (other_meta, "data of ho3d")],
)
def test_a_pipeline_does_not_call_other_data_complete(world, tmp_path, capsys, monkeypatch, change, what):
    stand_in_jobs(monkeypatch)
    folder = Path(world.world) / "something"
    videos = [f"videos.root={folder / '20bn-something-something-v2'}", f"videos.boxes={folder / 'boxes'}"]
    given = [f"data.ho3d.root={world.data.ho3d.root}", f"data.ho3d.object_models={world.data.ho3d.object_models}"]
    arguments = [f"output={tmp_path / 'out'}", *given, *videos, f"mano.path={world.mano.path}", "train.steps=7"]
    assert pipeline.main(arguments) == 0
    assert pipeline.main(arguments) == 0
    assert "nothing to do" in capsys.readouterr().out
    change(world)
    assert pipeline.main(arguments) == 2
    assert what in capsys.readouterr().err


def test_a_run_of_an_earlier_version_is_refused_as_such(world, tmp_path, capsys):
    earlier = {"data.edition": None, "data.hand model": None, "data.ho3d": "40 samples 0123", "mano.path": "/x"}
    finish(world, tmp_path / "out", **earlier)
    assert train.main(["--config", config_file(world, tmp_path), f"output={tmp_path / 'out'}"]) == 2
    error = capsys.readouterr().err
    assert "an earlier version trained with these settings" in error
    assert "Use its checkpoint.pt as it is, or give another output" in error
    finish(world, tmp_path / "out", **earlier, seed=9)
    assert train.main(["--config", config_file(world, tmp_path), f"output={tmp_path / 'out'}"]) == 2
    assert "(1 differences):\n  seed: 9 before" in capsys.readouterr().err


def test_stored_labels_are_known_by_the_digest_of_before(world):
    """Labels of earlier versions hold a digest of five of the model's arrays."""
    model = stand_in_model()
    five = [model.v_template, model.shapedirs, model.posedirs, model.J_regressor, model.weights]
    before = hand_identity.digest_of(five)
    assert before != units.hand_digest(world)
    units.check_hand({"fingerprint": {"hand_model": before}}, world, "labels")
    units.check_hand({"fingerprint": {"hand_model": units.hand_digest(world)}}, world, "labels")


def test_every_image_of_freihand_counts(tmp_path):
    config = write_training_set(tmp_path)
    before = FreiHAND(config, "train").fingerprint()
    path = tmp_path / "training" / "rgb" / "00000007.jpg"
    path.write_bytes(path.read_bytes() + b"\0")
    assert FreiHAND(config, "train").fingerprint() != before
