"""Hands followed through a video: finds become tracks, gaps are filled and flagged, each track gets one side.

Pictures come one by one and are not kept, but for the last ``look_back``: a palm is often recognised some pictures
after the hand came in, so a new hand is also followed backwards. If it meets the end of an earlier track on its way
back, it is that track's hand. Otherwise it continues a track whose last box it overlaps, if that track ended at most
``longest_gap`` pictures ago. The result does not depend on how the pictures are cut into groups. Not here: what a hand
is (``detector``), where pictures come from.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from hojoint.detection.detector import Detector, Hand, iou, same_hand


@dataclass(frozen=True)
class TrackRules:
    """How finds become tracks."""

    hands: int = 2  # at most in one picture
    longest_gap: int = 6  # pictures
    min_track: int = 3  # found pictures
    look_back: int = 24  # pictures


@dataclass(frozen=True, eq=False)
class Track:
    """One hand through T pictures, the filled ones among them."""

    frames: np.ndarray  # (T,) int32, 0-based, consecutive
    boxes: np.ndarray  # (T, 4) float32 xyxy px
    scores: np.ndarray  # (T,) float32; of a filled picture the lower one of its neighbours
    filled: np.ndarray  # (T,) bool: interpolated, not found
    side: Literal["right", "left"] | None  # None where as many pictures say right as left


@dataclass(eq=False)
class _Open:
    """A track that grows: its finds by picture."""

    finds: dict[int, Hand] = field(default_factory=dict)

    @property
    def last(self) -> int:
        return max(self.finds)


class Tracker:
    """Tracks of one video. Add its pictures in order, then ask for ``tracks``."""

    def __init__(self, detector: Detector, rules: TrackRules) -> None:
        self.pictures = 0
        self._detector, self._rules = detector, rules
        self._tracks: list[_Open] = []
        self._recent: deque[tuple[int, np.ndarray]] = deque(maxlen=rules.look_back)

    def add(self, picture: np.ndarray) -> None:
        """The next picture, (H, W, 3) uint8 RGB."""
        number = self.pictures
        alive = [track for track in self._tracks if number - 1 in track.finds]
        followed = [(self._detector.follow(picture, track.finds[number - 1]), track) for track in alive]
        pairs = [(hand, track) for hand, track in followed if hand is not None]
        here: list[Hand] = []
        for hand, track in sorted(pairs, key=lambda pair: -pair[0].score)[: self._rules.hands]:
            if not any(same_hand(hand, other) for other in here):
                here.append(hand)
                track.finds[number] = hand
        free = self._rules.hands - len(here)
        for hand in self._detector.find(picture, here, free) if free > 0 else ():
            if len(here) < self._rules.hands and not any(same_hand(hand, other) for other in here):
                here.append(hand)
                self._begin(number, hand)
        self._recent.append((number, picture))
        self.pictures += 1

    def tracks(self) -> list[Track]:
        """The tracks that are long enough, in the order of their first picture, with their gaps filled."""
        long = [track for track in self._tracks if len(track.finds) >= self._rules.min_track]
        return [_closed(track.finds) for track in sorted(long, key=lambda track: min(track.finds))]

    @property
    def dropped(self) -> int:
        """Tracks that are too short."""
        return sum(len(track.finds) < self._rules.min_track for track in self._tracks)

    def _begin(self, number: int, hand: Hand) -> None:
        """Give a new hand to the track that it continues, or to a new one."""
        finds, met = self._looked_back(number, hand)
        track = met or self._overlapped(min(finds), finds[min(finds)])
        if track is None:
            track = _Open()
            self._tracks.append(track)
        track.finds |= finds

    def _looked_back(self, number: int, hand: Hand) -> tuple[dict[int, Hand], _Open | None]:
        """Finds of a hand up to picture ``number``, and the track at whose last picture it arrived, if any."""
        finds = {number: hand}
        for earlier, picture in reversed(self._recent):
            found = self._detector.follow(picture, finds[earlier + 1])
            if found is None:
                break
            there = [track for track in self._tracks if earlier in track.finds]
            met = next((track for track in there if same_hand(found, track.finds[earlier])), None)
            if met is not None:
                return finds, met if met.last == earlier else None
            if len(there) >= self._rules.hands:
                break
            finds[earlier] = found
        return finds, None

    def _overlapped(self, first: int, hand: Hand) -> _Open | None:
        """The track that ended shortly before picture ``first`` and whose last box the hand's overlaps most."""
        gaps = {id(track): first - track.last - 1 for track in self._tracks}
        ended = [track for track in self._tracks if 0 <= gaps[id(track)] <= self._rules.longest_gap]
        overlaps = [iou(hand.box, track.finds[track.last].box) for track in ended]
        best = int(np.argmax(overlaps)) if overlaps else -1
        return ended[best] if overlaps and overlaps[best] > 0 else None


def _closed(finds: Mapping[int, Hand]) -> Track:
    """A track of the finds, with the pictures between them filled."""
    known = np.array(sorted(finds))
    frames = np.arange(known[0], known[-1] + 1)
    boxes = np.stack([finds[number].box for number in known.tolist()]).astype(np.float64)
    scores = np.array([finds[number].score for number in known.tolist()])
    before = np.searchsorted(known, frames, side="right") - 1
    after = np.searchsorted(known, frames, side="left")
    return Track(
        frames=frames.astype(np.int32),
        boxes=np.stack([np.interp(frames, known, side) for side in boxes.T], axis=1).astype(np.float32),
        scores=np.minimum(scores[before], scores[after]).astype(np.float32),
        filled=~np.isin(frames, known),
        side=_side(finds),
    )


def _side(finds: Mapping[int, Hand]) -> Literal["right", "left"] | None:
    """By majority of the found pictures."""
    right = sum(hand.right > 0.5 for hand in finds.values())
    left = len(finds) - right
    return None if right == left else "right" if right > left else "left"
