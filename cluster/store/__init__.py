"""Objects in a local folder or an S3 bucket, with one promise: ``put_new`` succeeds once per key. Commits rest on it.

Locally that is a hard link to a finished file (``local``); on S3 it is a PutObject with ``If-None-Match: *`` (``s3``).
Some S3 servers ignore the header and accept a second write; ``check_conditional`` finds them before any work. A Store
is opened where it is used, never sent in a task. Not here: which objects a run has (cluster.labelling.commits).
"""

from __future__ import annotations

import os
import tempfile
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cluster.store.base import KEY, PARTIAL, WITHOUT_CONDITION, Store
from cluster.store.local import LocalStore
from hojoint.errors import InputError

__all__ = ["Store", "check_conditional", "check_writable", "local_path", "open_store", "read_uri"]

PROBE = ".probe-"  # begins the names of the objects that check_conditional writes and removes
RACERS = 8  # writers at once in check_conditional


def open_store(uri: str, *, conditional: bool = True) -> Store:
    """A folder, ``file://`` or ``s3://bucket[/prefix]``.

    Without ``conditional``, ``put_new`` looks first and then writes, for a server that has no conditional writes.

    Raises:
        InputError: the scheme is another one, or the URI is malformed.
    """
    folder, scheme = local_path(uri), uri.partition("://")[0]
    if folder is not None:
        return LocalStore(folder)
    if scheme == "s3":
        from cluster.store.s3 import S3Store  # a laptop that writes to a folder need not load boto3

        return S3Store(uri, conditional=conditional)
    raise InputError(f"expected a folder or s3://bucket/prefix, found {uri!r}: {scheme}:// is not supported")


def check_writable(uri: str) -> None:
    """Prove that ``uri`` can be an output, before any work; it leaves nothing behind, so a dry run calls it too.

    Raises:
        InputError: it cannot be reached or written.
    """
    store = open_store(uri)
    if not isinstance(store, LocalStore):
        next(iter(store.list(PARTIAL)), None)  # the bucket exists and answers
        return
    nearest = Path(store.root)
    while not os.path.lexists(nearest):
        nearest = nearest.parent
    try:
        with tempfile.TemporaryFile(dir=nearest):  # permissions say little: to root, on read-only mounts, in /proc
            pass
    except OSError as error:
        reason = f"{nearest} is not a folder"
        if nearest.is_dir():
            reason = f"no file can be created in {nearest} ({error.strerror})"
        raise InputError(
            f"cannot write to {uri}: {reason}. Give a folder that can be written to, or s3://bucket/prefix"
        ) from None


def read_uri(uri: str) -> bytes:
    """One object or local file outside a run's output (a checkpoint).

    Raises:
        InputError: it does not exist or cannot be read.
    """
    path = local_path(uri)
    folder, _, name = uri.rpartition("/")
    try:
        if path is not None:
            return path.read_bytes()
        if "://" not in folder or not KEY.fullmatch(name):
            raise InputError(
                "expected the URI of one object, its name of letters, digits and _ . = -, as in "
                f"s3://bucket/folder/name; found {uri!r}"
            )
        return open_store(folder).get(name)
    except KeyError:
        raise InputError(f"no object at {uri}") from None
    except OSError as error:
        raise InputError(f"cannot read {uri}: {error.strerror}") from None


def local_path(uri: str) -> Path | None:
    """The path of a local file or folder; None for any other scheme."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return Path(uri)
    return Path("/" + rest.lstrip("/")) if scheme == "file" else None


def check_conditional(store: Store) -> None:
    """Prove that a second ``put_new`` is refused, one after the other and eight at once.

    Raises:
        InputError: it is accepted, so two attempts at a unit could both be committed.
    """
    name = PROBE + uuid.uuid4().hex  # shares no key with another driver's probe
    sequential, raced = f"{name}-sequential", f"{name}-raced"
    start = threading.Barrier(RACERS)

    def race(racer: int) -> bool:
        start.wait()
        return store.put_new(raced, f"racer {racer}".encode())

    one_by_one = [store.put_new(sequential, b"first")]
    try:
        one_by_one.append(store.put_new(sequential, b"second"))
        kept = store.get(sequential)
        with ThreadPoolExecutor(RACERS) as pool:
            winners = sum(pool.map(race, range(RACERS)))
    finally:
        store.delete(sequential)
        store.delete(raced)
    if one_by_one != [True, False] or kept != b"first" or winners != 1:
        raise InputError(
            f"{store.root} does not refuse a second conditional write (If-None-Match: *): of two in a row "
            f"{sum(one_by_one)} succeeded, of {RACERS} at once {winners}; expected 1 and 1. {WITHOUT_CONDITION}"
        )
