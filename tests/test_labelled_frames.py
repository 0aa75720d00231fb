"""The labelled frames of a report: their pixels come from guarded children, from wherever the run found its videos."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import wild
from test_refilter import LOOSE, label_here

from cluster.store.local import LocalStore
from hojoint.config import changed
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


def test_the_quality_tells_of_how_many_units_it_is(config, tmp_path: Path, monkeypatch) -> None:
    empty = {"video_id": ["no"], "frame": [0], "side": pa.nulls(1), "joints_px": pa.nulls(1), "joints": pa.nulls(1)}
    pq.write_table(pa.table(empty), tmp_path / "truth.parquet")
    videos = {"root": str(tmp_path / "videos")}
    config = changed(config, output=str(tmp_path / "many"), labelling={"unit_videos": 1}, videos=videos)
    label_here(config)
    monkeypatch.setattr(labelled_frames, "MOST_UNITS", 2)
    quality = labelled_frames.read(config, LocalStore(tmp_path / "many"), tmp_path / "truth.parquet").quality
    assert quality is not None
    assert quality["units"] == {"read": 2, "all": 3}
    assert quality["frames"] == 16
