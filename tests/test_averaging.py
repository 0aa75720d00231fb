"""averaging: the exponential average by hand, its rising decay, and the layout of its weights."""

from __future__ import annotations

import torch

from hojoint.training.averaging import WeightAverage


def network() -> torch.nn.Sequential:
    return torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3)).to(memory_format=torch.channels_last)


def test_the_average_by_hand_while_its_decay_rises() -> None:
    followed = network()
    average = WeightAverage(followed, 0.3)
    bias, variance = followed[0].bias, followed[1].running_var
    expected = expected_variance = 0.0
    for step, value in enumerate((5.0, 1.0, 2.0, 4.0)):
        with torch.no_grad():
            bias.fill_(value)
            variance.fill_(value)
        decay = 0.0 if step == 0 else min(0.3, (1 + step) / (10 + step))
        average.update(followed)
        expected = decay * expected + (1 - decay) * value
        expected_variance = decay * expected_variance + (1 - decay) * value
    assert average.decay == 0.3
    torch.testing.assert_close(average.network[0].bias.detach(), torch.full((3,), expected))
    torch.testing.assert_close(average.network[1].running_var, torch.full((3,), expected_variance))
    assert followed[0].bias[0] == 4
    assert not any(weight.requires_grad for weight in average.network.parameters())
    assert average.network[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_a_restored_average_goes_on_as_the_first_would() -> None:
    followed = network()
    first, second = WeightAverage(followed, 0.9), WeightAverage(network(), 0.9)
    for _ in range(3):
        with torch.no_grad():
            followed[0].weight.mul_(0.7)
        first.update(followed)
    second.restore(first.network.state_dict(), 3)
    with torch.no_grad():
        followed[0].weight.mul_(0.7)
    first.update(followed)
    second.update(followed)
    for name, value in first.network.state_dict().items():
        torch.testing.assert_close(second.network.state_dict()[name], value, atol=0, rtol=0)
