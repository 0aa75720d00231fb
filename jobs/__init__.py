"""Entry points: each module with a main(argv) is one job; the others serve the pipeline and the report."""

import sys
from types import TracebackType


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """An interrupt while a job imports its libraries, which takes seconds, is a word instead of a traceback."""
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _tell
