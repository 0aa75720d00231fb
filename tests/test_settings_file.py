"""A config file and the command line: read as typed, or refused with the setting as the command line writes it."""

from __future__ import annotations

import pytest

from hojoint import config as settings
from hojoint.config import Config, ConfigError
from hojoint.settings_file import field_of, group_of, shown
from hojoint.settings_method import FILE_NAME


def load(path, *overrides, text=""):
    path = path / "given.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return settings.load(path, overrides)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: tiny\x00".encode("utf-16"), r"given\.yaml is not text in UTF-8"),
        (b"\x89PNG\r\n", r"given\.yaml is not text in UTF-8 \(byte 0\)"),
        (b"name: a\x01b", r"given\.yaml is not YAML"),
        ("seed: 1\ntrain:\n  epochs: [3\n", r"given\.yaml, line \d+: not YAML"),
        ("seed: 1\ntrain: {epochs: 3}\ntrain: {steps: 4}\n", r"line 3: .*'train' is given twice"),
        ("? [a, b]\n: 3", r"given\.yaml, line 1"),
        ("false", r"must hold settings as 'key: value'; found false"),
        ("0", r"must hold settings as 'key: value'; found 0"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_the_line(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, text=text)


def test_an_empty_file_is_the_defaults(tmp_path):
    assert load(tmp_path, text="# nothing\n") == Config()


@pytest.mark.parametrize("typed", ["010", "2024-01-01", "2024-13-45", "1e3", "true", "[a", "a: b", "runs/a #1", "0x1F"])
def test_a_path_or_a_name_stays_as_it_was_typed(tmp_path, typed):
    config = load(tmp_path, f"output={typed}", f"teacher.checkpoint={typed}")
    assert (config.output, config.teacher.checkpoint) == (typed, typed)
    if FILE_NAME.fullmatch(typed):
        assert load(tmp_path, f"name={typed}").name == typed


@pytest.mark.parametrize("typed", ["", "null", "~"])
def test_an_empty_override_unsets_a_path(tmp_path, typed):
    assert load(tmp_path, f"output={typed}", text="output: there").output is None


def test_what_a_submitted_job_is_handed_as_json_reads_back(tmp_path):
    assert load(tmp_path, 'output="a \\u00e9 b"').output == "a é b"


def test_a_date_in_a_file_is_the_text_it_looks_like(tmp_path):
    assert load(tmp_path, text="output: 2024-01-01\nname: 2024-13-45").output == "2024-01-01"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("cluster.teachers=2", "setting 'cluster.teachers' should be a list, as in cluster.teachers=[1,2]; found 2"),
        (
            "cluster.teachers=[1]",
            "setting 'cluster.teachers' should be a list, as in cluster.teachers=[1,2]; found [1]",
        ),
        ("train.datasets=[]", "setting 'train.datasets' should be a list, as in train.datasets=[ho3d]; found []"),
        ("train=3", "'train' is a group of settings, as in train.datasets=...; found 3"),
        ("cluster.teachers=[3,2]", "cluster.teachers=[3,2]: the smallest number comes first"),
        ("cluster.workers=[3,2]", "cluster.workers=[3,2]: the smallest number comes first"),
        ("evaluate.actors=[3,2]", "evaluate.actors=[3,2]: the smallest number comes first"),
        ("refilter.actors=[3,2]", "refilter.actors=[3,2]: the smallest number comes first"),
        (
            "filters.max_angle_deg=0",
            "filters.min_angle_deg=0 must be below filters.max_angle_deg=0",
        ),
        ("model.attention_heads=3", "model.channels=256 must be divisible by model.attention_heads=3"),
        ("study.seeds=[1,1]", "study.seeds=[1,1]: a seed that is given twice is one run, not two"),
        ("train.datasets=[ho3d,ho3d]", "setting 'train.datasets': should name each once; found [ho3d,ho3d]"),
        ("train.epochs=0", "setting 'train.epochs': should be greater than or equal to 1; found 0"),
        ("score.layout=coco", "setting 'score.layout': should be 'ho3d' or 'freihand'; found coco"),
    ],
)
def test_a_wrong_value_is_explained_as_it_was_typed(tmp_path, override, message):
    with pytest.raises(ConfigError) as error:
        load(tmp_path, override)
    assert str(error.value) == message


@pytest.mark.parametrize(
    "override",
    [
        "seed=9223372036854775808", "synthetic.seed=9223372036854775808", "study.seeds=[9223372036854775808]",
        "train.learning_rate=.inf", "loss.vertices=.nan", "filters.max_angle_deg=.inf", "tta.scale=1",
        "augment.scale=1", "synthetic.image_width=63", "synthetic.image_height=1", "synthetic.broken_videos=-1",
        "model.input_px=48", "model.input_px=100", "model.channels=12", "model.roi_cells=20", "train.pseudo_share=1.1",
        "train.lr_decay=0", "train.lr_decay=1.1", "train.loader_processes=-1", "train.batch_size=0",
        "tta.rotation_deg=181", "augment.rotation_deg=-1", "augment.hue=0.6", "filters.min_box_iou=1.1",
        "filters.max_pose_step=0", "labelling.jpeg_quality=101", "labelling.error_budget_share=2",
        "cluster.object_store_mb=79", "cluster.max_failures=-2", "cluster.teacher_cpus=0", "evaluate.examples=-1",
    ],
)  # fmt: skip
def test_values_that_no_run_could_use_are_refused(tmp_path, override):
    with pytest.raises(ConfigError, match=override.partition("=")[0].replace(".", r"\.")):
        load(tmp_path, override)


def test_a_dotted_key_finds_its_declaration_through_groups():
    assert field_of("train.epochs", Config).default == 60
    assert field_of("train.nothing", Config) is field_of("seed.deeper", Config) is None
    assert group_of(field_of("data.ho3d", Config)) is settings.HO3DConfig
    assert shown([1, None, True, "a"]) == "[1,null,true,a]"


def test_a_setting_without_its_group_names_the_group():
    with pytest.raises(ConfigError, match=r"unknown setting 'epochs'; did you mean 'train.epochs' or 'student.epochs'"):
        settings.from_tree({"epochs": 3})
