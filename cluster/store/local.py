"""A store in a local folder: ``put_new`` is a hard link to a finished file."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar

import pyarrow.fs

from cluster import patience
from cluster.store.base import PARTIAL, Entry, checked
from hojoint.errors import InputError, NoRoom

OURS = re.compile("[0-9a-f]{32}")  # names of files that are being written
COPIED_AT_ONCE = 2**20  # bytes
ABANDONED_S = 3600.0  # a partial file of this age has lost its writer
NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}  # answers of file systems without hard links
FULL = {errno.ENOSPC, errno.EDQUOT}
PASSING = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN}  # of a mount whose server is away
GONE = (FileNotFoundError, NotADirectoryError)

T = TypeVar("T")


class LocalStore:
    """A folder. Its file system must have hard links, which every POSIX one has."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder).expanduser().absolute()
        self.root = str(self._folder)

    def put(self, key: str, data: bytes) -> None:
        self._asked(lambda: self._replace(self._partial(key, io.BytesIO(data)), key))

    def put_file(self, key: str, path: Path) -> None:
        def copy() -> None:
            with open(path, "rb") as source:
                self._replace(self._partial(key, source), key)

        self._asked(copy)

    def put_new(self, key: str, data: bytes) -> bool:
        def create() -> bool:
            partial, path = self._partial(key, io.BytesIO(data)), self._path(key)
            try:
                with _explained(path):
                    won = self._link(partial, path)
            finally:
                partial.unlink()
            if won:
                _sync(path.parent)
            return won

        # An attempt before, whose end failed, may have made the file: its content tells.
        return self._asked(create) or self.get(key) == data

    def get(self, key: str) -> bytes:
        def read() -> bytes:
            try:
                return self._path(key).read_bytes()
            except GONE:
                raise KeyError(key) from None

        return self._asked(read)

    def move(self, key: str, path: str) -> None:
        os.replace(self._path(key), path)
        _sync(Path(path).parent)

    def exists(self, key: str) -> bool:
        return self._asked(self._path(key).is_file)

    def list(self, prefix: str) -> Iterator[str]:
        top = self._folder / checked(prefix)

        def walk() -> list[Path]:
            return [Path(folder, name) for folder, _, names in os.walk(top, onerror=_unless_gone) for name in names]

        yield from sorted(path.relative_to(self._folder).as_posix() for path in self._asked(walk))

    def entries(self, beginning: str) -> Iterator[Entry]:
        folder, _, name = beginning.rpartition("/")
        top = self._folder / checked(folder) if folder else self._folder
        for path in top.glob(f"{name}*"):
            below = path.rglob("*") if path.is_dir() else (path,)
            yield from (_entry(one, one.relative_to(self._folder).as_posix()) for one in below if one.is_file())

    def unfinished(self) -> Iterator[Entry]:
        for path in (self._folder / PARTIAL).glob("*"):
            if OURS.fullmatch(path.name) is None:
                continue
            with contextlib.suppress(FileNotFoundError):  # finished meanwhile
                yield _entry(path, path.name)

    def discard(self, name: str) -> None:
        (self._folder / PARTIAL / checked(name)).unlink(missing_ok=True)

    def delete(self, key: str) -> None:
        self._asked(lambda: self._path(key).unlink(missing_ok=True))

    def tidy(self) -> int:
        removed = 0
        for path in (self._folder / PARTIAL).glob("*"):
            with contextlib.suppress(FileNotFoundError):  # another sweep removed it first
                if time.time() - path.stat().st_mtime > ABANDONED_S:
                    path.unlink()
                    removed += 1
        return removed

    def uri(self, key: str) -> str:
        return str(self._path(key))

    def filesystem(self) -> tuple[pyarrow.fs.FileSystem, str]:
        return pyarrow.fs.LocalFileSystem(), self.root

    def _asked(self, request: Callable[[], T]) -> T:
        """What ``request`` returns; faults of a mount whose server is away are ridden out.

        Raises:
            InputError: the output cannot be written, or this user has no right to see it.
            NoRoom: its disk is full.
            Unavailable: it has not answered for the patience of this process.
        """
        try:
            return patience.ridden_out(request, _passing, f"store {self.root}")
        except PermissionError as error:
            raise InputError(
                f"this user has no right to {error.filename or self.root} on the node {socket.gethostname()} "
                f"({error.strerror}); run as one who has it, or let its owner give it (chmod)"
            ) from None

    def _path(self, key: str) -> Path:
        return self._folder / checked(key)

    def _replace(self, partial: Path, key: str) -> None:
        with _explained(self._path(key)):
            os.replace(partial, self._path(key))
        _sync(self._path(key).parent)

    def _link(self, partial: Path, path: Path) -> bool:
        """Give a finished file its name; returns whether it has that name now."""
        try:
            os.link(partial, path)
        except FileExistsError:
            # NFS repeats a request whose answer was lost: the existing file may be this one.
            return os.path.samefile(partial, path)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            raise InputError(
                f"cannot create files exclusively under {self.root}: {error.strerror}. The output needs a file system "
                "with hard links; set output to another folder"
            ) from None
        return True

    def _partial(self, key: str, data: BinaryIO) -> Path:
        """Write the data to a finished file under another name, on disk."""
        partial = self._folder / PARTIAL / uuid.uuid4().hex
        with _explained(self._path(key)):
            self._path(key).parent.mkdir(parents=True, exist_ok=True)
            partial.parent.mkdir(exist_ok=True)
            try:
                with open(partial, "xb") as file:
                    shutil.copyfileobj(data, file, COPIED_AT_ONCE)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError:
                partial.unlink(missing_ok=True)  # leave no half file on a full disk
                raise
        return partial


def _entry(path: Path, key: str) -> Entry:
    facts = path.stat()
    return Entry(key, facts.st_size, time.time() - facts.st_mtime)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn an OSError on the user's output into an InputError or NoRoom; those that may pass stay OSErrors."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise NoRoom(
                f"no room to write {path} on the node {socket.gethostname()} ({error.strerror}); free some, or give "
                "the disk or the quota more. The same command then resumes"
            ) from None
        if error.errno in PASSING:
            raise
        raise InputError(f"cannot write {path}: {error.strerror}; set output to a place that can be written") from None


def _passing(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in PASSING


def _unless_gone(error: OSError) -> None:
    """What a listing cannot see must not look like nothing."""
    if not isinstance(error, GONE):
        raise error


def _sync(folder: Path) -> None:
    """A new name in a folder survives a power cut only when the folder itself is on disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
