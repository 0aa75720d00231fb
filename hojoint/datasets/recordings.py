"""Recordings of HO-3D: all cameras of one scene; what is held out of training is held out by recording.

Frames of one recording are too alike to be on both sides of a split, whichever camera took them. A sequence is named by
subject and object, a number, and a last digit that counts the cameras (ABF10 to ABF14 are one recording). Not here:
reading frames (``ho3d``), cutting them into clips (``sequences``).
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable

from hojoint.errors import InputError


def recording_of(sequence: str) -> str:
    """The recording of a sequence, or of a frame 'SEQUENCE/FRAME': its name without the digit of the camera."""
    return re.sub(r"\d$", "", sequence.partition("/")[0])


def held_out_recordings(names: Iterable[str], count: int) -> frozenset[str]:
    """``count`` recordings to hold out of training, chosen by a hash of their names: the same whatever the order.

    A recording whose subject and object no other one shows is taken last, so that no object is missing from training.

    Args:
        names: sequences, or frames 'SEQUENCE/FRAME' as a list of HO-3D has them.
        count: how many; 0 gives none.

    Raises:
        InputError: no recording would be left to train on.
    """
    recordings = sorted({recording_of(name) for name in names})
    if count and count >= len(recordings):
        raise InputError(
            f"train.held_out={count} leaves nothing to train on: the list has {len(recordings)} recordings (all "
            "cameras of a scene are one); hold out fewer"
        )
    order = sorted(recordings, key=lambda name: hashlib.sha256(f"held out {name}".encode()).digest())
    left = Counter(map(_shown_in, recordings))
    chosen: list[str] = []
    spare: list[str] = []
    for name in order:
        last_of_its_kind = left[_shown_in(name)] == 1
        (spare if last_of_its_kind else chosen).append(name)
        left[_shown_in(name)] -= not last_of_its_kind
    return frozenset([*chosen, *spare][:count])


def _shown_in(recording: str) -> str:
    """Subject and object of a recording, by its letters."""
    return recording.rstrip("0123456789")


def part_of(names: list[str], split: str, held_out: int) -> tuple[tuple[str, ...], frozenset[str]]:
    """The frames of a list that belong to a split, and the recordings that the split lacks."""
    if split == "evaluation":
        return tuple(names), frozenset()
    if split == "held_out" and held_out == 0:
        raise InputError("no recordings of HO-3D are held out of training; set train.held_out to how many should be")
    apart = held_out_recordings(names, held_out)
    if split == "held_out":
        return tuple(name for name in names if recording_of(name) in apart), frozenset()
    return tuple(name for name in names if recording_of(name) not in apart), apart
