"""Averages along a clip: weights by hand, and by SciPy."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.transform import Rotation, Slerp

from hojoint.labelling import smoothing


def still(count: int) -> torch.Tensor:
    return torch.eye(3, dtype=torch.float64).repeat(count, 1, 1)


def test_weights_are_those_of_a_line_through_the_neighbours() -> None:
    frames = torch.tensor([0, 1, 2, 4, 7])
    weights = smoothing.weights(frames, still(5), reach=2, max_deg=10.0)
    torch.testing.assert_close(weights.sum(1), torch.ones(5).double())
    values = torch.tensor([3.0, -1.0, 4.0, 1.0, 5.0]).double()
    near = frames[:4].double()[[0, 1, 2]]
    slope, level = np.polyfit(near.numpy() - 1, values[[0, 1, 2]].numpy(), 1)
    assert abs(float((weights @ values)[1]) - level) < 1e-9
    np.testing.assert_allclose(weights[4].numpy(), [0, 0, 0, 0, 1])  # no neighbour within reach
    np.testing.assert_allclose((weights @ (2.0 * frames.double() + 1)).numpy(), 2.0 * frames.numpy() + 1, atol=1e-9)
    assert slope != 0


def test_a_turned_neighbour_has_no_weight() -> None:
    orientation = still(5)
    orientation[2] = torch.from_numpy(Rotation.from_euler("y", 50, degrees=True).as_matrix())
    weights = smoothing.weights(torch.arange(5), orientation, reach=4, max_deg=20.0)
    assert weights[1, 2] == 0 == weights[2, 1]
    assert weights[1, 3] > 0


def test_orientations_are_compared_only_within_the_reach(monkeypatch) -> None:
    """A line through each frame's neighbours, found by least squares; the turns of no other pair are computed."""
    rng, compared, geodesic = np.random.default_rng(0), [], smoothing.geometry.geodesic
    frames = torch.from_numpy(np.cumsum(rng.integers(1, 4, 50)))
    orientation = torch.from_numpy(Rotation.from_rotvec(rng.normal(size=(50, 3)) * 0.3).as_matrix())

    def counted(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        compared.append(len(first) * first.shape[1])
        return geodesic(first, second)

    monkeypatch.setattr(smoothing.geometry, "geodesic", counted)
    weights = smoothing.weights(frames, orientation, reach=5, max_deg=20.0)
    assert sum(compared) == 50 * 11
    values = torch.from_numpy(rng.normal(size=50))
    for row, (frame, turn) in enumerate(zip(frames, orientation, strict=True)):
        apart = (frames - frame).numpy()
        turned = np.degrees(Rotation.from_matrix((turn.T @ orientation).numpy()).magnitude())
        used = (abs(apart) <= 5) & (turned <= 20 * abs(apart) + 1e-4)
        line = np.polyfit(apart[used], values[used], 1)[1] if used.sum() >= 3 else float(values[row])
        assert abs(float(weights[row] @ values) - line) < 1e-9


def test_rotations_average_to_the_nearest_rotation() -> None:
    vectors = np.random.default_rng(0).normal(size=(4, 2, 3)) * 0.2
    rotations = torch.from_numpy(Rotation.from_rotvec(vectors.reshape(-1, 3)).as_matrix().reshape(4, 2, 3, 3))
    mean = smoothing.averaged_rotations(rotations, torch.full((4, 4), 0.25).double())
    for joint in range(2):
        expected = Rotation.from_rotvec(vectors[:, joint]).mean().as_matrix()
        np.testing.assert_allclose(mean[0, joint].numpy(), expected, atol=1e-9)


def test_gaps_lie_between_two_kept_frames_and_are_short() -> None:
    kept = torch.tensor([False, True, False, True, True, False, False, True, False])
    assert smoothing.gaps(kept, torch.arange(9), 1) == [(1, 3)]
    assert smoothing.gaps(kept, torch.arange(9), 2) == [(1, 3), (4, 7)]
    assert smoothing.gaps(kept, torch.arange(9) * 2, 2) == []
    assert smoothing.gaps(kept, torch.arange(9), 0) == []


def test_rotations_between_two_are_slerp() -> None:
    ends = Rotation.from_rotvec([[0.1, 0.2, 0.3], [1.0, -0.4, 0.2]])
    share = torch.tensor([0.25, 0.5]).double()
    first, second = torch.from_numpy(ends.as_matrix())[:, None]
    ours = smoothing.between_rotations(first, second, share)[:, 0]
    np.testing.assert_allclose(ours.numpy(), Slerp([0, 1], ends)(share.numpy()).as_matrix(), atol=1e-9)
    np.testing.assert_allclose(
        smoothing.between(torch.zeros(2), torch.ones(2), share).numpy(), [[0.25, 0.25], [0.5, 0.5]]
    )
