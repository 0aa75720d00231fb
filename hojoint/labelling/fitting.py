"""The hand turned to fit its 2D joints along a clip (the paper's Sec. 5.1 speaks of SMPLify); ours.

Of a label the global orientation is what is wrong most, and the 2D joints are surer than it. So the hand, its fingers
as predicted, is turned, and seen by a weak-perspective camera, until

    sum of squared 2D errors + pull to the predicted orientation + pull to the neighbouring frames' orientations

is least over all frames of a clip at once. Turning a rigid hand needs no hand model. Gauss-Newton with the camera
eliminated frame by frame; a step is taken only where it lowers the sum, so no label is worse by it than before. The
start is the prediction: of the two tilts that look alike in weak perspective it stays with the nearer one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hojoint import geometry

# Suffixes of locals: K frames of a clip, J = 21 joints, R = 42 residuals.

LARGEST_TURN = 0.5  # rad in one step: beyond it the hand's projection is not linear
GIVE_UP = 1e6  # damping at which no step lowers the sum any more


@dataclass(frozen=True, eq=False)
class Pulls:
    """What holds the orientations while they are fitted: weights against squared 2D errors in hand boxes."""

    prediction: float  # per rad^2 of the turn away from the prediction
    neighbour: float  # per rad^2 of the turn from frame to frame


def fit_orientation(
    joints: Tensor, joints_2d: Tensor, orientation: Tensor, frames: Tensor, pulls: Pulls, steps: int
) -> Tensor:  # fmt: skip
    """Global orientations (K, 3, 3) float64 under which a clip's hands fit their 2D joints.

    Args:
        joints: (K, 21, 3) m, wrist-centred, as they stand under ``orientation``, in the image of a right hand.
        joints_2d: (K, 21, 2) in the same (for a left hand mirrored) image, in units of the hand's box.
        orientation: (K, 3, 3) predicted, in the same camera frame.
        frames: (K,) ascending frame numbers; a neighbour pulls less the further away it is.
        pulls: weights.
        steps: of Gauss-Newton, at most.
    """
    problem = _Problem(joints.double(), joints_2d.double(), _differences(frames), pulls)
    turn_K33 = torch.eye(3, dtype=torch.float64).repeat(len(joints), 1, 1)  # from the predicted orientation
    start_K33 = orientation.double()
    damping, cost = 1e-6, problem.cost(turn_K33, start_K33)
    for _ in range(steps):
        normal, gradient = problem.normal_equations(turn_K33, start_K33)
        while damping < GIVE_UP:
            diagonal = damping * normal.diagonal() + 1e-12
            step_K3 = -torch.linalg.solve(normal + diagonal.diag(), gradient).reshape(-1, 3)
            tried_K33 = geometry.axis_angle_to_matrix(_shortened(step_K3)) @ turn_K33
            lower = problem.cost(tried_K33, start_K33)
            if lower < cost:
                break
            damping = max(10 * damping, 1e-4)
        else:
            break
        gain, turn_K33, cost, damping = cost - lower, tried_K33, lower, damping / 10
        if gain < 1e-6 * lower:
            break
    return turn_K33 @ start_K33


@dataclass(frozen=True, eq=False)
class _Problem:
    """The sum of squares of one clip, as a function of the turn from each predicted orientation."""

    joints: Tensor  # (K, 21, 3) before the turn
    joints_2d: Tensor  # (K, 21, 2)
    differences: Tensor  # (K - 1, K) of neighbours, weighted by how near they are
    pulls: Pulls

    def cost(self, turn: Tensor, start: Tensor) -> float:
        residual_KR, _, _ = self._projected(turn)
        steps = self.differences.abs().amax(1) ** 2 * geometry.geodesic(*_neighbours(turn @ start)).square()
        away = geometry.matrix_to_axis_angle(turn).square().sum()
        return float(residual_KR.square().sum() + self.pulls.prediction * away + self.pulls.neighbour * steps.sum())

    def normal_equations(self, turn: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """Matrix (3 K, 3 K) and gradient (3 K,) of a further turn of each frame, about the camera's axes."""
        residual_KR, by_turn_KR3, by_camera_KR3 = self._projected(turn)
        # The camera's best answer to a turn is known, so only the rest of a turn's effect counts.
        across_K3R = by_camera_KR3.transpose(1, 2)
        answer_K33 = torch.linalg.solve(across_K3R @ by_camera_KR3, across_K3R @ by_turn_KR3)
        rest_KR3 = by_turn_KR3 - by_camera_KR3 @ answer_K33
        block_K33 = rest_KR3.transpose(1, 2) @ rest_KR3 + self.pulls.prediction * torch.eye(3).double()
        gradient_K3 = (rest_KR3 * residual_KR[..., None]).sum(1)
        gradient_K3 = gradient_K3 + self.pulls.prediction * geometry.matrix_to_axis_angle(turn)
        first, second = _neighbours(turn @ start)
        weighted_K3 = self.differences.abs().amax(1)[:, None] * geometry.matrix_to_axis_angle(
            second @ first.transpose(1, 2)
        )
        gradient_K3 = gradient_K3 + self.pulls.neighbour * self.differences.T @ weighted_K3
        chain_KK = self.pulls.neighbour * self.differences.T @ self.differences
        normal = torch.block_diag(*block_K33) + torch.kron(chain_KK, torch.eye(3).double())
        return normal, gradient_K3.reshape(-1)

    def _projected(self, turn: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Residuals (K, 42) under the best camera, and what they change by per turn and per camera, (K, 42, 3) each."""
        joints_KJ3 = self.joints @ turn.transpose(1, 2)
        camera_K3 = geometry.weak_perspective(joints_KJ3, self.joints_2d)
        residual_KJ2 = geometry.project_weak(joints_KJ3, camera_K3) - self.joints_2d
        x, y, z = joints_KJ3.unbind(-1)
        zero, one = torch.zeros_like(x), torch.ones_like(x)
        by_turn = torch.stack([torch.stack([zero, z, -y], -1), torch.stack([-z, zero, x], -1)], -2)
        by_camera = torch.stack([torch.stack([x, one, zero], -1), torch.stack([y, zero, one], -1)], -2)
        return residual_KJ2.flatten(1), (camera_K3[:, :1, None, None] * by_turn).flatten(1, 2), by_camera.flatten(1, 2)


def _differences(frames: Tensor) -> Tensor:
    """(K - 1, K): the next frame's value minus the one before, over the square root of the frames in between."""
    count = len(frames)
    near = 1 / (frames[1:] - frames[:-1]).double().clamp(min=1).sqrt()
    rows = torch.eye(count, dtype=torch.float64)
    return near[:, None] * (rows[1:] - rows[:-1])


def _neighbours(orientation: Tensor) -> tuple[Tensor, Tensor]:
    return orientation[:-1], orientation[1:]


def _shortened(step: Tensor) -> Tensor:
    length_K1 = torch.linalg.vector_norm(step, dim=1, keepdim=True)
    return step * (LARGEST_TURN / length_K1.clamp(min=LARGEST_TURN))
