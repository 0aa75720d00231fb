"""cluster.labelling.manifest and listing: every video once, read back unit by unit, whatever the source."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import wild

from cluster import patience
from cluster.labelling import commits, listing, manifest
from cluster.labelling.files import VideoFiles
from cluster.labelling.units import Digests, Video
from cluster.sources import list_videos
from cluster.store.local import LocalStore
from hojoint.errors import InputError, Unavailable
from hojoint.records import Clip


def clip(video_id: str, number: int, frames: int, **changes: object) -> Clip:
    rng = np.random.default_rng(number)
    made = Clip(
        clip_id=f"{video_id}-h{number}-0000-0009",
        video_id=video_id,
        path=f"s3://bucket/a b/{video_id}.webm",
        frames=np.sort(rng.choice(100, frames, replace=False)).astype(np.int32),
        hand_boxes=rng.normal(0, 99, (frames, 4)).astype(np.float32),
        object_boxes=np.where(rng.random((frames, 1)) < 0.5, np.nan, rng.normal(0, 9, (frames, 4))).astype(np.float32),
        annotated_frames=100 + number,
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def videos() -> list[Video]:
    out = []
    for n, name in enumerate(["a", "a b", "c", "ü", "ü."]):
        times = {"times_s": np.linspace(0, 1, n + 1) / 3, "side": "left", "every_frame_listed": True} if n % 2 else {}
        clips = (clip(name, 0, n + 1, **times), clip(name, 1, 3)) if n != 2 else ()
        out.append(Video(name, f"s3://bucket/a b/{name}.webm", clips, 10**10 + n, f"etag{n}"))
    return [*out, Video("ü/no file".replace("/", ""), "", ())]


def same(one: Video, other: Video) -> None:
    for field in dataclasses.fields(Video):
        if field.name != "clips":
            assert getattr(one, field.name) == getattr(other, field.name), field.name
    for got, made in zip(one.clips, other.clips, strict=True):
        for field in dataclasses.fields(Clip):  # a new field that the manifest does not hold fails here
            value = getattr(made, field.name)
            np.testing.assert_array_equal(getattr(got, field.name), value, err_msg=field.name)
            assert getattr(getattr(got, field.name), "dtype", None) == getattr(value, "dtype", None), field.name


def test_a_unit_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    made = manifest.write(iter(videos()), 4)
    assert (made.videos, made.clips, len(made.unit_frames)) == (6, 8, 2)
    store = LocalStore(tmp_path)
    reader = manifest.Reader(store, made.put(store))
    units = [reader.unit("u000001"), reader.unit("u000000")][::-1]
    assert [unit.unit_id for unit in made] == [unit.unit_id for unit in units]
    read = [video for unit in units for video in unit.videos]
    for one, other in zip(read, videos(), strict=True):
        same(one, other)
    again = Digests()
    for video in read:
        again.add(video)
    assert (again.clips, again.files) == (made.digests.clips, made.digests.files)


def test_the_same_videos_make_the_same_file_and_others_another(tmp_path: Path) -> None:
    keys = [manifest.write(iter(videos()), 4).key for _ in range(2)]
    moved = [dataclasses.replace(video, uri=video.uri.replace("a b", "b")) for video in videos()]
    elsewhere = manifest.write(iter(moved), 4)
    assert keys[0] == keys[1] != elsewhere.key
    assert elsewhere.digests.clips == manifest.write(iter(videos()), 4).digests.clips


def test_the_temporary_file_goes_with_its_object() -> None:
    made = manifest.write(iter(videos()), 4)
    path = made.path
    assert path.exists()
    del made
    assert not path.parent.exists()


def test_a_damaged_or_absent_manifest_is_an_input_error(tmp_path: Path) -> None:
    made, store = manifest.write(iter(videos()), 4), LocalStore(tmp_path)
    key = made.put(store)
    other = pyarrow.parquet.read_table(tmp_path / key).drop_columns(["clips"])
    pyarrow.parquet.write_table(other, tmp_path / "other.parquet")
    (tmp_path / "junk.parquet").write_bytes(b"junk")
    for name in ("other.parquet", "junk.parquet"):
        with pytest.raises(InputError, match="cannot be read as the manifest"):
            manifest.Reader(store, name).unit("u000000")
    with pytest.raises(InputError, match="cannot be read as the manifest"):
        manifest.Reader(store, key).unit("u000007")
    with pytest.raises(InputError, match="was written by the driver and does not exist on the node"):
        manifest.Reader(store, "none.parquet")


def test_only_other_content_is_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, store = manifest.write(iter(videos()), 4), LocalStore(tmp_path)
    key = made.put(store)
    reader = manifest.Reader(store, key)

    def fail(*_: object) -> None:
        raise OSError("AWS Error NETWORK_CONNECTION during GetObject")

    with monkeypatch.context() as patch:
        patch.setattr(manifest, "_unit", fail)
        with patience.granted(0.3), pytest.raises(Unavailable, match=r"NETWORK_CONNECTION.*the same command resumes"):
            reader.unit("u000000")
        answers = iter([fail, lambda *_: "the unit"])
        patch.setattr(manifest, "_unit", lambda *given: next(answers)(*given))
        assert reader.unit("u000000") == "the unit"  # an outage is ridden out
    content = bytearray((tmp_path / key).read_bytes())
    content[4:1000] = bytes(996)
    (tmp_path / key).write_bytes(content)
    with pytest.raises(InputError, match="remove it, and the same command makes it again"):
        manifest.Reader(store, key).unit("u000000")
    made.path.unlink()
    assert made.key == key  # the file is not read again for it


def test_replaced_videos_are_refused_where_etags_tell(tmp_path: Path) -> None:
    def changed(**fields: str) -> manifest.Manifest:
        return manifest.write((dataclasses.replace(video, **fields) for video in videos()), 4)  # type: ignore[arg-type]

    made, store = manifest.write(iter(videos()), 4), LocalStore(tmp_path)
    manifest.check_etags(store, made)  # no run yet
    commits.open_run(store, {}, {commits.MANIFEST: made.put(store)})
    for same_run in (made, changed(uri="/a folder"), changed(etag="")):
        manifest.check_etags(store, same_run)
    with pytest.raises(InputError, match=r"4 of 6 videos were replaced since the run .* \(the first: s3://.*/a b.webm"):
        manifest.check_etags(store, changed(etag="etag0"))


def test_files_are_found_by_the_manifest_or_under_a_root(tmp_path: Path) -> None:
    made, store = manifest.write(iter(videos()), 4), LocalStore(tmp_path)
    key = made.put(store)
    found = VideoFiles(store, key, None).of(["u000000"], {"a", "ü.", "no such"})
    assert {name: (entry.uri, entry.etag) for name, entry in found.items()} == {
        "a": ("s3://bucket/a b/a.webm", "etag0")
    }
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "ü..mp4").write_bytes(b"four")
    found = VideoFiles(store, key, functools.partial(list_videos, tmp_path / "root")).of(["u000000"], {"a", "ü."})
    assert {name: (entry.uri, entry.size) for name, entry in found.items()} == {"ü.": (f"{tmp_path}/root/ü..mp4", 4)}
    other = VideoFiles(store, None, manifest.Reader(store, key).entries).of([], {"ü", "üno file"})
    assert {name: (entry.uri, entry.size) for name, entry in other.items()} == {
        "ü": ("s3://bucket/a b/ü.webm", 10**10 + 3)
    }
    assert VideoFiles(store, None, None).of(["u000000"], {"a"}) == {}


@pytest.mark.slow
def test_another_file_of_the_same_name_is_another_input(tmp_path: Path) -> None:
    wild.write_wild(tmp_path, good=2)
    config = wild.config_of(tmp_path, "unused")
    before = listing.listed(config).manifest.digests
    with open(tmp_path / "videos" / "100.webm", "ab") as file:
        file.write(b"0")
    after = listing.listed(config).manifest.digests
    assert (before.clips, before.files) != (after.clips, after.files)
    assert before.clips == after.clips


@pytest.mark.slow
def test_a_video_with_boxes_in_two_parts_is_refused(tmp_path: Path) -> None:
    wild.write_wild(tmp_path, good=2)
    (tmp_path / "parts").mkdir()
    for part in (1, 2):
        name = f"bounding_box_smthsmth_part{part}.json"
        (tmp_path / "parts" / name).write_bytes((tmp_path / "boxes.json").read_bytes())
    with pytest.raises(InputError, match="has boxes in two places"):
        listing.listed(wild.config_of(tmp_path, "unused", videos={"boxes": str(tmp_path / "parts")}))
