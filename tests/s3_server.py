"""A real S3 server on loopback for tests: Ceph RGW (one monitor, one disk on a sparse file, one gateway).

Needs Debian's packages ``radosgw ceph-mon ceph-osd ceph-mgr ceph-common uuid-runtime`` (``.ci/run`` installs them);
tests that ask for it are skipped with that reason where they are absent. The server runs for the whole session, for
all of its processes, keeps everything in a temporary folder, and is ended by the process ids that it wrote there. To
try the jobs on one: ``python tests/s3_server.py`` prints the environment of a server with a bucket ``demo``, and ends
it with Ctrl-C.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = ("radosgw", "radosgw-admin", "ceph-mon", "ceph-osd", "ceph", "monmaptool", "ceph-authtool")
KEY, SECRET = "testkey", "testsecret"

CONF = """[global]
fsid = {fsid}
mon_host = v2:127.0.0.1:{mon}/0
mon_initial_members = a
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
ms_bind_ipv4 = true
keyring = {folder}/keyring
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_port_min = {low}
ms_bind_port_max = {high}
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_pool_default_pgp_num = 4
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 2000
mon_data = {folder}/mon
osd_data = {folder}/osd
mgr_data = {folder}/mgr
rgw_data = {folder}/rgw
run_dir = {folder}/run
admin_socket = {folder}/run/$name.asok
pid_file = {folder}/run/$name.pid
log_file = {folder}/run/$name.log
crash_dir = {folder}/run
osd_objectstore = bluestore
bluestore_block_size = 4294967296
bluestore_cache_autotune = false
bluestore_cache_size = 134217728
osd_memory_target = 939524096
mon_data_avail_warn = 1
mon_data_avail_crit = 1
rgw_frontends = beast endpoint=127.0.0.1:{port}
rgw_dns_name =
"""


@dataclass(frozen=True)
class Server:
    """Address of a started server."""

    endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }


def absent() -> list[str]:
    """Programs of the server that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


@contextlib.contextmanager
def running() -> Iterator[Server]:
    """A server in a folder of its own, until the end of ``with``."""
    folder, endpoint = _started()
    try:
        yield Server(endpoint)
    finally:
        _end(folder)


@contextlib.contextmanager
def shared(place: Path) -> Iterator[Server]:
    """The server of all processes that give the same folder: the first starts it, the last ends it."""
    with _noted(place) as noted:
        if noted["users"] == 0:
            folder, noted["endpoint"] = _started()
            noted["folder"] = str(folder)
        noted["users"] += 1
        endpoint = noted["endpoint"]
    try:
        yield Server(endpoint)
    finally:
        with _noted(place) as noted:
            noted["users"] -= 1
            if noted["users"] == 0:
                _end(Path(noted["folder"]))


