"""Settings as people write them, a YAML file and ``key=value`` words, to a tree of plain values; and what is wrong.

A strict subset of YAML: no dates, and a duplicate key is an error. Messages name the setting as the command
line writes it, what was expected and what was found. Not here: which settings exist (``config``).
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from hojoint.errors import InputError

TIMESTAMP = "tag:yaml.org,2002:timestamp"


class ConfigError(InputError):
    """A setting is unknown, of the wrong type or out of range; the message names it and what was expected."""


class Loader(yaml.SafeLoader):
    """YAML's plain values; a date stays the text it is, and a repeated key is refused."""

    yaml_implicit_resolvers = {  # noqa: RUF012  # PyYAML's own name and kind
        first: [(tag, pattern) for tag, pattern in resolvers if tag != TIMESTAMP]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in keys:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is given twice", key.start_mark)
            keys.add(str(key.value))
        return super().construct_mapping(node, deep)


def read(path: str | Path) -> dict[str, Any]:
    """The tree of a YAML file.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or holds no settings.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read the config file {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"the config file {path} is not text in UTF-8 (byte {error.start}); save it as such"
        ) from None
    try:
        tree = _plain(text)
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f", line {error.problem_mark.line + 1}"
        raise ConfigError(f"{path}{line}: not YAML that can be used: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not YAML: {(str(error) or type(error).__name__).splitlines()[0]}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} must hold settings as 'key: value'; found {shown(tree)}")
    return tree


def _plain(text: str) -> Any:
    return Loader(text).get_single_data()


def override(tree: dict[str, Any], word: str, settings: type[BaseModel]) -> None:
    """Put one ``key=value`` with a dotted key into ``tree``."""
    key, equals, text = word.partition("=")
    if not equals or not key:
        raise ConfigError(f"expected key=value, found {word!r} (dotted keys, as in train.epochs=3)")
    field = field_of(key, settings)
    *groups, last = key.split(".")
    for group in groups:
        if tree.get(group) is None:
            tree[group] = {}
        tree = tree[group]
        if not isinstance(tree, dict):
            raise ConfigError(f"{key!r}: '{group}' is a single value, not a group of settings")
    tree[last] = value_of(text, is_text=field is not None and str in members(field.annotation))


def value_of(text: str, *, is_text: bool) -> Any:
    """The value of an override: YAML, but a path or a name stays as it was typed (010 is no 8)."""
    try:
        value = _plain(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return text
    if not is_text or value is None or (isinstance(value, str) and text.lstrip()[:1] in ("'", '"')):
        return value
    return text


def refuse_unknown(
    tree: Mapping[str, Any], settings: type[BaseModel], advice: Callable[[str], str | None], prefix: str = ""
) -> None:
    """Raise ConfigError for the first key that ``settings`` does not know, and name its new name or its neighbour.

    Args:
        advice: new name or names of a former dotted key, quoted; None where it is no former name.
    """
    for key, value in tree.items():
        field = settings.model_fields.get(str(key))
        if field is None:
            inner = f".{next(iter(value))}" if isinstance(value, Mapping) and value else ""
            for name in (f"{prefix}{key}{inner}", f"{prefix}{key}"):
                if advice(name) is not None:
                    raise ConfigError(f"the setting '{name}' has a new name, use that one: {advice(name)}")
            groups = [name for name, known in settings.model_fields.items() if str(key) in fields_of(known)]
            if groups and not prefix:
                names = " or ".join(f"'{group}.{key}'" for group in groups)
                raise ConfigError(f"unknown setting '{key}'; did you mean {names}?")
            known = list(settings.model_fields)
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
            hint = f"did you mean '{prefix}{near[0]}'?" if near else f"known here: {', '.join(known)}"
            raise ConfigError(f"unknown setting '{prefix}{key}'; {hint}")
        group = group_of(field)
        if group is not None and isinstance(value, Mapping):
            refuse_unknown(value, group, advice, f"{prefix}{key}.")


def fields_of(field: FieldInfo) -> set[str]:
    """Names of the settings of the group that a field holds; none where it holds a value."""
    group = group_of(field)
    return set() if group is None else set(group.model_fields)


def explained(error: ValidationError, settings: type[BaseModel]) -> str:
    """The first fault, with the setting as the command line writes it."""
    first = error.errors()[0]
    where = [str(part) for part in first["loc"]]
    name, kind, value = ".".join(where), first["type"], first["input"]
    field = field_of(name, settings)
    group = None if field is None else group_of(field)
    if kind == "value_error":  # from config's validators; those of a group name the setting themselves
        said = str(first["ctx"]["error"])
        return f"setting '{name}': {said}" if field is not None and group is None else said
    if group is not None:
        example = f"{name}.{next(iter(group.model_fields))}=..."
        return f"'{name}' is a group of settings, as in {example}; found {shown(value)}"
    while field is None and where:  # inside of a list
        where.pop()
        field = field_of(".".join(where), settings)
    if field is not None and kind in ("tuple_type", "missing", "too_long", "too_short"):
        name = ".".join(where)
        example = f", as in {name}={shown(field.default)}" if isinstance(field.default, tuple) else ""
        return f"setting '{name}' should be a list{example}; found {shown(value)}"
    return f"setting '{name}': {first['msg'].replace('Input should', 'should')}; found {shown(value)}"


def shown(value: Any) -> str:
    """A value as the command line and YAML write it."""
    if isinstance(value, list | tuple):
        return f"[{','.join(shown(item) for item in value)}]"
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    return str(value) if isinstance(value, str | int | float) else repr(value)


def field_of(key: str, settings: type[BaseModel]) -> FieldInfo | None:
    """The declaration of a dotted key."""
    field: FieldInfo | None = None
    group: type[BaseModel] | None = settings
    for name in key.split("."):
        field = None if group is None else group.model_fields.get(name)
        group = None if field is None else group_of(field)
    return field


def group_of(field: FieldInfo) -> type[BaseModel] | None:
    """The group of settings that a field holds, if it is one."""
    return next((c for c in members(field.annotation) if isinstance(c, type) and issubclass(c, BaseModel)), None)


def members(annotation: Any) -> tuple[Any, ...]:
    """The alternatives of a union, or the one type."""
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
