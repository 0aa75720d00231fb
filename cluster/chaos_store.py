"""A small S3 server for the benchmark of chaos: objects are files of a folder, and it misbehaves as it is told.

It answers what boto3 and Arrow send for labelling: HEAD, GET with Range and If-Match, PUT with If-None-Match, DELETE,
ListObjectsV2. The faults are real ones on the wire: status codes, broken connections, half bodies, a clock that is
compared with the one in the request. Signatures are not checked. Not here: when it misbehaves (``chaos_bench``).
"""

from __future__ import annotations

import contextlib
import datetime
import email.utils
import hashlib
import io
import os
import socket
import struct
import threading
import time
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

REFUSED, RESET, CUT, LOST = "503", "reset", "cut body", "lost answer"
SLOW, FULL, SKEW = "slow store", "full disk", "clock skew"
FAULTS = (REFUSED, RESET, CUT, LOST, SLOW, FULL, SKEW)
SLOW_S = 3.0  # an answer that is late; below what clients wait
WINDOW_S = 1.5  # of a full disk and of a wrong clock: several requests meet it
SKEW_S = 1200.0  # as far as the server's clock is off then
ALLOWED_SKEW_S = 900.0  # as S3 has it
LEAST_CUT = 512  # bytes of a body worth cutting
PAGE = 1000  # keys of one listing


