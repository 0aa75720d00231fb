"""Which pictures of a video are kept: those with the numbers asked for, and those shown at the times asked for.

A video is read from its first picture on, once; only kept pictures are converted. Picture n is shown from its time
stamp until the next one's; the first picture is at second 0, the last one lasts as long as it says, or the mean. After
the last kept picture reading continues without conversion, to count pictures, but not through a long video: at most to
``COUNT_FACTOR`` times the pictures asked for, never by the clock. What was counted so far is known in any case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from hojoint.labelling.faults import VideoError
from hojoint.labelling.pictures import Picture, Reader
from hojoint.records import Footage

COUNT_FACTOR, COUNT_MORE = 3, 60  # counting ends at factor * asked + more pictures
ROUNDED_S = 1e-3  # a time that lies so little before a picture is that picture's: people round to milliseconds
SAME_RATE = 0.01  # containers round time stamps, WebM to milliseconds
ABSENT = -1


@dataclass(frozen=True)
class Limits:
    """What a request may ask for before it is refused as too large."""

    frame_px: int = 4_000_000
    frames: int = 2000
    decoded_bytes: int = 2**30


@dataclass(frozen=True)
class Wanted:
    """Pictures asked for: by 0-based number, by time, or, where both are None, all."""

    numbers: Sequence[int] | None = None
    times_s: Sequence[float] | None = None
    annotated_frames: int = 0  # the video should have so many pictures


@dataclass(eq=False)
class Collected:
    """The kept pictures."""

    rows: list[np.ndarray] = field(default_factory=list)  # (H, W, 3) uint8 RGB each, all of one size
    numbers: list[int] = field(default_factory=list)  # ascending
    times_s: list[float] | None = field(default_factory=list)  # of the rows; None where the video has no times
    shown_at: list[int] = field(default_factory=list)  # number of the picture shown at each asked time, or ABSENT
    footage: Footage = field(default_factory=lambda: Footage(None, None, None, None))
    counted: int = 0  # the video has at least so many pictures


class Collector:
    """Takes a reader's pictures one after the other."""

    def __init__(self, wanted: Wanted, limits: Limits) -> None:
        self._all = wanted.numbers is None and wanted.times_s is None
        self._numbers = {int(number) for number in (() if wanted.numbers is None else wanted.numbers)}
        self._last = max(self._numbers, default=-1)
        times = [float(time) for time in (() if wanted.times_s is None else wanted.times_s)]
        self._waiting = sorted(range(len(times)), key=times.__getitem__, reverse=True)  # the earliest last
        self._times = times
        self._limits = limits
        self._needed = wanted.annotated_frames - 1  # a list may hold one entry more than the video (real ones do)
        self.out = Collected(shown_at=[ABSENT] * len(times))
        self.seen = 0
        self._clock = _Clock()
        self._turns_deg: set[int | None] = set()  # of the first picture, or of those kept where each has its own
        self._previous: tuple[Picture, float | None] | None = None
        asked = max(wanted.annotated_frames, self._last + 1, len(times), 1)
        self._most = COUNT_FACTOR * asked + COUNT_MORE

    @property
    def complete(self) -> bool:
        """Whether everything asked for is there: what follows is only counted."""
        return not self._all and self.seen > self._last and not self._waiting and self.seen >= self._needed

    def collect(self, reader: Reader) -> Collected:
        """Read as far as it is needed.

        Raises:
            VideoError: a picture up to the last one asked for is damaged or too large, or times are not known.
        """
        self._clock.rate = reader.rate
        pictures = reader.count
        if self._read(reader):
            pictures = self.seen
            self._finish()
        self.out.counted = self.seen if pictures is None else pictures
        self.out.footage = Footage(
            pictures=pictures,
            fps=self._clock.mean_rate(self.seen),
            rotation_deg=next(iter(self._turns_deg)) if len(self._turns_deg) == 1 else None,
            codec=reader.codec,
        )
        if self._clock.broken:
            self.out.times_s = None
        return self.out

    def _read(self, reader: Reader) -> bool:
        """Whether the end was reached."""
        pictures = reader.pictures()
        while True:
            counting = self.complete
            if counting and (reader.count is not None or self.seen >= self._most):
                return False
            try:
                picture = next(pictures, None)
            except VideoError:
                if counting:  # damage beyond all that was asked for
                    return False
                raise
            if picture is None:
                return True
            if not self.seen and picture.turns_deg is None:
                self._turns_deg.add(picture.orientation.rotation_deg)
            self._take_next(picture)

    def _take_next(self, picture: Picture) -> None:
        number, self.seen = self.seen, self.seen + 1
        time_s = self._clock.time_of(number, picture)
        if self._waiting and time_s is None:
            raise VideoError("boxes_rate", f"the boxes lie at times, and {self._clock.why}")
        if self._previous is not None and time_s is not None:
            self._resolve(number - 1, *self._previous, until=time_s)
        if self._all or number in self._numbers:
            self._keep(number, picture, time_s)
        self._previous = (picture, time_s) if self._waiting else None

    def _resolve(self, number: int, picture: Picture, time_s: float | None, *, until: float) -> None:
        """Keep the picture if a time asked for lies before ``until``."""
        while self._waiting and self._times[self._waiting[-1]] < until - ROUNDED_S:
            asked = self._waiting.pop()
            if self._times[asked] < -ROUNDED_S:
                continue
            self.out.shown_at[asked] = number
            self._keep(number, picture, time_s)

    def _finish(self) -> None:
        """The last picture lasts as long as it says; later times show nothing."""
        if self._previous is not None:
            picture, time_s = self._previous
            assert time_s is not None
            lasts = picture.lasts_s or self._clock.mean_interval(self.seen)
            self._resolve(self.seen - 1, picture, time_s, until=time_s + lasts + ROUNDED_S)

    def _keep(self, number: int, picture: Picture, time_s: float | None) -> None:
        out = self.out
        if out.numbers and out.numbers[-1] == number:
            return
        self._check_size(picture)
        rgb = picture.rgb()
        self._turns_deg.update(picture.turns_deg or ())
        if out.rows and rgb.shape != out.rows[0].shape:  # the size changes inside the stream
            height, width = out.rows[0].shape[:2]
            rgb = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
        out.rows.append(rgb)
        out.numbers.append(number)
        if out.times_s is not None and time_s is not None:
            out.times_s.append(time_s)

    def _check_size(self, picture: Picture) -> None:
        check_frame(picture.width, picture.height, self._limits)
        count = len(self.out.rows) + 1
        if count > self._limits.frames:
            raise VideoError("too_large", f"more than {self._limits.frames} frames are asked for: labelling.max_frames")
        asked = count if self._all or self._times else max(count, len(self._numbers))
        if asked * picture.width * picture.height * 3 > self._limits.decoded_bytes:
            size = f"{asked} frames of {picture.width} x {picture.height} px"
            raise VideoError("too_large", f"{size} are asked for and do not fit in labelling.decode_memory_mb")


