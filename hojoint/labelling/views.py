"""The test-time views of a group of clips: where each is cut, and the part of each frame that they see (reading A10).

The views of all clips are rows of one table, so that batches cut it wherever they like. A view derives from (clip id,
frame number, view) alone. All of this is small arithmetic on the CPU. Not here: the network (``tta``), and how views
are undone (``undoing``).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hojoint import crops, geometry
from hojoint.config import CropConfig, TtaConfig
from hojoint.records import Frames

# Suffixes of locals: F frames of all clips, V views of a frame, N = F * V, C clips.


@dataclass(frozen=True, eq=False)
class Views:
    """How the views of one or more clips are cut, clip by clip, frame by frame and view by view: N rows."""

    frame_rows: Tensor  # (N,) row of the clip's frames
    affines: Tensor  # (N, 2, 3) true frame px -> input px; mirrors for a left hand
    angles: Tensor  # (N,) rad, of the (mirrored) scene
    hand_boxes: Tensor  # (N, 4) RoI, xyxy input px
    object_boxes: Tensor  # (N, 4) RoI, xyxy input px; NaN where no object is known or ``crop`` looks at hands alone


@dataclass(frozen=True, eq=False)
class Seen:
    """Which frame each F row is, and the part of it that its views see."""

    clips: np.ndarray  # (F,) which clip of the group
    rows: np.ndarray  # (F,) row of that clip's frames
    parts: np.ndarray  # (F, 4) int64 x0, y0, x1, y1 px, the ends out


def of_group(
    clips: Sequence[Frames],
    flipped: Sequence[bool],
    numbers: Sequence[np.ndarray],
    rows: Sequence[np.ndarray],
    *,
    input_px: int,
    crop: CropConfig,
    settings: TtaConfig,
) -> Views:
    """The views of some frames of all clips.

    Args:
        clips: C clips with boxes (T, 4) xyxy px.
        flipped: per clip, whether it shows a left hand.
        numbers: per clip, the numbers (T,) of its frames in the video.
        rows: per clip, which of its T frames.
        input_px: side of the network's input.
        crop: as in the network's training; its ``unlabelled_region`` says whether object boxes count (reading A21).
        settings: how many views, and how far they turn, scale and shift.
    """
    count = settings.views
    counts = torch.tensor([len(part) * count for part in rows])
    of_clip_N = torch.arange(len(clips)).repeat_interleave(counts)
    frame_N = torch.from_numpy(np.concatenate(rows).astype(np.int64)).repeat_interleave(count)
    draws_N4 = _draws_of(clips, numbers, rows, settings)
    hand_N4 = _boxes([clip.hand_boxes for clip in clips], rows, count)
    object_N4, union = _boxes([clip.object_boxes for clip in clips], rows, count), crop.unlabelled_region == "union"
    if not union:  # a student's pseudo-labels have no object box either, so the network's reasoning has none here
        object_N4 = torch.full_like(object_N4, torch.nan)
    size_C2 = torch.tensor([[clip.rgb.shape[2], clip.rgb.shape[1]] for clip in clips], dtype=torch.float32)
    # The mirror comes first, so that the turned scene is the mirrored one and Rz(-a) undoes its turn.
    mirror_N23 = _mirrors(size_C2[:, 0], flipped)[of_clip_N]
    assert bool(hand_N4.isfinite().all()), "every frame has a hand box"
    square = crops.square_of(
        geometry.rotate_box(hand_N4, mirror_N23),
        geometry.rotate_box(object_N4, mirror_N23) if union else None,
        crop.context,
        size_C2[of_clip_N] if crop.clip else None,  # as in training
        hand_context=crop.hand_context,
    )
    grown_N, moved_N2 = 1 + settings.scale * draws_N4[:, 1], settings.shift * draws_N4[:, 2:]
    turn_N23 = crops.view_affine(*square, input_px, draws_N4[:, 0], grown_N, moved_N2)
    affine_N23 = compose(turn_N23, mirror_N23)
    return Views(
        frame_rows=frame_N,
        affines=affine_N23,
        # read off the affine itself, so that its sign cannot differ from the crop's
        angles=torch.atan2(turn_N23[:, 1, 0], turn_N23[:, 0, 0]),
        hand_boxes=geometry.scale_box(geometry.rotate_box(hand_N4, affine_N23), crop.hand_roi_scale),
        object_boxes=geometry.scale_box(geometry.rotate_box(object_N4, affine_N23), crop.object_roi_scale),
    )


def seen_by(
    views: Views, clips: Sequence[Frames], rows: Sequence[np.ndarray], *, input_px: int, count: int
) -> Seen:  # fmt: skip
    """The frames of a group's views, and the part of each that its ``count`` views see: at least one pixel."""
    of_clip = np.concatenate([np.full(len(part), clip) for clip, part in enumerate(rows)])
    size_F2 = np.array([(clip.rgb.shape[2], clip.rgb.shape[1]) for clip in clips])[of_clip]
    end = input_px - 0.5
    corners = torch.tensor([[-0.5, -0.5], [end, -0.5], [-0.5, end], [end, end]])
    back_N23 = geometry.invert_affine(views.affines)
    corner_NF2 = geometry.apply_affine(back_N23, corners.expand(len(back_N23), 4, 2)).reshape(-1, count * 4, 2).numpy()
    # One pixel more on each side: a sample between two pixels reads both.
    low_F2 = np.clip(np.floor(corner_NF2.min(1)) - 1, 0, size_F2 - 1)
    high_F2 = np.clip(np.ceil(corner_NF2.max(1)) + 2, low_F2 + 1, size_F2)
    parts = np.concatenate([low_F2, high_F2], axis=1).astype(np.int64)
    return Seen(of_clip, np.concatenate(rows), parts)


