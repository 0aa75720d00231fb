"""cluster.owned_folders: a folder outlives its process until the next one begins."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import ray

from cluster import owned_folders, session
from hojoint.config import ClusterConfig

ROOT = Path(__file__).resolve().parent.parent
OWNER = """
import sys, time
from cluster import owned_folders
print(owned_folders.make(*sys.argv[1:])[0], flush=True)
time.sleep(60)
"""


def test_only_the_folders_of_dead_processes_are_removed(tmp_path):
    owners = [
        subprocess.Popen(
            [sys.executable, "-c", OWNER, str(tmp_path), "x-"], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    alive, dead = (Path(owner.stdout.readline().strip()) for owner in owners)
    owners[1].send_signal(signal.SIGKILL)
    owners[1].wait()
    (tmp_path / "x-of-another-program").mkdir()
    own, lock = owned_folders.make(str(tmp_path), "x-")
    assert (own.exists(), alive.exists(), dead.exists()) == (True, True, False)
    assert (tmp_path / "x-of-another-program").exists()
    os.close(lock)
    for owner in owners:
        owner.kill()
        owner.communicate()


def test_a_session_removes_the_folder_of_one_that_was_killed(monkeypatch):
    with tempfile.TemporaryDirectory(prefix="t") as short:  # pytest's own is too long for Ray's sockets
        monkeypatch.setattr(tempfile, "tempdir", short)
        stale, lock = owned_folders.make(short, session.FOLDER)
        os.close(lock)  # as the end of its process does
        seen = []
        monkeypatch.setattr(ray, "init", lambda **options: seen.append(Path(options["_temp_dir"])))
        with session.start(ClusterConfig(cpus=1)):
            assert seen[0].exists()
            assert not stale.exists()
        assert list(Path(short).iterdir()) == []
