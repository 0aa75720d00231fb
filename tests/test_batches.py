"""batches: pixels, 2D labels, 3D labels and camera stay consistent under augmentation; labels are never changed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from labelled import draw_world
from projection import project

from hojoint import geometry
from hojoint.config import AugmentConfig, CropConfig
from hojoint.datasets import ho3d_meta
from hojoint.datasets.collate import collate
from hojoint.datasets.ho3d import HO3D
from hojoint.errors import InputError
from hojoint.hand.factory import hand_layer
from hojoint.training import augment
from hojoint.training.batches import (
    Cached,
    ConcatSamples,
    loader,
    mirrored,
    mirrored_rows,
    prepare,
    side_images,
    targets_of,
)
from hojoint.training.schedule import Schedule

WILD = AugmentConfig(scale=0.2, shift=0.1)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return draw_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def reader(world):
    return HO3D(world.data.ho3d, "train", world.crop)


@pytest.fixture(scope="module")
def batch(reader):
    return collate([reader[i] for i in range(4)])


@pytest.fixture(scope="module")
def layer(world):
    return hand_layer(world.mano)


def draws_of(batch, config=WILD, seed=0):
    return augment.augment_draws(config, [(seed, *key) for key in batch.keys])


def test_augmented_3d_projects_onto_the_augmented_2d(world, reader, batch, layer):
    draws = draws_of(batch)
    prepared = prepare(batch, world, draws, "cpu")
    targets = targets_of(batch, prepared, layer, world)
    wrist = torch.tensor(np.stack([ho3d_meta.joints_cv(reader.meta(i), "")[:1] for i in range(4)]), dtype=torch.float32)
    turned = targets.joints + wrist @ geometry.rotation_z(draws.angle).transpose(1, 2)
    projected = project(turned.double(), prepared.camera.double())
    mapped = geometry.apply_affine(prepared.affine.double(), batch.joints_px.double())
    camera = batch.camera[0]
    assert abs(camera[0, 0] - camera[1, 1]) < 1e-3
    # the labelled pose reproduces the labelled joints to the rounding of float32 files, 0.03 mm
    assert (projected - mapped).abs().max() < 0.05
    exact = project(
        torch.tensor(np.stack([ho3d_meta.joints_cv(reader.meta(i), "") for i in range(4)]))
        @ geometry.rotation_z(draws.angle.double()).transpose(1, 2),
        prepared.camera.double(),
    )
    assert (exact - mapped).abs().max() < 1e-3


def test_boxes_are_those_of_the_mapped_points_with_a_margin(world, batch, layer):
    prepared = prepare(batch, world, draws_of(batch), "cpu")
    targets = targets_of(batch, prepared, layer, world)
    margin = 0.5 * (1 - 1 / world.crop.hand_roi_scale)
    for points, low in ((targets.joints_box, margin), (targets.control_box, 0.0)):
        torch.testing.assert_close(points.amin(1), torch.full((4, 2), low), atol=1e-4, rtol=0)
        torch.testing.assert_close(points.amax(1), torch.full((4, 2), 1 - low), atol=1e-4, rtol=0)


def test_the_mask_is_the_objects_share_of_its_box(world, batch, layer):
    prepared = prepare(batch, world, None, "cpu")
    targets = targets_of(batch, prepared, layer, world)
    for row in range(4):
        x0, y0, x1, y1 = batch.object_box[row].round().int().tolist()
        inside = batch.object_masks[row, max(y0, 0) : y1 + 1, max(x0, 0) : x1 + 1].float().mean()
        assert abs(float(targets.object_mask[row].mean() - inside)) < 0.1


def test_preparing_twice_is_the_same_and_keeps_the_batch(world, batch, layer):
    before = batch.pose.clone()
    first, second = (
        targets_of(batch, prepare(batch, world, draws_of(batch), "cpu"), layer, world) for _ in range(2)
    )  # fmt: skip
    torch.testing.assert_close(first.rotations, second.rotations, atol=0, rtol=0)
    torch.testing.assert_close(batch.pose, before, atol=0, rtol=0)
    plain = targets_of(batch, prepare(batch, world, None, "cpu"), layer, world)
    roots = geometry.axis_angle_to_matrix(before[:, :3])
    torch.testing.assert_close(plain.rotations[:, 0], roots, atol=1e-6, rtol=0)


def test_only_the_root_rotates_and_by_the_images_angle(world, batch, layer):
    draws = draws_of(batch)
    plain = targets_of(batch, prepare(batch, world, None, "cpu"), layer, world)
    turned = targets_of(batch, prepare(batch, world, draws, "cpu"), layer, world)
    torch.testing.assert_close(turned.rotations[:, 1:], plain.rotations[:, 1:])
    torch.testing.assert_close(
        turned.rotations[:, 0], geometry.rotation_z(draws.angle) @ plain.rotations[:, 0], atol=1e-5, rtol=0
    )
    torch.testing.assert_close(
        turned.vertices, plain.vertices @ geometry.rotation_z(draws.angle).transpose(1, 2), atol=1e-6, rtol=0
    )


def test_padding_changes_no_sample(world, reader, batch):
    together = prepare(batch, world, None, "cpu")
    alone = prepare(collate([reader[2]]), world, None, "cpu")
    torch.testing.assert_close(together.images[2:3], alone.images, atol=1e-4, rtol=0)
    torch.testing.assert_close(together.hand_boxes[2:3], alone.hand_boxes)


def test_a_reduced_region_makes_nearly_the_same_input(world, batch, reader):
    small = HO3D(world.data.ho3d, "train", world.crop, region_px=122)
    first = prepare(batch, world, None, "cpu")
    second = prepare(collate([small[i] for i in range(4)]), world, None, "cpu")
    torch.testing.assert_close(first.hand_boxes, second.hand_boxes, atol=0.2, rtol=0)  # sizes are whole pixels
    assert (first.images - second.images).abs().mean() < 0.02


def test_rows_without_objects_have_no_object_box(world, batch, layer):
    from dataclasses import replace

    mixed = replace(batch, has_object=torch.tensor([True, False, True, False]))
    prepared = prepare(mixed, world, draws_of(batch), "cpu")
    assert prepared.object_boxes[[1, 3]].isnan().all()
    assert prepared.object_boxes[[0, 2]].isfinite().all()
    targets = targets_of(mixed, prepared, layer, world)
    assert targets.joints_box.isfinite().all()
    assert targets.object_mask.isfinite().all()


def test_jitter_moves_the_boxes_and_the_targets_with_them(world, batch, layer):
    jitter = AugmentConfig(scale=0, shift=0, rotation_deg=0, box_jitter=0.2)
    still = AugmentConfig(scale=0, shift=0, rotation_deg=0)
    joints = []
    boxes = []
    for config in (still, jitter):
        prepared = prepare(batch, world, draws_of(batch, config), "cpu")
        box = prepared.hand_boxes
        targets = targets_of(batch, prepared, layer, world)
        joints.append(box[:, None, :2] + targets.joints_box * (box[:, None, 2:] - box[:, None, :2]))
        boxes.append(box)
    torch.testing.assert_close(joints[0], joints[1], atol=1e-3, rtol=0)
    assert (boxes[0] - boxes[1]).abs().max() > 1


def test_clipping_the_crop_to_the_image_is_a_setting(world, batch):
    from dataclasses import replace

    beyond = replace(batch, hand_box=batch.hand_box + torch.tensor([0.0, 0, 400, 0]))
    sides = []
    for clip in (False, True):
        config = world.model_copy(update={"crop": CropConfig(clip=clip)})
        affine = prepare(beyond, config, None, "cpu").affine
        sides.append(world.model.input_px / affine[:, 0, 0])
    assert (sides[1] <= batch.sizes.amax(1) + 1e-3).all()
    assert (sides[0] > sides[1] + 100).all()


def test_sets_are_numbered_in_turn_and_cached_samples_read_once(world, reader):
    read = []

    class Counted:
        def __len__(self):
            return len(reader)

        def __getitem__(self, index):
            read.append(index)
            return reader[index]

    cached = Cached(Counted(), 2)
    samples = ConcatSamples([cached, cached])
    assert len(samples) == 2 * len(reader)
    sample, pick = samples[(3, len(reader) + 1)]
    assert sample.name == reader.names[1]
    assert pick == (3, len(reader) + 1)
    assert sorted(read) == list(range(len(reader)))


@pytest.mark.parametrize("processes", [0, 2])
def test_the_loader_follows_the_schedule_from_any_step(world, reader, processes):
    schedule = Schedule(world.train, labelled=len(reader), pseudo=0, seed=5)
    keys = [batch.keys for batch in loader(ConcatSamples([reader]), schedule, start=2, processes=processes)]
    assert keys == [tuple(schedule.picks(step)) for step in range(2, schedule.steps)]


class Damaged:
    """Eight samples of which the last cannot be read."""

    def __init__(self, reader):
        self.reader = reader

    def __len__(self):
        return 8

    def __getitem__(self, index):
        if index == 7:
            raise InputError("0007.png is not a complete image")
        return self.reader[index]


@pytest.mark.parametrize("processes", [0, 2])
def test_an_unreadable_sample_raises_its_own_message(world, reader, processes):
    schedule = Schedule(world.train, labelled=8, pseudo=0, seed=5)
    with pytest.raises(InputError) as error:
        list(loader(ConcatSamples([Damaged(reader)]), schedule, start=0, processes=processes))
    assert str(error.value) == "0007.png is not a complete image"


def test_the_picks_of_a_long_run_are_drawn_when_needed(world, reader, monkeypatch):
    schedule = Schedule(world.train.model_copy(update={"steps": 10**6}), labelled=len(reader), pseudo=0, seed=5)
    drawn, share = [], schedule.share
    monkeypatch.setattr(schedule, "share", lambda step, *worker: drawn.append(step) or share(step, *worker))
    batches = loader(ConcatSamples([reader]), schedule, start=0, processes=1)
    assert next(batches).keys == tuple(schedule.picks(0))
    assert len(drawn) < 10
    batches.close()


def test_mirrored_hands_lie_in_their_boxes(world, batch):
    prepared = prepare(batch, world, draws_of(batch), "cpu")
    rows = torch.tensor([2, 0])
    images, boxes = mirrored(prepared, rows)
    torch.testing.assert_close(images[..., 5, 7], prepared.images[rows][..., 5, 63 - 7])
    corners = torch.stack((boxes[:, :2], boxes[:, 2:]), 1)  # pixel centres are whole numbers: x goes to 63 - x
    back = geometry.box_of_points(torch.stack((63 - corners[..., 0], corners[..., 1]), 2))
    torch.testing.assert_close(back, prepared.hand_boxes[rows])
    again = replace(prepared, images=images, hand_boxes=boxes)
    for once, twice in zip((prepared.images[rows], back), mirrored(again, torch.arange(2)), strict=True):
        torch.testing.assert_close(once, twice)


def test_rows_that_count_are_mirrored_first_and_evenly():
    alike = torch.ones(4)
    assert mirrored_rows(alike, 0.25).tolist() == [0]
    assert mirrored_rows(alike, 0.0).tolist() == []
    assert mirrored_rows(alike, 0.5).tolist() == [0, 2]  # pseudo-labels stand at the end of a batch
    assert mirrored_rows(alike, 1.0).tolist() == [0, 1, 2, 3]
    mixed = torch.tensor([0.0, 1, 0, 1])
    assert mirrored_rows(mixed, 0.25).tolist() == [1]
    assert mirrored_rows(mixed, 0.5).tolist() == [1, 3]
    assert mirrored_rows(mixed, 0.6).tolist() == [1, 3, 0]  # as many in every step
    assert mirrored_rows(torch.zeros(4), 0.5).tolist() == [0, 1]


def test_noise_of_the_side_head_is_alike_on_both_sides(world, batch):
    noise = AugmentConfig(brightness=0.5, cutout=0.5, box_jitter=0.2)
    noisy = world.model_copy(update={"train": world.train.model_copy(update={"side_augment": noise})})
    prepared, rows = prepare(batch, world, draws_of(batch), "cpu"), torch.tensor([2, 0])
    assert augment.side_draws(world, batch.keys) is None
    images, boxes, plain = side_images(prepared, rows, None)
    assert plain is rows
    for one, other in zip((images, boxes), mirrored(prepared, rows), strict=True):
        torch.testing.assert_close(one, other)
    draws = augment.side_draws(noisy, batch.keys)
    images, boxes, plain = side_images(prepared, rows, draws)
    assert plain.tolist() == [4, 5]  # the unmirrored ones come right after the batch's four
    torch.testing.assert_close(images[2:], images[:2].flip(3))
    torch.testing.assert_close(boxes[2:, 0], 63 - boxes[:2, 2])
    assert not torch.allclose(images[:2], prepared.images[rows], atol=0.05)
    assert not torch.allclose(boxes[:2], prepared.hand_boxes[rows], atol=0.5)
    other = augment.augment_draws(noise, [(noisy.seed, *key) for key in batch.keys])
    assert not torch.allclose(draws.brightness, other.brightness)  # not those of the batch's own augmentation
