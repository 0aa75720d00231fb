"""The command line that all jobs share: ``python -m jobs.NAME [--config FILE] [key=value ...] [--dry-run]``.

Exit codes: ``Exit``. A message is one sentence without a traceback; only a fault of this program has one.
"""

from __future__ import annotations

import argparse
import contextlib
import enum
import errno
import operator
import os
import re
import select
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster import ending, notice, patience
from cluster.store import check_writable, local_path
from hojoint import config as settings
from hojoint.config import Config
from hojoint.errors import InputError, MachineError, Unavailable

PATH_SETTINGS = (
    *("output", "world", "videos.root", "videos.boxes", "teacher.checkpoint", "evaluate.checkpoint"),
    *("score.predictions", "score.truth", "calibrate.predictions", "calibrate.truth"),
    *("mano.path", "model.pretrained", "train.init_checkpoint", "data.pseudo.labels", "data.ho3d.root"),
    "filters.quality_model",
    *("demo.image", "demo.video", "demo.boxes", "detect.models", "cluster.cache"),
    *("data.ho3d.segmentations", "data.ho3d.object_models", "data.freihand.root", "data.freihand.evaluation_root"),
    *("data.ho3d.shards", "data.freihand.shards"),
)
"""Settings that may name a file or a folder."""
OUTPUT = {"output": "DIR_OR_S3_URI"}
NEEDED: Mapping[str, Mapping[str, str]] = {
    "pseudo_label": {"videos.root": "DIR", "videos.boxes": "FILE_OR_DIR", "teacher.checkpoint": "FILE"} | OUTPUT,
    "detect": {"videos.root": "DIR_OR_S3_URI", "output": "FILE.parquet"},
    "refilter": {"data.pseudo.labels": "DIR_OR_S3_URI"} | OUTPUT,
    "retrain": {"data.pseudo.labels": "DIR_OR_S3_URI"} | OUTPUT,
    **dict.fromkeys(("train", "ingest", "calibrate", "pipeline", "study"), OUTPUT),
}
"""Job -> settings without which it does nothing, with an example of each. Jobs that are sent are checked before."""
TELLING = {*NEEDED, "evaluate", "synthesize", "bench"}
"""Jobs whose end ``cluster.notify`` is told: those that work for long. The others answer whoever has asked."""
DEFAULT_CONFIG = Path(__file__).resolve().parent.parent / "configs" / "tiny.yaml"


EPILOG = "Settings: docs/extending.md, by group; all of them: hojoint/settings_*.py."


class Exit(enum.IntEnum):
    """What a scheduler is told."""

    DONE = 0
    FAULT = ending.FAULT
    """A bug, a fault of the machine, or a person's interrupt: nothing is known to help but a look."""
    WRONG_INPUT = ending.WRONG_INPUT
    TRY_AGAIN = ending.TRY_AGAIN
    """A store or a cluster was away, a disk full, the job preempted: the same command resumes when that is over."""


class RunFailed(Exception):
    """The run failed for a known reason; the message says what failed and what to do."""


def run(job: Callable[[Config, bool], None], doc: str | None, argv: Sequence[str] | None) -> int:
    """Parse ``argv``, call ``job(config, dry_run)``, and return the exit code.

    Which exception has which code: ``exit_code``.
    """
    return _run(lambda config, dry_run, _: job(config, dry_run), doc, argv, words=())


def run_word(
    job: Callable[[Config, bool, str], None], doc: str | None, argv: Sequence[str] | None, words: Sequence[str]
) -> int:
    """As ``run``, for a job whose command line begins with one of ``words``; the job gets it as third argument."""
    return _run(job, doc, argv, words=words)


def _run(
    job: Callable[[Config, bool, str], None], doc: str | None, argv: Sequence[str] | None, *, words: Sequence[str]
) -> int:
    parser = argparse.ArgumentParser(
        description=doc, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if words:
        parser.add_argument("word", nargs="?", choices=words, metavar="|".join(words), help="what to do")
    parser.add_argument("--config", default=str(DEFAULT_CONFIG), help="YAML file (default: configs/tiny.yaml)")
    parser.add_argument("--dry-run", action="store_true", help="print what would run, on which data, and stop")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="dotted settings, as in train.epochs=3")
    arguments = parser.parse_intermixed_args(argv)  # overrides may stand before and after an option
    word = getattr(arguments, "word", "")
    if word is None:  # argparse's own message would ask for key=value too
        parser.error(f"expected one of: {', '.join(words)}")
    with ending.guarded(), contextlib.ExitStack() as stack:
        try:
            config = at_home(settings.load(arguments.config, [expand_home(word) for word in arguments.overrides]))
            if arguments.config == str(DEFAULT_CONFIG):
                _tell_miniature(config)
            stack.enter_context(patience.granted(config.cluster.patience_s))
            with _noticed(config, name_of(doc), arguments.dry_run):
                job(seen_by_workers(config), arguments.dry_run, word)
                sys.stdout.flush()  # a reader that has gone is noticed here, not while Python ends
        except BaseException as error:
            return exit_code(error)
    return Exit.DONE


def _tell_miniature(config: Config) -> None:
    """Print a note where MANO is set with the settings of configs/tiny.yaml: --config was probably forgotten.

    Settings are compared, because a job that was sent has them all as overrides and names no file.
    """
    if config.mano.path is None:
        return
    default = settings.load(DEFAULT_CONFIG)
    if config.model == default.model and config.tta == default.tta:
        print(
            "note: without --config all other settings are those of configs/tiny.yaml, the miniature; configs/ho3d.yaml"
            " has the paper's, configs/released.yaml those of the authors' checkpoint",
            file=sys.stderr,
        )


