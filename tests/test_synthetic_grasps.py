"""Objects and grasps: sizes of the real things, distances, and hands that touch what they hold."""

from __future__ import annotations

import numpy as np
import pytest

from hojoint.hand.stand_in.angles import pose_from_angles
from hojoint.hand.stand_in.model import stand_in_model
from hojoint.synthetic import grasps, motion, objects, scene
from hojoint.synthetic.domains import LABELLED, WILD

# Extents and box diagonals of the YCB-Video models, metres (published sizes).
REAL = {
    "003_cracker_box": (0.072, 0.164, 0.213),
    "004_sugar_box": (0.049, 0.094, 0.176),
    "006_mustard_bottle": (0.097, 0.066, 0.191),
    "010_potted_meat_can": (0.101, 0.059, 0.083),
    "021_bleach_cleanser": (0.102, 0.068, 0.250),
    "025_mug": (0.116, 0.093, 0.081),
    "035_power_drill": (0.184, 0.187, 0.057),
}


@pytest.mark.parametrize("name", sorted(REAL))
def test_objects_are_as_large_as_the_real_ones(name: str) -> None:
    np.testing.assert_allclose(np.ptp(objects.ycb_shape(name).points, axis=0), REAL[name], atol=0.006)


@pytest.mark.parametrize("name", sorted(objects.YCB_LABELS))
def test_meshes_look_outwards_and_points_lie_on_them(name: str) -> None:
    shape = objects.ycb_shape(name)
    corners = shape.vertices[shape.faces]
    assert np.einsum("fi,fi->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) > 0
    assert len(shape.points) == objects.SURFACE_POINTS
    np.testing.assert_allclose(shape.points.min(0), shape.vertices.min(0))
    np.testing.assert_allclose(shape.points.max(0), shape.vertices.max(0))


def test_signed_distance_agrees_with_the_formula_of_a_ball() -> None:
    rng = np.random.default_rng(0)
    shape = objects.make_shape(
        "ball",
        [objects._turned([(np.sin(a) / 2, np.cos(a)) for a in np.linspace(-1.57, 1.57, 41)], 0.04, None)],
        np.zeros((128, 128, 3), np.uint8),
        seed=1,
    )
    points = rng.normal(size=(500, 3)) * 0.03
    expected = np.linalg.norm(points, axis=1) - 0.04
    assert np.abs(shape.distance(points) - expected).max() < 0.004  # the spacing of the points


def test_signed_distance_is_right_beside_the_edges_of_a_box() -> None:
    rng = np.random.default_rng(0)
    half = np.array(REAL["004_sugar_box"]) / 2
    points = rng.uniform(-0.13, 0.13, (3000, 3))
    local = points - [0, 0, -0.004]
    outside = np.linalg.norm(np.maximum(np.abs(local) - half, 0), axis=1)
    distances = objects.ycb_shape("004_sugar_box").distance(points)
    far = outside > 0.006
    assert (distances[far] > 0).all()
    deep = (np.abs(local) < half - 0.006).all(1)
    assert (distances[deep] < 0).all()


def test_a_grasp_touches_with_several_fingers_without_sinking() -> None:
    rng = np.random.default_rng(3)
    model = stand_in_model()
    wrist = (model.J_regressor @ model.v_template)[0]
    touching, depth, contact = [], [], []
    for index in range(18):
        shape = objects.ycb_shape(list(objects.YCB_LABELS)[index % 9]) if index % 2 else objects.wild_shape(rng)
        grasp = grasps.grasp_object(rng, shape)
        pose = np.concatenate([np.zeros(3), pose_from_angles(grasp.closed)])
        vertices = scene.pose_hand(pose[None], np.zeros(10))[1][0] + wrist
        distance = shape.distance((vertices - grasp.translation) @ grasp.rotation)
        touching.append(grasp.touching)
        depth.append(distance.min())
        contact.append((distance < 0.004).sum())  # HO-3D v3 calls 4 mm a contact
    assert np.mean(np.array(touching) >= 4) > 0.8
    assert np.median(depth) > -0.006
    assert np.min(depth) > -0.015
    assert np.median(contact) >= 15


def test_hand_and_object_move_as_one_between_contact_and_release() -> None:
    rng = np.random.default_rng(5)
    track = motion.make_track(rng, WILD.view, "pick", objects.ycb_shape("025_mug"), 40, np.array([0, 0, 0.5]))
    moved = np.linalg.norm(np.diff(track.object_position, axis=0), axis=1)
    first = int(np.argmax(moved > 1e-9))
    assert 5 < first < 30
    assert (moved[:first] == 0).all()  # it rests until the hand arrives
    reach = np.linalg.norm(track.object_position - track.wrist, axis=1)
    assert reach[first:].max() < 0.25
    assert reach[0] > reach[first] + 0.1


def test_motion_is_smooth_in_time() -> None:
    rng = np.random.default_rng(6)
    for story in ("hold", "pick", "gesture"):
        track = motion.make_track(rng, WILD.view, story, objects.ycb_shape("011_banana"), 36, np.array([0, 0, 0.5]))
        assert np.abs(np.diff(track.pose[:, 3:], axis=0)).max() < 0.6
        assert np.linalg.norm(np.diff(track.wrist, axis=0), axis=1).max() < 0.06


def test_the_labelled_domain_sees_less_than_the_wild_one() -> None:
    rng = np.random.default_rng(7)

    def directions(view: motion.View) -> np.ndarray:
        return np.array([-motion.view_rotation(rng, view)[2] for _ in range(300)])  # to the camera, hand's frame

    centre = np.array(LABELLED.view.centre) / np.linalg.norm(LABELLED.view.centre)
    narrow, wide = (np.arccos(directions(domain.view) @ centre) for domain in (LABELLED, WILD))
    assert narrow.max() <= LABELLED.view.cone + 1e-9
    assert (wide > LABELLED.view.cone).mean() > 0.25


def test_view_rotations_are_rotations() -> None:
    rng = np.random.default_rng(8)
    for _ in range(20):
        rotation = motion.view_rotation(rng, WILD.view)
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(rotation) == pytest.approx(1)
