"""A proxy between a client and the fake Cloud Storage, which fails as networks and services do."""

from __future__ import annotations

import http.client
import json
import random
import re
import socket
import struct
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.services.gcs import FakeGcs

__all__ = ["FAULTS", "FaultProxy"]

FAULTS = ("503", "429", "reset", "lost", "cut", "stall", "412")
"""Refusals; a reset in the middle of the request; an answer that is lost after success; one that is
cut in its middle; one that comes late; and a create that came through, answered as a refusal."""

_REFUSALS = {"503": "try again", "429": "slow down", "403": "no right"}
_STEP = 256 << 10  # of what a resumable upload has got, Cloud Storage keeps whole steps
_HOP_BY_HOP = {"connection", "content-length", "transfer-encoding", "keep-alive"}


class _Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class _Rule:
    kind: str
    method: str
    pattern: str
    times: int


@dataclass
class _Upload:
    """A resumable upload: how much the server has, and what it answered to the last part."""

    has: int = 0
    answer: _Answer | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class FaultProxy:
    """Passes everything on to ``server``, but for what ``fail`` and ``storm`` ask.

    It also keeps two promises of Cloud Storage that the fake does not: asked what it has of a
    resumable upload, it tells (the fake would end it), and bytes sent twice are there once; with
    ``hierarchical``, objects can be moved. ``around``, given a request as ``seen`` tells it, is
    entered when that has come, and left when the server has answered.
    """

    def __init__(self, server: FakeGcs, *, hierarchical: bool = False) -> None:
        """Stand before ``server``; ``with`` starts and ends it."""
        self.server, self.hierarchical = server, hierarchical
        self.stall_seconds = 0.05
        self.failed: list[str] = []
        self.seen: list[str] = []
        self.around: Callable[[str], AbstractContextManager[None]] = lambda _: nullcontext()
        self.uploads: dict[str, _Upload] = {}
        self.answered = 0  # bytes of answers, without their headers
        self.sent_again = 0  # bytes of resumable uploads that the server had already
        self._rules: list[_Rule] = []
        self._storm: tuple[random.Random, float] | None = None
        self._lock = threading.Lock()
        self._http = _Server(("127.0.0.1", 0), _Handler)
        self._http.proxy = self
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> FaultProxy:  # noqa: PYI034 - Python 3.10 has no Self
        """Start."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._http.shutdown()
        self._http.server_close()

    def fail(self, kind: str, method: str = "", pattern: str = "", times: int = 1) -> None:
        """Fail the next ``times`` requests of a method whose path and query match a pattern."""
        self._rules.append(_Rule(kind, method, pattern, times))

    def storm(self, seed: int, share: float) -> None:
        """Fail that share of all requests, each in some way."""
        self._storm = random.Random(seed), share

    def fault(self, method: str, path: str) -> str | None:
        """Choose what befalls a request."""
        with self._lock:
            self.seen.append(f"{method} {path}")
            kind = self._choose(method, path)
            if kind is not None:
                self.failed.append(f"{kind}: {method} {path}")
            return kind

    def count(self, size: int) -> None:
        """Count the bytes of an answer."""
        with self._lock:
            self.answered += size

    def _choose(self, method: str, path: str) -> str | None:
        for rule in self._rules:
            matches = rule.method in {"", method} and re.search(rule.pattern, path)
            if rule.times and matches and _can_fail(rule.kind, path):
                rule.times -= 1
                return rule.kind
        if self._storm is not None and self._storm[0].random() < self._storm[1]:
            kind = self._storm[0].choice(FAULTS)
            return kind if _can_fail(kind, path) else None
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    proxy: FaultProxy

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: connections end in all ways here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # a head and its body are two sends: 40 ms lay between them
    server: _Server

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Pass on, or fail."""
        proxy = self.server.proxy
        kind = proxy.fault(self.command, self.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length // 2 if kind == "reset" else length)
        if kind == "reset":
            if "upload_id=" in self.path:
                self._pass_on(body[: len(body) // _STEP * _STEP], is_torn=True)
            self._reset()
            return
        if kind in _REFUSALS:
            self._answer(_error(int(kind), _REFUSALS[kind]))
            return
        if kind == "stall":
            time.sleep(proxy.stall_seconds)
        with proxy.around(f"{self.command} {self.path}"):
            answer = self._pass_on(body)
        if kind == "lost":
            self._reset()
        elif kind == "412" and answer.status == http.client.OK:
            self._answer(_error(412, "conditionNotMet"))
        else:
            self._answer(answer, is_cut=kind == "cut")

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - http.server's names

    def _pass_on(self, body: bytes, *, is_torn: bool = False) -> _Answer:
        moving = re.search(r"/b/([^/]+)/o/([^/]+)/moveTo/o/([^/?]+)", self.path)
        if moving and self.server.proxy.hierarchical:
            return self._move(*moving.groups())
        upload_id = parse_qs(urlsplit(self.path).query).get("upload_id")
        if upload_id and self.command == "PUT":
            upload = self.server.proxy.uploads.setdefault(upload_id[0], _Upload())
            with upload.lock:
                return self._pass_part_on(upload, body, is_torn=is_torn)
        return self._ask(self.command, self.path, body, dict(self.headers))

    def _pass_part_on(self, upload: _Upload, body: bytes, *, is_torn: bool) -> _Answer:
        """Give the server what it has not got yet of a part; tell what it has."""
        span, _, total = self.headers["Content-Range"].removeprefix("bytes ").partition("/")
        if upload.answer is not None:
            return upload.answer
        first = upload.has if span == "*" else int(span.partition("-")[0])
        assert first <= upload.has, "a gap"
        rest = body[upload.has - first :]
        self.server.proxy.sent_again += len(body) - len(rest)
        end = upload.has + len(rest)
        is_last = not is_torn and total == str(end)
        if rest or is_last:
            given = f"{upload.has}-{end - 1}" if rest else "*"
            headers = {"Content-Range": f"bytes {given}/{end if is_last else '*'}"}
            answer = self._ask("PUT", self.path, rest, headers)
            upload.has = end
            if is_last or answer.status not in {200, 308}:
                upload.answer = answer
                return answer
        got = {"Range": f"bytes=0-{upload.has - 1}"} if upload.has else {}
        return _Answer(308, got, b"")

    def _move(self, bucket: str, source: str, target: str) -> _Answer:
        path = f"/storage/v1/b/{bucket}/o/"
        if self._ask("GET", path + target).status == http.client.OK:
            return _error(412, "conditionNotMet")
        copied = self._ask("POST", f"{path}{source}/rewriteTo/b/{bucket}/o/{target}")
        if copied.status != http.client.OK:
            return copied
        self._ask("DELETE", path + source)
        return _Answer(200, {}, json.dumps(json.loads(copied.body)["resource"]).encode())

    def _ask(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> _Answer:
        proxy = self.server.proxy
        asked = {
            k: v for k, v in (headers or {}).items() if k.lower() not in {*_HOP_BY_HOP, "host"}
        }
        upstream = http.client.HTTPConnection(proxy.server.address, timeout=60)
        try:
            upstream.request(method, path, body, {**asked, "Content-Length": str(len(body))})
            response = upstream.getresponse()
            content = response.read()
        finally:
            upstream.close()
        kept = {k: v for k, v in response.getheaders() if k.lower() not in _HOP_BY_HOP}
        if "Location" in kept:
            kept["Location"] = kept["Location"].replace(proxy.server.url, proxy.url)
        return _Answer(response.status, kept, content)

    def _answer(self, answer: _Answer, *, is_cut: bool = False) -> None:
        self.server.proxy.count(len(answer.body))
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body[: len(answer.body) // 2] if is_cut else answer.body)
        if is_cut:
            self._reset()

    def _reset(self) -> None:
        """End the connection as a crashed peer does, by a reset."""
        self.close_connection = True
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()
        self.wfile.close()
        self.connection.close()


def _can_fail(kind: str, path: str) -> bool:
    """Tell whether a request may meet with a fault: only a create is refused with 412."""
    begins = "uploadType=resumable" in path and "upload_id=" not in path
    creates = "ifGenerationMatch=0" in path or "upload_id=" in path
    return kind != "412" or (creates and not begins)


def _error(status: int, text: str) -> _Answer:
    body = {"error": {"code": status, "message": text, "errors": [{"message": text}]}}
    return _Answer(status, {"Content-Type": "application/json"}, json.dumps(body).encode())
