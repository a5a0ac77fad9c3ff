"""A server on this machine that behaves as badly as servers do, and the registry's one file that lies on it."""

import contextlib
import dataclasses
import gzip
import hashlib
import random
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from patience import HANG

from shards import registry
from shards.download.config import DownloadConfig

REVIEWS, METADATA = "reviews_Patio_Lawn_and_Garden_5.json.gz", "meta_Patio_Lawn_and_Garden.json.gz"


def payload(seed: int, num_bytes: int = 300_000) -> bytes:
    """A gzip file that does not compress, about `num_bytes` long."""
    return gzip.compress(b'{"x": "' + random.Random(seed).randbytes(num_bytes) + b'"}\n', mtime=0)


@dataclasses.dataclass
class Answer:
    """How the server treats one request; the default is a well-behaved server."""

    status: int | None = None
    body: bytes | None = None
    cut_after: int | None = None
    stall_after: int | None = None
    ignore_range: bool = False
    ignore_if_range: bool = False
    etag: str | None = '"v1"'
    content_range: str | None = None


class BadServer:
    """Files by path; `plan(path, number)` says how the n-th request of a path is answered. Counts the bytes sent."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.plan: Callable[[str, int], Answer] = lambda path, number: Answer()
        self.requests: list[tuple[str, str | None]] = []
        self.sent = 0
        self.stalled, self.over = threading.Event(), threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.requests.append((self.path, self.headers.get("Range")))
                number = sum(path == self.path for path, _ in server.requests) - 1
                # The client may be gone, killed or cut off on purpose.
                with contextlib.suppress(ConnectionError):
                    server.answer(self, server.plan(self.path, number))

            def log_message(self, format: str, *args: object) -> None:
                """Silent."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    def __enter__(self) -> "BadServer":
        return self

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self.http.shutdown()
        self.http.server_close()

    def base(self, mirror: str = "a") -> str:
        return f"http://127.0.0.1:{self.http.server_port}/{mirror}"

    def serve(self, name: str, data: bytes, mirror: str = "a") -> None:
        self.files[f"/{mirror}/{name}"] = data

    def asked(self, part: str) -> list[str | None]:
        """Range headers of the requests whose path holds `part`."""
        return [header for path, header in self.requests if part in path]

    def answer(self, handler: BaseHTTPRequestHandler, answer: Answer) -> None:
        data = self.files.get(handler.path) if answer.body is None else answer.body
        status = answer.status or (200 if data is not None else 404)
        body, extra = data or b"", {}
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        current = answer.ignore_if_range or handler.headers.get("If-Range") in (None, answer.etag)
        if status == 200 and asked and current and not answer.ignore_range:
            start = int(asked[1])
            status, extra["Content-Range"] = 206, f"bytes {start}-{len(body) - 1}/{len(body)}"
            if start >= len(body):
                status, extra["Content-Range"] = 416, f"bytes */{len(body)}"
            body = body[start:] if status == 206 else b""
        if answer.content_range:
            extra["Content-Range"] = answer.content_range
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        if answer.etag:
            handler.send_header("ETag", answer.etag)
        for name, value in extra.items():
            handler.send_header(name, value)
        handler.end_headers()
        stop = min(x for x in (answer.cut_after, answer.stall_after, len(body)) if x is not None)
        for start in range(0, stop, 8192):
            handler.wfile.write(body[start : min(start + 8192, stop)])
            self.sent += min(start + 8192, stop) - start
        if answer.stall_after is not None:
            self.stalled.set()
            self.over.wait()
        if stop < len(body):
            handler.close_connection = True


def one_file_on_two_mirrors(server: BadServer, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The registry knows one category with one file, on the mirrors a and b of the server; returns its bytes."""
    data = payload(1)
    only(monkeypatch, registry.RawFile(REVIEWS, tuple(f"{server.base(name)}/{REVIEWS}" for name in "ab")))
    for name in "ab":
        server.serve(REVIEWS, data, name)
    return data


def only(monkeypatch: pytest.MonkeyPatch, *files: registry.RawFile) -> None:
    """The release 2014 has one category with these files."""
    row, real = dataclasses.replace(registry.row("2014", "Patio"), files=files), registry.rows
    monkeypatch.setattr(registry, "rows", lambda release: (row,) if release == "2014" else real(release))


def config(out: Path, **changes: object) -> DownloadConfig:
    settings: dict = {"out": str(out), "retries": 3, "timeout_s": HANG, "wait_s": 0.001} | changes
    return DownloadConfig(**settings)


def check(out: Path, data: bytes) -> None:
    """The file is whole, its checksum recorded, and nothing else lies about."""
    folder = out / "Patio"
    assert (folder / REVIEWS).read_bytes() == data
    assert (folder / "SHA256SUMS").read_text() == f"{hashlib.sha256(data).hexdigest()}  {REVIEWS}\n"
    assert sorted(path.name for path in folder.iterdir()) == ["SHA256SUMS", REVIEWS]
