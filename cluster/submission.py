"""Send a job to a Ray cluster: one command line, one id, no shell to break out of.

The id derives from the command and the code: the same command on the same code finds the job that was sent. Not here:
reaching the cluster (``job_server``), what a job does, and following it (``following``).
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.job_submission import JobSubmissionClient

from cluster.store import local_path
from hojoint.errors import InputError, MachineError

PACKAGES = ("hojoint", "cluster", "jobs", "configs")
"""All that is shipped: beside them lie runs and data in a checkout, and everybody's packages in an installation."""
logging.getLogger("ray._private.runtime_env.packaging").setLevel(logging.WARNING)  # else a line per file
OURS = "hojoint-"  # begins the ids of our jobs
LOOK_S = 0.5  # between two looks whether a job has ended
STOP_S = 60.0  # for a job to end after it was told to; Ray kills it after 3 s
SENDERS = 5  # tries to find a free id while others send the same command


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
        return shown if self.output is None else shown | {"output": one_spelling(self.output)}

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


def one_spelling(output: str) -> str:
    """An output as all write it who mean it: 's3://b/x/' is 's3://b/x', '/data//x/' and 'file:///data/x' '/data/x'."""
    path = local_path(output)
    return output.rstrip("/") if path is None else str(path)


def output_of(info: Any) -> str | None:
    """The output that a sent job works on; an earlier version noted it as it was typed."""
    output = (info.metadata or {}).get("output")
    return None if output is None else one_spelling(output)


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
        infos = [info for info in infos if output_of(info) == one_spelling(output)]
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
    if not job.alone or job.output is None:
        return
    output = one_spelling(job.output)
    for name, info in running.items():
        if ((info.metadata or {}).get("job"), output_of(info)) == (job.job, output):
            raise InputError(
                f"{name} is working on {output} with other settings or other code. Wait for it, or stop it with: "
                f"python -m jobs.stop {name} cluster.address=URL. The same output then resumes with what you give"
            )
