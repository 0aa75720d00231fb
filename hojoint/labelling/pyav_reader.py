"""PyAV (FFmpeg): the default reader, right on every kind of file that was tried.

FFmpeg applies edit lists and drops hidden and discarded packets by itself when a file is read from its start. The
decoder is asked to name damage instead of concealing it. The library prints nothing. Not here: what a file is that
FFmpeg does not open (``containers``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

import av
import av.container
import av.error
import av.logging
import av.video.stream
import numpy as np

from hojoint.labelling import containers
from hojoint.labelling.faults import VideoError
from hojoint.labelling.orientation import UPRIGHT, Orientation, orientation_of
from hojoint.labelling.pictures import Picture

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"  # others, such as playlists, may name other files
STILL = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails  # cover art
FORGETS = ("mmco: unref short failure",)
NO_DECODER = (av.error.DecoderNotFoundError, av.error.PatchWelcomeError)


class PyavReader:
    """One file, decoded in one thread: each CPU share has a child already."""

    def __init__(self, path: str) -> None:
        self._container = opened(path)
        try:
            self._stream = stream_of(self._container)
            _check_index(self._container, self._stream)
            context = self._stream.codec_context
            if context is None:
                raise VideoError("unsupported_codec", f"no decoder for the codec {containers.codec_of(path)}")
            context.thread_count = 1
            context.options = {"err_detect": "explode"}
        except BaseException:
            self._container.close()
            raise
        self.width, self.height = context.width, context.height
        self.codec: str | None = context.codec.canonical_name
        self._avi = self._container.format.name == "avi"
        rate = self._stream.guessed_rate if self._avi else self._stream.average_rate
        self.rate = float(rate) if rate else None
        self.count: int | None = None

    def pictures(self) -> Iterator[Picture]:
        """In display order; raises VideoError before the first one that is damaged."""
        number = groups = rotation = 0
        orientation = UPRIGHT
        try:
            for packet in self._container.demux(self._stream):
                groups += packet.is_keyframe
                if self._avi and packet.size and not groups:
                    raise VideoError("damaged", "the first picture is not a complete one: those before it are missing")
                if packet.is_corrupt:
                    raise VideoError("damaged", f"the data after picture {number} are not complete")
                for frame in _frames(packet, groups):
                    if frame.is_corrupt:
                        raise VideoError("damaged", f"picture {number} is damaged, or refers to one that is")
                    if number == 0 or frame.rotation != rotation:
                        rotation, orientation = frame.rotation, _orientation(frame)
                    yield _picture(frame, orientation)
                    number += 1
        except NO_DECODER:
            message = f"no decoder for the codec {self.codec}, or for its profile {self._stream.profile}"
            raise VideoError("unsupported_codec", message) from None
        except av.error.MemoryError:
            raise MemoryError from None
        except av.error.FFmpegError:
            raise VideoError("damaged", f"the data after picture {number} do not decode") from None

    def close(self) -> None:
        self._container.close()


def opened(path: str) -> av.container.InputContainer:
    """The open file.

    Raises:
        VideoError: it cannot be opened.
    """
    try:
        return av.open(path, options={"format_whitelist": FORMATS}, metadata_errors="replace")
    except av.error.MemoryError:
        raise MemoryError from None
    except av.error.FFmpegError:
        raise VideoError("damaged", "the header of the file does not parse") from None


def stream_of(container: av.container.InputContainer) -> av.video.stream.VideoStream:
    """The picture track that a player shows: the first default one; cover art is no picture track."""
    tracks = [stream for stream in container.streams.video if not stream.disposition & STILL]
    if not tracks:
        raise VideoError("no_pictures", "the file holds no picture track (only sound?)")
    default = [track for track in tracks if track.disposition & av.stream.Disposition.default]
    return (default or tracks)[0]


def _check_index(container: av.container.InputContainer, stream: av.video.stream.VideoStream) -> None:
    """An MP4 file lists where each picture lies; one beyond its end is missing."""
    if "mp4" not in container.format.name:
        return
    size = container.size
    entries = [entry.pos + entry.size for entry in stream.index_entries]
    beyond = sum(end > size for end in entries)
    if beyond:
        raise VideoError("truncated", f"the file ends before {beyond} of the {len(entries)} pictures that it lists")


def _frames(packet: av.Packet, groups: int) -> list[av.VideoFrame]:
    """The pictures that are complete with this packet; ``groups`` counts the key pictures so far.

    A video that is cut inside open groups of pictures (H.264) tells its decoder, in its first group, to forget pictures
    before the cut. That is an error to a strict decoder and harms no picture; it is told by what the library says.
    """
    av.logging.set_skip_repeated(False)
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as said:
            return list(packet.decode())
    except av.error.InvalidDataError:
        if groups == 1 and said and all(message.strip() in FORGETS for _, _, message in said):
            return []  # its picture comes with a later packet
        raise
    finally:
        av.logging.set_level(None)


def _orientation(frame: av.VideoFrame) -> Orientation:
    """By the display matrix. A frame whose side data were read is never freed (PyAV 18), so a tiny copy is asked."""
    tiny = frame.reformat(width=16, height=16, interpolation="POINT", threads=1)
    matrix: Any = tiny.side_data.get("DISPLAYMATRIX")
    return UPRIGHT if matrix is None else orientation_of(np.frombuffer(matrix, np.int32))


def _picture(frame: av.VideoFrame, orientation: Orientation) -> Picture:
    base = frame.time_base
    return Picture(
        rgb=partial(_rgb, frame, orientation),
        width=frame.width,
        height=frame.height,
        time_s=None if frame.pts is None or base is None else float(frame.pts * base),
        lasts_s=float(frame.duration * base) if frame.duration and base is not None else None,
        orientation=orientation,
    )


def _rgb(frame: av.VideoFrame, orientation: Orientation) -> np.ndarray:
    # One thread: by default each frame starts some of its own, and they live as long as it does.
    return orientation.applied(frame.reformat(format="rgb24", threads=1).to_ndarray())


@dataclass(frozen=True)
class Shown:
    """What the packets of a file say of its pictures, without decoding more than the first."""

    times_s: list[float | None]  # time stamp of each shown picture, ascending; all None where one has no stamp
    orientation: Orientation
    width: int  # px, as shown
    height: int
    codec: str | None
    rate: float | None


def shown_in(path: str) -> Shown:
    """Count the pictures of a file by its packets, for readers that may count in another way than a person does.

    Raises:
        VideoError: the file cannot be opened, or holds no picture.
    """
    with closing(PyavReader(path)) as reader:
        first = next(reader.pictures(), None)
    if first is None:
        raise VideoError("no_pictures", "the picture track is empty")
    with opened(path) as container:
        try:
            packets = [
                (packet.pts, packet.is_keyframe, packet.is_discard)
                for packet in container.demux(stream_of(container))
                if packet.size and is_shown(str(reader.codec), bytes(packet))
            ]
        except av.error.FFmpegError:
            raise VideoError("damaged", "the packets of the file cannot be read") from None
        base = stream_of(container).time_base
    times = _times(packets, base)
    height, width = first.rgb().shape[:2]
    return Shown(
        times_s=times,
        orientation=first.orientation,
        width=width,
        height=height,
        codec=reader.codec,
        rate=reader.rate,
    )


def _times(packets: list[tuple[int | None, bool, bool]], base: Fraction | None) -> list[float | None]:
    """Time stamps of the shown pictures, ascending; of packets with their stamp, whether key, and whether discarded.

    Pictures that a cut left undecodable are not shown. They come after the first key picture and have an earlier
    stamp, or, where that was rounded away, the same or none.
    """
    if base is None or all(stamp is None for stamp, _, _ in packets):
        return [None for _, _, discarded in packets if not discarded]
    start = next((stamp for stamp, key, _ in packets if key and stamp is not None), 0)
    times = [
        float(stamp * base)
        for stamp, key, discarded in packets
        if stamp is not None and not discarded and (stamp > start or (key and stamp == start))
    ]
    return [*sorted(times)]


def is_shown(codec: str, packet: bytes) -> bool:
    """Whether a packet holds a picture that is shown; VP8 and VP9 have hidden ones, which others refer to.

    The bits are those of RFC 6386 (9.1) and of the VP9 bitstream specification (6.2). A VP9 superframe shows its last
    frame.
    """
    if codec == "vp8":
        return bool(packet[0] >> 4 & 1)
    if codec == "vp9" and packet[-1] >> 5 != 0b110:
        bits = packet[0] << 8 | packet[1] if len(packet) > 1 else packet[0] << 8
        after = 5 if bits >> 12 & 3 == 3 else 4  # profile 3 has a reserved bit
        shows_existing = bits >> (15 - after) & 1
        return bool(shows_existing or bits >> (15 - after - 2) & 1)
    return True
