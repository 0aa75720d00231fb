"""Requests to one S3 bucket, and what their errors mean: shared by the store of outputs and the sources of inputs.

Credentials, endpoint and region come from the environment or the role, never from settings, so no task carries them
(``connection``). Not here: keys and their promises (``s3``), listings of videos (cluster.sources).
"""

from __future__ import annotations

import email.utils
import functools
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from botocore import exceptions
from botocore.config import Config

from cluster import patience
from cluster.store import connection
from hojoint.errors import InputError, MachineError, NoRoom

ELSEWHERE = ("301", "307", "PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed")
CREDENTIALS = ("ExpiredToken", "InvalidToken", "TokenRefreshRequired", "400")  # 400: a HEAD's answer names no reason
# A body may end with one of these: the client repeats requests, but not the reading of their answers.
CUT = (exceptions.ResponseStreamingError, exceptions.IncompleteReadError, exceptions.ReadTimeoutError)
NETWORK = (exceptions.HTTPClientError, exceptions.ConnectionError, exceptions.MetadataRetrievalError)
PATIENT = Config(retries={"mode": "adaptive", "total_max_attempts": 3}, connect_timeout=10, read_timeout=60)
"""Slows down when the store says SlowDown. Few tries of the client's own: ``Bucket.asked`` repeats them aloud."""
ONE_TRY = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=10)
"""For a caller that repeats requests itself, until a deadline of its own."""
COMMON = Config(
    max_pool_connections=16, request_checksum_calculation="when_required", response_checksum_validation="when_required"
)
FULL = ("QuotaExceeded", "XMinioAdminBucketQuotaExceeded")
CLOCK = ("RequestTimeTooSkewed", "RequestExpired")
_making = threading.Lock()

T = TypeVar("T")


class Refused(Exception):
    """An expected answer: 404 no such key, 409 a conflict, 412 the condition does not hold, 501 no conditions."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


def split(uri: str) -> tuple[str, str]:
    """Bucket and key of ``s3://bucket/key``; the key may hold any letters and may be empty.

    Raises:
        InputError: it is no such URI.
    """
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not uri.startswith("s3://") or not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,62}", bucket):
        raise InputError(f"expected s3://bucket/prefix, found {uri!r}")
    return bucket, key


class Bucket:
    """One bucket at the endpoint that AWS_ENDPOINT_URL names (without it, AWS itself)."""

    def __init__(self, uri: str, *, setting: str = "output", patience: Config = PATIENT) -> None:
        """``setting`` is the one that ``uri`` came from: messages name both.

        Raises:
            InputError: the URI is malformed, or the client refuses its settings.
        """
        self.name, _ = split(uri)
        self.root, self.setting = uri.rstrip("/"), setting
        try:
            with _making:
                self.client = _client(patience, connection.variables())
        except exceptions.BotoCoreError as error:
            raise self.unusable(error) from None

    def call(self, operation: str, **arguments: Any) -> Any:
        """One request, its outages ridden out.

        Raises:
            Refused: what callers handle.
            InputError: user input is the cause.
            MachineError: this node is.
            NoRoom: the bucket's quota is used up.
            Unavailable: the store has not answered for the patience of this process.
        """
        return self.asked(lambda: getattr(self.client, operation)(Bucket=self.name, **arguments), operation, arguments)

    def asked(self, request: Callable[[], T], operation: str, arguments: Mapping[str, Any]) -> T:
        """As ``call``, for a request of any form; ``operation`` and ``arguments`` tell what an answer means."""
        try:
            return patience.ridden_out(request, passing, f"store {self.root}")
        except exceptions.ClientError as error:
            raise self.explained(operation, arguments, error) from error
        except exceptions.ParamValidationError:
            raise  # a fault of the caller
        except exceptions.BotoCoreError as error:
            raise self.unusable(error) from None

    def unusable(self, error: exceptions.BotoCoreError) -> InputError:
        """For a client that cannot make a request: its settings or its credentials."""
        node = socket.gethostname()
        if isinstance(error, (exceptions.NoCredentialsError, exceptions.PartialCredentialsError)):
            return InputError(
                f"no credentials for {self.root} on the node {node} ({error}): set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run where a role grants them"
            )
        if isinstance(error, exceptions.SSLError):
            return InputError(
                f"the certificate of the object store of {self.root} is not trusted on the node {node}: {error}. Set "
                "AWS_CA_BUNDLE to a PEM file with the certificate of the authority that signed it"
            )
        return InputError(
            f"cannot use {self.root} from the node {node}: {error}. Check the AWS_ variables of the environment and "
            "~/.aws"
        )

    def explained(self, operation: str, arguments: Mapping[str, Any], error: exceptions.ClientError) -> Exception:
        """The answer as ``Refused`` or as an error with a message; the answer itself where it is neither."""
        code = error.response["Error"]["Code"]
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if code == "NoSuchBucket":
            return InputError(f"no bucket {self.name!r} exists; create it, or set {self.setting} to another one")
        if "IfNoneMatch" in arguments and (status == 501 or code == "NotImplemented"):
            return Refused(501)
        if status in (404, 409, 412):
            return Refused(status)
        if code in CLOCK:
            return MachineError(_clock(self.root, code, error))
        if code in FULL:
            return NoRoom(
                f"{self.root} has no room ({code}): its quota is used up. Free some, or raise the quota. The same "
                "command then resumes"
            )
        if status in (401, 403) or code in CREDENTIALS:
            return InputError(
                f"{self.root} refuses {operation} ({code}) from the node {socket.gethostname()}; renew or correct the "
                "credentials in the environment"
            )
        if code in ELSEWHERE:
            return InputError(
                f"{self.root} lies in another region ({code}); set AWS_REGION to its region, or AWS_ENDPOINT_URL"
            )
        return error


def _clock(root: str, code: str, error: exceptions.ClientError) -> str:
    """A sentence about the clock of this node, with its difference where the answer tells the store's time."""
    told = error.response["ResponseMetadata"].get("HTTPHeaders", {}).get("date")
    off = "too far"
    if told is not None:
        off = f"{time.time() - email.utils.parsedate_to_datetime(told).timestamp():+.0f} s"
    return (
        f"the clock of the node {socket.gethostname()} is {off} off that of {root} ({code}); set it right (chronyc "
        "makestep, or the host's time service)"
    )


def passing(error: Exception) -> bool:
    """Whether a request may succeed when it is sent again: throttling, a fault of the server, a broken connection."""
    if isinstance(error, exceptions.ClientError):
        code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
        if code in ("NotImplemented", "NotSupported") or status == 501:  # a server that will never do it
            return False
        return status >= 500 or status == 429 or code in ("RequestTimeout", "SlowDown")
    # A certificate that is not trusted will not be in a minute either.
    return isinstance(error, (*CUT, *NETWORK)) and not isinstance(error, exceptions.SSLError)


@functools.lru_cache(maxsize=8)
def _client(patience: Config, environment: tuple[tuple[str, str], ...]) -> Any:
    """Made once for all buckets, because that takes long; another ``environment`` needs another one."""
    return connection.connect(COMMON.merge(patience))[0]
