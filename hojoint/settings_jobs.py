"""Settings that several jobs share: videos and labelling, data sets, the cluster, the synthetic world.

The groups of the method are in ``settings_method``, those of one job each in ``settings_tools``; all are put together
in ``config``.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from hojoint.settings_method import (
    Count,
    ImageSide,
    NotNegative,
    Positive,
    Seed,
    Settings,
    Share,
    refuse_descending,
)

Precision = Literal["float32", "bfloat16"]


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
    precision: Precision = "float32"
    """Of the teacher's layers; 'bfloat16' is for devices that compute in it. All geometry stays in float32."""
    compile: bool = False
    """Compile the network with torch.compile: takes a minute at an actor's start, and a C++ compiler."""
    decode_children: Count = 1
    """Processes per Teacher that decode videos."""
    decoder: Literal["pyav", "decord", "torchcodec"] = "pyav"
    """Library that decodes; docs/videos.md: what each reads correctly. 'torchcodec' is installed separately."""
    decode_deadline_s: Positive = 20.0
    """Seconds per video, then the child is killed."""
    decode_memory_mb: Count = 2048
    """Memory limit of a decoding child, MB."""
    max_frame_px: Count = 4_000_000
    """A video of larger frames goes to quarantine; px, width times height."""
    max_frames: Count = 2000
    """A video of which more frames are asked for goes to quarantine."""
    max_file_mb: Count = 1024
    """A larger video file goes to quarantine; bounds the temporary copy of one in object storage."""
    fetch_deadline_s: Positive = 120.0
    """Seconds to fetch one video from object storage, retries included."""
    attempts: Count = 2
    """A video that was alone in progress when this many attempts died goes to quarantine."""
    error_budget_share: Share = 0.05
    """The run fails when more videos than this share and more than ``error_budget_count`` are in quarantine."""
    error_budget_count: Count = 25
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = 95
    """Of the image regions kept beside the pseudo-labels."""
    image_context: Positive = 4.0
    """Side of those regions, in boxes: room for training's crop (``crop.hand_context``), grown, turned and shifted:
    ``crop.hand_context`` * ((1 + scale) * 1.42 + 2 * shift) of its augmentation. In less room a part of the student's
    image is black where the video has pixels."""
    require_conditional_writes: bool = True
    """Refuse a store on which two attempts could both commit a unit."""
    extend: bool = False
    """Videos that the run in ``output`` does not know become new units of it; its finished units stay as they are."""
    retry: Annotated[str, Field(pattern=r"^quarantined(:\w+)?$")] | None = None
    """'quarantined', or 'quarantined:' and a class such as truncated: another attempt at these videos of the run in
    ``output``, whose files or boxes may be others now; None means that they stay in quarantine."""


class VideosConfig(Settings):
    """Videos and the boxes of their hands and objects."""

    root: str | None = None
    """A folder or s3://bucket/prefix with <id>.webm (.mp4 .mov .mkv .m4v .avi), folders <id>/000001.jpg, or tar shards
    of such files."""
    boxes: str | None = None
    """Something-Else JSON (a file, or a folder of its parts), a CSV or Parquet table, or 100DOH detections; also at
    s3://bucket/key."""
    boxes_fps: Positive | None = None
    """Frames per second of the box list: its frame k lies at second (k + 0.5) / boxes_fps. None means that the list
    counts the video's own pictures."""
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
    shards: str | None = None
    """Output of jobs.ingest, a folder or an s3:// URI, which training reads in place of ``root``."""
    segmentations: str | None = None
    """Rendered segmentations; None means the sibling '<root>_segmentations_rendered'."""
    object_models: str | None = None
    """YCB models; None means the sibling 'object_models'."""
    missing: Literal["refuse", "leave_out"] = "refuse"
    """What becomes of listed frames without image or annotation; 'leave_out' drops and counts them."""
    checks: Literal["refuse", "note"] = "refuse"
    """What follows where labels contradict each other, the object models or the hand model."""


class FreiHANDConfig(Settings):
    root: str | None = None
    """The training set, the evaluation set, or both in one folder; FreiHAND's authors publish two."""
    shards: str | None = None
    """Output of jobs.ingest, a folder or an s3:// URI, which training reads in place of ``root``."""
    evaluation_root: str | None = None
    """The evaluation set; None means ``root`` if it holds that set's truth, else the sibling '<root>_eval' if any."""
    missing: Literal["refuse", "leave_out"] = "refuse"
    """What becomes of images that are missing; 'leave_out' drops and counts them."""
    checks: Literal["refuse", "note"] = "refuse"
    """What follows where labels contradict each other or the hand model."""


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
    """A running cluster ('auto' or host:port); None starts a local one. jobs.submit, jobs.list and jobs.stop need the
    address of its dashboard, http://HOST:8265."""
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
    patience_s: NotNegative = 300.0
    """How long an outage of a store or of the cluster is ridden out, s; after that the job ends with exit code 75."""
    notify: str | None = None
    """Web address that gets a message when the job has ended: https://..., or env:NAME of a variable that holds it."""
    insecure: bool = False
    """Submit jobs to a remote cluster that asks for no token (anybody who reaches it can run code there)."""
    cache: str | None = None
    """Folder on each node for copies of what lies in object storage (hand model, labelled sets, weights); None means
    'hojoint-cache' in the folder for temporary files."""
    threads: Count | None = None
    """torch threads per process; None means the process's share of CPUs."""

    @model_validator(mode="after")
    def _ranges_ascend(self) -> ClusterConfig:
        refuse_descending("cluster.teachers", self.teachers)
        refuse_descending("cluster.workers", self.workers)
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
    train_objects: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """YCB names of the only objects that the labelled training sequences show; None means all of HO-3D's."""
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
