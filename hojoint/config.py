"""Settings: frozen, typed, checked where they are declared; an unknown key is refused and its neighbour named.

Every number of the paper is in a file under ``configs/`` with its section beside it. The defaults here are the paper's
or the released code's; ``configs/ho3d.yaml`` is the paper as printed, ``configs/released.yaml`` the released code.
Former names: ``settings_renamed``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hojoint import settings_file, settings_renamed
from hojoint.settings_file import ConfigError

__all__ = ["Config", "ConfigError", "changed", "digest", "from_tree", "load", "to_tree"]

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


def _refuse_descending(name: str, sizes: tuple[int, int]) -> None:
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
    """MANO_RIGHT.pkl or its folder; None means the project's stand-in hand, which has the same shapes."""
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


class LabellingConfig(Settings):
    """How videos become units, and what happens when one goes wrong."""

    unit_videos: Count = 64
    """Videos per unit: what is scheduled, retried and committed at once."""
    limit: Count | None = None
    """Only this many videos; None means all."""
    min_clip_frames: Count = 2
    side: Literal["both", "right", "left"] = "both"
    """'both': each clip's side is guessed and left hands are mirrored (reading A20)."""
    side_probe_frames: Count = 8
    """Frames per clip that the guess uses."""
    batch_views: Count = 128
    """Views per forward pass."""
    decode_children: Count = 1
    """Processes per Teacher that decode videos."""
    decode_deadline_s: Positive = 20.0
    """Seconds per video, then the child is killed."""
    decode_memory_mb: Count = 2048
    """Memory limit of a decoding child, MB."""
    max_frame_px: Count = 4_000_000
    """A video of larger frames goes to quarantine; px, width times height."""
    max_frames: Count = 2000
    """A video of more frames goes to quarantine."""
    attempts: Count = 2
    """A video that was alone in progress when this many attempts died goes to quarantine."""
    error_budget_share: Share = 0.05
    """The run fails when more videos than this share and more than ``error_budget_count`` are in quarantine."""
    error_budget_count: Count = 25
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = 95
    """Of the image regions kept beside the pseudo-labels."""
    image_context: Positive = 2.0
    """Side of those regions, in boxes: room for training's crop, grown, turned and shifted."""
    require_conditional_writes: bool = True
    """Refuse a store on which two attempts could both commit a unit."""


class VideosConfig(Settings):
    """Something-Something videos and their Something-Else boxes."""

    root: str | None = None
    """Folder with <id>.webm or <id>.mp4."""
    boxes: str | None = None
    """A JSON file, or a folder of its parts."""
    missing: Literal["quarantine", "leave_out"] = "quarantine"
    """What becomes of boxes whose video is not under ``root``; either way they are counted."""


class TeacherConfig(Settings):
    """The network that labels videos."""

    checkpoint: str | None = None
    sha256: str | None = None
    """Expected checksum of its weights; None means any."""


class HO3DConfig(Settings):
    """HO-3D; readers tell v2 and v3 apart by themselves."""

    root: str | None = None
    segmentations: str | None = None
    """Rendered segmentations; None means the sibling '<root>_segmentations_rendered'."""
    object_models: str | None = None
    """YCB models; None means the sibling 'object_models'."""


class FreiHANDConfig(Settings):
    root: str | None = None
    """The training set, the evaluation set, or both in one folder; FreiHAND's authors publish two."""
    evaluation_root: str | None = None
    """The evaluation set; None means ``root`` if it holds that set's truth, else the sibling '<root>_eval' if any."""


class PseudoConfig(Settings):
    labels: str | None = None
    """Output of jobs.pseudo_label or jobs.refilter: a folder or an s3:// URI."""


class DataConfig(Settings):
    """Where data sets lie."""

    ho3d: HO3DConfig = HO3DConfig()
    freihand: FreiHANDConfig = FreiHANDConfig()
    pseudo: PseudoConfig = PseudoConfig()


class ClusterConfig(Settings):
    """Resources. One shapes a result: batch norm sees each training worker's part of a batch, not the complete one."""

    address: str | None = None
    """A running cluster ('auto' or host:port); None starts a local one."""
    cpus: Count | None = None
    """CPUs of the local cluster; None means all."""
    object_store_mb: Annotated[int, Field(ge=80)] | None = None
    """Object store of the local cluster, MB; None means Ray's default."""
    teachers: tuple[Count, Count] = (1, 2)
    """Smallest and largest number of Teacher actors."""
    teacher_cpus: Positive = 1.0
    teacher_gpus: NotNegative = 0.0
    workers: tuple[Count, Count] = (1, 1)
    """Smallest and largest number of training workers; different numbers make the run elastic."""
    worker_cpus: Positive = 1.0
    worker_gpus: NotNegative = 0.0
    max_failures: Annotated[int, Field(ge=-1)] = 3
    """Restarts of a training run after a worker died; -1 means no limit."""
    insecure: bool = False
    """Submit jobs to a remote cluster that asks for no token (anybody who reaches it can run code there)."""
    threads: Count | None = None
    """torch threads per process; None means the process's share of CPUs."""

    @model_validator(mode="after")
    def _ranges_ascend(self) -> ClusterConfig:
        _refuse_descending("cluster.teachers", self.teachers)
        _refuse_descending("cluster.workers", self.workers)
        return self


