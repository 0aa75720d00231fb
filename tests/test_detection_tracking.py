"""Tracks from scripted finds: gaps, limits, looking back, sides by vote; windows change nothing."""

from __future__ import annotations

import numpy as np
import pytest
from scripted import LEFT, RIGHT, SIDE, Scripted, picture

from hojoint.detection.detector import Hand, iou, overlap, same_hand
from hojoint.detection.tracking import Tracker, TrackRules


def tracked(pictures, detector=None, **rules):
    tracker = Tracker(detector or Scripted(), TrackRules(**rules))
    for image in pictures:
        tracker.add(image)
    return tracker


def test_overlaps_by_hand():
    a, b = np.array([0.0, 0, 10, 10]), np.array([5.0, 0, 15, 10])
    assert iou(a, b) == pytest.approx(50 / 150)
    assert overlap(a, b) == pytest.approx(0.5)
    assert overlap(a, np.array([2.0, 2, 4, 4])) == 1
    assert iou(a, a + 20) == overlap(a, a + 20) == iou(a * 0, a * 0) == overlap(a, a * 0) == 0


def test_a_moving_hand_is_one_track_with_its_boxes():
    [track] = tracked([picture((1, 2 * n, 5)) for n in range(8)]).tracks()
    assert track.frames.tolist() == list(range(8))
    assert track.boxes.tolist() == [[2 * n, 5, 2 * n + SIDE, 5 + SIDE] for n in range(8)]
    assert not track.filled.any()
    assert track.scores == pytest.approx([0.9] * 8)


def test_two_hands_are_two_tracks_in_order_of_appearance():
    pictures = [picture((2, 60, 30)), *(picture((1, 2 * n, 5), (2, 60, 30)) for n in range(5))]
    first, second = tracked(pictures).tracks()
    assert (first.frames[0], second.frames[0]) == (0, 1)
    assert first.boxes[0].tolist() == [60, 30, 80, 50]


def test_a_short_gap_is_filled_by_interpolation_and_flagged():
    pictures = [picture((1, 10, 5))] * 3 + [picture()] * 3 + [picture((1, 18, 5))] * 3
    [track] = tracked(pictures, longest_gap=3).tracks()
    assert track.frames.tolist() == list(range(9))
    assert track.filled.tolist() == [False] * 3 + [True] * 3 + [False] * 3
    assert track.boxes[3:6, 0].tolist() == [12, 14, 16]


def test_a_longer_gap_ends_the_track():
    pictures = [picture((1, 10, 5))] * 3 + [picture()] * 4 + [picture((1, 18, 5))] * 3
    before, after = tracked(pictures, longest_gap=3).tracks()
    assert before.frames.tolist() == [0, 1, 2]
    assert after.frames.tolist() == [7, 8, 9]


def test_a_hand_that_returns_elsewhere_is_another_track():
    pictures = [picture((1, 0, 5))] * 3 + [picture()] * 2 + [picture((1, 70, 40))] * 3
    assert len(tracked(pictures).tracks()) == 2


def test_a_palm_seen_late_is_followed_back_to_its_entry():
    class Late(Scripted):
        def find(self, image, known, at_most):
            return super().find(image, known, at_most) if image[0, 0, 0] else []  # a mark: only now a palm is seen

    pictures = [picture()] * 2 + [picture((1, 2 * n, 20)) for n in range(10)]
    pictures[8][0, 0] = 9
    [track] = tracked(pictures, Late()).tracks()
    assert track.frames.tolist() == list(range(2, 12))
    assert not track.filled.any()
    [track] = tracked(pictures, Late(), look_back=3).tracks()
    assert track.frames.tolist() == list(range(5, 12))
    [track] = tracked(pictures, Late(), look_back=0).tracks()
    assert track.frames.tolist() == list(range(8, 12))


def test_looking_back_over_a_gap_joins_without_filling():
    class Blinks(Scripted):
        """Loses a hand at a marked picture; finds it there when it comes back from the next one."""

        passed = False

        def follow(self, image, hand):
            return None if image[0, 0, 0] and not self.passed else super().follow(image, hand)

        def find(self, image, known, at_most):
            self.passed = self.passed or bool(image[0, 0, 0])
            return [] if image[0, 0, 0] else super().find(image, known, at_most)

    pictures = [picture((1, 8 * n, 20)) for n in range(8)]
    pictures[4][0, 0] = 9
    [track] = tracked(pictures, Blinks(), longest_gap=0).tracks()
    assert track.frames.tolist() == list(range(8))
    assert not track.filled.any()


def test_a_track_with_too_few_finds_is_dropped_and_counted():
    tracker = tracked([picture((1, 10, 5))] * 2 + [picture()] * 9)
    assert tracker.tracks() == []
    assert tracker.dropped == 1
    assert len(tracked([picture((1, 10, 5))] * 2, min_track=2).tracks()) == 1


def test_no_picture_has_more_hands_than_allowed():
    crowd = [picture((1, 0, 0), (2, 30, 0), (3, 60, 0), (4, 0, 40))] * 4
    for hands in (1, 2, 3):
        assert len(tracked(crowd, hands=hands).tracks()) == hands


def test_looking_back_adds_no_hand_beyond_the_limit():
    pictures = [picture((1, 0, 0), (2, 60, 30))] * 4 + [picture((2, 60, 30))] * 4
    first, second = tracked(pictures, hands=1).tracks()
    assert first.frames.tolist() == [0, 1, 2, 3]
    assert second.frames.tolist() == [4, 5, 6, 7]


def test_two_finds_of_one_hand_are_one():
    class Twice(Scripted):
        def find(self, image, known, at_most):
            found = super().find(image, known, 9)
            inner = [Hand(hand.box + np.array([4, 4, -4, -4]), 0.8, 0.0, hand.landmarks) for hand in found]
            return [*found, *inner]

    assert len(tracked([picture((1, 10, 5))] * 4, Twice()).tracks()) == 1


def test_two_tracks_that_run_into_one_hand_do_not_count_twice():
    pictures = [picture((1, 10, 5), (2, 34, 5))] * 3 + [picture((1, 22, 5))] * 4
    tracks = tracked(pictures).tracks()
    seen = np.concatenate([track.frames[~track.filled] for track in tracks])
    assert np.bincount(seen).tolist() == [2] * 3 + [1] * 4


@pytest.mark.parametrize(
    ("looks", "side"),
    [([RIGHT] * 3 + [LEFT] * 2, "right"), ([LEFT] * 3 + [RIGHT], "left"), ([LEFT, RIGHT] * 2, None)],
)
def test_the_side_is_the_majority_of_the_track(looks, side):
    [track] = tracked([picture((1, 10, 5, look)) for look in looks]).tracks()
    assert track.side == side


def test_a_video_without_hands_has_no_track():
    assert tracked([picture()] * 5).tracks() == []
    assert tracked([]).tracks() == []


def test_same_hand_is_symmetric_and_needs_most_of_the_smaller():
    hand = lambda *box: Hand(np.array(box, np.float32), 1, 1, np.zeros((21, 2), np.float32))  # noqa: E731
    large, inside, half = hand(0, 0, 20, 20), hand(5, 5, 10, 10), hand(10, 0, 30, 20)
    assert same_hand(large, inside)
    assert same_hand(inside, large)
    assert not same_hand(large, half)
