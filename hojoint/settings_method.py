"""Settings of the method: network, hand, crop, augmentation, losses, training, views, rules (Sec. 4, 5, 6.1).

Frozen, typed, and checked where they are declared. Here too: the base of every group, and the ranges that groups share.
Not here: settings of jobs and of the cluster (``settings_jobs``), reading them (``config``).
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hojoint import settings_file

Share = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
ImageSide = Annotated[int, Field(ge=64)]  # a hand does not fit into a smaller synthetic image
Seed = Annotated[int, Field(ge=0, lt=2**63)]  # torch's generators take no more


class Settings(BaseModel):
    """Base of every group of settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)


def refuse_descending(name: str, sizes: tuple[int, int]) -> None:
    """Raise ValueError for a range [smallest, largest] in the wrong order."""
    if sizes[0] > sizes[1]:
        raise ValueError(f"{name}={settings_file.shown(sizes)}: the smallest number comes first")


class ModelConfig(Settings):
    """Size and details of HOJoint (Sec. 4, App. A, Table 6); the defaults are the authors' released network."""

    input_px: Annotated[int, Field(ge=64, multiple_of=32)] = 512
    """Side of the square input, px (Sec. 6.1)."""
    roi_cells: Annotated[int, Field(ge=8)] = 32
    """Side of the RoI grid of hand and object, cells (App. A)."""
    block: Literal["bottleneck", "basic"] = "bottleneck"
    blocks: tuple[Count, Count, Count, Count] = (3, 4, 6, 3)
    """Residual blocks per stage of the ResNet."""
    width: Count = 64
    """Channels of the ResNet's first stage."""
    channels: Annotated[int, Field(ge=8, multiple_of=8)] = 256
    """Channels of the FPN level, the RoI features and everything after."""
    hourglass_depth: Count = 4
    """Levels of the joint decoder's hourglass (C)."""
    encoder_stages: Count = 4
    """Residual stages of the mesh decoder (App. A)."""
    mano_hidden: tuple[Count, Count] = (1024, 512)
    """Hidden sizes of the layers before pose and betas (C; reading A4)."""
    attention_hidden: Count = 1024
    """Hidden size of the MLP in the contextual reasoning (C; Sec. 4.1)."""
    attention_heads: Count = 1
    reasoning: Literal["none", "o+", "h+", "h+o+"] = "o+"
    """Which features the reasoning enhances: object, hand, both or none (Sec. 4.1, Table 2; reading A1)."""
    leaky_relu_slope: NotNegative = 0.01
    """Slope of every LeakyReLU outside the object decoder (C; reading A8)."""
    object_leaky_relu_slope: NotNegative = 0.1
    """The same inside the object decoder (C)."""
    pretrained: str | None = None
    """'imagenet' or a file of torchvision ResNet weights; None means random weights."""

    @model_validator(mode="after")
    def _sizes_fit(self) -> ModelConfig:
        halvings = max(self.hourglass_depth, self.encoder_stages)
        if self.roi_cells % 2**halvings != 0:
            raise ValueError(
                f"model.roi_cells={self.roi_cells} must be divisible by 2**{halvings}: the hourglass and the encoder "
                f"halve it {self.hourglass_depth} and {self.encoder_stages} times"
            )
        if self.channels % self.attention_heads != 0:
            raise ValueError(
                f"model.channels={self.channels} must be divisible by model.attention_heads={self.attention_heads}"
            )
        return self


class ManoConfig(Settings):
    """Which hand model."""

    path: str | None = None
    """MANO_RIGHT.pkl or .npz, or its folder; None means the project's stand-in hand, which has the same shapes."""
    layer: Literal["builtin", "manopth"] = "builtin"
    flat_hand_mean: bool = True
    """A pose of zeros is the flat hand; otherwise MANO's mean pose is added to every pose (C)."""
    fingertips: str = "ho3d_v2"
    """Vertices that stand for the fingertips: a name in ``hand.model.FINGERTIPS``."""


