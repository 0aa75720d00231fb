"""A message to a web address when a job has ended (``cluster.notify``), in a form that chat services take as it is.

The address may be a secret itself, and settings are shown on dashboards, so it may be given as ``env:NAME``. A message
that cannot be delivered is a line on stderr and changes no exit code.
"""

from __future__ import annotations

import os
import socket
import sys
from urllib.parse import urlsplit

import requests

from cluster.loopback import is_this_machine, reach_directly
from hojoint.errors import InputError

FROM_ENVIRONMENT = "env:"
PATIENCE_S = 10.0
MOST_CHARACTERS = 2000  # of what ended the job


def address_of(setting: str) -> str:
    """The web address that ``cluster.notify`` means.

    Raises:
        InputError: the variable is not set, or the address is neither https nor http on this machine.
    """
    address = setting
    if setting.startswith(FROM_ENVIRONMENT):
        name = setting.removeprefix(FROM_ENVIRONMENT)
        address = os.environ.get(name, "")
        if not address:
            raise InputError(f"cluster.notify={setting}: the variable {name} is not set here")
    scheme, host = _scheme_and_host(address)
    if host and (scheme == "https" or (scheme == "http" and is_this_machine(host))):
        return address
    found = "one that cannot be read" if scheme is None else f"one with {scheme or 'no scheme'}"
    raise InputError(
        f"cluster.notify must be an https:// address, or http:// on this machine, or env:NAME of a variable that holds "
        f"one; found {found}"
    )


def _scheme_and_host(address: str) -> tuple[str | None, str | None]:
    """The scheme and the host of an address; None where it cannot be read, as for [::1 without its last bracket."""
    try:
        parts = urlsplit(address)
        scheme, host, _ = parts.scheme, parts.hostname, parts.port
    except ValueError:
        return None, None
    return scheme, host


def send(address: str, job: str, output: str | None, code: int, message: str, seconds: float) -> bool:
    """Whether the message arrived. ``message`` says what ended the job; '' for one that is done."""
    host = socket.gethostname()
    words = {0: "is done", 2: "was refused: its input is wrong", 75: "asks to be tried again"}.get(code, "failed")
    text = f"{job} {words} ({output or 'no output'}, {seconds / 60:.1f} min, on {host})"
    told = {"job": job, "output": output, "exit_code": code, "message": message[:MOST_CHARACTERS], "host": host}
    body = {"text": f"{text}\n{told['message']}".strip(), "seconds": round(seconds, 1), **told}
    try:
        reach_directly(address)
        answer = requests.post(address, json=body, timeout=PATIENCE_S, allow_redirects=False)
        reason = "" if answer.ok else f"it answered {answer.status_code}"
    except requests.RequestException as error:
        reason = type(error).__name__  # its text would show the address
    if reason:
        print(f"note: the message of cluster.notify was not delivered: {reason}", file=sys.stderr)
    return not reason