def stacked(clips: Sequence[Frames], seen: Seen, frames: np.ndarray, *, pinned: bool) -> Tensor:
    """The seen parts of some of the F frames, (K, H, W, 3) uint8, each in the top left corner and black beyond it.

    A view beyond its part sees beyond its frame, which is black as well. So frames of all sizes share one array.

    Args:
        clips: of the group.
        seen: of the group.
        frames: (K,) which rows of ``seen``; a row may come more than once.
        pinned: in memory that a GPU fetches from while the CPU works on.
    """
    parts = seen.parts[frames]
    width, height = (parts[:, 2:] - parts[:, :2]).max(0).tolist()
    canvas = torch.zeros((len(parts), height, width, 3), dtype=torch.uint8, pin_memory=pinned)
    pixels = canvas.numpy()
    of_clip, rows = seen.clips[frames].tolist(), seen.rows[frames].tolist()
    for place, (clip, row, (x0, y0, x1, y1)) in enumerate(zip(of_clip, rows, parts.tolist(), strict=True)):
        pixels[place, : y1 - y0, : x1 - x0] = clips[clip].rgb[row, y0:y1, x0:x1]
    return canvas


def onto_parts(affine: Tensor, corner: Tensor) -> Tensor:
    """Affines (N, 2, 3) of a part's px, from those of its frame's px; ``corner`` (N, 2) is its first pixel."""
    moved_N2 = affine[:, :, 2] + (affine[:, :, :2] * corner[:, None]).sum(2)
    return torch.cat((affine[:, :, :2], moved_N2[..., None]), dim=2)


def draws(clip_id: str, number: int, settings: TtaConfig) -> np.ndarray:
    """(V, 4) angle (rad), and scale and shifts in [-1, 1]; equally spaced turns, offset per frame."""
    count, furthest = settings.views, math.radians(settings.rotation_deg)
    seed = int.from_bytes(hashlib.blake2b(f"{clip_id}/{number}".encode(), digest_size=8).digest(), "big")
    random = np.random.default_rng(seed)
    angle = 2 * furthest / count * (np.arange(count) + random.uniform(0, 1)) - furthest
    return np.concatenate([angle[:, None], random.uniform(-1, 1, (count, 3))], axis=1)


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """The affine (N, 2, 3) that applies ``inner`` first."""
    linear = outer[..., :2]
    return torch.cat([linear @ inner[..., :2], linear @ inner[..., 2:] + outer[..., 2:]], dim=-1)


def _draws_of(
    clips: Sequence[Frames], numbers: Sequence[np.ndarray], rows: Sequence[np.ndarray], settings: TtaConfig
) -> Tensor:  # fmt: skip
    """``draws`` of all frames, (N, 4) float32."""
    drawn = [
        draws(clip.clip_id, int(number), settings)
        for clip, all_numbers, part in zip(clips, numbers, rows, strict=True)
        for number in all_numbers[part]
    ]
    return torch.from_numpy(np.concatenate(drawn)).float()


def _boxes(boxes: Sequence[np.ndarray], rows: Sequence[np.ndarray], count: int) -> Tensor:
    """The boxes (N, 4) of the clips' ``rows``, each repeated for its views."""
    chosen = [all_boxes[part] for all_boxes, part in zip(boxes, rows, strict=True)]
    return torch.from_numpy(np.concatenate(chosen)).repeat_interleave(count, dim=0)


def _mirrors(widths: Tensor, flipped: Sequence[bool]) -> Tensor:
    """Affines (C, 2, 3) of the frame's px: the mirror for a left hand, else the identity."""
    mirror_C23 = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]).repeat(len(widths), 1, 1)
    left_C = torch.tensor(list(flipped), dtype=torch.bool)
    mirror_C23[left_C, 0, 0] = -1.0
    mirror_C23[left_C, 0, 2] = widths[left_C] - 1
    return mirror_C23
