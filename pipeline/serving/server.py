"""The HTTP server: it answers what is asked, and holds nobody up."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from prometheus_client.exposition import choose_encoder

from batch_collection import __version__
from batch_collection.errors import CollectionError
from batch_collection.windows import format_instant, utc_now
from pipeline.serving.metrics import registry_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pipeline.serving.health import Trouble
    from pipeline.serving.views import CollectionView

__all__ = ["Served", "serving"]

_TEXT, _JSON, _HTML = "text/plain; charset=utf-8", "application/json", "text/html; charset=utf-8"
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
)
_PATHS = "/ping /ready /metrics /status.json /"


@dataclass(eq=False)
class Served:
    """What is served.

    Attributes:
        views: gives the collections that there are.
        reasons: gives why collecting does not go on as it should; nothing: it does.
        troubles: gives what went wrong lately.
    """

    views: Callable[[], Sequence[CollectionView]]
    reasons: Callable[[], Sequence[str]] = tuple
    troubles: Callable[[], Sequence[Trouble]] = tuple

    def __post_init__(self) -> None:
        """Make the registry of metrics."""
        self.registry = registry_of(self.views, lambda: not self.reasons())

    def described(self) -> dict[str, Any]:
        """Return all that the page shows; a collection that can't be read says why."""
        return {
            "version": __version__,
            "now": format_instant(utc_now()),
            "reasons": list(self.reasons()),
            "troubles": [
                {"at": format_instant(each.at), "text": each.text} for each in self.troubles()
            ],
            "collections": [_described(view) for view in self.views()],
        }


def _described(view: CollectionView) -> dict[str, Any]:
    try:
        return view.described()
    except CollectionError as error:
        return {"name": view.name, "lag": None, "status": None, "windows": [], "error": str(error)}


@contextmanager
def serving(host: str, port: int, served: Served) -> Iterator[str]:
    """Serve over HTTP as long as the block lasts, from threads of its own; yield the URL.

    Raises:
        CollectionError: the address can't be listened at.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        server = _Server(family, address[:2], served)
    except OSError as error:
        message = f"cannot listen at --http={host}:{port}: {error.strerror or error}"
        raise CollectionError(message) from error
    thread = threading.Thread(target=server.serve_forever, name="http", daemon=True)
    thread.start()
    shown = f"[{host}]" if ":" in host else host
    try:
        yield f"http://{shown}:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, family: int, address: Any, served: Served) -> None:
        self.address_family = family
        self.served = served
        super().__init__(address, _Handler)

    def handle_error(self, *_arguments: Any) -> None:
        """Leave it: a client has hung up."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    server_version = f"batch-collection/{__version__}"
    sys_version = ""
    timeout = 30

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        answers = {
            "/ping": self._ping,
            "/ready": self._ready,
            "/metrics": self._metrics,
            "/status.json": self._status,
            "/": self._page,
        }
        answers.get(path, self._not_found)()

    def do_HEAD(self) -> None:
        self.do_GET()

    def _ping(self) -> None:
        self._answer(HTTPStatus.OK, _TEXT, "ok\n")

    def _ready(self) -> None:
        reasons = self.server.served.reasons()
        code = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
        self._answer(code, _TEXT, "\n".join(reasons or ["ok"]) + "\n")

    def _metrics(self) -> None:
        encode, content_type = choose_encoder(self.headers.get("Accept", ""))
        self._answer(HTTPStatus.OK, content_type, encode(self.server.served.registry))

    def _status(self) -> None:
        self._answer(HTTPStatus.OK, _JSON, json.dumps(self.server.served.described()) + "\n")

    def _page(self) -> None:
        page = resources.files("pipeline.serving").joinpath("page.html").read_bytes()
        self._answer(HTTPStatus.OK, _HTML, page)

    def _not_found(self) -> None:
        self._answer(HTTPStatus.NOT_FOUND, _TEXT, f"there are: {_PATHS}\n")

    def _answer(self, code: HTTPStatus, content_type: str, text: str | bytes) -> None:
        body = text.encode() if isinstance(text, str) else text
        self.send_response(code)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", _POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_arguments: Any) -> None:
        """Keep quiet: who asks every second is no news."""
