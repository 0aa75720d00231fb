"""cluster.store.connection: boto3 and Arrow reach one store in one way.

A private authority signs the certificate of a TLS door in front of the real server; a proxy that answers by itself
shows which address each client asks for.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import s3_server
import trustme

from cluster.store import connection, open_store
from cluster.store.connection import Connection
from hojoint.errors import InputError


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of this machine's environment, and keys that no server checks."""
    for name, _ in connection.variables():
        monkeypatch.delenv(name)
    for name in ("CONFIG_FILE", "SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(f"AWS_{name}", str(tmp_path / name))
    for name, value in (("ACCESS_KEY_ID", "x"), ("SECRET_ACCESS_KEY", "y"), ("EC2_METADATA_DISABLED", "true")):
        monkeypatch.setenv(f"AWS_{name}", value)


def reached() -> Connection:
    return connection.connect()[1]


def test_aws_itself_is_left_to_both_clients(plain: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert reached().arrow() == {"region": "eu-west-1", "scheme": "https"}
    monkeypatch.setenv(connection.STYLE, "path")
    assert reached().arrow()["endpoint_override"] == "s3.eu-west-1.amazonaws.com"
    assert reached().arrow()["force_virtual_addressing"] is False
    monkeypatch.delenv(connection.STYLE)
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", "true")
    assert reached().arrow()["endpoint_override"] == "s3-fips.eu-west-1.amazonaws.com"
    assert reached().arrow()["force_virtual_addressing"] is True


def test_a_private_endpoint_of_aws_is_used_by_arrow_too(plain: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://bucket.vpce-1a-2b.s3.eu-west-1.vpce.amazonaws.com")
    assert reached().arrow()["endpoint_override"] == "bucket.vpce-1a-2b.s3.eu-west-1.vpce.amazonaws.com"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (connection.STYLE, "dns", "expected auto, path, virtual"),
        ("AWS_CA_BUNDLE", "/no/such.pem", r"no file of certificates at /no/such\.pem"),
        ("AWS_ENDPOINT_URL", "nowhere", "set AWS_ENDPOINT_URL to a URL"),
    ],
)
def test_what_cannot_be_used_is_refused(
    name: str, value: str, message: str, plain: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=message):
        open_store("s3://bucket")


def test_a_profile_that_takes_a_role_is_refused_for_arrow(plain: None, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(os.environ["AWS_CONFIG_FILE"]).write_text(
        "[profile base]\naws_access_key_id = x\naws_secret_access_key = y\n"
        "[profile lab]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = base\nregion = eu-west-1\n"
    )
    monkeypatch.setenv("AWS_PROFILE", "lab")
    assert not reached().takes_role  # keys in the environment go before the profile
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(InputError, match="'lab' takes a role"):
        open_store("s3://bucket").filesystem()


# Addressing and the proxy: no name is resolved, because the proxy is asked for it.


class Proxy(ThreadingHTTPServer):
    """Answers every request itself with one object, and remembers what was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Door)
        self.asked: set[tuple[str, str | None]] = set()  # address and credentials for the proxy


class Door(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def do_GET(self) -> None:
        self.server.asked.add((self.path, self.headers.get("Proxy-Authorization")))
        self.send_response(200)
        for name, value in (
            ("Content-Length", "7"),
            ("ETag", '"e"'),
            ("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT"),
        ):
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(b"content")

    do_HEAD = do_GET

    def log_message(self, *words: object) -> None: ...


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with served(Proxy()) as server:
        yield server


@contextlib.contextmanager
def served(server: ThreadingHTTPServer) -> Iterator[ThreadingHTTPServer]:
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("style", "address"),
    [
        (None, "http://store.test:9000/bucket/a/key"),
        ("path", "http://store.test:9000/bucket/a/key"),
        ("virtual", "http://bucket.store.test:9000/a/key"),
    ],
)
def test_both_clients_ask_the_proxy_for_the_same_address(
    style: str | None, address: str, plain: None, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store.test:9000")
    monkeypatch.setenv("HTTP_PROXY", f"http://me:p%40ss@127.0.0.1:{proxy.server_port}")
    if style is not None:
        monkeypatch.setenv(connection.STYLE, style)
    store = open_store("s3://bucket/a")
    assert store.get("key") == b"content"
    by_boto3, proxy.asked = proxy.asked, set()
    filesystem, root = store.filesystem()
    with filesystem.open_input_file(f"{root}/key") as file:
        assert file.read() == b"content"
    assert proxy.asked == by_boto3 == {(address, "Basic bWU6cEBzcw==")}  # me:p@ss


def test_a_host_that_no_proxy_serves_is_asked_directly(plain: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store.test:9000")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert reached().proxy == "http://127.0.0.1:1"
    monkeypatch.setenv("NO_PROXY", "store.test")
    assert reached().proxy is None
    assert "proxy_options" not in reached().arrow()


# A private authority.


def test_a_file_system_carries_no_secret_to_another_process(
    plain: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "authority.pem"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very secret")
    monkeypatch.setenv("HTTPS_PROXY", "http://me:word@proxy.test:1")
    sent = pickle.dumps(open_store("s3://bucket").filesystem()[0])
    assert not re.search(rb"secret|word|authority|proxy", sent)
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    assert pickle.loads(sent).region == "eu-north-1"  # by the environment where it arrives


@pytest.fixture
def behind_tls(ceph: s3_server.Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The bucket, at an HTTPS endpoint whose certificate the authority in ``authority.pem`` signed."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with tls_door(int(ceph.endpoint.rpartition(":")[2]), context) as port:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"https://localhost:{port}")
        yield bucket


@contextlib.contextmanager
def tls_door(behind: int, context: ssl.SSLContext) -> Iterator[int]:
    """Takes TLS connections at the port that it returns and passes their bytes to the port ``behind``."""

    def copy(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(2**16):
                target.sendall(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def take(client: socket.socket) -> None:
        with (
            contextlib.suppress(OSError),
            context.wrap_socket(client, server_side=True) as outside,
            socket.create_connection(("127.0.0.1", behind)) as inside,
        ):
            back = threading.Thread(target=copy, args=(inside, outside), daemon=True)
            back.start()
            copy(outside, inside)
            back.join()

    def listen() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=take, args=(door.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as door:
        threading.Thread(target=listen, daemon=True).start()
        yield door.getsockname()[1]
        door.shutdown(socket.SHUT_RDWR)


@pytest.mark.s3
@pytest.mark.slow
def test_a_store_behind_a_private_authority_is_read_and_written(
    behind_tls: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"is not trusted on the node .*Set AWS_CA_BUNDLE"):
        open_store(behind_tls).exists("a")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "authority.pem"))
    store = open_store(f"{behind_tls}/some/prefix")
    assert store.put_new("a.bin", b"by boto3")
    assert not store.put_new("a.bin", b"again")
    filesystem, root = store.filesystem()
    with filesystem.open_input_file(f"{root}/a.bin") as file:
        assert file.read() == b"by boto3"
    with filesystem.open_output_stream(f"{root}/b.bin") as file:
        file.write(b"by arrow")
    assert store.get("b.bin") == b"by arrow"


@pytest.mark.s3
@pytest.mark.slow
def test_a_profile_alone_is_enough_for_both(behind_tls: str, tmp_path: Path) -> None:
    """In a process of its own: Arrow's client reads the profiles once."""
    (tmp_path / "config").write_text(
        f"[profile lab]\nregion = us-east-1\nendpoint_url = {os.environ['AWS_ENDPOINT_URL']}\n"
        f"ca_bundle = {tmp_path}/authority.pem\ns3 =\n  addressing_style = path\n"
    )
    (tmp_path / "credentials").write_text(
        f"[lab]\naws_access_key_id = {s3_server.KEY}\naws_secret_access_key = {s3_server.SECRET}\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment |= {"AWS_PROFILE": "lab", "AWS_CONFIG_FILE": f"{tmp_path}/config"}
    environment |= {"AWS_SHARED_CREDENTIALS_FILE": f"{tmp_path}/credentials"}
    code = (
        f"from cluster.store import open_store; store = open_store({behind_tls!r}); store.put('a', b'x' * 9); "
        "filesystem, root = store.filesystem(); print(filesystem.get_file_info(f'{root}/a').size)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "9", done.stderr