@contextlib.contextmanager
def _noted(place: Path) -> Iterator[dict[str, Any]]:
    """What these processes know of their server; one of them at a time, which may change it."""
    with open(place / "s3.json", "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        noted = json.loads(file.read() or '{"users": 0}')
        yield noted
        file.truncate(0)
        json.dump(noted, file)


@pytest.fixture(scope="session")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server; started once, when the first test asks."""
    if absent():
        pytest.skip(f"needs Ceph's packages: no {', '.join(absent())} here")
    several = "PYTEST_XDIST_WORKER" in os.environ  # then they have one folder, in which each has its own
    with shared(tmp_path_factory.getbasetemp().parent) if several else running() as server:
        yield server


@pytest.fixture
def bucket(ceph: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """``s3://...`` of a fresh bucket; credentials and endpoint are in the environment for the time of the test."""
    import boto3

    for name, value in ceph.environment.items():
        monkeypatch.setenv(name, value)
    name = f"test-{uuid.uuid4().hex[:12]}"
    boto3.client("s3").create_bucket(Bucket=name)
    return f"s3://{name}"


def _started() -> tuple[Path, str]:
    """The folder and the address of a new server."""
    # A Unix socket's path has at most 107 characters, too few for pytest's own folders.
    folder = Path("/tmp") / f"s3-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    try:
        return folder, _start(folder)
    except BaseException:
        _end(folder)
        raise


def _end(folder: Path) -> None:
    _stop(folder)
    shutil.rmtree(folder, ignore_errors=True)


def _start(folder: Path) -> str:
    port, mon, low = _free_port(), _free_port(), 16800 + os.getpid() % 1000 * 10
    conf, fsid = folder / "ceph.conf", str(uuid.uuid4())
    conf.write_text(CONF.format(fsid=fsid, folder=folder, port=port, mon=mon, low=low, high=low + 9))
    for name in ("run", "mon", "osd", "rgw"):
        (folder / name).mkdir()
    keyring = str(folder / "keyring")
    _run(folder, "ceph-authtool", keyring, "--create-keyring", "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
    for name, caps in {
        "client.admin": ("mon", "allow *", "osd", "allow *", "mgr", "allow *"),
        "osd.0": ("mon", "allow profile osd", "osd", "allow *"),
        "client.rgw": ("mon", "allow rw", "osd", "allow rwx"),
    }.items():
        pairs = [word for at in range(0, len(caps), 2) for word in ("--cap", caps[at], caps[at + 1])]
        _run(folder, "ceph-authtool", keyring, "--gen-key", "-n", name, *pairs)
    mon_map = str(folder / "monmap")
    _run(folder, "monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"v2:127.0.0.1:{mon}", mon_map, "--clobber")
    cluster = ("-c", str(conf))
    _run(folder, "ceph-mon", *cluster, "-i", "a", "--mkfs", "--monmap", mon_map, "--keyring", keyring)
    _run(folder, "ceph-mon", *cluster, "-i", "a")
    _run(folder, "ceph", *cluster, "auth", "import", "-i", keyring)
    disk = str(uuid.uuid4())
    _run(folder, "ceph", *cluster, "osd", "new", disk)
    _run(folder, "ceph-osd", *cluster, "-i", "0", "--mkfs", "--osd-uuid", disk)
    _run(folder, "ceph-osd", *cluster, "-i", "0")
    _wait("the disk", lambda: "1 up" in _run(folder, "ceph", *cluster, "osd", "stat"))
    _run(folder, "radosgw", *cluster, "-n", "client.rgw")
    endpoint = f"http://127.0.0.1:{port}"
    _wait("the gateway", lambda: _answers(endpoint))
    user = ("user", "create", "--uid=t", "--display-name=t", f"--access-key={KEY}", f"--secret-key={SECRET}")
    _run(folder, "radosgw-admin", *cluster, *user)
    return endpoint


def _stop(folder: Path) -> None:
    for name in ("client.rgw", "osd.0", "mon.a"):
        written = folder / "run" / f"{name}.pid"
        if written.exists():
            pid = int(written.read_text())
            os.kill(pid, signal.SIGTERM)
            _wait(name, lambda pid=pid: not Path(f"/proc/{pid}").exists(), seconds=20)


def _run(folder: Path, *command: str) -> str:
    with open(folder / "run" / "commands.log", "a") as log:
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True, timeout=90)
    assert done.returncode == 0, f"{' '.join(command)}: {(folder / 'run' / 'commands.log').read_text()[-2000:]}"
    return done.stdout


def _answers(endpoint: str) -> bool:
    try:
        urllib.request.urlopen(endpoint, timeout=5).close()
    except urllib.error.HTTPError as error:
        error.close()
        return True
    except OSError:
        return False
    return True


def _wait(what: str, ready, seconds: float = 90) -> None:
    until = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < until, f"{what} did not come within {seconds} s"
        time.sleep(0.3)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    """Serve until Ctrl-C or SIGTERM."""
    import boto3

    signal.signal(signal.SIGTERM, signal.default_int_handler)

    if absent():
        raise SystemExit(f"needs Ceph's packages: no {', '.join(absent())} here")
    with running() as server:
        os.environ.update(server.environment)
        boto3.client("s3").create_bucket(Bucket="demo")
        print(f"export {' '.join(f'{name}={value}' for name, value in server.environment.items())}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
