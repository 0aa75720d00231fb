"""An S3 server in this process for tests of reading: keeps objects, lists them, and misbehaves when it is told to.

It answers what ``cluster.sources`` sends (ListObjectsV2, HEAD, GET with Range and If-Match). A real server is in
``s3_server``.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest


class ScriptedS3(ThreadingHTTPServer):
    """Refuses ``refusals`` requests with ``refusal``, cuts ``cuts`` bodies in half, sends ``trickle`` bytes a time."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.objects: dict[str, bytes] = {}  # "bucket/key" -> content
        self.refusals, self.refusal = 0, (503, "SlowDown")
        self.cuts = 0
        self.trickle = 0
        self.page = 1000  # keys
        self.denied: set[str] = set()  # "bucket/key", or "bucket" for its listing, that give 403
        self.broken = ""  # "bucket/key" of an object that always gives 500
        self.slow_s = 0.0  # before the answer to a HEAD of a bucket
        self.hiccups = False  # every other HEAD of a bucket gives 503
        self.requests: list[tuple[str, str]] = []  # method and path

    def put(self, key: str, content: bytes) -> str:
        """Store an object of the bucket 'bucket'; its URI."""
        self.objects[f"bucket/{key}"] = content
        return f"s3://bucket/{key}"


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ScriptedS3

    def do_GET(self) -> None:
        self.server.requests.append((self.command, self.path))
        parts = urlsplit(self.path)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        if self.server.refusals:
            self.server.refusals -= 1
            return self.refuse(*self.server.refusal)
        if f"{bucket}/{key}".rstrip("/") in self.server.denied:
            return self.refuse(403, "AccessDenied")
        if f"{bucket}/{key}" == self.server.broken:
            return self.refuse(500, "InternalError")
        if not key and self.command == "HEAD":
            time.sleep(self.server.slow_s)
            heads = sum(method == "HEAD" for method, _ in self.server.requests)
            if self.server.hiccups and heads % 2:
                return self.refuse(503, "SlowDown")
        if not key:
            return self.listing(bucket, {name: values[0] for name, values in parse_qs(parts.query).items()})
        content = self.server.objects.get(f"{bucket}/{key}")
        if content is None:
            return self.refuse(404, "NoSuchKey")
        etag = f'"{hashlib.md5(content).hexdigest()}"'
        if self.headers.get("If-Match", etag) != etag:
            return self.refuse(412, "PreconditionFailed")
        span = self.headers.get("Range")
        if span is None:
            return self.answer(200, content, ETag=etag)
        first, last = (int(number) for number in span.removeprefix("bytes=").split("-"))
        part = content[first : last + 1]
        self.answer(206, part, ETag=etag, **{"Content-Range": f"bytes {first}-{last}/{len(content)}"})

    do_HEAD = do_GET

    def listing(self, bucket: str, asked: dict[str, str]) -> None:
        prefix, delimiter = asked.get("prefix", ""), asked.get("delimiter", "")
        start, rows = asked.get("continuation-token", ""), {}
        for name in sorted(self.server.objects):
            key = name.removeprefix(f"{bucket}/")
            if name.startswith(f"{bucket}/{prefix}"):
                inner = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
                rows[prefix + inner[0] + delimiter if inner[1] else key] = (
                    None if inner[1] else self.server.objects[name]
                )
        names = [name for name in sorted(rows) if name > start]
        page = names[: min(int(asked.get("max-keys", 1000)), self.server.page)]
        xml = f"<IsTruncated>{str(len(page) < len(names)).lower()}</IsTruncated>"
        if len(page) < len(names):
            xml += f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>"
        for name in page:
            content, shown = rows[name], escape(quote(name))
            if content is None:
                xml += f"<CommonPrefixes><Prefix>{shown}</Prefix></CommonPrefixes>"
            else:
                etag = hashlib.md5(content).hexdigest()
                xml += f'<Contents><Key>{shown}</Key><Size>{len(content)}</Size><ETag>"{etag}"</ETag></Contents>'
        body = f"<ListBucketResult><EncodingType>url</EncodingType>{xml}</ListBucketResult>"
        self.answer(200, body.encode())

    def refuse(self, status: int, code: str) -> None:
        self.answer(status, f"<Error><Code>{code}</Code><Message>as scripted</Message></Error>".encode())

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if status == 206 and self.server.cuts:
            self.server.cuts -= 1
            body, self.close_connection = body[: len(body) // 2], True
        step = self.server.trickle or len(body) or 1
        try:
            for at in range(0, len(body), step):
                self.wfile.write(body[at : at + step])
                if self.server.trickle:
                    time.sleep(0.02)
        except ConnectionError:  # the reader has given up
            self.close_connection = True

    def log_message(self, *words: object) -> None: ...


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedS3]:
    """The server; its address and some credentials are in the environment."""
    with ScriptedS3() as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        for name, value in (("ACCESS_KEY_ID", "x"), ("SECRET_ACCESS_KEY", "y"), ("EC2_METADATA_DISABLED", "true")):
            monkeypatch.setenv(f"AWS_{name}", value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        yield server
        server.shutdown()
        thread.join()
