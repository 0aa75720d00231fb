"""decord and torchcodec: readers that count pictures in a way of their own, held against the file's packets.

Both read in order from the start, because their random access trusts seeking. The pictures that a person sees are
counted by PyAV without decoding; a reader that counts others, shows another time, or would not turn a picture rightly
is refused by name. Neither is ever silently wrong; both refuse files that PyAV reads. Not here: PyAV (``pyav_reader``).
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from hojoint.labelling import pyav_reader
from hojoint.labelling.faults import VideoError
from hojoint.labelling.pictures import Picture

TURNING = (0, 11)  # the first torchcodec that applies the display matrix
SAME_S = 0.002  # two time stamps that are one: containers round to milliseconds


class _CheckedReader:
    """What both share: the facts of the packets, and the checks of each picture."""

    name = ""

    def __init__(self, path: str) -> None:
        self._shown = pyav_reader.shown_in(path)
        self.width, self.height = self._shown.width, self._shown.height
        self.codec, self.rate = self._shown.codec, self._shown.rate
        self.count: int | None = len(self._shown.times_s)
        if self._shown.orientation.mirrored:
            raise VideoError("unsupported_rotation", f"{self.name} does not mirror; labelling.decoder=pyav does")

    def _check_count(self, count: int) -> None:
        if count != self.count:
            raise self._differs(f"{self.name} counts {count} pictures, the file shows {self.count}")

    def _differs(self, found: str) -> VideoError:
        return VideoError("decoder_differs", f"{found}; labelling.decoder=pyav reads it")

    def _checked(self, rgb: np.ndarray) -> np.ndarray:
        if rgb.shape[:2] != (self.height, self.width):
            expected = f"{self.width} x {self.height}"
            raise self._differs(f"{self.name} returns pictures of {rgb.shape[1]} x {rgb.shape[0]} px, not {expected}")
        return rgb

    def _picture(self, number: int, rgb: Callable[[], np.ndarray]) -> Picture:
        times: Sequence[float | None] = self._shown.times_s
        return Picture(rgb, self.width, self.height, times[number], None, self._shown.orientation)

    def _failed(self, number: int) -> VideoError:
        return VideoError("damaged", f"{self.name} cannot decode the data after picture {number}")

    def close(self) -> None:
        """The libraries close their file with the last reference."""


class DecordReader(_CheckedReader):
    """decord, on one thread, read in order only."""

    name = "decord"

    def __init__(self, path: str) -> None:
        super().__init__(path)
        import decord

        try:
            self._video: Any = decord.VideoReader(path, ctx=decord.cpu(0), num_threads=1)
        except MemoryError:
            raise
        except Exception:  # decord's RuntimeError and DECORDError share no narrower base
            raise self._differs("decord does not open the file") from None
        self._check_count(len(self._video))

    def pictures(self) -> Iterator[Picture]:
        """In display order."""
        for number in range(len(self._video)):
            try:
                array = self._video.next().asnumpy()
            except MemoryError:
                raise
            except Exception:
                raise self._failed(number) from None
            yield self._picture(number, partial(self._checked, array))


class TorchcodecReader(_CheckedReader):
    """torchcodec in its exact mode, which reads all packets first; each picture's time stamp is checked."""

    name = "torchcodec"

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._check_turn()
        from torchcodec.decoders import VideoDecoder

        try:
            self._video: Any = VideoDecoder(path, seek_mode="exact", num_ffmpeg_threads=1, dimension_order="NHWC")
        except (RuntimeError, ValueError):
            raise self._differs("torchcodec does not open the file") from None
        self._check_count(len(self._video))

    def _check_turn(self) -> None:
        """The pictures do not show that a half turn, or a quarter turn of a square, was left out."""
        if not self._shown.orientation.rotation_deg:
            return
        version = importlib.metadata.version("torchcodec")
        found = re.match(r"(\d+)\.(\d+)", version)
        if found is None or (int(found[1]), int(found[2])) < TURNING:
            first = ".".join(map(str, TURNING))
            raise VideoError(
                "unsupported_rotation",
                f"torchcodec {version} does not turn pictures; torchcodec {first} and labelling.decoder=pyav do",
            )

    def pictures(self) -> Iterator[Picture]:
        """In display order; raises VideoError where a picture has another time stamp than the file gives it."""
        for number, time_s in enumerate(self._shown.times_s):
            try:
                frame = self._video.get_frame_at(number)
            except (RuntimeError, IndexError):
                raise self._failed(number) from None
            if time_s is not None and abs(frame.pts_seconds - time_s) > SAME_S:
                raise self._differs(f"torchcodec returns second {frame.pts_seconds:.3f} for picture {number}")
            yield self._picture(number, partial(self._checked, frame.data.numpy()))
