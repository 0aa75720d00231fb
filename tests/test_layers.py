"""The laws of the house, read from the source: who imports whom, what a file says first, how long things are."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("hojoint", "cluster", "jobs", "configs")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
FORBIDDEN = {
    "hojoint": {"ray", "cluster", "jobs", "argparse", "boto3"},
    "cluster": {"jobs", "argparse"},
    "jobs": {"ray", "torch", "decord", "boto3"},
    "configs": {"ray", "cluster", "jobs", "hojoint"},
}
"""configs <- jobs -> cluster -> hojoint -> libraries; jobs -> hojoint."""
HOJOINT_LAYERS = (
    (
        "arrays",
        "errors",
        "ids",
        "records",
        "geometry",
        "rows",
        "settings_file",
        "settings_renamed",
        "settings_method",
        "settings_training",
        "settings_jobs",
        "settings_clusters",
        "settings_tools",
        "config",
        "crops",
    ),
    ("hand",),
    ("model", "report", "synthetic"),
    ("labelling",),
    ("detection",),
    ("datasets",),
    ("training",),
    ("evaluation",),
)
"""The packages of hojoint, lowest layer first. A package imports from its own files and from lower layers only."""
CLUSTER_LAYERS = (
    (
        "ending",
        "patience",
        "processors",
        "owned_folders",
        "store",
        "nodes",
        "session",
        "capacity",
        "metrics",
        "progress",
        "waiting",
        "memory",
    ),
    ("sources",),
    ("labelling",),
    ("detection", "training"),
)
"""The same for cluster; whatever is not named here is above them all."""
LONGEST_FILE = 300
CHILDREN = {"hojoint/labelling/video.py", "hojoint/synthetic/encode.py"}
"""Run as processes of their own, so they have a command line."""
OWN_PICKLES = {"cluster/labelling/listing.py"}
"""Opens what the same process has put into a temporary file without a name."""
LONGEST_FUNCTION = 60
WITHIN_A_SCREEN = 0.9
"""Share of functions of at most 40 lines."""


def name(path):
    return str(path.relative_to(ROOT))


@functools.cache
def tree_of(path):
    return ast.parse(path.read_text(), filename=str(path))


@functools.cache  # most laws ask
def walked(path):
    """Every node of a file."""
    return list(ast.walk(tree_of(path)))


def imported(path):
    """First names of all modules that a file imports, wherever it does."""
    for node in walked(path):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the arrow"
            yield (node.module or "").partition(".")[0]


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


@functools.cache
def edges(path):
    """Modules of this project that a file imports, imports inside functions counted."""
    out = set()
    for node in walked(path):
        if isinstance(node, ast.Import):
            out |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                out.add(whole if whole in MODULES else node.module)
    return {name for name in out if name in MODULES} - {module_of(path)}


def layer_of(module, layers):
    """Number of the layer that a module's package is in; the top where it is in none. None for hojoint or cluster."""
    parts = module.split(".")
    if len(parts) == 1:
        return None
    return next((number for number, row in enumerate(layers) if parts[1] in row), len(layers))


@pytest.mark.parametrize(("package", "layers"), [("hojoint", HOJOINT_LAYERS), ("cluster", CLUSTER_LAYERS)])
def test_a_package_imports_only_from_lower_layers(package, layers):
    for path in FILES:
        module = module_of(path)
        here = layer_of(module, layers) if module.startswith(f"{package}.") else None
        for other in edges(path) if here is not None else ():
            if other.split(".")[0] != package:
                continue
            there = layer_of(other, layers)
            assert there is not None, f"{module} imports the package {package} itself"
            same_package = other.split(".")[1] == module.split(".")[1]
            lowest_or_top = there == here == 0 or here == len(layers)
            assert there < here or same_package or lowest_or_top, (
                f"{module} imports {other}, which is in no lower layer"
            )


def test_every_file_of_hojoint_is_in_a_layer():
    strays = [
        name
        for name in MODULES
        if name.startswith("hojoint.") and layer_of(name, HOJOINT_LAYERS) == len(HOJOINT_LAYERS)
    ]
    assert not strays


def test_no_module_imports_itself_by_a_detour():
    graph = {module: sorted(edges(path)) for module, path in MODULES.items()}
    state = {}

    def visit(module, trail):
        if state.get(module) == "done":
            return
        assert state.get(module) != "open", f"circle: {' -> '.join([*trail[trail.index(module) :], module])}"
        state[module] = "open"
        for other in graph[module]:
            visit(other, [*trail, module])
        state[module] = "done"

    for module in graph:
        visit(module, [])


