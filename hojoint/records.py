"""The records that travel along the route of a video (clip, frames, prediction, verdict, sample).

Each arrow of the route makes a new record; no record has a field that someone fills in later. Inside the project there
is one joint order (wrist, thumb, index, middle, ring, pinky; four each, base to tip), one camera frame (x right, y
down, z forward), metres, radians and pixels. A pixel coordinate is continuous: (0, 0) is the centre of the top-left
pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:  # a decoding child knows records and must not load torch: half a gigabyte
    from torch import Tensor

# T frames of a clip; 21 joints, 778 vertices, 16 rotations (root first), 10 betas.


@dataclass(frozen=True, eq=False)
class Clip:
    """One hand followed through one video. No pixels."""

    clip_id: str  # derived from (video, hand, span), so a retry makes the same id
    video_id: str
    path: str  # of the video file
    frames: np.ndarray  # (T,) int32, 0-based frame numbers, ascending; gaps are allowed
    hand_boxes: np.ndarray  # (T, 4) float32 xyxy px of the native frame
    object_boxes: np.ndarray  # (T, 4) float32 xyxy px; a row of NaN where no object is annotated
    annotated_frames: int  # length of the video's box list: the video must hold at least this many (less one)
    times_s: np.ndarray | None = None  # (T,) s of the display time at which the boxes hold; then ``frames`` are the
    # numbers of the annotation until decoding replaces them by those of the pictures shown at these times
    side: Literal["right", "left"] | None = None  # of the hand, where the annotation tells
    every_frame_listed: bool = False  # ``annotated_frames`` is the length of the video for the one who made the list


@dataclass(frozen=True)
class Footage:
    """What is known of a video file once it was read; None where it is not known."""

    pictures: int | None  # that a person sees; None where reading stopped before the end
    fps: float | None  # mean rate
    rotation_deg: int | None  # clockwise turn that was applied: 0, 90, 180 or 270; None where pictures differ
    codec: str | None


@dataclass(frozen=True, eq=False)
class Frames:
    """The decoded pixels of one clip, at native size, with the boxes that belong to them."""

    clip_id: str
    rgb: np.ndarray  # (T, H, W, 3) uint8
    hand_boxes: np.ndarray  # (T, 4) float32 xyxy px
    object_boxes: np.ndarray  # (T, 4) float32 xyxy px, NaN where none
    times_s: np.ndarray | None = None  # (T,) float64 s, display time of each picture, the first of the video at 0
    footage: Footage | None = None


@dataclass(frozen=True, eq=False)
class HandPrediction:
    """The predicted hand in each frame of a clip, averaged over the views (Sec. 5.1)."""

    joints_px: Tensor  # (T, 21, 2) px of the native frame (not mirrored, whatever the side)
    rotations: Tensor  # (T, 16, 3, 3) joint rotations of the right-hand model; root first, in the camera frame
    pose: Tensor  # (T, 48) rad, the same as axis-angle
    betas: Tensor  # (T, 10)
    joints: Tensor  # (T, 21, 3) m, wrist-centred, right-hand model
    vertices: Tensor  # (T, 778, 3) m, wrist-centred, right-hand model
    joints_spread_px: Tensor  # (T,) RMS distance of the views' joints from their mean, px; NaN of one view
    rotation_spread: Tensor  # (T,) RMS geodesic distance of the views' rotations from their mean, rad; likewise
    flipped: bool  # a left hand: the network saw the mirrored image. joints_px are in the true image;
    # joints and vertices are the right-hand model's: negate x to bring them into the true image
    side_logit: Tensor | None = None  # (T,) of the confidence that the network saw a right hand (after mirroring, where
    # ``flipped``), a mean over the views; None from a network without a side head


@dataclass(frozen=True, eq=False)
class ObjectPrediction:
    """Object estimate of a batch: control points per grid cell, and the pose after PnP (Sec. 4.3)."""

    control_px: np.ndarray  # (B, 21, 2) px, the confidence-weighted best proposals
    confidence: np.ndarray  # (B, 21) in [0, 1], of those proposals
    pose: np.ndarray  # (B, 3, 4) model to camera, metres; identity and (0, 0, 1) where PnP had too few points
    solved: np.ndarray  # (B,) bool
    refined: np.ndarray | None = (
        None  # (B, 3, 4) the same poses after refinement on their inliers; None where not asked for
    )


@dataclass(frozen=True, eq=False)
class PseudoLabels:
    """A clip's predictions with their camera, one score per rule and frame, and one verdict per frame."""

    clip: Clip
    prediction: HandPrediction
    camera: Tensor  # (T, 3) s (px per metre), tx, ty (px): px = s * xy + t, xy of the (un-mirrored) hand joints
    scores: dict[str, Tensor]  # rule -> (T,) score; NaN where the rule cannot be evaluated
    verdicts: tuple[str, ...]  # (T,) 'kept', or the first rule the frame broke
    teacher: str  # checksum of the weights that predicted
    times_s: np.ndarray | None = None  # (T,) float64 s, display time of each picture
    footage: Footage | None = None  # of the video
    quality: Tensor | None = None  # (T,) in [0, 1], the chance that the label is correct; None where no model tells
    refined: Refined | None = None  # the labels to train on; None: the kept predictions as they are


