"""cluster.sources: what counts as a video in folders, buckets and tar files, and how one is fetched."""

from __future__ import annotations

import errno
import hashlib
import io
import itertools
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from scripted_s3 import ScriptedS3

from cluster import owned_folders, patience
from cluster.sources import Entry, FetchLimits, download, fetched, fetching, folders, list_videos, scratch
from hojoint.errors import InputError, MachineError, NoRoom, Unavailable
from hojoint.labelling.video import VideoError

LIMITS = FetchLimits(size=2**20, deadline_s=5.0)
NAMES = ("1.webm", "a b #1.MP4", "ü+%20.mov", "x.y.mkv", "2.m4v", "3.AVI")


def packed(files: dict[str, bytes], kind: int = tarfile.DEFAULT_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def content_of(path: str) -> bytes | dict[str, bytes]:
    folder = Path(path)
    return {entry.name: entry.read_bytes() for entry in folder.iterdir()} if folder.is_dir() else folder.read_bytes()


def put(tmp_path: Path, s3: ScriptedS3 | None, files: dict[str, bytes]) -> str:
    """The files in a folder, or under a prefix of a bucket; their root."""
    for name, content in files.items():
        if s3 is None:
            path = tmp_path / "root" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        else:
            s3.put(f"some/root/{name}", content)
    return str(tmp_path / "root") if s3 is None else "s3://bucket/some/root"


def temporary() -> list[str]:
    own = Path(scratch._own(tempfile.gettempdir(), os.getpid()))
    return sorted(path.name for path in own.iterdir() if path.name not in {owned_folders.LOCK, *_earlier})


_earlier: set[str] = set()


@pytest.fixture(autouse=True)
def _files_of_earlier_tests() -> None:
    """A manifest's file lives as long as its object, which an error of an earlier test may still hold."""
    _earlier.clear()
    _earlier.update(temporary())


@pytest.mark.parametrize("remote", [False, True], ids=["folder", "bucket"])
def test_every_kind_of_video_is_listed_once_and_fetched(remote: bool, tmp_path: Path, s3: ScriptedS3) -> None:
    s3.page = 4  # several pages
    files = {name: name.encode() * 50 for name in NAMES}
    files |= {"notes.txt": b"", "._1.webm": b"", "runs/run.json": b"", "clips/7.webm": b"", "clips/1.jpg": b""}
    files |= {"f 1/000001.jpg": b"one", "f 1/000002.jpg": b"two", "f 1/readme": b"no"}
    files["shard.tar"] = packed({"in/77.webm": b"x" * 700, "1.mp4": b"another", "label.json": b"{}", "88.mov": b""})
    root = put(tmp_path, s3 if remote else None, files)
    entries = list(list_videos(root))
    assert [entry.video_id for entry in entries] == sorted(["1", "a b #1", "ü+%20", "x.y", "2", "3", "f 1", "77", "88"])
    got, before = {}, temporary()
    for entry in entries:
        with fetched(entry.uri, LIMITS, size=entry.size, etag=entry.etag) as path:
            got[entry.video_id] = content_of(path)
    expected: dict[str, object] = {os.path.splitext(name)[0]: name.encode() * 50 for name in NAMES}
    expected |= {"77": b"x" * 700, "88": b""}
    pictures = got.pop("f 1")
    assert isinstance(pictures, dict)
    assert {name: pictures[name] for name in ("000001.jpg", "000002.jpg")} == {
        "000001.jpg": b"one",
        "000002.jpg": b"two",
    }
    assert got == expected
    assert temporary() == before
    sizes = {entry.video_id: entry.size for entry in entries}
    assert (sizes["f 1"], sizes["77"], sizes["1"]) == (6, 700, 300)


@pytest.mark.parametrize("remote", [False, True], ids=["folder", "bucket"])
def test_of_files_with_one_id_a_documented_one_is_taken(remote: bool, tmp_path: Path, s3: ScriptedS3) -> None:
    files = {"1.mp4": b"mp4", "1.webm": b"webm", "2/1.png": b"picture", "2.avi": b"avi", "3/1.png": b"picture"}
    files |= {"a.tar": packed({"3.webm": b"", "4.avi": b"", "4.mp4": b""}), "b.tar": packed({"4.mp4": b""})}
    notes: list[str] = []
    root = put(tmp_path, s3 if remote else None, files)
    taken = {entry.video_id: entry.uri.removeprefix(root) for entry in list_videos(root, notes=notes)}
    assert {name: taken[name].strip("/") for name in "123"} == {"1": "1.webm", "2": "2.avi", "3": "3"}
    assert taken["4"].startswith("/a.tar#")
    assert taken["4"].endswith("/4.mp4")
    assert "5 more files" in notes[0]


@pytest.mark.parametrize("remote", [False, True], ids=["folder", "bucket"])
def test_of_members_with_one_name_the_last_counts(remote: bool, tmp_path: Path, s3: ScriptedS3) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for n in range(25):  # offsets of three to five digits
            for name, content in (("v.webm", b"%02d" % n), (f"{n}.webm", b"x" * 600)):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            for name, kind in (("s.webm", tarfile.SYMTYPE), ("h.mp4", tarfile.LNKTYPE), ("note", tarfile.SYMTYPE)):
                info = tarfile.TarInfo(name)
                info.type, info.linkname = kind, "v.webm"
                tar.addfile(info)
    notes: list[str] = []
    root = put(tmp_path, s3 if remote else None, {"a.tar": buffer.getvalue(), "b.tar": packed({"v.webm": b"other"})})
    [entry] = [entry for entry in list_videos(root, notes=notes) if entry.video_id == "v"]
    with fetched(entry.uri, LIMITS, size=entry.size, etag=entry.etag) as path:
        assert content_of(path) == b"24"
    assert notes[0].startswith("25 more files")
    assert "50 links in tar files (the first in " in notes[1]
    assert "a.tar) have a video's name and are left out" in notes[1]


def test_the_order_and_sizes_are_those_of_another_place(tmp_path: Path, s3: ScriptedS3) -> None:
    files = {
        f"{name}.webm": name.encode() * n for n, name in enumerate(["b", "a", "a-b", "a.b", "Z", "ä", "10", "9"], 1)
    }
    here, there = (list(list_videos(put(tmp_path, server, files))) for server in (None, s3))
    assert [(entry.video_id, entry.size) for entry in here] == [(entry.video_id, entry.size) for entry in there]
    assert [entry.video_id for entry in here] == sorted(entry.video_id for entry in here)


@pytest.mark.parametrize("remote", [False, True], ids=["folder", "bucket"])
def test_what_cannot_be_listed_is_an_input_error(remote: bool, tmp_path: Path, s3: ScriptedS3) -> None:
    server = s3 if remote else None
    root = put(tmp_path, server, {"note.txt": b"", "run/run.json": b""})
    with pytest.raises(InputError, match=r"videos.root must hold <id>.webm .* found none in .*note.txt") as refusal:
        list(list_videos(root))
    assert "..." not in str(refusal.value)  # these are all files
    for name, content, message in (
        ("s.tar", b"\x1f\x8b" + b"0" * 600, "compressed with gzip"),
        ("s.tar", packed({"1.webm": b"x" * 5000})[:3000], "not a complete tar file"),
        ("s.tar", b"no tar" * 300, "not a complete tar file"),
        ("s.tar.gz", b"", "No video in a compressed tar file can be read"),
        ("s.TGZ", b"", "No video in a compressed tar file can be read"),
        ("a\nb.webm", b"", "control characters"),
    ):
        put(tmp_path, server, {name: content})
        with pytest.raises(InputError, match=message):
            list(list_videos(root))
        s3.objects.pop(f"bucket/some/root/{name}", None)
        (tmp_path / "root" / name).unlink(missing_ok=True)


@pytest.mark.parametrize("remote", [False, True], ids=["folder", "bucket"])
def test_a_tar_file_damaged_or_cut_anywhere_ends_the_listing(remote: bool, tmp_path: Path, s3: ScriptedS3) -> None:
    whole = packed({"1.webm": b"x" * 700, "2.webm": b"y" * 700, "3.webm": b""})
    second = 512 + 1024  # where its header begins
    flipped = bytearray(whole)
    flipped[second + 5] ^= 1
    for content, message in (
        (bytes(flipped), f"the header at byte {second} is damaged"),
        (whole[:second], f"it ends at byte {second} without"),
        (whole[: second + 100], f"it ends at byte {second + 100} without"),
        (whole[: 2 * second + 512], f"it ends at byte {2 * second + 512} without"),  # behind an empty member
    ):
        root = put(tmp_path, s3 if remote else None, {"a.tar": content})
        with pytest.raises(InputError, match=f"a.tar is not a complete tar file: {message}"):
            list(list_videos(root))


@pytest.mark.parametrize("remote", [False, True], ids=["folder", "bucket"])
def test_a_complete_tar_file_of_any_format_is_listed(remote: bool, tmp_path: Path, s3: ScriptedS3) -> None:
    names = ["1.webm", f"{'long ' * 30}.webm", "ü.webm"]
    kinds = {tarfile.USTAR_FORMAT: names[::2], tarfile.GNU_FORMAT: names, tarfile.PAX_FORMAT: names}
    files = {f"{kind}.tar": packed({f"{kind} {name}": b"x" * 5000 for name in kinds[kind]}, kind) for kind in kinds}
    (tmp_path / "program 1.webm").write_bytes(b"x" * 512)
    for kind in ("gnu", "pax", "ustar"):
        command = ["tar", f"--format={kind}", "-cf", f"{kind}.tar", "program 1.webm"]
        subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
        files[f"program {kind}.tar"] = (tmp_path / f"{kind}.tar").read_bytes()
    assert len(files["program gnu.tar"]) == 10240
    files["one block.tar"] = packed({"last.webm": b""})[:1024]  # tar itself is content with one
    found = [entry.video_id for entry in list_videos(put(tmp_path, s3 if remote else None, files))]
    packed_names = [f"{kind} {name.removesuffix('.webm')}" for kind, some in kinds.items() for name in some]
    assert found == sorted([*packed_names, "program 1", "last"])


@pytest.mark.parametrize("remote", [False, True], ids=["folder", "bucket"])
def test_names_near_tar_do_not_end_a_listing(remote: bool, tmp_path: Path, s3: ScriptedS3) -> None:
    names = ("v.tar.md5", "v.tar.idx", "v.tar.part", "old.tgz", "a.tar.zst")
    root = put(tmp_path, s3 if remote else None, {"1.webm": b""} | dict.fromkeys(names, b""))
    notes: list[str] = []
    assert [entry.video_id for entry in list_videos(root, notes=notes)] == ["1"]
    [note] = notes
    assert note.startswith("2 compressed tar files (the first: a.tar.zst) are left out: no video in a compressed")


@pytest.mark.parametrize("remote", [False, True], ids=["folder", "bucket"])
def test_a_hidden_folder_of_pictures_is_left_out(remote: bool, tmp_path: Path, s3: ScriptedS3) -> None:
    root = put(tmp_path, s3 if remote else None, {"1.webm": b"", ".thumbs/0001.jpg": b"", "f/1.jpg": b""})
    assert [entry.video_id for entry in list_videos(root)] == ["1", "f"]


@pytest.mark.parametrize("remote", [False, True], ids=["folder", "bucket"])
def test_pictures_behind_a_thousand_other_names_are_found(remote: bool, tmp_path: Path, s3: ScriptedS3) -> None:
    files = {f"f/anno_{number:04}.json": b"" for number in range(1001)} | {"f/img_1.jpg": b"one"}
    [entry] = list_videos(put(tmp_path, s3 if remote else None, files))
    assert (entry.video_id, entry.size) == ("f", 3)
    with fetched(entry.uri, LIMITS, size=entry.size, etag=entry.etag) as path:
        assert "img_1.jpg" in content_of(path)


def test_a_folder_that_is_not_read_to_its_end_is_named(s3: ScriptedS3) -> None:
    files = {f"f/anno_{number:05}.json": b"" for number in range(10_000)} | {"f/img_1.jpg": b"one"}
    root, notes = put(Path(), s3, files), list[str]()
    sentence = "1 folders (the first: s3://bucket/some/root/f/) hold no picture among their first 10,000 names"
    with pytest.raises(InputError, match=re.escape(f"found none in {root}; it holds f/. {sentence}")):
        list(list_videos(root))
    s3.put("some/root/1.webm", b"")
    assert [entry.video_id for entry in list_videos(root, notes=notes)] == ["1"]
    assert notes[0].startswith(f"{sentence} and are left out")
    s3.objects.pop("bucket/some/root/f/anno_00000.json")
    assert [entry.video_id for entry in list_videos(root)] == ["1", "f"]


def test_a_root_that_is_one_file_is_told_as_such(tmp_path: Path, s3: ScriptedS3) -> None:
    for server in (None, s3):
        root = put(tmp_path, server, {"x.tar.gz": b"", "y.webm": b""})
        with pytest.raises(InputError, match=r"x\.tar\.gz is a compressed tar file: no video in"):
            list(list_videos(f"{root}/x.tar.gz"))
        with pytest.raises(InputError, match=r"cannot list the videos in .*y\.webm: .*; set videos\.root"):
            list(list_videos(f"{root}/y.webm"))
    with pytest.raises(InputError, match="found none in s3://bucket/some/roo; it is empty"):
        list(list_videos("s3://bucket/some/roo"))


def test_local_videos_have_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"1.webm": b"", "f/1.png": b"", "s.tar": packed({"2.webm": b"x"})}
    expected = list(list_videos(put(tmp_path, None, files)))
    monkeypatch.chdir(tmp_path)
    assert list(list_videos("root")) == list(list_videos("./root/../root/")) == expected
    monkeypatch.setenv("HOME", str(tmp_path))
    assert list(list_videos("~/root")) == expected
    assert all(entry.uri.startswith(f"{tmp_path}/root/") for entry in expected)