def check_frame(width: int, height: int, limits: Limits) -> None:
    """Raise VideoError (too_large) for pictures beyond the limit."""
    if width * height > limits.frame_px:
        raise VideoError(
            "too_large", f"pictures of {width} x {height} px; the limit is labelling.max_frame_px={limits.frame_px}"
        )


class _Clock:
    """Times of pictures since the first: by their stamps, or, where the stream has none, by its rate."""

    def __init__(self) -> None:
        self.rate: float | None = None
        self.broken = False  # no times, or stamps that run backwards
        self.why = ""  # it is broken
        self._stamped: bool | None = None
        self._start = 0.0
        self._latest = 0.0

    def time_of(self, number: int, picture: Picture) -> float | None:
        """Seconds; None where they are not known."""
        if self._stamped is None:
            self._stamped = picture.time_s is not None
            self._start = picture.time_s or 0.0
        if self._stamped:
            time_s = None if picture.time_s is None else picture.time_s - self._start
        else:
            time_s = number / self.rate if self.rate else None
        if self.broken:
            return None
        if time_s is None or time_s < self._latest:
            self.broken = True
            back = f"the video does not tell its pictures' times: the time stamps run backwards at picture {number}"
            self.why = "the video does not tell its pictures' times" if time_s is None else back
            return None
        self._latest = time_s
        return time_s

    def mean_rate(self, pictures: int) -> float | None:
        """Pictures per second: what the header says, unless the time stamps tell another rate."""
        if self.broken or not self._stamped or pictures < 2 or self._latest <= 0:
            return self.rate
        measured = (pictures - 1) / self._latest
        return self.rate if self.rate and abs(self.rate / measured - 1) < SAME_RATE else measured

    def mean_interval(self, pictures: int) -> float:
        """Seconds from picture to picture; 0 where it is not known."""
        rate = self.mean_rate(pictures)
        return 1 / rate if rate else 0.0
