"""Hand and object decoders on RoI features (Sec. 4.2, 4.3, App. A).

Hand: an hourglass predicts one heatmap per joint and, by its expectation, 2D joints in units of the hand box; a
residual encoder of features and heatmaps predicts MANO rotations and betas. Object: every cell of the RoI proposes all
21 control points in units of the object box, with a confidence each. Side: a small head of ours tells right from left
hands. No MANO layer and no PnP here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hojoint.config import ModelConfig
from hojoint.geometry import rotation_6d_to_matrix

# Suffixes of locals: B rows, C channels, R cells a side, J = 21 joints or control points, K = 3 J outputs.

JOINTS = 21
ROTATIONS = 16
BETAS = 10
OFFSET_UNIT = 0.1  # offsets of the object head are in tenths of the object box (released code)


class PreActivation(nn.Module):
    """Residual bottleneck C -> C/2 -> C/2 -> C, each convolution (with bias) after BatchNorm and LeakyReLU."""

    def __init__(self, channels: int, slope: float) -> None:
        super().__init__()
        inner = channels // 2
        self.slope = slope
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, inner, kernel_size=1)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, kernel_size=3, padding=1)
        self.bn3 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(F.leaky_relu_(self.bn1(x), self.slope))
        out = self.conv2(F.leaky_relu_(self.bn2(out), self.slope))
        out = self.conv3(F.leaky_relu_(self.bn3(out), self.slope))
        return x + out


class Hourglass(nn.Module):
    """One level: a skip at full size beside max-pool, block, the next level, block, nearest upsampling."""

    def __init__(self, channels: int, depth: int, slope: float) -> None:
        super().__init__()
        self.skip = PreActivation(channels, slope)
        self.down = PreActivation(channels, slope)
        self.inner = Hourglass(channels, depth - 1, slope) if depth > 1 else PreActivation(channels, slope)
        self.up = PreActivation(channels, slope)

    def forward(self, x: Tensor) -> Tensor:
        low = self.up(self.inner(self.down(F.max_pool2d(x, 2))))
        return self.skip(x) + F.interpolate(low, scale_factor=2, mode="nearest")


class JointDecoder(nn.Module):
    """Hand features to heatmaps and 2D joints (Sec. 4.2, joint network).

    A heatmap is a softmax over cells with a learned inverse temperature per joint, and a joint its expectation over
    cell centres; so no heatmap target is needed by default (reading A3).
    """

    cells_x: Tensor
    cells_y: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        channels = config.channels
        self.hourglass = Hourglass(channels, config.hourglass_depth, config.leaky_relu_slope)
        self.residual = PreActivation(channels, config.leaky_relu_slope)
        self.conv = nn.Conv2d(channels, channels, kernel_size=1)
        self.bn = nn.BatchNorm2d(channels)
        self.act = nn.LeakyReLU(config.leaky_relu_slope, inplace=True)
        self.score = nn.Conv2d(channels, JOINTS, kernel_size=1)
        self.inverse_temperature = nn.Parameter(torch.ones(JOINTS, 1))
        centres = cell_centres(config.roi_cells)
        self.register_buffer("cells_x", centres.expand(config.roi_cells, -1).clone())
        self.register_buffer("cells_y", self.cells_x.t().clone())

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Hand features (B, C, R, R) to joints, heatmaps and features.

        Returns:
            Joints (B, J, 2) x, y in hand-box units; heatmaps (B, J, R, R), each of sum 1; features (B, C, R, R).
        """
        features_BCRR = self.act(self.bn(self.conv(self.residual(self.hourglass(features)))))
        logits_BJRR = self.score(features_BCRR).float()
        heatmaps = torch.softmax(logits_BJRR.flatten(2) * self.inverse_temperature, dim=2).view_as(logits_BJRR)
        joints = torch.stack([(heatmaps * axis).sum(dim=(2, 3)) for axis in (self.cells_x, self.cells_y)], dim=2)
        return joints, heatmaps, features_BCRR


