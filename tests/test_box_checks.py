"""Lists of boxes that cannot be right, and boxes that are not of their video's pictures; right ones pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from marked_videos import HEIGHT, WIDTH, write_marked

from hojoint.datasets import something
from hojoint.datasets.box_checks import Census
from hojoint.datasets.box_fit import misfit
from hojoint.datasets.video_boxes import HAND, NO_TRACK, ROW, VideoBoxes, gathered
from hojoint.errors import InputError
from hojoint.labelling.video import decode
from hojoint.records import Clip, Footage


def boxes_of(hands: Any, objects: Any = (), name: str = "0000", sides: Any = 0, listed: bool = True) -> VideoBoxes:
    """One video with one box per frame of each kind."""
    rows = np.zeros(len(hands) + len(objects), ROW)
    rows["time_s"], rows["track"] = np.nan, NO_TRACK
    rows["frame"] = [*range(len(hands)), *range(len(objects))]
    rows["name"] = [HAND] * len(hands) + [0] * len(objects)
    if len(rows):
        rows["box"] = [*hands, *objects]
    rows["side"][: len(hands)] = sides
    frames = max(len(hands), len(objects))
    return gathered("7", rows, [name], annotated_frames=frames, every_frame_listed=listed)


def notes(*videos: VideoBoxes) -> tuple[str, ...]:
    census = Census()
    for video in videos:
        census.add(video)
    return census.refuse_or_note()


GOOD = [(10 + n, 20, 90 + n, 120) for n in range(30)]


def test_right_boxes_have_no_notes() -> None:
    noise = [(-1e-5, 0, 60, 240.00000003), (367, 0, 427.00002, 240)] * 10
    assert notes(boxes_of(GOOD, noise), boxes_of(noise), boxes_of([])) == ()
    assert notes() == ()


def test_boxes_relative_to_the_picture_are_refused() -> None:
    relative = [(0.1, 0.2, 0.5, 1.02)] * 20
    with pytest.raises(InputError, match=r"all 40 boxes of 2 videos.*0\.1, 0\.2, 0\.5, 1\.02.*multiply x by its width"):
        notes(boxes_of(relative), boxes_of(relative))
    [note] = notes(boxes_of(relative), boxes_of(GOOD))
    assert note.startswith("20 of 50 boxes have coordinates below 2")


def test_boxes_with_width_and_height_are_refused() -> None:
    with pytest.raises(InputError, match=r"found 12 of 30 that end before they begin.*\[300, 20, 80, 90\].*x \+ width"):
        notes(boxes_of([*GOOD[:18], *[(300, 20, 80, 90)] * 12]))
    [note] = notes(boxes_of([*GOOD, (300, 20, 80, 90)]))
    assert "1 of 31 boxes end before they begin" in note
    assert "video '7', frame 30" in note
    [note] = notes(boxes_of([*GOOD, (300, 20, 300, 90)]))
    assert "1 of 31 boxes have no area" in note
    with pytest.raises(InputError, match=r"all 30 boxes of 1 videos without area \(the first: video '7'"):
        notes(boxes_of([(300, 20, 300, 90)] * 30))


def test_boxes_in_no_picture_are_refused_or_noted() -> None:
    with pytest.raises(InputError, match="found 20 of 30 that lie in no picture"):
        notes(boxes_of([*GOOD[:10], *[(-90, -90, -10, -10)] * 20]))
    [note] = notes(boxes_of([*GOOD, (40000, 0, 40100, 90)]))
    assert "1 of 31 boxes lie in no picture" in note


def test_a_list_without_hands_names_its_categories() -> None:
    with pytest.raises(InputError, match=r"30 boxes of 1 videos and none of them a hand; their categories: 'hands' 30"):
        notes(boxes_of([], GOOD, "hands"))
    with pytest.raises(InputError, match="'person' 60"):
        notes(boxes_of([], GOOD, "person"), boxes_of([], GOOD, "person"))
    [note] = notes(boxes_of([], GOOD))  # Something-Else has videos without a hand
    assert "none of the 30 boxes is a hand" in note
    [note] = notes(boxes_of([]))
    assert "no box at all" in note


def test_categories_in_doubt_and_mixed_sides_are_noted() -> None:
    assert notes(boxes_of(GOOD, GOOD, "handle")) == ()
    [note] = notes(boxes_of(GOOD, GOOD, "both hands"))
    assert note == "30 boxes are read as objects, though they may be hands: 'both hands' 30"
    [note] = notes(boxes_of(GOOD, sides=[1] * 27 + [2] * 3))
    assert note.startswith("1 hands have boxes of both sides; 3 boxes of the rarer side")
    assert notes(boxes_of(GOOD, sides=[1] * 30)) == ()


def test_a_list_that_counts_from_one_is_noted() -> None:
    one, two = (replace(boxes_of(GOOD, listed=False), hand_frames=np.arange(30, dtype=np.int32) + n) for n in (1, 2))
    zero = boxes_of(GOOD, listed=False)
    [note] = notes(one, one, two)
    assert note.startswith("the boxes seem to count from 1: no video has a box in frame 0, and 2 of 3 begin in frame 1")
    assert notes(one, one, one, zero) == notes(one, two, two) == notes(replace(one, every_frame_listed=True)) == ()


def test_a_list_that_holds_its_rows_twice_is_refused() -> None:
    once = boxes_of(GOOD, GOOD)
    rows = np.repeat(np.arange(30), 2)
    names = ("hand_frames", "hand_boxes", "hand_sides", "hand_tracks", "object_frames", "object_boxes", "object_ids")
    twice = replace(once, **{name: getattr(once, name)[rows] for name in names})
    with pytest.raises(InputError, match=r"each box once, found 60 of 120 that repeat .*video '7', frame 0 .*copies"):
        notes(twice)
    [note] = notes(*[once] * 5, twice)
    assert note.startswith("60 of 420 boxes repeat another box of their frame")
    crossed = boxes_of(GOOD)
    both = {name: getattr(crossed, name)[rows] for name in names[:4]} | {"hand_sides": np.array([1, 2] * 30, np.int8)}
    assert not [note for note in notes(replace(crossed, **both)) if "repeat" in note]


def clips_of(boxes: VideoBoxes, **options: Any) -> list[Clip]:
    return something.clips_of("7.webm", boxes, **options)


def footage(pictures: int | None, fps: float | None = 12.0) -> Footage:
    return Footage(pictures, fps, 0, "vp9")


SIZE = (427, 240)
# As in Something-Else: a hand at the lower border, an object at the right one, clipped to the picture.
REAL = boxes_of(
    [(100 + n, 100, 200 + n, 240) for n in range(42)], [(150 + n, 80 + n % 5, 427, 240.00000002) for n in range(42)]
)


def test_boxes_of_their_pictures_fit() -> None:
    assert misfit(clips_of(REAL), SIZE, footage(42)) is None
    assert misfit(clips_of(REAL), (426, 240), footage(42)) is None
    assert misfit(clips_of(boxes_of(GOOD)), SIZE, footage(30)) is None
    # a detector's boxes reach over the border
    over = boxes_of([(200 + 3 * n, 150, 300 + 3 * n, 265 + 0.3 * n) for n in range(30)])
    assert misfit(clips_of(over), SIZE, footage(30)) is None
    assert misfit([], SIZE, footage(30)) is None


@pytest.mark.parametrize(("size", "factor"), [((213, 120), "0.499"), ((320, 180), "0.749"), ((384, 216), "0.899")])
def test_boxes_for_larger_pictures_are_named(size: tuple[int, int], factor: str) -> None:
    fault = misfit(clips_of(REAL), size, footage(42))
    assert fault is not None
    assert fault[0] == "boxes_outside"
    assert f"reach to 427 x 240 px, the pictures have {size[0]} x {size[1]}" in fault[1]
    assert f"multiplied by {factor} they would fit" in fault[1]


def test_a_resting_box_at_a_round_share_of_the_picture_fits() -> None:
    resting = boxes_of([(270, 252, 810, 540)] * 30)
    assert misfit(clips_of(resting), (1080, 720), footage(30)) is None


def test_boxes_for_smaller_turned_and_other_origins_are_named() -> None:
    for size, words in (((854, 480), "multiplied by 2 they would fit"), ((240, 427), "turned by 90 degrees")):
        fault = misfit(clips_of(REAL), size, footage(42))
        assert fault is not None
        assert fault[0] == "boxes_outside"
        assert words in fault[1]
    fault = misfit(clips_of(boxes_of([(-150, -80, -10, 40)] * 20)), SIZE, footage(20))
    assert fault is not None
    assert "their origin" in fault[1]


def test_relative_boxes_of_one_video_are_named() -> None:
    fault = misfit(clips_of(boxes_of([(0.1, 0.2, 0.5, 1.0)] * 20)), SIZE, footage(20))
    assert fault is not None
    assert fault[0] == "boxes_relative"
    assert "multiply x by 427 and y by 240" in fault[1]


@pytest.mark.parametrize(
    ("pictures", "fps", "listed"),
    [
        (42, 12.0, 42),
        (43, 12.0, 42),
        (64, 12.0, 52),  # real lists that end early
        (33, 12.0, 23),
        (41, 12.0, 42),
        (105, 30.0, 105),
        (110, 30.0, 100),
        (None, 30.0, 42),
        (84, 24.0, 4),  # too short to tell
        (33, None, 23),
        (62, 12.0, 23),  # below three times
    ],
)
def test_lists_of_their_videos_rate_pass(pictures: int | None, fps: float | None, listed: int) -> None:
    assert misfit(clips_of(boxes_of(GOOD[:1] * listed)), SIZE, footage(pictures, fps)) is None


@pytest.mark.parametrize(
    ("pictures", "fps", "listed", "remedy"),
    [
        (84, 24.0, 42, "videos.boxes_fps=12;"),
        (105, 30.0, 42, "videos.boxes_fps=12;"),
        (105, 29.97, 42, "videos.boxes_fps=12;"),
        (53, 15.0, 42, "videos.boxes_fps=12;"),
        (66, 24.0, 23, "videos.boxes_fps=12;"),  # the real lists that end early, under 24 and 30
        (160, 30.0, 52, "videos.boxes_fps=12;"),
        (200, 50.0, 100, "videos.boxes_fps=25;"),
        (84, 12.0, 42, "videos.boxes_fps=6;"),
        (42, 12.0, 105, "videos.boxes_fps=30;"),
        (84, None, 42, "Set videos.boxes_fps to"),
        (84, 24.0, 42, "if it lists every n-th picture, write the pictures' numbers, or a column time"),
        (42, 12.0, 105, "if the video was cut, copy it again"),
        (76, 12.0, 23, "videos.boxes_fps=12"),
    ],
)
def test_lists_of_another_rate_are_named(pictures: int, fps: float | None, listed: int, remedy: str) -> None:
    fault = misfit(clips_of(boxes_of(GOOD[:1] * listed)), SIZE, footage(pictures, fps))
    assert fault is not None
    assert fault[0] == "boxes_rate"
    assert f"the list has {listed} frames, the video {pictures} pictures" in fault[1]
    assert remedy in fault[1]


def test_a_list_that_leaves_out_frames_tells_no_rate() -> None:
    boxes = boxes_of(GOOD, listed=False)
    assert misfit(clips_of(boxes), SIZE, footage(60, 24.0)) is None
    assert misfit(clips_of(replace(boxes, every_frame_listed=True)), SIZE, footage(60, 24.0)) is not None


def test_times_beyond_the_end_of_the_video_are_named() -> None:
    clips = clips_of(REAL, boxes_fps=12.0)
    assert misfit(clips, SIZE, footage(105, 30.0)) is None
    fault = misfit(clips_of(REAL, boxes_fps=6.0), SIZE, footage(42, 12.0))
    assert fault is not None
    assert fault[0] == "boxes_rate"
    assert "reach to second 6.92, the video ends at 3.50; give times in seconds" in fault[1]
    assert "if videos.boxes_fps is set, correct it" in fault[1]
    assert misfit(clips[::-1] + clips_of(REAL, boxes_fps=6.0), SIZE, footage(42, 12.0)) == fault  # any clip's times


@pytest.mark.parametrize(
    ("listed", "given", "pictures", "fps", "words"),
    [
        *[(60, given, 60, 12.0, "more boxes per second than pictures") for given in (13, 15, 24, 30, 60, 1000)],
        (60, 10, 60, 12.0, "last 6.00 s, the video's 60 pictures at 12 per second 5.00 s: the list is longer"),
        (60, 11, 60, 12.0, "the list is longer"),
        (60, 20, 120, 24.0, "is shorter than the video. Correct videos.boxes_fps to the rate that the list was made"),
        (60, 15, 150, 30.0, "which is 12 if it covers the video"),
        (60, 12, 240, 24.0, "is shorter"),  # 6 a second
        (60, 24, 60, 24.0, None),
        (3000, 30, 3000, 29.97, "more boxes per second"),  # three pictures off at the end
        (60, 12, 57, 12.0, "expected 60 annotated frames, found 57 pictures"),
    ],
)
def test_a_given_rate_has_to_fit_a_complete_list(
    listed: int, given: float, pictures: int, fps: float, words: str | None
) -> None:
    boxes = boxes_of(GOOD[:1] * listed)
    fault = misfit(clips_of(boxes, boxes_fps=given), SIZE, footage(pictures, fps))
    if words is None:
        assert fault is None
        return
    assert fault is not None
    assert fault[0] == ("truncated" if words.startswith("expected") else "boxes_rate")
    assert words in fault[1]
    loose = clips_of(replace(boxes, every_frame_listed=False), boxes_fps=60)  # a table tells no length
    assert misfit(loose, SIZE, footage(pictures, fps)) is None


@pytest.mark.parametrize("fps", [12.0, 23.976, 24.0, 25.0, 29.97, 30.0, 60.0])
@pytest.mark.parametrize(("listed", "pictures"), [(60, 60), (42, 41), (42, 43), (52, 64), (23, 33)])
def test_twelve_per_second_fit_under_any_encoding(listed: int, pictures: int, fps: float) -> None:
    """As for real lists, two of which end early."""
    clips = clips_of(boxes_of(GOOD[:1] * listed), boxes_fps=12.0)
    assert misfit(clips, SIZE, footage(round(pictures * fps / 12), fps)) is None


def test_boxes_that_all_lie_beyond_the_end_are_of_another_rate() -> None:
    """No picture was decoded, so nothing is said of its size."""
    late = replace(REAL, hand_frames=REAL.hand_frames + 500)
    fault = misfit(clips_of(late, boxes_fps=12.0), (0, 0), footage(42, 12.0))
    assert fault is not None
    assert fault[0] == "boxes_rate"
    fault = misfit(clips_of(boxes_of([(0.1, 0.2, 0.5, 1.0)] * 20)), (0, 0), footage(20))
    assert fault is not None
    assert "multiply x by its width" in fault[1]


def test_a_video_with_fewer_pictures_than_its_list_is_truncated() -> None:
    for boxes, pictures, fps in (
        (boxes_of(GOOD), 28, 12.0),
        (boxes_of(GOOD), 12, None),
        (boxes_of(GOOD), 12, 12.0),  # 30 a second would explain it, as some rate explains most lists of few pictures
        (boxes_of(GOOD, listed=False), 12, 24.0),
    ):
        fault = misfit(clips_of(boxes), SIZE, footage(pictures, fps))
        assert fault is not None
        assert fault[0] == "truncated"
        assert f"expected 30 annotated frames, found {pictures} pictures" in fault[1]


def test_a_table_that_ends_behind_the_video_counts_from_one() -> None:
    one = replace(boxes_of(GOOD, listed=False), hand_frames=np.arange(30, dtype=np.int32) + 1, annotated_frames=31)
    fault = misfit(clips_of(one), SIZE, footage(30))
    assert fault is not None
    assert fault[0] == "boxes_rate"
    assert "count from 1: the last is in frame 30, and the last of 30 pictures is frame 29" in fault[1]
    assert misfit(clips_of(one), SIZE, footage(31)) is None
    assert misfit(clips_of(boxes_of(GOOD, listed=False)), SIZE, footage(29)) is None  # has a frame 0


@pytest.mark.parametrize(("fps", "longest"), [(60, 112), (12, 60)])
def test_a_short_list_is_judged_by_what_was_counted(tmp_path: Path, fps: int, longest: int) -> None:
    """Reading stops before the end, so how many pictures there are is not known, only at least how many."""
    path = write_marked(tmp_path / "long.mp4", "libx264", 200, fps=fps)
    boxes = boxes_of([(10 + n, 20, 90 + n, 90) for n in range(40)])
    [clip] = clips_of(boxes)
    decoded = decode(str(path), clip.frames.tolist(), annotated_frames=40)
    assert (decoded.footage.pictures, decoded.counted) == (None, 180)
    fault = misfit([clip], (WIDTH, HEIGHT), decoded.footage, decoded.counted)
    assert fault is not None
    assert fault[0] == "boxes_rate"
    assert f"the list has 40 frames, the video at least 180 pictures at {fps} per second" in fault[1]
    for listed in (longest, longest + 1):
        fault = misfit(clips_of(replace(boxes, annotated_frames=listed)), (WIDTH, HEIGHT), decoded.footage, 180)
        assert (fault is None) == (listed > longest)
