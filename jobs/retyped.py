"""A command line that reproduces a run's settings: the nearest shipped config file, and what differs from it.

It is made from the settings themselves, so it does not matter which file and which overrides they came from.
"""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

from hojoint import config as settings
from hojoint import settings_file
from hojoint.config import Config
from hojoint.settings_method import Settings
from jobs import command

PAIR = re.compile(r"\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}")
"""A letter beyond U+FFFF as JSON escapes it; YAML, which reads it back, would see two letters that do not exist."""


def command_line(job: str, config: Config) -> str:
    """``python -m jobs.<job> ...``, quoted for a shell."""
    shipped = sorted(command.DEFAULT_CONFIG.parent.glob("*.yaml"), key=lambda path: path != command.DEFAULT_CONFIG)
    overrides = {path: differences(config, settings.load(path)) for path in shipped}
    nearest = min(overrides, key=lambda path: len(overrides[path]))  # of two that are as near, the default
    file = [] if nearest == command.DEFAULT_CONFIG else ["--config", f"configs/{nearest.name}"]
    return shlex.join(["python", "-m", f"jobs.{job}", *file, *(word(key, value) for key, value in overrides[nearest])])


def differences(target: Config, base: Config) -> list[tuple[str, Any]]:
    """Dotted keys and values that turn ``base`` into ``target``."""
    return _differences(target, base, "")


def word(key: str, value: Any) -> str:
    """``key=value`` that reads back as that value: plain if possible, else as JSON."""
    plain = value if isinstance(value, str) else ""
    if plain and not plain.startswith("~/") and settings_file.value_of(plain, is_text=False) == plain:
        return f"{key}={plain}"
    return f"{key}={letters(json.dumps(value, separators=(',', ':')))}"


def letters(text: str) -> str:
    """JSON in which no letter is written as two halves: YAML reads it as the same value."""
    return PAIR.sub(lambda found: json.loads(f'"{found[0]}"'), text)


def _differences(target: Settings, base: Settings, prefix: str) -> list[tuple[str, Any]]:
    out: list[tuple[str, Any]] = []
    for key, value in settings.to_tree(target).items():
        mine, other = getattr(target, key), getattr(base, key)
        if isinstance(mine, Settings) and isinstance(other, Settings):  # a group that is given or left out is one value
            out += _differences(mine, other, f"{prefix}{key}.")
        elif mine != other:
            out.append((f"{prefix}{key}", value))
    return out
