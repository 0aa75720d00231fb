"""The presets hold the numbers of the paper and of the released code, each with its source beside it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from hojoint import config as settings
from hojoint.config import Config

CLUSTER = Path(__file__).resolve().parent.parent / "ray-cluster.yaml"
FOLDER = Path(__file__).resolve().parent.parent / "configs"
GROUPS = ("model", "crop", "augment", "loss", "train", "tta", "filters")  # whole in both files
SHARED = {  # print and released code agree, or one of them is silent
    "model.input_px": 512, "model.roi_cells": 32, "model.blocks": [3, 4, 6, 3], "model.channels": 256,
    "model.reasoning": "o+", "model.pretrained": "imagenet", "model.leaky_relu_slope": 0.01,
    "model.object_leaky_relu_slope": 0.1,
    "mano.flat_hand_mean": True, "mano.fingertips": "ho3d_v2",
    "crop.context": 1.5, "crop.hand_roi_scale": 1.1, "crop.object_roi_scale": 1.0,
    "augment.scale": 0.2, "augment.rotation_deg": 180.0, "augment.shift": 0.1, "augment.box_jitter": 0.0,
    "loss.joints_2d": 100.0, "loss.vertices": 1e4, "loss.joints_3d": 1e4, "loss.rotations": 10.0, "loss.betas": 0.1,
    "loss.control_points": 500.0, "loss.confidence": 100.0, "loss.object_mask": True, "loss.heatmap": "soft_argmax",
    "train.datasets": ["ho3d"], "train.epochs": 60, "train.batch_size": 24, "train.learning_rate": 1e-4,
    "train.lr_decay": 0.7, "train.lr_decay_every_epochs": 10, "train.init_checkpoint": None, "train.pseudo_share": None,
    "tta.views": 8, "evaluate.pnp_proposals": 10,
    "filters.min_box_iou": 0.6, "filters.max_reprojection": 0.65, "filters.min_bone_length": 0.1,
    "filters.min_angle_deg": 0.0, "filters.max_angle_deg": 90.0, "filters.max_joint_step": 0.5,
    "filters.max_pose_step": 0.01, "filters.shape_sigmas": 2.0,
}  # fmt: skip
APART = {  # setting: (print, released code)
    "crop.resample": ("bilinear", "nearest"), "crop.clip": (False, True),
    "augment.scale_draw": ("uniform", "clipped_normal"),
    "augment.brightness": (0.1, 0.5), "augment.contrast": (0.1, 0.5), "augment.saturation": (0.1, 0.5),
    "augment.hue": (0.0, 0.15), "augment.blur_px": (0.0, 0.5), "loss.confidence_error": ("l2", "l1"),
    "train.weight_decay": (0.0, 5e-4), "train.mixed_precision": (True, False),
}  # fmt: skip


def _value(config, name):
    group, key = name.split(".")
    return settings.to_tree(config)[group][key]


@pytest.mark.parametrize("name", ["ho3d", "released"])
def test_a_preset_names_every_setting_with_its_source(name):
    text = (FOLDER / f"{name}.yaml").read_text()
    tree = yaml.safe_load(text)
    free = {"train.steps"}  # replaces epochs
    for group in GROUPS:
        known = set(settings.to_tree(Config())[group]) - {key.split(".")[1] for key in free if key.startswith(group)}
        assert set(tree[group]) == known, group
    bare = [line for line in text.splitlines() if ": " in line and "#" not in line and any(c.isdigit() for c in line)]
    assert [line for line in bare if not line.strip().startswith(("name", "worker", "teacher"))] == []


@pytest.mark.parametrize("name", ["ho3d", "released"])
@pytest.mark.parametrize("setting", SHARED)
def test_both_presets_hold_what_print_and_code_share(name, setting):
    assert _value(settings.load(FOLDER / f"{name}.yaml"), setting) == SHARED[setting]


@pytest.mark.parametrize("setting", APART)
def test_the_presets_differ_where_print_and_code_do(setting):
    found = tuple(_value(settings.load(FOLDER / f"{name}.yaml"), setting) for name in ("ho3d", "released"))
    assert found == APART[setting]


@pytest.mark.parametrize("name", ["ho3d", "released"])
def test_each_process_of_a_preset_fits_a_cluster_node(name):
    nodes = [node["resources"] for node in yaml.safe_load(CLUSTER.read_text())["available_node_types"].values()]
    size = settings.load(FOLDER / f"{name}.yaml").cluster
    for cpus, gpus in ((size.worker_cpus, size.worker_gpus), (size.teacher_cpus, size.teacher_gpus)):
        assert any(cpus <= node["CPU"] and gpus <= node.get("GPU", 0) for node in nodes)


def test_the_cluster_file_runs_none_of_rays_setup_commands():
    # Ray merges its AWS defaults where a key is missing; its head_setup_commands use the system's pip, which refuses.
    assert yaml.safe_load(CLUSTER.read_text())["head_setup_commands"] == []
