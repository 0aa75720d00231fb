"""Settings of the method: network, hand, crop, views, rules, refinement of labels (Sec. 4, 5).

Frozen, typed, and checked where they are declared. Here too: the base of every group, and the ranges that groups share.
Not here: settings of training (``settings_training``), of jobs and of the cluster (``settings_jobs``), reading them
(``config``).
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

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


def _each_once(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise ValueError(f"should name each once; found {settings_file.shown(values)}")
    return values


Once = AfterValidator(_each_once)
"""Of a tuple whose order and repetition mean nothing: a name that stands twice is a slip."""

FILE_NAME = re.compile(r"(?!\.)[A-Za-z0-9_.-]{1,100}")


def _of_files(value: str) -> str:
    if not FILE_NAME.fullmatch(value):
        raise ValueError(
            "files and folders are named after it: should be 1 to 100 letters (a-z), digits, '_', '-' and '.', without "
            f"'.' at its start; found {value!r:.80}"
        )
    return value


FileName = Annotated[str, AfterValidator(_of_files)]
"""Becomes a part of names of files and folders, so it cannot leave its folder."""


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
    side_head: bool = False
    """A head that tells a right from a left hand by the hand's features, trained with mirrored hands; ours. A network
    without one guesses the side by what fits better (reading A20)."""
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
    """HO-3D's poses of zeros are the flat hand; otherwise its reader adds MANO's mean pose to every pose (C)."""
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
    """Crop of frames whose object is unlabelled: around the hand alone, or around hand and object box (A21). Under
    ``hand`` the network is not told the object box either."""
    clip: bool = False
    """Clip the union of the boxes to the image before squaring it, as the released code does."""


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
    "box_iou", "reprojection", "bone_length", "joint_angle", "joint_step", "pose_step", "shape_spread", "view_spread",
    "side",
]  # fmt: skip
Score = Literal[Rule, "rotation_spread"]
"""What a model of the quality may look at: the scores of the rules, and the spread of the views' rotations, rad."""
PAPER_RULES: tuple[Rule, ...] = (
    "box_iou", "reprojection", "bone_length", "joint_angle", "joint_step", "pose_step", "shape_spread",
)  # fmt: skip
"""The seven of Sec. 5.1; the rules after them are ours."""
HIGHER_IS_BETTER: frozenset[str] = frozenset({"box_iou", "bone_length", "side"})
"""Rules with a least score; those of the others have a largest one."""
THRESHOLDS: dict[str, str] = {
    "box_iou": "min_box_iou",
    "reprojection": "max_reprojection",
    "bone_length": "min_bone_length",
    "joint_angle": "angle_tolerance_deg",
    "joint_step": "max_joint_step",
    "pose_step": "max_pose_step",
    "shape_spread": "shape_sigmas",
    "view_spread": "max_view_spread",
    "side": "min_side_confidence",
}
"""Rule to the setting of FilterConfig that its score is compared with."""


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
    max_view_spread: Positive = 0.1
    """RMS distance of the views' 2D joints from their mean, in hand boxes; ours."""
    min_side_confidence: Annotated[float, Field(ge=0.5, le=1)] = 0.9
    """Least confidence in the clip's side; ours. Needs a network with ``model.side_head``, or sides from elsewhere."""
    enabled: Annotated[tuple[Rule, ...], Once] = PAPER_RULES
    mode: Literal["thresholds", "quality"] = "thresholds"
    """What decides: the thresholds of the enabled rules one by one, or ``quality`` and, where enabled, the rules
    ``view_spread`` and ``side``."""
    quality_model: str | None = None
    """File of jobs.calibrate from which each frame gets its ``quality``, the chance that its label is correct, in both
    modes; None means that no quality is known."""
    min_quality: Share = 0.9
    """Least quality of a kept frame under ``mode=quality``."""

    @model_validator(mode="after")
    def _angles_ascend(self) -> FilterConfig:
        if self.min_angle_deg >= self.max_angle_deg:
            raise ValueError(
                f"filters.min_angle_deg={self.min_angle_deg:g} must be below filters.max_angle_deg="
                f"{self.max_angle_deg:g}"
            )
        return self


class RefineConfig(Settings):
    """What makes the labels of a clip better than its predictions, from the frames that the rules keep; ours.

    Scores and verdicts are always those of the predictions. Everything off, the default, is the paper. Frames are those
    that have a box: where boxes come at a regular larger step, they count, and not the pictures between them (A17).
    """

    one_shape: bool = False
    """All kept frames of a clip have its mean betas, weighted by quality where that is known."""
    smooth_frames: Annotated[int, Field(ge=0)] = 0
    """Rotations and 2D joints are averaged with the kept frames up to this far away that agree; 0 means none."""
    max_turn_deg: Positive = 30.0
    """Kept frames agree, for averaging and filling, if the hand turns by at most this much per frame in between."""
    fill_frames: Annotated[int, Field(ge=0)] = 0
    """Longest run of rejected frames between two kept ones that gets interpolated labels, flagged ``filled``; 0 means
    none."""
    fit_steps: Annotated[int, Field(ge=0)] = 0
    """Largest number of steps that turn the hand to fit its 2D joints along the clip (Sec. 5.1, SMPLify); 0 means
    none."""
    fit_orientation_weight: NotNegative = 0.1
    """Pull of the global orientation towards the prediction, per rad^2, against squared 2D errors in hand boxes."""
    fit_smooth_weight: NotNegative = 3.0
    """Pull of each frame's global orientation towards its neighbour's, per rad^2."""

    @property
    def active(self) -> bool:
        """Whether any label can differ from its prediction."""
        return self.one_shape or self.smooth_frames > 0 or self.fill_frames > 0 or self.fit_steps > 0
