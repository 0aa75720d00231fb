"""Settings: frozen, typed, checked where they are declared; an unknown key is refused and its neighbour named.

Every number of the paper stands in a file under ``configs/`` with its section beside it; the defaults here are the
paper's where it prints one and the released code's where it does not (marked C).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hojoint import settings_file
from hojoint.settings_file import ConfigError

__all__ = ["Config", "ConfigError", "changed", "digest", "from_tree", "load", "to_tree"]

Share = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
ImageSide = Annotated[int, Field(ge=64)]  # in a smaller synthetic image no hand has room
Seed = Annotated[int, Field(ge=0, lt=2**63)]  # torch's generators take no more


RENAMED = {
    "model.slope": "model.leaky_relu_slope",
    "model.object_slope": "model.object_leaky_relu_slope",
    "crop.hand_roi": "crop.hand_roi_scale",
    "crop.object_roi": "crop.object_roi_scale",
    "loss.shape": "loss.betas",
    "train.decay": "train.lr_decay",
    "train.decay_every_epochs": "train.lr_decay_every_epochs",
    "train.initial": "train.init_checkpoint",
    "evaluation": "evaluate",
    "calibration": "calibrate",
    "job": "submit.job",
    "predictions": "score.predictions",
    "truth": "score.truth",
    "layout": "score.layout",
}
"""Former name -> name. Stored settings are read under both; a user of a former name gets a message with the new one."""


class Settings(BaseModel):
    """Base of every group of settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)


class ModelConfig(Settings):
    """Size and details of HOJoint (Sec. 4, App. A, Table 6); the defaults are the authors' released network."""

    input_px: Annotated[int, Field(ge=64, multiple_of=32)] = 512
    roi_cells: Annotated[int, Field(ge=8)] = 32
    block: Literal["bottleneck", "basic"] = "bottleneck"
    blocks: tuple[Count, Count, Count, Count] = (3, 4, 6, 3)
    width: Count = 64
    channels: Annotated[int, Field(ge=8, multiple_of=8)] = 256
    """Channels of the FPN level, the RoI features and everything after."""
    hourglass_depth: Count = 4
    encoder_stages: Count = 4
    mano_hidden: tuple[Count, Count] = (1024, 512)
    attention_hidden: Count = 1024
    attention_heads: Count = 1
    reasoning: Literal["none", "o+", "h+", "h+o+"] = "o+"
    leaky_relu_slope: NotNegative = 0.01
    object_leaky_relu_slope: NotNegative = 0.1
    pretrained: str | None = None
    """'imagenet', a file of torchvision ResNet weights, or nothing."""

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
                f"model.channels={self.channels} must be divisible by attention_heads={self.attention_heads}"
            )
        return self


class ManoConfig(Settings):
    """Which hand model; without a path, the project's own stand-in hand of the same shapes."""

    path: str | None = None
    layer: Literal["builtin", "manopth"] = "builtin"
    flat_hand_mean: bool = True
    fingertips: str = "ho3d_v2"


class CropConfig(Settings):
    """From image and boxes to the network's input (released code)."""

    context: Positive = 1.5
    hand_context: Positive = 2.0
    """``context`` of a hand without an object box: no object widens that crop, and at the same factor its hand would be
    larger than any the network was trained on. Our choice; nobody prints one."""
    hand_roi_scale: Positive = 1.1
    object_roi_scale: Positive = 1.0
    resample: Literal["bilinear", "nearest"] = "bilinear"
    supersample: Count = 1
    unlabelled_region: Literal["union", "hand"] = "hand"
    """Crop of frames whose object is unlabelled: around the hand alone, or around hand and object box."""
    clip: bool = False
    """Clip the union of the boxes to the image before squaring it, as the released code does."""


