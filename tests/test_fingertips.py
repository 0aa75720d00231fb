"""datasets.fingertips: the set that made the labels is reported where another one is configured."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from damage import edit_all
from labelled import draw_world, write_teacher

from hojoint import config as settings
from hojoint.config import ManoConfig
from hojoint.datasets import fingertips
from hojoint.datasets.ho3d import HO3D
from hojoint.errors import InputError
from hojoint.hand.stand_in.model import stand_in_model
from jobs import evaluate, train


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return draw_world(tmp_path_factory.mktemp("world"), frames=2)


@pytest.mark.parametrize("split", ["train", "evaluation"])
def test_the_fingertips_that_made_the_labels_are_found(world, split):
    """The drawn world labels the tips of ho3d_v2."""
    reader = HO3D(world.data.ho3d, split, world.crop)
    assert fingertips.advice(reader, ManoConfig(fingertips="ho3d_v2")) is None
    message = fingertips.advice(reader, ManoConfig(fingertips="ho3d_v3"))
    assert "mano.fingertips=ho3d_v2 (0.0 mm off)" in message
    assert "the configured ho3d_v3" in message


def test_labels_relative_to_the_mean_show_their_fingertips(world, tmp_path):
    shutil.copytree(world.data.ho3d.root, tmp_path / "HO3D_v2")
    mean = stand_in_model().hands_mean
    less = np.concatenate([np.zeros(3), mean])
    edit_all(tmp_path / "HO3D_v2", lambda meta: {**meta, "handPose": meta["handPose"].astype(np.float64) - less})
    folders = world.data.ho3d.model_copy(update={"root": str(tmp_path / "HO3D_v2")})
    message = fingertips.advice(HO3D(folders, "train", world.crop, mean_pose=mean), ManoConfig(fingertips="ho3d_v3"))
    assert "mano.fingertips=ho3d_v2 (0.0 mm off)" in message


def test_labels_of_another_hand_model_are_refused(world, monkeypatch):
    reader = HO3D(world.data.ho3d, "train", world.crop)
    monkeypatch.setattr(fingertips.ho3d_meta, "hand_pose", lambda meta, *_: 1.5 + 0 * meta["handPose"].astype(float))
    with pytest.raises(InputError, match=r"another hand model than .*MANO_RIGHT"):
        fingertips.advice(reader, ManoConfig(path=f"{world.world}/mano/MANO_RIGHT.pkl"))
    assert fingertips.advice(reader, ManoConfig()) is None  # the stand-in says nothing of MANO's labels


def test_an_unknown_set_is_an_input_error(world):
    with pytest.raises(InputError, match="unknown fingertip set 'ho3d'"):
        fingertips.advice(HO3D(world.data.ho3d, "evaluation", world.crop), ManoConfig(fingertips="ho3d"))


def test_dry_runs_of_training_and_of_evaluation_report_it(world, tmp_path, capsys):
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(settings.to_tree(world) | {"output": str(tmp_path / "out")}))
    other = write_teacher(world, tmp_path / "other.pt", mano={"fingertips": "smplx"})
    same = write_teacher(world, tmp_path / "same.pt")
    for job, right, wrong in (
        (train, "mano.fingertips=ho3d_v2", "mano.fingertips=smplx"),
        (evaluate, f"evaluate.checkpoint={same}", f"evaluate.checkpoint={other}"),  # which brings its fingertips
    ):
        assert job.main(["--config", str(path), "--dry-run", right]) == 0
        assert "note:" not in capsys.readouterr().out
        assert job.main(["--config", str(path), "--dry-run", wrong]) == 0
        assert "note: the fingertips labelled in" in capsys.readouterr().out


def test_labels_of_another_hand_pass_where_the_user_says_so(world, tmp_path, capsys):
    shutil.copytree(world.data.ho3d.root, tmp_path / "HO3D_v2")
    edit_all(tmp_path / "HO3D_v2", lambda meta: meta | {"handPose": 0 * np.asarray(meta["handPose"]) + 1.5})
    given = settings.changed(world, data={"ho3d": {"root": str(tmp_path / "HO3D_v2")}})
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(settings.to_tree(given) | {"output": str(tmp_path / "out")}))
    words = ["--config", str(path), "--dry-run", f"mano.path={world.world}/mano/MANO_RIGHT.pkl"]
    assert train.main(words) == 2
    assert "set data.ho3d.checks=note" in capsys.readouterr().err
    assert train.main([*words, "data.ho3d.checks=note"]) == 0
    assert "note: no known fingertip set fits the labels of" in capsys.readouterr().out
    mano = ManoConfig(path=f"{world.world}/mano/MANO_RIGHT.pkl")
    with pytest.raises(InputError, match=r"made them\. Set .* theirs\. If the labels .* set data\.ho3d\.checks=note"):
        fingertips.advice(HO3D(given.data.ho3d, "train", world.crop), mano)
