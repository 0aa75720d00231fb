"""Send a job to a Ray cluster and follow it: one command line, one id, no shell to break out of.

Ray's job server runs whatever it is sent, so a cluster beyond this machine must ask for a token (CVE-2023-48022); one
that does not is refused unless the settings say otherwise. The id derives from the command and the code: sending the
same again finds the job that is there. Not here: what the jobs do.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import os
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from ray.job_submission import JobStatus, JobSubmissionClient

from hojoint.errors import InputError

EXCLUDES = ["runs", "build", "dist", ".venv", ".git", "**/__pycache__", "**/*.egg-info"]
"""Never shipped; what .gitignore names is not either."""
TOKEN_HELP = "set RAY_AUTH_TOKEN_PATH to a file that holds the cluster's token (or RAY_AUTH_TOKEN to the token itself)"
OVERRIDING = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
"""Ray lets these win over an address that is given; then a job would go where nobody looked."""
logging.getLogger("ray._private.runtime_env.packaging").setLevel(logging.WARNING)  # a line per ignored file
FAILED_BEFORE = (JobStatus.FAILED, JobStatus.STOPPED)


@dataclass(frozen=True)
class Submission:
    """A job to send."""

    module: str  # as in 'jobs.pseudo_label'
    arguments: Sequence[str]  # of its command line
    working_dir: Path  # shipped to the cluster

    @property
    def entrypoint(self) -> str:
        """The command line, each word quoted: the job server gives it to a shell."""
        return shlex.join(["python", "-m", self.module, *self.arguments])

    @property
    def submission_id(self) -> str:
        """The same for the same command on the same code."""
        name = self.module.rpartition(".")[2].replace("_", "-")
        text = f"{self.entrypoint}\n{code_version(self.working_dir)}"
        return f"hojoint-{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def code_version(folder: Path) -> str:
    """A digest of the Python and YAML files that are shipped: another version of the code is another job."""
    digest = hashlib.sha256()
    for part in ("hojoint", "cluster", "jobs", "configs"):
        for path in sorted((folder / part).rglob("*")):
            if path.suffix in (".py", ".yaml", ".jinja") and path.is_file():
                digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def check_address(address: str) -> str:
    """The host of a dashboard's address; InputError for what is none."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"cluster.address must be the dashboard's, as in http://127.0.0.1:8265; found {address!r}")
    return parts.hostname


def connect(address: str, *, insecure: bool = False) -> JobSubmissionClient:
    """A client of the job server at ``address``.

    Raises:
        InputError: the address is not http(s), nobody answers, a token is missing, or none is asked for and the
            cluster is not local.
    """
    host = check_address(address)
    for name in OVERRIDING:
        if os.environ.get(name, address) != address:
            raise InputError(
                f"{name}={os.environ[name]} would be used instead of cluster.address={address}; "
                "unset it or make them equal"
            )
    asks = _asks_for_token(address)
    local = _is_loopback(host)
    if not asks and not local and not insecure:
        raise InputError(
            f"the cluster at {address} asks for no token: anybody who reaches it can run code there. Start it with "
            "RAY_AUTH_MODE=token, or reach it through a tunnel to 127.0.0.1, or set cluster.insecure=true"
        )
    headers = {"Authorization": f"Bearer {_token(address)}"} if asks else {}
    try:
        return JobSubmissionClient(address, headers=headers)
    except RuntimeError as error:
        raise InputError(f"the job server at {address} refused: {_first_line(error)}; {TOKEN_HELP}") from None


def submit(client: JobSubmissionClient, job: Submission) -> tuple[str, bool]:
    """Send a job unless it is there; its id, and whether it was sent now.

    A job that failed or was stopped is sent again under the next number, for its work resumes; one that runs or is done
    is left alone.
    """
    known = {info.submission_id: info.status for info in client.list_jobs()}
    name, attempt = job.submission_id, 1
    while name in known:
        if known[name] not in FAILED_BEFORE:
            return name, False
        attempt += 1
        name = f"{job.submission_id}-{attempt}"
    runtime_env: dict[str, Any] = {"working_dir": str(job.working_dir), "excludes": EXCLUDES}
    # Neither credentials nor tokens: a runtime_env can be read through the job server's API.
    client.submit_job(entrypoint=job.entrypoint, submission_id=name, runtime_env=runtime_env)
    return name, True


def follow(
    client: JobSubmissionClient, submission_id: str, say: Callable[[str], None], *, every_s: float = 1.0
) -> tuple[bool, str]:
    """Hand on the job's output as it comes, until it ends; whether it succeeded, and its last message."""
    said = 0
    while True:
        status = client.get_job_status(submission_id)  # before the logs: then nothing printed at the end is missed
        logs = client.get_job_logs(submission_id)
        if len(logs) > said:
            say(logs[said:])
            said = len(logs)
        if status.is_terminal():
            message = client.get_job_info(submission_id).message or ""
            return status is JobStatus.SUCCEEDED, message
        time.sleep(every_s)


def _asks_for_token(address: str) -> bool:
    try:
        answer = requests.get(f"{address.rstrip('/')}/api/authentication_mode", timeout=20, allow_redirects=False)
    except requests.RequestException as error:
        raise InputError(
            f"nobody answers at cluster.address={address} ({type(error).__name__}). Is the cluster up, and is the "
            "tunnel open (ray dashboard ray-cluster.yaml)?"
        ) from None
    if answer.status_code in (401, 403):
        return True
    if answer.status_code != 200:
        raise InputError(
            f"expected a Ray dashboard at {address}; its /api/authentication_mode answered {answer.status_code}"
        )
    try:
        mode = answer.json().get("authentication_mode")
    except (ValueError, AttributeError):
        raise InputError(f"expected a Ray dashboard at {address}; it answered something else") from None
    return mode == "token"


def _token(address: str) -> str:
    """The token, from where Ray itself looks for it; only ever put into the header of a request to ``address``."""
    given = os.environ.get("RAY_AUTH_TOKEN")
    if given:
        return given.strip()
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    try:
        return path.read_text().strip()
    except OSError:
        raise InputError(
            f"the cluster at {address} asks for a token and there is none at {path}; {TOKEN_HELP}"
        ) from None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