class ChaosStore(ThreadingHTTPServer):
    """Buckets are the folders in ``folder``. One fault at a time is armed, and hits the next request that it fits."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.folder, self.requests = folder, 0
        self.conditional = threading.Lock()  # one writer at a time looks whether a key exists
        self._lock = threading.Lock()
        self._armed = ""
        self._until: dict[str, float] = {}  # fault -> end of its window
        self.hits = 0  # faults that a request has met

    def path(self, name: str) -> Path:
        """The file of ``bucket/key``."""
        return self.folder / name

    @property
    def address(self) -> str:
        """For AWS_ENDPOINT_URL."""
        return f"http://127.0.0.1:{self.server_port}"

    def arm(self, fault: str) -> None:
        """Let the next request that it fits meet this fault; '' disarms."""
        with self._lock:
            self._armed = fault

    def met(self, method: str, size: int) -> str:
        """The fault that a request meets, or ''; ``size`` is that of the body which a GET would have."""
        with self._lock:
            self.requests += 1
            for fault, end in self._until.items():
                if time.monotonic() < end and _fits(fault, method, size):
                    return fault
            if not self._armed or not _fits(self._armed, method, size):
                return ""
            fault, self._armed = self._armed, ""
            self.hits += 1
            if fault in (FULL, SKEW):
                self._until[fault] = time.monotonic() + WINDOW_S
            return fault

    def clock_off_s(self) -> float:
        """How far this server's clock is off now."""
        return SKEW_S if time.monotonic() < self._until.get(SKEW, 0.0) else 0.0

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that break a connection are no news here."""


def _fits(fault: str, method: str, size: int) -> bool:
    if fault == CUT:
        return method == "GET" and size >= LEAST_CUT
    if fault == LOST:
        return method in ("PUT", "DELETE")
    return method == "PUT" if fault == FULL else True


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[ChaosStore]:
    """The server for the time of the block; its address and some credentials are in the environment."""
    with ChaosStore(folder) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        values = {"AWS_ENDPOINT_URL": server.address, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"}
        values |= {"AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
        before = {name: os.environ.get(name) for name in values}
        os.environ.update(values)
        try:
            yield server
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
            server.shutdown()
            thread.join()


Reply = tuple[int, bytes, dict[str, str]]
"""Status, body and headers."""


class _Answer(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: ChaosStore

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_PUT = do_DELETE = do_GET

    def _serve(self) -> None:
        """Read the request, let it meet a fault, answer."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        name = unquote(parts.path).strip("/")
        path = self.server.path(name)
        fault = self.server.met(self.command, path.stat().st_size if path.is_file() else 0)
        if fault == RESET:
            return self._reset()
        if fault == SLOW:
            time.sleep(SLOW_S)
        reply = self._refusal(fault) or self._done(name, path, body, parts.query)
        if fault == LOST:  # the work is done, and nobody is told
            return self._reset()
        self._send(reply, cut=fault == CUT)

    def _refusal(self, fault: str) -> Reply | None:
        if fault == REFUSED:
            return _error(503, "SlowDown")
        if fault == FULL:
            return _error(507, "XMinioStorageFull")  # as a server that keeps objects on disks says it
        asked = self.headers.get("X-Amz-Date")
        if asked is not None:
            at = datetime.datetime.strptime(asked, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC).timestamp()
            if abs(at - self._now()) > ALLOWED_SKEW_S:
                return _error(403, "RequestTimeTooSkewed")
        return None

    def _done(self, name: str, path: Path, body: bytes, query: str) -> Reply:
        if "/" not in name:
            return self._listing(name, {key: values[0] for key, values in parse_qs(query).items()})
        if self.command == "PUT":
            return self._put(path, body)
        if self.command == "DELETE":
            path.unlink(missing_ok=True)
            return 204, b"", {}
        return self._content(path)

    def _put(self, path: Path, body: bytes) -> Reply:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.server.folder / f".{uuid.uuid4().hex}"
        partial.write_bytes(body)
        with self.server.conditional:
            if self.headers.get("If-None-Match") == "*" and path.exists():
                partial.unlink()
                return _error(412, "PreconditionFailed")
            partial.replace(path)
        return 200, b"", {"ETag": _etag(body)}

    def _content(self, path: Path) -> Reply:
        try:
            content = path.read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return _error(404, "NoSuchKey")
        headers = {"ETag": _etag(content), "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        headers["Last-Modified"] = email.utils.formatdate(path.stat().st_mtime, usegmt=True)
        if self.headers.get("If-Match", headers["ETag"]) != headers["ETag"]:
            return _error(412, "PreconditionFailed")
        asked = self.headers.get("Range")
        if asked is None:
            return 200, content, headers
        first, _, last = asked.removeprefix("bytes=").partition("-")
        begin, end = (int(first), int(last) + 1 if last else len(content)) if first else (-int(last), len(content))
        part = content[begin:end]
        begin = begin % len(content) if content else 0
        span = f"bytes {begin}-{begin + len(part) - 1}/{len(content)}"
        return 206, part, headers | {"Content-Range": span}

    def _listing(self, bucket: str, asked: dict[str, str]) -> Reply:
        prefix, delimiter = asked.get("prefix", ""), asked.get("delimiter", "")
        top = self.server.path(bucket)
        keys = sorted(file.relative_to(top).as_posix() for file in top.rglob("*") if file.is_file())
        names: dict[str, Path | None] = {}
        for key in (key for key in keys if key.startswith(prefix)):
            head, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
            names[prefix + head + delimiter if found else key] = None if found else top / key
        later = [name for name in names if name > asked.get("continuation-token", "")]
        page = later[: min(PAGE, int(asked.get("max-keys", PAGE)))]
        more = len(page) < len(later)
        xml = f"<IsTruncated>{str(more).lower()}</IsTruncated><KeyCount>{len(page)}</KeyCount>"
        xml += f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        xml += "".join(_row(quote(name), names[name]) for name in page)
        return 200, f"<ListBucketResult><EncodingType>url</EncodingType>{xml}</ListBucketResult>".encode(), {}

    def _send(self, reply: Reply, *, cut: bool) -> None:
        status, body, headers = reply
        self.send_response_only(status)
        self.send_header("Date", email.utils.formatdate(self._now(), usegmt=True))
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = self.close_connection or cut

    def _reset(self) -> None:
        """Break the connection with RST, as a server that dies does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()
        self.wfile = self.rfile = io.BytesIO()

    def _now(self) -> float:
        return time.time() + self.server.clock_off_s()

    def log_message(self, format: str, *words: object) -> None:
        """Requests are no news."""


def _row(name: str, file: Path | None) -> str:
    shown = escape(name)
    if file is None:
        return f"<CommonPrefixes><Prefix>{shown}</Prefix></CommonPrefixes>"
    with contextlib.suppress(FileNotFoundError):  # removed meanwhile
        content, changed = file.read_bytes(), datetime.datetime.fromtimestamp(file.stat().st_mtime, datetime.UTC)
        facts = f"<Size>{len(content)}</Size><ETag>{_etag(content)}</ETag><LastModified>{changed:%FT%TZ}</LastModified>"
        return f"<Contents><Key>{shown}</Key>{facts}</Contents>"
    return ""


def _etag(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'


def _error(status: int, code: str) -> Reply:
    xml = f"<Error><Code>{code}</Code><Message>a fault of the benchmark</Message></Error>"
    return status, xml.encode(), {"Content-Type": "application/xml"}