class SyntheticConfig(Settings):
    """Size of the synthetic world (its contents derive from the seed alone)."""

    seed: Seed | None = None
    """Draws another world; None means the run's seed."""
    ho3d_version: Literal["v2", "v3"] = "v2"
    """Which format of HO-3D the labelled sequences are written in."""
    train_sequences: Count = 8
    train_frames: Count = 60
    """Frames per sequence. ``evaluation_frames`` is also per sequence, ``wild_frames`` per video."""
    evaluation_sequences: Count = 4
    evaluation_frames: Count = 30
    image_width: ImageSide = 640
    """Of the labelled sequences, px."""
    image_height: ImageSide = 480
    wild_videos: Count = 60
    wild_frames: Count = 36
    test_images: Count = 200
    """Images of the wild domain in FreiHAND's format."""
    broken_videos: Annotated[int, Field(ge=0)] = 2
    """Videos that no decoder can read to the end."""


class EvaluateConfig(Settings):
    """jobs.evaluate: the network that is measured, test images per task, and how many of them a report shows."""

    checkpoint: str | None = None
    actors: tuple[Count, Count] = (1, 2)
    """Smallest and largest number of evaluation actors; each takes ``cluster.teacher_cpus`` and ``teacher_gpus``."""
    shard_images: Count = 64
    """Test images per task."""
    batch_size: Count = 16
    examples: Annotated[int, Field(ge=0)] = 12
    """Images per data set that the report shows."""
    attention_cells: tuple[tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]], ...] | None = None
    """Cells [row, column] of the object's RoI grid whose attention is drawn (Fig. 7); None means three, at a quarter, a
    half and three quarters of its diagonal."""
    write_predictions: bool = True
    """Also write the submission file of the data set (pred.json)."""
    pnp_proposals: Count = 10
    """Most confident proposals of each control point that PnP sees (released code)."""
    pnp_refine: bool = True
    """Also measure the object's pose after refinement on PnP's inliers, beside the released code's plain one."""

    @model_validator(mode="after")
    def _range_ascends(self) -> EvaluateConfig:
        _refuse_descending("evaluate.actors", self.actors)
        return self


class ScoreConfig(Settings):
    """jobs.evaluate on a submission file: the predictions, the folder of the truth, and the data set's layout."""

    predictions: str | None = None
    truth: str | None = None
    layout: Literal["ho3d", "freihand"] = "ho3d"


class RefilterConfig(Settings):
    """jobs.refilter."""

    actors: tuple[Count, Count] = (1, 2)
    """Smallest and largest number of actors; each takes ``cluster.teacher_cpus``."""

    @model_validator(mode="after")
    def _range_ascends(self) -> RefilterConfig:
        _refuse_descending("refilter.actors", self.actors)
        return self


class SubmitConfig(Settings):
    """jobs.submit."""

    job: str | None = None
    """Which job is sent to the cluster."""


class CalibrateConfig(Settings):
    """What jobs.calibrate calls a right label, what it looks for, and how it cuts sequences into clips."""

    predictions: str | None = None
    """Output of jobs.pseudo_label to judge, instead of sequences of HO-3D; needs ``truth``."""
    truth: str | None = None
    """Parquet file with the true poses of ``predictions``."""
    precision: Share = 0.9
    """Share of right labels that the kept ones must reach."""
    max_aligned_mm: Positive = 15.0
    """A right label's largest PA-MPJPE, mm."""
    max_joints_2d: Positive = 0.15
    """A right label's largest mean 2D joint error, in sides of the hand box."""
    split: Literal["evaluation", "train"] = "evaluation"
    """Split of HO-3D that is labelled. Do not report a student on the evaluation split if its labels used thresholds
    chosen there. The teacher's own training images make its labels look better than they are."""
    sequences: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Names of the split's sequences to use; None means all."""
    stride: Count = 2
    """Take every n-th frame of a labelled sequence: HO-3D has 30 a second, Something-Something 12."""
    clip_frames: Count = 48
    limit: Count | None = None
    """At most this many frames, from evenly spaced clips; None means all."""


