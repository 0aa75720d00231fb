"""The command line that all jobs share: ``python -m jobs.NAME [--config FILE] [key=value ...] [--dry-run]``.

Exit code 0: done. 2: the user's input is wrong, one clear message and no traceback. 1: the run failed.
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
from hojoint.errors import InputError

PLACES = (
    *("output", "world", "videos.root", "videos.boxes", "teacher.checkpoint", "evaluate.checkpoint"),
    *("score.predictions", "score.truth", "calibrate.predictions", "calibrate.truth"),
    *("mano.path", "model.pretrained", "train.init_checkpoint", "data.pseudo.labels", "data.ho3d.root"),
    *("demo.image", "demo.video", "demo.boxes"),
    *("data.ho3d.segmentations", "data.ho3d.object_models", "data.freihand.root", "data.freihand.evaluation_root"),
)
"""Settings that may name a file or a folder."""
DEFAULT_CONFIG = Path(__file__).resolve().parent.parent / "configs" / "tiny.yaml"


class RunFailed(Exception):
    """The run itself failed in a way that is understood; the message says how and what to do."""


def run(job: Callable[[Config, bool], None], doc: str | None, argv: Sequence[str] | None) -> int:
    """Parse ``argv``, call ``job(config, dry_run)``, and turn what it raises into the contract's exit codes.

    ``InputError`` is the user's to mend and shows its message alone; anything else is ours and shows its traceback.
    """
    return _run(lambda config, dry_run, _: job(config, dry_run), doc, argv, words=())


def run_word(
    job: Callable[[Config, bool, str], None], doc: str | None, argv: Sequence[str] | None, words: Sequence[str]
) -> int:
    """As ``run``, for a job whose command line begins with one of ``words``, handed on as the third argument."""
    return _run(job, doc, argv, words=words)


def _run(
    job: Callable[[Config, bool, str], None], doc: str | None, argv: Sequence[str] | None, *, words: Sequence[str]
) -> int:
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if words:
        parser.add_argument("word", nargs="?", choices=words, metavar="|".join(words), help="what to do")
    parser.add_argument("--config", default=str(DEFAULT_CONFIG), help="YAML file (default: configs/tiny.yaml)")
    parser.add_argument("--dry-run", action="store_true", help="say what would run, on what, and stop")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="dotted settings, as in train.epochs=3")
    arguments = parser.parse_intermixed_args(argv)  # overrides may stand on both sides of an option
    word = getattr(arguments, "word", "")
    if word is None:  # argparse itself would ask for key=value too
        parser.error(f"say what to do: {', '.join(words)}")
    try:
        config = settings.load(arguments.config, [at_home(each) for each in arguments.overrides])
        job(seen_by_workers(config), arguments.dry_run, word)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RunFailed as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        return 1
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def at_home(override: str) -> str:
    """``key=~/x`` with the home folder in its place: a shell expands ``~/`` at the start of a word alone."""
    key, equals, value = override.partition("=")
    return f"{key}{equals}{os.path.expanduser(value)}" if value.startswith("~/") else override


def seen_by_workers(config: Config) -> Config:
    """Relative paths made absolute where the job runs on a cluster whose workers stand in folders of their own.

    Those of a job that is only sent (jobs.submit) stay: they mean the folder that is shipped, on the other side.
    """
    if config.cluster.address is None or config.submit.job is not None:
        return config
    for name in PLACES:
        value = operator.attrgetter(name)(config)
        if isinstance(value, str) and "://" not in value and (name, value) != ("model.pretrained", "imagenet"):
            *groups, last = name.split(".")
            changes: dict[str, Any] = {last: str(Path(value).expanduser().absolute())}
            for group in reversed(groups):
                changes = {group: changes}
            config = settings.changed(config, **changes)
    return config


def output_of(config: Config, example: str) -> str:
    """The output, given and fit to be written; every job that writes one asks before it works, and in a dry run."""
    output = need(config.output, "output", example)
    check_writable(output)
    return output


def need(value: str | None, name: str, example: str) -> str:
    """The setting's value, or a InputError that shows how to give it."""
    if value is None:
        raise InputError(f"the setting '{name}' is needed; give it as {name}={example}")
    return value
