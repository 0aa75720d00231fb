"""A command line that gives a run's settings again: the shipped config file that is nearest, and what differs from it.

Made from the settings themselves, so it holds whatever file and whatever words they came from. Nothing here runs it.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from hojoint import config as settings
from hojoint import settings_file
from hojoint.config import Config
from jobs import command


def command_line(job: str, config: Config) -> str:
    """``python -m jobs.<job> ...`` as it is typed into a shell."""
    shipped = sorted(command.DEFAULT_CONFIG.parent.glob("*.yaml"), key=lambda path: path != command.DEFAULT_CONFIG)
    found = {path: differences(config, settings.load(path)) for path in shipped}
    nearest = min(found, key=lambda path: len(found[path]))  # the default where it is as near as another
    file = [] if nearest == command.DEFAULT_CONFIG else ["--config", f"configs/{nearest.name}"]
    return shlex.join(["python", "-m", f"jobs.{job}", *file, *(word(*each) for each in found[nearest])])


def differences(wanted: Config, base: Config) -> list[tuple[str, Any]]:
    """Dotted keys and values that turn ``base`` into ``wanted``."""
    return _differences(settings.to_tree(wanted), settings.to_tree(base), "")


def word(key: str, value: Any) -> str:
    """``key=value`` that reads back as that value: plain where it can be, else as JSON."""
    plain = value if isinstance(value, str) else ""
    if plain and not plain.startswith("~/") and settings_file.value_of(plain, is_text=False) == plain:
        return f"{key}={plain}"
    return f"{key}={json.dumps(value, separators=(',', ':'))}"


def _differences(wanted: Mapping[str, Any], base: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    out: list[tuple[str, Any]] = []
    for key, value in wanted.items():
        if isinstance(value, Mapping):
            out += _differences(value, base[key], f"{prefix}{key}.")
        elif value != base[key]:
            out.append((f"{prefix}{key}", value))
    return out
