"""Settings of training: augmentation, losses, schedule, the student (Sec. 5.2, 6.1).

Frozen, typed, and checked where they are declared. Not here: the network, the views and the rules
(``settings_method``).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from hojoint.settings_method import BelowOne, Count, NotNegative, Once, Positive, Settings, Share


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
    cutout: Share = 0.0
    """Largest side of a grey square that hides part of the input, in input sides; its centre is drawn evenly. Ours."""


class LossConfig(Settings):
    """Weights per term (Eq. 5, 6; the released code's are the paper's times 1000, all terms are means)."""

    joints_2d: NotNegative = 100.0
    vertices: NotNegative = 1.0e4
    joints_3d: NotNegative = 1.0e4
    rotations: NotNegative = 10.0
    betas: NotNegative = 0.1
    control_points: NotNegative = 500.0
    confidence: NotNegative = 100.0
    side: NotNegative = 1.0
    """Of the cross entropy of ``model.side_head``; ours."""
    pseudo_side: NotNegative = 0.0
    """Weight of pseudo-labelled images in the side term, a weighted mean; ours. Above 0, a student's head learns the
    sides of unlabelled videos from its teacher's; 0 leaves it to labelled images."""
    pseudo_2d: NotNegative = 1.0
    """Weight of pseudo-labelled images in the 2D term, a weighted mean over the batch; ours, 1 is the paper."""
    pseudo_3d: NotNegative = 1.0
    """Their weight in the other hand terms; ours, 1 is the paper."""
    pseudo_root: Share = 1.0
    """Weight of the global orientation in the 3D terms of pseudo-labels: 1 as it is (the paper), 0 after the root's
    rotation is removed from prediction and label, so that only pose and shape are learned. Ours."""
    quality_power: NotNegative = 0.0
    """Both weights are multiplied by the label's quality to this power; 0 means that all labels count alike."""
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

    datasets: Annotated[tuple[Literal["ho3d", "freihand", "pseudo"], ...], Field(min_length=1), Once] = ("ho3d",)
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
    """Training, and what it measures on held-out recordings, is in bfloat16 on a GPU; never on a CPU. Evaluation is
    always in float32."""
    loader_processes: Annotated[int, Field(ge=0)] = 4
    """Processes per worker that read images; 0 means the worker itself. Where data are streamed: threads, at least
    one."""
    cache: bool = False
    """Keep the decoded regions in memory; without effect where data are streamed."""
    stream: bool | None = None
    """Read shards and pseudo-labels window by window instead of holding them in memory; the order is another one. None
    means: where they hold more than 2 GB."""
    window_samples: Count = 8192
    """Samples that are shuffled together where data are streamed; a worker holds about two windows per kind of data."""
    checkpoint_every_epochs: Count = 1
    checkpoint_steps: Count = 2000
    """Steps after which there is a checkpoint within these epochs too: a worker that dies loses at most so many."""
    mirrored_share: Share = 0.25
    """Share of each batch that the encoder and ``model.side_head`` also see mirrored, as left hands; ours. Without that
    head it has no effect."""
    side_augment: AugmentConfig | None = None
    """Extra noise for the images that teach ``model.side_head``: colour, blur, cut-out and box jitter, the same on an
    image and its mirror image; ours. ``scale``, ``rotation_deg`` and ``shift`` have no effect here."""
    pseudo_share: Share | None = None
    """Share of each batch drawn from pseudo-labels; None means that every sample of the union is drawn alike (A22)."""
    pseudo_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the pseudo-labelled clips that is used, drawn evenly by the clips' ids (Fig. 9)."""
    pseudo_augment: AugmentConfig | None = None
    """Augmentation of pseudo-labelled images; what is not given is that of ``augment``, and None means all of it. Ours:
    stronger noise for a student."""
    ema: BelowOne = 0.0
    """The result is the exponential average of the weights with this decay per step; 0 means the last weights."""
    held_out: Annotated[int, Field(ge=0)] = 0
    """Recordings of HO-3D that no training sees, of teacher, student or control; the plateau and jobs.calibrate use
    them."""
    plateau_epochs: Count | None = None
    """The learning rate decays when the error on the held-out recordings has not improved for so many epochs, instead
    of every ``lr_decay_every_epochs``; ``epochs`` is the limit. None means the fixed schedule of Sec. 6.1, which
    ``steps`` has too. The error is the geometric mean of those of 3D joints, 2D joints and the object's control points;
    0.5 % less is an improvement."""
    plateau_decays: Count = 3
    """Decays after which the next plateau ends the training."""
    init_checkpoint: str | None = None
    """Checkpoint to start from; None means from scratch, as the paper does in both phases (Sec. 6.1)."""

    @model_validator(mode="after")
    def _plateau_is_measured(self) -> TrainConfig:
        if self.plateau_epochs is not None and self.held_out == 0:
            raise ValueError("plateau_epochs needs recordings to find the plateau on; set held_out to 1 or more")
        return self


class StudentConfig(Settings):
    """How the pipeline's second phase differs from its first. By default it does not: both start from scratch and take
    the same schedule (Sec. 6.1). A control is trained as the student is, without the pseudo-labels."""

    from_teacher: bool = False
    """Start from the teacher's weights."""
    epochs: Count | None = None
    """None means ``train.epochs``, even where a plateau ends the first phase before that. With fewer epochs the
    learning rate decays about as many times: the distance is rounded to whole epochs, at least one."""
    learning_rate: Positive | None = None
    """None means ``train.learning_rate``."""
    rounds: Annotated[int, Field(ge=1, le=100)] = 1
    """Number of rounds (Sec. 5.2 has 1). Each student labels the videos for the next one, which starts as the first
    did."""
    augment: AugmentConfig | None = None
    """``train.pseudo_augment`` of the student; what is not given is that of ``augment``, too."""
