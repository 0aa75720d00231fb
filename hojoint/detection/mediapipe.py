"""MediaPipe's two networks as a detector: palms in the picture, landmarks in turned crops around hands.

Landmarks of the picture beside say where to look for a hand; palms find new ones. The landmark network judges every
crop: below ``min_hand_score`` there is no hand, whatever the palm's score was. Its handedness is that of a mirrored
picture and is swapped here. Not here: where the files are (``models``), what the palm
network's tensors mean (``palms``), the crops (``regions``), tracks (``tracking``).
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from hojoint.config import digest
from hojoint.detection import palms, regions
from hojoint.detection.detector import Hand, iou
from hojoint.detection.models import ModelFiles
from hojoint.detection.regions import Region
from hojoint.errors import InputError

CROP_PX = 224
JOINTS = 21
FIT = 1.35  # sides of the hand boxes of Something-Else per sides of the landmarks' box: docs/detect.md
SAME_REGION = 0.5  # IoU of a palm's region and a followed hand's from which the palm is that hand's
SHAPES: dict[str, set[tuple[int, ...]]] = {
    "palm": {(1, palms.ANCHORS, 18), (1, palms.ANCHORS, 1)},
    "hand": {(1, 63), (1, 1)},
}
"""Network -> shapes of the answers that are read."""


def identity_of(files: ModelFiles) -> dict[str, str]:
    """Both networks by content, and the numbers of ours by which they look and boxes are made of what they say."""
    return files.identity | {"regions": digest(regions.NUMBERS, CROP_PX, FIT, SAME_REGION)}


class MediaPipeDetector:
    """A ``Detector``; not for several threads at once."""

    def __init__(
        self,
        files: ModelFiles,
        *,
        min_palm_score: float = 0.5,
        min_hand_score: float = 0.5,
        threads: int = 1,
    ) -> None:
        """Load both networks; InputError where the library is missing or the files are other networks."""
        self.identity = identity_of(files)
        self._min_palm_score, self._min_hand_score = min_palm_score, min_hand_score
        self._palm = _Network(files.palm, "palm", files.where, threads)
        self._hand = _Network(files.hand, "hand", files.where, threads)

    def find(self, picture: np.ndarray, known: Sequence[Hand], at_most: int) -> list[Hand]:
        """Hands in a picture (H, W, 3) uint8 RGB besides the known ones; see ``Detector``."""
        taken = [regions.of_landmarks(hand.landmarks) for hand in known]
        new = [region for region in self._palm_regions(picture) if not _meets(region, taken)][:at_most]
        found = [hand for region in new if (hand := self._hand_in(picture, region)) is not None]
        return sorted(found, key=lambda hand: -hand.score)

    def follow(self, picture: np.ndarray, hand: Hand) -> Hand | None:
        """The hand in the picture before or after; see ``Detector``."""
        return self._hand_in(picture, regions.of_landmarks(hand.landmarks))

    def _palm_regions(self, picture: np.ndarray) -> list[Region]:
        square, scale, corner = palms.letterbox(picture)
        answers = self._palm(square)
        found = palms.decode(
            answers[(1, palms.ANCHORS, 18)][0][0],
            answers[(1, palms.ANCHORS, 1)][0][0, :, 0],
            scale=scale,
            corner=corner,
            min_score=self._min_palm_score,
        )
        return [regions.of_palm(palm.box, palm.points) for palm in found]

    def _hand_in(self, picture: np.ndarray, region: Region) -> Hand | None:
        answers = self._hand(region.crop(picture, CROP_PX))
        (presence, mirrored_left), points = (float(value[0, 0]) for value in answers[(1, 1)]), answers[(1, 63)][0]
        if not presence >= self._min_hand_score:  # also where it is no number
            return None
        affine = region.to_picture(CROP_PX)
        crop_px = points.reshape(JOINTS, 3)[:, :2].astype(np.float64) - 0.5  # corner of a pixel to its centre
        landmarks = crop_px @ affine[:, :2].T + affine[:, 2]
        box = box_of(landmarks, picture.shape[1], picture.shape[0])
        if not np.all(box[2:] > box[:2]):  # the crop has left the picture
            return None
        # The first class is called 'Left', in a mirrored picture: a right hand in ours.
        return Hand(box, presence, mirrored_left, landmarks.astype(np.float32))


def box_of(landmarks: np.ndarray, width: int, height: int, fit: float = FIT) -> np.ndarray:
    """(4,) float32 xyxy px: the box of landmarks (21, 2), its sides times ``fit``, inside a picture of that size."""
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    centre, half = (low + high) / 2, (high - low) / 2 * fit
    box = np.concatenate([centre - half, centre + half])
    return np.clip(box, 0, np.array([width, height, width, height]) - 1).astype(np.float32)


def _meets(region: Region, others: Sequence[Region]) -> bool:
    return any(iou(region.box, other.box) >= SAME_REGION for other in others)


class _Network:
    """A tflite network with one picture as input; calling it returns its answers by shape, in the file's order."""

    def __init__(self, content: bytes, name: str, where: str, threads: int) -> None:
        try:
            library = importlib.import_module("ai_edge_litert.interpreter")
        except ImportError:
            raise InputError(
                "jobs.detect needs the package ai-edge-litert, on every node of a cluster. Run\n"
                "  pip install ai-edge-litert"
            ) from None
        size = palms.INPUT_PX if name == "palm" else CROP_PX
        try:
            self._network: Any = library.Interpreter(model_content=content, num_threads=threads)
            self._network.allocate_tensors()
            (given,) = self._network.get_input_details()
        except (ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"the {name} network in detect.models={where} does not load: {reason:.200}") from None
        self._input = given["index"]
        self._outputs = [(tuple(map(int, out["shape"])), out["index"]) for out in self._network.get_output_details()]
        shapes = {shape for shape, _ in self._outputs}
        if tuple(given["shape"]) != (1, size, size, 3) or not SHAPES[name] <= shapes:
            raise InputError(
                f"the {name} network in detect.models={where} is another one than mediapipe 0.10.21's: it takes "
                f"{tuple(map(int, given['shape']))} and returns {sorted(shapes)}"
            )

    def __call__(self, picture: np.ndarray) -> dict[tuple[int, ...], list[np.ndarray]]:
        self._network.set_tensor(self._input, picture[None].astype(np.float32) / 255)
        self._network.invoke()
        answers: dict[tuple[int, ...], list[np.ndarray]] = {}
        for shape, index in self._outputs:
            answers.setdefault(shape, []).append(self._network.get_tensor(index))
        return answers
