"""The released checkpoint: its layout, and its network written out a second time from the tensors' names alone."""

import argparse
import hashlib
import math
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import roi_align

from hojoint.errors import InputError
from hojoint.model.released import SIGN_CHANGE, layout, load_released

PREFIX = "honet.module."

# sha256 of the sorted lines "name shape" of the authors' published file.
PUBLISHED_LAYOUT = "5f5c7a8b6ae2dd066830d9173a4117baeab84051ca6982ad8af58cc44b21cae0"
HAND = torch.tensor([[40.0, 30, 150, 160], [20, 50, 120, 130]])
OBJECT = torch.tensor([[100.0, 60, 220, 200], [150, 140, 240, 250]])  # the second pair does not overlap


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """Random tensors of the released layout, scaled so that a signal survives fifty layers."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, shape in layout().items():
        if name.endswith("num_batches_tracked"):
            tensors[name] = torch.tensor(7)
        elif name.endswith("running_var") or "betas" in name:
            tensors[name] = torch.rand(shape, generator=generator) + 0.5
        elif len(shape) > 1 and not name.endswith(("uu", "vv", "coord_change_mat")):
            fan_in = math.prod(shape[1:])
            # The last convolution of a residual block adds little, or sixteen of them make the softmax a step function.
            gain = 0.05 if "conv3" in name else 1.5
            tensors[name] = torch.randn(shape, generator=generator) * (gain / fan_in) ** 0.5
        else:
            centre = 1.0 if name.endswith("weight") else 0.0
            tensors[name] = centre + 0.2 * torch.randn(shape, generator=generator)
    return tensors


@pytest.fixture(scope="module")
def file(weights: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("released") / "model.pth.tar"
    state = {PREFIX + name: value for name, value in weights.items()}
    torch.save({"epoch": 60, "network": "honet_transformer", "state_dict": state}, path)
    return path


class Reference:
    """The released network as functions of its state dict (facts of the released code; evaluation mode only)."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.t = tensors

    def conv(self, x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = self.t[name + ".weight"]
        return F.conv2d(x, weight, self.t.get(name + ".bias"), stride=stride, padding=weight.shape[-1] // 2)

    def norm(self, x: Tensor, name: str) -> Tensor:
        mean, var, scale, shift = (self.t[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
        return (x - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt() * scale[:, None, None] + shift[
            :, None, None
        ]

    def normed(self, x: Tensor, name: str) -> Tensor:
        return F.leaky_relu(self.norm(x, name), 0.01)

    def p2(self, images: Tensor) -> Tensor:
        x = self.normed(self.conv(images, "base_net.layer0.0", 2), "base_net.layer0.1")
        x = F.max_pool2d(x, 3, 2, 1)
        maps = []
        for level, blocks in enumerate((3, 4, 6, 3), start=1):
            for block in range(blocks):
                name, stride = f"base_net.layer{level}.0.{block}", 2 if level > 1 and block == 0 else 1
                y = self.normed(self.conv(x, name + ".conv1"), name + ".bn1")
                y = self.normed(self.conv(y, name + ".conv2", stride), name + ".bn2")
                y = self.norm(self.conv(y, name + ".conv3"), name + ".bn3")
                if block == 0:
                    x = self.norm(self.conv(x, name + ".downsample.0", stride), name + ".downsample.1")
                x = F.leaky_relu(x + y, 0.01)
            maps.append(x)
        top = self.conv(maps[3], "base_net.toplayer")
        for lateral, level in enumerate((2, 1, 0), start=1):
            side = self.conv(maps[level], f"base_net.latlayer{lateral}")
            top = F.interpolate(top, side.shape[2:], mode="bilinear") + side
        return self.conv(top, "base_net.smooth3")

    def block(self, x: Tensor, name: str, norms: tuple[str, str, str] = ("bn1", "bn2", "bn3")) -> Tensor:
        y = x
        for number, norm in enumerate(norms, start=1):
            y = self.conv(self.normed(y, f"{name}.{norm}"), f"{name}.conv{number}")
        return x + y

    def hourglass(self, x: Tensor, level: int) -> Tensor:
        name = f"hand_head.hg.0.hg.{level}"
        low = self.block(F.max_pool2d(x, 2), name + ".1.0")
        low = self.hourglass(low, level - 1) if level > 0 else self.block(low, name + ".3.0")
        low = self.block(low, name + ".2.0")
        return self.block(x, name + ".0.0") + low.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)

    def hand(self, region: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = self.block(self.hourglass(region, 3), "hand_head.res.0.0")
        features = self.normed(self.conv(features, "hand_head.fc.0.block.0"), "hand_head.fc.0.block.1")
        logits = self.conv(features, "hand_head.score.0").flatten(2) * self.t["hand_head.betas"]
        maps = torch.softmax(logits, 2)
        joints = torch.stack([maps @ self.t[f"hand_head.{axis}"].flatten() for axis in ("uu", "vv")], 2)
        x = self.conv(maps.view(-1, 21, 32, 32), "hand_encoder.heatmap_conv")
        x = x + self.conv(features, "hand_encoder.encoding_conv")
        for number in range(8):
            x = self.block(x, f"hand_encoder.reg.{number}", ("bn", "bn1", "bn2"))
            x = F.max_pool2d(x, 2) if number % 2 else x
        for layer in (0, 2):
            x = F.leaky_relu(self.linear(x.flatten(1), f"mano_branch.mano_base_layer.{layer}"), 0.01)
        first, second = self.linear(x, "mano_branch.pose_reg").view(-1, 16, 2, 3).unbind(2)
        first = first / first.norm(dim=-1, keepdim=True)
        second = second - (first * second).sum(-1, keepdim=True) * first
        second = second / second.norm(dim=-1, keepdim=True)
        rotations = torch.stack([first, second, torch.linalg.cross(first, second)], dim=-1)
        return joints, rotations, self.linear(x, "mano_branch.shape_reg")

    def linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.t[name + ".weight"], self.t[name + ".bias"])

    def reason(self, region: Tensor, context: Tensor) -> Tensor:
        name = "transformer.layers.0."
        query = self.conv(region, name + "encode_query").flatten(2)
        key, value = (self.conv(context, name + part).flatten(2) for part in ("encode_key", "encode_value"))
        weights = torch.softmax(torch.einsum("bcn,bcm->bnm", query, key) / 16, dim=2)
        asked = region.flatten(2).transpose(1, 2) + torch.einsum("bnm,bcm->bnc", weights, value)
        normed = F.layer_norm(asked, (256,), self.t[name + "norm2.weight"], self.t[name + "norm2.bias"])
        asked = asked + self.linear(F.gelu(self.linear(normed, name + "mlp.fc1")), name + "mlp.fc2")
        return asked.transpose(1, 2).reshape(region.shape)

    def object_head(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for layer in ("1_1", "1_2", "2_1", "2_2", "3_1", "3_2"):
            x = F.leaky_relu(self.norm(self.conv(x, f"obj_head.conv{layer}"), f"obj_head.bn{layer}"), 0.1)
        confidence, right, down = self.conv(x, "obj_head.out_conv").permute(0, 2, 3, 1).chunk(3, dim=3)
        centre = 10 * (torch.arange(32) + 0.5) / 32
        right, down = (right + centre[:, None]) / 10, (down + centre[:, None, None]) / 10
        return torch.stack([right, down], 4), 1 / (1 + torch.exp(-confidence))

    def __call__(self, images: Tensor, hand_boxes: Tensor, object_boxes: Tensor) -> dict[str, Tensor]:
        p2 = self.p2(images)
        low, high = (
            torch.maximum(hand_boxes[:, :2], object_boxes[:, :2]),
            torch.minimum(hand_boxes[:, 2:], object_boxes[:, 2:]),
        )
        regions = [
            roi_align(p2, list(boxes.split(1)), 32, spatial_scale=0.25)
            for boxes in (hand_boxes, object_boxes, torch.cat([low, high], 1))
        ]
        context = regions[2] * (high > low).all(1).to(p2)[:, None, None, None]
        joints, rotations, shape = self.hand(regions[0])
        control, confidence = self.object_head(self.reason(regions[1], context))
        return {"joints": joints, "rotations": rotations, "shape": shape, "control": control, "confidence": confidence}


def test_the_layout_is_that_of_the_published_file() -> None:
    lines = sorted(f"{PREFIX}{name} {list(shape)}" for name, shape in layout().items())
    assert len(lines) == 875
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == PUBLISHED_LAYOUT


@pytest.mark.slow
def test_a_loaded_file_computes_what_its_tensors_say(file: Path, weights: dict[str, Tensor]) -> None:
    network = load_released(file)
    assert not network.training
    images = torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours = network(images, HAND, OBJECT)
        exact = {name: value.double() for name, value in weights.items()}
        expected = Reference(exact)(images.double(), HAND.double(), OBJECT.double())
    computed = {
        "joints": ours.hand.joints_box,
        "rotations": ours.hand.rotations,
        "shape": ours.hand.betas,
        "control": ours.object.control_box,
        "confidence": ours.object.confidence,
    }
    for name, value in expected.items():
        assert value.std() > 1e-3, name  # a signal came through
        error = (computed[name] - value).abs().max() / value.abs().max()
        assert error < 1e-4, (name, error)


@pytest.mark.slow
@pytest.mark.parametrize("prefix", ["", "module."])
def test_bare_and_wrapped_state_dicts_are_read(prefix: str, weights: dict[str, Tensor], tmp_path: Path) -> None:
    mano = {f"{prefix}mano_branch.mano_layer.th_betas": torch.zeros(1, 10)}  # their own training adds the hand model
    torch.save({**{prefix + name: value for name, value in weights.items()}, **mano}, tmp_path / "bare.pth")
    network = load_released(tmp_path / "bare.pth")
    assert torch.equal(network.object_decoder.out.weight, weights["obj_head.out_conv.weight"])


@pytest.mark.slow
def test_the_sign_change_may_be_absent_but_not_misshapen(weights: dict[str, Tensor], tmp_path: Path) -> None:
    without = {name: value for name, value in weights.items() if name != SIGN_CHANGE}
    assert (len(weights), len(without)) == (875, 874)
    torch.save({"state_dict": without}, tmp_path / "without.pth")
    network = load_released(tmp_path / "without.pth")
    assert torch.equal(network.object_decoder.out.weight, weights["obj_head.out_conv.weight"])
    torch.save({"state_dict": {**without, SIGN_CHANGE: torch.zeros(4)}}, tmp_path / "wrong.pth")
    with pytest.raises(InputError, match=r"coord_change_mat \[4\] instead of \[3, 3\]"):
        load_released(tmp_path / "wrong.pth")


@pytest.mark.slow
def test_missing_extra_and_misshapen_tensors_are_named(weights: dict[str, Tensor], tmp_path: Path) -> None:
    broken = dict(weights)
    del broken["hand_head.score.0.bias"]
    broken["transformer.layers.1.norm2.bias"] = torch.zeros(256)
    broken["obj_head.out_conv.bias"] = torch.zeros(62)
    torch.save({"state_dict": broken}, tmp_path / "broken.pth")
    with pytest.raises(InputError) as caught:
        load_released(tmp_path / "broken.pth")
    message = str(caught.value)
    assert "1 missing (hand_head.score.0.bias)" in message
    assert "1 not of this network (transformer.layers.1.norm2.bias)" in message
    assert "obj_head.out_conv.bias [62] instead of [63]" in message


def test_the_line_that_saves_a_file_again_runs_in_a_shell(tmp_path: Path) -> None:
    folder = tmp_path / "a 'b' \"$HOME\" `c`"
    folder.mkdir()
    torch.save({"state_dict": {"w": torch.ones(2)}, "args": argparse.Namespace(epochs=3)}, folder / "model.pth")
    with pytest.raises(InputError, match="save its tensors again") as caught:
        load_released(folder / "model.pth")
    python, *words = shlex.split(str(caught.value).splitlines()[-1])
    subprocess.run([sys.executable, *words], cwd=tmp_path, check=True)
    assert python == "python"
    saved = torch.load(tmp_path / "weights.pt", weights_only=True)
    torch.testing.assert_close(saved["state_dict"]["w"], torch.ones(2))


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pth.tar"
    with pytest.raises(InputError, match="there is no checkpoint file"):
        load_released(path)
    path.write_bytes(b"Google Drive - Quota exceeded")
    with pytest.raises(InputError, match="not a complete torch checkpoint"):
        load_released(path)
    torch.save([1, 2], path)
    with pytest.raises(InputError, match="holds no weights"):
        load_released(path)
