"""Former names of settings: refused with the new name, and still read from what earlier versions stored."""

from __future__ import annotations

import pytest

from hojoint import config as settings
from hojoint.config import Config, ConfigError
from hojoint.settings_file import field_of
from hojoint.settings_renamed import RENAMED, SHARED, new_name

SHARED_ADVICE = {
    "predictions": "'score.predictions' for jobs.evaluate, 'calibrate.predictions' for jobs.calibrate",
    "truth": "'score.truth' for jobs.evaluate, 'calibrate.truth' for jobs.calibrate",
}
FORMER = [
    ("model.slope", "model: {slope: 0.1}", "'model.leaky_relu_slope'"),
    ("train.decay", "train: {decay: 0.5}", "'train.lr_decay'"),
    ("train.initial", "train: {initial: a.pt}", "'train.init_checkpoint'"),
    ("data.ho3d.version", "data: {ho3d: {version: v3}}", "'synthetic.ho3d_version'"),
    ("evaluation.examples", "evaluation: {examples: 3}", "'evaluate.examples'"),
    ("calibration.precision", "calibration: {precision: 0.8}", "'calibrate.precision'"),
    ("job", "job: train", "'submit.job'"),
    ("layout", "layout: freihand", "'score.layout'"),
    ("predictions", "predictions: p.json", SHARED_ADVICE["predictions"]),
    ("truth", "truth: t", SHARED_ADVICE["truth"]),
]


@pytest.mark.parametrize(("key", "text", "names"), FORMER)
def test_a_former_name_is_refused_with_the_new_one(tmp_path, key, text, names):
    path = tmp_path / "old.yaml"
    path.write_text("")
    message = f"the setting '{key}' has a new name, use that one: {names}"
    with pytest.raises(ConfigError) as typed:
        settings.load(path, [f"{key}=3"])
    assert str(typed.value) == message
    path.write_text(text)
    with pytest.raises(ConfigError) as written:
        settings.load(path)
    assert str(written.value) == message


def test_an_empty_former_group_is_refused_too():
    with pytest.raises(ConfigError, match="'evaluation' has a new name, use that one: 'evaluate'"):
        settings.from_tree({"evaluation": None})


def test_every_new_name_is_a_setting_and_no_former_one_is():
    assert SHARED == SHARED_ADVICE
    for former, name in RENAMED.items():
        assert field_of(name, Config) is not None, name
        assert field_of(former, Config) is None, former


def test_a_stored_tree_is_read_under_todays_names():
    stored = {
        "model": {"slope": 0.2, "object_slope": 0.3},
        "crop": {"hand_roi": 1.3, "object_roi": 1.2},
        "loss": {"shape": 0.5},
        "train": {"decay": 0.5, "decay_every_epochs": 4, "initial": "a.pt"},
        "data": {"ho3d": {"version": "v3", "root": "HO3D"}},
        "evaluation": {"examples": 3},
        "calibration": {"precision": 0.8},
        "job": None,
        "predictions": "p.json",
        "truth": "t",
        "layout": "freihand",
    }
    config = settings.from_stored(stored)
    assert (config.model.leaky_relu_slope, config.model.object_leaky_relu_slope) == (0.2, 0.3)
    assert (config.crop.hand_roi_scale, config.crop.object_roi_scale, config.loss.betas) == (1.3, 1.2, 0.5)
    train = config.train
    assert (train.lr_decay, train.lr_decay_every_epochs, train.init_checkpoint) == (0.5, 4, "a.pt")
    assert (config.synthetic.ho3d_version, config.data.ho3d.root) == ("v3", "HO3D")
    assert (config.evaluate.examples, config.calibrate.precision, config.submit.job) == (3, 0.8, None)
    assert (config.score.predictions, config.score.truth, config.score.layout) == ("p.json", "t", "freihand")
    assert stored["train"]["decay"] == 0.5  # the stored tree itself stays


def test_a_tree_of_today_is_read_as_it_is():
    config = Config(seed=3, control=True)
    assert settings.from_stored(settings.to_tree(config)) == config


def test_a_value_under_todays_name_wins_in_a_stored_tree():
    assert settings.from_stored({"train": {"decay": 0.5, "lr_decay": 0.9}}).train.lr_decay == 0.9


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ({"train": {"warmup": 3}}, r"unknown setting 'train\.warmup'"),
        ({"train": {"decay": 2}}, r"setting 'train\.lr_decay'"),
        ({"train": 3}, "'train' is a group of settings"),
        ({"data": {"ho3d": None}}, r"'data\.ho3d' is a group of settings"),
        (None, "expected stored settings by name, found null"),
    ],
)
def test_a_stored_tree_that_cannot_be_read_is_refused(stored, message):
    with pytest.raises(ConfigError, match=message):
        settings.from_stored(stored)


def test_flat_stored_settings_get_todays_names():
    flat = {"train.decay": 0.5, "evaluation.examples": 3, "evaluate.batch_size": 8, "crop.context": 1.5, "teacher": "x"}
    assert settings.renamed(flat) == {
        "train.lr_decay": 0.5, "evaluate.examples": 3, "evaluate.batch_size": 8, "crop.context": 1.5, "teacher": "x",
    }  # fmt: skip
    assert new_name("job") == "submit.job"