class AugmentConfig(Settings):
    """Sec. 6.1: scale, rotation, translation, colour. A fresh draw for each sample of each epoch, on the device."""

    enabled: bool = True
    scale: BelowOne = 0.2
    scale_draw: Literal["clipped_normal", "uniform"] = "clipped_normal"
    rotation_deg: Annotated[float, Field(ge=0, le=180)] = 180.0
    shift: Share = 0.1
    brightness: Share = 0.1
    contrast: Share = 0.1
    saturation: Share = 0.1
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    blur_px: NotNegative = 0.5
    box_jitter: Share = 0.0


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
    heatmap: Literal["soft_argmax", "gaussian"] = "soft_argmax"
    """The 2D term: error of the expected joints (code), or of the heatmaps against Gaussians of sum 1 (reading A3)."""
    heatmap_sigma_cells: Positive = 1.0


class TrainConfig(Settings):
    """Schedule of both phases (Sec. 6.1) and the mixture of the second (Sec. 5.2)."""

    datasets: Annotated[tuple[Literal["ho3d", "freihand", "pseudo"], ...], Field(min_length=1)] = ("ho3d",)
    epochs: Count = 60
    steps: Count | None = None
    """Total optimiser steps; replaces ``epochs`` (a compute-matched control is trained so)."""
    batch_size: Count = 24
    learning_rate: Positive = 1.0e-4
    weight_decay: NotNegative = 5.0e-4
    lr_decay: Annotated[float, Field(gt=0, le=1)] = 0.7
    lr_decay_every_epochs: Count = 10
    max_grad_norm: Positive | None = None
    mixed_precision: bool = True
    """bfloat16 on a GPU; never on a CPU."""
    loader_processes: Annotated[int, Field(ge=0)] = 4
    cache: bool = False
    """Keep the decoded regions in memory."""
    checkpoint_every_epochs: Count = 1
    pseudo_share: Share | None = None
    """Share of each batch drawn from pseudo-labels; nothing means a uniform union (A22)."""
    init_checkpoint: str | None = None
    """Checkpoint to start from; nothing means from scratch, as the paper does in both phases (Sec. 6.1)."""


class StudentConfig(Settings):
    """What the pipeline's second phase does otherwise than its first: by default nothing, both start from scratch and
    take the same schedule (Sec. 6.1). A control does as the student does, without the pseudo-labels."""

    from_teacher: bool = False
    """Start from the teacher's weights."""
    epochs: Count | None = None
    """Nothing means ``train.epochs``; the learning rate decays as often in fewer."""
    learning_rate: Positive | None = None
    """Nothing means ``train.learning_rate``."""


class TtaConfig(Settings):
    """Test-time augmentation (Sec. 5.1; reading A10)."""

    views: Count = 8
    rotation_deg: Annotated[float, Field(ge=0, le=180)] = 180.0
    """Views are turned by equal steps over this much to either side: what training turned, the views may turn."""
    scale: BelowOne = 0.1
    shift: Share = 0.05


Rule = Literal[
    "box_iou", "reprojection", "bone_length", "joint_angle", "joint_step", "pose_step", "shape_spread"
]  # fmt: skip


class FilterConfig(Settings):
    """Spatial and temporal rules (Sec. 5.1.1, 5.1.2); readings A10-A20, each literal alternative a setting."""

    min_box_iou: Share = 0.6
    max_reprojection: Positive = 0.65
    reprojection_norm: Literal["stacked", "mean"] = "stacked"
    min_bone_length: NotNegative = 0.1
    bone_reference: Literal["palm", "span"] = "palm"
    min_angle_deg: Finite = 0.0
    max_angle_deg: Finite = 90.0
    angle_tolerance_deg: NotNegative = 20.0
    joint_angle: Literal["flexion", "unsigned"] = "flexion"
    max_joint_step: Positive = 0.5
    max_pose_step: Positive = 0.01
    pose_step: Literal["mean_square", "literal"] = "mean_square"
    neighbour: Literal["raw", "valid"] = "raw"
    shape_sigmas: Positive = 2.0
    shape_rule: Literal["sigma", "mad"] = "sigma"
    shape_min_frames: Count = 6
    enabled: tuple[Rule, ...] = get_args(Rule)

    @model_validator(mode="after")
    def _angles_ascend(self) -> FilterConfig:
        if self.min_angle_deg >= self.max_angle_deg:
            raise ValueError(
                f"filters.min_angle_deg={self.min_angle_deg:g} must be below max_angle_deg={self.max_angle_deg:g}"
            )
        return self


