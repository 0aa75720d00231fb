"""Videos under a prefix of a bucket: listed page by page, folders of pictures and tar files among them.

Not here: fetching a video (``fetching``), which name is a video (``naming``).
"""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cluster.sources import tars
from cluster.sources.folders import FIRST_NAMES, Seen
from cluster.sources.naming import (
    FOLDER_RANK,
    PICTURE,
    SUFFIXES,
    UNPACK,
    Entry,
    Found,
    etag_of,
    is_packed,
    is_tar,
    video_of,
)
from cluster.store.bucket import Bucket, Refused, split
from hojoint.errors import InputError

THREADS = 16
TAR_BLOCK = 2**16  # bytes per request while the headers of a tar file are read
SETTING = "videos.root"

ListObjects = Callable[..., dict[str, Any]]
"""ListObjectsV2 of one bucket."""


def scan(root: str, seen: Seen) -> Iterator[Found]:
    """The videos directly under a prefix, or of one tar file.

    Raises:
        InputError: the bucket cannot be listed, or a tar file cannot be read.
    """
    bucket, (_, prefix) = Bucket(root, setting=SETTING), split(root)
    list_objects = functools.partial(bucket.call, "list_objects_v2")
    if prefix.lower().endswith(".tar"):
        size, etag = head(bucket, prefix)
        yield from tars.members(root, functools.partial(open_object, bucket, prefix, size, etag), seen.links, etag)
        return
    prefix = prefix.rstrip("/") + "/" if prefix.strip("/") else ""
    shards, empty = [], True
    with ThreadPoolExecutor(THREADS) as pool:
        for page in pages(list_objects, prefix):
            empty = empty and not (page.get("Contents") or page.get("CommonPrefixes"))
            for content in page.get("Contents", ()):
                key, size, etag = content["Key"], content["Size"], content["ETag"].strip('"')
                name = key.removeprefix(prefix)
                named = video_of(name, root) if name else None
                if named is not None:
                    yield Found(Entry(named[0], f"s3://{bucket.name}/{key}", size, etag), named[1])
                elif is_tar(name):
                    shards.append((key, size, etag))
                elif name:
                    seen.add(name)
            yield from _folders(bucket, page, prefix, pool, seen)
        yield from _members(bucket, shards, pool, seen)
    if empty:
        _refuse_object(root, list_objects, prefix.rstrip("/"))


def pages(list_objects: ListObjects, prefix: str) -> Iterator[dict[str, Any]]:
    """The pages of a listing of one level."""
    token: dict[str, str] = {}
    while True:
        page = list_objects(Prefix=prefix, Delimiter="/", **token)
        yield page
        if not page.get("IsTruncated"):
            return
        token = {"ContinuationToken": page["NextContinuationToken"]}


def picture_folder(list_objects: ListObjects, prefix: str) -> list[tuple[str, int, str]] | None:
    """(key, bytes, etag) of the numbered pictures under a prefix; None where there are none, or a video beside them.

    An empty list: none is among the first ``FIRST_NAMES`` names, and the others were not looked at.
    """
    members, looked_at = [], 0
    for page in pages(list_objects, prefix):
        for content in page.get("Contents", ()):
            name = content["Key"].removeprefix(prefix)
            if os.path.splitext(name)[1].lower() in SUFFIXES:
                return None
            if PICTURE.fullmatch(name):
                members.append((content["Key"], content["Size"], content["ETag"].strip('"')))
        looked_at += len(page.get("Contents", ())) + len(page.get("CommonPrefixes", ()))
        if not members and looked_at >= FIRST_NAMES and page.get("IsTruncated"):
            return []
    return members or None


def folder_facts(members: list[tuple[str, int, str]], prefix: str) -> tuple[int, str]:
    """Size and etag of a folder of pictures."""
    names = sorted((key.removeprefix(prefix), etag) for key, _, etag in members)
    return sum(size for _, size, _ in members), etag_of(names)


def head(bucket: Bucket, key: str) -> tuple[int, str]:
    """Size and etag of an object.

    Raises:
        InputError: it does not exist.
    """
    try:
        answer = bucket.call("head_object", Key=key)
    except Refused:
        raise InputError(f"no object at s3://{bucket.name}/{key}; set {bucket.setting}") from None
    return answer["ContentLength"], answer["ETag"].strip('"')


