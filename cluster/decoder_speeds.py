"""Speed of the decoders of video that are installed, on generated films, one thread each.

The ratio is to decord's random access, which reads fast and, on some kinds of video, the wrong pictures; so it is
measured and not offered. Not here: the benchmarks of the jobs (``benchmarks``), which take turns with these.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np

from hojoint.errors import InputError
from hojoint.labelling import readers
from hojoint.labelling.video import Limits, VideoError, decode

FILMS = {  # name -> encoder, width and height, its options
    "240p VP9": ("libvpx-vp9", (427, 240), {"deadline": "good", "cpu-used": "5"}),
    "1080p H.264": ("libx264", (1920, 1080), {"preset": "fast"}),
    "1080p HEVC": ("libx265", (1920, 1080), {"preset": "fast", "x265-params": "log-level=none"}),
}
RANDOM_ACCESS = "decord, random access"


def write_film(path: Path, encoder: str, size: tuple[int, int], pictures: int, options: dict[str, str]) -> bool:
    """A moving pattern with noise; whether this build of FFmpeg has the encoder."""
    width, height = size
    random = np.random.default_rng(0)
    noise = random.integers(0, 40, (height, width, 3), dtype=np.uint8)
    coarse = np.kron(
        random.integers(0, 200, (12, 16, 3), dtype=np.uint8), np.ones((height // 12 + 1, width // 16 + 1, 1))
    )
    still = coarse[:height, :width].astype(np.uint8)
    try:
        with av.open(str(path), "w") as container:
            stream: Any = container.add_stream(encoder, rate=12, options=options)
            stream.width, stream.height = width - width % 2, height
            stream.pix_fmt = "yuv420p"
            for number in range(pictures):
                image = np.roll(still, 5 * number, axis=1) + np.roll(noise, 7 * number, axis=0)
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:, : stream.width]), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    except av.codec.codec.UnknownCodecError:
        path.unlink(missing_ok=True)
        return False
    return True


def parts(folder: Path, pictures: int) -> dict[str, Callable[[], float]]:
    """Measurements by name, '<film>: <decoder>', each in pictures per second; films are written first."""
    out: dict[str, Callable[[], float]] = {}
    for name, (encoder, size, options) in FILMS.items():
        path = folder / f"{encoder}.mkv"
        if not write_film(path, encoder, size, pictures, options):
            print(f"{name}: left out, this build of FFmpeg has no encoder {encoder}")
            continue
        for decoder in readers.MODULES:
            measure = functools.partial(_in_order, str(path), decoder)
            if _works(measure, f"{name}: {decoder}"):
                out[f"{name}: {decoder}"] = measure
        by_chance = functools.partial(_by_random_access, str(path), pictures)
        if _works(by_chance, f"{name}: {RANDOM_ACCESS}"):
            out[f"{name}: {RANDOM_ACCESS}"] = by_chance
    return out


def ratios(medians: dict[str, float]) -> dict[str, float]:
    """Each decoder's speed as a share of decord's random access on the same film."""
    out = {}
    for name, speed in medians.items():
        film, _, decoder = name.partition(": ")
        base = medians.get(f"{film}: {RANDOM_ACCESS}")
        if base is not None and decoder != RANDOM_ACCESS:
            out[name] = round(speed / base, 2)
    return out


def _works(measure: Callable[[], float], name: str) -> bool:
    """Run it once, which also warms it up."""
    try:
        measure()
    except (ImportError, InputError, RuntimeError, VideoError) as error:
        print(f"{name}: left out, {str(error).splitlines()[0][:150]}")
        return False
    return True


def _in_order(path: str, decoder: str) -> float:
    readers.load(decoder)
    began = time.perf_counter()
    decoded = decode(path, decoder=decoder, limits=Limits(decoded_bytes=2**40))
    return len(decoded.numbers) / (time.perf_counter() - began)


def _by_random_access(path: str, pictures: int) -> float:
    import decord

    began = time.perf_counter()
    reader = decord.VideoReader(path, ctx=decord.cpu(0), num_threads=1)
    rgb = reader.get_batch(list(range(pictures))).asnumpy()
    return len(rgb) / (time.perf_counter() - began)
