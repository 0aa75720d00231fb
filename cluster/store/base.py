"""What a store promises: named bytes, and ``put_new``, which succeeds once per key. Commits rest on it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow.fs

KEY = re.compile(r"[A-Za-z0-9_.=-]+(/[A-Za-z0-9_.=-]+)*")
PARTIAL = ".partial"  # folder of local files that are being written
OF_UPLOAD = "?uploadId="  # in a bucket, between the key and the id of an unfinished upload
WITHOUT_CONDITION = (
    "Without it, retries and two drivers at once can label a unit twice. Use a store that has it (AWS S3, Ceph, MinIO, "
    "a local disk), or set labelling.require_conditional_writes=false and never run two drivers on one output"
)
CHECKSUMS = {"AWS_REQUEST_CHECKSUM_CALCULATION": "when_required", "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required"}
"""Environment of every process that talks to S3: servers before 2025 refuse the trailing checksums that newer clients
send by default."""


@dataclass(frozen=True)
class Entry:
    """An object in a listing."""

    key: str
    size: int  # bytes; 0 where it is not known
    age_s: float  # since it was written, by the clock of the store


class Store(Protocol):
    """Named bytes. Keys are relative, of letters, digits and ``_ . = - /``."""

    root: str

    def put(self, key: str, data: bytes) -> None:
        """Write or replace; readers see the old bytes or the new ones."""

    def put_file(self, key: str, path: Path) -> None:
        """As ``put``, with the content of a local file of any size."""

    def put_new(self, key: str, data: bytes) -> bool:
        """Write unless the key exists; returns whether the key now holds ``data``. Make that unique to the caller."""

    def get(self, key: str) -> bytes:
        """Raises KeyError for a key that does not exist."""

    def move(self, key: str, path: str) -> None:
        """Move an object of any size to a place that ``filesystem`` knows; what lies there is replaced at once."""

    def exists(self, key: str) -> bool: ...

    def list(self, prefix: str) -> Iterator[str]:
        """Keys in the folder ``prefix`` and below, in ascending order."""

    def entries(self, beginning: str) -> Iterator[Entry]:
        """Objects whose keys begin with these letters, a folder and ``/`` or a part of a name, in any order."""

    def unfinished(self) -> Iterator[Entry]:
        """Objects that a writer has begun and not finished, by names that ``discard`` takes."""

    def discard(self, name: str) -> None:
        """Remove an unfinished object; no error where it is finished or gone."""

    def delete(self, key: str) -> None:
        """Remove; no error for a key that does not exist."""

    def tidy(self) -> int:
        """Remove what killed writers left half written; returns how many objects."""

    def uri(self, key: str) -> str: ...

    def filesystem(self) -> tuple[pyarrow.fs.FileSystem, str]:
        """For pyarrow and Ray Train: a filesystem, and the path of this store in it."""


def checked(key: str) -> str:
    """The key itself; ValueError for one that could leave the store."""
    if not KEY.fullmatch(key) or any(part in (".", "..") for part in key.split("/")):
        raise ValueError(f"not a key: {key!r}")
    return key
