"""The fit of a clip's orientations: against a general optimiser, and what its weights do."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from hojoint.labelling import fitting
from hojoint.labelling.fitting import Weights, fit_orientation

FRAMES = np.array([0, 1, 2, 4])


@pytest.fixture
def clip() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Joints under wrong orientations, noisy 2D joints, and those orientations."""
    rng = np.random.default_rng(0)
    shape = rng.normal(size=(21, 3)) * 0.04
    true = Rotation.from_rotvec(np.array([[0.3, 0.1 * t, 0.2] for t in FRAMES])).as_matrix()
    wrong = Rotation.from_rotvec(rng.normal(size=(4, 3)) * 0.3).as_matrix() @ true
    joints_2d = 6 * (shape @ true.transpose(0, 2, 1))[..., :2] + 0.1 + rng.normal(size=(4, 21, 2)) * 0.02
    return shape @ wrong.transpose(0, 2, 1), joints_2d, wrong


def residuals(x: np.ndarray, clip: tuple[np.ndarray, ...], weights: Weights) -> np.ndarray:
    joints, joints_2d, orientation = clip
    vectors, cameras = x[:12].reshape(4, 3), x[12:].reshape(4, 3)
    turn = Rotation.from_rotvec(vectors).as_matrix()
    seen = cameras[:, :1, None] * (joints @ turn.transpose(0, 2, 1))[..., :2] + cameras[:, None, 1:]
    placed = turn @ orientation
    moved = Rotation.from_matrix(placed[1:] @ placed[:-1].transpose(0, 2, 1)).as_rotvec()
    moved = moved / np.sqrt(np.diff(FRAMES))[:, None]
    parts = (seen - joints_2d, np.sqrt(weights.prediction) * vectors, np.sqrt(weights.neighbour) * moved)
    return np.concatenate([part.ravel() for part in parts])


@pytest.mark.parametrize("weights", [Weights(1e-6, 0.0), Weights(0.1, 0.0), Weights(0.05, 0.5)])
def test_it_finds_what_a_general_optimiser_finds(clip, weights: Weights) -> None:
    fitted = fit_orientation(*clip, FRAMES, weights, steps=40)
    start = np.concatenate([np.zeros(12), np.tile([6.0, 0.1, 0.1], 4)])
    best = least_squares(residuals, start, args=(clip, weights), xtol=1e-12, ftol=1e-12)
    expected = Rotation.from_rotvec(best.x[:12].reshape(4, 3)).as_matrix() @ clip[2]
    apart = Rotation.from_matrix(fitted @ expected.transpose(0, 2, 1)).magnitude()
    assert apart.max() < 0.02


def test_no_step_or_a_strong_pull_leaves_the_prediction(clip) -> None:
    np.testing.assert_array_equal(fit_orientation(*clip, FRAMES, Weights(0.0, 0.0), steps=0), clip[2])
    held = fit_orientation(*clip, FRAMES, Weights(1e6, 0.0), steps=10)
    np.testing.assert_allclose(held, clip[2], atol=1e-4)


def test_neighbours_that_pull_make_the_motion_slower(clip) -> None:
    def motion(weight: float) -> float:
        placed = fit_orientation(*clip, FRAMES, Weights(1e-4, weight), steps=30)
        return float(Rotation.from_matrix(placed[1:] @ placed[:-1].transpose(0, 2, 1)).magnitude().sum())

    assert motion(30.0) < motion(1.0) < motion(0.0)


def test_one_frame_alone_is_a_clip(clip) -> None:
    joints, joints_2d, orientation = (part[:1] for part in clip)
    fitted = fit_orientation(joints, joints_2d, orientation, FRAMES[:1], Weights(1e-4, 1.0), steps=20)
    assert fitted.shape == (1, 3, 3)
    np.testing.assert_allclose(np.linalg.det(fitted), 1.0)


def test_the_bands_hold_the_complete_normal_matrix(clip) -> None:
    """Against the sum of squares written out: what the 2D joints ask of each frame, the pulls from difference rows."""
    weights = Weights(0.05, 0.5)
    problem = fitting._Problem(*clip, fitting._nearness(FRAMES), weights)
    state = problem.evaluate(np.tile(np.eye(3), (4, 1, 1)))
    bands, gradient = problem.normal_equations(state)
    dense = np.zeros((12, 12))
    for row, column in np.ndindex(12, 12):
        if abs(row - column) <= fitting.BANDS:
            dense[row, column] = bands[fitting.BANDS + row - column, column]
    free = fitting._Problem(*clip, fitting._nearness(FRAMES), Weights(0.0, 0.0))
    alone = free.normal_equations(state)[0].reshape(7, 4, 3)
    expected = weights.prediction * np.eye(12)
    for frame, row, column in np.ndindex(4, 3, 3):
        expected[3 * frame + row, 3 * frame + column] += alone[3 + row - column, frame, column]
    rows = (np.eye(4)[1:] - np.eye(4)[:-1]) / np.sqrt(np.diff(FRAMES))[:, None]
    expected += weights.neighbour * np.kron(rows.T @ rows, np.eye(3))
    np.testing.assert_allclose(dense, expected, atol=1e-12)
    moved = (rows.T @ (state.moved / np.sqrt(np.diff(FRAMES))[:, None])).ravel()
    pulled = free.normal_equations(state)[1] + weights.prediction * state.away.ravel() + weights.neighbour * moved
    np.testing.assert_allclose(gradient, pulled, atol=1e-12)


def test_a_long_clip_needs_no_matrix_of_its_length_squared() -> None:
    count, rng = 1500, np.random.default_rng(1)
    turns = Rotation.from_rotvec(rng.normal(size=(count, 3)) * 0.1).as_matrix()
    joints = rng.normal(size=(21, 3)) * 0.04 @ turns.transpose(0, 2, 1)
    tracemalloc.start()
    try:
        fit_orientation(joints, rng.normal(size=(count, 21, 2)), turns, np.arange(count), Weights(0.1, 3.0), steps=2)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 8 * (3 * count) ** 2 / 3  # a third of one such matrix
