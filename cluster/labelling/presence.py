"""Which drivers work on an output now: each leaves a note that it renews, so that nobody cleans up behind its back.

The commits need none of this: two drivers at once are harmless. Only ``garbage`` asks, because what a living driver's
attempts have written is not garbage yet. Not here: what an attempt works on (``attempts``).
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

FOLDER = f"{attempts.ATTEMPTS}/drivers"
RENEWED_S = 60.0


@contextlib.contextmanager
def announced(store: Store, doing: str) -> Iterator[None]:
    """Hold a note for the time of the block; ``doing`` says what the driver does, as in 'labels videos'."""
    key = f"{FOLDER}/{uuid.uuid4().hex[:12]}.json"
    identity, stop = attempts.process(), threading.Event()

    def note() -> None:
        store.put(key, json.dumps(identity | {"driver": "", "doing": doing, "at": time.time()}).encode())

    def renew() -> None:
        while not stop.wait(RENEWED_S):
            with contextlib.suppress(Exception):  # a store that does not answer now is the work's affair
                note()

    note()
    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        with contextlib.suppress(Exception):  # a note that stays is taken for dead once it is old
            store.delete(key)


def living(store: Store) -> list[str]:
    """A sentence for every driver and every attempt that may still be at work."""
    out = []
    for key in store.list(attempts.ATTEMPTS):
        note = attempts.read(store, key)
        if note is not None and not attempts.is_gone(note):
            out.append(_sentence(note))
    return sorted(set(out))


def _sentence(note: dict[str, Any]) -> str:
    host, doing = note["host"].partition("/")[0], note.get("doing", "works on a unit")
    return f"process {note['pid']} on {host} {doing} (its last note is {time.time() - note['at']:.0f} s old)"