class MeshDecoder(nn.Module):
    """Hand features and heatmaps to MANO rotations and betas (Sec. 4.2, mesh network; reading A4: 6D rotations)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        channels, (first, second) = config.channels, config.mano_hidden
        self.heatmap_conv = nn.Conv2d(JOINTS, channels, kernel_size=1)
        self.feature_conv = nn.Conv2d(channels, channels, kernel_size=1)
        self.stages = nn.ModuleList(
            nn.Sequential(
                PreActivation(channels, config.leaky_relu_slope), PreActivation(channels, config.leaky_relu_slope)
            )
            for _ in range(config.encoder_stages)
        )
        cells = config.roi_cells // 2**config.encoder_stages
        self.hidden = nn.Sequential(
            nn.Linear(channels * cells**2, first),
            nn.LeakyReLU(config.leaky_relu_slope),
            nn.Linear(first, second),
            nn.LeakyReLU(config.leaky_relu_slope),
        )
        self.pose = nn.Linear(second, ROTATIONS * 6)
        self.shape = nn.Linear(second, BETAS)  # the betas; checkpoints hold it under this name
        with torch.no_grad():
            # Our choice: start at the flat hand. The plain start is a 6D vector near zero, whose direction is noise.
            self.pose.bias.add_(torch.tensor([1.0, 0, 0, 0, 1, 0]).repeat(ROTATIONS))

    def forward(self, heatmaps: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Heatmaps (B, J, R, R) and features (B, C, R, R) to rotations (B, 16, 3, 3), root first, and betas (B, 10)."""
        x = self.heatmap_conv(heatmaps.to(features.dtype)) + self.feature_conv(features)
        for stage in self.stages:
            x = F.max_pool2d(stage(x), 2)
        hidden = self.hidden(x.flatten(1))
        sixes = self.pose(hidden).float().view(-1, ROTATIONS, 6)
        return rotation_6d_to_matrix(sixes), self.shape(hidden).float()


class ObjectDecoder(nn.Module):
    """Object features to control points and confidences per cell (Sec. 4.3).

    The paper draws four shared convolutions and two per stream; the released weights have six shared and one output.
    """

    centres: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        channels, inner = config.channels, config.channels // 2
        layers: list[nn.Module] = []
        for _ in range(3):
            layers += _conv_bn_act(channels, inner, kernel=1, slope=config.object_leaky_relu_slope)
            layers += _conv_bn_act(inner, channels, kernel=3, slope=config.object_leaky_relu_slope)
        self.trunk = nn.Sequential(*layers)
        self.out = nn.Conv2d(channels, 3 * JOINTS, kernel_size=1)
        for layer in (*self.trunk, self.out):
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.zeros_(layer.bias)
        self.register_buffer("centres", cell_centres(config.roi_cells), persistent=False)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Object features (B, C, R, R) to control points and confidences per cell [row, column].

        Returns:
            Control points (B, R, R, J, 2) x, y in object-box units; confidences (B, R, R, J) in [0, 1].
        """
        out_BRRK = self.out(self.trunk(features)).float().permute(0, 2, 3, 1)
        logits, x, y = out_BRRK.split(JOINTS, dim=3)
        x = x * OFFSET_UNIT + self.centres[None, None, :, None]
        y = y * OFFSET_UNIT + self.centres[None, :, None, None]
        return torch.stack([x, y], dim=4), torch.sigmoid(logits)


class SideHead(nn.Module):
    """Hand features to the logit that the hand is a right one; ours, no part of the paper.

    It reads the RoI features themselves, so that mirrored images, which only it learns from, need no hand decoder.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        channels, slope = config.channels, config.leaky_relu_slope
        self.layers = nn.Sequential(
            *_conv_bn_act(channels, channels, kernel=3, slope=slope),
            nn.MaxPool2d(2),
            *_conv_bn_act(channels, channels, kernel=3, slope=slope),
        )
        self.out = nn.Linear(channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Hand features (B, C, R, R) to logits (B,)."""
        return self.out(self.layers(features).mean(dim=(2, 3)))[:, 0].float()


def cell_centres(cells: int) -> Tensor:
    """Centres of the cells along one side of a box, in units of the box: (k + 0.5) / cells."""
    return (torch.arange(cells, dtype=torch.float32) + 0.5) / cells


def _conv_bn_act(inputs: int, outputs: int, *, kernel: int, slope: float) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel_size=kernel, padding=kernel // 2)
    return [conv, nn.BatchNorm2d(outputs), nn.LeakyReLU(slope, inplace=True)]