class CropConfig(Settings):
    """From image and boxes to the network's input (released code)."""

    context: Positive = 1.5
    """Factor on both boxes before the crop is squared around them."""
    hand_context: Positive = 2.0
    """``context`` of a hand without an object box: no object widens that crop, and at the same factor its hand would be
    larger than any in training. Our choice; neither paper nor code has one."""
    hand_roi_scale: Positive = 1.1
    """Factor on the hand box for its RoI."""
    object_roi_scale: Positive = 1.0
    """Factor on the object box for its RoI."""
    resample: Literal["bilinear", "nearest"] = "bilinear"
    supersample: Count = 1
    """Samples per input pixel and axis, averaged."""
    unlabelled_region: Literal["union", "hand"] = "hand"
    """Crop of frames whose object is unlabelled: around the hand alone, or around hand and object box (A21)."""
    clip: bool = False
    """Clip the union of the boxes to the image before squaring it, as the released code does."""


class AugmentConfig(Settings):
    """Sec. 6.1: scale, rotation, translation, colour. A fresh draw for each sample of each epoch, on the device."""

    enabled: bool = True
    scale: BelowOne = 0.2
    """Crop side times 1 +- this much."""
    scale_draw: Literal["clipped_normal", "uniform"] = "clipped_normal"
    """Distribution of the scale: N(1, scale) clipped at one sigma (C), or uniform."""
    rotation_deg: Annotated[float, Field(ge=0, le=180)] = 180.0
    """Turn in the image plane, degrees to either side."""
    shift: Share = 0.1
    """Shift of the crop, in crop sides."""
    brightness: Share = 0.1
    """Factor 1 +- this much; likewise contrast and saturation."""
    contrast: Share = 0.1
    saturation: Share = 0.1
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Turn of the hue, in full turns."""
    blur_px: NotNegative = 0.5
    """Largest sigma of the Gaussian blur, px of the input (C)."""
    box_jitter: Share = 0.0
    """Shift and scale of both boxes, in box sides; ours."""


class LossConfig(Settings):
    """Weights per term (Eq. 5, 6; the released code's are the paper's times 1000, all terms are means)."""

    joints_2d: NotNegative = 100.0
    vertices: NotNegative = 1.0e4
    joints_3d: NotNegative = 1.0e4
    rotations: NotNegative = 10.0
    betas: NotNegative = 0.1
    control_points: NotNegative = 500.0
    confidence: NotNegative = 100.0
    confidence_error: Literal["l1", "l2"] = "l1"
    confidence_temperature: Positive = 1.0
    """The confidence target is exp(-distance / temperature), distance in object boxes (reading A5)."""
    object_mask: bool = True
    """Only cells on the object have a coordinate error and a confidence target above zero (C; reading A6)."""
    heatmap: Literal["soft_argmax", "gaussian"] = "soft_argmax"
    """The 2D term: error of the expected joints (code), or of the heatmaps against Gaussians of sum 1 (reading A3)."""
    heatmap_sigma_cells: Positive = 1.0
    """Sigma of those Gaussians, RoI cells; ours."""


class TrainConfig(Settings):
    """Schedule of both phases (Sec. 6.1) and the mixture of the second (Sec. 5.2)."""

    datasets: Annotated[tuple[Literal["ho3d", "freihand", "pseudo"], ...], Field(min_length=1)] = ("ho3d",)
    epochs: Count = 60
    steps: Count | None = None
    """Total optimiser steps; replaces ``epochs`` (a compute-matched control is trained so)."""
    batch_size: Count = 24
    """Images per step, over all workers."""
    learning_rate: Positive = 1.0e-4
    """Of Adam (Sec. 6.1)."""
    weight_decay: NotNegative = 5.0e-4
    """(C); the paper prints none."""
    lr_decay: Annotated[float, Field(gt=0, le=1)] = 0.7
    """Factor on the learning rate every ``lr_decay_every_epochs`` (Sec. 6.1)."""
    lr_decay_every_epochs: Count = 10
    max_grad_norm: Positive | None = None
    """Gradients are clipped to this norm; None means never."""
    mixed_precision: bool = True
    """bfloat16 on a GPU; never on a CPU."""
    loader_processes: Annotated[int, Field(ge=0)] = 4
    """Processes per worker that read images; 0 means the worker itself."""
    cache: bool = False
    """Keep the decoded regions in memory."""
    checkpoint_every_epochs: Count = 1
    pseudo_share: Share | None = None
    """Share of each batch drawn from pseudo-labels; None means that every sample of the union is drawn alike (A22)."""
    init_checkpoint: str | None = None
    """Checkpoint to start from; None means from scratch, as the paper does in both phases (Sec. 6.1)."""


class StudentConfig(Settings):
    """How the pipeline's second phase differs from its first. By default it does not: both start from scratch and take
    the same schedule (Sec. 6.1). A control is trained as the student is, without the pseudo-labels."""

    from_teacher: bool = False
    """Start from the teacher's weights."""
    epochs: Count | None = None
    """None means ``train.epochs``; with fewer epochs the learning rate still decays as many times."""
    learning_rate: Positive | None = None
    """None means ``train.learning_rate``."""


