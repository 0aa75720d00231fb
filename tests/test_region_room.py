"""Regions leave room for the augmentation in use: the input is black only where the image has no pixels."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from labelled import draw_world
from test_identity import write_labels
from test_ingest import from_shards, written

from cluster.training import data as training_data
from cluster.training import shards as training_shards
from hojoint import config as settings
from hojoint import crops
from hojoint.config import AugmentConfig, Config
from hojoint.datasets import regions
from hojoint.datasets.collate import collate
from hojoint.training import augment
from hojoint.training.batches import prepare

DRAWS = 64
PLAIN = {"brightness": 0, "contrast": 0, "saturation": 0, "blur_px": 0, "scale_draw": "uniform"}
STRONG = {"scale": 0.5, "shift": 0.3}


@pytest.mark.parametrize(
    "change", [{}, STRONG, {"scale": 0.9, "shift": 1.0}, {"scale": 0.6, "shift": 0.4, "rotation_deg": 20}]
)
def test_no_augmented_input_is_black_inside_its_image(change):
    config = settings.changed(Config(), model={"input_px": 64}, augment={**PLAIN, **change})
    factor = crops.region_factor(config.augment)
    corners = np.array([[820.0, 820], [980, 980]])
    sample = regions.cut_sample(
        "bright",
        np.full((1800, 1800, 3), 200, np.uint8),
        crop=config.crop,
        region_px=crops.region_side(64, factor),
        factor=factor,
        hand_box=corners.reshape(4),
        joints_px=corners[np.arange(21) % 2],
        pose=np.zeros(48),
        betas=np.zeros(10),
    )
    draws = augment.augment_draws(config.augment, [(0, 0, number) for number in range(DRAWS)])
    images = prepare(collate([sample] * DRAWS, [(0, n) for n in range(DRAWS)]), config, draws, "cpu").images
    assert float(images.min()) > 0.7


def test_the_papers_augmentation_keeps_the_regions_of_before():
    for config in (
        AugmentConfig(),
        AugmentConfig(rotation_deg=60),
        AugmentConfig(enabled=False, scale=0.9),
        AugmentConfig(scale=0.3, rotation_deg=0),
    ):
        assert crops.region_factor(config) == crops.REGION_FACTOR
    assert crops.region_side(256, crops.region_factor(AugmentConfig())) == crops.region_side(256) == 487


@pytest.mark.slow
def test_training_cuts_regions_for_its_own_augmentation(tmp_path, monkeypatch):
    world = settings.changed(draw_world(tmp_path / "world"), ingest={"shard_samples": 8}, train={"cache": False})
    shards = written(world, tmp_path / "shards")
    world = settings.changed(world, data={"pseudo": {"labels": write_labels(tmp_path / "labels", world)}})
    both = settings.changed(world, augment=STRONG, train={"datasets": ["ho3d", "pseudo"]})
    strong = crops.region_factor(both.augment)
    assert strong > 2.7
    assert [part.factor for part in training_data.open_data(both).sets] == [strong, strong]
    milder = settings.changed(both, train={"pseudo_augment": {"scale": 0.4}})
    first, second = training_data.open_data(milder).sets
    assert (first.factor, second.factor) == (strong, crops.region_factor(milder.train.pseudo_augment))
    of_files = first[0]
    stored = training_data.open_data(settings.changed(from_shards(world, shards), augment=STRONG)).sets[0].read(0)
    [same] = [sample for sample in (stored[n] for n in range(len(stored))) if sample.name == of_files.name]
    for field in dataclasses.fields(same):
        np.testing.assert_array_equal(getattr(same, field.name), getattr(of_files, field.name), err_msg=field.name)
    monkeypatch.setattr(training_shards, "labels_in", lambda commit: 3)  # its counts are none of a run
    streamed = training_data.open_data(settings.changed(both, train={"stream": True})).sets[-1].read(0)
    assert streamed.factor == strong