def test_what_cannot_be_read_in_a_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"1.webm": b"", "f/1.png": b"12", "lost+found/1.png": b"", "x.tar/note": b"", "y.tar/1.png": b"3"}
    root = put(tmp_path, None, files)
    (tmp_path / "root" / "f" / "2.png").symlink_to("nowhere")
    real, notes = folders.folder_size, []
    denied = lambda path: _deny(path) if path.endswith("lost+found") else real(path)  # noqa: E731  # root may read all
    monkeypatch.setattr(folders, "folder_size", denied)
    found = {entry.video_id: entry.size for entry in list_videos(root, notes=notes)}
    assert found == {"1": 0, "f": 2, "y.tar": 1}
    assert notes == [f"1 folders cannot be read and are left out, the first: {root}/lost+found (Permission denied)"]
    put(tmp_path, None, {"z.tar": b""})
    monkeypatch.setattr(folders.io, "FileIO", _deny)
    with pytest.raises(InputError, match=rf"cannot read {root}/z.tar: Permission denied"):
        list(list_videos(root))


def _deny(path: str) -> None:
    raise PermissionError(errno.EACCES, "Permission denied", path)


def test_a_missing_folder_and_a_missing_bucket_are_input_errors(tmp_path: Path, s3: ScriptedS3) -> None:
    with pytest.raises(InputError, match="cannot list the videos in"):
        list(list_videos(tmp_path / "nowhere"))
    s3.refusals, s3.refusal = 1, (404, "NoSuchBucket")
    with pytest.raises(InputError, match=r"no bucket 'bucket' exists; .*videos.root"):
        list(list_videos("s3://bucket/x"))


