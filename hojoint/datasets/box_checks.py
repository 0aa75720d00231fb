"""Are boxes what a list of boxes should hold? Counts over a complete list, and faults that no video is needed for.

What is certainly wrong is refused, with numbers, the likely cause and the remedy; what may be right is noted. Not here:
damaged files, which their readers refuse; boxes of another video's pictures (``box_fit``).
"""

from __future__ import annotations

import re
from collections import Counter

import numpy as np

from hojoint.datasets import hand_names, something
from hojoint.datasets.box_fit import RELATIVE
from hojoint.datasets.video_boxes import VideoBoxes
from hojoint.errors import InputError

MOST_INVERTED = 0.05  # share of boxes with x2 < x1 or y2 < y1
MOST_BEYOND = 0.5  # share of boxes that lie in no picture
MOST_DOUBLED = 0.25  # share of boxes that repeat another one of their frame; a table that holds its rows twice has 0.5
LARGEST_PICTURE_PX = 16384
SHOWN = 5  # categories named in a message
CODE = re.compile(r"\d{4}")  # Something-Else's names of objects
REMEDY = "; correct the boxes of videos.boxes"


class Census:
    """Counts over a complete list of boxes: ``add`` each video, then ``refuse_or_note`` once."""

    def __init__(self) -> None:
        self._videos = self._hands = self._objects = 0
        self._boxes = 0  # hands and objects
        self._largest = 0.0  # of all coordinates
        self._faulty: Counter[str] = Counter()  # boxes by kind of fault
        self._first: dict[str, str] = {}  # kind of fault to where it was seen first
        self._begin: Counter[int] = Counter()  # videos by the first frame with a box, where the list leaves out frames
        self._categories: Counter[str] = Counter()  # of objects
        self._mixed_tracks = self._mixed_boxes = 0

    def add(self, boxes: VideoBoxes) -> None:
        """Count one video."""
        self._videos += 1
        self._hands += len(boxes.hand_boxes)
        self._objects += len(boxes.object_boxes)
        for name, count in zip(boxes.object_names, np.bincount(boxes.object_ids).tolist(), strict=False):
            self._categories[name] += count
        self._shapes(boxes)
        self._numbers(boxes)
        if len(np.unique(boxes.hand_sides[boxes.hand_sides > 0])) == 2:
            tracks, mixed = something.side_conflicts(boxes)
            self._mixed_tracks += tracks
            self._mixed_boxes += mixed

    def _shapes(self, boxes: VideoBoxes) -> None:
        both = np.concatenate([boxes.hand_boxes, boxes.object_boxes]).astype(np.float64)
        if not len(both):
            return
        frames = np.concatenate([boxes.hand_frames, boxes.object_frames])
        self._boxes += len(both)
        self._largest = max(self._largest, float(np.abs(both).max()))
        sides = both[:, 2:] - both[:, :2]
        faults = {
            "inverted": (sides < 0).any(axis=1),
            "empty": (sides == 0).any(axis=1) & ~(sides < 0).any(axis=1),
            "beyond": (both[:, 2:] < 0).any(axis=1) | (both[:, :2] > LARGEST_PICTURE_PX).any(axis=1),
            "relative": (np.abs(both) < RELATIVE).all(axis=1) & (sides > 0).all(axis=1),
        }
        for fault, where in faults.items():
            if where.any():
                self._faulty[fault] += int(where.sum())
                box = ", ".join(f"{value:g}" for value in both[where][0])
                at = f"video {boxes.video_id!r}, frame {frames[where][0]} counted from 0: [{box}]"
                self._first.setdefault(fault, at)

    def _numbers(self, boxes: VideoBoxes) -> None:
        """Where the list begins, where that may tell something, and boxes that it holds twice."""
        frames = np.concatenate([boxes.hand_frames, boxes.object_frames])
        if not len(frames):
            return
        if boxes.hand_times_s is None:
            self._begin[0 if boxes.every_frame_listed else int(frames.min())] += 1
        kinds = np.concatenate([-1 - boxes.hand_sides.astype(np.float64), boxes.object_ids])
        rows = np.column_stack([frames, kinds, np.concatenate([boxes.hand_boxes, boxes.object_boxes])])
        rows = rows[np.lexsort(rows.T[::-1])]
        same = (np.diff(rows, axis=0) == 0).all(axis=1)
        if same.any():
            self._faulty["doubled"] += int(same.sum())
            frame = int(rows[int(same.argmax()), 0])
            self._first.setdefault("doubled", f"video {boxes.video_id!r}, frame {frame} counted from 0")

    def refuse_or_note(self) -> tuple[str, ...]:
        """Notes for the user, once every video is counted.

        Raises:
            InputError: no video of the list can be labelled right.
        """
        self._refuse()
        notes = []
        if not self._hands and self._videos:
            what = f"none of the {self._boxes} boxes is a hand" if self._boxes else "there is no box at all"
            notes.append(f"{what} in the {self._videos} videos of videos.boxes, so there is nothing to label")
        if self._counts_from_one():
            notes.append(
                f"the boxes seem to count from 1: no video has a box in frame 0, and {self._begin[1]} of "
                f"{self._begin.total()} begin in frame 1. Frames count from 0 (000001.jpg of a folder is frame 0), so "
                "subtract 1 from the numbers if they do"
            )
        near = Counter({name: n for name, n in self._categories.items() if hand_names.doubtful(name)})
        if near and self._hands:
            notes.append(f"{near.total()} boxes are read as objects, though they may be hands: {_counted(near)}")
        if self._mixed_tracks:
            notes.append(
                f"{self._mixed_tracks} hands have boxes of both sides; {self._mixed_boxes} boxes of the rarer side "
                "count as the other one"
            )
        kinds = {
            "relative": "have coordinates below 2, as boxes in 0..1 of the picture have",
            "inverted": "end before they begin (x2 < x1 or y2 < y1)",
            "empty": "have no area",
            "beyond": f"lie in no picture (left of it, above it, or beyond {LARGEST_PICTURE_PX} px)",
            "doubled": "repeat another box of their frame",
        }
        for fault, what in kinds.items():
            if count := self._faulty[fault]:
                notes.append(f"{count} of {self._boxes} boxes {what}; the first: {self._first[fault]}")
        return tuple(notes)

    def _counts_from_one(self) -> bool:
        return not self._begin[0] and self._begin[1] > self._begin.total() / 2

    def _refuse(self) -> None:
        if not self._boxes:
            return
        if self._largest < RELATIVE and self._faulty["relative"]:
            raise InputError(
                f"expected boxes in px, found all {self._boxes} boxes of {self._videos} videos between "
                f"{-RELATIVE:g} and {RELATIVE:g} (the first: {self._first['relative']}). They seem to be relative to "
                "the picture: multiply x by its width and y by its height" + REMEDY
            )
        if self._faulty["inverted"] > MOST_INVERTED * self._boxes:
            raise InputError(
                f"expected boxes as x1, y1, x2, y2, found {self._faulty['inverted']} of {self._boxes} that end "
                f"before they begin (the first: {self._first['inverted']}). They seem to be x, y, width, "
                "height: set x2 = x + width and y2 = y + height, or the corners have changed places" + REMEDY
            )
        if self._faulty["beyond"] > MOST_BEYOND * self._boxes:
            raise InputError(
                f"expected boxes in px from the picture's upper left corner, found {self._faulty['beyond']} of "
                f"{self._boxes} that lie in no picture (the first: {self._first['beyond']})" + REMEDY
            )
        if self._faulty["empty"] == self._boxes:
            raise InputError(
                f"expected boxes as x1, y1, x2, y2, found all {self._boxes} boxes of {self._videos} videos without "
                f"area (the first: {self._first['empty']})" + REMEDY
            )
        if self._faulty["doubled"] > MOST_DOUBLED * self._boxes:
            raise InputError(
                f"expected each box once, found {self._faulty['doubled']} of {self._boxes} that repeat another one of "
                f"their frame (the first: {self._first['doubled']}). The list seems to hold its rows twice: remove the "
                "copies" + REMEDY
            )
        if not self._hands and not all(CODE.fullmatch(name) for name in self._categories):
            raise InputError(
                f"expected hands, found {self._boxes} boxes of {self._videos} videos and none of them a hand; their "
                f"categories: {_counted(self._categories)}. Hands are called hand, Hand, left_hand, right hand, ...; "
                "rename theirs in videos.boxes"
            )


def _counted(names: Counter[str]) -> str:
    shown = ", ".join(f"{name!r} {count}" for name, count in names.most_common(SHOWN))
    return shown + (f", and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
