"""cluster.sources.mirror and copies: settings in object storage become local copies, each made once."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import pytest
from scripted_s3 import ScriptedS3

from cluster.sources import copies, mirror
from hojoint.config import Config
from hojoint.errors import InputError, NoRoom
from hojoint.labelling.video import VideoError


def config_of(cache: Path, **groups: dict) -> Config:
    return Config.model_validate(groups | {"cluster": {"cache": str(cache)}})


def test_settings_in_object_storage_become_local_copies(tmp_path: Path, s3: ScriptedS3) -> None:
    s3.page = 2
    for name in ("train/a b/rgb/1.jpg", "train/2.jpg", "train.txt", ""):
        s3.put(f"sets/HO3D/{name}", name.encode())
    s3.put("sets/HO3D_segmentations_rendered/train/1.png", b"mask")
    s3.put("sets/mano/MANO_RIGHT.pkl", b"hand")
    given = config_of(tmp_path, mano={"path": "s3://bucket/sets/mano/MANO_RIGHT.pkl"})
    given = given.model_copy(
        update={"data": config_of(tmp_path, data={"ho3d": {"root": "s3://bucket/sets/HO3D/"}}).data}
    )
    near = mirror.localised(given, "mano", "data.ho3d")
    assert Path(str(near.mano.path)).read_bytes() == b"hand"
    assert Path(str(near.mano.path)).name == "MANO_RIGHT.pkl"
    root = Path(str(near.data.ho3d.root))
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()) == [
        "train.txt", "train/2.jpg", "train/a b/rgb/1.jpg",
    ]  # fmt: skip
    assert (Path(str(near.data.ho3d.segmentations)) / "train" / "1.png").read_bytes() == b"mask"
    assert near.data.ho3d.object_models is None
    assert near.model_fields_set == given.model_fields_set
    assert near.mano.model_fields_set == given.mano.model_fields_set
    assert mirror.localised(given, "data.freihand") == given
    s3.requests.clear()
    mirror.localised(given, "mano")
    assert s3.requests == []


def test_freihands_evaluation_set_beside_the_root_is_found(tmp_path: Path, s3: ScriptedS3) -> None:
    s3.put("FH/training_xyz.json", b"[]")
    s3.put("FH_eval/evaluation_xyz.json", b"[]")
    near = mirror.localised(config_of(tmp_path, data={"freihand": {"root": "s3://bucket/FH"}}), "data")
    assert (Path(str(near.data.freihand.evaluation_root)) / "evaluation_xyz.json").exists()
    near = mirror.localised(config_of(tmp_path, data={"freihand": {"root": "s3://bucket/FH_eval"}}), "data")
    assert near.data.freihand.evaluation_root is None


def test_a_complete_bucket_has_no_neighbours(tmp_path: Path, s3: ScriptedS3) -> None:
    s3.put("train.txt", b"")
    for root in ("s3://bucket", "s3://bucket/"):
        near = mirror.localised(config_of(tmp_path, data={"ho3d": {"root": root}}), "data.ho3d")
        assert (near.data.ho3d.segmentations, near.data.ho3d.object_models) == (None, None)


def test_a_copy_continues_after_a_fault_and_follows_the_source(
    tmp_path: Path, s3: ScriptedS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(6):
        s3.put(f"set/{n}", bytes([n]) * 1000)
    real, calls = copies.Download.into, []

    def into(self, path, start, size, etag):
        calls.append(size)
        if len(calls) == 4:
            raise VideoError("unreachable", "the network is down")
        real(self, path, start, size, etag)

    monkeypatch.setattr(copies, "THREADS", 1)
    monkeypatch.setattr(copies.Download, "into", into)
    with pytest.raises(InputError, match=r"data.ho3d.root: the network is down"):
        copies.copy_of("s3://bucket/set", "data.ho3d.root", str(tmp_path))
    first = copies.copy_of("s3://bucket/set", "data.ho3d.root", str(tmp_path))
    assert len(calls) == 6 + 1
    assert [path.read_bytes()[:1] for path in sorted(Path(first).iterdir())] == [bytes([n]) for n in range(6)]
    s3.put("set/0", b"new")
    copies._copies.clear()  # another process
    second = copies.copy_of("s3://bucket/set", "data.ho3d.root", str(tmp_path))
    assert second != first
    assert (Path(second) / "0").read_bytes() == b"new"
    assert (Path(first) / "0").read_bytes() == bytes(1000)


def test_a_disk_that_fills_up_while_copying_is_no_room(
    tmp_path: Path, s3: ScriptedS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    def into(self, path, *arguments):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    s3.put("set/0", b"0")
    monkeypatch.setattr(copies.Download, "into", into)
    with pytest.raises(NoRoom, match=rf"on the node {socket.gethostname()} has no room for data.ho3d.root=s3://bucket"):
        copies.copy_of("s3://bucket/set", "data.ho3d.root", str(tmp_path))


@pytest.mark.parametrize("name", ["complete", "partial"])
def test_a_prefix_may_have_a_name_of_the_cache(
    name: str, tmp_path: Path, s3: ScriptedS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(4):
        s3.put(f"{name}/{n}", bytes([n]))
    real, calls = copies.Download.into, []

    def into(self, *arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise VideoError("unreachable", "the network is down")
        real(self, *arguments)

    monkeypatch.setattr(copies, "THREADS", 1)
    monkeypatch.setattr(copies.Download, "into", into)
    with pytest.raises(InputError, match="the network is down"):
        copies.copy_of(f"s3://bucket/{name}", "data.ho3d.root", str(tmp_path))
    copy = Path(copies.copy_of(f"s3://bucket/{name}", "data.ho3d.root", str(tmp_path)))
    assert copy.name == name
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == {str(n): bytes([n]) for n in range(4)}
    s3.requests.clear()
    copies._copies.clear()  # another process
    assert copies.copy_of(f"s3://bucket/{name}", "data.ho3d.root", str(tmp_path)) == str(copy)
    assert [path for _, path in s3.requests if path.endswith("/0")] == []


def test_a_copy_of_nothing_or_outside_its_folder_is_refused(tmp_path: Path, s3: ScriptedS3) -> None:
    with pytest.raises(InputError, match=r"no object at s3://bucket/none and none below it; set mano.path"):
        copies.copy_of("s3://bucket/none", "mano.path", str(tmp_path))
    s3.put("set/../x", b"")
    with pytest.raises(InputError, match=r"rename it in the bucket, or set mano\.path"):
        copies.copy_of("s3://bucket/set/..", "mano.path", str(tmp_path))
    s3.put("set/../../x", b"")
    with pytest.raises(InputError, match="cannot be a file"):
        copies.copy_of("s3://bucket/set", "data.ho3d.root", str(tmp_path))
