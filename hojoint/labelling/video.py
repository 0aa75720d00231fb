"""Video files to frames, guarded against broken and hostile files (the first arrow of the route).

``decode`` checks kind, size and frame count around a decoder that stands behind one small function, ``open_reader``.
``python -m hojoint.labelling.video`` is the child process that cluster.labelling.decoding keeps beside a network.
Requests come in on stdin and answers leave on stdout, each a length, a JSON header and, for an answer, raw pixels; so a
decoder that hangs or crashes harms no other process. The child imports no torch. Not here: boxes, clips, who restarts
a child.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import struct
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO, Protocol

import numpy as np

from hojoint.labelling import containers

KINDS = ("missing", "not_video", "unreadable", "truncated", "too_large", "timeout", "crashed")
"""Every way in which a video can fail; 'timeout' and 'crashed' are seen outside the child only."""
HEADER = struct.Struct(">I")
READY = b"ready"  # what a child writes first
GRACE_S = 2  # an orphaned child that hangs ends itself this long after its deadline


class VideoError(Exception):
    """A video without usable frames: ``kind`` is one of ``KINDS``, the message says what was found."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Limits:
    """What a file may ask for before it is refused as too large."""

    frame_px: int = 4_000_000
    frames: int = 2000
    decoded_bytes: int = 2**30


@dataclass(frozen=True, eq=False)
class Decoded:
    """Frames of one video, at native size."""

    rgb: np.ndarray  # (T, H, W, 3) uint8
    numbers: np.ndarray  # (T,) int32, the 0-based frame numbers of ``rgb``, ascending
    count: int  # frames of the complete video
    fps: float


class Reader(Protocol):
    """What a decoder must offer. Frame numbers are 0-based, in display order."""

    def __len__(self) -> int: ...

    @property
    def fps(self) -> float: ...

    def read(self, numbers: Sequence[int]) -> np.ndarray:
        """(T, H, W, 3) uint8 RGB."""


class DecordReader:
    """decord, on one thread: each CPU share has a child already."""

    def __init__(self, path: str) -> None:
        import decord

        self._video = decord.VideoReader(path, ctx=decord.cpu(0), num_threads=1)

    def __len__(self) -> int:
        return len(self._video)

    @property
    def fps(self) -> float:
        return float(self._video.get_avg_fps())

    def read(self, numbers: Sequence[int]) -> np.ndarray:
        return self._video.get_batch(list(numbers)).asnumpy()


def open_reader(path: str) -> Reader:
    """The one function that names a decoder: here another one (torchcodec) replaces decord."""
    return DecordReader(path)


def decode(
    path: str, numbers: Sequence[int] | None = None, *, limits: Limits | None = None, annotated_frames: int = 0
) -> Decoded:
    """Decode frames of a video file.

    Args:
        path: of the file.
        numbers: 0-based frame numbers; None means all. Numbers beyond the last frame are left out of the answer.
        limits: what the file may ask for; None means the defaults of ``Limits``.
        annotated_frames: length of the video's box list; the video must hold at least this many, less one.

    Raises:
        VideoError: no frame decodes, or fewer than the header or the annotation lists.
    """
    limits = limits or Limits()
    header = _checked_header(path, limits)
    try:
        reader = open_reader(path)
        count, fps = len(reader), reader.fps
        _check_count(header, count, fps, annotated_frames)
        chosen = sorted({n for n in range(count) if numbers is None} | {n for n in numbers or () if 0 <= n < count})
        _check_size(header, len(chosen), limits)
        shape = (0, header.height, header.width, 3)
        rgb = reader.read(chosen) if chosen else np.zeros(shape, np.uint8)
    except VideoError:
        raise
    except MemoryError:
        raise VideoError("too_large", "decoding it needs more memory than labelling.decode_memory_mb allows") from None
    except Exception as error:  # decord's RuntimeError and DECORDError share no narrower base
        raise VideoError("unreadable", _first_line(error)) from None
    return Decoded(rgb, np.asarray(chosen, np.int32), count, fps)