def name_of(doc: str | None) -> str:
    """The job's name, from the command line that its documentation begins with."""
    found = re.search(r"jobs\.(\w+)", doc or "")
    return found[1] if found else "job"


@contextlib.contextmanager
def _noticed(config: Config, name: str, dry_run: bool) -> Iterator[None]:
    """Tell ``cluster.notify`` how the job has ended; one that is sent or deployed tells it from there."""
    if config.cluster.notify is None or name not in TELLING:
        yield
        return
    address, began = notice.address_of(config.cluster.notify), time.monotonic()
    if dry_run:
        yield
        return
    try:
        yield
    except BaseException as error:
        code, message = code_of(error), patience.first_line(error)
        notice.send(address, name, config.output, code, message, time.monotonic() - began)
        raise
    notice.send(address, name, config.output, Exit.DONE, "", time.monotonic() - began)


def code_of(error: BaseException) -> Exit:
    """The exit code of what ended a job."""
    match error:
        case InputError():
            return Exit.WRONG_INPUT
        case Unavailable() | ending.Ended() | OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return Exit.TRY_AGAIN
    return Exit.FAULT


def exit_code(error: BaseException) -> Exit:
    """Print what ended a job, and tell its exit code; a SystemExit is raised again."""
    code = code_of(error)
    match error:
        case InputError():
            return _said(f"error: {error}", code)
        case Unavailable() | RunFailed() | MachineError():
            return _said(f"failed: {error}", code)
        case ending.Ended():
            return _said(f"{error}; run the same command again to continue", code)
        case KeyboardInterrupt():
            return _said("interrupted; run the same command again to continue", code)
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            where = f"{error.filename or 'a disk'} on the node {socket.gethostname()}"
            return _said(f"failed: {where} has no room ({error.strerror}); free some and resume", code)
        case BrokenPipeError() if _reader_has_gone():
            return _said("stopped: nobody reads this output any more (it was piped to a command that has ended)", code)
        case Exception():
            traceback.print_exception(error)
            return code
    raise error


def _reader_has_gone() -> bool:
    """Whether standard output is the pipe that broke; it leads nowhere from here, so that Python ends quietly."""
    poll, output = select.poll(), sys.stdout.fileno()
    poll.register(output, 0)  # POLLERR is told of in any case: a pipe that nobody reads
    if not poll.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return True


def _said(line: str, code: Exit) -> Exit:
    print(line, file=sys.stderr)
    return code


def expand_home(override: str) -> str:
    """``key=~/x`` with the path of the home folder: a shell expands ``~/`` only at the start of a word."""
    key, equals, value = override.partition("=")
    return f"{key}{equals}{os.path.expanduser(value)}" if value.startswith("~/") else override


def at_home(config: Config) -> Config:
    """The settings with plain paths for ``file://`` and for ``~/``, which no shell expands in a config file."""
    for name in PATH_SETTINGS:
        value = operator.attrgetter(name)(config)
        if isinstance(value, str) and value.startswith(("~/", "file://")):
            config = _with(config, name.split("."), str(local_path_of(config, name)))
    return config


def local_path_of(config: Config, name: str) -> str | None:
    """The local path that one of ``PATH_SETTINGS`` is, also as ``file://``; None if it is not set or another URI."""
    value = operator.attrgetter(name)(config)
    if not isinstance(value, str) or (name, value) == ("model.pretrained", "imagenet"):
        return None
    path = local_path(value)
    return path if path is None else os.path.expanduser(value if "://" not in value else path)


def seen_by_workers(config: Config) -> Config:
    """The settings with absolute paths where the job runs on a cluster: its workers run in other folders.

    Paths of a job that is sent by jobs.submit stay as they are; that job refuses relative ones.
    """
    if config.cluster.address is None or config.submit.job is not None:
        return config
    for name in PATH_SETTINGS:
        if (value := local_path_of(config, name)) is not None:
            config = _with(config, name.split("."), str(Path(value).absolute()))
    return config


def _with(group: Any, names: Sequence[str], value: str) -> Any:
    """A copy with one setting changed; which settings were given stays known, as ``settings.changed`` would not."""
    first, *others = names
    return group.model_copy(update={first: _with(getattr(group, first), others, value) if others else value})


def refuse_missing(config: Config, job: str) -> None:
    """InputError if a setting that ``job`` needs (``NEEDED``) is missing."""
    for name, example in NEEDED.get(job, {}).items():
        need(operator.attrgetter(name)(config), name, example)


def refuse_missing_data(config: Config, job: str) -> None:
    """InputError if ``job`` is to be sent without what it reads: it would end when its nodes have started."""
    if job == "evaluate" and config.score.predictions is None:
        need(config.evaluate.checkpoint, "evaluate.checkpoint", "FILE")
    read = {"train": config.train.datasets, "retrain": config.train.datasets, "ingest": (config.ingest.dataset,)}
    for name in read.get(job, ()):
        if name != "pseudo" and (job == "ingest" or getattr(getattr(config.data, name), "shards", None) is None):
            need(getattr(config.data, name).root, f"data.{name}.root", "DIR_OR_S3_URI")


def output_of(config: Config, example: str) -> str:
    """The output; InputError if it is missing or not writable. Jobs call this before any work, and in a dry run."""
    output = need(config.output, "output", example)
    check_writable(output)
    return output


def need(value: str | None, name: str, example: str) -> str:
    """The setting's value; InputError with an example if it is missing."""
    if value is None:
        raise InputError(f"the setting '{name}' is needed; give it as {name}={example}")
    return value