class DemoConfig(Settings):
    """jobs.demo: one image with its boxes, or one video with its box file."""

    image: str | None = None
    box: tuple[Finite, Finite, Finite, Finite] | None = None
    """Hand box of ``image``: x0, y0, x1, y1 in px."""
    object_box: tuple[Finite, Finite, Finite, Finite] | None = None
    """Box of the object in the hand; None means no object."""
    video: str | None = None
    boxes: str | None = None
    """Boxes of ``video``: Something-Else JSON, or a JSON list with [x0, y0, x1, y1] or null for each frame."""
    side: Literal["right", "left"] | None = None
    """None means right in an image, and in a video the side that labelling finds."""
    limit: Count = 150
    """At most this many frames of ``video``, from the first with a hand box."""


class StudyConfig(Settings):
    """Repetitions of the complete pipeline: differences of 0.2 mm need them."""

    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0, 1, 2)
    own_worlds: bool = False
    """Draw a world for each seed; otherwise all seeds share one, and only training and its order differ."""

    @model_validator(mode="after")
    def _seeds_differ(self) -> StudyConfig:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(
                f"study.seeds={settings_file.shown(self.seeds)}: a seed that is given twice is one run, not two"
            )
        return self


class BenchConfig(Settings):
    """How much jobs.bench measures on, and how often."""

    videos: Count = 40
    frames: Count = 36
    """Per video."""
    steps: Count = 60
    """Training steps per measurement."""
    repeats: Count = 3


class Config(Settings):
    """All settings of a run."""

    name: str = "run"
    seed: Seed = 0
    output: str | None = None
    """A folder or an s3:// URI."""
    world: str | None = None
    """Where jobs.synthesize writes; None means '<output>/world'."""
    model: ModelConfig = ModelConfig()
    mano: ManoConfig = ManoConfig()
    crop: CropConfig = CropConfig()
    augment: AugmentConfig = AugmentConfig()
    loss: LossConfig = LossConfig()
    train: TrainConfig = TrainConfig()
    student: StudentConfig = StudentConfig()
    tta: TtaConfig = TtaConfig()
    filters: FilterConfig = FilterConfig()
    labelling: LabellingConfig = LabellingConfig()
    videos: VideosConfig = VideosConfig()
    teacher: TeacherConfig = TeacherConfig()
    data: DataConfig = DataConfig()
    cluster: ClusterConfig = ClusterConfig()
    synthetic: SyntheticConfig = SyntheticConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    score: ScoreConfig = ScoreConfig()
    refilter: RefilterConfig = RefilterConfig()
    calibrate: CalibrateConfig = CalibrateConfig()
    submit: SubmitConfig = SubmitConfig()
    study: StudyConfig = StudyConfig()
    demo: DemoConfig = DemoConfig()
    bench: BenchConfig = BenchConfig()
    control: bool = False
    """jobs.pipeline also trains a compute-matched control on labelled data alone."""


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file and apply ``key=value`` overrides with dotted keys.

    Raises:
        ConfigError: the file is missing, is not YAML, or a setting is unknown or out of range.
    """
    tree = settings_file.read(path)
    for override in overrides:
        settings_file.override(tree, override, Config)
    return from_tree(tree)


def from_tree(tree: Mapping[str, Any]) -> Config:
    """Build a Config from nested mappings; see ``load``."""
    settings_file.refuse_unknown(tree, Config, settings_renamed.advice)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(settings_file.explained(error, Config)) from None


def from_stored(tree: Mapping[str, Any]) -> Config:
    """Build a Config from settings that an earlier version of this project may have stored (``settings_renamed``).

    Raises:
        ConfigError: a key is unknown under today's names and under former ones, or a value is out of range.
    """
    if not isinstance(tree, Mapping):
        raise ConfigError(f"expected stored settings by name, found {settings_file.shown(tree)}")
    return from_tree(settings_renamed.current_tree(tree))


def renamed(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Stored settings with dotted keys, under today's names (``settings_renamed``)."""
    return settings_renamed.current(flat)


def to_tree(settings: Settings) -> dict[str, Any]:
    """Plain dicts, lists and scalars, as JSON holds them."""
    return settings.model_dump(mode="json")


def changed(config: Config, **changes: Any) -> Config:
    """A copy with some settings changed and all checked; a mapping changes some of a group and leaves the others."""
    tree = to_tree(config)
    _merge(tree, changes)
    return from_tree(tree)


def digest(*parts: Any) -> str:
    """Twelve hex digits that name a combination of settings and other plain values."""
    plain = [to_tree(part) if isinstance(part, Settings) else part for part in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]


def _merge(tree: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, Mapping):
            _merge(tree[key], value)
        else:
            tree[key] = value
