"""A hand mesh drawn over an image or a short video, for people who first want to look (as the paper's Fig. 4).

Prediction, camera and rules are those of labelling (``labels.label_clips``). Not here: paths and printing
(``jobs.demo``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from hojoint.config import Config
from hojoint.datasets import something
from hojoint.datasets.box_checks import Census
from hojoint.datasets.box_fit import misfit
from hojoint.datasets.boxes import VideoBoxes, iterate_boxes
from hojoint.errors import InputError
from hojoint.hand.factory import hand_layer
from hojoint.labelling import camera as cameras
from hojoint.labelling import labels, quality, reasons, video
from hojoint.labelling.spatial_rules import SMALLEST_BOX_PX
from hojoint.labelling.tta import HandPredictor
from hojoint.labelling.video import Decoded
from hojoint.model import opening
from hojoint.records import Clip, Frames, HandPrediction, PseudoLabels
from hojoint.report import draw
from hojoint.settings_file import shown

Side = Literal["right", "left"]
LARGEST_PX = 1e6  # no picture reaches so far


def open_predictor(data: bytes, config: Config, name: str) -> tuple[HandPredictor, str, tuple[str, ...]]:
    """The predictor of a checkpoint, on the GPU where there is one; the weights' checksum; notes to print."""
    network, trained, sha256 = opening.open_teacher(data, config, name)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    layer = hand_layer(trained.mano)
    predictor = HandPredictor(network, layer, trained.crop, trained.tta, device, config.labelling.batch_views)
    notes = (opening.overridden(config, trained), opening.untrained_views(trained))
    return predictor, sha256, tuple(note for note in notes if note)


def check_box(box: Sequence[float], rgb: np.ndarray, setting: str) -> np.ndarray:
    """The box as (4,) float32; InputError unless it has an area inside the image (H, W, 3)."""
    height, width = rgb.shape[:2]
    inside = np.clip(np.asarray(box, np.float32), 0, [width, height, width, height])
    if (inside[2:] - inside[:2] < SMALLEST_BOX_PX).any():
        raise InputError(
            f"{setting}={shown(tuple(box))} has no area inside the image of {width} x {height} px; expected "
            "[x0,y0,x1,y1] in px, x to the right and y down"
        )
    return np.asarray(box, np.float32)


def label_image(
    predictor: HandPredictor,
    rgb: np.ndarray,
    hand_box: np.ndarray,
    object_box: np.ndarray | None,
    side: Side,
    config: Config,
) -> PseudoLabels:  # fmt: skip
    """One image (H, W, 3), hand box (4,) px, as a clip of one frame: prediction, camera and scores.

    An object box widens the crop, as it does for labelled images in training.
    """
    hand = hand_box[None]
    predictor = predictor if object_box is None else predictor.around_objects()
    held = np.full_like(hand, np.nan) if object_box is None else object_box[None]
    clip = Clip("image", "image", "", np.zeros(1, np.int32), hand, held, 1)
    return _label(predictor, [clip], [Frames("image", rgb[None], hand, held)], side, config)[0]


def read_clips(path: str, boxes: str, config: Config) -> list[Clip]:
    """The clips of one video: at most ``demo.limit`` frames of the list from the first with a hand box.

    ``boxes`` is any annotation of ``iterate_boxes`` that knows the video by its file name, or a JSON list with one
    entry per frame: [x0, y0, x1, y1] in px or null. ``videos.boxes_fps`` counts for both.

    Raises:
        InputError: the boxes cannot be read, or show no hand.
    """
    # As labelling names them: a file without its suffix, a folder of pictures by its complete name.
    video_id = Path(path).absolute().name if Path(path).is_dir() else Path(path).stem
    listed, rate = _box_list(Path(boxes)), config.videos.boxes_fps
    if listed is not None:
        frames = np.array([n for n, box in enumerate(listed) if box is not None], np.int32)
        hand = np.array([listed[n] for n in frames], np.float32).reshape(-1, 4)
        clip = Clip(video_id, video_id, path, frames, hand, np.full_like(hand, np.nan), 0)
        clip = clip if rate is None else replace(clip, times_s=(frames + 0.5) / rate)
        clips = [clip] if len(frames) else []
    else:
        annotated = _annotated(boxes, video_id)
        # One box is drawn, as that of a list is: ``labelling.min_clip_frames`` is for labels.
        clips = something.clips_of(path, annotated, min_frames=1, boxes_fps=rate)
    if not clips:
        raise InputError(f"{boxes} shows no hand in {video_id}")
    return _limited(clips, config)