class TtaConfig(Settings):
    """Test-time augmentation (Sec. 5.1; reading A10)."""

    views: Count = 8
    """Views of each frame whose predictions are averaged."""
    rotation_deg: Annotated[float, Field(ge=0, le=180)] = 180.0
    """Views are turned by equal steps over this much to either side, degrees; at most the rotation used in training."""
    scale: BelowOne = 0.1
    """Crop side times 1 +- this much."""
    shift: Share = 0.05
    """Shift of the crop, in crop sides."""


Rule = Literal[
    "box_iou", "reprojection", "bone_length", "joint_angle", "joint_step", "pose_step", "shape_spread"
]  # fmt: skip


class FilterConfig(Settings):
    """Spatial and temporal rules (Sec. 5.1.1, 5.1.2); readings A11-A20, each literal alternative a setting."""

    min_box_iou: Share = 0.6
    """IoU of the projected mesh's box with the given hand box (Sec. 5.1.1; reading A14)."""
    max_reprojection: Positive = 0.65
    """Projected 3D joints against 2D joints, in hand boxes (t_p of Sec. 5.1.1; reading A12)."""
    reprojection_norm: Literal["stacked", "mean"] = "stacked"
    """Norm of all 42 numbers, or mean distance per joint (reading A12)."""
    min_bone_length: NotNegative = 0.1
    """Shortest bone, in units of ``bone_reference`` (Sec. 5.1.1)."""
    bone_reference: Literal["palm", "span"] = "palm"
    """Wrist to the base of the middle finger, or to its tip along the bones (reading A15)."""
    min_angle_deg: Finite = 0.0
    """Least bend of a finger joint, degrees (Sec. 5.1.1)."""
    max_angle_deg: Finite = 90.0
    """Largest bend of a finger joint, degrees (Sec. 5.1.1)."""
    angle_tolerance_deg: NotNegative = 20.0
    """How far outside that range a joint may bend, degrees; ours, the paper prints none (reading A16)."""
    joint_angle: Literal["flexion", "unsigned"] = "flexion"
    """Signed bend about the joint's axis, or plain angle between its bones (reading A16)."""
    max_joint_step: Positive = 0.5
    """2D joints against the neighbouring frame, in hand boxes (t_j of Sec. 5.1.2; reading A12)."""
    max_pose_step: Positive = 0.01
    """Pose against the neighbouring frame, rad^2 under mean_square (t_theta of Sec. 5.1.2)."""
    pose_step: Literal["mean_square", "literal"] = "mean_square"
    """Mean square of the rotations' change, or the printed norm, which keeps only frozen frames (reading A13)."""
    neighbour: Literal["raw", "valid"] = "raw"
    """Which frames may be a neighbour: all, or those that pass the spatial rules (reading A17)."""
    shape_sigmas: Positive = 2.0
    """Distance of the betas from the clip's, in sigmas (Sec. 5.1.2)."""
    shape_rule: Literal["sigma", "mad"] = "sigma"
    """Mean and standard deviation, or median and median absolute deviation (reading A18)."""
    shape_min_frames: Count = 6
    """In fewer frames the betas are not judged: among five no deviation can exceed two sigmas (reading A18)."""
    enabled: tuple[Rule, ...] = get_args(Rule)

    @model_validator(mode="after")
    def _angles_ascend(self) -> FilterConfig:
        if self.min_angle_deg >= self.max_angle_deg:
            raise ValueError(
                f"filters.min_angle_deg={self.min_angle_deg:g} must be below filters.max_angle_deg="
                f"{self.max_angle_deg:g}"
            )
        return self