def read_range(bucket: Bucket, key: str, start: int, stop: int, etag: str) -> bytes:
    """Bytes ``start`` to ``stop`` of an object that still has ``etag``.

    Raises:
        InputError: it was replaced or removed meanwhile, or cannot be read.
    """
    asked = {"Key": key, "Range": f"bytes={start}-{stop - 1}", "IfMatch": f'"{etag}"'}

    def read() -> bytes:
        content: bytes = bucket.client.get_object(Bucket=bucket.name, **asked)["Body"].read()
        return content

    try:
        return bucket.asked(read, "get_object", asked)
    except Refused:
        raise InputError(
            f"s3://{bucket.name}/{key} was replaced or removed while it was read; run the command again"
        ) from None


def open_object(bucket: Bucket, key: str, size: int, etag: str) -> io.BufferedReader:
    """An object as a file for reading that can seek: only what is read crosses the network."""
    return io.BufferedReader(_Object(bucket, key, size, etag), TAR_BLOCK)


class _Object(io.RawIOBase):
    """The bytes of an object, by range requests."""

    def __init__(self, bucket: Bucket, key: str, size: int, etag: str) -> None:
        self._bucket, self._key, self._size, self._etag = bucket, key, size, etag
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        stop = min(self._at + len(buffer), self._size)
        if stop <= self._at:
            return 0
        data = read_range(self._bucket, self._key, self._at, stop, self._etag)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _folders(
    bucket: Bucket, page: dict[str, Any], prefix: str, pool: ThreadPoolExecutor, seen: Seen
) -> Iterator[Found]:
    """The folders of pictures on one page of a listing."""
    keys = []
    for key in (entry["Prefix"] for entry in page.get("CommonPrefixes", ())):
        name = key.removeprefix(prefix)
        if name.startswith("."):  # as in a local folder, and not worth a request
            seen.add(name)
        else:
            keys.append(key)
    list_objects = functools.partial(bucket.call, "list_objects_v2")
    for key, members in zip(keys, pool.map(lambda key: picture_folder(list_objects, key), keys), strict=True):
        if members:
            yield Found(_folder_entry(bucket, key, prefix, members), FOLDER_RANK)
            continue
        seen.add(key.removeprefix(prefix))
        if members is not None:
            seen.long.append(f"s3://{bucket.name}/{key}")


def _folder_entry(bucket: Bucket, key: str, prefix: str, members: list[tuple[str, int, str]]) -> Entry:
    named = video_of(f"{key.removeprefix(prefix).rstrip('/')}{SUFFIXES[0]}", bucket.root)
    if named is None:
        raise InputError(f"s3://{bucket.name}/{key} holds pictures, and this folder has no name; give it one")
    return Entry(named[0], f"s3://{bucket.name}/{key}", *folder_facts(members, key))


def _refuse_object(root: str, list_objects: ListObjects, key: str) -> None:
    """InputError where a root under which nothing lies is one object: 'it is empty' would not tell the cause."""
    first = list_objects(Prefix=key, MaxKeys=1).get("Contents", ()) if key else ()
    if [content["Key"] for content in first] != [key]:
        return
    if is_packed(os.path.basename(key)):
        raise InputError(f"{root} is a compressed tar file: {UNPACK}")
    raise InputError(f"cannot list the videos in {root}: it is one object; set videos.root to their folder")


def _members(
    bucket: Bucket, shards: list[tuple[str, int, str]], pool: ThreadPoolExecutor, seen: Seen
) -> Iterator[Found]:
    """The videos in tar files, several files at once."""

    def listed(shard: tuple[str, int, str]) -> list[Found]:
        key, _, etag = shard
        opened = functools.partial(open_object, bucket, *shard)
        return list(tars.members(f"s3://{bucket.name}/{key}", opened, seen.links, etag))

    for start in range(0, len(shards), THREADS):
        for found in pool.map(listed, shards[start : start + THREADS]):
            yield from found
