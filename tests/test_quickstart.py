"""The example runs as a stranger runs it, in a folder of its own and without a download."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
from labelled import SMALL, write_teacher

from hojoint import config as settings

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "quickstart.py"


def run(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", str(EXAMPLE), *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_predicts_filters_and_draws(tmp_path: Path) -> None:
    printed = run(tmp_path)
    assert "joints (1, 21, 2) px" in printed
    verdicts = printed.splitlines()[-1].split()[1:]
    assert verdicts.count("kept") == 10
    assert verdicts[9] == "joint_step"
    picture = cv2.imread(str(tmp_path / "quickstart.png"))
    assert picture.shape == (480, 640, 3)
    assert 0.05 < (picture != 225).any(-1).mean() < 0.5


def test_the_example_takes_a_checkpoint_and_an_image(tmp_path: Path) -> None:
    write_teacher(settings.from_tree({"model": SMALL}), tmp_path / "c.pt")
    run(tmp_path)
    (tmp_path / "quickstart.png").rename(tmp_path / "hand.png")
    run(tmp_path, "c.pt", "hand.png", "100", "90", "470", "350")
    assert cv2.imread(str(tmp_path / "quickstart.png")).shape == (480, 640, 3)
