"""The rasteriser against geometry worked out by hand, and pictures against the joints that belong to them."""

from __future__ import annotations

import numpy as np

from hojoint.synthetic import render, scene
from hojoint.synthetic.domains import LABELLED
from hojoint.synthetic.render import ARM, HAND, OBJECT, Body, Light

CAMERA = np.array([[100.0, 0, 31.5], [0, 100.0, 23.5], [0, 0, 1]])
LIGHT = Light(np.array([0, 0, -1.0]), np.full(3, 0.6), np.full(3, 0.4), 0.2)


def _square(label: int, depth: float, half: float, shift: float = 0.0, tilt: float = 0.0) -> Body:
    """A square that looks at the camera (counter-clockwise seen from there)."""
    vertices = np.array([[-half, -half, 0], [-half, half, 0], [half, half, 0], [half, -half, 0.0]])
    vertices[:, 2] = depth + tilt * vertices[:, 0]
    vertices[:, 0] += shift
    return Body(label, vertices, np.array([[0, 1, 2], [0, 2, 3]]), np.full((4, 3), 0.5), 0.0)


def test_the_nearer_body_wins_whatever_the_order() -> None:
    near, far = _square(HAND, 0.5, 0.05), _square(OBJECT, 0.8, 0.2)
    for bodies in ([near, far], [far, near]):
        layer = render.draw(bodies, CAMERA, (64, 48), LIGHT)
        assert layer.label[24, 32] == HAND
        assert layer.depth[24, 32] == np.float32(0.5)
        assert layer.label[24, 32 + 15] == OBJECT
        assert layer.label[0, 0] == 0


def test_two_crossing_planes_swap_where_they_meet() -> None:
    flat, tilted = _square(HAND, 0.5, 0.2), _square(OBJECT, 0.5, 0.2, tilt=0.5)
    label = render.draw([flat, tilted], CAMERA, (64, 48), LIGHT).label
    assert (label[5:40, 20:30] == OBJECT).all()  # left of the middle the tilted one is nearer
    assert (label[5:40, 34:44] == HAND).all()


def test_depth_is_perspective_correct_on_a_tilted_plane() -> None:
    layer = render.draw([_square(OBJECT, 0.5, 0.2, tilt=0.5)], CAMERA, (64, 48), LIGHT)
    rows, columns = np.nonzero(layer.label)
    ray = (columns - 31.5) / 100.0  # x / z; and z = 0.5 + 0.5 x
    np.testing.assert_allclose(layer.depth[rows, columns], 0.5 / (1 - 0.5 * ray), rtol=1e-5)


def test_a_square_covers_the_pixels_whose_centres_are_inside() -> None:
    label = render.draw([_square(HAND, 1.0, 0.1)], CAMERA, (64, 48), LIGHT).label
    assert int((label == HAND).sum()) == 20 * 20  # 21.5 to 41.5 across, 13.5 to 33.5 down


def test_back_faces_are_not_drawn() -> None:
    body = _square(HAND, 0.5, 0.1)
    turned = Body(HAND, body.vertices, body.faces[:, ::-1], body.colours, 0.0)
    assert not render.draw([turned], CAMERA, (64, 48), LIGHT).label.any()


def test_a_streak_spreads_the_light_along_the_motion() -> None:
    layer = render.draw([_square(HAND, 1.0, 0.04)], CAMERA, (64, 48), LIGHT)
    background = np.zeros((48, 64, 3), np.uint8)
    sharp = render.compose(layer, background, (0, 0), 0.0).rgb.astype(float)
    blurred = render.compose(layer, background, (9, 0), 0.0).rgb.astype(float)
    assert abs(blurred.sum() / sharp.sum() - 1) < 0.03
    assert (blurred[:, :, 0].max(0) > 0).sum() > (sharp[:, :, 0].max(0) > 0).sum() + 5
    assert (blurred[:, :, 0].max(1) > 0).sum() == (sharp[:, :, 0].max(1) > 0).sum()


def _shot(index: int, frames: int = 4) -> scene.Shot:
    rng = scene.generator(3, "labelled", index)
    return scene.make_shot(rng, 3, LABELLED, story="hold", frames=frames, size=(320, 240), room=0)


def test_visible_joints_land_on_the_hand() -> None:
    on_hand = 0
    for index in range(3):
        shot = _shot(index)
        seen = scene.picture(shot, 2)
        for px, point in zip(shot.hand.joints_px[2], shot.hand.joints[2], strict=True):
            x, y = np.round(px).astype(int)
            around = seen.label[y - 1 : y + 2, x - 1 : x + 2]  # tips lie on the outline
            assert around.any()
            if not np.isin(around, (HAND, ARM)).any():
                assert seen.depth[y, x] < point[2]  # the object is in front, as it should be
            on_hand += bool(np.isin(around, (HAND, ARM)).any())
    assert on_hand > 30


def test_the_mask_of_the_hand_shrinks_by_what_the_object_hides() -> None:
    shot = _shot(1)
    bodies = scene.bodies(shot, 1)
    both = render.draw(bodies, shot.camera, shot.size, shot.light)
    alone = render.draw([b for b in bodies if b.label != OBJECT], shot.camera, shot.size, shot.light)
    hidden = (alone.label == HAND) & (both.label == OBJECT)
    assert (both.depth[hidden] <= alone.depth[hidden]).all()
    assert ((both.label == HAND) | hidden)[alone.label == HAND].all()


def test_the_same_seed_draws_the_same_pixels() -> None:
    first, again, other = _shot(0), _shot(0), _shot(9)
    np.testing.assert_array_equal(scene.picture(first, 1).rgb, scene.picture(again, 1).rgb)
    assert (scene.picture(first, 1).rgb != scene.picture(other, 1).rgb).mean() > 0.05
