"""Send a job to a Ray cluster: one command line, one id, no shell to break out of.

Ray's job server runs whatever it receives, so a cluster beyond this machine must ask for a token (CVE-2023-48022); one
that does not is refused unless cluster.insecure allows it. The id derives from the command and the code: the same
command on the same code finds the job that was sent. Not here: what a job does, and following it (``following``).
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import logging
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests
from ray.job_submission import JobStatus, JobSubmissionClient

from hojoint.errors import InputError

PACKAGES = ("hojoint", "cluster", "jobs", "configs")
"""All that is shipped: beside them lie runs and data in a checkout, and everybody's packages in an installation."""
TOKEN_HELP = "set RAY_AUTH_TOKEN_PATH to a file that holds the cluster's token (or RAY_AUTH_TOKEN to the token itself)"
OVERRIDING = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
"""Ray prefers these to the given address; then the job would go to an unexpected cluster."""
logging.getLogger("ray._private.runtime_env.packaging").setLevel(logging.WARNING)  # else a line per file
FAILED_BEFORE = (JobStatus.FAILED, JobStatus.STOPPED)


@dataclass(frozen=True)
class Submission:
    """A job to send."""

    module: str  # as in 'jobs.pseudo_label'
    arguments: Sequence[str]  # of its command line
    root: Path  # the folder of our packages, a checkout or site-packages

    @property
    def entrypoint(self) -> str:
        """The command line, each word quoted: the job server passes it to a shell."""
        return shlex.join(["python", "-m", self.module, *self.arguments])

    @property
    def submission_id(self) -> str:
        """Equal for the same command on the same code."""
        name = self.module.rpartition(".")[2].replace("_", "-")
        text = f"{self.entrypoint}\n{code_version(self.root)}"
        return f"hojoint-{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def shipped(root: Path) -> list[Path]:
    """The files of our packages, relative to ``root``.

    Raises:
        InputError: a package is not there.
    """
    missing = [name for name in PACKAGES if not (root / name / "__init__.py").is_file()]
    if missing:
        raise InputError(
            f"expected the packages {', '.join(PACKAGES)} side by side in {root}, and {', '.join(missing)} is missing; "
            "install this project again, or submit from a checkout of it"
        )
    paths = (path for name in PACKAGES for path in (root / name).rglob("*") if path.is_file())
    names = sorted(path.relative_to(root) for path in paths)
    return [name for name in names if not any(part == "__pycache__" or part.startswith(".") for part in name.parts)]


def code_version(root: Path) -> str:
    """A digest of what is shipped: another version of the code is another job."""
    digest = hashlib.sha256()
    for name in shipped(root):
        digest.update(name.as_posix().encode() + b"\0" + (root / name).read_bytes() + b"\0")
    return digest.hexdigest()[:12]


@contextlib.contextmanager
def working_dir(root: Path) -> Iterator[Path]:
    """A temporary folder that holds our packages and nothing else; Ray ships a folder as it is."""
    with tempfile.TemporaryDirectory(prefix="hojoint") as folder:
        for name in shipped(root):
            copy = Path(folder) / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, copy)
        yield Path(folder)


def check_address(address: str) -> str:
    """The host of a dashboard's address; InputError for anything else."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"cluster.address must be the dashboard's, as in http://127.0.0.1:8265; found {address!r}")
    return parts.hostname


def connect(address: str, *, insecure: bool = False) -> JobSubmissionClient:
    """A client of the job server at ``address``.

    Raises:
        InputError: the address is not http(s), nobody answers, a token is missing, or a cluster beyond this machine
            asks for none.
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
    """Send a job unless the cluster has it; its id, and whether it was sent now.

    A job that failed or was stopped is sent again under the next number, and its work resumes. A job that is waiting,
    running or done is not sent again.
    """
    known = {info.submission_id: info.status for info in client.list_jobs()}
    name, attempt = job.submission_id, 1
    while name in known:
        if known[name] not in FAILED_BEFORE:
            return name, False
        attempt += 1
        name = f"{job.submission_id}-{attempt}"
    with working_dir(job.root) as folder:
        # Neither credentials nor tokens: a runtime_env can be read through the job server's API.
        runtime_env = {"working_dir": str(folder)}
        client.submit_job(entrypoint=job.entrypoint, submission_id=name, runtime_env=runtime_env)
    return name, True


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
        raise InputError(f"expected a Ray dashboard at {address}; it answered with something else") from None
    return mode == "token"


def _token(address: str) -> str:
    """The token, read where Ray itself looks for it; it goes only into the header of requests to ``address``."""
    token = os.environ.get("RAY_AUTH_TOKEN")
    if token:
        return token.strip()
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    try:
        return path.read_text().strip()
    except OSError:
        raise InputError(f"the cluster at {address} asks for a token and {path} does not exist; {TOKEN_HELP}") from None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
