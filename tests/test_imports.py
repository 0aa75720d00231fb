"""What the packages import: every library is declared, and no module uses another one's private names."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = ("hojoint", "cluster", "jobs", "configs")
FILES = sorted(path for package in OURS for path in (ROOT / package).rglob("*.py"))
DISTRIBUTIONS = {
    "cv2": "opencv-python-headless",
    "yaml": "PyYAML",
    "mpl_toolkits": "matplotlib",
    "botocore": "boto3",  # which pins it
}
"""Import name -> distribution, where they differ."""
PRIVATE_OF_LIBRARIES = {
    "ray._private",
    "os._exit",
    "client._do_request",
    "self.layer._buffers",
    "self.layer._non_persistent_buffers_set",
    "torch._assert_async",
}
"""Without a public equal."""


OPTIONAL = ("detect", "torchcodec")
"""Extras whose libraries are imported where they are used, with a message that names the extra."""


def declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *(line for name in OPTIONAL for line in extras[name])]
    return {re.match(r"[A-Za-z0-9_.-]+", line)[0]: line for line in lines}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module).partition(".")[0]


def test_every_imported_library_is_declared():
    names = {name for path in FILES for name in imported(path)} - set(OURS) - sys.stdlib_module_names
    assert {DISTRIBUTIONS.get(name, name) for name in names} - declared().keys() == set()
    assert declared()["numpy"] == "numpy>=2"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_private_names_are_used_by_their_own_module_only(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            name = ast.unparse(node)
            ours = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            assert ours or name in PRIVATE_OF_LIBRARIES, f"line {node.lineno}: {name}"
        if isinstance(node, ast.ImportFrom):
            private = [alias.name for alias in node.names if alias.name.startswith("_")]
            assert not private, f"line {node.lineno}: {private}"
