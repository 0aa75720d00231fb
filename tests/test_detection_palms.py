"""The palm network's tensors: anchors by their count and corners, rows by hand, merged palms by their mean."""

from __future__ import annotations

import numpy as np
import pytest

from hojoint.detection import palms


def test_anchors_are_two_grids_of_cell_centres():
    anchors = palms.anchors()
    assert anchors.shape == (2016, 2) == (24 * 24 * 2 + 12 * 12 * 6, 2)
    # Two per cell of 8 px, x first; then six per cell of 16 px.
    assert anchors[:4].tolist() == [[4, 4], [4, 4], [12, 4], [12, 4]]
    assert anchors[48].tolist() == [4, 12]
    assert anchors[1152:1159].tolist() == [[8, 8]] * 6 + [[24, 8]]
    assert anchors[-1].tolist() == [184, 184]


@pytest.mark.parametrize(("width", "height", "corner"), [(384, 192, (0, 48)), (96, 192, (48, 0)), (192, 192, (0, 0))])
def test_a_letterbox_keeps_the_aspect_and_centres(width, height, corner):
    square, scale, found = palms.letterbox(np.full((height, width, 3), 255, np.uint8))
    assert square.shape == (192, 192, 3)
    assert found.tolist() == list(corner)
    assert scale == 192 / max(width, height)
    lit = np.argwhere(square[..., 0] == 255)
    assert lit.min(axis=0).tolist() == [corner[1], corner[0]]
    assert lit.max(axis=0).tolist() == [191 - corner[1], 191 - corner[0]]


def test_a_row_is_relative_to_its_anchor_and_in_input_pixels():
    rows, logits = np.zeros((2016, 18), np.float32), np.full(2016, -20.0, np.float32)
    index = 2 * (24 * 10 + 5)  # its anchor is (44, 84)
    rows[index] = [2, -4, 20, 40, *np.arange(14)]
    logits[index] = np.log(3.0)  # a sigmoid of three quarters
    [palm] = palms.decode(rows, logits, scale=0.5, corner=np.array([0.0, 24.0]), min_score=0.5)
    assert palm.score == pytest.approx(0.75)
    # Centre (46, 80), size (20, 40); minus the corner, twice as large, and half a pixel from corner to centre.
    assert palm.box == pytest.approx([71.5, 71.5, 111.5, 151.5])
    assert palm.points[0] == pytest.approx([87.5, 121.5])
    assert palm.points[6] == pytest.approx([(44 + 12) * 2 - 0.5, (84 + 13 - 24) * 2 - 0.5])


def test_rows_below_the_score_do_not_count():
    logits = np.full(2016, -20.0, np.float32)
    logits[::100] = -0.1
    given = {"scale": 1.0, "corner": np.zeros(2)}
    assert palms.decode(np.zeros((2016, 18), np.float32), logits, min_score=0.5, **given) == []
    assert len(palms.decode(np.zeros((2016, 18), np.float32), logits, min_score=0.4, **given)) > 0


def test_overlapping_rows_become_their_weighted_mean():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 12], [50, 50, 60, 60]], np.float64)
    points = np.arange(3 * 14, dtype=np.float64).reshape(3, 7, 2)
    first, second = palms.merged(boxes, points, np.array([0.6, 0.9, 0.7]))
    assert first.score == 0.9
    assert first.box == pytest.approx([0, 0, 10, 10 * 0.4 + 12 * 0.6])
    assert first.points == pytest.approx(points[0] * 0.4 + points[1] * 0.6)
    assert second.score == 0.7
    assert second.box == pytest.approx(boxes[2])


def test_rows_that_hardly_overlap_stay_apart():
    boxes = np.array([[0, 0, 10, 10], [6, 0, 16, 10]], np.float64)  # IoU 0.25
    assert len(palms.merged(boxes, np.zeros((2, 7, 2)), np.array([0.6, 0.9]))) == 2


def test_an_empty_box_is_merged_with_nothing_and_ends():
    found = palms.merged(np.zeros((3, 4)), np.zeros((3, 7, 2)), np.array([0.6, 0.9, 0.7]))
    assert [palm.score for palm in found] == [0.9, 0.7, 0.6]
