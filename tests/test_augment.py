"""augment: draws that depend on the sample alone, and colour against other formulas."""

from __future__ import annotations

import colorsys
import math

import numpy as np
import torch
from PIL import Image, ImageEnhance

from hojoint.config import AugmentConfig, Config
from hojoint.training import augment

CONFIG = AugmentConfig(hue=0.1, box_jitter=0.2, blur_px=1.5)


def keys(count, seed=0, number=3):
    return [(seed, number, index) for index in range(count)]


def test_a_draw_depends_on_seed_pass_and_sample_alone():
    together = augment.augment_draws(CONFIG, keys(6))
    alone = augment.augment_draws(CONFIG, keys(6)[4:5])
    for name, values in vars(together).items():
        torch.testing.assert_close(values[4:5], getattr(alone, name))
    for other in (keys(6, seed=1), keys(6, number=4)):
        assert not torch.equal(together.angle, augment.augment_draws(CONFIG, other).angle)


def test_draws_stay_in_the_papers_ranges():
    draws = augment.augment_draws(AugmentConfig(), keys(4000))
    assert draws.angle.abs().max() <= math.pi
    assert draws.angle.std() > 1.7
    assert draws.scale.min() >= 0.8 - 1e-6
    assert draws.scale.max() <= 1.2 + 1e-6
    at_limits = ((draws.scale - 1).abs() > 0.2 - 1e-5).float().mean()
    assert abs(at_limits - 0.3173) < 0.03
    assert draws.shift.abs().max() <= 0.1
    assert draws.blur.min() >= 0
    assert draws.blur.max() <= 0.5
    assert torch.equal(draws.box_scale, torch.ones(4000, 2))


def still(count, **changes):
    draws = augment.augment_draws(
        AugmentConfig(brightness=0, contrast=0, saturation=0, hue=0, blur_px=0), keys(count)
    )  # fmt: skip
    return augment.Draws(**{**vars(draws), **changes})


def test_no_colour_change_is_no_change():
    images = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(augment.recolour(images, still(2)), images)


def test_brightness_contrast_and_saturation_are_pils():
    grey = np.random.default_rng(0).integers(90, 160, (24, 24, 3), dtype=np.uint8)  # far from clipping
    images = torch.from_numpy(grey).permute(2, 0, 1)[None].repeat(3, 1, 1, 1) / 255.0
    one = torch.ones(3)
    draws = still(
        3,
        brightness=torch.tensor([1.1, 1, 1]),
        contrast=torch.tensor([1, 1.3, 1]),
        saturation=torch.tensor([1, 1, 0.6]),
        hue=0 * one,
    )
    ours = augment.recolour(images, draws).permute(0, 2, 3, 1).numpy()
    picture = Image.fromarray(grey)
    for row, enhance, factor in zip(
        ours, (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color), (1.1, 1.3, 0.6), strict=True
    ):
        theirs = np.asarray(enhance(picture).enhance(factor)) / 255.0
        assert np.abs(row - theirs).max() < 2.5 / 255


def test_hue_turns_colours_and_leaves_grey_alone():
    images = torch.tensor([[0.5, 0.5, 0.5], [0.7, 0.45, 0.4]]).reshape(2, 3, 1, 1)
    turned = augment.recolour(images, still(2, hue=torch.tensor([0.2, 0.2])))[:, :, 0, 0]
    torch.testing.assert_close(turned[0], torch.full((3,), 0.5), atol=1e-4, rtol=0)
    before, after = (colorsys.rgb_to_hsv(*x.tolist())[0] for x in (images[1, :, 0, 0], turned[1]))
    assert 0.08 < abs(after - before) % 1 < 0.92


def test_blur_is_a_gaussian_of_its_sigma_for_each_image():
    images = torch.zeros(3, 3, 41, 41)
    images[:, :, 20, 20] = 1
    sigma = torch.tensor([0.0, 1.0, 2.0])
    out = augment.blur(images, sigma)
    torch.testing.assert_close(out[0], images[0], atol=1e-6, rtol=0)
    offset = torch.arange(41.0) - 20
    for row, expected in ((1, 1.0), (2, 2.0)):
        variance = (out[row, 0].sum(0) * offset**2).sum()
        assert abs(variance.sqrt() - expected) < 0.02
        assert abs(out[row, 0].sum() - 1) < 1e-4


def test_a_square_is_cut_out_where_it_was_drawn():
    images = torch.rand(3, 3, 20, 20)
    boxes = torch.tensor([[0.5, 0.25, 0.2], [0.0, 1.0, 0.4], [0.5, 0.5, 0.0]])  # x, y, side in input sides
    out = augment.cut_out(images, still(3, cutout=boxes))
    expected = images.clone()
    expected[0, :, 3:7, 8:12] = 0.5
    expected[1, :, 16:, :4] = 0.5  # beyond the edges nothing is left to hide
    torch.testing.assert_close(out, expected, atol=0, rtol=0)
    assert augment.cut_out(images, still(3)) is images


def test_squares_are_drawn_last_so_that_no_other_draw_changes():
    plain, cut = (augment.augment_draws(AugmentConfig(cutout=share), keys(500)) for share in (0.0, 0.4))
    for name, values in vars(plain).items():
        assert name == "cutout" or torch.equal(values, getattr(cut, name))
    assert plain.cutout[:, 2].max() == 0
    assert 0.38 < cut.cutout[:, 2].max() <= 0.4
    assert cut.cutout[:, :2].min() >= 0
    first = np.random.default_rng(keys(1)[0]).random(15)  # all that earlier versions drew
    assert float(cut.angle[0]) == np.float32(first[0] * 2 - 1) * np.float32(math.pi)


def test_pseudo_labels_have_an_augmentation_of_their_own():
    pseudo = torch.tensor([False, True, False, True])
    numbers = [(3, row) for row in range(4)]
    calm, wild = AugmentConfig(blur_px=0.1), AugmentConfig(blur_px=3.0, cutout=0.5, rotation_deg=20)
    config = Config.model_validate({"augment": calm, "train": {"pseudo_augment": wild}})
    mixed = augment.draws_by_kind(config, numbers, pseudo)
    of_kind = {kind: augment.augment_draws(given, keys(4)) for kind, given in ((False, calm), (True, wild))}
    for row in range(4):
        for name, values in vars(mixed).items():
            assert torch.equal(values[row], getattr(of_kind[bool(pseudo[row])], name)[row]), name
    alike = augment.draws_by_kind(Config(augment=calm), numbers, pseudo)
    assert all(torch.equal(values, getattr(of_kind[False], name)) for name, values in vars(alike).items())


def test_one_kind_alone_can_be_augmented():
    off = AugmentConfig(enabled=False, blur_px=5)
    numbers, pseudo = [(0, 0), (0, 1)], torch.tensor([False, True])
    config = Config.model_validate({"augment": off, "train": {"pseudo_augment": CONFIG}})
    draws = augment.draws_by_kind(config, numbers, pseudo)
    assert (draws.angle[0], draws.scale[0], draws.brightness[0], draws.blur[0]) == (0, 1, 1, 0)
    assert draws.angle[1] != 0
    assert augment.draws_by_kind(config, numbers, torch.tensor([False, False])) is None
