"""Decoders: joints at peaks, rotations in the released memory order, proposals in tenths of the box."""

import pytest
import torch
from torch import nn

from hojoint.config import ModelConfig
from hojoint.model.decoders import Hourglass, JointDecoder, MeshDecoder, ObjectDecoder, PreActivation

SMALL = ModelConfig(channels=16, roi_cells=16, hourglass_depth=2, encoder_stages=3, mano_hidden=(32, 24))


def test_a_pre_activation_block_is_its_layers_in_order() -> None:
    torch.manual_seed(0)
    block = PreActivation(8, 0.01)
    act = nn.LeakyReLU(0.01)
    layers = nn.Sequential(block.bn1, act, block.conv1, block.bn2, act, block.conv2, block.bn3, act, block.conv3)
    x = torch.randn(3, 8, 5, 5)
    torch.testing.assert_close(block.eval()(x), x + layers(x))


def test_an_hourglass_of_identities_adds_its_levels_maxima() -> None:
    hourglass = Hourglass(8, 2, 0.01).eval()
    for block in hourglass.modules():
        if isinstance(block, PreActivation):
            nn.init.zeros_(block.conv3.weight)
            nn.init.zeros_(block.conv3.bias)
    x = torch.arange(16.0).view(1, 1, 4, 4).expand(1, 8, 4, 4)
    quarter = torch.tensor([[5.0, 7], [13, 15]]) + 15  # 2x2 maxima, and the maximum of all from the level below
    expected = x[0, 0] + quarter.repeat_interleave(2, 0).repeat_interleave(2, 1)
    torch.testing.assert_close(hourglass(x)[0, 3], expected)


def test_a_peak_in_one_cell_puts_the_joint_at_its_centre() -> None:
    decoder = JointDecoder(SMALL).eval()
    peak = torch.full((1, 21, 16, 16), -50.0)
    peak[:, :, 3, 12] = 50.0
    decoder.score.register_forward_hook(lambda *_: peak)
    joints, heatmaps, _ = decoder(torch.rand(1, 16, 16, 16))
    torch.testing.assert_close(joints[0, 5], torch.tensor([12.5 / 16, 3.5 / 16]))
    torch.testing.assert_close(heatmaps.sum(dim=(2, 3)), torch.ones(1, 21))


def test_an_inverse_temperature_sharpens_its_own_heatmap_alone() -> None:
    decoder = JointDecoder(SMALL).eval()
    logits = torch.randn(1, 21, 16, 16)
    decoder.score.register_forward_hook(lambda *_: logits)
    with torch.no_grad():
        decoder.inverse_temperature[4] = 3.0
    heatmaps = decoder(torch.rand(1, 16, 16, 16))[1]
    torch.testing.assert_close(heatmaps[0, 4].flatten(), torch.softmax(3 * logits[0, 4].flatten(), 0))
    torch.testing.assert_close(heatmaps[0, 5].flatten(), torch.softmax(logits[0, 5].flatten(), 0))


def test_the_first_three_of_six_numbers_are_the_first_column() -> None:
    decoder = MeshDecoder(SMALL).eval()
    sixes = torch.tensor([0.0, 2, 0, -3, 1, 0]).repeat(16)  # columns y and, made orthogonal, -x; their product is z
    nn.init.zeros_(decoder.pose.weight)
    decoder.pose.bias.data.copy_(sixes)
    rotations, shape = decoder(torch.rand(2, 21, 16, 16), torch.rand(2, 16, 16, 16))
    quarter_turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    torch.testing.assert_close(rotations, quarter_turn.expand(2, 16, 3, 3))
    assert shape.shape == (2, 10)


def test_a_fresh_network_starts_near_the_flat_hand() -> None:
    torch.manual_seed(0)
    rotations, _ = MeshDecoder(SMALL).eval()(torch.rand(4, 21, 16, 16), torch.rand(4, 16, 16, 16))
    traces = rotations.diagonal(dim1=2, dim2=3).sum(-1)
    assert torch.acos(((traces - 1) / 2).clamp(-1, 1)).max() < 1.0


def test_a_silent_object_head_proposes_the_cell_centres() -> None:
    decoder = ObjectDecoder(SMALL).eval()
    nn.init.zeros_(decoder.out.weight)
    control, confidence = decoder(torch.rand(1, 16, 16, 16))
    assert control.shape == (1, 16, 16, 21, 2)
    torch.testing.assert_close(control[0, 2, 9, 7], torch.tensor([9.5 / 16, 2.5 / 16]))
    assert (confidence == 0.5).all()


def test_output_channels_are_confidences_then_x_then_y() -> None:
    decoder = ObjectDecoder(SMALL).eval()
    nn.init.zeros_(decoder.out.weight)
    bias = torch.zeros(63)
    bias[4], bias[21 + 4], bias[42 + 4] = 2.0, 3.0, -5.0
    decoder.out.bias.data.copy_(bias)
    control, confidence = decoder(torch.rand(1, 16, 16, 16))
    assert confidence[0, 0, 0, 4].item() == pytest.approx(1 / (1 + 2.718281828**-2.0))
    torch.testing.assert_close(control[0, 0, 0, 4], torch.tensor([0.5 / 16 + 0.3, 0.5 / 16 - 0.5]))
    torch.testing.assert_close(control[0, 0, 0, 5], torch.tensor([0.5 / 16, 0.5 / 16]))
