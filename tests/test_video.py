"""Videos and containers: good files are decoded, bad ones refused with their kind."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from video_files import FPS, HEIGHT, WIDTH, element, picture, webm, write_broken, write_video

from hojoint.labelling import containers, video
from hojoint.labelling.video import Limits, VideoError, decode


def kind_of(path: Path, **options) -> str:
    with pytest.raises(VideoError) as caught:
        decode(str(path), **options)
    assert caught.value.kind in video.KINDS
    assert str(caught.value)
    return caught.value.kind


@pytest.mark.parametrize("suffix", [".webm", ".mp4"])
def test_every_frame_is_decoded_under_its_number(tmp_path: Path, suffix: str) -> None:
    decoded = decode(str(write_video(tmp_path / f"a{suffix}")))
    assert decoded.rgb.shape == (20, HEIGHT, WIDTH, 3)
    assert decoded.count == 20
    assert decoded.fps == pytest.approx(FPS)
    for number, image in zip(decoded.numbers, decoded.rgb, strict=True):
        errors = [np.abs(image.astype(int) - picture(other)).mean() for other in range(20)]
        assert int(np.argmin(errors)) == number


def test_chosen_frames_are_those_of_the_complete_video(good_video: Path) -> None:
    complete = decode(str(good_video))
    some = decode(str(good_video), [7, 3, 19, 3])
    assert some.numbers.tolist() == [3, 7, 19]
    np.testing.assert_array_equal(some.rgb, complete.rgb[[3, 7, 19]])


def test_a_video_may_hold_one_frame_less_than_annotated(good_video: Path) -> None:
    decoded = decode(str(good_video), range(21), annotated_frames=21)
    assert decoded.numbers.tolist() == list(range(20))
    assert kind_of(good_video, annotated_frames=22) == "truncated"


def test_a_header_may_list_one_frame_more_than_the_file_holds(monkeypatch, good_video: Path) -> None:
    true = containers.read_header(good_video)
    for more, accepted in ((1, True), (2, False)):
        longer = containers.Header(true.width, true.height, true.seconds + more / FPS, None, False)
        monkeypatch.setattr(containers, "read_header", lambda path, longer=longer: longer)
        if accepted:
            assert decode(str(good_video)).count == 20
        else:
            assert kind_of(good_video) == "truncated"


def test_broken_files_are_refused_with_their_kind(tmp_path: Path, good_video: Path) -> None:
    broken = write_broken(tmp_path, good_video)
    del broken["hang"]  # that is the guard's to end, see test_decoding
    for name, kind in broken.items():
        assert kind_of(tmp_path / f"{name}.webm") == kind, name
    assert kind_of(tmp_path / "absent.webm") == "missing"
    assert kind_of(tmp_path) == "unreadable"


def test_a_webm_file_cut_anywhere_is_truncated_or_refused(tmp_path: Path) -> None:
    content = write_video(tmp_path / "a.webm", seed=0).read_bytes()
    cut = tmp_path / "cut.webm"
    for share in (0.02, 0.1, 0.5, 0.9, 0.99):
        cut.write_bytes(content[: int(len(content) * share)])
        assert kind_of(cut) in ("truncated", "unreadable"), share


def test_an_mp4_file_cut_before_its_index_is_truncated(tmp_path: Path) -> None:
    content = write_video(tmp_path / "a.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) // 2])
    assert kind_of(tmp_path / "cut.mp4") == "truncated"


def test_what_is_too_large_is_refused_before_it_is_decoded(monkeypatch, good_video: Path) -> None:
    monkeypatch.setattr(video, "open_reader", lambda path: pytest.fail("the decoder was asked"))
    assert kind_of(good_video, limits=Limits(frame_px=WIDTH * HEIGHT - 1)) == "too_large"


def test_too_many_frames_are_refused(good_video: Path) -> None:
    assert kind_of(good_video, limits=Limits(frames=19)) == "too_large"
    assert kind_of(good_video, limits=Limits(decoded_bytes=WIDTH * HEIGHT * 3 * 20 - 1)) == "too_large"
    # A few frames of the same video fit.
    assert len(decode(str(good_video), [0, 1], limits=Limits(frames=2)).numbers) == 2


def test_the_header_says_what_was_written(tmp_path: Path) -> None:
    short = containers.read_header(write_video(tmp_path / "a.webm", 24, width=120, height=80))
    assert (short.width, short.height, short.frames, short.cut) == (120, 80, None, False)
    assert short.seconds == pytest.approx(24 / FPS, abs=0.01)
    indexed = containers.read_header(write_video(tmp_path / "a.mp4", 24, width=120, height=80))
    assert (indexed.width, indexed.height, indexed.frames, indexed.cut) == (120, 80, 24, False)
    assert indexed.seconds == pytest.approx(24 / FPS, abs=0.01)


def test_the_length_of_a_late_video_counts_from_its_first_frame(tmp_path: Path) -> None:
    late = tmp_path / "late.webm"
    late.write_bytes(webm(ticks=4833.0, first=83))
    assert containers.read_header(late).seconds == pytest.approx(4.75)


def test_a_header_with_wild_sizes_ends(tmp_path: Path) -> None:
    wild = tmp_path / "wild.webm"
    random = np.random.default_rng(1)
    good = webm()
    for _ in range(300):
        broken = bytearray(good)
        for position in random.integers(4, len(good), 5):
            broken[position] = random.integers(256)
        wild.write_bytes(broken)
        with contextlib.suppress(containers.NotAVideo, containers.BrokenHeader):
            containers.read_header(wild)


def test_an_element_that_claims_gigabytes_is_not_read(tmp_path: Path) -> None:
    claims = tmp_path / "claims.webm"
    size = bytearray(element(0x1549A966, element(0x2AD7B1, b"\0")))
    size[-9:-1] = (1 << 56 | 2**40).to_bytes(8, "big")
    claims.write_bytes(element(0x1A45DFA3, b"") + element(0x18538067, bytes(size)))
    with pytest.raises((containers.BrokenHeader, containers.NotAVideo)):
        containers.read_header(claims)


def test_the_child_answers_over_pipes_and_imports_no_torch(good_video: Path) -> None:
    request = video.request_of(str(good_video), [1, 2], limits=Limits(), annotated_frames=0, deadline_s=20)
    bad = video.request_of("/nowhere.webm", None, limits=Limits(), annotated_frames=0, deadline_s=20)
    code = "import sys, hojoint.labelling.video as v; c = v.main([]); assert 'torch' not in sys.modules; sys.exit(c)"
    done = subprocess.run([sys.executable, "-c", code], input=request + bad, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    stream = io.BytesIO(done.stdout)
    assert stream.read(len(video.READY)) == video.READY
    header = json.loads(stream.read(video.HEADER.unpack(stream.read(4))[0]))
    assert header["numbers"] == [1, 2]
    rgb = np.frombuffer(stream.read(int(np.prod(header["shape"]))), np.uint8).reshape(header["shape"])
    np.testing.assert_array_equal(rgb, decode(str(good_video), [1, 2]).rgb)
    answer = json.loads(stream.read(video.HEADER.unpack(stream.read(4))[0]))
    assert answer["kind"] == "missing"
    assert not stream.read()