def test_a_tar_file_alone_is_a_root(tmp_path: Path, s3: ScriptedS3) -> None:
    files = {"s.tar": packed({"1.webm": b"one", "2.webm": b"two"})}
    for server in (None, s3):
        entries = list(list_videos(put(tmp_path, server, files) + "/s.tar"))
        for entry, content in zip(entries, (b"one", b"two"), strict=True):
            with fetched(entry.uri, LIMITS, size=entry.size, etag=entry.etag) as path:
                assert content_of(path) == content


def test_a_broken_link_is_listed_without_a_size(tmp_path: Path) -> None:
    root = put(tmp_path, None, {"1.webm": b""})
    (tmp_path / "root" / "2.webm").symlink_to("nowhere")
    assert list(list_videos(root))[1] == Entry("2", f"{root}/2.webm", None)


def test_a_tar_file_is_listed_by_its_headers_alone(s3: ScriptedS3) -> None:
    s3.put("big.tar", packed({f"{n}.webm": bytes(500_000) for n in range(6)}))
    assert len(list(list_videos("s3://bucket/big.tar"))) == 6
    asked = [path for _, path in s3.requests if "big.tar" in path]
    assert len(asked) < 12


# Faults while a video is fetched.


def fetch(uri: str, limits: FetchLimits = LIMITS, **listed: object) -> bytes | dict[str, bytes]:
    with fetched(uri, limits, **listed) as path:  # type: ignore[arg-type]
        return content_of(path)


