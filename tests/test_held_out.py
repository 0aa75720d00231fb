"""held_out: errors of known predictions by hand, and the plateau on a list of errors."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from labelled import draw_world

from hojoint import geometry
from hojoint.config import changed
from hojoint.datasets.collate import collate
from hojoint.datasets.ho3d import HO3D
from hojoint.hand.factory import hand_layer
from hojoint.model.network import HandOutput, HOJointOutput, ObjectOutput
from hojoint.training import held_out
from hojoint.training.batches import prepare, targets_of
from hojoint.training.held_out import Plateau


def followed(errors: list[float], patience: int, most_decays: int) -> list[tuple[int, bool]]:
    plateau, out = Plateau(patience, most_decays), []
    for error in errors:
        plateau.add(error)
        out.append((plateau.decays, plateau.ended))
    return out


def test_the_rate_decays_at_plateaus_and_the_last_ends_training() -> None:
    errors = [10, 9, 8.99, 9.5, 8, 8, 8, 8, 8]  # 8.99 is no half per cent better than 9
    decays = [0, 0, 0, 1, 1, 1, 2, 2, 2]
    ends = [False] * 8 + [True]
    assert followed(errors, 2, 2) == list(zip(decays, ends, strict=True))


def test_an_error_that_is_no_number_is_no_improvement() -> None:
    assert followed([math.nan, math.nan, 3.0, math.nan], 2, 5) == [(0, False), (1, False), (1, False), (1, False)]


def test_a_restored_plateau_goes_on_as_the_first_would() -> None:
    errors = [5.0, 4.0, 4.0, 4.0, 3.9, 3.9, 3.9, 3.9]
    for stop in range(len(errors)):
        plateau, other = Plateau(2, 1), Plateau(2, 1)
        for error in errors[:stop]:
            plateau.add(error)
        other.restore(plateau.state())
        for error in errors[stop:]:
            plateau.add(error)
            other.add(error)
        assert other == plateau


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return draw_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def samples(world):
    reader = HO3D(world.data.ho3d, "held_out", world.crop, held_out=1)
    return [reader[row] for row in range(3)]


def answers(world, batch, *, turn_deg=0.0, shift=0.0, control=0.0):
    """The true answers, turned about the camera's axis, with 2D joints and control points beside the truth in x."""
    targets = targets_of(batch, prepare(batch, world, None, "cpu"), hand_layer(world.mano), world)
    turn = geometry.rotation_z(torch.tensor(math.radians(turn_deg)))
    rotations = torch.cat((turn @ targets.rotations[:, :1], targets.rotations[:, 1:]), dim=1)
    cells = 4
    control_box = targets.control_box[:, None, None].repeat(1, cells, cells, 1, 1)
    control_box[..., 0] += control
    control_box[:, 0] += 7.0  # the proposals of the first row are far off, and not among the most confident
    confidence = torch.full((len(batch), cells, cells, 21), 0.9)
    confidence[:, 0] = 0.1
    joints = targets.joints_box + torch.tensor([shift, 0.0])
    hand = HandOutput(joints, rotations, targets.betas, torch.zeros(len(batch), 21, cells, cells))
    return HOJointOutput(hand, ObjectOutput(control_box, confidence)), targets


def test_the_errors_of_a_known_prediction_by_hand(world, samples) -> None:
    batch = collate(samples)
    output, targets = answers(world, batch, turn_deg=30.0, shift=0.02, control=-0.05)
    found = held_out.errors(lambda prepared: output, samples, world, hand_layer(world.mano))
    measured = changed(world, evaluate={"pnp_proposals": 1})  # of the scores; the plateau counts the paper's ten
    assert held_out.errors(lambda prepared: output, samples, measured, hand_layer(world.mano)) == found
    # a point at a distance r from the axis through the wrist moves by the chord 2 r sin(15 deg)
    chord_mm = 2000 * math.sin(math.radians(15)) * targets.joints[..., :2].norm(dim=-1).mean()
    assert found["mpjpe_mm"] == pytest.approx(float(chord_mm), rel=1e-4)
    assert found["joints_2d"] == pytest.approx(0.02, rel=1e-4)
    assert found["control_points"] == pytest.approx(0.05, rel=1e-4)
    assert found["error"] == pytest.approx((found["mpjpe_mm"] * 0.02 * 0.05) ** (1 / 3), rel=1e-4)


def test_without_objects_the_hand_alone_counts(world, samples) -> None:
    hands = [replace(sample, has_object=False) for sample in samples]
    output, _ = answers(world, collate(hands), turn_deg=30.0, shift=0.02)
    found = held_out.errors(lambda prepared: output, hands, world, hand_layer(world.mano))
    assert math.isnan(found["control_points"])
    assert found["error"] == pytest.approx((found["mpjpe_mm"] * 0.02) ** 0.5, rel=1e-4)


def test_of_many_images_evenly_spaced_ones_are_measured(world, samples, monkeypatch) -> None:
    monkeypatch.setattr(held_out, "MOST", 2)
    read = []

    class Counted:
        def __len__(self):
            return 3

        def __getitem__(self, index):
            read.append(index)
            return samples[index]

    output, _ = answers(world, collate([samples[0], samples[2]]))
    found = held_out.errors(lambda prepared: output, Counted(), world, hand_layer(world.mano))
    assert sorted(read) == [0, 2]
    assert found["mpjpe_mm"] < 1e-3
