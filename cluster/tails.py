"""The new part of a job's log, read from its end: a log of days is not sent again for its last line.

Ray's dashboard sends the last N lines of a file and knows no offsets. ``Reader`` asks for few lines and finds the text
that it has handed on in them; only where that fails it asks for more, and at last for the complete log. Not here: how
often, and what connections that fail mean (``following``).
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from typing import Any

from ray.job_submission import JobSubmissionClient

LINES = 200  # asked for at first
MOST_LINES = 20_000  # beyond these the complete log is asked for
COMPLETE = -1  # Ray's word for all lines
FACTOR = 8  # of lines, where the handed-on text is not among them
ANCHOR_LINES = 20  # of handed-on text that are looked for; progress lines hold numbers, so they differ
KEPT = 4000  # characters of these at most
TIMEOUT_S = 60.0

Tail = Callable[[int], str]
"""The last lines of a log by their number; COMPLETE means all."""


class Reader:
    """Hands on each part of a log once and in order.

    Where the same ANCHOR_LINES lines stand twice in a long log, the second ones may be left out.
    """

    def __init__(self, say: Callable[[str], None], *, shown_lines: int | None = None) -> None:
        """``shown_lines``: begin with so many of the last lines; None means the first."""
        self._say = say
        self._first_lines = shown_lines
        self._said = 0  # characters from the log's beginning; counts only while ``_from_start``
        self._last = ""  # what was handed on last
        self._from_start = shown_lines is None

    def take(self, text: str) -> None:
        """Hand on what follows the handed-on text."""
        if text:
            self._say(text)
            self._said += len(text)
            lines = (self._last + text)[-KEPT:].split("\n")
            self._last = "\n".join(lines[-ANCHOR_LINES - 1 :])

    def take_whole(self, log: str) -> None:
        """Hand on what is new in a complete log."""
        self._take_from(log, complete=True)

    def read(self, tail: Tail) -> None:
        """Ask for the last lines until the new part is among them, and hand it on."""
        if self._first_lines is not None:
            lines, self._first_lines = self._first_lines, None
            text = tail(lines)
            self._from_start = _fewer(text, lines)
            self.take(text)
            return
        lines = LINES if self._said else COMPLETE
        while True:
            text = tail(lines)
            if self._take_from(text, complete=lines == COMPLETE or _fewer(text, lines)):
                return
            lines = lines * FACTOR if lines * FACTOR <= MOST_LINES else COMPLETE

    def _take_from(self, text: str, *, complete: bool) -> bool:
        """Hand on what is new in ``text``; False where the handed-on text is not in it."""
        if complete and self._from_start:
            self.take(text[self._said :])
            return True
        at = text.rfind(self._last) if self._last else -1
        if at >= 0:
            self.take(text[at + len(self._last) :])
            return True
        if complete:  # and yet unknown: another log, of a cluster that was started again
            self.take(text)
        return complete


def tail_of(client: JobSubmissionClient, submission_id: str, info: Any) -> Tail:
    """Reads the last lines of a job's log; ``info`` is what ``client.get_job_info`` says of a job that has a node.

    A call raises OSError without a connection, RuntimeError for an answer that is no log.
    """
    query = {"node_id": info.driver_node_id, "submission_id": submission_id}

    def tail(lines: int) -> str:
        # The public client has no call for this; its own one sends the token and knows the answers that refuse it.
        answer = client._do_request(
            "GET", "/api/v0/logs/file", params={**query, "lines": str(lines)}, timeout=TIMEOUT_S, allow_redirects=False
        )
        if answer.status_code != 200:
            raise RuntimeError(f"the log was answered with status {answer.status_code}")
        return _text(answer.content)

    return tail


def _fewer(text: str, lines: int) -> bool:
    """Whether a log has fewer lines than asked for, so that ``text`` is all of it; its last may be half written."""
    return text.count("\n") + 1 < lines


def _text(data: bytes) -> str:
    """As Ray's other connection sends it: newlines alone; a character that is half written comes with the next read."""
    text = codecs.getincrementaldecoder("utf-8")("replace").decode(data)
    return text.replace("\r\n", "\n").replace("\r", "\n")
