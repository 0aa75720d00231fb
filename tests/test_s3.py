"""cluster.store.s3 against a scripted server: which answers are input errors, and which are tried again.

A real server's behaviour is in test_store.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from boto3.s3.transfer import TransferConfig

from cluster import patience
from cluster.store import check_conditional, open_store
from hojoint.errors import InputError, MachineError, NoRoom, Unavailable


class ScriptedServer(ThreadingHTTPServer):
    """Keeps objects; refuses conditional writes with ``refusal``, everything with ``fault``; cuts ``cuts`` bodies.

    The header of conditional writes means nothing to it. ``missing`` answers a DELETE of what it does not keep.
    """

    refusal: tuple[int, str] | None = None
    fault: tuple[int, str] | None = None
    missing: tuple[int, str] | None = None
    cuts = 0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.objects: dict[str, bytes] = {}


class Answer(BaseHTTPRequestHandler):
    """The requests that a Store sends for one object."""

    protocol_version = "HTTP/1.1"
    server: ScriptedServer

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        refusal = self.server.fault or (self.server.refusal if "If-None-Match" in self.headers else None)
        if refusal is not None:
            return self.refuse(*refusal)
        self.server.objects[self.path] = body
        self.answer(200, b"")

    def do_GET(self) -> None:
        if self.server.fault is not None:
            return self.refuse(*self.server.fault)
        if self.path not in self.server.objects:
            return self.refuse(404, "NoSuchKey")
        self.answer(200, self.server.objects[self.path])

    def do_HEAD(self) -> None:
        if self.path.strip("/") == "bucket":  # where the client asks for the region after a redirect
            return self.answer(200, b"")
        self.do_GET()

    def do_DELETE(self) -> None:
        if self.server.objects.pop(self.path, None) is None and self.server.missing is not None:
            return self.refuse(*self.server.missing)
        self.answer(204, b"")

    def refuse(self, status: int, code: str) -> None:
        self.answer(status, f"<Error><Code>{code}</Code><Message>as scripted</Message></Error>".encode())

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET" and self.server.cuts:
            self.server.cuts -= 1
            body, self.close_connection = body[: len(body) // 2], True
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *words: object) -> None: ...


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    with ScriptedServer() as scripted:
        thread = threading.Thread(target=scripted.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        for name, value in (("ACCESS_KEY_ID", "x"), ("SECRET_ACCESS_KEY", "y"), ("EC2_METADATA_DISABLED", "true")):
            monkeypatch.setenv(f"AWS_{name}", value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{scripted.server_port}")
        yield scripted
        scripted.shutdown()
        thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("refusal", [(501, "NotImplemented"), (400, "NotImplemented")])
def test_a_server_without_conditional_writes_needs_the_setting(
    refusal: tuple[int, str], server: ScriptedServer
) -> None:
    server.refusal = refusal
    with pytest.raises(InputError, match=r"no conditional writes .*require_conditional_writes=false"):
        check_conditional(open_store("s3://bucket/out"))
    store = open_store("s3://bucket/out", conditional=False)
    assert store.put_new("commits/u.json", b"first")
    assert not store.put_new("commits/u.json", b"second")
    assert store.get("commits/u.json") == b"first"


def test_without_conditions_the_first_writer_is_seen(server: ScriptedServer) -> None:
    with pytest.raises(InputError, match=r"does not refuse a second conditional write"):
        check_conditional(open_store("s3://bucket/out"))
    store = open_store("s3://bucket/out", conditional=False)
    assert store.put_new("commits/u.json", b"first")
    assert not store.put_new("commits/u.json", b"second")
    assert store.put_new("commits/u.json", b"first")  # the answer to this writer was lost
    assert store.get("commits/u.json") == b"first"


def test_a_delete_of_nothing_is_no_error(server: ScriptedServer) -> None:
    server.missing = (404, "NoSuchKey")
    open_store("s3://bucket").delete("a")


def test_a_write_that_is_always_under_way_is_one_sentence(server: ScriptedServer, monkeypatch) -> None:
    monkeypatch.setattr("cluster.store.s3.time.sleep", lambda seconds: None)
    server.refusal = (409, "ConditionalRequestConflict")
    store = open_store("s3://bucket")
    with pytest.raises(Unavailable, match=r"s3://bucket/a cannot be written: .* 8 times .*the same command resumes"):
        store.put_new("a", b"first")
    store.put("a", b"another")
    assert not store.put_new("a", b"first")


def test_a_used_up_quota_is_a_full_disk(server: ScriptedServer) -> None:
    server.fault = (403, "QuotaExceeded")
    with pytest.raises(NoRoom, match=r"s3://bucket has no room \(QuotaExceeded\)"):
        open_store("s3://bucket").put("a", b"")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ((400, "ExpiredToken"), "credentials in the environment"),
        ((400, "InvalidToken"), "credentials in the environment"),
        ((301, "PermanentRedirect"), "set AWS_REGION"),
        ((400, "AuthorizationHeaderMalformed"), "set AWS_REGION"),
    ],
)
def test_old_credentials_and_another_region_are_input_errors(
    fault: tuple[int, str], message: str, server: ScriptedServer
) -> None:
    server.fault = fault
    for request in (lambda store: store.put("a", b""), lambda store: store.get("a")):
        with pytest.raises(InputError, match=message):
            request(open_store("s3://bucket"))


@pytest.mark.slow
def test_a_body_that_breaks_off_is_read_again(server: ScriptedServer) -> None:
    store = open_store("s3://bucket")
    store.put("commits/u.json", b"bytes" * 100)
    server.cuts = 2
    assert store.get("commits/u.json") == b"bytes" * 100
    server.cuts = 10**6
    with (
        patience.granted(0.5),
        pytest.raises(Unavailable, match=r"store s3://bucket unreachable from the node \S+ for"),
    ):
        store.get("commits/u.json")


@pytest.mark.slow
def test_an_outage_is_ridden_out_and_said(server: ScriptedServer, capsys: pytest.CaptureFixture[str]) -> None:
    store = open_store("s3://bucket")
    store.put("a", b"bytes")
    server.fault = (503, "ServiceUnavailable")
    threading.Timer(6.0, lambda: setattr(server, "fault", None)).start()
    assert store.get("a") == b"bytes"
    said = capsys.readouterr().err
    assert "store s3://bucket unreachable for " in said
    assert "answers again after" in said


@pytest.mark.slow
@pytest.mark.parametrize("request_of", [lambda store: store.put("a", b""), lambda store: list(store.list("a"))])
def test_an_outage_beyond_the_patience_is_one_sentence(request_of, monkeypatch: pytest.MonkeyPatch, server) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # nothing listens there
    with patience.granted(0.0), pytest.raises(Unavailable) as raised:
        request_of(open_store("s3://bucket"))
    message = str(raised.value)
    assert socket.gethostname() in message
    assert "cluster.patience_s=0" in message
    assert "\n" not in message


def test_a_clock_that_is_off_is_one_sentence(server: ScriptedServer) -> None:
    server.fault = (403, "RequestTimeTooSkewed")
    with pytest.raises(MachineError, match=rf"the clock of the node {socket.gethostname()} is [+-]\d+ s off.*chronyc"):
        open_store("s3://bucket").put("a", b"")


def test_missing_credentials_name_the_node_and_the_remedy(server, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(
        InputError, match=rf"no credentials for s3://bucket on the node {socket.gethostname()}.*AWS_PROFILE"
    ):
        open_store("s3://bucket").exists("a")


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("AWS_PROFILE", "nobody", "nobody"),
        ("AWS_SECRET_ACCESS_KEY", None, "artial credentials"),
    ],
)
def test_settings_that_the_s3_client_refuses_are_input_errors(
    variable: str, value: str | None, message: str, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(variable, raising=False)
    if value is not None:
        monkeypatch.setenv(variable, value)
    with pytest.raises(InputError, match=message):
        open_store("s3://bucket").exists("a")


def test_an_object_of_more_than_5_gb_can_be_moved(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 copies no more in one request; boto3's ``copy`` takes parts of what is above the threshold."""
    asked = []

    def copy(source: dict[str, str], bucket: str, key: str, Config: TransferConfig) -> None:
        asked.append((source["Key"], bucket, key))
        assert Config.multipart_threshold <= 5 * 10**9
        assert Config.multipart_chunksize <= 5 * 10**9

    store = open_store("s3://bucket/boxes.parquet.run")
    client = SimpleNamespace(copy=copy, delete_object=lambda Bucket, Key: asked.append(Key))
    monkeypatch.setattr(store._bucket, "client", client)
    store.move("made.partial", "bucket/boxes.parquet")
    assert asked == [("boxes.parquet.run/made.partial", "bucket", "boxes.parquet"), "boxes.parquet.run/made.partial"]
