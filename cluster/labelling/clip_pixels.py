"""Between a listed video and its pixels: what the decoder is asked for, and which picture each box lies on."""

from __future__ import annotations

import dataclasses

import numpy as np

from cluster.labelling.decoding import Failure, Request
from cluster.labelling.results import Pixels, UnitResult
from cluster.labelling.units import Video
from hojoint.config import Config
from hojoint.datasets.box_fit import misfit
from hojoint.datasets.something import on_pictures
from hojoint.labelling.video import Decoded
from hojoint.records import Frames


def request_of(video: Video) -> Request:
    """What the decoder is asked for: every frame, or every time, of the video that one of its clips holds."""
    numbers = [clip.frames for clip in video.clips if clip.times_s is None]
    times = [clip.times_s for clip in video.clips if clip.times_s is not None]
    return Request(
        video_id=video.video_id,
        path=video.uri,
        numbers=np.unique(np.concatenate(numbers)) if numbers else None,
        # A list that counts by another rate does not tell how many pictures the video has.
        annotated_frames=max((clip.annotated_frames for clip in video.clips if clip.times_s is None), default=0),
        times_s=np.unique(np.concatenate(times)) if times else None,
    )


def fits(video: Video, decoded: Decoded, result: UnitResult) -> bool:
    """Whether the boxes belong to the decoded pictures; a video whose boxes do not is quarantined."""
    height, width = decoded.rgb.shape[1:3]
    fault = misfit(video.clips, (width, height), decoded.footage, decoded.counted)
    if fault is not None:
        result.fail(Failure(video.video_id, "decode", *fault))
    return fault is None


def with_pixels(video: Video, decoded: Decoded, config: Config) -> Pixels:
    """The video's clips, cut to the frames that were decoded, with their pixels.

    Where boxes lie at times, the clip's frame numbers become those of the pictures shown then (``on_pictures``). Of two
    boxes on one picture the second counts as absent.
    """
    asked = request_of(video).times_s
    clips, frames, absent = [], [], 0
    for clip in video.clips:
        if clip.times_s is None:
            present = np.isin(clip.frames, decoded.numbers)
        else:
            assert asked is not None
            clip, present = on_pictures(clip, asked, decoded.shown_at)
        if present.sum() < config.labelling.min_clip_frames:
            absent += len(clip.frames)
            continue
        absent += int((~present).sum())
        if not present.all():
            clip = dataclasses.replace(
                clip,
                frames=clip.frames[present],
                hand_boxes=clip.hand_boxes[present],
                object_boxes=clip.object_boxes[present],
                times_s=None if clip.times_s is None else clip.times_s[present],
            )
        rows = np.searchsorted(decoded.numbers, clip.frames)
        rgb = decoded.rgb if len(rows) == len(decoded.numbers) else decoded.rgb[rows]  # usually all of them: no copy
        clips.append(clip)
        times = None if decoded.times_s is None else decoded.times_s[rows]
        frames.append(Frames(clip.clip_id, rgb, clip.hand_boxes, clip.object_boxes, times, decoded.footage))
    return Pixels(video, clips, frames, absent, short=len(video.clips) - len(clips))
