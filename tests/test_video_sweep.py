"""No picture under another number, in more than two hundred generated videos of every kind that people bring.

Each picture carries its number, so the truth is known by construction; the ffmpeg program is the second, independent
answer. ``pytest -s`` prints the counts by kind.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from marked_videos import HEIGHT, WIDTH, ffmpeg, number_in, pictures_of_ffmpeg, write_hidden, write_marked

from hojoint.labelling.orientation import UPRIGHT, Orientation
from hojoint.labelling.video import VideoError, decode

pytestmark = pytest.mark.slow  # about two minutes

PICTURES = 40
OPEN = "keyint=10:min-keyint=10:open-gop=1:bframes=3:scenecut=0"
QUIET = "log-level=none:pools=1"
CODECS = {  # name -> encoder, its options, containers
    "h264 closed": ("libx264", {"g": "10", "bf": "0"}, "mp4 mov mkv avi m4v"),
    "h264 B-frames": ("libx264", {"g": "12", "bf": "3", "x264-params": "b-pyramid=normal"}, "mp4 mov mkv m4v"),
    "h264 open GOP": ("libx264", {"x264-params": OPEN}, "mp4 mov mkv"),
    "hevc closed": ("libx265", {"x265-params": f"{QUIET}:keyint=10:open-gop=0"}, "mp4 mov mkv"),
    "hevc open GOP": ("libx265", {"x265-params": f"{QUIET}:{OPEN}"}, "mp4 mov mkv"),
    "vp8 hidden": ("libvpx", {}, "webm mkv"),
    "vp9 hidden": ("libvpx-vp9", {}, "webm mkv mp4"),
    "mpeg4 B-frames": ("mpeg4", {"g": "10", "bf": "2"}, "mp4 mov mkv"),
    "mpeg4": ("mpeg4", {"g": "10"}, "avi mp4 m4v"),
    "mjpeg": ("mjpeg", {}, "avi mov mkv"),
    "prores": ("prores_ks", {}, "mov mkv"),
    "av1": ("libsvtav1", {"preset": "10", "g": "20", "svtav1-params": "lp=1"}, "mp4 mkv webm"),
}
PIXELS = {"mjpeg": "yuvj420p", "prores_ks": "yuv422p10le"}
TURNS = {  # ffmpeg's words -> what a person sees
    (90, ""): Orientation(270), (180, ""): Orientation(180), (270, ""): Orientation(90),
    (0, "h"): Orientation(0, True), (0, "v"): Orientation(180, True),
    (90, "h"): Orientation(270, True), (270, "h"): Orientation(90, True),
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A video and what is known of it."""

    kind: str
    path: Path
    numbers: list[int] | None  # of the pictures that are shown; None where the ffmpeg program tells
    orientation: Orientation = UPRIGHT
    size: tuple[int, int] = (WIDTH, HEIGHT)  # as coded


def bases(folder: Path) -> Iterator[tuple[str, str, Path]]:
    """(kind, container, file) of each codec; an encoder that this build lacks is left out with a word."""
    for kind, (encoder, options, containers) in CODECS.items():
        for container in containers.split():
            path = folder / f"{kind.replace(' ', '_')}.{container}"
            try:
                if "hidden" in kind:
                    write_hidden(path, encoder, PICTURES)
                else:
                    write_marked(path, encoder, PICTURES, pixels=PIXELS.get(encoder, "yuv420p"), **options)
            except ValueError as error:
                print(f"{kind}: not encoded here ({error})")
                break
            yield kind, container, path


def cases(folder: Path) -> Iterator[Case]:
    everything = list(range(PICTURES))
    files = list(bases(folder))
    for kind, container, path in files:
        yield Case(f"{kind}, {container}", path, everything)
        yield from trimmed(kind, container, path)
        if container in ("mp4", "mov"):
            yield from turned(kind, container, path)
            if container == "mp4":
                yield from fragmented(kind, path)
    yield from odd_ones(folder)


def trimmed(kind: str, container: str, path: Path) -> Iterator[Case]:
    """Cut without encoding again: an edit list in MP4; from a key picture on elsewhere."""
    for start, length in ((0.5, None), (1.3, 1.5), (0.0, 2.0)):
        cut = path.with_name(f"{path.stem}-{start}-{length}.{container}")
        limit = ("-t", length) if length else ()
        ffmpeg("-ss", start, "-i", path, *limit, "-c", "copy", cut)
        yield Case(f"{kind}, {container}, trimmed", cut, None)


def turned(kind: str, container: str, path: Path) -> Iterator[Case]:
    for (degrees, mirror), orientation in TURNS.items():
        out = path.with_name(f"{path.stem}-{degrees}{mirror}.{container}")
        flips = [word for letter in mirror for word in (f"-display_{letter}flip",)]
        ffmpeg("-display_rotation", degrees, *flips, "-i", path, "-c", "copy", out)
        yield Case(f"{kind}, {container}, turned", out, list(range(PICTURES)), orientation)


