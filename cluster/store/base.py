"""What a store promises: named bytes, and ``put_new``, which succeeds once per key. Commits rest on it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Protocol

import pyarrow.fs

KEY = re.compile(r"[A-Za-z0-9_.=-]+(/[A-Za-z0-9_.=-]+)*")
PROBE = ".probe-"  # begins the names of the objects that check_conditional writes and removes
PARTIAL = ".partial"  # folder of local files that are being written
WITHOUT_CONDITION = (
    "Without it, retries and two drivers at once can label a unit twice. Use a store that has it (AWS S3, Ceph, MinIO, "
    "a local disk), or set labelling.require_conditional_writes=false and never run two drivers on one output"
)


class Store(Protocol):
    """Named bytes. Keys are relative, of letters, digits and ``_ . = - /``."""

    root: str

    def put(self, key: str, data: bytes) -> None:
        """Write, replacing what was there; readers see the old bytes or the new ones."""

    def put_new(self, key: str, data: bytes) -> bool:
        """Write unless the key exists; whether the key now holds ``data``. Make that unique to the caller."""

    def get(self, key: str) -> bytes:
        """Raises KeyError where there is none."""

    def exists(self, key: str) -> bool: ...

    def list(self, prefix: str) -> Iterator[str]:
        """Keys in the folder ``prefix`` and below, in ascending order."""

    def delete(self, key: str) -> None:
        """Remove; no error where there is none."""

    def tidy(self) -> int:
        """Remove what writers that were killed left half written; how many objects that were."""

    def uri(self, key: str) -> str: ...

    def filesystem(self) -> tuple[pyarrow.fs.FileSystem, str]:
        """For pyarrow and Ray Train: a filesystem, and the path of this store in it."""


def checked(key: str) -> str:
    """The key itself; ValueError for one that could leave the store."""
    if not KEY.fullmatch(key) or any(part in (".", "..") for part in key.split("/")):
        raise ValueError(f"not a key: {key!r}")
    return key
