"""Shared encoder: a ResNet with a feature pyramid, and the RoI features cut from it (Sec. 4, App. A, Table 6).

Only the finest level, P2 (stride 4), is used. As in the released code every ReLU of the ResNet is a LeakyReLU and the
input is RGB in [0, 1] without mean and deviation. The pyramid's coarser smoothing convolutions of the released code are
absent: no later layer reads their output. This file knows no hand and no object, only boxes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hojoint.config import ModelConfig
from hojoint.errors import InputError

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum
    from torchvision.models.resnet import BasicBlock, Bottleneck

# B images, S input side, C channels, K RoIs, R RoI cells a side; sizes of maps are (rows, columns).

STRIDE = 4
IMAGENET = {
    ("basic", (2, 2, 2, 2)): "ResNet18_Weights.IMAGENET1K_V1",
    ("basic", (3, 4, 6, 3)): "ResNet34_Weights.IMAGENET1K_V1",
    ("bottleneck", (3, 4, 6, 3)): "ResNet50_Weights.IMAGENET1K_V1",
    ("bottleneck", (3, 4, 23, 3)): "ResNet101_Weights.IMAGENET1K_V1",
}
"""Size of a ResNet -> torchvision's name of its weights."""


class ResNet(nn.Module):
    """torchvision's residual blocks in any width, with LeakyReLU; names of parameters are torchvision's."""

    def __init__(self, config: ModelConfig) -> None:
        # Here: torchvision loads torch._dynamo, 2 s and 160 MB that a process without a network does not pay.
        from torchvision.models import resnet

        super().__init__()
        block = {"basic": resnet.BasicBlock, "bottleneck": resnet.Bottleneck}[config.block]
        width = config.width
        self.conv1 = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.act = nn.LeakyReLU(config.leaky_relu_slope, inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.out_channels = [width * 2**level * block.expansion for level in range(4)]
        inputs = [width, *self.out_channels[:3]]
        layers = [
            _layer(block, inputs[level], width * 2**level, count=config.blocks[level], stride=1 if level == 0 else 2)
            for level in range(4)
        ]
        self.layer1, self.layer2, self.layer3, self.layer4 = layers
        for module in layers:
            for inner in module.modules():
                if isinstance(inner, block):
                    inner.relu = nn.LeakyReLU(config.leaky_relu_slope, inplace=True)
        for inner in self.modules():
            if isinstance(inner, nn.Conv2d):
                nn.init.kaiming_normal_(inner.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, S, S) to maps of stride 4, 8, 16 and 32."""
        x = self.maxpool(self.act(self.bn1(self.conv1(images))))
        maps = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            maps.append(x)
        return maps


def _layer(
    block: type[BasicBlock | Bottleneck], channels: int, width: int, *, count: int, stride: int
) -> nn.Sequential:
    out = width * block.expansion
    downsample = None
    if stride != 1 or channels != out:
        downsample = nn.Sequential(
            nn.Conv2d(channels, out, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(out)
        )
    first = block(channels, width, stride, downsample)
    return nn.Sequential(first, *(block(out, width) for _ in range(count - 1)))


class Encoder(nn.Module):
    """Images (B, 3, S, S) RGB in [0, 1] to P2, (B, C, S/4, S/4)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.resnet = ResNet(config)
        self.laterals = nn.ModuleList(nn.Conv2d(c, config.channels, kernel_size=1) for c in self.resnet.out_channels)
        self.smooth = nn.Conv2d(config.channels, config.channels, kernel_size=3, padding=1)
        if config.pretrained is not None:
            load_pretrained(self.resnet, config)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.resnet(images)
        top = self.laterals[3](maps[3])
        for level in (2, 1, 0):
            lateral = self.laterals[level](maps[level])
            top = lateral + F.interpolate(top, size=lateral.shape[2:], mode="bilinear", align_corners=False)
        return self.smooth(top)


def samples_per_cell(boxes: Tensor, *, cells: int) -> int:
    """Most samples per side of a cell that RoIAlign takes of ``boxes`` (K, 4) px of the input; at least 1.

    Known beforehand, on the CPU, it spares ``roi_features`` the wait for a GPU's answer.
    """
    longest = float((boxes[:, 2:] - boxes[:, :2]).max()) / STRIDE if len(boxes) else 0.0
    return max(1, math.ceil(longest / cells + 1e-4))  # one too many does no harm


def roi_features(p2: Tensor, boxes: Tensor, rows: Tensor | None, *, cells: int, samples: int | None = None) -> Tensor:
    """RoIAlign of ``boxes`` (K, 4) px of the input on the images ``rows`` (K,) of ``p2``: (K, C, cells, cells).

    ``rows=None`` means that box k lies on image k. The sampling is the older one, half a pixel off (torchvision's
    ``aligned=False``), with which the released weights were trained. Its bilinear weights are a product of one in y and
    one in x, so it is two matrix products per RoI. ``samples`` is at least ``samples_per_cell``; None means that it is
    found out here.
    """
    # Boxes in bfloat16 would be off by whole pixels, so mixed precision stops here.
    dtype = torch.promote_types(p2.dtype, torch.float32)
    with torch.autocast(p2.device.type, enabled=False):
        samples = samples_per_cell(boxes, cells=cells) if samples is None else samples
        sizes = {"width": p2.shape[3], "height": p2.shape[2], "cells": cells}
        across_KRW, down_KRH = _sampling(boxes.to(dtype) / STRIDE, samples, **sizes)
        # A map in channels_last is (B, H, W C) without a copy; y comes first, for whole rows are one product.
        maps_KHWC = p2.to(dtype).permute(0, 2, 3, 1)
        if rows is not None:
            maps_KHWC = maps_KHWC[rows]
        half_KRWC = (down_KRH @ maps_KHWC.flatten(2)).view(-1, cells, *maps_KHWC.shape[2:])
        features_KRRC = across_KRW[:, None] @ half_KRWC
    return features_KRRC.permute(0, 3, 1, 2).to(p2.dtype)


def _sampling(boxes: Tensor, samples: int, *, width: int, height: int, cells: int) -> tuple[Tensor, Tensor]:
    """Weights of a map's columns (K, cells, width) and rows (K, cells, height) in the cells of ``boxes`` (K, 4).

    A cell's value is the mean of its samples, as many per side as it is pixels long, rounded up. A sample more than a
    pixel off the map is zero, a nearer one takes the map's edge (torchvision's ``roi_align_common.h``).
    """
    low_K211 = boxes[:, :2, None, None]
    long_K211 = (boxes[:, 2:, None, None] - low_K211).clamp(min=1.0)
    samples_K211 = (long_K211 / cells).ceil()
    sample_S = torch.arange(samples, device=boxes.device, dtype=boxes.dtype)
    cell_R1 = torch.arange(cells, device=boxes.device, dtype=boxes.dtype)[:, None]
    at_K2RS = low_K211 + (cell_R1 + (sample_S + 0.5) / samples_K211) * (long_K211 / cells)
    # Filled on the device: numbers from a list would wait for it.
    sides_211 = torch.cat((boxes.new_full((1, 1, 1), width), boxes.new_full((1, 1, 1), height)))
    counted_K2RS = (at_K2RS >= -1) & (at_K2RS <= sides_211) & (sample_S < samples_K211)
    at_K2RS = torch.minimum(at_K2RS.clamp(min=0), sides_211 - 1)
    pixel_P = torch.arange(max(width, height), device=boxes.device, dtype=boxes.dtype)
    weights_K2RSP = (1 - (at_K2RS[..., None] - pixel_P).abs()).clamp_(min=0)
    mean_K2RP = (weights_K2RSP * (counted_K2RS / samples_K211)[..., None]).sum(-2)
    return mean_K2RP[:, 0, :, :width], mean_K2RP[:, 1, :, :height]


def intersection(hand_boxes: Tensor, object_boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Overlap (K, 4) of two sets of boxes (K, 4), and whether it has an area (K,)."""
    low = torch.maximum(hand_boxes[:, :2], object_boxes[:, :2])
    high = torch.minimum(hand_boxes[:, 2:], object_boxes[:, 2:])
    return torch.cat([low, high], dim=1), (high > low).all(dim=1)


def intersection_features(
    p2: Tensor, hand_boxes: Tensor, object_boxes: Tensor, rows: Tensor | None, *, cells: int, samples: int | None = None
) -> Tensor:
    """Features F^inter (K, C, R, R), zero where the boxes do not overlap; arguments as in ``roi_features``."""
    boxes, overlaps = intersection(hand_boxes, object_boxes)
    features = roi_features(p2, boxes, rows, cells=cells, samples=samples)
    return features * overlaps[:, None, None, None].to(features.dtype)


def load_pretrained(resnet: ResNet, config: ModelConfig) -> None:
    """Put ImageNet weights, or a torchvision ResNet file, into ``resnet``.

    Raises:
        InputError: the weights cannot be fetched or read, or do not fit the configured size.
    """
    assert config.pretrained is not None
    weights = _fetch(config) if config.pretrained == "imagenet" else _read(Path(config.pretrained))
    expected = resnet.state_dict()
    weights = {name: value for name, value in weights.items() if not name.startswith("fc.")}
    # num_batches_tracked is absent from files of before 2018; it counts, it does not compute.
    wrong = [
        name
        for name in sorted(expected.keys() | weights.keys())
        if not name.endswith("num_batches_tracked") and shape_of(expected, name) != shape_of(weights, name)
    ]
    if wrong:
        raise InputError(
            f"model.pretrained={config.pretrained} does not fit a ResNet of block={config.block}, "
            f"blocks={list(config.blocks)}, width={config.width}: {len(wrong)} tensors differ, the first is "
            f"{wrong[0]!r} (expected {shape_of(expected, wrong[0])}, found {shape_of(weights, wrong[0])}); set "
            "model.pretrained=null or the size the weights were made for"
        )
    resnet.load_state_dict(weights, strict=False)


def shape_of(tensors: Mapping[str, Tensor], name: str) -> tuple[int, ...] | None:
    """Shape of one of several named tensors; None where there is none of that name."""
    return tuple(tensors[name].shape) if name in tensors else None


def check_pretrained(config: ModelConfig) -> None:
    """Raise what ``load_pretrained`` would raise, as far as that is known without fetching: a file is read.

    Raises:
        InputError: the file cannot be read, or the weights do not fit the configured size.
    """
    if config.pretrained == "imagenet":
        _imagenet(config)
    elif config.pretrained is not None:
        load_pretrained(ResNet(config), config)


def _imagenet(config: ModelConfig) -> str:
    name = IMAGENET.get((config.block, config.blocks))
    if name is None or config.width != 64:
        sizes = "; ".join(f"block={block} blocks={list(blocks)}" for block, blocks in IMAGENET)
        raise InputError(
            f"model.pretrained=imagenet needs width=64 and one of: {sizes}; found block={config.block} "
            f"blocks={list(config.blocks)} width={config.width}. Set model.pretrained=null to start from random weights"
        )
    return name


def _fetch(config: ModelConfig) -> Mapping[str, Tensor]:
    from torchvision.models import get_weight

    known: WeightsEnum = get_weight(_imagenet(config))
    fetch: Callable[..., Mapping[str, Tensor]] = known.get_state_dict
    try:
        return fetch(progress=False, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        raise InputError(
            f"cannot fetch the ImageNet weights {known.url}: {error}. Fetch the file where there is a network and set "
            "model.pretrained to its path"
        ) from None


def _read(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise InputError(f"model.pretrained must be 'imagenet' or a file of ResNet weights; there is no file {path}")
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises a dozen kinds for a file it does not understand
        raise InputError(f"{path} is not a file of torch weights: {str(error).splitlines()[0]}") from None
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise InputError(f"{path} must hold a state dict (names to tensors) of a torchvision ResNet; it does not")
    return weights
