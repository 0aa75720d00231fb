"""How a run grows after it began: numbered records beside ``run.json``, each put once; the last says what the run is.

``run.json`` is put exclusively when a run begins. Each extension or retry (``growth``) then puts the next
``extensions/<number>.json`` with the same promise, so of two drivers that grow a run at once one is first, and the
other looks again. ``run.json`` is rewritten to match, for people and other programs; this project's readers go by the
records, because a slow driver may rewrite it late. Not here: what is added (``growth``).
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Mapping
from typing import Any

from cluster.store import Store

FOLDER = "extensions"
KEY = re.compile(rf"{FOLDER}/(\d+)\.json")
HISTORY = "extensions"
"""In a record and in ``run.json``: what each extension added, in order."""
BEFORE = "manifest_before"
"""In an entry of the history: the manifest that the run had until then."""


def length(store: Store) -> int:
    """How many times the run has grown."""
    return max((int(match[1]) for key in store.list(FOLDER) if (match := KEY.fullmatch(key))), default=0)


def with_last(store: Store, run: Mapping[str, Any]) -> dict[str, Any]:
    """``run.json`` as the last record makes it."""
    number = length(store)
    return {**run, **(json.loads(store.get(_key(number))) if number else {})}


def append(
    store: Store, run: Mapping[str, Any], number: int, facts: Mapping[str, Any], added: Mapping[str, Any]
) -> bool:
    """Put the record ``number``, and ``run.json`` after it; False where another driver has put that number first.

    Args:
        run: what the run is without it (``with_last``).
        facts: what it is from now on: fingerprint, units, videos, manifest, ...
        added: a summary for the history.
    """
    history = [*run.get(HISTORY, ()), {"number": number, "at": time.time(), BEFORE: run.get("manifest"), **added}]
    record = {**facts, HISTORY: history, "written_by": uuid.uuid4().hex}
    if not store.put_new(_key(number), json.dumps(record, indent=1).encode()):
        return False
    store.put("run.json", json.dumps({**run, **record}, indent=1).encode())
    return True


def _key(number: int) -> str:
    return f"{FOLDER}/{number:06d}.json"