def _annotated(boxes: str, video_id: str) -> VideoBoxes:
    """The boxes of one video, checked."""
    known: list[str] = []
    for annotated in iterate_boxes(boxes):
        if annotated.video_id == video_id:
            census = Census()
            census.add(annotated)
            census.refuse_or_note()
            return annotated
        known = [*known, annotated.video_id][:3]
    raise InputError(
        f"{boxes} has no boxes of {video_id} (the file name of demo.video); it has {', '.join(known) or 'none'}, ..."
    )


def decode(path: str, clips: Sequence[Clip], config: Config) -> tuple[Decoded, list[Clip]]:
    """The frames from the first to the last of the clips, those without a box included; and the clips.

    Where boxes lie at times, the frames of the clips become the numbers of the pictures shown then.
    """
    listed = clips
    if any(clip.times_s is not None for clip in clips):
        clips = _on_pictures(path, clips, config)
    first, last = min(int(clip.frames[0]) for clip in clips), max(int(clip.frames[-1]) for clip in clips)
    decoded = _pictures(path, config, numbers=range(first, last + 1))
    if not len(decoded.numbers):
        raise InputError(f"the first box is of frame {first}, and {path} has {decoded.footage.pictures} frames")
    _check_fit(path, listed, decoded)
    return decoded, list(clips)


def _on_pictures(path: str, clips: Sequence[Clip], config: Config) -> list[Clip]:
    """Clips whose boxes lie at times, on the pictures shown then: at most ``demo.limit`` from the first one."""
    asked = np.unique(np.concatenate([clip.times_s for clip in clips if clip.times_s is not None]))
    decoded = _pictures(path, config, times_s=asked.tolist())
    _check_fit(path, clips, decoded)
    mapped = [_first(*something.on_pictures(clip, asked, decoded.shown_at)) for clip in clips]
    mapped = [clip for clip in mapped if len(clip.frames)]
    if not mapped:
        raise InputError(f"the first box is at second {asked[0]:.3g}, and {path} ends before")
    return _limited(mapped, config)


def _pictures(
    path: str, config: Config, *, numbers: Sequence[int] | None = None, times_s: Sequence[float] | None = None
) -> Decoded:  # fmt: skip
    limits = video.Limits(config.labelling.max_frame_px, config.labelling.max_frames, decoded_bytes=2**40)
    try:
        return video.decode(path, numbers, times_s=times_s, limits=limits, decoder=config.labelling.decoder)
    except video.VideoError as error:
        raise InputError(f"cannot use demo.video={path}: {error.kind}: {error}") from None


def _check_fit(path: str, clips: Sequence[Clip], decoded: Decoded) -> None:
    height, width = decoded.rgb.shape[1:3]
    fault = misfit(clips, (width, height), decoded.footage, decoded.counted)
    if fault is not None:
        raise InputError(f"the boxes do not belong to demo.video={path}: {fault[0]}: {fault[1]}")


def _limited(clips: Sequence[Clip], config: Config) -> list[Clip]:
    """The clips up to ``demo.limit`` frames after the first."""
    end = min(int(clip.frames[0]) for clip in clips) + config.demo.limit
    return [_first(clip, clip.frames < end) for clip in clips if clip.frames[0] < end]


def label_video(
    predictor: HandPredictor, clips: Sequence[Clip], decoded: Decoded, side: Side | None, config: Config
) -> list[PseudoLabels]:
    """Every clip of a decoded video, judged as labelling does. ``side``: None means that each clip's is found."""
    held = [_first(clip, np.isin(clip.frames, decoded.numbers)) for clip in clips]
    held = [clip for clip in held if len(clip.frames)]
    rows = [np.searchsorted(decoded.numbers, clip.frames) for clip in held]
    pixels = [
        Frames(clip.clip_id, decoded.rgb[at], clip.hand_boxes, clip.object_boxes)
        for clip, at in zip(held, rows, strict=True)
    ]
    return _label(predictor, held, pixels, side, config)


