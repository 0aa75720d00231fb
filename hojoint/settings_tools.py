"""Settings of one job each: measuring, detecting, checking, scoring, refiltering, calibrating, study, bench.

What several jobs share is in ``settings_jobs``, clusters are in ``settings_clusters``; ``config`` puts all together.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from hojoint import settings_file
from hojoint.settings_method import (
    Count,
    Finite,
    NotNegative,
    Once,
    Positive,
    Rule,
    Score,
    Seed,
    Settings,
    Share,
    refuse_descending,
)


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
    """Cells [row, column] of the object's RoI grid whose attention is drawn (Fig. 7), none for an empty list; None
    means three, at a quarter, a half and three quarters of its diagonal."""
    write_predictions: bool = True
    """Also write the submission file of the data set (pred.json)."""
    pnp_proposals: Count = 10
    """Most confident proposals of each control point that PnP sees (released code)."""
    pnp_refine: bool = True
    """Also measure the object's pose after refinement on PnP's inliers, beside the released code's plain one."""

    @model_validator(mode="after")
    def _range_ascends(self) -> EvaluateConfig:
        refuse_descending("evaluate.actors", self.actors)
        return self


class DetectConfig(Settings):
    """jobs.detect: hands in videos without boxes."""

    models: str | None = None
    """Wheel of mediapipe 0.10.14 or 0.10.21, or a folder with the palm and hand-landmark tflite files out of one; None
    looks for an installed mediapipe."""
    variant: Literal["full", "lite"] = "full"
    """Size of both networks."""
    min_palm_score: Share = 0.5
    """A palm starts a track from this score on."""
    min_hand_score: Share = 0.5
    """Presence score from which a track continues."""
    hands: Count = 2
    """At most this many hands in one picture."""
    longest_gap: Annotated[int, Field(ge=0)] = 6
    """Pictures without the hand that are filled by interpolation and flagged; a longer gap ends the track."""
    look_back: Annotated[int, Field(ge=0)] = 24
    """Pictures over which a new hand is also followed backwards; so many are held in memory."""
    min_track: Count = 3
    """Found pictures that a track needs."""
    actors: tuple[Count, Count] = (1, 2)
    """Smallest and largest number of actors; each takes ``cluster.teacher_cpus``."""

    @model_validator(mode="after")
    def _range_ascends(self) -> DetectConfig:
        refuse_descending("detect.actors", self.actors)
        return self


class DoctorConfig(Settings):
    """jobs.doctor: what is looked at, besides the counts of everything."""

    pictures: Count = 16
    """Overlays on the contact sheet of each set."""
    videos: Count | None = 200
    """Evenly spaced videos that are decoded; None means all."""
    images: Count | None = 2000
    """Evenly spaced images of each labelled split that are decoded; None means all."""
    cluster: bool = False
    """Check the nodes of the cluster instead of data sets; 'jobs.doctor cluster' sets it."""
    node_s: Positive = 120.0
    """A node that has not answered for so long is reported as silent."""


class ScoreConfig(Settings):
    """jobs.evaluate on a submission file: the predictions, the folder of the truth, and the data set's layout."""

    predictions: str | None = None
    truth: str | None = None
    layout: Literal["ho3d", "freihand"] = "ho3d"


class GcConfig(Settings):
    """jobs.gc."""

    min_age_h: NotNegative = 24.0
    """Younger uploads, and younger files of units without a commit, are left; hours."""


class RefilterConfig(Settings):
    """jobs.refilter."""

    actors: tuple[Count, Count] = (1, 2)
    """Smallest and largest number of actors; each takes ``cluster.teacher_cpus``."""

    @model_validator(mode="after")
    def _range_ascends(self) -> RefilterConfig:
        refuse_descending("refilter.actors", self.actors)
        return self


class ReportConfig(Settings):
    """What the reports of labelling runs count with; no result depends on it. Prices are in your currency."""

    price_per_gpu_hour: NotNegative | None = None
    """Of a GPU that a Teacher holds; None means that it costs nothing or is not known."""
    price_per_cpu_hour: NotNegative | None = None
    """Of a CPU that a Teacher holds, where it is paid for by itself and not with the GPU."""


