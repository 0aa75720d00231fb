"""What the README and docs/ promise exists: commands, settings, functions, links, pictures.

Each command is parsed by the job's own loader and tried with --dry-run. Placeholders such as FILE and DIR name nothing,
so a command that needs data must be refused for its first missing file, and never for a setting that it forgot.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import shlex
from pathlib import Path

import pytest

import hojoint
from hojoint import config as settings
from hojoint import settings_file
from hojoint.config import THRESHOLDS, Config, FilterConfig
from hojoint.labelling import reasons
from hojoint.settings_renamed import RENAMED
from jobs import cluster_up, doctor

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [README, *DOCS]
FILE_ENDINGS = (".txt", ".json", ".py", ".yaml", ".parquet", ".html", ".obj", ".png", ".jpg", ".xyz", ".pkl", ".pt")
PACKAGE = {path.stem for path in (ROOT / "hojoint").iterdir() if path.suffix == ".py" or path.is_dir()}
DATA = re.compile(r"=\[?([A-Z][A-Za-z0-9_]+(\.\w+)?|runs/\S+\.pt|/\S+|s3://\S+|x0)")
"""A value that names data of the reader's: DIR, MANO_RIGHT.pkl, a checkpoint, an address, a coordinate."""


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def inline(page):
    """Code within sentences and tables."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL))


def commands_of(page):
    """Words of every command that calls a job, from its name on; templates with <...> are not commands."""
    texts = [
        *blocks(page, "bash"),
        *(code for code in inline(page) if re.match(r"(\S*python -m jobs\.|hojoint \w)", code)),
    ]
    for text in texts:
        for line in re.sub(r"\\\n", " ", text).splitlines():
            for command in re.split(r"&&|;", line):
                words = shlex.split(command, comments=True)
                if "<" in command or len(words) < 2:
                    continue
                if words[0] == "hojoint" and not words[1].startswith("-"):
                    yield words[1:]
                elif words[0].endswith("python") and words[1] == "-m" and words[2].startswith("jobs."):
                    yield [words[2].removeprefix("jobs."), *words[3:]]


COMMANDS = sorted({tuple(w for w in words if w != "--dry-run") for page in PAGES for words in commands_of(page)})


def exists(name):
    """Whether a dotted name below hojoint is a module, or an attribute of one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        module = "hojoint." + ".".join(parts[:count])
        try:
            value = importlib.import_module(module)
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            if not hasattr(value, part):
                return False
            value = getattr(value, part)
        return True
    return False


def is_setting(name):
    if name.endswith(".*"):
        return settings_file.field_of(name.removesuffix(".*"), Config) is not None
    return settings_file.field_of(name, Config) is not None


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words)[:60])
def test_a_command_of_the_docs_does_what_they_say(words, tmp_path, monkeypatch, capsys):
    name, *arguments = words
    assert importlib.util.find_spec(f"jobs.{name}") is not None, f"there is no job {name}"
    arguments = [word.replace("[x0,y0,x1,y1]", "[0,0,9,9]") for word in arguments]
    arguments = [str(ROOT / word) if word.startswith("configs/") else word for word in arguments]
    overrides = [word for word in arguments if "=" in word]
    if name == "demo":  # its own settings go without their group's name
        overrides = [word if is_setting(word.partition("=")[0]) else f"demo.{word}" for word in overrides]
    if name == "doctor":  # sets have short names there
        overrides = doctor.named(overrides)
    if name == "cluster_up":
        overrides = cluster_up.named(overrides)[1:]
    path = arguments[arguments.index("--config") + 1] if "--config" in arguments else ROOT / "configs" / "tiny.yaml"
    settings.load(path, overrides)
    if name in ("status", "gc"):  # they ask the output itself
        return
    monkeypatch.chdir(tmp_path)
    code = importlib.import_module(f"jobs.{name}").main([*arguments, "--dry-run"])
    error = capsys.readouterr().err
    needs_data = any(DATA.search(word) for word in words if not word.startswith("output="))
    if name in ("submit", "deploy") or not needs_data:
        assert code == 0, error
    else:
        assert code == 2, error
        assert "is needed" not in error
        assert "Traceback" not in error


def test_the_docs_hold_commands_of_every_job():
    jobs = {path.stem for path in (ROOT / "jobs").glob("*.py") if "def main(" in path.read_text()}
    tried = {words[0] for words in COMMANDS}
    assert jobs - tried - {"cli", "report", "retrain"} == set()  # the pipeline calls the latter two


