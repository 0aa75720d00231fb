"""Objects in a local folder or an S3 bucket, with the one promise commits rest on: ``put_new`` succeeds once per key.

Locally that is a hard link to a finished file; on S3 (cluster.s3) a PutObject with ``If-None-Match: *``. A store that
takes a second one all the same (some S3 servers ignore the header) is found by ``check_conditional`` before any work. A
Store is opened where it is used, never sent in a task. Not here: which objects a run has (cluster.commits).
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import pyarrow.fs

from hojoint.errors import InputError

KEY = re.compile(r"[A-Za-z0-9_.=-]+(/[A-Za-z0-9_.=-]+)*")
PROBE = ".probe-"  # begins the names of the objects that check_conditional writes and removes
PARTIAL = ".partial"  # folder of local files that are being written
ABANDONED_S = 3600.0  # a file that is being written for so long has lost its writer
NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}  # what file systems without hard links say
MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE}  # faults of the machine, not of what the user gave
RACERS = 8
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


def open_store(uri: str, *, conditional: bool = True) -> Store:
    """A folder, ``file://`` or ``s3://bucket[/prefix]``.

    Without ``conditional``, ``put_new`` makes do with looking first where a server has no conditional writes.

    Raises:
        InputError: another scheme, or a URI that cannot be one.
    """
    folder, scheme = _local(uri), uri.partition("://")[0]
    if folder is not None:
        return LocalStore(folder)
    if scheme == "s3":
        from cluster.s3 import S3Store  # a laptop that writes to a folder need not load boto3

        return S3Store(uri, conditional=conditional)
    raise InputError(f"wanted a folder or s3://bucket/prefix, found {uri!r}: {scheme}:// is not supported")


def check_writable(uri: str) -> None:
    """Prove that ``uri`` can be an output, before any work; leaves nothing there, so a dry run asks too.

    Raises:
        InputError: it cannot be reached or written.
    """
    store = open_store(uri)
    if not isinstance(store, LocalStore):
        next(iter(store.list(PARTIAL)), None)  # the bucket is there and answers us
        return
    place = Path(store.root)
    while not os.path.lexists(place):
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):  # permissions say little: to root, on read-only mounts, in /proc
            pass
    except OSError as error:
        reason = f"no file can be made in {place} ({error.strerror})" if place.is_dir() else f"{place} is not a folder"
        raise InputError(
            f"cannot write to {uri}: {reason}. Give a folder that can be written to, or s3://bucket/prefix"
        ) from None


def read_uri(uri: str) -> bytes:
    """One object or local file, for things that lie outside a run's output (a checkpoint).

    Raises:
        InputError: there is none.
    """
    path = _local(uri)
    folder, _, name = uri.rpartition("/")
    try:
        if path is not None:
            return path.read_bytes()
        if "://" not in folder or not KEY.fullmatch(name):
            raise InputError(
                f"wanted the URI of one object, its name of letters, digits and _ . = -, as in s3://bucket/folder/name;"
                f" found {uri!r}"
            )
        return open_store(folder).get(name)
    except KeyError:
        raise InputError(f"there is no object {uri}") from None
    except OSError as error:
        raise InputError(f"cannot read {uri}: {error.strerror}") from None


def _local(uri: str) -> Path | None:
    """The path of a local file or folder; nothing for what lies elsewhere."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return Path(uri)
    return Path("/" + rest.lstrip("/")) if scheme == "file" else None


def check_conditional(store: Store) -> None:
    """Prove that a second ``put_new`` is refused, one after the other and eight at once.

    Raises:
        InputError: it is not, so two attempts at a unit could both be committed.
    """
    name = PROBE + uuid.uuid4().hex  # shares no folder with another driver's probe
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
            f"{sum(one_by_one)} succeeded, of {RACERS} at once {winners}. {WITHOUT_CONDITION}"
        )


def checked(key: str) -> str:
    """The key itself; ValueError for one that could leave the store."""
    if not KEY.fullmatch(key) or any(part in (".", "..") for part in key.split("/")):
        raise ValueError(f"not a key: {key!r}")
    return key


class LocalStore:
    """A folder. Its file system must have hard links, which every POSIX one has."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder).expanduser().absolute()
        self.root = str(self._folder)

    def put(self, key: str, data: bytes) -> None:
        partial = self._partial(key, data)
        with _users_fault(self._path(key)):
            os.replace(partial, self._path(key))
        _sync(self._path(key).parent)

    def put_new(self, key: str, data: bytes) -> bool:
        partial, path = self._partial(key, data), self._path(key)
        try:
            with _users_fault(path):
                won = self._link(partial, path)
        finally:
            partial.unlink()
        if won:
            _sync(path.parent)
        return won

    def get(self, key: str) -> bytes:
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise KeyError(key) from None

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def list(self, prefix: str) -> Iterator[str]:
        top = self._folder / checked(prefix)
        found = [Path(folder, name) for folder, _, names in os.walk(top) for name in names]
        yield from sorted(path.relative_to(self._folder).as_posix() for path in found)

    def delete(self, key: str) -> None:
        self._path(key).unlink(missing_ok=True)

    def tidy(self) -> int:
        removed = 0
        for path in (self._folder / PARTIAL).glob("*"):
            with contextlib.suppress(FileNotFoundError):  # another sweep was first
                if time.time() - path.stat().st_mtime > ABANDONED_S:
                    path.unlink()
                    removed += 1
        return removed

    def uri(self, key: str) -> str:
        return str(self._path(key))

    def filesystem(self) -> tuple[pyarrow.fs.FileSystem, str]:
        return pyarrow.fs.LocalFileSystem(), self.root

    def _path(self, key: str) -> Path:
        return self._folder / checked(key)

    def _link(self, partial: Path, path: Path) -> bool:
        """Give a finished file its name; whether it has it now."""
        try:
            os.link(partial, path)
        except FileExistsError:
            # NFS repeats a request whose answer was lost: the file in the way may be ours.
            return os.path.samefile(partial, path)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            raise InputError(
                f"cannot create files exclusively under {self.root}: {error.strerror}. The output needs a file system "
                "with hard links; choose another folder"
            ) from None
        return True

    def _partial(self, key: str, data: bytes) -> Path:
        """The data in a finished file under another name, on disk."""
        partial = self._folder / PARTIAL / uuid.uuid4().hex
        with _users_fault(self._path(key)):
            self._path(key).parent.mkdir(parents=True, exist_ok=True)
            partial.parent.mkdir(exist_ok=True)
            try:
                with open(partial, "xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError:
                partial.unlink(missing_ok=True)  # a full disk needs no half file more
                raise
        return partial


@contextlib.contextmanager
def _users_fault(path: Path) -> Iterator[None]:
    """Within, an OSError means that the output cannot be what the user said; the machine's own faults stay theirs."""
    try:
        yield
    except OSError as error:
        if error.errno in MACHINE:
            raise
        raise InputError(f"cannot write {path}: {error.strerror}; choose an output that can be written") from None


def _sync(folder: Path) -> None:
    """A new name in a folder survives a power cut only when the folder itself is on disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
