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
import re
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from ray.exceptions import AuthenticationError, RayError
from ray.job_submission import JobSubmissionClient

from cluster import patience
from hojoint.errors import InputError, MachineError, Unavailable

PACKAGES = ("hojoint", "cluster", "jobs", "configs")
"""All that is shipped: beside them lie runs and data in a checkout, and everybody's packages in an installation."""
TOKEN_HELP = "set RAY_AUTH_TOKEN_PATH to a file that holds the cluster's token (or RAY_AUTH_TOKEN to the token itself)"
OVERRIDING = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
"""Ray prefers these to the given address; then the job would go to an unexpected cluster."""
logging.getLogger("ray._private.runtime_env.packaging").setLevel(logging.WARNING)  # else a line per file
OURS = "hojoint-"  # begins the ids of our jobs
FAULTS = (OSError, RuntimeError, ValueError, RayError)  # of requests, of Ray's client, of a proxy that answers for it
PASSING = re.compile(r"status code (5\d\d|429)")  # in the message of Ray's client: another try may succeed
LOOK_S = 0.5  # between two looks whether a job has ended
STOP_S = 60.0  # for a job to end after it was told to; Ray kills it after 3 s
ANSWER_S = 20.0  # for the first answers
SENDERS = 5  # tries to find a free id while others send the same command

T = TypeVar("T")


@dataclass(frozen=True)
class Submission:
    """A job to send."""

    module: str  # as in 'jobs.pseudo_label'
    arguments: Sequence[str]  # of its command line
    root: Path  # the folder of our packages, a checkout or site-packages
    name: str = "run"  # of the settings, for people
    output: str | None = None
    alone: bool = True  # no other command of this job may work on the output at the same time

    @property
    def job(self) -> str:
        """As in 'pseudo_label'."""
        return self.module.rpartition(".")[2]

    @property
    def metadata(self) -> dict[str, str]:
        """What the dashboard and jobs.list show; who reaches the job server can read it, so it holds no secret."""
        shown = {"job_name": f"{self.job} {self.name}", "job": self.job, "code": code_version(self.root)}
        return shown if self.output is None else shown | {"output": self.output}

    @property
    def entrypoint(self) -> str:
        """The command line, each word quoted: the job server passes it to a shell."""
        return shlex.join(["python", "-m", self.module, *self.arguments])

    @property
    def submission_id(self) -> str:
        """Equal for the same command on the same code."""
        name = self.job.replace("_", "-")
        text = f"{self.entrypoint}\n{code_version(self.root)}"
        return f"{OURS}{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


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
    except FAULTS as error:
        raise explained(error, address) from None


def explained(error: Exception, address: str) -> Exception:
    """A failed request as one sentence: InputError where the caller's side is wrong."""
    reason = patience.first_line(error)
    if isinstance(error, AuthenticationError):
        return InputError(f"the cluster at {address} refuses the token ({reason}); {TOKEN_HELP}")
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


def asked(call: Callable[[], T], address: str) -> T:
    """The result of a request that may be sent twice; an outage is ridden out for ``cluster.patience_s``.

    Raises:
        InputError, MachineError, Unavailable: one sentence on what refuses or fails.
    """
    try:
        return patience.ridden_out(call, passes, f"the job server at {address}")
    except Unavailable as error:
        raise Unavailable(f"{error}. Is the tunnel to it still open?") from None
    except (InputError, MachineError):
        raise
    except FAULTS as error:
        raise explained(error, address) from None


def submit(client: JobSubmissionClient, job: Submission) -> tuple[str, bool]:
    """Send a job unless it waits or runs already; its id, and whether it was sent now.

    A job that has ended, well or not, is sent again under the next number: it looks at its output, resumes, and is
    quick where nothing is missing. Called again after a lost answer, it finds the job that was sent.

    Raises:
        InputError: the same job with other settings or code is working on the same output.
    """
    for _ in range(SENDERS):
        known = {info.submission_id: info for info in client.list_jobs() if info.submission_id}
        running = {name: info for name, info in known.items() if not info.status.is_terminal()}
        attempts = [name for name in running if re.fullmatch(rf"{job.submission_id}(-\d+)?", name)]
        if attempts:
            return attempts[0], False
        _refuse_rivals(job, running)
        number = next(n for n in range(1, len(known) + 2) if _numbered(job.submission_id, n) not in known)
        name = _numbered(job.submission_id, number)
        try:
            _send(client, job, name)
        except RuntimeError as error:
            if "already exists" not in str(error):
                raise
            continue  # another command was faster: look again
        return name, True
    raise MachineError(f"{job.submission_id} is sent by others at the same time; see jobs.list")


def ours(client: JobSubmissionClient, output: str | None = None) -> list[Any]:
    """What the cluster remembers of this project's jobs, the last one first; of all, or of those with an output."""
    infos = [info for info in client.list_jobs() if (info.submission_id or "").startswith(OURS)]
    if output is not None:
        infos = [info for info in infos if (info.metadata or {}).get("output") == output]
    return sorted(infos, key=lambda info: info.start_time or 0, reverse=True)


def stop(client: JobSubmissionClient, submission_id: str, *, limit_s: float = STOP_S) -> str:
    """Tell a job to end, and wait until it has; its last status.

    Raises:
        InputError: the cluster does not know the job.
        MachineError: it has not ended within ``limit_s``.
    """
    address = client.get_address()
    try:
        client.stop_job(submission_id)
    except RuntimeError as error:
        if "does not exist" in str(error):
            raise InputError(
                f"the cluster at {address} knows no job {submission_id}; see: python -m jobs.list "
                f"cluster.address={address}"
            ) from None
        raise
    end = time.monotonic() + limit_s
    while not (status := client.get_job_info(submission_id).status).is_terminal():
        if time.monotonic() > end:
            raise MachineError(f"{submission_id} was told to stop and has not ended within {limit_s:g} s; try again")
        time.sleep(LOOK_S)
    return str(status.value)


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}-{number}"


def _send(client: JobSubmissionClient, job: Submission, name: str) -> None:
    with working_dir(job.root) as folder:
        # Neither credentials nor tokens: a runtime_env can be read through the job server's API.
        runtime_env = {"working_dir": str(folder)}
        client.submit_job(entrypoint=job.entrypoint, submission_id=name, runtime_env=runtime_env, metadata=job.metadata)


def _refuse_rivals(job: Submission, running: dict[str, Any]) -> None:
    """InputError if another command of the same job works on the output: it would be done twice, or refuse."""
    for name, info in running.items():
        facts = info.metadata or {}
        if job.alone and job.output is not None and (facts.get("job"), facts.get("output")) == (job.job, job.output):
            raise InputError(
                f"{name} is working on {job.output} with other settings or other code. Wait for it, or stop it with: "
                f"python -m jobs.stop {name} cluster.address=URL. The same output then resumes with what you give"
            )


def _asks_for_token(address: str) -> bool:
    try:
        answer = requests.get(f"{address.rstrip('/')}/api/authentication_mode", timeout=ANSWER_S, allow_redirects=False)
    except requests.RequestException as error:
        raise Unavailable(
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