@dataclass(frozen=True, eq=False)
class Refined:
    """Labels of K of a clip's T frames, made from the predictions of those that the rules keep (``labelling.refine``).

    Units and frames are those of ``HandPrediction``.
    """

    rows: np.ndarray  # (K,) int64 rows of the clip, ascending: the kept frames, and the filled ones between them
    filled: np.ndarray  # (K,) bool, a rejected frame whose label is interpolated
    joints_px: Tensor  # (K, 21, 2)
    pose: Tensor  # (K, 48) rad
    betas: Tensor  # (K, 10)
    camera: Tensor  # (K, 3)


@dataclass(frozen=True, eq=False)
class Sample:
    """One training or test image; HO-3D's, FreiHAND's and the pseudo-labels' readers all end here.

    The image is a region cut around hand and object (``crops.cut_region``); every pixel coordinate is relative to it.
    """

    name: str
    image: np.ndarray  # (H, W, 3) uint8 RGB
    hand_box: np.ndarray  # (4,) float32 xyxy px, tight (without the RoI margin)
    object_box: np.ndarray  # (4,) float32 xyxy px; NaN where none is known
    camera: np.ndarray  # (3, 3) float32 intrinsics of the region, px; NaN where unknown
    joints_px: np.ndarray  # (21, 2) float32
    pose: np.ndarray  # (48,) float32 rad, root in the camera frame
    betas: np.ndarray  # (10,) float32
    has_object: bool  # B of Eq. 8: the object fields below are labels
    control_px: np.ndarray  # (21, 2) float32; NaN without object labels
    object_mask: np.ndarray  # (H, W) uint8, 1 on the object; zeros without object labels
    object_name: str  # '' without object labels
    object_pose: np.ndarray  # (3, 4) float32, model to camera, metres; NaN without object labels
    pseudo: bool = False  # labelled by a network and not by an annotator
    quality: float = 1.0  # chance that a pseudo-label is correct; 1 where it is not known


@dataclass(frozen=True, eq=False)
class Example:
    """One test image with a network's prediction; pixels are those of ``image``."""

    name: str
    image: np.ndarray  # (H, W, 3) RGB
    hand_box: np.ndarray  # (4,)
    object_box: np.ndarray  # (4,) NaN without an object
    joints_px: np.ndarray  # (21, 2)
    vertices: np.ndarray  # (778, 3) m, wrist-centred
    vertices_px: np.ndarray  # (778, 2)
    error_mm: np.ndarray  # (778,) after Procrustes
    corners_px: np.ndarray  # (8, 2) of the estimated object's box; NaN without one
    object_pose: np.ndarray  # (3, 4); NaN without one
    camera: np.ndarray  # (3, 3)
    add_mm: float  # NaN without an object
    object_points: np.ndarray  # (P, 3) m, in the frame of ``vertices``; NaN without one
