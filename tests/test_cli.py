"""The console command: one line per job, a job's own help behind it, typos named, nothing heavy imported."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from jobs import cli, report, status

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def program(monkeypatch: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["hojoint"])


def has_main(path: Path) -> bool:
    return any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in ast.parse(path.read_text()).body)


def test_the_table_lists_every_module_of_jobs_that_has_a_main() -> None:
    assert set(cli.JOBS) == {path.stem for path in (ROOT / "jobs").glob("*.py") if has_main(path)} - {"cli"}
    assert all(text and "\n" not in text and len(text) < 90 for text in cli.JOBS.values())


def test_help_lists_each_job_in_one_line(capsys: Any) -> None:
    assert cli.main(["--help"]) == 0
    printed = capsys.readouterr().out
    for name, text in cli.JOBS.items():
        assert sum(line.split() == [name, *text.split()] for line in printed.splitlines()) == 1


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from jobs import cli; cli.main(['--help']); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    modules = done.stdout.splitlines()[-1]
    assert not [name for name in ("ray", "torch", "numpy", "pydantic", "hojoint", "cluster") if f"'{name}'" in modules]


def test_no_job_is_an_error_that_shows_the_jobs(capsys: Any) -> None:
    assert cli.main([]) == 2
    assert "pseudo_label" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "message"),
    [("trian", "did you mean 'train'?"), ("pseudolabel", "did you mean 'pseudo_label'?"), ("xyzzy", "jobs: pipeline")],
)
def test_a_typo_in_a_job_names_its_neighbour(word: str, message: str, capsys: Any) -> None:
    assert cli.main([word, "--help"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: unknown job '{word}'")
    assert message in error


def test_a_job_gets_its_words_and_returns_its_exit_code(monkeypatch: Any) -> None:
    calls: list[list[str]] = []

    def main(argv: list[str]) -> int:
        calls.append(argv)
        return 7

    monkeypatch.setattr(status, "main", main)
    assert cli.main(["status", "output=x", "--dry-run"]) == 7
    assert calls == [["output=x", "--dry-run"]]


def test_a_hyphen_stands_for_an_underscore(capsys: Any) -> None:
    assert cli.main(["pseudo-label", "trian.epochs=3"]) == 2
    assert "unknown setting 'trian'; did you mean 'train'?" in capsys.readouterr().err


def test_a_jobs_help_is_its_own_under_this_command(capsys: Any) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["report", "--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith("usage: hojoint report ")
    assert report.__doc__.splitlines()[2] in printed


def test_the_installed_command_is_this_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["scripts"] == {"hojoint": "jobs.cli:main"}
    assert "py.typed" in project["tool"]["setuptools"]["package-data"]["hojoint"]
