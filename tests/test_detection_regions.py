"""Turned squares: affines by round trip, directions by hand, crops by their pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hojoint.detection import regions
from hojoint.detection.regions import Region


def upright_hand():
    """(21, 2) px: the wrist at (100, 200), straight fingers upwards."""
    points = np.zeros((21, 2))
    points[0] = 100, 200
    for finger in range(5):
        for joint in range(4):
            points[1 + 4 * finger + joint] = 80 + 10 * finger, 150 - 20 * joint
    return points


def turned(points, angle, about):
    """Clockwise in the picture, whose y points down."""
    cos, sin = math.cos(angle), math.sin(angle)
    return (points - about) @ np.array([[cos, -sin], [sin, cos]]).T + about


def test_a_crop_of_an_upright_region_is_the_pixels_themselves():
    picture = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    crop = Region(x=19.5, y=15.5, side=20, angle=0.0).crop(picture, 20)
    assert np.array_equal(crop, picture[6:26, 10:30])


def test_a_region_at_a_quarter_turn_stands_the_hand_up():
    picture = np.zeros((41, 41, 3), np.uint8)
    picture[20, 30] = 255  # to the right of the centre: where the fingers of a hand point that is turned clockwise
    crop = Region(x=20, y=20, side=41, angle=math.pi / 2).crop(picture, 41)
    assert np.unravel_index(crop[..., 0].argmax(), (41, 41)) == (10, 20)  # above the centre


def test_beyond_the_picture_a_crop_is_black():
    crop = Region(x=0, y=0, side=20, angle=0.0).crop(np.full((40, 40, 3), 255, np.uint8), 20)
    assert not crop[:9, :9].any()
    assert crop[11:, 11:].all()


def test_the_affine_maps_the_centre_and_the_size():
    region = Region(x=30.0, y=40.0, side=112.0, angle=0.7)
    affine = region.to_picture(224)
    to_picture = lambda point: affine[:, :2] @ point + affine[:, 2]  # noqa: E731
    assert to_picture(np.array([111.5, 111.5])) == pytest.approx([30, 40])
    up = to_picture(np.array([111.5, 11.5])) - (30, 40)
    assert up == pytest.approx(50 * np.array([math.sin(0.7), -math.cos(0.7)]))


def test_the_region_of_an_upright_palm_by_hand():
    box = np.array([80.0, 100.0, 120.0, 140.0])
    points = np.zeros((7, 2))
    points[0], points[2] = (100, 140), (100, 100)
    region = regions.of_palm(box, points)
    assert (region.x, region.y, region.side, region.angle) == pytest.approx((100, 100, 104, 0))


def test_the_region_of_an_upright_hand_by_hand():
    region = regions.of_landmarks(upright_hand())
    # Stable landmarks: x 80 to 120; y from the wrist at 200 to the thumb's third joint at 110.
    assert region.angle == pytest.approx(0)
    assert region.side == pytest.approx(2 * 90)
    assert (region.x, region.y) == pytest.approx((100, 155 - 9))


@pytest.mark.parametrize("degrees", [30, 90, 179, -120])
def test_a_turned_hand_has_the_turned_region(degrees):
    angle, about = math.radians(degrees), np.array([100.0, 146.0])
    region = regions.of_landmarks(turned(upright_hand(), angle, about))
    assert (region.x, region.y, region.side) == pytest.approx((100, 146, 180))
    assert math.remainder(region.angle - angle, math.tau) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("degrees", [45, 180, -60])
def test_a_turned_palm_has_the_turned_direction(degrees):
    angle, about = math.radians(degrees), np.array([100.0, 120.0])
    points = np.zeros((7, 2))
    points[0], points[2] = turned(np.array([[100.0, 140], [100, 100]]), angle, about)
    region = regions.of_palm(np.array([80.0, 100, 120, 140]), points)
    assert math.remainder(region.angle - angle, math.tau) == pytest.approx(0, abs=1e-9)
    assert (region.x, region.y) == pytest.approx(tuple(about + 20 * np.array([math.sin(angle), -math.cos(angle)])))


def test_landmarks_at_one_point_still_have_a_region():
    region = regions.of_landmarks(np.full((21, 2), 7.0))
    assert region.side > 0
    assert math.isfinite(region.angle)
