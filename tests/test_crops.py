"""crops: pixels, points and boxes go through one affine and agree to a fraction of a pixel."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from projection import project

from hojoint import crops, geometry


def dots(width, height, points, sigma=2.0):
    """A black RGB image with a smooth white dot at each point."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    image = sum(np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * sigma**2)) for px, py in points)
    return np.repeat(np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)[..., None], 3, axis=2)


def centre_of_mass(image):
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in image.shape), indexing="ij")
    weight = image.double()
    return torch.stack(((weight * x).sum(), (weight * y).sum())) / weight.sum()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("supersample", [1, 2])
def test_a_dot_lands_where_the_affine_says(seed, supersample):
    random = np.random.default_rng(seed)
    point = random.uniform(40, 80, 2)
    image = torch.from_numpy(dots(130, 110, [point])[None])
    affine = crops.view_affine(
        torch.tensor([[60.0, 55.0]]),
        torch.tensor([random.uniform(60, 120)]),
        96,
        torch.tensor([random.uniform(-math.pi, math.pi)]),
        torch.tensor([random.uniform(0.8, 1.2)]),
        torch.tensor(random.uniform(-0.1, 0.1, (1, 2))).float(),
    ).float()
    view = crops.warp(image, affine, 96, supersample=supersample)
    expected = geometry.apply_affine(affine.double(), torch.from_numpy(point)[None, None])[0, 0]
    assert (centre_of_mass(view[0, 0]) - expected).abs().max() < 0.05


def test_the_identity_gives_every_pixel_back():
    image = torch.randint(0, 256, (1, 32, 32, 3), dtype=torch.uint8)
    middle = torch.tensor([[15.5, 15.5]])
    affine = crops.plain_affine(middle, torch.tensor([32.0]), 32)
    torch.testing.assert_close(affine, torch.tensor([[[1.0, 0, 0], [0, 1, 0]]]))
    for resample in ("bilinear", "nearest"):
        view = crops.warp(image, affine, 32, resample=resample)
        torch.testing.assert_close(view[0].permute(1, 2, 0), image[0] / 255.0, atol=1e-5, rtol=0)


def test_a_quarter_turn_turns_the_picture_as_numpy_does():
    image = torch.randint(0, 256, (1, 32, 32, 3), dtype=torch.uint8)
    angle = torch.tensor([math.pi / 2])
    affine = crops.view_affine(
        torch.tensor([[15.5, 15.5]]), torch.tensor([32.0]), 32, angle, torch.ones(1), torch.zeros(1, 2)
    )
    view = crops.warp(image, affine, 32)[0].permute(1, 2, 0)
    turned = np.rot90(image[0].numpy(), k=-1)  # clockwise as seen, because y looks down
    torch.testing.assert_close(view, torch.from_numpy(turned.copy()) / 255.0, atol=1e-4, rtol=0)
    right_of_centre = geometry.apply_affine(affine, torch.tensor([[[20.5, 15.5]]]))[0, 0]
    torch.testing.assert_close(right_of_centre, torch.tensor([15.5, 20.5]))


def test_views_that_share_sources_equal_views_of_copies():
    torch.manual_seed(0)
    images = torch.randint(0, 256, (3, 40, 50, 3), dtype=torch.uint8)
    index = torch.tensor([0, 0, 1, 1, 2, 2])
    affine = crops.view_affine(
        torch.full((6, 2), 22.0),
        torch.full((6,), 30.0),
        24,
        torch.rand(6) * 6,
        torch.rand(6) * 0.4 + 0.8,
        torch.zeros(6, 2),
    )
    copied = crops.warp(images[index], affine, 24)
    torch.testing.assert_close(crops.warp(images, affine, 24), copied)


def test_the_warp_is_opencvs():
    image = np.random.default_rng(1).integers(0, 256, (60, 70, 3), dtype=np.uint8)
    image = cv2.GaussianBlur(image, (0, 0), 2)
    affine = crops.view_affine(
        torch.tensor([[33.0, 29.0]]),
        torch.tensor([30.0]),
        48,
        torch.tensor([0.7]),
        torch.tensor([1.1]),
        torch.zeros(1, 2),
    )
    view = crops.warp(torch.from_numpy(image[None]), affine, 48)[0].permute(1, 2, 0).numpy()
    expected = cv2.warpAffine(image.astype(np.float32) / 255, affine[0].double().numpy(), (48, 48))
    assert np.abs(view - expected).max() < 0.01  # OpenCV rounds its weights to 1/32 of a pixel


