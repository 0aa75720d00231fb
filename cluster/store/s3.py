"""An S3 bucket as a Store: AWS itself or any server that speaks S3 and honours conditional writes.

Throttling and outages are ridden out (``Bucket.asked``); the content tells a retry whose first answer was lost from a
lost race. Not here: requests and their errors (``bucket``), what makes a store good enough
(``store.check_conditional``).
"""

from __future__ import annotations

import contextlib
import datetime
import email.utils
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.fs
from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore import exceptions

from cluster.store.base import KEY, OF_UPLOAD, WITHOUT_CONDITION, Entry, checked
from cluster.store.bucket import Bucket, Refused, split
from cluster.store.connection import BucketFileSystem
from hojoint.errors import InputError, Unavailable

CONFLICT_TRIES = 8
PARTS = TransferConfig(multipart_threshold=2**30, multipart_chunksize=2**30)
"""Of an object that is copied: S3 takes 5 GB in one request."""


class S3Store:
    """A bucket, or a prefix in one."""

    def __init__(self, uri: str, *, conditional: bool = True) -> None:
        bucket, prefix = split(uri)
        prefix = prefix.strip("/")
        if prefix and (not KEY.fullmatch(prefix) or ".." in prefix.split("/")):
            raise InputError(f"expected s3://bucket/prefix, the prefix of letters, digits and _ . = - /; found {uri!r}")
        self._prefix = prefix + "/" if prefix else ""
        self.root = f"s3://{bucket}/{prefix}".rstrip("/")
        self._conditional = conditional
        self._bucket = Bucket(self.root)
        self._call = self._bucket.call

    def put(self, key: str, data: bytes) -> None:
        self._call("put_object", Key=self._key(key), Body=data)

    def put_file(self, key: str, path: Path) -> None:
        def upload() -> None:
            try:
                self._bucket.client.upload_file(str(path), self._bucket.name, self._key(key))
            except S3UploadFailedError as error:
                raise error.__context__ or error from None  # what the store answered

        try:
            self._bucket.asked(upload, "upload_file", {"Key": self._key(key)})
        except S3UploadFailedError as error:
            raise InputError(f"cannot write {self.uri(key)}: {error}") from None

    def put_new(self, key: str, data: bytes) -> bool:
        if not self._conditional and self.exists(key):  # a server may ignore the header and accept any write
            return self.get(key) == data
        for attempt in range(CONFLICT_TRIES):
            try:
                self._call("put_object", Key=self._key(key), Body=data, IfNoneMatch="*")
                return True
            except Refused as refused:
                if refused.status == 412:
                    # The client repeats a request whose answer was lost: the existing object may be this one.
                    return self.get(key) == data
                if refused.status == 501:
                    return self._put_unseen(key, data)
            time.sleep(0.05 * 2**attempt)  # 409: another write of this key is under way
        if self.exists(key):
            return self.get(key) == data
        raise Unavailable(
            f"{self.uri(key)} cannot be written: {self.root} answered {CONFLICT_TRIES} times that another write of it "
            "is under way (409). When that one is done, the same command resumes"
        )

    def get(self, key: str) -> bytes:
        def read() -> bytes:  # the body too: it may be cut, and the client does not read it again
            body = self._bucket.client.get_object(Bucket=self._bucket.name, Key=self._key(key))["Body"]
            content: bytes = body.read()
            return content

        try:
            return self._bucket.asked(read, "get_object", {"Key": self._key(key)})
        except Refused as refused:
            raise KeyError(key) from refused

    def move(self, key: str, path: str) -> None:
        source, to = {"Bucket": self._bucket.name, "Key": self._key(key)}, path.removeprefix(f"{self._bucket.name}/")

        def copy() -> None:  # by the client's own means, which copies a large object in parts
            self._bucket.client.copy(source, self._bucket.name, to, Config=PARTS)

        self._bucket.asked(copy, "copy", {"Key": to})
        self.delete(key)

    def exists(self, key: str) -> bool:
        try:
            self._call("head_object", Key=self._key(key))
        except Refused:
            return False
        return True

    def list(self, prefix: str) -> Iterator[str]:
        token: dict[str, str] = {}
        while True:
            page = self._call("list_objects_v2", Prefix=self._key(prefix) + "/", **token)
            for entry in page.get("Contents", ()):
                yield entry["Key"].removeprefix(self._prefix)
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def entries(self, beginning: str) -> Iterator[Entry]:
        token: dict[str, str] = {}
        while True:
            page = self._call("list_objects_v2", Prefix=self._prefix + beginning, **token)
            for entry in page.get("Contents", ()):
                key = entry["Key"].removeprefix(self._prefix)
                yield Entry(key, entry["Size"], _age_s(page, entry["LastModified"]))
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def unfinished(self) -> Iterator[Entry]:
        """Uploads in parts, as ``put_file`` and Arrow begin them: their parts are stored and paid for, and not seen."""
        token: dict[str, str] = {}
        while True:
            page = self._call("list_multipart_uploads", Prefix=self._prefix, **token)
            for upload in page.get("Uploads", ()):
                name = f"{upload['Key'].removeprefix(self._prefix)}{OF_UPLOAD}{upload['UploadId']}"
                yield Entry(name, 0, _age_s(page, upload["Initiated"]))
            if not page.get("IsTruncated"):
                return
            token = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    def discard(self, name: str) -> None:
        key, _, upload = name.rpartition(OF_UPLOAD)
        with contextlib.suppress(Refused):  # finished or ended meanwhile
            self._call("abort_multipart_upload", Key=self._prefix + key, UploadId=upload)

    def delete(self, key: str) -> None:
        with contextlib.suppress(Refused):  # some servers answer 404 where there is none
            self._call("delete_object", Key=self._key(key))

    def tidy(self) -> int:
        return 0  # no half object is ever seen; what uploads hold back is for jobs.gc, and needs rights of its own

    def uri(self, key: str) -> str:
        return f"{self.root}/{checked(key)}"

    def filesystem(self) -> tuple[pyarrow.fs.FileSystem, str]:
        try:
            filesystem = BucketFileSystem()
        except exceptions.BotoCoreError as error:
            raise self._bucket.unusable(error) from None
        return filesystem, f"{self._bucket.name}/{self._prefix}".rstrip("/")

    def _key(self, key: str) -> str:
        return self._prefix + checked(key)

    def _put_unseen(self, key: str, data: bytes) -> bool:
        """``put_new`` on a server without conditional writes: look, then write, so two at once may both succeed."""
        if self._conditional:
            raise InputError(f"{self.root} has no conditional writes (If-None-Match: *). {WITHOUT_CONDITION}")
        if self.exists(key):
            return self.get(key) == data
        self.put(key, data)
        return True


def _age_s(answer: Mapping[str, Any], written: datetime.datetime) -> float:
    """Since ``written``, by the clock of the server that answered: this machine's may be wrong."""
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    now = email.utils.parsedate_to_datetime(date) if date else datetime.datetime.now(datetime.UTC)
    return max(0.0, (now - written).total_seconds())  # the header has whole seconds, the object's time parts of one
