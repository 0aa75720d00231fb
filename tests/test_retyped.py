"""A command line made from settings gives the same settings when it is typed again."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from hojoint import config as settings
from hojoint.config import Config
from hojoint.settings_method import FILE_NAME
from jobs import calibration_text, command, detect, origin, retyped, submit

ROOT = Path(__file__).resolve().parent.parent
QUALITY = {"min_quality": 0.5, "out_of_fold": True, "reached": True}


def typed(line):
    """The settings that a shell and a job would make of a command line."""
    words = shlex.split(line)[3:]
    path = command.DEFAULT_CONFIG
    if words[:1] == ["--config"]:
        path, words = ROOT / words[1], words[2:]
    return settings.load(path, [command.expand_home(word) for word in words])


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_command_is_its_shipped_file_and_its_overrides(path):
    config = settings.load(path, ["output=runs/it's here", "train.epochs=3", "cluster.teachers=[1,3]"])
    line = retyped.command_line("pipeline", config)
    assert len(shlex.split(line)) == 3 + 3 + 2 * (path != command.DEFAULT_CONFIG)
    assert typed(line) == config


def test_a_group_that_only_one_of_two_settings_has_is_one_word():
    augment = settings.to_tree(Config().augment) | {"blur_px": 1.5}
    config = settings.changed(Config(), train={"pseudo_augment": augment}, student={"augment": augment})
    assert typed(retyped.command_line("pipeline", config)) == config


ODD = ["010", "null", "~", "~/x", "a: b", "'", '"', "", "2024-01-01", "x\\y", "é #1", "𠮷😀\u2028\x85"]


@pytest.mark.parametrize("path", ODD)
def test_odd_names_and_paths_read_back_as_they_are(path):
    name = path if FILE_NAME.fullmatch(path) else "run"
    config = settings.changed(Config(), name=name, output=path, train={"steps": None, "datasets": ["ho3d", "freihand"]})
    assert typed(retyped.command_line("pipeline", config)) == config


def test_settings_of_free_names_are_one_word():
    claims, labels = {"/data": "videos", "/o'x": "b"}, {"cloud.example/gpu": "h200"}
    config = settings.changed(Config(), deploy={"claims": claims, "gpu_node_labels": labels})
    assert typed(retyped.command_line("pipeline", config)) == config
    assert not [word for word in submit.arguments(config) if word.startswith("deploy")]  # of no use to a job


@pytest.mark.parametrize("path", ["runs/it's here", "runs/a b", "010"])
def test_commands_that_jobs_print_hold_odd_paths(path):
    line = detect.labelling_command(path, f"{path}.parquet")
    made = typed(line.replace("teacher.checkpoint=FILE output=DIR", ""))
    assert (made.videos.root, made.videos.boxes) == (path, f"{path}.parquet")
    text = calibration_text.quality_proposal({"quality": QUALITY, "caution": None}, path)
    made = typed("python -m jobs.pseudo_label" + text.splitlines()[-5].removeprefix("#"))
    assert (made.filters.mode, made.filters.quality_model, made.filters.min_quality) == ("quality", path, 0.5)
    assert typed(origin.old_pipeline(path)).output == path