class CalibrateConfig(Settings):
    """What jobs.calibrate calls a correct label, what it seeks, and how it cuts sequences into clips."""

    predictions: str | None = None
    """Output of jobs.pseudo_label to judge, instead of sequences of HO-3D; needs ``truth``."""
    truth: str | None = None
    """Parquet file with the true poses of ``predictions``."""
    precision: Share = 0.9
    """Share of the kept labels that must be correct."""
    rules: Annotated[tuple[Rule, ...], Field(min_length=1), Once] | None = None
    """Rules whose thresholds are searched together and proposed to be enabled; None means ``filters.enabled``."""
    quality_scores: Annotated[tuple[Score, ...], Field(min_length=1), Once] | None = None
    """Scores that the model of the quality looks at; None means all that differ between frames. A model for
    ``filter_clip`` must do without 'view_spread', 'side' and 'rotation_spread', which only a network gives."""
    max_aligned_mm: Positive = 15.0
    """Largest PA-MPJPE that is correct, mm."""
    max_joints_2d: Positive = 0.15
    """Largest mean 2D joint error of a correct label, in hand-box sides."""
    max_wrist_mm: Positive | None = None
    """Largest root-aligned MPJPE of a correct label, mm, so that the global orientation counts; None means that it does
    not."""
    enabled: bool = False
    """jobs.pipeline calibrates on the recordings of ``train.held_out`` and labels with what it finds: thresholds, or
    with ``filters.mode=quality`` the quality. Off is the paper, whose thresholds are printed."""
    mirrored: bool = True
    """Each clip is also labelled mirrored, as a left hand, so that the side is judged on both."""
    split: Literal["evaluation", "train", "held_out"] = "evaluation"
    """Split of HO-3D that is labelled; 'held_out' are the recordings of ``train.held_out``. Do not report a student on
    the evaluation split if its labels used thresholds chosen there. The teacher's own training images make its labels
    look better than they are."""
    sequences: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Names of the split's sequences to use; None means all."""
    stride: Count = 2
    """Take every n-th frame of a labelled sequence: HO-3D has 30 a second, Something-Something 12."""
    clip_frames: Count = 48
    limit: Count | None = None
    """At most this many frames, though one of each copy of a clip, from evenly spaced clips; None means all."""


class DemoConfig(Settings):
    """jobs.demo: one image with its boxes, or one video with its box file."""

    image: str | None = None
    box: tuple[Finite, Finite, Finite, Finite] | None = None
    """Hand box of ``image``: x0, y0, x1, y1 in px."""
    object_box: tuple[Finite, Finite, Finite, Finite] | None = None
    """Box of the object in the hand, which widens the crop; None means no object."""
    video: str | None = None
    boxes: str | None = None
    """Boxes of ``video``: any format of docs/boxes.md, or a JSON list with [x0, y0, x1, y1] or null for each frame."""
    side: Literal["right", "left"] | None = None
    """None means right in an image, and in a video the side that labelling finds."""
    limit: Count = 150
    """At most this many frames of ``video``, from the first with a hand box."""


class IngestConfig(Settings):
    """jobs.ingest: a labelled set as shards."""

    dataset: Literal["ho3d", "freihand"] = "ho3d"
    shard_samples: Count = 256
    """Images per shard: what is committed, and what a training worker reads at once."""
    actors: tuple[Count, Count] = (1, 2)
    """Smallest and largest number of actors; each takes ``cluster.teacher_cpus``."""

    @model_validator(mode="after")
    def _ranges_ascend(self) -> IngestConfig:
        refuse_descending("ingest.actors", self.actors)
        return self


class StudyConfig(Settings):
    """Repetitions of the complete pipeline: differences of 0.2 mm need them."""

    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0, 1, 2)
    grid: Literal["filters", "reasoning", "fraction", "rounds", "labels", "share", "refine", "terms"] | None = None
    """Which table is made: rules (Tables 4, 8), contextual reasoning (Tables 2, 3), share of the labels used (Fig. 9),
    rounds, what perfect labels would be worth, ``train.pseudo_share``, parts of ``refine``, or the terms of the loss
    that pseudo-labels take part in; None means teacher, control and student alone."""
    points: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Keys of the grid's rows to make, as in study.json; None means all. The control is always there to compare."""
    own_worlds: bool = False
    """Draw a world for each seed; otherwise all seeds share one, and only training and its order differ."""

    @model_validator(mode="after")
    def _seeds_differ(self) -> StudyConfig:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(
                f"study.seeds={settings_file.shown(self.seeds)}: a seed that is given twice is one run, not two"
            )
        return self

    @model_validator(mode="after")
    def _points_are_of_a_grid(self) -> StudyConfig:
        if self.points is not None and self.grid is None:
            raise ValueError("study.points names rows of a grid; give study.grid too, or leave study.points out")
        return self


class BenchConfig(Settings):
    """How much jobs.bench measures on, and how often."""

    videos: Count = 40
    frames: Count = 36
    """Per video."""
    steps: Count = 60
    """Training steps per measurement."""
    rows: Annotated[tuple[Count, ...], Field(min_length=1)] = (10_000, 100_000, 1_000_000)
    """Samples of the tables that ``jobs.bench stream`` trains from; the first is also held in memory."""
    plain_frames: Count = 8
    """Frames on which ``jobs.bench labelling`` measures the plain way."""
    videos_many: Annotated[tuple[Count, ...], Field(min_length=1)] = (100, 1_000, 10_000, 200_000)
    """Videos of the runs of ``jobs.bench scale``, in units of ``unit_videos``."""
    unit_videos: Count = 64
    time_share: NotNegative = 0.001
    """Share of the measured time of decoding and predicting that the workers of those runs wait."""
    teachers: tuple[Count, Count] = (1, 8)
    """Teachers whose rates ``jobs.bench scale`` compares, each with ``teacher_units`` units of about 4 s."""
    teacher_units: Count = 6
    nodes: Count = 4
    """Nodes of the simulated cluster."""
    faults: Count = 100
    """Faults of ``jobs.bench chaos``, at least one of each kind."""
    repeats: Count = 3
