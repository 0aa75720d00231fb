"""The world through Ray: the same bytes as without; a part of a world is completed; a complete one stays."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from cluster import locks, synthesis
from hojoint import config as settings
from hojoint.config import Config
from hojoint.errors import InputError
from hojoint.synthetic import write
from jobs import synthesize

SIZE = {
    "train_sequences": 1, "train_frames": 2, "evaluation_sequences": 1, "evaluation_frames": 1, "image_width": 320,
    "image_height": 240, "wild_videos": 2, "wild_frames": 5, "test_images": 2, "broken_videos": 1,
}  # fmt: skip


def _tree(folder: Path) -> dict[str, Any]:
    return {"world": str(folder), "synthetic": SIZE, "cluster": {"cpus": 2, "object_store_mb": 100}}


def _config(folder: Path) -> Config:
    return settings.from_tree(_tree(folder))


def _digests(folder: Path) -> dict[str, str]:
    """Of the world's files; the empty one that ``locks`` holds is none of them."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != locks.NAME]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.ray
def test_ray_writes_missing_pieces_as_one_process_does(tmp_path: Path, ray_session: None) -> None:
    alone, together = _config(tmp_path / "a"), _config(tmp_path / "b")
    for piece in write.pieces(alone):
        write.write_piece(piece, alone)
    write.finish(alone)
    write.write_piece(write.pieces(together)[0], together)
    drawn = synthesis.synthesize(together)
    assert drawn == len(write.pieces(together)) - 1
    assert _digests(tmp_path / "b") == _digests(tmp_path / "a")
    assert synthesis.synthesize(together) == 0


@pytest.mark.ray
def test_a_node_without_the_worlds_folder_is_one_message(
    tmp_path: Path, ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthesis, "_marked", lambda config: tmp_path / "of another node")
    with pytest.raises(InputError, match=r"w is not the driver's folder on the node .*Set world to a folder") as found:
        synthesis.synthesize(_config(tmp_path / "w"))
    assert "Traceback" not in str(found.value)


def test_pieces_that_other_nodes_have_are_named(tmp_path: Path) -> None:
    config = _config(tmp_path / "w")
    with pytest.raises(InputError, match=r"6 pieces of the synthetic world .* do not share that folder"):
        write.finish(config)


def test_a_dry_run_prints_the_work_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [f"world={tmp_path / 'w'}", *(f"synthetic.{key}={value}" for key, value in SIZE.items()), "--dry-run"]
    assert synthesize.main(arguments) == 0
    assert "would draw 6 of 6 pieces" in capsys.readouterr().out
    assert not (tmp_path / "w").exists()


def test_without_a_folder_the_message_names_the_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert synthesize.main([]) == 2
    assert "output=DIR" in capsys.readouterr().err
