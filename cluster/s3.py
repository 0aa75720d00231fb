"""An S3 bucket as a Store: AWS itself or any server that speaks S3 and honours conditional writes.

Credentials, endpoint and region come from the environment or the role, never from settings, so no task carries them.
Throttling is met by the client's adaptive retries; a retry whose first answer was lost is told from a lost race by the
content. Not here: what makes a store good enough (``store.check_conditional``).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from typing import Any

import boto3
import pyarrow.fs
from botocore import exceptions
from botocore.config import Config

from cluster.store import KEY, checked
from hojoint.errors import InputError

CONFLICT_TRIES = 8
# Servers before 2025 refuse the trailing checksums that newer clients send by default.
CHECKSUMS = {"AWS_REQUEST_CHECKSUM_CALCULATION": "when_required", "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required"}


class S3Store:
    """A bucket, or a prefix in one, at the endpoint that AWS_ENDPOINT_URL names (AWS itself without)."""

    def __init__(self, uri: str) -> None:
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,62}", bucket):
            raise InputError(f"wanted s3://bucket/prefix, found {uri!r}")
        prefix = prefix.strip("/")
        if prefix and (not KEY.fullmatch(prefix) or ".." in prefix.split("/")):
            raise InputError(f"a prefix has letters, digits and _ . = - /; found {uri!r}")
        self._bucket, self._prefix = bucket, prefix + "/" if prefix else ""
        self.root = f"s3://{bucket}/{prefix}".rstrip("/")
        self._client = _client()

    def put(self, key: str, data: bytes) -> None:
        self._call("put_object", Key=self._key(key), Body=data)

    def put_new(self, key: str, data: bytes) -> bool:
        for attempt in range(CONFLICT_TRIES):
            try:
                self._call("put_object", Key=self._key(key), Body=data, IfNoneMatch="*")
                return True
            except _Refused as refused:
                if refused.status == 412:
                    # The client repeats a request whose answer was lost: the object in the way may be ours.
                    return self.get(key) == data
            time.sleep(0.05 * 2**attempt)  # 409: another write of this key is under way
        return self.get(key) == data

    def get(self, key: str) -> bytes:
        try:
            return self._call("get_object", Key=self._key(key))["Body"].read()
        except _Refused as refused:
            raise KeyError(key) from refused

    def exists(self, key: str) -> bool:
        try:
            self._call("head_object", Key=self._key(key))
        except _Refused:
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

    def delete(self, key: str) -> None:
        self._call("delete_object", Key=self._key(key))

    def uri(self, key: str) -> str:
        return f"{self.root}/{checked(key)}"

    def filesystem(self) -> tuple[pyarrow.fs.FileSystem, str]:
        # The C++ client reads these from the environment alone; it takes no endpoint from there.
        for name, value in CHECKSUMS.items():
            os.environ.setdefault(name, value)
        endpoint = self._client.meta.endpoint_url
        region = self._client.meta.region_name
        own = {"endpoint_override": endpoint} if "amazonaws.com" not in endpoint else {}
        return pyarrow.fs.S3FileSystem(region=region, **own), f"{self._bucket}/{self._prefix}".rstrip("/")

    def _key(self, key: str) -> str:
        return self._prefix + checked(key)

    def _call(self, operation: str, **arguments: Any) -> Any:
        """One request. ``_Refused`` for the answers that callers handle; InputError for what the user must mend."""
        try:
            return getattr(self._client, operation)(Bucket=self._bucket, **arguments)
        except exceptions.ClientError as error:
            raise self._explained(operation, error) from error
        except exceptions.NoCredentialsError:
            raise InputError(
                f"no credentials for {self.root}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, "
                "or run where a role gives them"
            ) from None
        except exceptions.EndpointConnectionError as error:
            raise InputError(
                f"cannot reach the object store of {self.root}: {error}. Is AWS_ENDPOINT_URL right?"
            ) from None

    def _explained(self, operation: str, error: exceptions.ClientError) -> Exception:
        code = error.response["Error"]["Code"]
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if code == "NoSuchBucket":
            return InputError(f"there is no bucket {self._bucket!r}; create it, or give another output")
        if status in (404, 409, 412):
            return _Refused(status)
        if status in (401, 403):
            return InputError(
                f"{self.root} refuses {operation} ({code}); are the credentials in the environment right?"
            )
        return error


class _Refused(Exception):
    """An answer that is no fault: 404 no such key, 409 a conflict, 412 the condition does not hold."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


def _client() -> Any:
    session = boto3.session.Session()
    config = Config(
        retries={"mode": "adaptive", "max_attempts": 10},  # slows down when the store says SlowDown
        connect_timeout=10,
        read_timeout=120,
        max_pool_connections=16,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    region = session.region_name or os.environ.get("AWS_REGION") or "us-east-1"
    try:
        return session.client("s3", region_name=region, config=config)
    except ValueError as error:  # botocore's word for an endpoint that is no URL
        raise InputError(f"{error}; set AWS_ENDPOINT_URL to a URL as http://host:port, or not at all") from None
