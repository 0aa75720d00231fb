"""Which recordings are held out of training."""

from __future__ import annotations

import itertools

import pytest

from hojoint.datasets.recordings import held_out_recordings, recording_of
from hojoint.errors import InputError

NAMES = [
    f"{sequence}/{frame:04d}" for sequence in ("ABF10", "ABF11", "ABF20", "ND2", "SM2", "SM31") for frame in (0, 7)
]


def test_cameras_of_a_scene_are_one_recording() -> None:
    assert [recording_of(name) for name in ("ABF10", "ABF14/0007", "SM1", "SMu40")] == ["ABF1", "ABF1", "SM", "SMu4"]


def test_the_choice_depends_on_the_names_alone_and_grows() -> None:
    chosen = [held_out_recordings(NAMES, count) for count in range(5)]
    assert [len(one) for one in chosen] == [0, 1, 2, 3, 4]
    assert all(small < large for small, large in itertools.pairwise(chosen))
    assert chosen == [held_out_recordings(sorted({n.partition("/")[0] for n in reversed(NAMES)}), c) for c in range(5)]


def test_the_only_recording_of_an_object_is_taken_last() -> None:
    first = held_out_recordings(NAMES, 2)  # one of ABF1, ABF2 and one of SM, SM3 can be spared; ND cannot
    assert {recording.rstrip("0123456789") for recording in first} == {"ABF", "SM"}


def test_nothing_left_to_train_on_is_refused() -> None:
    with pytest.raises(InputError, match=r"train\.held_out=5 leaves nothing"):
        held_out_recordings(NAMES, 5)
