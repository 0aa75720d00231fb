"""Settings: refused when unknown or out of range, equal after a round trip, named by a digest."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from hojoint import config as settings
from hojoint.config import Config, ConfigError

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_file_in_configs_is_valid(path):
    assert isinstance(settings.load(path), Config)


def test_the_defaults_are_the_papers_table_of_numbers():
    config = Config()
    assert config.model.input_px == 512
    assert config.model.roi_cells == 32
    assert (config.train.batch_size, config.train.learning_rate) == (24, 1e-4)
    assert (config.train.epochs, config.train.lr_decay, config.train.lr_decay_every_epochs) == (60, 0.7, 10)
    augment = config.augment
    assert (augment.scale, augment.rotation_deg, augment.shift, augment.brightness) == (0.2, 180.0, 0.1, 0.1)
    assert config.tta.views == 8
    rules = config.filters
    assert (rules.min_box_iou, rules.max_reprojection, rules.min_bone_length) == (0.6, 0.65, 0.1)
    assert (rules.min_angle_deg, rules.max_angle_deg) == (0.0, 90.0)
    assert (rules.max_joint_step, rules.max_pose_step, rules.shape_sigmas) == (0.5, 0.01, 2.0)


def test_a_tree_written_as_yaml_reads_back_as_the_same_config(tmp_path):
    config = settings.from_tree({"seed": 3, "train": {"steps": 40}, "filters": {"shape_rule": "mad"}})
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(settings.to_tree(config)))
    assert settings.load(path) == config


def test_an_override_wins_over_the_file(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("train: {epochs: 3}\n")
    assert settings.load(path, ["train.epochs=9"]).train.epochs == 9


@pytest.mark.parametrize("group", ["train.pseudo_augment", "student.augment"])
def test_noise_of_pseudo_labels_leaves_out_what_augment_has(group):
    outer, name = group.split(".")
    tiny = settings.load(ROOT / "configs" / "tiny.yaml")
    noisy = settings.load(ROOT / "configs" / "tiny.yaml", [f"{group}.cutout=0.3", "augment.hue=0.2"])
    expected = tiny.augment.model_copy(update={"cutout": 0.3, "hue": 0.2})
    assert getattr(getattr(noisy, outer), name) == expected
    assert settings.from_tree(settings.to_tree(noisy)) == noisy
    moved = settings.changed(noisy, augment={"hue": 0.0})  # what is resolved stays as it is
    assert getattr(getattr(moved, outer), name) == expected
    assert getattr(getattr(settings.changed(tiny, **{outer: {name: {"cutout": 0.3}}}), outer), name).rotation_deg == 60


def test_an_unknown_setting_names_its_neighbour_with_its_group():
    with pytest.raises(ConfigError, match=r"'filters\.min_iou'; did you mean 'filters\.min_box_iou'"):
        settings.from_tree({"filters": {"min_iou": 0.5}})


@pytest.mark.parametrize("name", ["my net", "../../x", "a/b", "..", ".", ".hidden", "", "n\n", "ä", "n" * 101])
def test_a_name_that_is_no_file_name_is_refused(name):
    with pytest.raises(ConfigError, match=r"setting 'name': files and folders are named after it: should be 1 to 100"):
        settings.from_tree({"name": name})


def test_a_name_of_letters_digits_and_marks_is_taken():
    for name in ("run", "student-2", "calibration-3", "v1.2_ho3d", "7"):
        assert settings.load(CONFIGS[0], [f"name={name}"]).name == name


def test_a_stored_name_of_an_earlier_version_is_still_read():
    assert settings.from_stored({"name": "my net"}).name == "my-net"
    assert settings.from_stored({"name": "../x"}).name == "---x"
    assert settings.from_stored({"name": "v1.2"}).name == "v1.2"


def test_settings_cannot_be_changed_after_they_were_read():
    with pytest.raises(ValidationError):
        Config().seed = 3  # type: ignore[misc]


@pytest.mark.parametrize("text", ["- a\n- list\n", "a: [1\n", "just text"])
def test_a_file_that_holds_no_settings_is_refused_with_its_name(tmp_path, text):
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"odd\.yaml"):
        settings.load(path)


def test_a_digest_depends_on_values_and_on_nothing_else():
    assert settings.digest(Config()) == settings.digest(Config(seed=0))
    assert settings.digest(Config()) != settings.digest(Config(seed=1))
    assert len(settings.digest(Config(), "teacher", 3)) == 12
