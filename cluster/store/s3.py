"""An S3 bucket as a Store: AWS itself or any server that speaks S3 and honours conditional writes.

Credentials, endpoint and region come from the environment or the role, never from settings, so no task carries them.
The client's adaptive retries handle throttling; the content tells a retry whose first answer was lost from a lost race.
Not here: what makes a store good enough (``store.check_conditional``).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

import boto3
import pyarrow.fs
from botocore import exceptions
from botocore.config import Config

from cluster.store.base import CHECKSUMS, KEY, WITHOUT_CONDITION, checked
from hojoint.errors import InputError

CONFLICT_TRIES = 8
READ_TRIES = 5
ELSEWHERE = ("301", "307", "PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed")
CREDENTIALS = ("ExpiredToken", "InvalidToken", "TokenRefreshRequired", "400")  # 400: a HEAD's answer names no reason
# A body may end with one of these: the client repeats requests, but not the reading of their answers.
CUT = (exceptions.ResponseStreamingError, exceptions.IncompleteReadError, exceptions.ReadTimeoutError)


class S3Store:
    """A bucket, or a prefix in one, at the endpoint that AWS_ENDPOINT_URL names (without it, AWS itself)."""

    def __init__(self, uri: str, *, conditional: bool = True) -> None:
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,62}", bucket):
            raise InputError(f"expected s3://bucket/prefix, found {uri!r}")
        prefix = prefix.strip("/")
        if prefix and (not KEY.fullmatch(prefix) or ".." in prefix.split("/")):
            raise InputError(f"expected s3://bucket/prefix, the prefix of letters, digits and _ . = - /; found {uri!r}")
        self._bucket, self._prefix = bucket, prefix + "/" if prefix else ""
        self.root = f"s3://{bucket}/{prefix}".rstrip("/")
        self._conditional = conditional
        try:
            self._client = _client()
        except exceptions.BotoCoreError as error:
            raise self._unusable(error) from None

    def put(self, key: str, data: bytes) -> None:
        self._call("put_object", Key=self._key(key), Body=data)

    def put_new(self, key: str, data: bytes) -> bool:
        for attempt in range(CONFLICT_TRIES):
            try:
                self._call("put_object", Key=self._key(key), Body=data, IfNoneMatch="*")
                return True
            except _Refused as refused:
                if refused.status == 412:
                    # The client repeats a request whose answer was lost: the existing object may be this one.
                    return self.get(key) == data
                if refused.status == 501:
                    return self._put_unseen(key, data)
            time.sleep(0.05 * 2**attempt)  # 409: another write of this key is under way
        return self.get(key) == data

    def get(self, key: str) -> bytes:
        for attempt in range(READ_TRIES):
            try:
                return self._call("get_object", Key=self._key(key))["Body"].read()
            except _Refused as refused:
                raise KeyError(key) from refused
            except CUT as error:
                if attempt == READ_TRIES - 1:
                    raise self._unusable(error) from None
                time.sleep(0.05 * 2**attempt)
        raise AssertionError("the last attempt returns or raises")

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

    def tidy(self) -> int:
        return 0  # S3 has no half objects

    def uri(self, key: str) -> str:
        return f"{self.root}/{checked(key)}"

    def filesystem(self) -> tuple[pyarrow.fs.FileSystem, str]:
        # pyarrow's client reads these from the environment only, and the endpoint not from there.
        for name, value in CHECKSUMS.items():
            os.environ.setdefault(name, value)
        endpoint = self._client.meta.endpoint_url
        region = self._client.meta.region_name
        override = {"endpoint_override": endpoint} if "amazonaws.com" not in endpoint else {}
        return pyarrow.fs.S3FileSystem(region=region, **override), f"{self._bucket}/{self._prefix}".rstrip("/")

    def _key(self, key: str) -> str:
        return self._prefix + checked(key)

    def _call(self, operation: str, **arguments: Any) -> Any:
        """One request. Raises ``_Refused`` for what callers handle, InputError for what user input causes."""
        try:
            return getattr(self._client, operation)(Bucket=self._bucket, **arguments)
        except exceptions.ClientError as error:
            raise self._explained(operation, arguments, error) from error
        except exceptions.ParamValidationError:
            raise  # a fault of this class
        except exceptions.BotoCoreError as error:
            raise self._unusable(error) from None

    def _put_unseen(self, key: str, data: bytes) -> bool:
        """``put_new`` on a server without conditional writes: look, then write, so two at once may both succeed."""
        if self._conditional:
            raise InputError(f"{self.root} has no conditional writes (If-None-Match: *). {WITHOUT_CONDITION}")
        if self.exists(key):
            return self.get(key) == data
        self.put(key, data)
        return True

    def _unusable(self, error: exceptions.BotoCoreError) -> InputError:
        """For a client that gave up without an answer: its settings, its credentials or the network."""
        if isinstance(error, exceptions.NoCredentialsError):
            return InputError(
                f"no credentials for {self.root}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, "
                "or run where a role grants them"
            )
        if isinstance(error, (exceptions.HTTPClientError, exceptions.ConnectionError)):
            return InputError(f"cannot reach the object store of {self.root}: {error}. Check AWS_ENDPOINT_URL")
        return InputError(f"cannot use {self.root}: {error}. Check the AWS_ variables of the environment and ~/.aws")

    def _explained(self, operation: str, arguments: Mapping[str, Any], error: exceptions.ClientError) -> Exception:
        code = error.response["Error"]["Code"]
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if code == "NoSuchBucket":
            return InputError(f"no bucket {self._bucket!r} exists; create it, or set output to another one")
        if "IfNoneMatch" in arguments and (status == 501 or code == "NotImplemented"):
            return _Refused(501)
        if status in (404, 409, 412):
            return _Refused(status)
        if status in (401, 403) or code in CREDENTIALS:
            return InputError(
                f"{self.root} refuses {operation} ({code}); renew or correct the credentials in the environment"
            )
        if code in ELSEWHERE:
            return InputError(
                f"{self.root} lies in another region ({code}); set AWS_REGION to its region, or AWS_ENDPOINT_URL"
            )
        return error


class _Refused(Exception):
    """An expected answer: 404 no such key, 409 a conflict, 412 the condition does not hold, 501 no conditions."""

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
    except ValueError as error:  # what botocore raises for an endpoint that is not a URL
        raise InputError(f"{error}; set AWS_ENDPOINT_URL to a URL such as http://host:port, or unset it") from None
