"""One object, or a part of one, into a local file until a deadline: with retries, and read on where a body was cut.

What no retry can mend is raised at once. Not here: what is fetched and why (``fetching``).
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from botocore import exceptions

from cluster import ending, metrics
from cluster.store.bucket import ONE_TRY, Bucket, Refused, passing, split
from hojoint.errors import InputError, MachineError
from hojoint.labelling.video import VideoError

CHUNK = 2**13  # bytes at a time: small, so that a slow sender cannot outlast the deadline
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 5.0
MOST_OUTAGES = 5  # for one object: a store that is away this often is no reason to wait for it again
DENIED = ("AccessDenied", "403", "400")  # of one object or of all; a HEAD's answer names no reason
ARCHIVED = "InvalidObjectState"  # a 403 that is no matter of rights
NEIGHBOURS = 4  # objects that tell whether a denial is of one object or of all

T = TypeVar("T")


class Download:
    """Requests for one object, all of them before ``until`` (of ``time.monotonic``).

    An outage of the complete store is no fault of the object: it is ridden out, and the deadline begins again after it.
    """

    def __init__(self, uri: str, *, until: float, deadline: str) -> None:
        """``deadline`` names the setting behind ``until``, with its value."""
        name, self._key = split(uri)
        self._bucket = Bucket(f"s3://{name}", setting="videos.root", patience=ONE_TRY)
        self._uri, self._until, self._deadline = uri, until, deadline
        self._allowed_s, self._outages = until - time.monotonic(), 0

    def head(self) -> tuple[int, str]:
        """Size and etag."""
        answer = self._persist(lambda: self._bucket.client.head_object(Bucket=self._bucket.name, Key=self._key))
        return answer["ContentLength"], answer["ETag"].strip('"')

    def listed(self, list_folder: Callable[[Callable[..., dict[str, Any]], str], T]) -> T:
        """What ``list_folder`` makes of ListObjectsV2 and the key as its prefix."""
        list_objects = functools.partial(self._bucket.client.list_objects_v2, Bucket=self._bucket.name)
        return self._persist(lambda: list_folder(list_objects, self._key))

    def into(self, path: Path, start: int, size: int, etag: str) -> None:
        """Write ``size`` bytes from ``start`` on, of the object that had ``etag`` when it was listed.

        Raises:
            VideoError: 'missing', 'changed' or 'unreachable'.
            InputError: the credentials or the rights are refused, there is no such bucket, or it lies elsewhere.
            MachineError: the clock of this node is wrong.
            Unavailable: the store has not answered for the patience of this process.
        """
        with open(path, "wb") as file:
            if size:
                self._persist(lambda: self._read(file, start, size, etag))

    def _read(self, file: BinaryIO, start: int, size: int, etag: str) -> None:
        """From where ``file`` ends now."""
        done = file.tell()
        answer = self._bucket.client.get_object(
            Bucket=self._bucket.name,
            Key=self._key,
            Range=f"bytes={start + done}-{start + size - 1}",
            IfMatch=f'"{etag}"',
        )
        if answer["ETag"].strip('"') != etag:  # a server that ignores the condition
            raise self._changed()
        if answer["ContentLength"] != size - done:
            raise VideoError("unreachable", f"{self._uri}: the object store ignores byte ranges")
        body = answer["Body"]
        try:
            while chunk := body.read(CHUNK):
                file.write(chunk)
                if file.tell() < size and time.monotonic() > self._until:  # what is complete is not late
                    found = f"{file.tell()} of {size} bytes came within {self._deadline}"
                    raise VideoError("unreachable", f"{self._uri}: {found}")
        finally:
            body.close()
        if file.tell() < size:
            raise exceptions.IncompleteReadError(actual_bytes=file.tell(), expected_bytes=size)

    def _persist(self, attempt: Callable[[], T]) -> T:
        """What ``attempt`` returns, tried again while that may help."""
        for number in itertools.count():
            try:
                return attempt()
            except (exceptions.BotoCoreError, exceptions.ClientError) as error:
                if not passing(error):
                    raise self._final(error) from None
                reason, kind = str(error), type(error).__name__
            wait = min(FIRST_WAIT_S * 2 ** min(number, 16), LONGEST_WAIT_S) * random.uniform(0.5, 1)
            if time.monotonic() + wait > self._until and not self._after_outage():
                raise VideoError("unreachable", f"{self._uri}: not fetched within {self._deadline}: {reason}")
            metrics.count_retry(self._bucket.root, kind)
            ending.sleep(wait)
        raise AssertionError("the loop returns or raises")

    def _after_outage(self) -> bool:
        """Whether the store itself does not answer; then this waits for it, and the deadline begins again.

        A slow answer is one, and so is a refusal.

        Raises:
            MachineError: the clock of this node is wrong.
            Unavailable: it has not answered for the patience of this process.
        """
        if self._outages == MOST_OUTAGES:
            return False
        try:
            self._bucket.client.head_bucket(Bucket=self._bucket.name)
            return False
        except (exceptions.BotoCoreError, exceptions.ClientError) as error:
            if not passing(error):
                return False
        with contextlib.suppress(Refused, InputError):  # answers too
            self._bucket.call("head_bucket")
        self._outages += 1
        self._until = time.monotonic() + self._allowed_s
        return True

    def _final(self, error: exceptions.BotoCoreError | exceptions.ClientError) -> Exception:
        """The fault that no retry can mend; one of the node, its rights or the bucket goes before one of the object."""
        if not isinstance(error, exceptions.ClientError):
            return self._bucket.unusable(error)
        code = error.response["Error"]["Code"]
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if code != ARCHIVED and not (code in DENIED and self._neighbour_is_read()):
            fault = self._bucket.explained(error.operation_name, {}, error)
            if isinstance(fault, (InputError, MachineError)):
                return fault
        if status == 404:
            return VideoError("missing", f"{self._uri}: no such object; it was listed before")
        if status in (412, 416):
            return self._changed()
        return VideoError("unreachable", f"{self._uri}: the object store refuses it ({code})")

    def _neighbour_is_read(self) -> bool:
        """Whether this node may read another object of the same folder."""
        above, slash, _ = self._key.rpartition("/")
        try:
            page = self._bucket.call("list_objects_v2", Prefix=above + slash, MaxKeys=NEIGHBOURS)
        except (Refused, InputError):
            return False
        for content in page.get("Contents", ()):
            if content["Key"] != self._key and content["Size"]:
                with contextlib.suppress(Refused, InputError):
                    self._bucket.call("get_object", Key=content["Key"], Range="bytes=0-0")["Body"].close()
                    return True
        return False

    def _changed(self) -> VideoError:
        return VideoError("changed", f"{self._uri} was replaced after it was listed")
