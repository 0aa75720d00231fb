"""Videos in which every picture carries its number, made with PyAV and the ffmpeg program of imageio-ffmpeg.

A picture is 160 x 96 px, or odd: eight blocks, black or white, spell the number in the upper half (the lowest bit at
the left), and a grey ramp below tells up from down and left from right. So which picture was decoded, and how it was
turned, is seen without any decoder's word for it.
"""

from __future__ import annotations

import subprocess
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np

WIDTH, HEIGHT, BITS = 160, 96, 8
BLACK, WHITE = 30, 220


def marked(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """(H, W, 3) RGB with its number."""
    image = np.zeros((height, width, 3), np.uint8)
    image[height // 2 :] = np.linspace(60, 200, width, dtype=np.uint8)[None, :, None]
    for bit in range(BITS):
        level = WHITE if number >> bit & 1 else BLACK
        image[: height // 2, bit * width // BITS : (bit + 1) * width // BITS] = level
    return image


def number_in(image: np.ndarray) -> int:
    """The number that an upright marked picture shows; -1 where a block is neither black nor white."""
    height, width = image.shape[:2]
    number = 0
    for bit in range(BITS):
        left, right = bit * width // BITS, (bit + 1) * width // BITS
        middle = image[height // 8 : height * 3 // 8, left + 4 : right - 4].mean()
        if 90 < middle < 160:
            return -1
        number |= int(middle > 125) << bit
    return number


def ffmpeg(*words: object) -> bytes:
    """Run the program; what it writes to stdout."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-nostdin", *map(str, words)]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, (command, done.stderr.decode()[-500:])
    return done.stdout


def write_marked(
    path: Path,
    codec: str,
    pictures: int = 40,
    *,
    fps: int = 12,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    pixels: str = "yuv420p",
    times: list[int] | None = None,
    **options: str,
) -> Path:
    """Encode marked pictures with PyAV; ``times`` are their time stamps in 1/fps where they are not 0, 1, 2, ..."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps, options=options)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = *size, pixels, 800_000
        stream.codec_context.thread_count = 1
        for number in range(pictures):
            frame = av.VideoFrame.from_ndarray(marked(number, *size), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[number], Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_hidden(path: Path, encoder: str, pictures: int = 40) -> Path:
    """VP8 or VP9 with hidden pictures, which others refer to (alt-ref): encoders make them in two passes only."""
    source = write_marked(path.with_suffix(".source.mkv"), "libx264", pictures, crf="1")
    words = ("-auto-alt-ref", 1, "-lag-in-frames", 16, "-arnr-maxframes", 7, "-arnr-strength", 5, "-g", 20)
    for number in (1, 2):
        passes = ("-pass", number, "-passlogfile", path.with_suffix(".log"))
        ffmpeg("-i", source, "-c:v", encoder, "-b:v", "300k", *words, *passes, path)
    source.unlink()
    return path


def pictures_of_ffmpeg(path: Path, size: tuple[int, int]) -> np.ndarray:
    """(N, H, W, 3) RGB, ``size`` (width, height) as shown: what the ffmpeg program shows."""
    data = ffmpeg("-i", path, "-map", "0:v:0", "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    return np.frombuffer(data, np.uint8).reshape(-1, size[1], size[0], 3)
