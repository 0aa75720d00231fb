"""MediaPipe's real networks, where an installed mediapipe has them: on a drawn hand, which they take for a real one.

What they find in real videos is measured in docs/detect.md. Here: they load, their crops are right (a shifted or turned
picture has the shifted or turned answer), and a plain picture has no hand.
"""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from hojoint.detection import mediapipe, models, regions
from hojoint.detection.detector import Hand
from hojoint.errors import InputError


@pytest.fixture(scope="module")
def files():
    pytest.importorskip("ai_edge_litert.interpreter", reason="ai-edge-litert is not installed")
    try:
        return models.find(os.environ.get("HOJOINT_TEST_MEDIAPIPE"), "full")
    except InputError:
        pytest.skip("no mediapipe 0.10.14 or 0.10.21; HOJOINT_TEST_MEDIAPIPE=FILE.whl names a wheel of one")


@pytest.fixture(scope="module")
def detector(files):
    return mediapipe.MediaPipeDetector(files, min_palm_score=0.1, min_hand_score=0.3)


def cartoon(width=480, height=360, turn_deg=0.0):
    """(H, W, 3): a flat left hand seen from its palm, fingers up."""
    image = np.full((height, width, 3), (90, 110, 120), np.uint8)
    skin, shade = (224, 172, 140), (200, 140, 110)
    centre = (width // 2, height // 2 + 40)
    cv2.ellipse(image, (centre[0], centre[1] + 110), (34, 90), 0, 0, 360, skin, -1, cv2.LINE_AA)
    cv2.ellipse(image, centre, (50, 56), 0, 0, 360, skin, -1, cv2.LINE_AA)
    fingers = [((-36, -40), (-50, -120)), ((-12, -48), (-16, -142)), ((12, -46), (16, -134)), ((34, -36), (48, -104))]
    for base, tip in [*fingers, ((-40, 16), (-98, -36))]:
        start, end = tuple(np.add(centre, base)), tuple(np.add(centre, tip))
        cv2.line(image, tuple(map(int, start)), tuple(map(int, end)), shade, 27, cv2.LINE_AA)
        cv2.line(image, tuple(map(int, start)), tuple(map(int, end)), skin, 22, cv2.LINE_AA)
    affine = cv2.getRotationMatrix2D((width / 2, height / 2), -turn_deg, 1.0)
    return cv2.warpAffine(image, affine, (width, height), borderValue=(90, 110, 120))


def test_a_plain_picture_has_no_hand(detector):
    assert detector.find(np.full((240, 427, 3), 127, np.uint8), [], 2) == []


def test_a_drawn_hand_is_found_with_its_side(detector):
    [hand] = detector.find(cartoon(), [], 2)
    assert hand.score > 0.3
    assert hand.box[0] < 240 < hand.box[2]
    tips = hand.landmarks[[8, 12, 16, 20]]
    assert (tips[:, 1] < hand.landmarks[0, 1] - 60).all()  # fingers above the wrist
    assert np.all(np.diff(tips[:, 0]) > 0)  # from the index finger on the left to the little one
    assert hand.right < 0.5
    [mirrored] = detector.find(np.ascontiguousarray(cartoon()[:, ::-1]), [], 2)
    assert mirrored.right > 0.5


@pytest.mark.parametrize("degrees", [40, 90, 180, -90])
def test_a_turned_hand_has_turned_landmarks(detector, degrees):
    [hand] = detector.find(cartoon(400, 400), [], 1)
    affine = cv2.getRotationMatrix2D((200, 200), -degrees, 1.0)
    expected = hand.landmarks @ affine[:, :2].T + affine[:, 2]
    known = Hand(hand.box, 1.0, 0.0, expected.astype(np.float32))
    turned = detector.follow(cartoon(400, 400, degrees), known)
    straight = detector.follow(cartoon(400, 400), hand)
    expected = straight.landmarks @ affine[:, :2].T + affine[:, 2]
    assert np.linalg.norm(turned.landmarks - expected, axis=1).mean() < 3  # px, of a hand of 260


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_a_turned_palm_is_found(detector, degrees):
    [hand] = detector.find(cartoon(400, 400), [], 1)
    [turned] = detector.find(cartoon(400, 400, degrees), [], 1)
    affine = cv2.getRotationMatrix2D((200, 200), -degrees, 1.0)
    expected = hand.landmarks @ affine[:, :2].T + affine[:, 2]
    assert np.linalg.norm(turned.landmarks - expected, axis=1).mean() < 30  # px; two looks at different crops


def test_a_known_hand_is_not_found_twice_and_is_followed(detector):
    image = cartoon()
    [hand] = detector.find(image, [], 2)
    assert detector.find(image, [hand], 1) == []
    moved = cv2.warpAffine(image, np.float32([[1, 0, 12], [0, 1, -8]]), (480, 360), borderMode=cv2.BORDER_REPLICATE)
    followed = detector.follow(moved, hand)
    assert followed is not None
    assert np.linalg.norm(followed.landmarks - hand.landmarks - (12, -8), axis=1).mean() < 10
    assert detector.follow(np.zeros_like(image), hand) is None


def test_a_hand_that_left_the_picture_is_not_followed(detector):
    away = Hand(np.zeros(4, np.float32), 1.0, 1.0, np.full((21, 2), 5000, np.float32))
    assert detector.follow(cartoon(), away) is None


def test_the_crop_contains_the_hand(detector):
    [hand] = detector.find(cartoon(), [], 1)
    region = regions.of_landmarks(hand.landmarks)
    inverse = cv2.invertAffineTransform(region.to_picture(224))
    inside = hand.landmarks @ inverse[:, :2].T + inverse[:, 2]
    assert inside.min() > 0
    assert inside.max() < 224


def test_swapped_files_are_refused(files):
    with pytest.raises(InputError, match=r"the palm network in detect\.models=here is another one"):
        mediapipe.MediaPipeDetector(models.ModelFiles(files.hand, files.palm, "here"))


def test_a_cut_file_is_refused(files):
    with pytest.raises(InputError, match=r"the palm network in detect\.models=here does not load"):
        mediapipe.MediaPipeDetector(models.ModelFiles(files.palm[:5000], files.hand, "here"))


def test_a_missing_library_is_named_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(InputError, match="pip install ai-edge-litert"):
        mediapipe.MediaPipeDetector(models.ModelFiles(b"", b"", "here"))


def test_a_box_is_enlarged_and_stays_inside_the_picture():
    landmarks = np.array([[10, 20], [30, 60]], np.float64)
    assert mediapipe.box_of(landmarks, 200, 100, fit=1.5).tolist() == [5, 10, 35, 70]
    assert mediapipe.box_of(landmarks, 33, 50, fit=2.0).tolist() == [0, 0, 32, 49]


def test_a_presence_that_is_no_number_is_no_hand(monkeypatch):
    answers = {(1, 1): [np.array([[np.nan]]), np.array([[0.5]])], (1, 63): [np.zeros((1, 63))]}
    monkeypatch.setattr(mediapipe, "_Network", lambda *_: lambda picture: answers)
    files = SimpleNamespace(identity={}, palm=b"", hand=b"", where="")
    detector = mediapipe.MediaPipeDetector(files)
    assert detector.follow(np.zeros((50, 50, 3), np.uint8), Hand(np.zeros(4), 1, 1, np.ones((21, 2)) * 20)) is None
