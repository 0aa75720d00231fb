"""The example runs without a download, as a process of its own and with a checkpoint and an image."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from labelled import SMALL, write_teacher

from hojoint import config as settings

pytestmark = pytest.mark.slow  # seconds each: files, videos or processes

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "quickstart.py"


def test_the_example_predicts_filters_and_draws(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error::UserWarning", str(EXAMPLE)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "joints (1, 21, 2) px" in done.stdout
    *_, last, written = done.stdout.splitlines()
    assert written == "written quickstart.png"
    verdicts = last.split()[1:]
    assert verdicts.count("kept") == 10
    assert verdicts[9] == "joint_step"
    picture = cv2.imread(str(tmp_path / "quickstart.png"))
    assert picture.shape == (480, 640, 3)
    assert 0.05 < (picture != 225).any(-1).mean() < 0.5


def test_the_example_takes_a_checkpoint_and_an_image(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    write_teacher(settings.from_tree({"model": SMALL}), tmp_path / "c.pt")
    cv2.imwrite("hand.png", np.zeros((120, 160, 3), np.uint8))
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), "c.pt", "hand.png", "30", "20", "110", "90"])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert cv2.imread("quickstart.png").shape == (120, 160, 3)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["c.pt"], "CHECKPOINT IMAGE X0"),
        (["c.pt", "hand.png"], "CHECKPOINT IMAGE X0"),
        (["c.pt", "no.png", "30", "20", "110", "90"], "no.png is no image"),
    ],
)
def test_the_example_says_what_it_takes(words: list[str], said: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    write_teacher(settings.from_tree({"model": SMALL}), tmp_path / "c.pt")
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), *words])
    with pytest.raises(SystemExit, match=said):
        runpy.run_path(str(EXAMPLE), run_name="__main__")
