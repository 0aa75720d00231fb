"""Copies of videos that lie in object storage: an object, a member of a tar file, a folder of pictures.

Not here: local files (``fetching``), requests and their retries (``download``).
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cluster.sources import objects
from cluster.sources.download import Download
from cluster.sources.limits import FetchLimits
from cluster.sources.naming import Member
from cluster.store.bucket import split
from hojoint.labelling.video import VideoError

PICTURES_AT_ONCE = 8


def fetch_object(
    uri: str, member: Member | None, path: Path, limits: FetchLimits, size: int | None, etag: str
) -> None:  # fmt: skip
    """Write an object, or a member of a tar file, to ``path``."""
    download = _download(uri if member is None else member.tar, limits, time.monotonic() + limits.deadline_s)
    if not etag or (member is None and size is None):
        found, etag = download.head()
        size = found if member is None else size
    start, length = (0, size) if member is None else (member.offset, member.size)
    assert length is not None
    limits.check(length)
    download.into(path, start, length, etag)


def fetch_folder(uri: str, path: Path, limits: FetchLimits, etag: str) -> None:
    """Write the numbered pictures of a folder into the folder ``path``."""
    until = time.monotonic() + limits.deadline_s
    members = _download(uri, limits, until).listed(objects.picture_folder)
    if not members:
        raise VideoError("missing", f"{uri}: no numbered pictures; they were listed before")
    _, prefix = split(uri)
    size, found = objects.folder_facts(members, prefix)
    limits.check(size)
    if etag and found != etag:
        raise VideoError("changed", f"{uri}: pictures were replaced after they were listed")
    bucket = uri.removesuffix(prefix)

    def fetch(picture: tuple[str, int, str]) -> None:
        key, length, picture_etag = picture
        target = path / key.removeprefix(prefix)
        _download(bucket + key, limits, until).into(target, 0, length, picture_etag)

    with ThreadPoolExecutor(PICTURES_AT_ONCE) as pool:
        list(pool.map(fetch, members))


def _download(uri: str, limits: FetchLimits, until: float) -> Download:
    return Download(uri, until=until, deadline=f"labelling.fetch_deadline_s={limits.deadline_s:g}")
