"""Videos: good files are decoded under the numbers that a person counts, bad ones refused with their class."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from marked_videos import ffmpeg, number_in, write_hidden, write_marked
from video_files import FPS, HEIGHT, WIDTH, picture, webm, write_broken, write_video

from hojoint.errors import InputError
from hojoint.labelling import readers, video
from hojoint.labelling.faults import CLASSES
from hojoint.labelling.orientation import Orientation, orientation_of
from hojoint.labelling.pictures import Picture
from hojoint.labelling.video import Decoded, Limits, VideoError, decode

ONE = 65536  # of a display matrix


def fault_of(path: Path, **options) -> tuple[str, str]:
    with pytest.raises(VideoError) as caught:
        decode(str(path), **options)
    assert caught.value.kind in CLASSES
    message = str(caught.value)
    assert message
    assert not [word for word in (".cc", ".cpp", ".c:", "avcodec", "Errno", "0x") if word in message], message
    return caught.value.kind, message


def kind_of(path: Path, **options) -> str:
    return fault_of(path, **options)[0]


def numbers_of(decoded: Decoded) -> list[int]:
    return [number_in(image) for image in decoded.rgb]


@pytest.mark.parametrize("suffix", [".webm", ".mp4"])
def test_every_frame_is_decoded_under_its_number(tmp_path: Path, suffix: str) -> None:
    decoded = decode(str(write_video(tmp_path / f"a{suffix}")))
    assert decoded.rgb.shape == (20, HEIGHT, WIDTH, 3)
    assert decoded.footage.pictures == 20
    assert decoded.footage.fps == pytest.approx(FPS)
    assert (decoded.footage.rotation_deg, decoded.footage.codec) == (0, "vp9" if suffix == ".webm" else "mpeg4")
    np.testing.assert_allclose(decoded.times_s, np.arange(20) / FPS, atol=1e-3)
    for number, image in zip(decoded.numbers, decoded.rgb, strict=True):
        errors = [np.abs(image.astype(int) - picture(other)).mean() for other in range(20)]
        assert int(np.argmin(errors)) == number


def test_chosen_frames_are_those_of_the_complete_video(good_video: Path) -> None:
    complete = decode(str(good_video))
    some = decode(str(good_video), [7, 3, 19, 3])
    assert some.numbers.tolist() == [3, 7, 19]
    np.testing.assert_array_equal(some.rgb, complete.rgb[[3, 7, 19]])
    np.testing.assert_array_equal(some.times_s, complete.times_s[[3, 7, 19]])


def test_a_video_may_hold_one_frame_less_than_annotated(good_video: Path) -> None:
    decoded = decode(str(good_video), range(21), annotated_frames=21)
    assert decoded.numbers.tolist() == list(range(20))
    # The list alone tells no fault: box_fit judges it, with the rate.
    beyond = decode(str(good_video), [40], annotated_frames=50)
    assert (beyond.rgb.shape, beyond.footage.pictures, beyond.counted) == ((0, 0, 0, 3), 20, 20)


def test_counting_stops_at_a_multiple_of_what_is_asked(tmp_path: Path) -> None:
    path = write_marked(tmp_path / "long.mp4", "libx264", 100)
    early = decode(str(path), [0])
    assert (early.footage.pictures, early.counted) == (None, 63)
    assert decode(str(path), [20]).footage.pictures == 100
    assert decode(str(path), [0], annotated_frames=30).footage.pictures == 100


def test_broken_files_are_refused_with_their_class(tmp_path: Path, good_video: Path) -> None:
    broken = write_broken(tmp_path, good_video)
    del broken["hang"]  # that is the guard's to end, see test_decoding
    for name, kind in broken.items():
        assert kind_of(tmp_path / f"{name}.webm") == kind, name
    assert kind_of(tmp_path / "absent.webm") == "missing"
    assert kind_of(tmp_path) == "no_pictures"


@pytest.mark.parametrize(
    ("start", "word"),
    [
        (b"GIF89a\1\0", "GIF"), (b"\x89PNG\r\n\x1a\n", "PNG"), (b"\xff\xd8\xff\xe0", "JPEG"), (b"PK\3\4", "zip"),
        (b"\n <!DOCTYPE html><html>", "HTML"), (b"\x1f\x8b\x08", "gzip"), (b"", "empty"), (bytes(600), "zeros"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS"), (b"id,x1,y1\n1,2,3\n", "'id,x1,y1"),
        (bytes(257) + b"ustar", "tar"), (b"\0\0\0\x18ftypheic", "HEIF"), (b"RIFF\0\0\0\0WEBP", "WebP"),
        ((b"G" + bytes(range(1, 188))) * 4, "MPEG transport stream"),
    ],
)  # fmt: skip
def test_what_is_no_video_is_named(start: bytes, word: str, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"x" + start[1:] if word == "tar" else start)
    kind, message = fault_of(path)
    assert kind == "not_video"
    assert word in message


@pytest.mark.parametrize(
    ("suffix", "codec"), [("webm", "libvpx-vp9"), ("mkv", "libx264"), ("mp4", "libx264"), ("avi", "mpeg4")]
)
def test_a_file_cut_anywhere_is_truncated(suffix: str, codec: str, tmp_path: Path) -> None:
    content = write_marked(tmp_path / f"a.{suffix}", codec).read_bytes()
    cut = tmp_path / f"cut.{suffix}"
    for share in (0.1, 0.5, 0.9, 0.99):
        cut.write_bytes(content[: int(len(content) * share)])
        assert kind_of(cut) == "truncated", share


def test_a_box_that_nobody_knows_before_the_index_is_no_cut(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 20)
    content = path.read_bytes()
    assert content.index(b"free") < content.index(b"moov")
    for name in (b"pdin", b"abcd"):
        path.write_bytes(content.replace(b"free", name, 1))
        assert len(decode(str(path)).numbers) == 20
        for length in (40, len(content) // 2, content.index(b"moov") - 4):
            path.write_bytes(content.replace(b"free", name, 1)[:length])
            assert kind_of(path) == "truncated", length


def test_an_index_that_reaches_beyond_the_file_is_truncated(tmp_path: Path) -> None:
    path = write_marked(tmp_path / "a.mp4", "libx264")
    ffmpeg("-i", path, "-c", "copy", "-movflags", "+faststart", tmp_path / "fast.mp4")
    content = bytearray((tmp_path / "fast.mp4").read_bytes())
    at = content.index(b"mdat") - 4
    content = content[: at + 400]
    content[at : at + 4] = (400).to_bytes(4, "big")  # boxes that fit, and a table that does not
    (tmp_path / "short.mp4").write_bytes(content)
    kind, message = fault_of(tmp_path / "short.mp4")
    assert kind == "truncated"
    assert "of the 40 pictures that it lists" in message


@pytest.mark.parametrize("codec", ["libx264", "mpeg4", "libvpx-vp9"])
def test_damage_counts_up_to_the_last_picture_asked_for(codec: str, tmp_path: Path) -> None:
    path = write_marked(tmp_path / "a.mp4", codec, g="10", bf="0")
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        at, size = packets[25].pos, packets[25].size
    content = bytearray(path.read_bytes())
    content[at : at + size] = bytes(size)
    path.write_bytes(content)
    assert kind_of(path) == "damaged"
    assert kind_of(path, numbers=[30]) == "damaged"
    early = decode(str(path), range(20))
    assert numbers_of(early) == list(range(20))
    assert early.footage.pictures is None


def test_encrypted_pictures_are_named(tmp_path: Path) -> None:
    path = write_marked(tmp_path / "a.mp4", "libx264")
    key = ("-encryption_key", "76a6c65c5ea762046bd749a2e632ccbb", "-encryption_kid", "a7e61c373e219033c21091fa607bf3b8")
    ffmpeg("-i", path, "-c", "copy", "-encryption_scheme", "cenc-aes-ctr", *key, tmp_path / "drm.mp4")
    assert kind_of(tmp_path / "drm.mp4") == "encrypted"


def test_a_codec_without_a_decoder_is_named(tmp_path: Path) -> None:
    mp4 = write_marked(tmp_path / "a.mp4", "libx264")
    mp4.write_bytes(mp4.read_bytes().replace(b"avc1", b"evc1"))
    webm_file = write_marked(tmp_path / "a.webm", "libvpx-vp9")
    webm_file.write_bytes(webm_file.read_bytes().replace(b"V_VP9", b"V_XYZ"))
    assert fault_of(mp4) == ("unsupported_codec", "no decoder for the codec evc1")
    assert fault_of(webm_file) == ("unsupported_codec", "no decoder for the codec V_XYZ")


def test_sound_alone_holds_no_pictures_and_a_cover_is_none(tmp_path: Path) -> None:
    video_file, cover = write_marked(tmp_path / "a.mp4", "libx264"), tmp_path / "cover.png"
    ffmpeg("-f", "lavfi", "-i", "color=red:s=32x32", "-frames:v", "1", cover)
    tone = ("-f", "lavfi", "-i", "sine=d=1")
    ffmpeg(*tone, "-c:a", "aac", tmp_path / "sound.mp4")
    assert kind_of(tmp_path / "sound.mp4") == "no_pictures"
    attach = ("-map", "0", "-map", "1", "-c", "copy", "-disposition:v:1", "attached_pic")
    ffmpeg("-i", tmp_path / "sound.mp4", "-i", cover, "-map", "0", "-map", "1", "-c", "copy",
           "-disposition:v:0", "attached_pic", tmp_path / "song.mp4")  # fmt: skip
    assert kind_of(tmp_path / "song.mp4") == "no_pictures"
    ffmpeg("-i", video_file, "-i", cover, *attach, tmp_path / "both.mp4")
    assert numbers_of(decode(str(tmp_path / "both.mp4"))) == list(range(40))


def test_of_several_picture_tracks_the_default_one_is_read(tmp_path: Path) -> None:
    first = write_marked(tmp_path / "a.mkv", "libx264", 5)
    second = write_marked(tmp_path / "b.mkv", "libx264", 9)
    words = ("-map", "0", "-map", "1", "-c", "copy", "-disposition:v:0", "0", "-disposition:v:1", "default")
    ffmpeg("-i", first, "-i", second, *words, tmp_path / "two.mkv")
    assert decode(str(tmp_path / "two.mkv")).footage.pictures == 9


def test_what_is_too_large_is_refused_before_it_is_converted(monkeypatch, good_video: Path) -> None:
    monkeypatch.setattr("hojoint.labelling.pyav_reader._rgb", lambda *_: pytest.fail("a picture was converted"))
    kind, message = fault_of(good_video, limits=Limits(frame_px=WIDTH * HEIGHT - 1))
    assert (kind, "labelling.max_frame_px" in message) == ("too_large", True)
    kind, message = fault_of(good_video, numbers=range(20), limits=Limits(decoded_bytes=WIDTH * HEIGHT * 3 * 20 - 1))
    assert (kind, "labelling.decode_memory_mb" in message) == ("too_large", True)


def test_too_many_frames_are_refused_and_few_of_many_are_not(good_video: Path) -> None:
    assert fault_of(good_video, limits=Limits(frames=19)) == (
        "too_large", "more than 19 frames are asked for: labelling.max_frames"
    )  # fmt: skip
    assert len(decode(str(good_video), [0, 19], limits=Limits(frames=2)).numbers) == 2
    few = decode(str(good_video), [0, 19], limits=Limits(decoded_bytes=WIDTH * HEIGHT * 3 * 2))
    assert few.numbers.tolist() == [0, 19]


def test_pictures_of_another_size_are_scaled_to_the_first(tmp_path: Path) -> None:
    for name, width in (("a", 160), ("b", 320)):
        path = write_marked(tmp_path / f"{name}.mp4", "libx264", 5, size=(width, 96), g="5", bf="0")
        ffmpeg("-i", path, "-c", "copy", "-bsf:v", "h264_mp4toannexb", "-f", "h264", tmp_path / f"{name}.h264")
    raw, joined = tmp_path / "joined.h264", tmp_path / "joined.mkv"
    raw.write_bytes((tmp_path / "a.h264").read_bytes() + (tmp_path / "b.h264").read_bytes())
    ffmpeg("-r", "12", "-f", "h264", "-i", raw, "-c", "copy", joined)
    decoded = decode(str(joined))
    assert decoded.rgb.shape == (10, 96, 160, 3)
    assert numbers_of(decoded) == [0, 1, 2, 3, 4] * 2


# ------------------------------------------------------------------------------------------------------------ times


class Film:
    """A reader of pictures with given time stamps; each is as dark as its number."""

    width, height, codec, count = 2, 2, "film", None

    def __init__(self, times: list[float | None], rate: float | None = None, lasts: float | None = None) -> None:
        self.times, self.rate, self.lasts = times, rate, lasts

    def pictures(self) -> Iterator[Picture]:
        for number, time in enumerate(self.times):
            yield Picture(lambda number=number: np.full((2, 2, 3), number, np.uint8), 2, 2, time, self.lasts)

    def close(self) -> None:
        pass


def shown(monkeypatch, film: Film, times: list[float], numbers: list[int] | None = None) -> Decoded:
    monkeypatch.setattr(video, "open_reader", lambda path, decoder: film)
    monkeypatch.setattr(video, "_check_file", lambda path: None)
    return decode("film", numbers, times_s=times)


def test_a_time_takes_the_picture_shown_then(monkeypatch) -> None:
    film = Film([5.0, 5.1, 5.4, 5.5], lasts=0.2)  # the first stamp counts as 0
    decoded = shown(monkeypatch, film, [0.0, 0.05, 0.1, 0.39, 0.45, 0.5, 0.69, 0.75, -0.2])
    assert decoded.shown_at.tolist() == [0, 0, 1, 1, 2, 3, 3, -1, -1]
    assert decoded.numbers.tolist() == [0, 1, 2, 3]
    assert decoded.rgb[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(decoded.times_s, [0, 0.1, 0.4, 0.5])


def test_times_that_were_rounded_to_milliseconds_find_theirs(monkeypatch) -> None:
    times = [n / 30 for n in range(30)]
    for rounded in ([round(time, 3) for time in times], [int(time * 1000) / 1000 for time in times]):
        assert shown(monkeypatch, Film(times), rounded).shown_at.tolist() == list(range(30))


def test_the_middle_of_a_slower_lists_frames_meets_any_rate(monkeypatch) -> None:
    middles = [(k + 0.5) / 12 for k in range(24)]
    for fps in (24, 30, 60):
        decoded = shown(monkeypatch, Film([n / fps for n in range(2 * fps)]), middles)
        assert decoded.shown_at.tolist() == [int(fps * middle + 1e-9) for middle in middles]


def test_the_last_picture_lasts_the_mean_where_it_does_not_say(monkeypatch) -> None:
    film = Film([0.0, 0.5, 1.0])
    assert shown(monkeypatch, film, [1.45, 1.6]).shown_at.tolist() == [2, -1]
    assert shown(monkeypatch, film, [0.6], [0]).numbers.tolist() == [0, 1]


def test_without_stamps_the_rate_tells_the_times(monkeypatch) -> None:
    decoded = shown(monkeypatch, Film([None] * 4, rate=10.0), [0.15, 0.39])
    assert decoded.shown_at.tolist() == [1, 3]
    with pytest.raises(VideoError, match="does not tell") as caught:
        shown(monkeypatch, Film([None] * 4), [0.1])
    assert caught.value.kind == "boxes_rate"
    with pytest.raises(
        VideoError, match="does not tell its pictures' times: the time stamps run backwards at picture 2"
    ):
        shown(monkeypatch, Film([0.0, 0.5, 0.4, 1.0]), [0.7])
    monkeypatch.setattr(video, "open_reader", lambda path, decoder: Film([0.0, 0.5, 0.4]))
    assert decode("film").times_s is None


# ---------------------------------------------------------------------------------------------------- display matrix


@pytest.mark.parametrize(
    ("matrix", "orientation"),
    [
        ((1, 0, 0, 1), Orientation(0)), ((0, 1, -1, 0), Orientation(90)), ((-1, 0, 0, -1), Orientation(180)),
        ((0, -1, 1, 0), Orientation(270)), ((-1, 0, 0, 1), Orientation(0, True)), ((0, 0, 0, 0), Orientation(0)),
        ((1, 0, 0, -1), Orientation(180, True)), ((0, 1, 1, 0), Orientation(90, True)),
        ((0, -1, -1, 0), Orientation(270, True)),
    ],
)  # fmt: skip
def test_a_display_matrix_moves_points_as_the_standard_says(matrix, orientation: Orientation) -> None:
    a, b, c, d = matrix
    found = orientation_of([a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, 123, 456, 2**30])
    assert found == orientation
    if not any(matrix):
        return
    image = np.zeros((3, 5, 3), np.uint8)
    image[0, 1] = 255  # x 1, y 0 of a picture 5 wide and 3 high
    turned = found.applied(image)
    y, x = np.argwhere(turned[..., 0])[0]
    centred = np.array([1 - 2, 0 - 1])  # about the middle, as the matrix has no translation here
    expected = np.array([a * centred[0] + c * centred[1], b * centred[0] + d * centred[1]])
    assert [x - (turned.shape[1] - 1) // 2, y - (turned.shape[0] - 1) // 2] == expected.tolist()


def test_a_turn_by_other_than_quarters_is_refused(tmp_path: Path) -> None:
    path = write_marked(tmp_path / "a.mp4", "libx264", 3)
    ffmpeg("-display_rotation", "30", "-i", path, "-c", "copy", tmp_path / "tilted.mp4")
    assert kind_of(tmp_path / "tilted.mp4") == "unsupported_rotation"


# ------------------------------------------------------------------------------------------------------- the decoders


def test_decord_agrees_or_refuses_by_name(tmp_path: Path) -> None:
    path = write_marked(tmp_path / "a.mp4", "libx264")
    assert numbers_of(decode(str(path), decoder="decord")) == list(range(40))
    ffmpeg("-display_hflip", "-i", path, "-c", "copy", tmp_path / "mirrored.mp4")
    kind, message = fault_of(tmp_path / "mirrored.mp4", decoder="decord")
    assert (kind, "labelling.decoder=pyav" in message) == ("unsupported_rotation", True)
    hidden = write_hidden(tmp_path / "h.webm", "libvpx")
    kind, message = fault_of(hidden, decoder="decord")
    assert (kind, "the file shows 40" in message) == ("decoder_differs", True)


@pytest.mark.parametrize(
    ("version", "degrees", "kind"),
    [
        ("0.10.0+cpu", "180", "unsupported_rotation"), ("0.9", "90", "unsupported_rotation"),
        ("0.11.0", "180", "decoder_differs"), ("1.0", "90", "decoder_differs"), ("0.10.0", "0", "decoder_differs"),
    ],
)  # fmt: skip
def test_a_torchcodec_that_does_not_turn_is_refused(version, degrees, kind, tmp_path: Path, monkeypatch) -> None:
    def unopened(*_, **__):
        raise ValueError("the check of the version was passed")

    path = write_marked(tmp_path / "a.mp4", "libx264", 3)
    ffmpeg("-display_rotation", degrees, "-i", path, "-c", "copy", tmp_path / "turned.mp4")
    monkeypatch.setattr("importlib.metadata.version", lambda name: {"torchcodec": version}[name])
    for name in ("torchcodec", "torchcodec.decoders"):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(VideoDecoder=unopened))
    found, message = fault_of(tmp_path / "turned.mp4", decoder="torchcodec")
    assert found == kind
    assert (f"torchcodec {version} does not turn" in message) == (kind == "unsupported_rotation")
    assert "labelling.decoder=pyav" in message


def test_a_decoder_that_is_not_installed_is_an_input_error(monkeypatch) -> None:
    monkeypatch.setitem(readers.MODULES, "torchcodec", "no_such_package.decoders")
    with pytest.raises(InputError, match=r"labelling\.decoder=torchcodec needs the package no_such_package"):
        readers.load("torchcodec")


def test_the_child_answers_over_pipes_and_imports_no_torch(good_video: Path) -> None:
    request = video.request_of(
        str(good_video), [1, 2], times_s=[1.0], limits=Limits(), annotated_frames=0, deadline_s=20
    )  # fmt: skip
    bad = video.request_of("/nowhere.webm", None, limits=Limits(), annotated_frames=0, deadline_s=20)
    code = "import sys, hojoint.labelling.video as v; c = v.main([]); assert 'torch' not in sys.modules; sys.exit(c)"
    done = subprocess.run([sys.executable, "-c", code], input=request + bad, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    stream = io.BytesIO(done.stdout)
    assert stream.read(len(video.READY)) == video.READY
    header = json.loads(stream.read(video.HEADER.unpack(stream.read(4))[0]))
    answer = video.answer_of(header, stream.read(int(np.prod(header["shape"]))))
    expected = decode(str(good_video), [1, 2], times_s=[1.0])
    assert answer.numbers.tolist() == expected.numbers.tolist() == [1, 2, 12]
    assert answer.shown_at.tolist() == [12]
    assert (answer.footage, answer.counted) == (expected.footage, expected.counted)
    np.testing.assert_array_equal(answer.rgb, expected.rgb)
    np.testing.assert_array_equal(answer.times_s, expected.times_s)
    refused = json.loads(stream.read(video.HEADER.unpack(stream.read(4))[0]))
    assert refused["kind"] == "missing"
    assert not stream.read()


def test_the_vocabulary_stands_in_the_docs() -> None:
    page = (Path(__file__).resolve().parent.parent / "docs" / "videos.md").read_text()
    for name, fault in CLASSES.items():
        assert f"| `{name}` | {fault.sentence} | {fault.remedy} |" in page


def test_a_header_with_wild_sizes_ends(tmp_path: Path) -> None:
    wild = tmp_path / "wild.webm"
    random = np.random.default_rng(1)
    good = webm()
    for _ in range(100):
        broken = bytearray(good)
        for position in random.integers(4, len(good), 5):
            broken[position] = random.integers(256)
        wild.write_bytes(broken)
        assert kind_of(wild)
