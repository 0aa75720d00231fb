"""One video of the wild domain before it is a file: its frames, an annotator's boxes, and the truth.

Boxes are as an annotator's: drawn every few frames, a little loose, interpolated between. Hard frames (blur,
occlusion, cuts, hands at the border) are part of the world.
"""

from __future__ import annotations

import itertools
from typing import Any

import cv2
import numpy as np

from hojoint.synthetic import scene
from hojoint.synthetic.domains import WILD
from hojoint.synthetic.render import ARM, HAND
from hojoint.synthetic.scene import Shot

HEIGHT = 240
WIDTHS = (427, 427, 427, 426, 400, 360, 320)
STORIES = ("hold", "hold", "pick", "place", "hold", "gesture")
HARD = (*("plain",) * 6, "blur", "occlusion", "cut", "border")
OBJECT_NAMES = ("bottle", "box", "pen", "cup", "phone", "spoon", "toy", "remote")


class Film:
    """The frames of one video, and the poses and boxes in them."""

    def __init__(self, rng: np.random.Generator, seed: int, index: int, frames: int) -> None:
        self.left = bool(rng.random() < 0.3)
        self.hard = "plain" if index == 0 else str(rng.choice(HARD))
        story = "alone" if index % 12 == 11 else str(rng.choice(STORIES))
        self.size = (int(rng.choice(WIDTHS)), HEIGHT)
        cuts = [0, int(rng.integers(frames // 3, 2 * frames // 3 + 1)), frames] if self.hard == "cut" else [0, frames]
        person = int(rng.integers(WILD.subjects))
        self.shots = [
            scene.make_shot(rng, seed, WILD, story=story, frames=max(end - start, 1), size=self.size, subject=person)
            for start, end in itertools.pairwise(cuts)
        ]
        if self.hard == "border":
            self.shots = [_to_border(rng, shot) for shot in self.shots]
        self.shot_frames = [(shot, frame) for shot in self.shots for frame in range(shot.frames)][:frames]
        self.stretch = _hard_stretch(rng, frames) if self.hard in ("blur", "occlusion") else (0, 0)
        self.occluder = _occluder(rng, self.size)
        self.object_names = [str(rng.choice(OBJECT_NAMES))]
        if rng.random() < 0.25:
            self.object_names.append(self.object_names[0] if rng.random() < 0.5 else str(rng.choice(OBJECT_NAMES)))
        self.still = _still_box(rng, self.size)
        self.rgb, self.labels = self._draw()

    def _draw(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        pictures, labels = [], []
        for number, (shot, frame) in enumerate(self.shot_frames):
            within = self.stretch[0] <= number < self.stretch[1]
            seen = scene.picture(shot, frame, blur=3.5 if within and self.hard == "blur" else 1.0)
            rgb, label = seen.rgb, seen.label
            if within and self.hard == "occlusion":
                rgb, label = self._covered(number, rgb, label)
            pictures.append(scene.mirrored(rgb) if self.left else rgb)
            labels.append(label)
        return pictures, labels

    def _covered(self, number: int, rgb: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """An occluder passes between the camera and the hand."""
        shape, colour = self.occluder
        shot, frame = self.shot_frames[number]
        share = (number - self.stretch[0]) / max(1, self.stretch[1] - self.stretch[0] - 1)
        centre = shot.hand.joints_px[frame].mean(0) + (share - 0.5) * 0.5 * HEIGHT
        polygon = (shape + centre).round().astype(np.int32)
        rgb, label = rgb.copy(), label.copy()
        cv2.fillPoly(rgb, [polygon], colour, cv2.LINE_AA)
        cv2.fillPoly(label, [polygon], 9)
        return rgb, label

    def boxes(self, rng: np.random.Generator, video_id: str) -> list[dict[str, Any]]:
        """Something-Else frames; the list may end before the video does."""
        count = len(self.shot_frames)
        hands = self._tracked(rng, [scene.hand_box(shot, frame) for shot, frame in self.shot_frames])
        objects = self._tracked(rng, [scene.object_box(shot, frame) for shot, frame in self.shot_frames])
        kept = count - int(rng.integers(count // 12 + 1, count // 4 + 2)) if rng.random() < 0.15 else count
        split, task = f"20perc_{int(rng.integers(1, 20))}", int(rng.integers(1, 1000))
        return [
            self._annotation(video_id, number, hands[number], objects[number], split, task) for number in range(kept)
        ]

    def _tracked(self, rng: np.random.Generator, true: list[np.ndarray | None]) -> list[np.ndarray | None]:
        """Key-framed, a little loose, and linear between the keys; a new start wherever the track breaks."""
        starts = np.cumsum([0] + [shot.frames for shot in self.shots]).tolist()
        result: list[np.ndarray | None] = [None] * len(true)
        begin = 0
        for number in range(len(true) + 1):
            broken = number == len(true) or true[number] is None or number in starts[1:]
            if not broken:
                continue
            self._one_track(rng, true, result, begin, number)
            begin = number if number < len(true) and true[number] is not None else number + 1
        return result

    def _one_track(
        self,
        rng: np.random.Generator,
        true: list[np.ndarray | None],
        result: list[np.ndarray | None],
        begin: int,
        end: int,
    ) -> None:
        if end <= begin:
            return
        keys = [begin]
        while keys[-1] < end - 1:
            keys.append(min(end - 1, keys[-1] + int(rng.integers(4, 7))))
        drawn = []
        for key in keys:
            box = true[key]
            assert box is not None
            extent = np.tile(box[2:] - box[:2], 2)
            drawn.append(box + np.clip(rng.normal(0.02, 0.02, 4), -0.01, 0.06) * extent * [-1, -1, 1, 1])
        table = np.array(drawn)
        for number in range(begin, end):
            result[number] = np.array([np.interp(number, keys, table[:, side]) for side in range(4)])

    def _annotation(
        self,
        video_id: str,
        number: int,
        hand_box: np.ndarray | None,
        object_box: np.ndarray | None,
        split: str,
        task: int,
    ) -> dict[str, Any]:
        labels = []
        for order, name in enumerate(self.object_names):
            box = object_box if order == 0 else self.still
            if box is not None:
                labels.append(self._label(name, f"{order:04d}", f"object {order}", box, number))
        if hand_box is not None:
            labels.append(self._label("hand", "hand", "object hand", hand_box, number))
        name = f"{video_id}/{number + 1:04d}.jpg"
        url = f"https://example.invalid/annotated_frames/{name}"
        return {
            "name": name, "gt_placeholders": self.object_names, "nr_instances": len(labels), "url": url, "split": split,
            "task_index": task, "labels": labels,
        }  # fmt: skip

    def _label(self, category: str, standard: str, annotation: str, box: np.ndarray, number: int) -> dict[str, Any]:
        x1, x2 = (self._side(value, self.size[0], number) for value in (box[0] + 0.5, box[2] + 0.5))
        if self.left:
            x1, x2 = self.size[0] - x2, self.size[0] - x1
        y1, y2 = (self._side(value, self.size[1], number + 1) for value in (box[1] + 0.5, box[3] + 0.5))
        sides = {"x1": x1, "x2": x2, "y1": y1, "y2": y2}
        return {"category": category, "standard_category": standard, "gt_annotation": annotation, "box2d": sides}

    @staticmethod
    def _side(value: float, limit: int, number: int) -> float | int:
        """On the border: sometimes the integer, sometimes off by float noise, as in the real files."""
        if value <= 0:
            return 0 if number % 3 else 2.842170943040401e-14
        if value >= limit:
            return limit if number % 3 else limit * (1 + 1.4e-16 * 2)
        return round(float(value), 2 + number % 9)

    def truth(self, video_id: str) -> list[dict[str, Any]]:
        """True poses of all frames; a row without a hand where none can be seen."""
        rows: list[dict[str, Any]] = []
        for number, (shot, frame) in enumerate(self.shot_frames):
            if scene.hand_box(shot, frame) is None:
                rows.append({"video_id": video_id, "frame": number, "hard": self._hard_at(number)})
                continue
            px = shot.hand.joints_px[frame].copy()
            visible = _visible_share(px, self.labels[number])
            if self.left:
                px[:, 0] = self.size[0] - 1 - px[:, 0]
            joints = shot.hand.joints[frame] - shot.hand.joints[frame][0]
            camera = shot.camera
            rows.append({
                "video_id": video_id, "frame": number, "side": "left" if self.left else "right",
                "pose": shot.hand.pose[frame].tolist(), "shape": shot.hand.betas.tolist(),
                "joints_px": px.ravel().tolist(), "joints": joints.ravel().tolist(),
                "camera": [camera[0, 0], camera[1, 1], camera[0, 2], camera[1, 2]],
                "visible": visible, "hard": self._hard_at(number),
            })  # fmt: skip
        return rows

    def _hard_at(self, number: int) -> str:
        if self.hard in ("blur", "occlusion"):
            return self.hard if self.stretch[0] <= number < self.stretch[1] else "plain"
        return self.hard


def _visible_share(px: np.ndarray, label: np.ndarray) -> float:
    """Joints that fall on the hand itself (or on the arm, for the wrist)."""
    height, width = label.shape
    x, y = np.round(px).astype(int).T
    inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
    seen = np.isin(label[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)], (ARM, HAND))
    return float((inside & seen).mean())


def _hard_stretch(rng: np.random.Generator, frames: int) -> tuple[int, int]:
    length = int(rng.integers(max(1, frames // 5), max(2, frames // 2)))
    start = int(rng.integers(0, max(1, frames - length)))
    return start, start + length


def _occluder(rng: np.random.Generator, size: tuple[int, int]) -> tuple[np.ndarray, tuple[int, int, int]]:
    turns = np.sort(rng.uniform(0, 2 * np.pi, 7))
    radius = rng.uniform(0.10, 0.22) * size[1]
    ring = radius * np.stack([np.cos(turns), 1.4 * np.sin(turns)], axis=1)
    colour = tuple(int(c) for c in rng.integers(10, 240, 3))
    return ring, (colour[0], colour[1], colour[2])


def _still_box(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Box of a second object, which does not move."""
    low = rng.uniform(0.05, 0.6, 2) * size
    return np.concatenate([low, low + rng.uniform(0.1, 0.3, 2) * size])


def _to_border(rng: np.random.Generator, shot: Shot) -> Shot:
    """Move the action sideways until the picture's border cuts the hand."""
    width, height = shot.size
    centre = shot.hand.joints_px.mean((0, 1))
    target = np.array([rng.choice([0.03, 0.97]) * width, np.clip(centre[1], 0.3 * height, 0.7 * height)])
    shift = np.zeros(3)
    shift[:2] = (target - centre) / shot.camera[0, 0] * shot.hand.joints[:, 0, 2].mean()
    return scene.shifted(shot, shift)
