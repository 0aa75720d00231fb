"""Pictures: drawings are where the numbers say, hide what is behind them, and can be read back."""

from __future__ import annotations

import numpy as np
import pytest

from hojoint.errors import InputError
from hojoint.report import draw, figures

GREY = np.full((120, 160, 3), 128, np.uint8)
SQUARE = np.array([[20.0, 30], [60, 30], [60, 80], [20, 80]])
QUAD = np.array([[0, 1, 2], [0, 2, 3]])


def flat(points_px, depth):
    return np.concatenate([points_px / 100, np.full((len(points_px), 1), depth)], axis=1)


def test_a_mesh_covers_its_polygon_and_leaves_the_rest_alone():
    out = draw.mesh(GREY, SQUARE, flat(SQUARE, 1.0), QUAD, colours=(255, 0, 0), alpha=1.0)
    inside = np.zeros(GREY.shape[:2], bool)
    inside[31:80, 21:60] = True
    assert (out[inside][:, 1] < 40).all()
    outside = np.ones_like(inside)
    outside[29:82, 19:62] = False
    np.testing.assert_array_equal(out[outside], GREY[outside])


def test_the_nearer_of_two_faces_hides_the_other_in_any_order():
    points = np.concatenate([SQUARE, SQUARE])
    vertices = np.concatenate([flat(SQUARE, 1.0), flat(SQUARE, 2.0)])
    colours = np.array([[255, 0, 0]] * 4 + [[0, 0, 255]] * 4)
    for faces in (np.concatenate([QUAD, QUAD + 4]), np.concatenate([QUAD + 4, QUAD])):
        red, _, blue = draw.mesh(GREY, points, vertices, faces, colours=colours, alpha=1.0)[50, 40].tolist()
        assert red > 100 > blue


def test_alpha_is_the_share_of_the_mesh_in_the_blend():
    full = draw.mesh(GREY, SQUARE, flat(SQUARE, 1.0), QUAD, alpha=1.0)[50, 40].astype(float)
    half = draw.mesh(GREY, SQUARE, flat(SQUARE, 1.0), QUAD, alpha=0.5)[50, 40].astype(float)
    np.testing.assert_allclose(half, (full + 128) / 2, atol=1)


def test_the_winding_of_a_face_does_not_change_its_light():
    one = draw.mesh(GREY, SQUARE, flat(SQUARE, 1.0), QUAD)
    other = draw.mesh(GREY, SQUARE, flat(SQUARE, 1.0), QUAD[:, ::-1])
    np.testing.assert_array_equal(one[40:70, 30:50], other[40:70, 30:50])


def test_a_mesh_with_a_pixel_that_is_not_finite_is_refused():
    points = SQUARE.copy()
    points[0, 0] = np.nan
    with pytest.raises(InputError, match="finite pixel per vertex; found 3 for 4"):
        draw.mesh(GREY, points, flat(SQUARE, 1.0), QUAD)


def test_a_closeup_and_its_affine_centre_the_box():
    image = GREY.copy()
    image[38:43, 98:103] = (0, 255, 0)
    tile, affine = draw.closeup(image, np.array([90.0, 30, 110, 50]), 101, context=1.0)
    np.testing.assert_allclose(draw.mapped(affine, np.array([100.0, 40])), [50, 50], atol=1e-9)
    assert tile[50, 50].tolist() == [0, 255, 0]
    assert tile[5, 5].tolist() == [128, 128, 128]


def test_a_closeup_beyond_the_image_is_grey():
    tile, _ = draw.closeup(GREY, np.array([-40.0, -40, 0, 0]), 64, context=1.5)
    assert tile.shape == (64, 64, 3)


def test_a_wireframe_touches_the_corners_and_not_the_middle():
    x, y = np.meshgrid([40.0, 100.0], [20.0, 80.0])
    near = np.stack([x.ravel(), y.ravel()], axis=1)
    out = draw.wireframe(GREY, np.concatenate([near, near + 20]), (255, 0, 0))
    for u, v in near.astype(int):
        assert out[v, u, 0] > 200
    assert out[60, 80].tolist() == [128, 128, 128]


