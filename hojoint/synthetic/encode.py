"""Pictures to a video file as Something-Something v2 has them: WebM, VP9 profile 0, yuv420p, 12 fps, no audio.

decord and PyAV each carry a libvpx with the same symbol names, and the first one loaded serves both; the encoder cannot
work with decord's. In a process that loaded decord first, a child (this file as a script) encodes instead.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

FPS = 12
OPTIONS = {"deadline": "realtime", "cpu-used": "8", "crf": "32", "b": "0", "threads": "1"}
DECORD_CAME_FIRST = "decord" in sys.modules


def encode(path: Path, rgb: list[np.ndarray], first: int = 0, fps: float = FPS) -> None:
    """Write frames (H, W, 3) uint8; the first has number ``first``. The same pictures give the same bytes."""
    height, width = rgb[0].shape[:2]
    temporary = path.with_suffix(".part")
    if DECORD_CAME_FIRST:
        arguments = [sys.executable, __file__, str(temporary), str(width), str(height), str(first), str(fps)]
        subprocess.run(arguments, input=b"".join(frame.tobytes() for frame in rgb), check=True)
    else:
        _write(temporary, rgb, width, height, first, fps)
    temporary.rename(path)


def _write(path: Path, frames: Iterable[np.ndarray], width: int, height: int, first: int, fps: float) -> None:
    rate = Fraction(fps).limit_denominator(1001)
    with av.open(str(path), "w", format="webm", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libvpx-vp9", rate=rate, options=OPTIONS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.flags |= av.codec.context.Flags.bitexact
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number + first, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _child() -> None:
    path, (width, height, first), fps = Path(sys.argv[1]), map(int, sys.argv[2:5]), float(sys.argv[5])
    frames = np.frombuffer(sys.stdin.buffer.read(), dtype=np.uint8).reshape(-1, height, width, 3)
    _write(path, frames, width, height, first, fps)


if __name__ == "__main__":
    _child()
