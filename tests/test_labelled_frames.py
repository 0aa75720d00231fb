"""The labelled frames of a report: their pixels come from guarded children, from wherever the run found its videos."""

from __future__ import annotations

from pathlib import Path

import pytest
import wild
from test_refilter import LOOSE, label_here

from cluster.store.local import LocalStore
from hojoint.labelling import video
from jobs import labelled_frames

pytestmark = pytest.mark.slow  # seconds each: files, videos or processes


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of a run that was given a relative path; the test then stands in another folder."""
    wild.write_wild(tmp_path, good=3, frames=8)
    wild.write_teacher(tmp_path / "teacher.pt")
    monkeypatch.chdir(tmp_path)
    config = wild.config_of(tmp_path, tmp_path / "labels", filters=LOOSE, videos={"root": "videos"})
    label_here(config)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return config


def test_frames_are_shown_from_any_folder_and_never_decoded_here(config, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(video, "decode", lambda *_, **__: pytest.fail("a video is untrusted input"))
    labels = LocalStore(tmp_path / "labels")
    shown = labelled_frames.read(config, labels, None)
    pictures = [len(gallery.pictures) for gallery in shown.galleries]
    assert all(count > 0 for count in pictures)
    for number, path in enumerate(sorted((tmp_path / "videos").iterdir())):
        if number:
            path.unlink()
        else:
            path.write_bytes(bytes(path.stat().st_size))
    assert [len(gallery.pictures) for gallery in labelled_frames.read(config, labels, None).galleries] == [0, 0]
