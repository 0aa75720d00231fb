"""A listing is recalled while nothing that it depends on has changed, and made anew where anything has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import wild

from cluster.labelling import listing, recall
from cluster.labelling import run as labelling
from cluster.store.local import LocalStore
from hojoint.config import Config
from hojoint.errors import InputError


@pytest.fixture
def begun(tmp_path: Path) -> Config:
    """A run whose output knows its listing."""
    wild.write_wild(tmp_path, good=4)
    wild.write_teacher(tmp_path / "teacher.pt")
    config = wild.config_of(tmp_path, tmp_path / "out")
    store = LocalStore(tmp_path / "out")
    assert labelling.begin(config, store, labelling.make_plan(config, store))
    return config


def refused(config: Config) -> Config:
    pytest.fail("the boxes are read again")


def test_what_is_recalled_is_what_was_listed(begun: Config, tmp_path: Path, monkeypatch) -> None:
    store = LocalStore(tmp_path / "out")
    made = listing.listed(begun)
    monkeypatch.setattr(listing, "listed", refused)
    known, _ = recall.listed(begun, store)
    assert (known.notes, known.aside, known.sideless) == (made.notes, made.aside, made.sideless)
    one, other = known.manifest, made.manifest
    for name in ("key", "videos", "clips", "unit_frames"):
        assert getattr(one, name) == getattr(other, name)
    assert (one.digests.clips, one.digests.files) == (other.digests.clips, other.digests.files)
    assert [unit.unit_id for unit in one] == ["u000000", "u000001"]
    plan = labelling.make_plan(begun, store)
    assert plan.pending == ["u000000", "u000001"]
    labelling.check_same(store, plan)


@pytest.mark.parametrize("what", ["boxes", "video", "new video", "memo", "manifest"])
def test_a_change_of_anything_lists_anew(what: str, begun: Config, tmp_path: Path, monkeypatch) -> None:
    [memo], [manifest] = (tmp_path / "out" / "listings").iterdir(), (tmp_path / "out").glob("manifest-*")
    if what == "boxes":
        wild.write_boxes(tmp_path, wild.boxes_of([f"{100 + n}" for n in range(4)], frames=5))
    elif what == "video":
        (tmp_path / "videos" / "101.webm").write_bytes(b"another size")
    elif what == "new video":
        (tmp_path / "videos" / "999.webm").write_bytes(b"without boxes")
    elif what == "memo":
        memo.write_text(json.dumps({"manifest": manifest.name}))
    else:
        manifest.write_bytes(manifest.read_bytes()[:-1])
    asked = []
    real = listing.listed
    monkeypatch.setattr(listing, "listed", lambda config: (asked.append(1), real(config))[1])
    recall.listed(begun, LocalStore(tmp_path / "out"))
    assert asked


def test_replaced_boxes_are_still_refused(begun: Config, tmp_path: Path) -> None:
    wild.write_boxes(tmp_path, wild.boxes_of([f"{100 + n}" for n in range(4)], frames=5))
    store = LocalStore(tmp_path / "out")
    with pytest.raises(InputError, match="with other boxes or another file"):
        labelling.make_plan(begun, store)


def test_other_settings_have_another_name(begun: Config, tmp_path: Path) -> None:
    keys = {recall._key(begun)}
    keys.add(recall._key(wild.config_of(tmp_path, "x", labelling={"side": "right"})))
    keys.add(recall._key(wild.config_of(tmp_path, "x", labelling={"limit": 3})))
    keys.add(recall._key(wild.config_of(tmp_path, "x", videos={"missing": "leave_out"})))
    assert len(keys) == 4
