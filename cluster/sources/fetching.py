"""A local file of a listed video for the time of a block: a path as it is, anything else as a bounded temporary copy.

Every fault is a ``VideoError``, so it costs one video: too large, missing, replaced since it was listed, unreachable
until the deadline. What credentials refuse is an InputError, because it is not the video's fault. Not here: listing
(``listing``), requests and their retries (``download``).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cluster.sources import folders, objects, scratch
from cluster.sources.download import Download
from cluster.sources.naming import Member, member_of
from cluster.store.bucket import split
from hojoint.config import LabellingConfig
from hojoint.labelling.video import VideoError

PICTURES_AT_ONCE = 8
COPIED_AT_ONCE = 2**20  # bytes


@dataclass(frozen=True)
class FetchLimits:
    """What one video may take."""

    size: int = 2**30  # bytes
    deadline_s: float = 120.0  # retries included

    @classmethod
    def of(cls, config: LabellingConfig) -> FetchLimits:
        """The settings of labelling."""
        return cls(config.max_file_mb * 2**20, config.fetch_deadline_s)

    def check(self, size: int) -> None:
        """Raise VideoError for a video of ``size`` bytes that is too large."""
        if size > self.size:
            found = f"{size / 2**20:.1f} MB; labelling.max_file_mb={self.size / 2**20:g}"
            raise VideoError("too_large", found)


@contextlib.contextmanager
def fetched(uri: str, limits: FetchLimits, *, size: int | None = None, etag: str = "") -> Iterator[str]:
    """Lend a local path of a video.

    A local file or folder is lent as it is, and also where it does not exist: its reader says so. Anything else is
    copied into a temporary file or folder, which is removed when the block ends.

    Args:
        uri: as ``list_videos`` names it.
        limits: of the copy; a local file may not be larger either.
        size: in bytes, as listed; None means that it is not known.
        etag: as listed; '' means that it is not known.

    Raises:
        VideoError: 'too_large', 'missing', 'changed', 'timeout' or 'unreachable'.
        InputError: the credentials are refused.
    """
    member = member_of(uri)
    if size is not None:
        limits.check(size)
    if member is None and not uri.startswith("s3://"):
        _check_local(uri, limits, size)
        yield uri
        return
    with scratch.folder() as folder:
        if member is not None and not member.tar.startswith("s3://"):
            path = _copy_member(member, folder, limits)
        elif uri.endswith("/"):
            path = _fetch_folder(uri, folder, limits, etag)
        else:
            path = _fetch_object(uri, member, folder, limits, size, etag)
        yield str(path)


def _check_local(path: str, limits: FetchLimits, listed: int | None) -> None:
    try:
        size = folders.folder_size(path) if os.path.isdir(path) else os.path.getsize(path)
    except OSError:
        return  # its reader says what is wrong
    limits.check(size or 0)
    if listed is not None and size != listed:
        raise VideoError("changed", f"{path} has {size} bytes, and had {listed} when it was listed")


def _copy_member(member: Member, folder: Path, limits: FetchLimits) -> Path:
    """A video out of a local tar file."""
    limits.check(member.size)
    path, left = _target(folder, member.name), member.size
    try:
        with open(member.tar, "rb") as source, open(path, "wb") as target:
            source.seek(member.offset)
            while left and (chunk := source.read(min(left, COPIED_AT_ONCE))):
                target.write(chunk)
                left -= len(chunk)
    except FileNotFoundError:
        raise VideoError("missing", f"no such file: {member.tar}") from None
    if left:
        raise VideoError("changed", f"{member.uri}: the tar file is shorter than when it was listed")
    return path


def _fetch_object(
    uri: str, member: Member | None, folder: Path, limits: FetchLimits, size: int | None, etag: str
) -> Path:  # fmt: skip
    """An object, or a member of a tar file in object storage."""
    download = _download(uri if member is None else member.tar, limits, time.monotonic() + limits.deadline_s)
    path = _target(folder, uri if member is None else member.name)
    if not etag or (member is None and size is None):
        found, etag = download.head()
        size = found if member is None else size
    start, length = (0, size) if member is None else (member.offset, member.size)
    assert length is not None
    limits.check(length)
    download.into(path, start, length, etag)
    return path


def _fetch_folder(uri: str, folder: Path, limits: FetchLimits, etag: str) -> Path:
    """A folder of numbered pictures in object storage."""
    until = time.monotonic() + limits.deadline_s
    members = _download(uri, limits, until).listed(objects.picture_folder)
    if members is None:
        raise VideoError("missing", f"{uri}: no numbered pictures; they were listed before")
    _, prefix = split(uri)
    size, found = objects.folder_facts(members, prefix)
    limits.check(size)
    if etag and found != etag:
        raise VideoError("changed", f"{uri}: pictures were replaced after they were listed")
    bucket = uri.removesuffix(prefix)

    def fetch(picture: tuple[str, int, str]) -> None:
        key, length, picture_etag = picture
        path = folder / key.removeprefix(prefix)
        _download(bucket + key, limits, until).into(path, 0, length, picture_etag)

    with ThreadPoolExecutor(PICTURES_AT_ONCE) as pool:
        list(pool.map(fetch, members))
    return folder


def _download(uri: str, limits: FetchLimits, until: float) -> Download:
    return Download(uri, until=until, deadline=f"labelling.fetch_deadline_s={limits.deadline_s:g}")


def _target(folder: Path, name: str) -> Path:
    """Decoders may look at the suffix; the name itself may be longer than a file system takes."""
    return folder / f"video{os.path.splitext(name)[1].lower()}"