def test_throttling_and_cut_bodies_are_tried_again(s3: ScriptedS3, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[str] = []
    monkeypatch.setattr(download.metrics, "count_retry", lambda store, reason: counted.append(store))
    content = os.urandom(100_000)
    uri = s3.put("v/1.webm", content)
    s3.refusals, s3.cuts = 2, 2
    s3.requests.clear()
    assert fetch(uri) == content
    assert len(s3.requests) == 2 + 1 + 3  # refused, size and etag, the body in three parts
    assert counted == ["s3://bucket"] * 4


@pytest.mark.parametrize(
    ("listed", "kind", "message"),
    [
        ({"size": 2**21}, "too_large", "2.0 MB; labelling.max_file_mb=1"),
        ({"size": 4, "etag": "0" * 32}, "changed", "replaced after it was listed"),
    ],
)
def test_what_is_too_large_or_replaced_is_refused(listed: dict, kind: str, message: str, s3: ScriptedS3) -> None:
    uri = s3.put("v/1.webm", b"four")
    with pytest.raises(VideoError, match=message) as caught:
        fetch(uri, **listed)
    assert caught.value.kind == kind


def test_a_large_object_is_refused_before_it_is_read(s3: ScriptedS3) -> None:
    uri = s3.put("v/1.webm", bytes(2**20 + 1))
    with pytest.raises(VideoError, match=r"labelling.max_file_mb=1"):
        fetch(uri)
    assert [method for method, _ in s3.requests] == ["HEAD"]


def test_a_removed_object_is_missing_an_archived_one_unreachable(s3: ScriptedS3) -> None:
    with pytest.raises(VideoError, match="no such object") as caught:
        fetch("s3://bucket/v/1.webm", size=4, etag="0" * 32)
    assert caught.value.kind == "missing"
    s3.refusals, s3.refusal = 1, (403, "InvalidObjectState")
    with pytest.raises(VideoError, match="InvalidObjectState") as caught:
        fetch(s3.put("v/1.webm", b"four"), size=4, etag="0" * 32)
    assert caught.value.kind == "unreachable"


def test_a_deadline_ends_throttling_and_a_slow_sender(s3: ScriptedS3) -> None:
    uri = s3.put("v/1.webm", bytes(100_000))
    short = FetchLimits(deadline_s=0.6)
    s3.refusals = 10**6
    with patience.granted(0.0), pytest.raises(Unavailable, match=r"store s3://bucket unreachable .*\(503|SlowDown"):
        fetch(uri, short, size=100_000, etag="0" * 32)
    s3.refusals, s3.trickle = 0, 1000
    with pytest.raises(VideoError, match=r"of 100000 bytes came within labelling.fetch_deadline_s=0.6"):
        fetch(uri, short)
    assert temporary() == []


def test_a_store_that_is_away_quarantines_no_video(monkeypatch: pytest.MonkeyPatch, s3: ScriptedS3) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with patience.granted(0.0), pytest.raises(Unavailable, match="store s3://bucket unreachable"):
        fetch("s3://bucket/v/1.webm", FetchLimits(deadline_s=0.5))


def test_what_has_come_completely_is_not_late(s3: ScriptedS3, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = s3.put("v/1.webm", b"four")
    size, etag = 4, hashlib.md5(b"four").hexdigest()
    clock = itertools.count(10**9)  # far beyond the deadline
    monkeypatch.setattr(download, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    assert fetch(uri, FetchLimits(deadline_s=1.0), size=size, etag=etag) == b"four"


def test_an_outage_longer_than_the_deadline_is_ridden_out(s3: ScriptedS3) -> None:
    uri = s3.put("v/1.webm", b"four")
    size, etag = 4, hashlib.md5(b"four").hexdigest()
    s3.refusals = 10**6
    threading.Timer(1.5, lambda: setattr(s3, "refusals", 0)).start()
    assert fetch(uri, FetchLimits(deadline_s=0.5), size=size, etag=etag) == b"four"


def test_a_broken_object_of_a_slow_store_has_a_deadline(s3: ScriptedS3) -> None:
    uri = s3.put("v/1.webm", b"four")
    s3.broken, s3.slow_s = "bucket/v/1.webm", 1.2
    with patience.granted(1.0), pytest.raises(VideoError, match=r"not fetched within labelling.fetch_deadline_s=0.6"):
        fetch(uri, FetchLimits(deadline_s=0.6), size=4, etag="0" * 32)
    assert len(s3.requests) < 6


def test_a_broken_object_is_given_few_outages(s3: ScriptedS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "MOST_OUTAGES", 2)
    uri = s3.put("v/1.webm", b"four")
    s3.broken, s3.hiccups = "bucket/v/1.webm", True
    with pytest.raises(VideoError, match=r"not fetched within labelling.fetch_deadline_s=0.3"):
        fetch(uri, FetchLimits(deadline_s=0.3), size=4, etag="0" * 32)
    assert len([method for method, _ in s3.requests if method == "HEAD"]) == 2 * 2  # none once there were two


def test_refused_credentials_are_an_input_error(s3: ScriptedS3) -> None:
    uri = s3.put("v/1.webm", b"four")
    s3.refusals, s3.refusal = 1, (403, "InvalidAccessKeyId")
    with pytest.raises(InputError, match="renew or correct the credentials"):
        fetch(uri, size=4, etag="0" * 32)


@pytest.mark.parametrize(
    ("status", "code", "error", "message"),
    [
        (
            403,
            "RequestTimeTooSkewed",
            MachineError,
            "the clock of the node .* off that of s3://bucket",
        ),
        (403, "RequestExpired", MachineError, "set it right"),
        (403, "AllAccessDisabled", InputError, r"s3://bucket refuses GetObject \(AllAccessDisabled\) from the node"),
        (400, "ExpiredToken", InputError, "renew or correct the credentials"),
        (301, "PermanentRedirect", InputError, "lies in another region"),
        (400, "AuthorizationHeaderMalformed", InputError, "lies in another region"),
        (404, "NoSuchBucket", InputError, "no bucket 'bucket' exists; create it, or set videos.root"),
        (404, "NoSuchKey", VideoError, "no such object"),
        (412, "PreconditionFailed", VideoError, "replaced after it was listed"),
        (416, "InvalidRange", VideoError, "replaced after it was listed"),
    ],
)
def test_a_fault_of_node_or_bucket_is_no_fault_of_a_video(
    s3: ScriptedS3, status: int, code: str, error: type[Exception], message: str
) -> None:
    uri = s3.put("v/1.webm", b"four")
    s3.put("v/2.webm", b"another")
    s3.refusals, s3.refusal = 10 if status == 301 else 1, (status, code)  # the client itself follows a redirect
    with pytest.raises(error, match=message):
        fetch(uri, size=4, etag="0" * 32)


def test_a_denial_is_of_one_video_where_others_are_read(s3: ScriptedS3) -> None:
    uri, other = s3.put("v/1.webm", b"four"), s3.put("v/2.webm", b"another")
    s3.put("v/0.webm", b"")  # tells nothing
    s3.denied = {"bucket/v/1.webm"}
    for listed in ({}, {"size": 4, "etag": "0" * 32}):  # HEAD and GET
        with pytest.raises(VideoError, match="refuses it") as caught:
            fetch(uri, **listed)
        assert caught.value.kind == "unreachable"
    assert fetch(other) == b"another"
    for also in ("bucket/v/2.webm", "bucket"):  # no object may be read; nothing may be listed
        s3.denied = {"bucket/v/1.webm", also}
        with pytest.raises(InputError, match=r"s3://bucket refuses GetObject \(AccessDenied\) from the node"):
            fetch(uri, size=4, etag="0" * 32)


def test_local_files_are_bounded_and_checked_too(tmp_path: Path) -> None:
    root = put(tmp_path, None, {"1.webm": bytes(2**20 + 1), "2.webm": b"four", "s.tar": packed({"3.webm": b"x" * 9})})
    with pytest.raises(VideoError, match=r"labelling.max_file_mb=1"):
        fetch(f"{root}/1.webm")
    with pytest.raises(VideoError, match="has 4 bytes, and had 5 when it was listed"):
        fetch(f"{root}/2.webm", size=5)
    with fetched(f"{root}/gone.webm", LIMITS) as path:
        assert path == f"{root}/gone.webm"
    [tar] = [entry for entry in list_videos(root) if entry.video_id == "3"]
    (tmp_path / "root" / "s.tar").write_bytes(b"short")
    with pytest.raises(VideoError, match="shorter than when it was listed"):
        fetch(tar.uri)


@pytest.mark.parametrize(
    ("number", "error", "message"),
    [
        (errno.ENOSPC, NoRoom, "has no room for a copy of .*set TMPDIR"),
        (errno.EACCES, VideoError, "cannot be copied: .*Permission denied"),
    ],
)
def test_faults_of_the_node_while_copying_are_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception], message: str
) -> None:
    [entry] = list_videos(put(tmp_path, None, {"s.tar": packed({"3.webm": b"x"})}))

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fetching, "_copy_member", fail)
    with pytest.raises(error, match=message):
        fetch(entry.uri)
    assert temporary() == []


