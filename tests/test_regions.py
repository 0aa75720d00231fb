"""datasets.regions: the region holds what the crop will show, and half an image is none."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from hojoint import config as settings
from hojoint.datasets import regions
from hojoint.datasets.collate import collate
from hojoint.errors import InputError
from hojoint.training.batches import prepare

PICTURE = cv2.resize(np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8), (160, 120))


@pytest.mark.parametrize("ending", [".jpg", ".png"])
def test_half_an_image_is_refused_and_padding_is_not(tmp_path, ending):
    data = cv2.imencode(ending, PICTURE)[1].tobytes()
    path = tmp_path / f"0000{ending}"
    path.write_bytes(data)
    complete = regions.read_image(path)
    path.write_bytes(data + bytes(5000))
    np.testing.assert_array_equal(regions.read_image(path), complete)
    for missing in (len(data) // 2, 5, len(data)):
        path.write_bytes(data[: len(data) - missing])
        with pytest.raises(InputError, match=f"0000{ending} is not a complete image"):
            regions.read_image(path)
    path.unlink()
    with pytest.raises(InputError, match=f"0000{ending} is missing"):
        regions.read_image(path)


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize(
    ("hand_box", "object_box"),
    [
        ([20, 150, 120, 300], [10, 120, 110, 330]),  # the grown union leaves the picture to the left
        ([300, 380, 420, 470], [320, 300, 400, 470]),  # below
        ([500, 20, 660, 160], [560, 10, 650, 90]),  # to the right and above
    ],
)
def test_the_crop_of_a_region_is_the_crop_of_the_image(clip, hand_box, object_box):
    config = settings.from_tree({"model": {"input_px": 128}, "crop": {"clip": clip}})
    image = np.full((480, 640, 3), 200, np.uint8)  # so that black is what lies outside
    crops = []
    for factor in (1.0, 100.0):
        sample = regions.cut_sample(
            "x", image, crop=config.crop, region_px=None, factor=factor,
            hand_box=np.array(hand_box, float), object_box=np.array(object_box, float), object_name="a",
        )  # fmt: skip
        crops.append(prepare(collate([sample]), config, None, "cpu").images)
    torch.testing.assert_close(crops[0], crops[1], atol=1e-4, rtol=0)
