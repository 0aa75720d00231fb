"""The sign of life that a driver leaves in its output while it works: when, and how many Teachers live.

``jobs.status`` reads it from any machine, without asking the cluster. It is for display only: a run's state is in its
commits. Not here: how the driver knows how many live (``cluster.progress``).
"""

from __future__ import annotations

import json
import time
from typing import Any

from cluster.progress import State
from cluster.store import Store

SIGN = "progress.json"


def leave(store: Store, wanted: int, state: State) -> None:
    """Write the sign: ``{"at": seconds since the epoch, "teachers": alive, "wanted": largest number}``."""
    sign = {"at": time.time(), "teachers": state.get("alive", 0), "wanted": wanted}
    try:
        store.put(SIGN, json.dumps(sign).encode())
    except Exception:
        return  # the run's own writes say what is wrong with the store


def read(store: Store) -> dict[str, Any] | None:
    """The last sign of a driver that has not ended, None where there is none."""
    try:
        sign = json.loads(store.get(SIGN))
    except (KeyError, ValueError):
        return None
    return sign if isinstance(sign, dict) and {"at", "teachers", "wanted"} <= sign.keys() else None


def remove(store: Store) -> None:
    """The driver ends."""
    try:
        store.delete(SIGN)
    except Exception:
        return  # as above; what stays behind is shown as silence
