"""The command line that all jobs share: ``python -m jobs.NAME [--config FILE] [key=value ...] [--dry-run]``.

Exit code 0: done. 2: the user's input is wrong; one clear message, no traceback. 1: the run failed.
"""

from __future__ import annotations

import argparse
import operator
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cluster.store import check_writable
from hojoint import config as settings
from hojoint.config import Config
from hojoint.errors import InputError, MachineError

PLACES = (
    *("output", "world", "videos.root", "videos.boxes", "teacher.checkpoint", "evaluate.checkpoint"),
    *("score.predictions", "score.truth", "calibrate.predictions", "calibrate.truth"),
    *("mano.path", "model.pretrained", "train.init_checkpoint", "data.pseudo.labels", "data.ho3d.root"),
    "filters.quality_model",
    *("demo.image", "demo.video", "demo.boxes", "detect.models", "cluster.cache"),
    *("data.ho3d.segmentations", "data.ho3d.object_models", "data.freihand.root", "data.freihand.evaluation_root"),
    *("data.ho3d.shards", "data.freihand.shards"),
)
"""Settings that may name a file or a folder."""
DEFAULT_CONFIG = Path(__file__).resolve().parent.parent / "configs" / "tiny.yaml"


EPILOG = "Settings: docs/extending.md, by group; all of them: hojoint/settings_*.py."


class RunFailed(Exception):
    """The run failed for a known reason; the message says what failed and what to do."""


def run(job: Callable[[Config, bool], None], doc: str | None, argv: Sequence[str] | None) -> int:
    """Parse ``argv``, call ``job(config, dry_run)``, and return the exit code.

    ``InputError`` is caused by user input: only its message is printed. Any other exception is a fault of this program
    and is printed with its traceback.
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
    try:
        config = settings.load(arguments.config, [expand_home(override) for override in arguments.overrides])
        job(seen_by_workers(config), arguments.dry_run, word)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (RunFailed, MachineError) as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; run the same command again to continue", file=sys.stderr)
        return 1
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def expand_home(override: str) -> str:
    """``key=~/x`` with the path of the home folder: a shell expands ``~/`` only at the start of a word."""
    key, equals, value = override.partition("=")
    return f"{key}{equals}{os.path.expanduser(value)}" if value.startswith("~/") else override


def place_of(config: Config, name: str) -> str | None:
    """The value of one of ``PLACES`` if it is a local path; None if it is not set or a URI."""
    value = operator.attrgetter(name)(config)
    local = isinstance(value, str) and "://" not in value and (name, value) != ("model.pretrained", "imagenet")
    return os.path.expanduser(value) if local else None


def seen_by_workers(config: Config) -> Config:
    """The settings with absolute paths where the job runs on a cluster: its workers run in other folders.

    Paths of a job that is sent by jobs.submit stay as they are; that job refuses relative ones.
    """
    if config.cluster.address is None or config.submit.job is not None:
        return config
    for name in PLACES:
        if (value := place_of(config, name)) is not None:
            config = _with(config, name.split("."), str(Path(value).absolute()))
    return config


def _with(group: Any, names: Sequence[str], value: str) -> Any:
    """A copy with one setting changed; which settings were given stays known, as ``settings.changed`` would not."""
    first, *others = names
    return group.model_copy(update={first: _with(getattr(group, first), others, value) if others else value})


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
