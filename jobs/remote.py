"""What jobs.submit, jobs.stop and jobs.list share: the client of a running cluster's job server, and its faults."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from cluster import patience
from hojoint.config import Config
from hojoint.errors import InputError
from jobs import command

EXAMPLE = "http://127.0.0.1:8265"
ANSWER_S = 15.0  # that jobs.list and jobs.stop wait for a cluster that does not answer: somebody sits in front of them

T = TypeVar("T")


class JobServer:
    """The job server at ``cluster.address``."""

    def __init__(self, config: Config) -> None:
        """Raises InputError for an address that is no dashboard's, or without Ray's job client. Asks nothing yet."""
        self.address = command.need(config.cluster.address, "cluster.address", EXAMPLE)
        self._server, self.submission, self.following = _import_client()
        self._server.check_address(self.address)
        self._insecure = config.cluster.insecure
        self._client: Any = None

    @property
    def client(self) -> Any:
        """Ray's client; the first use connects. Raises InputError where the cluster refuses, Unavailable if away."""
        if self._client is None:
            self._client = self._server.reached(self.address, insecure=self._insecure)
        return self._client

    def ask(self, call: Callable[[Any], T]) -> T:
        """The result of a call with the client; it may be repeated while the connection fails.

        Raises:
            InputError, MachineError, Unavailable: one sentence on what refuses or fails, and what to do.
        """
        return self._server.asked(functools.partial(call, self.client), self.address)

    def command_line(self, job: str, *words: str) -> str:
        """A command to give next."""
        return shlex.join(["python", "-m", f"jobs.{job}", *words, f"cluster.address={self.address}"])


def soon(config: Config) -> AbstractContextManager[None]:
    """The patience of a command for which a person waits, for the time of the block."""
    if config.cluster.patience_s <= ANSWER_S:
        return patience.granted(config.cluster.patience_s)
    return patience.granted(ANSWER_S, "this command")


def with_first_word(argv: Sequence[str], setting: str) -> list[str]:
    """The command line with the first word that is no setting and no option as the value of ``setting``."""
    words = list(argv)
    for place, word in enumerate(words):
        if "=" not in word and not word.startswith("-") and (place == 0 or words[place - 1] != "--config"):
            return [*words[:place], f"{setting}={word}", *words[place + 1 :]]
    return words


def age(seconds: float) -> str:
    """A span of time with one unit."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _import_client() -> tuple[Any, Any, Any]:
    try:
        from cluster import following, job_server, submission
    except ImportError as error:
        raise InputError(f"sending jobs needs Ray's job client ({error}): pip install -e '.[cluster]'") from None
    return job_server, submission, following