def test_supersampling_averages_what_one_sample_would_alias():
    stripes = np.zeros((1, 128, 128, 3), np.uint8)
    stripes[:, :, ::2] = 255
    affine = crops.plain_affine(torch.tensor([[63.5, 63.5]]), torch.tensor([128.0]), 32)
    grey = crops.warp(torch.from_numpy(stripes), affine, 32, supersample=4)
    assert (grey - 0.5).abs().max() < 1e-4
    aliased = crops.warp(torch.from_numpy(stripes), affine, 32, resample="nearest")
    assert (aliased - 0.5).abs().min() > 0.4


@pytest.mark.parametrize("box", [[20, 30, 60, 80], [-10, 5, 30, 40], [90, 70, 140, 130], [300, 300, 320, 330]])
@pytest.mark.parametrize("max_side", [None, 20])
def test_a_region_keeps_points_on_their_pixels(box, max_side):
    points = [(50.0, 60.0), (25.0, 20.0), (95.0, 75.0)]
    image = dots(100, 90, points, sigma=4.0)
    region, affine = crops.cut_region(image, np.array(box, np.float64), 1.5, max_side)
    assert region.shape[0] >= 1
    assert region.shape[1] >= 1
    if max_side is not None:
        assert max(region.shape[:2]) <= max_side
    for point in points:
        x, y = crops.map_points(affine, np.array([point]))[0]
        if 4 < x < region.shape[1] - 5 and 4 < y < region.shape[0] - 5:
            assert region[round(y), round(x), 0] > 200


def test_a_region_that_is_not_shrunk_is_a_slice():
    image = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    region, affine = crops.cut_region(image, np.array([20.0, 20, 29, 29]))
    np.testing.assert_array_equal(region, image[20:30, 20:30])
    np.testing.assert_allclose(affine, [[1, 0, -20], [0, 1, -20]])


def test_the_square_holds_both_boxes_and_ignores_a_nan_object():
    hand = torch.tensor([[10.0, 10, 30, 30], [10, 10, 30, 30]])
    object_box = torch.tensor([[20.0, 20, 60, 40], [torch.nan] * 4])
    centre, side = crops.square_of(hand, object_box, 1.5)
    # hand grown: 5..35; object grown: x 10..70, y 15..45; union x 5..70, y 5..45
    torch.testing.assert_close(centre, torch.tensor([[37.5, 25.0], [20.0, 20.0]]))
    torch.testing.assert_close(side, torch.tensor([65.0, 30.0]))
    centre, side = crops.square_of(hand, object_box, 1.5, limit=torch.tensor([[50.0, 40.0], [50.0, 40.0]]))
    torch.testing.assert_close(centre[0], torch.tensor([27.5, 22.5]))
    torch.testing.assert_close(side, torch.tensor([45.0, 30.0]))


def test_a_turned_camera_agrees_with_the_affine_on_turned_points():
    torch.manual_seed(0)
    camera = torch.tensor([[[600.0, 0, 320], [0, 620.0, 240], [0, 0, 1]]])
    points = torch.rand(1, 50, 3) * 0.2 + torch.tensor([-0.1, -0.1, 0.5])
    angle = torch.tensor([2.1])
    affine = crops.view_affine(
        torch.tensor([[300.0, 250.0]]), torch.tensor([200.0]), 256, angle, torch.tensor([0.9]), torch.zeros(1, 2)
    )
    turned = points @ geometry.rotation_z(angle).transpose(1, 2)
    seen = project(turned, crops.turned_camera(camera, affine, angle))
    mapped = geometry.apply_affine(affine, project(points, camera))
    assert (seen - mapped).abs().max() < 1e-3


def test_mask_cells_are_where_the_box_says():
    mask = torch.zeros(1, 64, 64, dtype=torch.uint8)
    mask[0, 16:32, 32:48] = 1
    box = torch.tensor([[15.5, 15.5, 47.5, 47.5]])  # pixels 16..47 of the input, which here is the source
    identity = torch.tensor([[[1.0, 0, 0], [0, 1.0, 0]]])
    cells = crops.warp_mask(mask, crops.cell_affine(identity, box, 8), 8)[0]
    expected = torch.zeros(8, 8)
    expected[:4, 4:] = 1
    torch.testing.assert_close(cells, expected)