def test_a_folder_is_locked_before_others_see_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = owned_folders.fcntl.flock

    def flock(lock: int, how: int) -> None:
        if how == owned_folders.fcntl.LOCK_EX:  # another process looks just before
            for path in tmp_path.glob(f"{scratch.PREFIX}*"):
                owned_folders.remove_abandoned(path)
        real(lock, how)

    monkeypatch.setattr(owned_folders.fcntl, "flock", flock)
    own = Path(scratch._own.__wrapped__(str(tmp_path), 0))
    assert own.exists()
    owned_folders.remove_abandoned(own)
    assert own.exists()


def test_what_a_killed_process_fetched_is_removed_by_the_next(tmp_path: Path) -> None:
    code = """
import os, signal
from cluster.sources import scratch
with scratch.folder() as folder:
    (folder / "video.webm").write_bytes(b"x")
    print(folder.parent, flush=True)
    KILL
"""
    run = lambda end: subprocess.run(  # noqa: E731
        [sys.executable, "-c", code.replace("KILL", end)],
        env=os.environ | {"TMPDIR": str(tmp_path)}, stdout=subprocess.PIPE, text=True, timeout=60,
    ).stdout.strip()  # fmt: skip
    killed = run("os.kill(os.getpid(), signal.SIGKILL)")
    assert Path(killed).is_dir()
    after = run("pass")
    assert not Path(killed).exists()
    assert not Path(after).exists()