class LabellingConfig(Settings):
    """How videos become units, and what happens when one goes wrong."""

    unit_videos: Count = 64
    limit: Count | None = None
    min_clip_frames: Count = 2
    side: Literal["both", "right", "left"] = "both"
    side_probe_frames: Count = 8
    batch_views: Count = 128
    decode_children: Count = 1
    decode_deadline_s: Positive = 20.0
    decode_memory_mb: Count = 2048
    max_frame_px: Count = 4_000_000
    max_frames: Count = 2000
    attempts: Count = 2
    error_budget_share: Share = 0.05
    error_budget_count: Count = 25
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = 95
    image_context: Positive = 2.0
    require_conditional_writes: bool = True


class VideosConfig(Settings):
    """Something-Something videos and their Something-Else boxes."""

    root: str | None = None
    boxes: str | None = None
    missing: Literal["quarantine", "leave_out"] = "quarantine"
    """What becomes of boxes whose video is not under ``root``; either way they are counted."""


class TeacherConfig(Settings):
    checkpoint: str | None = None
    sha256: str | None = None


class HO3DConfig(Settings):
    root: str | None = None
    segmentations: str | None = None
    """Rendered segmentations; nothing means the sibling '<root>_segmentations_rendered'."""
    object_models: str | None = None
    version: Literal["v2", "v3"] = "v2"


class FreiHANDConfig(Settings):
    root: str | None = None
    """The training set, the evaluation set, or both in one folder; FreiHAND's authors give two."""
    evaluation_root: str | None = None
    """The evaluation set; nothing means ``root`` if its truth is there, else the sibling '<root>_eval' if there is one.
    """


class PseudoConfig(Settings):
    labels: str | None = None
    """Output of jobs.pseudo_label or jobs.refilter: a folder or an s3:// URI."""


class DataConfig(Settings):
    ho3d: HO3DConfig = HO3DConfig()
    freihand: FreiHANDConfig = FreiHANDConfig()
    pseudo: PseudoConfig = PseudoConfig()


class ClusterConfig(Settings):
    """Resources. One of them shapes a result: batch norm sees each training worker's part of a batch, not the whole."""

    address: str | None = None
    """A running cluster ('auto' or host:port); nothing starts a local one."""
    cpus: Count | None = None
    object_store_mb: Annotated[int, Field(ge=80)] | None = None
    teachers: tuple[Count, Count] = (1, 2)
    """Smallest and largest number of Teacher actors."""
    teacher_cpus: Positive = 1.0
    teacher_gpus: NotNegative = 0.0
    workers: tuple[Count, Count] = (1, 1)
    """Smallest and largest number of training workers; different numbers make the run elastic."""
    worker_cpus: Positive = 1.0
    worker_gpus: NotNegative = 0.0
    max_failures: Annotated[int, Field(ge=-1)] = 3
    insecure: bool = False
    """Submit jobs to a remote cluster that asks for no token (anybody who reaches it can run code there)."""
    threads: Count | None = None
    """torch threads per process; nothing means the process's share of CPUs."""

    @model_validator(mode="after")
    def _ranges_ascend(self) -> ClusterConfig:
        for name, (smallest, largest) in (("teachers", self.teachers), ("workers", self.workers)):
            if smallest > largest:
                raise ValueError(f"cluster.{name}=[{smallest},{largest}]: the smallest number comes first")
        return self


class SyntheticConfig(Settings):
    """Size of the synthetic world (its contents derive from the seed alone)."""

    seed: Seed | None = None
    """Draws another world; nothing means the run's seed."""
    train_sequences: Count = 8
    train_frames: Count = 60
    evaluation_sequences: Count = 4
    evaluation_frames: Count = 30
    image_width: ImageSide = 640
    image_height: ImageSide = 480
    wild_videos: Count = 60
    wild_frames: Count = 36
    test_images: Count = 200
    broken_videos: Annotated[int, Field(ge=0)] = 2


