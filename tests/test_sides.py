"""sides: the evidence of a clip, the confidence it makes, and teachers that cannot tell."""

from __future__ import annotations

import math

import pytest
import torch

from hojoint.config import FilterConfig, ModelConfig
from hojoint.errors import InputError
from hojoint.labelling import sides

WITH_RULE = FilterConfig(enabled=("box_iou", "side"))


def test_the_mean_difference_of_both_views_decides() -> None:
    plain, mirrored = torch.tensor([2.0, -1.0, 1.0]), torch.tensor([0.0, 0.0, -2.0])
    decision = sides.decided(plain, mirrored)
    assert not decision.left
    assert decision.confidence == pytest.approx(1 / (1 + math.exp(-2 / 3)))


def test_a_mirrored_video_is_the_other_hand_as_confidently() -> None:
    plain, mirrored = torch.randn(2, 9, generator=torch.Generator().manual_seed(0))
    one, other = sides.decided(plain, mirrored), sides.decided(mirrored, plain)
    assert one.left is not other.left
    assert one.confidence == other.confidence


def test_what_the_head_says_of_every_picture_cancels_out() -> None:
    plain, mirrored = torch.tensor([0.5, 0.25]), torch.tensor([-0.5, 0.0])
    assert sides.decided(plain + 8, mirrored + 8) == sides.decided(plain, mirrored)


def test_frames_that_are_not_finite_say_nothing() -> None:
    plain, mirrored = torch.tensor([1.0, torch.nan, torch.inf]), torch.tensor([4.0, 0.0, 0.0])
    assert sides.decided(plain, mirrored) == sides.decided(plain[:1], mirrored[:1])
    assert sides.decided(plain[1:], mirrored[1:]).confidence == 0.5


def test_a_confidence_is_at_most_one() -> None:
    assert sides.decided(torch.tensor([1e6]), torch.tensor([0.0])) == (False, 1.0)


def test_the_rule_needs_a_teacher_that_can_tell() -> None:
    with pytest.raises(InputError, match=r"'side'.*model\.side_head=true"):
        sides.refuse_unknown(ModelConfig(), WITH_RULE)
    sides.refuse_unknown(ModelConfig(side_head=True), WITH_RULE)
    sides.refuse_unknown(ModelConfig(), FilterConfig())
