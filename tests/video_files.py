"""Small video files for tests, good and broken, made by OpenCV and by hand (no ffmpeg program, no network)."""

from __future__ import annotations

import functools
import os
import struct
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest

WIDTH, HEIGHT, FPS = 96, 64, 12


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """(H, W, 3) RGB: frame ``number`` has its grey level and bar position, so that frames differ."""
    image = np.full((height, width, 3), 40 + 8 * number % 160, np.uint8)
    left = 3 * number % (width - 8)
    image[height // 4 : height // 2, left : left + 8] = (250, 30, 30)
    return image


def write_video(
    path: Path, frames: int = 20, *, width: int = WIDTH, height: int = HEIGHT, fps: float = FPS, seed: int | None = None
) -> Path:
    """A VP9 WebM or an MPEG-4 MP4 of ``picture``s; a seed adds noise, as real videos have."""
    path.write_bytes(_encoded(path.suffix, frames, width, height, fps, seed))
    return path


@functools.cache  # many tests ask for the same few videos; each gets files of its own
def _encoded(suffix: str, frames: int, width: int, height: int, fps: float, seed: int | None) -> bytes:
    code = cv2.VideoWriter.fourcc(*("VP90" if suffix == ".webm" else "mp4v"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"video{suffix}"
        writer = cv2.VideoWriter(str(path), code, fps, (width, height))
        assert writer.isOpened(), "this OpenCV cannot write video"
        random = np.random.default_rng(seed)
        for number in range(frames):
            image = picture(number, width, height)
            if seed is not None:
                image = cv2.add(image, random.integers(0, 40, image.shape, dtype=np.uint8))
            writer.write(np.ascontiguousarray(image[..., ::-1]))
        writer.release()
        return path.read_bytes()


def element(name: int, content: bytes) -> bytes:
    """An EBML element with an eight-byte size."""
    return name.to_bytes((name.bit_length() + 7) // 8, "big") + struct.pack(">Q", 1 << 56 | len(content)) + content


def webm(*, kind: int = 1, width: int = WIDTH, height: int = HEIGHT, ticks: float = 1000.0, first: int = 0) -> bytes:
    """A WebM header with one track (1 pictures, 2 sound) and an empty cluster: enough to be probed."""
    number = lambda name, value: element(name, value.to_bytes(4, "big"))  # noqa: E731
    info = number(0x2AD7B1, 1_000_000) + element(0x4489, struct.pack(">d", ticks))
    codec = element(0x86, b"V_VP9" if kind == 1 else b"A_OPUS")
    track = number(0xD7, 1) + number(0x83, kind) + codec + element(0xE0, number(0xB0, width) + number(0xBA, height))
    cluster = element(0x1F43B675, number(0xE7, first))
    segment = element(0x1549A966, info) + element(0x1654AE6B, element(0xAE, track)) + cluster
    return element(0x1A45DFA3, element(0x4282, b"webm")) + element(0x18538067, segment)


def write_broken(folder: Path, good: Path) -> dict[str, str]:
    """Files without readable frames, one per fault; returns the expected class of each id."""
    content = good.read_bytes()
    (folder / "junk.webm").write_bytes(np.random.default_rng(0).bytes(5000))
    (folder / "empty.webm").write_bytes(b"")
    (folder / "half.webm").write_bytes(content[: len(content) // 2])
    (folder / "sound.webm").write_bytes(webm(kind=2))
    (folder / "huge.webm").write_bytes(webm(width=12000, height=12000))
    (folder / "nothing.webm").write_bytes(webm())  # a header that promises frames, and no frames
    os.mkfifo(folder / "hang.webm")  # opening a pipe without a writer never returns
    return {
        "junk": "not_video",
        "empty": "not_video",
        "half": "truncated",
        "sound": "no_pictures",
        "huge": "too_large",
        "nothing": "no_pictures",
        "hang": "timeout",
    }


@pytest.fixture
def good_video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "good.webm")
