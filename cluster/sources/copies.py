"""Copies of objects on this node, each made once.

A lock makes other processes of the node wait, and an interrupted copy continues with the missing files.
A copy belongs to one state of the source (names, sizes and etags), so it is never mixed with another state. Not here:
which settings are copied (``mirror``).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from cluster.sources.download import Download
from cluster.store.bucket import Bucket, Refused, split
from hojoint.errors import InputError, NoRoom
from hojoint.labelling.video import VideoError

THREADS = 16
COMPLETE, PARTIAL = "complete", "partial"  # beside the data: marks a finished copy; holds files in progress
LEAST_S, LEAST_RATE = 600.0, 2**18  # seconds for a file, and bytes a second beyond

_copies: dict[tuple[str, str | None, str | None], Path] = {}


def copy_of(uri: str, setting: str, cache: str | None = None) -> str:
    """Path of a local copy of an object, or of all objects under a prefix; one process sees one state of it.

    Args:
        uri: ``s3://bucket/key``.
        setting: names it in errors.
        cache: ``cluster.cache``.

    Raises:
        InputError: nothing is there, it cannot be read, or the cache cannot hold it.
        NoRoom: the cache was filled up meanwhile.
    """
    known = (uri, os.environ.get("AWS_ENDPOINT_URL"), cache)
    if known in _copies and _beside(_copies[known], COMPLETE).exists():
        return str(_copies[known])
    members = _members(Bucket(uri, setting=setting), uri.rstrip("/"))
    if not members:
        raise InputError(f"no object at {uri} and none below it; set {setting}")
    state = hashlib.sha256(repr((os.environ.get("AWS_ENDPOINT_URL"), uri, members)).encode()).hexdigest()[:24]
    folder = _cache(cache) / state
    name = uri.rstrip("/").rpartition("/")[2]
    if name in (".", ".."):
        raise InputError(f"{uri} cannot be a file or a folder: rename it in the bucket, or set {setting}")
    target = folder / name
    complete = _beside(target, COMPLETE)
    if not complete.exists():
        with _locked(folder):
            if not complete.exists():
                _copy(uri.rstrip("/"), members, target, setting)
                complete.touch()
    _copies[known] = target
    return str(target)


Member = tuple[str, int, str]
"""Path below the prefix ('' for an object itself), bytes, etag."""


def _members(bucket: Bucket, uri: str) -> list[Member]:
    _, key = split(uri)
    found: list[Member] = []
    if key:
        with contextlib.suppress(Refused):
            answer = bucket.call("head_object", Key=key)
            found = [("", answer["ContentLength"], answer["ETag"].strip('"'))]
    return found if found and found[0][1] else list(_below(bucket, uri, key)) or found  # an empty one may mark a folder


def _below(bucket: Bucket, uri: str, key: str) -> Iterator[Member]:
    """The objects under a prefix."""
    prefix = key + "/" if key else ""
    token: dict[str, str] = {}
    while True:
        page = bucket.call("list_objects_v2", Prefix=prefix, **token)
        for content in page.get("Contents", ()):
            name = content["Key"].removeprefix(prefix)
            if not name or name.endswith("/"):
                continue  # an empty object that stands for a folder
            if any(part in ("", ".", "..") for part in name.split("/")):
                raise InputError(f"{uri}/{name} cannot be a file: rename the object, or set {bucket.setting}")
            yield name, content["Size"], content["ETag"].strip('"')
        if not page.get("IsTruncated"):
            return
        token = {"ContinuationToken": page["NextContinuationToken"]}


def _copy(uri: str, members: Sequence[Member], target: Path, setting: str) -> None:
    """Copy what is not there yet; a file has its final name only when it is complete."""
    partial = _beside(target, PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)  # of a killed process
    partial.mkdir(parents=True)
    left = [member for member in members if _size(target / member[0] if member[0] else target) != member[1]]
    needed, free = sum(size for _, size, _ in left), shutil.disk_usage(partial).free
    if needed > free:
        raise InputError(
            f"{setting}={uri} needs {needed / 1e9:.1f} GB and {target.parent} has {free / 1e9:.1f} GB; set "
            "cluster.cache to a folder on each node with more room"
        )

    def copy(numbered: tuple[int, Member]) -> int:
        number, (name, size, etag) = numbered
        path, seconds = partial / str(number), LEAST_S + size / LEAST_RATE
        source = f"{uri}/{name}" if name else uri
        Download(source, until=time.monotonic() + seconds, deadline=f"{seconds:.0f} s").into(path, 0, size, etag)
        final = target / name if name else target
        final.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, final)
        return size

    bar = tqdm(desc=f"copying {setting}", total=needed, unit="B", unit_scale=True, delay=2, leave=False)
    try:
        with bar, ThreadPoolExecutor(THREADS) as pool:
            for size in pool.map(copy, enumerate(left)):
                bar.update(size)
    except VideoError as error:
        raise InputError(f"{setting}: {error}") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoRoom(
                f"{target.parent} on the node {socket.gethostname()} has no room for {setting}={uri} "
                f"({error.strerror}); free some, or set cluster.cache to a folder with more. The same command then "
                "resumes"
            ) from None
        raise InputError(f"cannot copy {uri} to {target}: {error.strerror}; set cluster.cache") from None
    shutil.rmtree(partial)


def _beside(target: Path, name: str) -> Path:
    """A path in the folder of ``target`` that never is ``target``, although a prefix may have any name."""
    return target.with_name(f"{name} of copy" if target.name == name else name)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _cache(configured: str | None) -> Path:
    path = Path(configured or os.path.join(tempfile.gettempdir(), "hojoint-cache"))
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to cluster.cache={path}: {error.strerror}; set another folder") from None
    if configured is None and path.stat().st_uid != os.getuid():
        raise InputError(f"{path} belongs to another user; set cluster.cache to a folder of your own on each node")
    return path


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Alone on this node."""
    with open(f"{folder}.lock", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed
        yield


def sibling(root: str, uri: str, setting: str, unless: str | None) -> str | None:
    """``uri``, a neighbour of ``root``; None where nothing is below it, or ``unless`` lies in ``root``."""
    bucket = Bucket(root, setting=setting)
    if unless is not None and _exists(bucket, f"{root}/{unless}"):
        return None
    return uri if _exists(bucket, f"{uri}/") else None


def _exists(bucket: Bucket, uri: str) -> bool:
    """Whether a key begins with this one."""
    return bool(bucket.call("list_objects_v2", Prefix=split(uri)[1], MaxKeys=1).get("Contents"))