def test_the_readme_fits_its_ten_kilobytes():
    assert len(README.read_bytes()) <= 10_240
    assert max(len(line) for line in README.read_text().splitlines()) <= 132


def test_the_readme_installs_with_two_commands():
    installs = [line for text in blocks(README, "bash") for line in text.splitlines() if "pip install" in line]
    assert len(installs) == 2
    assert "-m jobs.pipeline" in installs[0]
    assert "-m pytest" in installs[1]


def test_the_map_of_the_readme_names_every_package_and_job():
    text = README.read_text()
    folders = {path.name for package in ("hojoint", "cluster") for path in (ROOT / package).iterdir() if path.is_dir()}
    assert [folder for folder in folders - {"__pycache__"} if f"{folder}/" not in text] == []
    jobs = {path.stem for path in (ROOT / "jobs").glob("*.py") if "def main(" in path.read_text()}
    assert [job for job in jobs - {"cli"} if not re.search(rf"\b{job}\b", text)] == []


def slug(heading):
    return re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_every_link_resolves(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        other = page.parent / path if path else page
        assert other.is_file(), target
        if anchor:
            assert anchor in {slug(line) for line in re.findall(r"^#+ (.*)", other.read_text(), re.MULTILINE)}, target


def test_every_picture_is_small():
    pictures = [target for page in PAGES for target in re.findall(r"!\[[^]]*\]\(([^)]+)\)", page.read_text())]
    assert pictures
    for path in (ROOT / "docs" / "images").iterdir():
        assert path.stat().st_size < 300_000, path.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_name_in_the_docs_exists(page):
    for code in inline(page):
        name = code.partition("=")[0]
        if not re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*(\.\*)?", name) or "." not in name or name.endswith(FILE_ENDINGS):
            continue
        first = name.split(".")[0]
        if first == "jobs":
            assert importlib.util.find_spec(name) is not None, name
        elif first in {"hojoint", *PACKAGE} or first in Config.model_fields:
            assert is_setting(name) or exists(name.removeprefix("hojoint.")), f"{page.name}: {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_value_in_the_docs_is_allowed(page):
    for code in inline(page):
        key, equals, value = code.partition("=")
        if equals and is_setting(key) and not DATA.search(f"={value}"):
            settings.load(ROOT / "configs" / "tiny.yaml", [code])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_in_the_docs_exists(page):
    top = ("hojoint/", "cluster/", "jobs/", "configs/", "tests/", "docs/", ".ci/", "examples/")
    for code in inline(page):
        if code.startswith(top) and not set(code) & set("<>* "):
            assert (ROOT / code).exists(), f"{page.name}: {code}"


def test_the_python_of_the_readme_imports_public_names():
    imported = [
        alias.name
        for text in blocks(README, "python")
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom) and node.module == "hojoint"
        for alias in node.names
    ]
    assert imported
    assert [name for name in imported if name not in hojoint.__all__] == []


def test_the_rules_stand_in_the_docs_with_their_defaults():
    rows = re.findall(
        r"^\| `(\w+)` \|.*\| `filters\.(\w+)` (\S+) \|", (ROOT / "docs/method.md").read_text(), re.MULTILINE
    )
    assert [rule for rule, _, _ in rows] == list(reasons.RULES)
    for rule, setting, default in rows:
        assert setting == THRESHOLDS[rule]
        assert float(default) == getattr(FilterConfig(), setting)


def test_all_readings_stand_in_the_docs_in_order():
    rows = re.findall(r"^\| A(\d+) \|", (ROOT / "docs/readings.md").read_text(), re.MULTILINE)
    assert [int(row) for row in rows] == list(range(1, 25))


def test_every_group_of_settings_stands_in_the_docs():
    text = (ROOT / "docs/extending.md").read_text()
    groups = [name for name, field in Config.model_fields.items() if settings_file.group_of(field) is not None]
    assert [group for group in groups if not re.search(rf"^\|.*`{group}`.*\|", text, re.MULTILINE)] == []


def test_every_renamed_setting_stands_in_the_changelog():
    text = (ROOT / "CHANGELOG.md").read_text()
    for former, name in RENAMED.items():
        assert f"`{former}`" in text or f"`{former}.*`" in text, former
        assert f"`{name}`" in text or f"`{name}.*`" in text, name