def test_axes_start_at_the_origin_and_need_to_be_in_front():
    camera = np.array([[100.0, 0, 80], [0, 100, 60], [0, 0, 1]])
    pose = np.concatenate([np.eye(3), [[0.0], [0], [1]]], axis=1)
    out = draw.axes(GREY, pose, camera, 0.3)
    assert out[60, 95, 0] > 180 > out[60, 95, 1]  # red, to the right of (80, 60)
    assert out[75, 80, 1] > 130 > out[75, 80, 0]  # green, below it
    pose[2, 3] = -1.0
    np.testing.assert_array_equal(draw.axes(GREY, pose, camera, 0.3), GREY)


def test_a_box_that_is_not_finite_leaves_no_mark():
    np.testing.assert_array_equal(draw.box(GREY, np.full(4, np.nan)), GREY)


def test_heat_peaks_in_the_hottest_cell_and_stays_in_its_box():
    values = np.zeros((4, 4))
    values[0, 3] = 1.0
    out = draw.heat(GREY, values, np.array([40.0, 20, 80, 60]))
    assert out[25, 75, 0] > out[55, 45, 0]
    np.testing.assert_array_equal(out[:, 81:], GREY[:, 81:])
    np.testing.assert_array_equal(draw.heat(GREY, values, np.array([50.0, 20, 40, 60])), GREY)  # an empty box


def test_error_colours_go_from_blue_through_white_to_red():
    blue, white, red = draw.error_colours(np.array([0.0, 10, 99]), worst=20.0)
    assert blue[2] > blue[0]
    np.testing.assert_allclose(white, 240)
    assert red[0] > red[2]


def test_a_sheet_holds_every_tile_in_reading_order():
    tiles = [np.full((10, 12, 3), value, np.uint8) for value in (10, 20, 30)]
    out = draw.sheet(tiles, columns=2, gap=4)
    assert out.shape == (24, 28, 3)
    assert [out[5, 5, 0], out[5, 20, 0], out[18, 5, 0], out[18, 20, 0]] == [10, 20, 30, 255]
    with pytest.raises(InputError):
        draw.sheet([], columns=2)


def test_a_jpeg_reads_back_and_other_bytes_are_refused():
    ramp = np.broadcast_to(np.arange(160, dtype=np.uint8)[None, :, None], (120, 160, 3))
    assert np.abs(draw.open_jpeg(draw.jpeg(ramp, 95)).astype(int) - ramp).mean() < 1.5
    with pytest.raises(InputError, match="neither"):
        draw.open_jpeg(b"not an image")


def test_equal_curves_are_equal_svg_files():
    thresholds = np.linspace(0, 50, 100)
    curves = {"student": (thresholds, thresholds / 50)}  # a straight line: area one half
    one, two = figures.pck(curves), figures.pck(curves)
    assert one == two
    assert one.startswith(b"<?xml")
    assert figures.pck(curves, kind="png").startswith(b"\x89PNG")


def test_a_series_of_one_point_leaves_a_mark():
    def drawn(*points: float) -> bytes:
        return figures.lines({"student": (points, points)}, title="", across="", up="")

    colour = figures.SERIES["student"].encode()
    assert drawn(1.0).count(colour) > drawn(1.0, 2.0).count(colour) > 0


def test_attention_shows_the_given_cells_side_by_side():
    weights = np.zeros((16, 16))
    weights[:, 5] = 1.0
    tile = figures.attention(
        np.full((64, 64, 3), 128, np.uint8),
        weights,
        [(0, 0), (3, 3)],
        hand_box=np.array([4.0, 4, 44, 44]),
        object_box=np.array([20.0, 20, 60, 60]),
    )
    assert tile.shape == (64, 64 + 8 + 64, 3)
    assert tile[32, 32, 0] > tile[32, 32, 2]  # cell (1, 1) of the shared box (20, 20, 44, 44)


def test_errors_in_space_is_a_png():
    vertices = np.concatenate([flat(SQUARE / 1000, 0.0), flat(SQUARE / 1000, 0.05)])
    faces = np.array([[0, 1, 2], [4, 5, 6]])
    assert figures.errors_in_space(vertices, np.full(8, 10.0), faces, worst_mm=20.0).startswith(b"\x89PNG")


def test_a_caption_adds_a_strip_below_and_leaves_the_picture():
    out = draw.captioned(GREY, ["kept", "box_iou 0.8"], draw.KEPT)
    np.testing.assert_array_equal(out[:120], GREY)
    assert out[121, 2].tolist() == list(draw.KEPT)
