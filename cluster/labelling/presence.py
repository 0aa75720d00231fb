"""Which drivers work on an output now: each leaves a note that it renews, for ``jobs.status`` and for ``garbage``.

The commits need none of this: two drivers at once are harmless. But what a living driver's attempts have written is no
garbage yet, and whoever asks from another machine wants to know who is at work. Not here: what an attempt works on
(``attempts``).
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

from cluster.labelling import attempts
from cluster.store import Store
from hojoint.errors import Unavailable

FOLDER = f"{attempts.ATTEMPTS}/drivers"
RENEWED_S = 30.0
SILENT_S = 300.0  # a note of this age is no sign of life: ten times the interval


class Note:
    """What the driver says beside its name; goes out with the next renewal."""

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}

    def tell(self, **facts: Any) -> None:
        """As in ``teachers=3, wanted=8``."""
        self.facts = facts


@contextlib.contextmanager
def announced(store: Store, doing: str) -> Iterator[Note]:
    """Hold a note for the time of the block; ``doing`` says what the driver does, as in 'labels videos'."""
    key = f"{FOLDER}/{uuid.uuid4().hex[:12]}.json"
    identity, stop, note = attempts.process() | {"began": time.time()}, threading.Event(), Note()

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
        raise
    finally:
        stop.set()
        if not away:
            thread.join()
            with contextlib.suppress(Exception):  # a note that stays is taken for dead once it is old
                store.delete(key)


def _forget_dead(store: Store) -> None:
    """Remove the notes of drivers that are gone: the one that begins takes their place."""
    for key in store.list(FOLDER):
        note = attempts.read(store, key)
        if note is not None and attempts.is_gone(note):
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
