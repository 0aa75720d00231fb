"""The hand turned to fit its 2D joints along a clip (the paper's Sec. 5.1 speaks of SMPLify); ours.

Most of a label's error is its global orientation. So the hand is turned, with its fingers as predicted, and seen by a
weak-perspective camera, until

    sum of squared 2D errors + pull to the predicted orientation + pull to the neighbouring frames' orientations

is least over all frames of a clip at once. Turning a rigid hand needs no hand model. Levenberg-Marquardt with the
camera eliminated frame by frame; a step is taken only where it lowers the sum, so no clip's sum is higher than before.
Numpy, because the arrays of a clip are small.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_banded
from scipy.spatial.transform import Rotation

# Suffixes of locals: K frames of a clip, J = 21 joints, R = 42 residuals.

BANDS = 3  # above and below the diagonal: an axis of a frame's turn depends on its others and on itself a frame away
LARGEST_TURN = 0.5  # rad in one step: beyond it the hand's projection is not linear
LEAST_GAIN = 1e-4  # of the sum, by which a further step must lower it
GIVE_UP = 1e6  # damping at which no step lowers the sum any more


@dataclass(frozen=True, eq=False)
class Weights:
    """What holds the orientations while they are fitted: weights against squared 2D errors in hand boxes."""

    prediction: float  # per rad^2 of the turn away from the prediction
    neighbour: float  # per rad^2 of the turn from frame to frame


def fit_orientation(
    joints: np.ndarray, joints_2d: np.ndarray, orientation: np.ndarray, frames: np.ndarray, weights: Weights, steps: int
) -> np.ndarray:  # fmt: skip
    """Global orientations (K, 3, 3) under which a clip's hands fit their 2D joints.

    Args:
        joints: (K, 21, 3) m, wrist-centred, as they stand under ``orientation``, in the image of a right hand.
        joints_2d: (K, 21, 2) in the same (for a left hand mirrored) image, in units of the hand's box.
        orientation: (K, 3, 3) predicted, in the same camera frame.
        frames: (K,) ascending frame numbers; a neighbour pulls less the further away it is.
        weights: what holds the orientations.
        steps: of Levenberg-Marquardt, at most.
    """
    problem = _Problem(joints, joints_2d, orientation, _nearness(frames), weights)
    state, damping = problem.evaluate(np.tile(np.eye(3), (len(joints), 1, 1))), 1e-6
    for _ in range(steps):
        normal, gradient = problem.normal_equations(state)
        while damping < GIVE_UP:
            damped = normal.copy()
            damped[BANDS] += damping * normal[BANDS] + 1e-12
            step_K3 = -solve_banded((BANDS, BANDS), damped, gradient).reshape(-1, 3)
            tried = problem.evaluate(Rotation.from_rotvec(_shortened(step_K3)).as_matrix() @ state.turn)
            if tried.cost < state.cost:
                break
            damping = max(10 * damping, 1e-4)
        else:
            break
        gain, state, damping = state.cost - tried.cost, tried, damping / 10
        if gain < LEAST_GAIN * state.cost:
            break
    return state.turn @ orientation


@dataclass(frozen=True, eq=False)
class _State:
    """Turns (K, 3, 3) away from the predictions, and what follows from them."""

    turn: np.ndarray
    away: np.ndarray  # (K, 3) rad, the turns as vectors
    moved: np.ndarray  # (K - 1, 3) rad, from each frame's orientation to the next
    joints: np.ndarray  # (K, 21, 3) turned
    scale: np.ndarray  # (K,) of the best camera
    residual: np.ndarray  # (K, 42) under it
    cost: float


@dataclass(frozen=True, eq=False)
class _Problem:
    """The sum of squares of one clip."""

    joints: np.ndarray  # (K, 21, 3) before the turn
    joints_2d: np.ndarray  # (K, 21, 2)
    orientation: np.ndarray  # (K, 3, 3) before the turn
    nearness: np.ndarray  # (K - 1,) of each frame and the next: the weight of what differs between them
    weights: Weights

    def evaluate(self, turn: np.ndarray) -> _State:
        """The state of turns (K, 3, 3)."""
        joints_KJ3, placed_K33 = self.joints @ turn.transpose(0, 2, 1), turn @ self.orientation
        away_K3 = Rotation.from_matrix(turn).as_rotvec()
        moved_K3 = _vectors(placed_K33[1:] @ placed_K33[:-1].transpose(0, 2, 1))
        scale_K, residual_KJ2 = _seen(joints_KJ3, self.joints_2d)
        weight_K1 = self.nearness[:, None]
        held = self.weights.prediction * (away_K3**2).sum() + self.weights.neighbour * (weight_K1 * moved_K3**2).sum()
        residual_KR = residual_KJ2.reshape(len(turn), -1)
        cost = float((residual_KR**2).sum() + held)
        return _State(turn, away_K3, moved_K3, joints_KJ3, scale_K, residual_KR, cost)

    def normal_equations(self, state: _State) -> tuple[np.ndarray, np.ndarray]:
        """Matrix and gradient (3 K,) of a further turn of each frame, about the camera's axes.

        Of the matrix (3 K, 3 K) only its bands, (7, 3 K) as ``scipy.linalg.solve_banded`` takes them: a clip's length
        then counts once, and not cubed.
        """
        by_turn_KR3, by_camera_KR3 = _changes(state.joints, state.scale)
        # The camera's best answer to a turn is known, so only the rest of a turn's effect counts.
        across_K3R = by_camera_KR3.transpose(0, 2, 1)
        answer_K33 = np.linalg.solve(across_K3R @ by_camera_KR3, across_K3R @ by_turn_KR3)
        rest_KR3 = by_turn_KR3 - by_camera_KR3 @ answer_K33
        gradient_K3 = np.einsum("krc,kr->kc", rest_KR3, state.residual) + self.weights.prediction * state.away
        pull_K = self.weights.neighbour * self.nearness
        gradient_K3[1:] += pull_K[:, None] * state.moved
        gradient_K3[:-1] -= pull_K[:, None] * state.moved
        held_K = self.weights.prediction + np.append(pull_K, 0) + np.insert(pull_K, 0, 0)
        block_K33 = rest_KR3.transpose(0, 2, 1) @ rest_KR3 + held_K[:, None, None] * np.eye(3)
        bands = np.zeros((2 * BANDS + 1, len(state.turn), 3))
        for row, column in np.ndindex(3, 3):
            bands[BANDS + row - column, :, column] = block_K33[:, row, column]
        bands[0, 1:] = bands[-1, :-1] = -pull_K[:, None]
        return bands.reshape(2 * BANDS + 1, -1), gradient_K3.reshape(-1)


def _seen(joints: np.ndarray, joints_2d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale (K,) of the least-squares camera (``geometry.weak_perspective``), and its errors (K, 21, 2)."""
    flat_KJ2 = joints[..., :2] - joints[..., :2].mean(1, keepdims=True)
    seen_KJ2 = joints_2d - joints_2d.mean(1, keepdims=True)
    scale_K = (flat_KJ2 * seen_KJ2).sum((1, 2)) / np.maximum((flat_KJ2**2).sum((1, 2)), 1e-12)
    return scale_K, scale_K[:, None, None] * flat_KJ2 - seen_KJ2