class EvaluateConfig(Settings):
    """jobs.evaluate: the network that is measured, test images per task, and how many of them a report shows."""

    checkpoint: str | None = None
    actors: tuple[Count, Count] = (1, 2)
    """Smallest and largest number of evaluation actors; each takes ``cluster.teacher_cpus`` and ``teacher_gpus``."""

    shard_images: Count = 64
    batch_size: Count = 16
    examples: Annotated[int, Field(ge=0)] = 12
    attention_cells: tuple[tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]], ...] | None = None
    """Cells [row, column] of the object's RoI grid whose attention is drawn (Fig. 7); nothing means three, at a
    quarter, a half and three quarters of its diagonal."""
    write_predictions: bool = True
    """Also write the submission file of the data set (pred.json)."""
    pnp_proposals: Count = 10
    """Most confident proposals of each control point that PnP sees (released code)."""
    pnp_refine: bool = True
    """Also measure the object's pose after refinement on PnP's inliers, beside the released code's plain one."""


class ScoreConfig(Settings):
    """jobs.evaluate on a submission file: the predictions, the folder of the truth, and the data set's layout."""

    predictions: str | None = None
    truth: str | None = None
    layout: Literal["ho3d", "freihand"] = "ho3d"


class RefilterConfig(Settings):
    """jobs.refilter."""

    actors: tuple[Count, Count] = (1, 2)
    """Smallest and largest number of actors; each takes ``cluster.teacher_cpus``."""


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
    """Wanted share of right labels among the kept ones."""
    max_aligned_mm: Positive = 15.0
    max_joints_2d: Positive = 0.15
    split: Literal["evaluation", "train"] = "evaluation"
    """Split of HO-3D that is labelled. No student of thresholds from the evaluation split may be reported on it; what
    the teacher was trained on makes its labels look better than they are."""
    sequences: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Names of the split's sequences to use; nothing means all."""
    stride: Count = 2
    """Every so many frames of a labelled sequence: HO-3D has 30 a second, Something-Something 12."""
    clip_frames: Count = 48
    limit: Count | None = None
    """At most so many frames, from evenly spaced clips."""


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
    """Repetitions of the whole pipeline: differences of 0.2 mm need them."""

    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0, 1, 2)
    own_worlds: bool = False
    """Draw a world for each seed; otherwise all seeds share one, and only training and its order differ."""

    @model_validator(mode="after")
    def _seeds_differ(self) -> StudyConfig:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"study.seeds={list(self.seeds)}: a seed that stands twice is one run, not two")
        return self


class BenchConfig(Settings):
    """How much jobs.bench measures on, and how often."""

    videos: Count = 40
    frames: Count = 36
    steps: Count = 60
    repeats: Count = 3


class Config(Settings):
    """The whole of a run."""

    name: str = "run"
    seed: Seed = 0
    output: str | None = None
    world: str | None = None
    """Where jobs.synthesize writes; nothing means '<output>/world'."""
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
    settings_file.refuse_unknown(tree, Config, RENAMED)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(settings_file.explained(error, Config)) from None


def from_stored(tree: Mapping[str, Any]) -> Config:
    """Build a Config from settings that an earlier version of this project may have stored (see ``RENAMED``)."""
    tree = json.loads(json.dumps(tree))
    for former, name in RENAMED.items():
        *groups, last = former.split(".")
        holder: Any = tree
        for group in groups:
            holder = holder.get(group, {})
        if last in holder:
            value = holder.pop(last)
            *groups, last = name.split(".")
            holder = tree
            for group in groups:
                holder = holder.setdefault(group, {})
            holder.setdefault(last, value)
    return from_tree(tree)


def renamed(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Stored settings with dotted keys, under today's names (see ``RENAMED``)."""
    out = {}
    for key, value in flat.items():
        group, _, rest = key.partition(".")
        out[RENAMED.get(key) or (f"{RENAMED[group]}.{rest}" if group in RENAMED and rest else key)] = value
    return out


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
