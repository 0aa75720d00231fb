"""From a clip's frames or times to pictures: requests, and what with_pixels makes of the answer."""

from __future__ import annotations

import numpy as np

from cluster.labelling.clip_pixels import fits, request_of, with_pixels
from cluster.labelling.results import UnitResult
from cluster.labelling.units import Video
from hojoint.config import Config
from hojoint.labelling.video import Decoded
from hojoint.records import Clip, Footage

FOOTAGE = Footage(40, 10.0, 0, "vp9")


def clip(clip_id: str, numbers: list[int], times: list[float] | None = None) -> Clip:
    boxes = np.float32([[n, n, n + 9, n + 9] for n in numbers])
    objects = np.full_like(boxes, np.nan)
    given = None if times is None else np.array(times)
    return Clip(clip_id, "v", "v.webm", np.array(numbers, np.int32), boxes, objects, 12, given)


def decoded(numbers: list[int], shown_at: list[int]) -> Decoded:
    rgb = np.stack([np.full((2, 2, 3), number, np.uint8) for number in numbers])
    return Decoded(rgb, np.array(numbers, np.int32), np.array(numbers) / 10, np.array(shown_at, np.int32), FOOTAGE)


def test_numbers_are_asked_for_as_before() -> None:
    request = request_of(Video("v", "v.webm", (clip("a", [1, 2, 5]), clip("b", [2, 3]))))
    assert request.numbers is not None
    assert (request.numbers.tolist(), request.times_s, request.annotated_frames) == ([1, 2, 3, 5], None, 12)


def test_frames_carry_their_times_and_what_is_known_of_the_file() -> None:
    video = Video("v", "v.webm", (clip("a", [1, 2, 5]),))
    [frames] = with_pixels(video, decoded([1, 2, 5], []), Config()).frames
    assert frames.times_s is not None
    assert frames.times_s.tolist() == [0.1, 0.2, 0.5]
    assert frames.footage == FOOTAGE


def test_times_become_the_numbers_of_the_pictures_shown() -> None:
    """A list for 4 frames a second on a video of 10: boxes 0..3 lie at 0.125, 0.375, ... s."""
    video = Video("v", "v.webm", (clip("a", [0, 1, 2], [0.125, 0.375, 0.625]), clip("b", [1, 3], [0.375, 0.875])))
    request = request_of(video)
    assert request.numbers is None
    assert request.annotated_frames == 0  # it counts by another rate
    assert request.times_s is not None
    assert request.times_s.tolist() == [0.125, 0.375, 0.625, 0.875]
    pixels = with_pixels(video, decoded([1, 3, 6, 8], [1, 3, 6, 8]), Config())
    assert [c.frames.tolist() for c in pixels.clips] == [[1, 3, 6], [3, 8]]
    assert [c.clip_id for c in pixels.clips] == ["a", "b"]
    assert pixels.clips[0].hand_boxes[:, 0].tolist() == [0, 1, 2]
    assert [frames.rgb[:, 0, 0, 0].tolist() for frames in pixels.frames] == [[1, 3, 6], [3, 8]]
    assert pixels.absent == 0


def test_of_two_boxes_on_one_picture_the_first_stays() -> None:
    video = Video("v", "v.webm", (clip("a", [0, 1, 2, 3], [0.01, 0.05, 0.12, 9.0]),))
    pixels = with_pixels(video, decoded([0, 1], [0, 0, 1, -1]), Config())
    assert pixels.clips[0].frames.tolist() == [0, 1]
    assert pixels.clips[0].hand_boxes[:, 0].tolist() == [0, 2]
    assert pixels.clips[0].times_s is not None
    assert pixels.clips[0].times_s.tolist() == [0.01, 0.12]
    assert pixels.absent == 2


def test_of_boxes_beyond_the_end_no_picture_is_left() -> None:
    video = Video("v", "v.webm", (clip("a", [0, 1], [9.0, 9.1]),))
    nothing = Decoded(np.zeros((0, 0, 0, 3), np.uint8), np.zeros(0, np.int32), None, np.full(2, -1, np.int32), FOOTAGE)
    pixels = with_pixels(video, nothing, Config())
    assert (pixels.clips, pixels.absent, pixels.short) == ([], 2, 1)
    failed = UnitResult(Config(), 0.0)
    assert not fits(video, nothing, failed)
    assert failed.counts.quarantine == {"boxes_rate": 1}
