"""A local file of a listed video for the time of a block: a path as it is, anything else as a bounded temporary copy.

Every fault is a ``VideoError``, so it costs one video: too large, missing, replaced since it was listed, unreachable
until the deadline. What credentials refuse is an InputError, a wrong clock a MachineError, a full disk ``NoRoom`` and
an outage ``Unavailable``, because they are not the video's fault. Not here: listing (``listing``), object storage
(``remote``).
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cluster.sources import folders, scratch
from cluster.sources.limits import FetchLimits
from cluster.sources.naming import Member, member_of
from hojoint.errors import NoRoom
from hojoint.labelling.video import VideoError

COPIED_AT_ONCE = 2**20  # bytes


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
        VideoError: 'too_large', 'missing', 'changed' or 'unreachable'.
        InputError: the credentials or the rights are refused, or the bucket is not there.
        MachineError: the clock of this node is wrong.
        NoRoom: this node has no room for the copy.
        Unavailable: the store has not answered for the patience of this process.
    """
    member = member_of(uri)
    if size is not None:
        limits.check(size)
    if member is None and not uri.startswith("s3://"):
        _check_local(uri, limits, size)
        yield uri
        return
    with contextlib.ExitStack() as stack:
        with _explained(uri):
            folder = stack.enter_context(scratch.folder())
            path = _target(folder, uri if member is None else member.name)
            _copy(uri, member, path, limits, size, etag)
        yield str(path)


def _copy(uri: str, member: Member | None, path: Path, limits: FetchLimits, size: int | None, etag: str) -> None:
    """Write what is no local file to ``path``."""
    if member is not None and not member.tar.startswith("s3://"):
        _copy_member(member, path, limits)
        return
    from cluster.sources import remote  # what lies in folders needs no boto3

    if uri.endswith("/"):
        path.mkdir()
        remote.fetch_folder(uri, path, limits, etag)
    else:
        remote.fetch_object(uri, member, path, limits, size, etag)


@contextlib.contextmanager
def _explained(uri: str) -> Iterator[None]:
    """A fault of the operating system in words: a full disk is this node's, any other costs one video."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoRoom(
                f"{tempfile.gettempdir()} on the node {socket.gethostname()} has no room for a copy of {uri} "
                f"({error.strerror}); free some, or set TMPDIR to a folder on each node with more room. The same "
                "command then resumes"
            ) from None
        raise VideoError("unreachable", f"{uri} cannot be copied: {error}") from None


def _check_local(path: str, limits: FetchLimits, listed: int | None) -> None:
    try:
        size = folders.folder_size(path) if os.path.isdir(path) else os.path.getsize(path)
    except OSError:
        return  # its reader says what is wrong
    limits.check(size or 0)
    if listed is not None and size != listed:
        raise VideoError("changed", f"{path} has {size} bytes, and had {listed} when it was listed")


def _copy_member(member: Member, path: Path, limits: FetchLimits) -> None:
    """Write a video out of a local tar file to ``path``."""
    limits.check(member.size)
    left = member.size
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


def _target(folder: Path, name: str) -> Path:
    """Decoders may look at the suffix; the name itself may be longer than a file system takes."""
    return folder / f"video{os.path.splitext(name)[1].lower()}"
