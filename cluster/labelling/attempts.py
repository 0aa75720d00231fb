"""The attempt ledger: which videos a process works on, written before the work, so that a killer can be found.

A video that kills its process (memory, a driver fault) would kill every retry. So an attempt notes the videos it is
about to touch. The next attempt at the unit finds the note of a dead one and takes those videos last and one by one.
After ``labelling.attempts`` deaths, one of them alone, the video goes to quarantine. Only deaths that their driver
survived count: where driver and attempt died together, someone ended the run or the machine failed, which makes
suspects but does not show that a video was the cause. Not here: the work itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.store import Store
from hojoint.errors import NoRoom, Unavailable

ATTEMPTS = "attempts"
NOTE = re.compile(rf"{ATTEMPTS}/[a-z0-9]+/[0-9a-f]{{12}}\.json")  # of an attempt or a driver; people add other names
STALE_S = 3600.0  # after this time, a note from another machine and another driver belongs to a dead attempt


@dataclass(frozen=True)
class Suspicion:
    """What dead attempts at a unit worked on."""

    suspects: frozenset[str]  # video ids: take them alone
    guilty: dict[str, int]  # video id -> deaths: do not take them at all


class Ledger:
    """One attempt's notes at ``attempts/<unit>/<attempt>.json``."""

    def __init__(self, store: Store, unit_id: str, driver: str) -> None:
        self.attempt = uuid.uuid4().hex[:12]
        self._store, self._unit_id = store, unit_id
        self._key = f"{ATTEMPTS}/{unit_id}/{self.attempt}.json"
        self._identity = {"driver": driver, **process()}

    def suspicion(self, allowed_deaths: int) -> Suspicion:
        """Read the notes of earlier attempts at this unit."""
        suspects: set[str] = set()
        deaths: Counter[str] = Counter()  # under this driver, which survived them
        alone: set[str] = set()
        for key in self._store.list(f"{ATTEMPTS}/{self._unit_id}"):
            note = read(self._store, key)
            if note is None or not self._is_dead(note):
                continue
            videos = note["in_hand"]
            suspects.update(videos)
            if note["driver"] == self._identity["driver"]:
                deaths.update(videos)
                alone.update(videos if len(videos) == 1 else ())
        guilty = {video: deaths[video] for video in alone if deaths[video] >= allowed_deaths}
        return Suspicion(frozenset(suspects - guilty.keys()), guilty)

    def note(self, video_ids: Iterable[str]) -> None:
        """Write that these videos are in progress, before the work on them."""
        record = self._identity | {"in_hand": sorted(video_ids), "at": time.time()}
        self._store.put(self._key, json.dumps(record).encode())

    def close(self) -> None:
        """The attempt is finished: remove its notes."""
        self._store.delete(self._key)

    @contextlib.contextmanager
    def closed_on_error(self) -> Iterator[None]:
        """Remove the notes where the block raises: the process lives, so no video in hand has killed it."""
        try:
            yield
        except Exception as error:
            # A store that is away would take its patience once more, and the run ends anyway.
            if isinstance(error, NoRoom) or not isinstance(error, Unavailable):
                with contextlib.suppress(Exception):
                    self.close()
            raise

    def _is_dead(self, note: dict[str, Any]) -> bool:
        if note["driver"] == self._identity["driver"]:
            return True  # Ray retries a unit only after its process is gone
        return is_gone(note)


def read(store: Store, key: str) -> dict[str, Any] | None:
    """A note; None where its attempt has closed meanwhile, or the file is none of ours."""
    if NOTE.fullmatch(key) is None:
        return None
    try:
        note: dict[str, Any] = json.loads(store.get(key))
    except KeyError:
        return None
    return note


def is_gone(note: dict[str, Any]) -> bool:
    """Whether the process that wrote a note is gone; one on another machine is, once its note is old."""
    if note["host"] == _host():
        return _started(note["pid"]) != note["started"]
    return time.time() - note["at"] > STALE_S


def process() -> dict[str, Any]:
    """Names this process in a note."""
    return {"host": _host(), "pid": os.getpid(), "started": _started(os.getpid())}


def _host() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{socket.gethostname()}/{boot.read_text().strip() if boot.exists() else ''}"


def _started(pid: int) -> str | None:
    """Start of a process of this machine, in clock ticks since boot: tells it from a later one with the same number."""
    try:
        # The name in the second field may hold spaces and brackets.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None