def fragmented(kind: str, path: Path) -> Iterator[Case]:
    out = path.with_name(f"{path.stem}-fragments.mp4")
    ffmpeg("-i", path, "-c", "copy", "-movflags", "frag_keyframe+empty_moov+default_base_moof", out)
    yield Case(f"{kind}, mp4, fragmented", out, list(range(PICTURES)))


def odd_ones(folder: Path) -> Iterator[Case]:
    """Other rates, variable rate, odd sizes, sound that is longer, a stream that nobody could seek in."""
    everything = list(range(PICTURES))
    gaps = list(itertools.accumulate([0, *([1, 1, 3, 1, 7] * PICTURES)]))[:PICTURES]
    for codec, container in (("libx264", "mp4"), ("libx264", "mkv"), ("libvpx-vp9", "webm"), ("libvpx", "webm")):
        for fps in (24, 30, 60):
            path = folder / f"rate-{codec}-{fps}.{container}"
            yield Case(f"{codec}, {fps} fps", write_marked(path, codec, PICTURES, fps=fps), everything)
        path = folder / f"vfr-{codec}.{container}"
        yield Case(f"{codec}, variable rate", write_marked(path, codec, PICTURES, times=gaps), everything)
        loud = folder / f"loud-{codec}.{container}"
        tone = ("-f", "lavfi", "-i", "sine=d=9")
        ffmpeg("-i", path, *tone, "-c:v", "copy", "-c:a", "libopus", "-map", "0:v", "-map", "1:a", loud)
        yield Case(f"{codec}, longer sound", loud, everything)
        piped = folder / f"piped-{codec}.{container}"
        live = ("-f", "mp4", "-movflags", "frag_keyframe+empty_moov") if container == "mp4" else ("-f", "matroska")
        piped.write_bytes(ffmpeg("-i", path, "-c", "copy", *live, "-"))
        yield Case(f"{codec}, streamed", piped, everything)
    for size in ((161, 97), (163, 96), (162, 98)):
        pixels = "yuv444p" if size[0] % 2 else "yuv420p"
        for codec, container in (("libx264", "mp4"), ("libvpx-vp9", "webm"), ("libx264", "mkv")):
            path = folder / f"odd-{codec}-{size[0]}.{container}"
            yield Case("odd size", write_marked(path, codec, PICTURES, size=size, pixels=pixels), everything, size=size)


def upright(image: np.ndarray, orientation: Orientation) -> np.ndarray:
    """The coded picture again: the turn undone."""
    plain = image[:, ::-1] if orientation.mirrored else image
    return np.rot90(plain, orientation.rotation_deg // 90)


def of_decord(case: Case, expected: list[int]) -> str:
    """decord is right or refuses a video by name; it is never silently wrong."""
    try:
        decoded = decode(str(case.path), decoder="decord")
    except VideoError as error:
        return error.kind
    numbers = [number_in(upright(image, case.orientation)) for image in decoded.rgb]
    return "right" if numbers == expected else "wrong"


def test_no_picture_has_another_number_in_any_kind_of_video(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SVT_LOG", "1")  # the encoder of AV1 prints its life
    counts: Counter[str] = Counter()
    wrong, refused, pictures, others = [], [], 0, Counter()
    for case in cases(tmp_path):
        counts[case.kind.partition(",")[0]] += 1
        try:
            decoded = decode(str(case.path), annotated_frames=len(case.numbers or ()))
        except VideoError as error:
            refused.append(f"{case.kind} ({case.path.name}): {error.kind}: {error}")
            continue
        quarter = case.orientation.rotation_deg % 180 == 90
        shown = pictures_of_ffmpeg(case.path, case.size[::-1] if quarter else case.size)
        numbers = [number_in(upright(image, case.orientation)) for image in decoded.rgb]
        expected = case.numbers or [number_in(image) for image in shown]
        pictures += len(numbers)
        others[of_decord(case, expected)] += 1
        same = decoded.rgb.shape == shown.shape and np.abs(decoded.rgb.astype(int) - shown).mean((1, 2, 3)).max() < 6
        footage = (decoded.footage.pictures, decoded.footage.rotation_deg)
        if numbers != expected or not same or footage != (len(expected), case.orientation.rotation_deg):
            wrong.append(f"{case.kind} ({case.path.name}): {numbers} for {expected}, {footage}, like ffmpeg {same}")
    print("", *(f"{count:4d}  {kind}" for kind, count in counts.items()), sep="\n")
    print(f"{counts.total()} videos, {pictures} pictures, {len(wrong)} wrong, {len(refused)} refused")
    print(f"decord: {dict(others)}")
    assert not wrong, "\n".join(wrong)
    assert others["wrong"] == 0
    assert not refused, "\n".join(refused)
    assert counts.total() >= 200
