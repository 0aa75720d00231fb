"""Video files to pictures, guarded against broken and hostile files (the first arrow of the route).

``decode`` checks what a file is before its decoder opens it, and what is asked for before it is converted; the decoder
stands behind one small function, ``readers.open_reader``. ``python -m hojoint.labelling.video`` is the child process
that cluster.labelling.decoding keeps beside a network. Requests come in on stdin and answers leave on stdout, each a
length, a JSON header and, for an answer, raw pixels; so a decoder that hangs or crashes harms no other process. The
child imports no torch. Not here: boxes, clips, who restarts a child.
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
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from hojoint.labelling import containers, readers
from hojoint.labelling.collecting import Collected, Collector, Limits, Wanted, check_frame
from hojoint.labelling.faults import CLASSES, VideoError
from hojoint.labelling.readers import open_reader
from hojoint.records import Footage

__all__ = ["KINDS", "Decoded", "Limits", "VideoError", "decode", "open_reader"]

KINDS = tuple(CLASSES)
"""Every way in which a video can fail; some are seen outside the child only."""
HEADER = struct.Struct(">I")
READY = b"ready"  # what a child writes first
GRACE_S = 2  # an orphaned child that hangs ends itself this long after its deadline


@dataclass(frozen=True, eq=False)
class Decoded:
    """Pictures of one video, upright, at native size."""

    rgb: np.ndarray  # (T, H, W, 3) uint8
    numbers: np.ndarray  # (T,) int32, 0-based numbers of the pictures of ``rgb``, ascending
    times_s: np.ndarray | None  # (T,) float64 s, display times, the video's first picture at 0; None if not known
    shown_at: np.ndarray  # (K,) int32 number of the picture shown at each of the K asked times; -1 where there is none
    footage: Footage
    counted: int = 0  # the video has at least so many pictures, also where reading stopped before its end


def decode(
    path: str,
    numbers: Sequence[int] | None = None,
    *,
    times_s: Sequence[float] | None = None,
    limits: Limits | None = None,
    annotated_frames: int = 0,
    decoder: str = readers.DEFAULT,
) -> Decoded:
    """Decode pictures of a video file, or of a folder of pictures.

    Args:
        path: of the file or folder.
        numbers: 0-based picture numbers. Numbers beyond the last picture are left out of the answer.
        times_s: K times in s, the first picture at 0; the pictures shown at these times are added. Without numbers and
            times all pictures are returned.
        limits: what may be asked for; None means the defaults of ``Limits``.
        annotated_frames: length of the video's box list: at least this many pictures, less one, are counted if they
            are there. Whether list and video belong together is judged elsewhere (hojoint.datasets.box_fit).
        decoder: one of ``readers.MODULES``.

    Raises:
        VideoError: no picture decodes, or one up to the last asked for, or of the list, is damaged.
    """
    wanted = Wanted(numbers, times_s, annotated_frames)
    out = _collected(path, wanted, limits or Limits(), decoder)
    return Decoded(
        rgb=np.stack(out.rows) if out.rows else np.zeros((0, 0, 0, 3), np.uint8),
        numbers=np.asarray(out.numbers, np.int32),
        times_s=None if out.times_s is None else np.asarray(out.times_s, np.float64),
        shown_at=np.asarray(out.shown_at, np.int32),
        footage=out.footage,
        counted=out.counted,
    )


def _collected(path: str, wanted: Wanted, limits: Limits, decoder: str) -> Collected:
    try:
        if not os.path.isdir(path):
            _check_file(path)
        with closing(open_reader(path, decoder)) as reader:
            check_frame(reader.width, reader.height, limits)
            out = Collector(wanted, limits).collect(reader)
    except MemoryError:
        message = "decoding it needs more memory than labelling.decode_memory_mb allows"
        raise VideoError("too_large", message) from None
    except FileNotFoundError:
        raise VideoError("missing", "no such file") from None
    except OSError as error:
        raise VideoError("unreachable", f"the file cannot be read: {error.strerror or error}") from None
    if not out.counted:
        raise VideoError("no_pictures", "the picture track is empty")
    return out


def _check_file(path: str) -> None:
    facts = containers.inspect(path)
    if facts.cut:
        raise VideoError("truncated", "the file is shorter than its container says")
    if facts.damaged:
        raise VideoError("damaged", "data are missing inside the file: its parts do not follow each other")
    if facts.encrypted:
        raise VideoError("encrypted", "the pictures are encrypted")


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
            out = _collected(
                request["path"], Wanted(**request["wanted"]), Limits(**request["limits"]), request["decoder"]
            )  # fmt: skip
        except VideoError as error:
            answers.write(pack({"kind": error.kind, "message": str(error)}))
        else:
            answers.write(pack(_header(out)))
            for row in out.rows:  # one by one: joined, the child would hold them twice
                answers.write(np.ascontiguousarray(row).reshape(-1).data)
            del out
        answers.flush()
        signal.alarm(0)


def _header(out: Collected) -> dict[str, Any]:
    shape = (len(out.rows), *(out.rows[0].shape if out.rows else (0, 0, 3)))
    facts = {"numbers": out.numbers, "times_s": out.times_s, "shown_at": out.shown_at}
    return {"shape": shape, "footage": asdict(out.footage), "counted": out.counted, **facts}


def answer_of(header: dict[str, Any], pixels: bytes | bytearray) -> Decoded:
    """What a child answered; ``header`` holds no fault."""
    times = header["times_s"]
    return Decoded(
        rgb=np.frombuffer(pixels, np.uint8).reshape(header["shape"]),
        numbers=np.asarray(header["numbers"], np.int32),
        times_s=None if times is None else np.asarray(times, np.float64),
        shown_at=np.asarray(header["shown_at"], np.int32),
        footage=Footage(**header["footage"]),
        counted=header["counted"],
    )


def request_of(
    path: str,
    numbers: Sequence[int] | None,
    *,
    times_s: Sequence[float] | None = None,
    limits: Limits,
    annotated_frames: int,
    deadline_s: float,
    decoder: str = readers.DEFAULT,
) -> bytes:
    """A request as the child reads it."""
    wanted = Wanted(
        None if numbers is None else [int(number) for number in numbers],
        None if times_s is None else [float(time) for time in times_s],
        annotated_frames,
    )
    header = {"path": path, "wanted": asdict(wanted), "limits": asdict(limits), "decoder": decoder}
    return pack(header | {"deadline_s": deadline_s})


def main(argv: Sequence[str] | None = None) -> int:
    """Run as the child: load the decoder, take limits, move stdout out of the decoder's reach, serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory-mb", type=int, default=2048, help="address space beyond that of the libraries")
    parser.add_argument("--decoder", choices=tuple(readers.MODULES), default=readers.DEFAULT)
    arguments = parser.parse_args(argv)
    for decoder in {readers.DEFAULT, arguments.decoder}:  # before the first deadline runs
        readers.load(decoder)
    libraries = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (libraries + arguments.memory_mb * 2**20,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not write into the answers
    serve(sys.stdin.buffer, answers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
