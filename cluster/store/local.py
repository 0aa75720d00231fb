"""A store in a local folder: ``put_new`` is a hard link to a finished file."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pyarrow.fs

from cluster.store.base import PARTIAL, Entry, checked
from hojoint.errors import InputError

COPIED_AT_ONCE = 2**20  # bytes
ABANDONED_S = 3600.0  # a partial file of this age has lost its writer
NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}  # answers of file systems without hard links
MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE}  # faults of the machine, not caused by user input


class LocalStore:
    """A folder. Its file system must have hard links, which every POSIX one has."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder).expanduser().absolute()
        self.root = str(self._folder)

    def put(self, key: str, data: bytes) -> None:
        self._replace(self._partial(key, io.BytesIO(data)), key)

    def put_file(self, key: str, path: Path) -> None:
        with open(path, "rb") as source:
            self._replace(self._partial(key, source), key)

    def put_new(self, key: str, data: bytes) -> bool:
        partial, path = self._partial(key, io.BytesIO(data)), self._path(key)
        try:
            with _input_errors(path):
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
        paths = [Path(folder, name) for folder, _, names in os.walk(top) for name in names]
        yield from sorted(path.relative_to(self._folder).as_posix() for path in paths)

    def entries(self, beginning: str) -> Iterator[Entry]:
        folder, _, name = beginning.rpartition("/")
        top = self._folder / checked(folder) if folder else self._folder
        for path in top.glob(f"{name}*"):
            below = path.rglob("*") if path.is_dir() else (path,)
            yield from (_entry(one, one.relative_to(self._folder).as_posix()) for one in below if one.is_file())

    def unfinished(self) -> Iterator[Entry]:
        for path in (self._folder / PARTIAL).glob("*"):
            with contextlib.suppress(FileNotFoundError):  # finished meanwhile
                yield _entry(path, path.name)

    def discard(self, name: str) -> None:
        (self._folder / PARTIAL / checked(name)).unlink(missing_ok=True)

    def delete(self, key: str) -> None:
        self._path(key).unlink(missing_ok=True)

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

    def _path(self, key: str) -> Path:
        return self._folder / checked(key)

    def _replace(self, partial: Path, key: str) -> None:
        with _input_errors(self._path(key)):
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
        with _input_errors(self._path(key)):
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
def _input_errors(path: Path) -> Iterator[None]:
    """Turn an OSError on the user's output into an InputError; faults of the machine stay OSErrors."""
    try:
        yield
    except OSError as error:
        if error.errno in MACHINE:
            raise
        raise InputError(f"cannot write {path}: {error.strerror}; set output to a place that can be written") from None


def _sync(folder: Path) -> None:
    """A new name in a folder survives a power cut only when the folder itself is on disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
