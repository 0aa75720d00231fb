"""Which drivers work on an output now: each leaves a note that it renews, for ``jobs.status`` and for ``garbage``.

Commits need none of this: two drivers at once are harmless to them. But what a living driver's attempts have written is
no garbage yet, whoever asks from another machine wants to know who is at work, and of one training only one driver may
be (``alone``). Not here: what an attempt works on (``attempts``).
"""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

from cluster import ending
from cluster.labelling import attempts
from cluster.store import Store
from hojoint.errors import Unavailable

FOLDER = f"{attempts.ATTEMPTS}/drivers"
RENEWED_S = 30.0
SILENT_S = 300.0  # a note of this age is no sign of life: ten times the interval
LOOK_S = 5.0  # between two looks whether another driver has ended
_left = set[str]()  # notes that this process has not removed: they are no sign of a driver


class Note:
    """What the driver says beside its name; goes out with the next renewal. ``key`` is its place in the store."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.facts: dict[str, Any] = {}

    def tell(self, **facts: Any) -> None:
        """As in ``teachers=3, wanted=8``."""
        self.facts = facts


@contextlib.contextmanager
def announced(store: Store, doing: str, of: str = "") -> Iterator[Note]:
    """Hold a note for the time of the block.

    ``doing`` says what the driver does, as in 'labels videos'; ``of`` names what only one may do at a time.
    """
    key = f"{FOLDER}/{uuid.uuid4().hex[:12]}.json"
    identity, stop, note = attempts.process() | {"began": time.time(), "of": of}, threading.Event(), Note(key)

    def write() -> None:
        text = identity | {"driver": "", "doing": doing, "at": time.time(), **note.facts}
        store.put(key, json.dumps(text).encode())

    def renew() -> None:
        while not stop.wait(RENEWED_S):
            with contextlib.suppress(Exception):  # a store that does not answer now is the work's affair
                write()

    _forget_dead(store)
    write()
    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    away = False
    try:
        yield note
    except Unavailable:
        away = True  # to remove the note may take the store's patience once more
        _left.add(key)
        raise
    finally:
        stop.set()
        if not away:
            thread.join()
            with contextlib.suppress(Exception):  # a note that stays is taken for dead once it is old
                store.delete(key)


@contextlib.contextmanager
def alone(store: Store, doing: str, of: str) -> Iterator[None]:
    """Hold a note as ``announced`` does, after every other driver of the same ``of`` has ended.

    A driver leaves its note before it looks for others and takes it back where it finds one: of two that begin at once
    not both go on. One that was killed is gone at once on this machine, elsewhere after a silence of ``SILENT_S``.
    """
    while True:
        _wait_for_others(store, doing, of)
        with announced(store, doing, of) as note:
            if not _others(store, of, note.key):
                yield
                return
        ending.sleep(random.uniform(0.5, 1.5) * LOOK_S)


def _wait_for_others(store: Store, doing: str, of: str) -> None:
    said = False
    while others := _others(store, of):
        if not said:
            print(
                f"waiting: {name_of(others[0])} {doing} in {store.root} already. If it was killed on another "
                f"machine, the wait ends {SILENT_S / 60:g} min after its last note",
                flush=True,
            )
        said = True
        ending.sleep(LOOK_S)


def _others(store: Store, of: str, own: str = "") -> list[dict[str, Any]]:
    """Notes of drivers that are alive and do the same; without that at the key ``own``."""
    notes = (attempts.read(store, key) for key in store.list(FOLDER) if key != own and key not in _left)
    return [note for note in notes if note is not None and note.get("of") == of and not is_silent(note)]


def _forget_dead(store: Store) -> None:
    """Remove the notes of drivers that are gone: the one that begins takes their place."""
    for key in store.list(FOLDER):
        note = attempts.read(store, key)
        if note is not None and (key in _left or attempts.is_gone(note)):
            store.delete(key)


def drivers(store: Store) -> list[dict[str, Any]]:
    """The notes of drivers that have not ended well, the youngest first: ``host pid began doing at`` and what it tells.

    Notes of earlier versions lack ``began``.
    """
    notes = [attempts.read(store, key) for key in store.list(FOLDER)]
    return sorted((note for note in notes if note is not None), key=lambda note: -note["at"])


def is_silent(note: dict[str, Any]) -> bool:
    """Whether a driver's process is gone, or has not renewed its note for long."""
    return attempts.is_gone(note) or time.time() - note["at"] > SILENT_S


def living(store: Store) -> list[str]:
    """A sentence for every driver and every attempt that may still be at work."""
    out = []
    for key in store.list(attempts.ATTEMPTS):
        note = attempts.read(store, key)
        if note is not None and not attempts.is_gone(note):
            out.append(_sentence(note))
    return sorted(set(out))


def name_of(note: dict[str, Any]) -> str:
    """As in 'process 7 on node-1'."""
    return f"process {note['pid']} on {note['host'].partition('/')[0]}"


def _sentence(note: dict[str, Any]) -> str:
    doing = note.get("doing", "works on a unit")
    return f"{name_of(note)} {doing} (its last note is {time.time() - note['at']:.0f} s old)"