def draw_hand(image: np.ndarray, prediction: HandPrediction, faces: np.ndarray, row: int = 0) -> np.ndarray:
    """The mesh of one frame of a prediction over its image (H, W, 3); the image alone where no camera fits."""
    camera = cameras.fit(prediction)[row : row + 1]
    vertices = cameras.true_side(prediction.vertices[row : row + 1], prediction.flipped)
    points = cameras.project(prediction.vertices[row : row + 1], camera, flipped=prediction.flipped)
    if not (points.isfinite().all() and vertices.isfinite().all() and camera[0, 0] > 0):
        return image.copy()
    return draw.mesh(image, points[0].numpy(), vertices[0].numpy(), faces)


def draw_image(rgb: np.ndarray, labelled: PseudoLabels, faces: np.ndarray) -> np.ndarray:
    """The image with mesh and boxes."""
    out = draw_hand(rgb, labelled.prediction, faces)
    out = draw.box(out, labelled.clip.object_boxes[0], draw.OBJECT)
    return draw.box(out, labelled.clip.hand_boxes[0], draw.HAND)


def draw_video(decoded: Decoded, labelled: Sequence[PseudoLabels], faces: np.ndarray) -> list[np.ndarray]:
    """Every frame with the meshes and boxes of its hands, and a strip with their verdicts."""
    out = []
    rows = [{int(n): row for row, n in enumerate(clip.clip.frames)} for clip in labelled]
    for number, rgb in zip(decoded.numbers.tolist(), decoded.rgb, strict=True):
        picture, words = rgb, []
        for hand, at in zip(labelled, rows, strict=True):
            if number in at:
                picture = draw_hand(picture, hand.prediction, faces, at[number])
                picture = draw.box(picture, hand.clip.hand_boxes[at[number]], draw.HAND)
                words.append(hand.verdicts[at[number]])
        good = draw.KEPT if words and all(word == reasons.KEPT for word in words) else draw.REJECTED
        strip = [f"{number}  {' | '.join(words) or 'no box'}"]
        picture = draw.captioned(picture, strip, good if words else draw.NEUTRAL)
        out.append(_even(picture))
    return out


def _label(
    predictor: HandPredictor, clips: Sequence[Clip], frames: Sequence[Frames], side: Side | None, config: Config
) -> list[PseudoLabels]:
    labelling = config.labelling.model_copy(update={"side": side or "both"})
    model = None if config.filters.quality_model is None else quality.load(config.filters.quality_model)
    if model is not None:
        side_head = predictor.network.config.side_head or side is not None
        model.check(config.filters, side_head=side_head, views=quality.views_of(predictor.tta))
    return labels.label_clips(
        predictor, clips, frames, filter_config=config.filters, labelling=labelling, teacher="", quality=model
    )  # fmt: skip


def _first(clip: Clip, chosen: np.ndarray) -> Clip:
    """The clip with the chosen frames (T,) bool alone."""
    return replace(
        clip,
        frames=clip.frames[chosen],
        hand_boxes=clip.hand_boxes[chosen],
        object_boxes=clip.object_boxes[chosen],
        times_s=None if clip.times_s is None else clip.times_s[chosen],
    )


def _box_list(path: Path) -> list[Any] | None:
    """A JSON list of boxes; None where the file begins otherwise, or is a folder."""
    if not path.is_file():
        return None
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        if not file.read(64).lstrip().startswith("["):
            return None
    try:
        listed = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {str(error)[:200]}") from None
    for number, box in enumerate(listed):
        numbers = isinstance(box, list) and [type(v) in (int, float) and abs(v) < LARGEST_PX for v in box] == [True] * 4
        if not (box is None or (numbers and box[0] < box[2] and box[1] < box[3])):
            raise InputError(
                f"{path}: expected [x0, y0, x1, y1] px with x0 < x1 and y0 < y1, or null, for each frame; entry "
                f"{number} is {box!r:.60}"
            )
    return list(listed)


def _even(picture: np.ndarray) -> np.ndarray:
    """Without its last row and column where their number is odd: video encoders take even sides."""
    height, width = picture.shape[:2]
    return np.ascontiguousarray(picture[: height // 2 * 2, : width // 2 * 2])