def _changes(joints: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How the projected joints change by a turn and by the camera's scale and shift, (K, 42, 3) each."""
    by_turn, by_camera = np.zeros((2, *joints.shape[:2], 2, 3))
    x, y, z = np.moveaxis(joints, -1, 0)
    by_turn[..., 0, 1], by_turn[..., 0, 2] = z, -y
    by_turn[..., 1, 0], by_turn[..., 1, 2] = -z, x
    by_camera[..., 0, 0], by_camera[..., 0, 1] = x, 1
    by_camera[..., 1, 0], by_camera[..., 1, 2] = y, 1
    shape = (len(joints), -1, 3)
    return (scale[:, None, None, None] * by_turn).reshape(shape), by_camera.reshape(shape)


def _nearness(frames: np.ndarray) -> np.ndarray:
    """(K - 1,) one over the number of frames from each to the next."""
    return 1 / np.maximum(np.diff(frames), 1)


def _vectors(rotations: np.ndarray) -> np.ndarray:
    """Rotations (N, 3, 3) as vectors (N, 3), N may be zero."""
    return Rotation.from_matrix(rotations).as_rotvec() if len(rotations) else np.zeros((0, 3))


def _shortened(step: np.ndarray) -> np.ndarray:
    length_K1 = np.linalg.norm(step, axis=1, keepdims=True)
    return step * (LARGEST_TURN / np.maximum(length_K1, LARGEST_TURN))