def _checked_header(path: str, limits: Limits) -> containers.Header:
    try:
        header = containers.read_header(path)
    except FileNotFoundError:
        raise VideoError("missing", "no such file") from None
    except containers.NotAVideo as error:
        raise VideoError("not_video", str(error)) from None
    except containers.BrokenHeader as error:
        raise VideoError("unreadable", str(error)) from None
    except OSError as error:
        raise VideoError("unreadable", error.strerror or str(error)) from None
    if header.cut:
        raise VideoError("truncated", "the file is shorter than its header says")
    _check_size(header, header.frames or 0, limits)
    return header


def _check_size(header: containers.Header, frames: int, limits: Limits) -> None:
    pixels = header.width * header.height
    if pixels > limits.frame_px:
        size = f"{header.width} x {header.height} px"
        raise VideoError("too_large", f"{size}; labelling.max_frame_px={limits.frame_px}")
    if frames > limits.frames:
        raise VideoError("too_large", f"{frames} frames; labelling.max_frames={limits.frames}")
    if frames * pixels * 3 > limits.decoded_bytes:
        raise VideoError("too_large", f"{frames} frames of {header.width} x {header.height} px do not fit in memory")


def _check_count(header: containers.Header, count: int, fps: float, annotated_frames: int) -> None:
    """A header may list one frame more than the file holds (real files do); two are missing frames."""
    listed = header.frames
    if listed is None and header.seconds is not None and fps > 0:
        listed = round(header.seconds * fps)
    if listed is not None and count < listed - 1:
        raise VideoError("truncated", f"expected {listed} frames by the file's header, found {count}")
    if count < annotated_frames - 1:
        raise VideoError("truncated", f"expected {annotated_frames} annotated frames, found {count}")


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    # decord begins with a time stamp, a source line and the path, in brackets.
    return lines[0].rsplit("] ", 1)[-1][:300] if lines else type(error).__name__


# The child process.


def pack(header: dict[str, Any]) -> bytes:
    """A header as it goes through a pipe."""
    text = json.dumps(header).encode()
    return HEADER.pack(len(text)) + text


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until stdin ends, which it does when the parent goes away."""
    answers.write(READY)
    answers.flush()
    while len(prefix := requests.read(HEADER.size)) == HEADER.size:
        request = json.loads(requests.read(HEADER.unpack(prefix)[0]))
        # The parent kills a child at its deadline; this ends one whose parent was killed first.
        signal.alarm(int(request["deadline_s"]) + GRACE_S)
        try:
            decoded = decode(
                request["path"],
                request["numbers"],
                limits=Limits(**request["limits"]),
                annotated_frames=request["annotated_frames"],
            )
        except VideoError as error:
            answers.write(pack({"kind": error.kind, "message": str(error)}))
        else:
            header = {"shape": decoded.rgb.shape, "numbers": decoded.numbers.tolist()}
            answers.write(pack(header | {"count": decoded.count, "fps": decoded.fps}))
            answers.write(np.ascontiguousarray(decoded.rgb).reshape(-1).data)
        answers.flush()
        signal.alarm(0)


def request_of(
    path: str, numbers: Sequence[int] | None, *, limits: Limits, annotated_frames: int, deadline_s: float
) -> bytes:
    """A request as the child reads it."""
    plain = None if numbers is None else [int(n) for n in numbers]
    header = {"path": path, "numbers": plain, "limits": asdict(limits)}
    return pack(header | {"annotated_frames": annotated_frames, "deadline_s": deadline_s})


def main(argv: Sequence[str] | None = None) -> int:
    """Run as the child: take limits, move stdout out of the decoder's reach, serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory-mb", type=int, default=2048, help="limit of the address space")
    arguments = parser.parse_args(argv)
    resource.setrlimit(resource.RLIMIT_AS, (arguments.memory_mb * 2**20,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import decord  # noqa: F401  before the first deadline runs

    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not write into the answers
    serve(sys.stdin.buffer, answers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
