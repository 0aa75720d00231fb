"""cluster.labelling.checkpoint_facts: a driver knows its teacher without torch, and hears what a child could not do."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import wild

from cluster.labelling import checkpoint_facts
from hojoint.config import Config, changed
from hojoint.errors import InputError, MachineError

ROOT = Path(__file__).resolve().parent.parent
LIGHT = ("cluster_up", "deploy", "detect", "gc", "list", "pseudo_label", "status", "stop", "submit")
"""Jobs whose own process runs no network."""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp("wild")
    wild.write_wild(folder, good=2)
    wild.write_teacher(folder / "teacher.pt")
    return wild.config_of(folder, folder / "out", crop={"context": 9.0})  # the checkpoint has another: a note


def in_child(config: Config) -> checkpoint_facts.CheckpointFacts:
    return checkpoint_facts._asked(config)


def test_a_child_finds_what_this_process_finds(config: Config) -> None:
    here, there = checkpoint_facts.read(config), in_child(config)
    assert there == here
    assert "crop.context=9" in here.notes[0]
    assert len({here.weights_sha256, here.file_sha256, here.hand_sha256}) == 3


@pytest.mark.parametrize("content", [None, b"no checkpoint"])
def test_an_input_error_of_the_child_is_the_one_of_here(config: Config, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "teacher.pt"
    if content is not None:
        path.write_bytes(content)
    wrong = changed(config, teacher={"checkpoint": str(path)})
    with pytest.raises(InputError) as here:
        checkpoint_facts.read(wrong)
    with pytest.raises(InputError) as there:
        in_child(wrong)
    assert str(there.value) == str(here.value)
    assert str(path) in str(here.value)


def test_either_checksum_pins_a_teacher_and_no_other_does(config: Config) -> None:
    facts = checkpoint_facts.facts_of(config)
    for sha256 in (facts.weights_sha256, facts.file_sha256):
        pinned = changed(config, teacher={"sha256": sha256})
        assert checkpoint_facts.facts_of(pinned).weights_sha256 == facts.weights_sha256
    with pytest.raises(InputError, match=r"neither the checksum of .*teacher\.pt"):
        checkpoint_facts.facts_of(changed(config, teacher={"sha256": "0" * 64}))


def test_a_killed_child_is_a_sentence_and_leaves_nothing(config: Config, tmp_path: Path) -> None:
    """The checkpoint is a pipe that nobody writes to, so that the child waits until it is killed."""
    pipe = tmp_path / "teacher.pt"
    os.mkfifo(pipe)

    def kill() -> None:
        while not multiprocessing.active_children():
            time.sleep(0.01)
        for child in multiprocessing.active_children():
            os.kill(child.pid or 0, signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    with pytest.raises(MachineError, match=r"ended without an answer \(exit code -9"):
        in_child(changed(config, teacher={"checkpoint": str(pipe)}))
    assert not multiprocessing.active_children()


def test_jobs_that_run_no_network_load_no_torch() -> None:
    """Half a gigabyte and two seconds."""
    imports = "; ".join(f"import jobs.{name}" for name in LIGHT)
    program = f"import sys; {imports}; print(sorted({{'torch', 'torchvision'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
