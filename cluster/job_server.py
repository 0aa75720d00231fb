"""Talking to a Ray cluster's job server: address, token, and what its failures mean.

Ray's job server runs whatever it receives, so a cluster beyond this machine must ask for a token (CVE-2023-48022); one
that does not is refused unless cluster.insecure allows it. Not here: what is sent (``submission``).
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import requests
from ray.exceptions import AuthenticationError, RayError
from ray.job_submission import JobSubmissionClient

from cluster import patience
from cluster.loopback import is_this_machine, reach_directly
from hojoint.errors import InputError, MachineError, Unavailable

TOKEN_HELP = "set RAY_AUTH_TOKEN_PATH to a file that holds the cluster's token (or RAY_AUTH_TOKEN to the token itself)"
OVERRIDING = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
"""Ray prefers these to the given address; then the job would go to an unexpected cluster."""
FAULTS = (OSError, RuntimeError, ValueError, RayError)  # of requests, of Ray's client, of a proxy that answers for it
PASSING = re.compile(r"status code (5\d\d|408|429)")  # in the message of Ray's client: another try may succeed
ANSWER_S, LEAST_ANSWER_S = 20.0, 1.0  # for the first answer; the patience that is left bounds it

T = TypeVar("T")


def check_address(address: str) -> str:
    """The host of a dashboard's address; InputError for anything else."""
    try:
        parts = urlsplit(address)
        scheme, host, _ = parts.scheme, parts.hostname, parts.port
    except ValueError:  # as for an address of IPv6 without its last bracket, or a port that is no number
        scheme, host = "", None
    if scheme not in ("http", "https") or not host:
        raise InputError(f"cluster.address must be the dashboard's, as in http://127.0.0.1:8265; found {address!r}")
    return host


def connect(address: str, *, insecure: bool = False, answer_s: float = ANSWER_S) -> JobSubmissionClient:
    """A client of the job server at ``address``, which has ``answer_s`` for its first answer.

    Raises:
        InputError: the address is not http(s), a token is missing or wrong, or a cluster beyond this machine asks for
            none.
        Unavailable: nobody answers.
    """
    host = check_address(address)
    for name in OVERRIDING:
        if os.environ.get(name, address) != address:
            raise InputError(
                f"{name}={os.environ[name]} would be used instead of cluster.address={address}; "
                "unset it or make them equal"
            )
    reach_directly(address)  # here and in Ray's client
    asks = _asks_for_token(address, answer_s)
    local = is_this_machine(host)
    if not asks and not local and not insecure:
        raise InputError(
            f"the cluster at {address} asks for no token: anybody who reaches it can run code there. Start it with "
            "RAY_AUTH_MODE=token, or reach it through a tunnel to 127.0.0.1, or set cluster.insecure=true"
        )
    headers = {"Authorization": f"Bearer {_token(address)}"} if asks else {}
    try:
        return JobSubmissionClient(address, headers=headers)
    except FAULTS as error:
        raise explained(error, address) from None


def reached(address: str, *, insecure: bool = False) -> JobSubmissionClient:
    """As ``connect``, again while nobody answers. All tries together take no longer than the patience.

    A host that swallows packets costs a try all of its time.
    """
    since = time.monotonic()

    def attempt() -> JobSubmissionClient:
        left = patience.seconds() - (time.monotonic() - since)
        return connect(address, insecure=insecure, answer_s=min(ANSWER_S, max(LEAST_ANSWER_S, left)))

    return asked(attempt, address, since=since)


def explained(error: Exception, address: str) -> Exception:
    """A failed request as one sentence: InputError where the caller's side is wrong."""
    reason = patience.first_line(error)
    if isinstance(error, AuthenticationError):
        return InputError(f"the cluster at {address} refuses the token of {token_place()} ({reason}); {TOKEN_HELP}")
    if "status code 413" in reason:
        return InputError(
            f"something between here and the cluster at {address} refuses requests of the size of this project's code, "
            "a few MB (status 413). Raise the limit of that proxy (nginx: client_max_body_size 32m), or reach the "
            "dashboard without it, through a tunnel (ssh -L 8265:127.0.0.1:8265 HEAD)"
        )
    if isinstance(error, OSError):
        return Unavailable(
            f"the connection to the cluster at {address} was lost ({type(error).__name__}: {reason}). Is the tunnel "
            "still open, and the head up? Give the same command again"
        )
    return MachineError(f"the job server at {address} refused: {reason}")


def passes(error: Exception) -> bool:
    """Whether a request may succeed when it is sent again: a lost connection, a proxy or a head that is busy."""
    return isinstance(error, (OSError, Unavailable)) or PASSING.search(str(error)) is not None


def asked(call: Callable[[], T], address: str, *, since: float | None = None) -> T:
    """The result of a request that may be sent twice; an outage is ridden out as by ``patience.ridden_out``.

    Raises:
        InputError, MachineError, Unavailable: one sentence on what refuses or fails.
    """
    try:
        return patience.ridden_out(call, passes, f"the job server at {address}", since=since)
    except Unavailable as error:
        raise Unavailable(f"{error}. Is the tunnel to it still open?") from None
    except (InputError, MachineError):
        raise
    except FAULTS as error:
        raise explained(error, address) from None


def _asks_for_token(address: str, answer_s: float) -> bool:
    try:
        answer = requests.get(f"{address.rstrip('/')}/api/authentication_mode", timeout=answer_s, allow_redirects=False)
    except requests.RequestException as error:
        _check_host_is_known(address)
        raise Unavailable(
            f"nobody answers at cluster.address={address} ({type(error).__name__}). Is the cluster up, and is the "
            "tunnel open (ray dashboard ray-cluster.yaml)?"
        ) from None
    if answer.status_code in (401, 403):
        return True
    if PASSING.fullmatch(f"status code {answer.status_code}"):
        raise Unavailable(
            f"something at cluster.address={address} answers with status code {answer.status_code}: the cluster's "
            "head, or a proxy before it, is not ready or busy"
        )
    if answer.status_code != 200:
        raise InputError(
            f"expected a Ray dashboard at {address}; its /api/authentication_mode answered {answer.status_code}"
        )
    try:
        mode = answer.json().get("authentication_mode")
    except (ValueError, AttributeError):
        raise InputError(f"expected a Ray dashboard at {address}; it answered with something else") from None
    return mode == "token"


def _check_host_is_known(address: str) -> None:
    host = check_address(address)
    try:
        socket.getaddrinfo(host, None)
    except socket.gaierror as error:
        kind = Unavailable if error.errno == socket.EAI_AGAIN else InputError
        raise kind(
            f"the host {host} of cluster.address={address} is not known here ({error.strerror}). Correct its name, or "
            "join the network that knows it (VPN), or open a tunnel and give http://127.0.0.1:8265"
        ) from None


def token_place() -> str:
    """Where the token is read: what an error about it names."""
    return "RAY_AUTH_TOKEN" if os.environ.get("RAY_AUTH_TOKEN") else str(_token_file())


def _token_file() -> Path:
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")


def _token(address: str) -> str:
    """The token, read where Ray itself looks for it; it goes only into the header of requests to ``address``."""
    token = os.environ.get("RAY_AUTH_TOKEN")
    if token:
        return token.strip()
    path = _token_file()
    try:
        return path.read_text().strip()
    except OSError:
        raise InputError(f"the cluster at {address} asks for a token and {path} does not exist; {TOKEN_HELP}") from None
