"""Announcements over HTTP, to receivers that behave and others."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from batch_collection.errors import CollectionError
from pipeline.announcing import webhook
from pipeline.announcing.contract import Announcement, UndeliveredError
from pipeline.announcing.webhook import Webhook, parsed_secret, signed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - an example
ANNOUNCEMENT = Announcement("an-id", {"id": "an-id", "subject": "windows/w.r1.json", "data": {}})


class Receiver(BaseHTTPRequestHandler):
    """Notes what comes, and answers as a test says."""

    server: _Server

    def do_POST(self) -> None:
        """Take an announcement."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.taken.append((dict(self.headers), body))
        self.server.answer(self)

    def log_message(self, *_arguments: Any) -> None:
        """Keep quiet."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    taken: list[tuple[dict[str, str], bytes]]
    answer: Callable[[BaseHTTPRequestHandler], None]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook?key=secret"


def answering(code: int, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """Answer always the same."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def hanging_up(handler: BaseHTTPRequestHandler) -> None:
    """Lose the answer."""
    handler.connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def receiver(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[_Server]:
    """Run a receiver."""
    server = _Server(("127.0.0.1", 0), Receiver)
    server.taken, server.answer = [], answer
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_it_is_signed_by_the_rules() -> None:
    """The example that libraries of Standard Webhooks are tested with."""
    headers = signed(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
        parsed_secret(SECRET + "\n"),
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@pytest.mark.parametrize("text", ["", "whsec_c2hvcnQ=", SECRET[6:], "whsec_%%%%"])
def test_what_is_no_secret_is_refused_and_not_shown(text: str) -> None:
    """Too short, without its beginning, not base64."""
    with pytest.raises(ValueError, match="must hold whsec_ and 24 to 64 bytes") as found:
        parsed_secret(text)
    assert not text or text not in str(found.value)


def test_an_announcement_is_posted_as_a_cloud_event() -> None:
    """What is signed is the body that comes, at the time of the request."""
    with receiver(answering(204)) as server:
        hook = Webhook(server.url, parsed_secret(SECRET), clock=lambda: 1614265330.7)
        hook.publish(ANNOUNCEMENT)
    ((headers, body),) = server.taken
    assert json.loads(body) == ANNOUNCEMENT.event
    assert headers["Content-Type"] == "application/cloudevents+json; charset=UTF-8"
    expected = signed("an-id", 1614265330, body, parsed_secret(SECRET))
    assert {name.lower(): value for name, value in headers.items()}.items() >= expected.items()


def test_without_a_secret_nothing_is_signed() -> None:
    """The id is there all the same."""
    with receiver(answering(200)) as server:
        Webhook(server.url).publish(ANNOUNCEMENT)
    names = {name.lower() for name in server.taken[0][0]}
    assert {"webhook-id", "webhook-timestamp"} <= names
    assert "webhook-signature" not in names


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (answering(500), "it answered 500 Internal Server Error"),
        (answering(429), "it answered 429 Too Many Requests"),
        (answering(307, Location="http://127.0.0.1:1/"), "it answered 307 Temporary Redirect"),
        (hanging_up, "Remote end closed connection without response"),
    ],
)
def test_any_other_answer_means_that_it_comes_again(
    answer: Callable[[BaseHTTPRequestHandler], None], why: str
) -> None:
    """The error shows the host, and not the rest of the URL, which may hold a key."""
    with receiver(answer) as server, pytest.raises(UndeliveredError) as found:
        Webhook(server.url).publish(ANNOUNCEMENT)
    host = server.url.removesuffix("/hook?key=secret")
    assert str(found.value) == f"cannot announce windows/w.r1.json to {host}: {why}"
    assert len(server.taken) == 1


def test_a_receiver_that_hangs_or_is_away_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """After ten seconds, or at once."""
    monkeypatch.setattr(webhook, "_SECONDS", 0.2)
    over = threading.Event()

    def hang(_: BaseHTTPRequestHandler) -> None:
        over.wait(10)

    with receiver(hang) as server:
        with pytest.raises(UndeliveredError, match="timed out"):
            Webhook(server.url).publish(ANNOUNCEMENT)
        over.set()
    with pytest.raises(UndeliveredError, match="Connection refused"):
        Webhook(server.url).publish(ANNOUNCEMENT)


def test_gone_means_for_ever() -> None:
    """As Standard Webhooks says of 410."""
    with receiver(answering(410)) as server, pytest.raises(CollectionError, match="410") as found:
        Webhook(server.url).publish(ANNOUNCEMENT)
    assert not isinstance(found.value, UndeliveredError)


@pytest.mark.parametrize(
    "url",
    [
        *("https://", "https://user:pw@host/", "ftp://host/", "https://a b", "https://h:99999/"),
        *("https://h:y/", "https://h:0/", "https://:1/", "https://[::1/"),
    ],
)
def test_a_url_is_checked(url: str) -> None:
    """A login in it would be shown by whoever logs URLs."""
    with pytest.raises(
        CollectionError, match="must be a URL as https://host/path, without a login"
    ):
        Webhook(url)