def functions(path):
    return [node for node in walked(path) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def length(function):
    return function.end_lineno - function.lineno + 1


def nodes(*kinds, files=FILES):
    """Every node of these kinds with its file."""
    return [(path, node) for path in files for node in walked(path) if isinstance(node, kinds)]


def test_imports_follow_the_arrows():
    for path in FILES:
        package = path.relative_to(ROOT).parts[0]
        allowed = {"argparse"} if name(path) in CHILDREN else set()
        assert FORBIDDEN[package] & set(imported(path)) - allowed == set(), name(path)


def test_hojoint_reads_no_command_line_and_no_environment():
    for path, node in nodes(ast.Attribute, files=[path for path in FILES if name(path).startswith("hojoint/")]):
        if isinstance(node.value, ast.Name):
            touched = f"{node.value.id}.{node.attr}"
            assert touched not in {"os.environ", "os.getenv", "os.putenv"}, f"{name(path)}:{node.lineno}"
            assert touched != "sys.argv" or name(path) in CHILDREN, f"{name(path)}:{node.lineno}"


def test_every_file_states_first_what_it_is():
    silent = [name(path) for path in FILES if path.read_text().strip() and not ast.get_docstring(tree_of(path))]
    assert not silent


def test_every_job_starts_with_its_command_line():
    jobs = [path for path in FILES if path.parent.name == "jobs" and path.stem not in ("command", "__init__")]
    commands = [path for path in jobs if any(function.name == "main" for function in functions(path))]
    assert len(commands) > 20
    for path in commands:
        first_line = (ast.get_docstring(tree_of(path)) or "").partition("\n")[0]
        assert f"python -m jobs.{path.stem}" in first_line, name(path)


def test_a_file_can_be_held_in_the_head():
    assert not [name(path) for path in FILES if path.stem in {"utils", "helpers", "misc", "common"}]
    lengths = {name(path): len(path.read_text().splitlines()) for path in FILES}
    assert not {where: lines for where, lines in lengths.items() if lines > LONGEST_FILE}


def test_nothing_is_caught_or_raised_silently():
    for path, node in nodes(ast.ExceptHandler):
        assert node.type is not None, f"{name(path)}:{node.lineno}: bare except"
    for path, node in nodes(ast.Assert):
        never = isinstance(node.test, ast.Constant) and not node.test.value
        assert not never, f"{name(path)}:{node.lineno}: assert False"


def test_functions_fit_the_screen():
    lengths = {
        f"{name(path)}:{function.lineno} {function.name}": length(function)
        for path in FILES
        for function in functions(path)
    }
    longest = {where: lines for where, lines in lengths.items() if lines > LONGEST_FUNCTION}
    assert not longest, f"split these: {longest}"
    fits = sum(lines <= 40 for lines in lengths.values()) / len(lengths)
    assert fits >= WITHIN_A_SCREEN, f"only {fits:.0%} of functions have 40 lines or fewer"


def test_every_public_function_and_class_has_a_docstring():
    silent = [
        f"{name(path)}:{node.lineno} {node.name}"
        for path in FILES
        for node in tree_of(path).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and node.name != "main"
        and not ast.get_docstring(node)
        and not _is_settings(node)
    ]
    assert not silent


def _is_settings(node):
    """A group of settings whose name says it all."""
    return isinstance(node, ast.ClassDef) and any(getattr(base, "id", "") == "Settings" for base in node.bases)


def test_no_pickle_is_opened_that_could_run_code():
    for path in FILES:
        for node in walked(path):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            owner = getattr(node.func.value, "id", "")
            where = f"{name(path)}:{node.lineno}"
            if (owner, node.func.attr) in {("pickle", "load"), ("pickle", "loads")} and name(path) not in OWN_PICKLES:
                pytest.fail(f"{where} opens a pickle without the allow-list of hojoint.hand.pickles")
            if (owner, node.func.attr) == ("torch", "load"):
                safe = any(
                    key.arg == "weights_only" and getattr(key.value, "value", None) is True for key in node.keywords
                )
                assert safe, f"{where} opens a torch file without weights_only=True"
            if (owner, node.func.attr) == ("yaml", "load"):
                pytest.fail(f"{where} opens YAML without safe_load")


def test_no_shell_and_no_eval():
    for path in FILES:
        for node in walked(path):
            if isinstance(node, ast.Call):
                assert getattr(node.func, "id", "") not in {"eval", "exec"}, f"{name(path)}:{node.lineno}"
                shell = [key for key in node.keywords if key.arg == "shell" and getattr(key.value, "value", False)]
                assert not shell, f"{name(path)}:{node.lineno}"


def test_every_package_is_installed():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = set(project["tool"]["setuptools"]["packages"])
    there = {".".join(path.parent.relative_to(ROOT).parts) for path in FILES}
    assert there == listed


TRANSLATED = re.compile(
    r"\b(made|trained|labelled) otherwise\b|\bgoes on\b|\bto mend\b|\btoo dear\b"
    r"|\b[Nn]othing means\b|\bis whole\b|\bnot whole\b"
)
"""Translated phrases that once stood here; docs/contributing.md has the words to use."""
TEXTS = [path for top in (*PACKAGES, "docs", "examples") for path in sorted((ROOT / top).rglob("*"))]


def test_the_prose_is_plain_english():
    texts = [path for path in TEXTS if path.suffix in (".py", ".md", ".yaml", ".jinja")]
    lines = [
        (f"{name(path)}:{number}", line)
        for path in texts
        for number, line in enumerate(path.read_text().splitlines(), start=1)
    ]
    assert not [f"{where}: {line.strip()}" for where, line in lines if TRANSLATED.search(line)]


def test_a_test_name_is_a_sentence_of_at_most_60_characters():
    files = sorted((ROOT / "tests").glob("test_*.py"))
    names = [function.name for path in files for function in functions(path)]
    assert not [found for found in names if found.startswith("test_") and len(found) > 60]


def test_shape_suffixes_are_for_local_names():
    for path, node in nodes(ast.arguments):
        parameters = [parameter.arg for parameter in (*node.posonlyargs, *node.args, *node.kwonlyargs)]
        assert not [found for found in parameters if re.search(r"_[A-Z][A-Z0-9]*$", found)], name(path)
