"""Announcements over HTTP: CloudEvents, signed by the rules of Standard Webhooks."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import http.client
import re
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from batch_collection import __version__
from batch_collection.errors import CollectionError, in_one_line
from pipeline.announcing.contract import CONTENT_TYPE, UndeliveredError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pipeline.announcing.contract import Announcement

__all__ = ["Webhook", "parsed_secret", "signed"]

_SECONDS = 10.0
_PREFIX = "whsec_"
_LEAST, _MOST = 24, 64  # bytes of a secret, by Standard Webhooks
_ANSWER_BYTES = 200
_URL = re.compile(r"https?://[^\s/?#@]+([/?#]\S*)?")


class Webhook:
    """Posts announcements to a URL; any answer of 200 to 299 means that it has them.

    410 means that it wants no more. A redirection is not followed: what is signed would go to
    somebody whom nobody named.
    """

    def __init__(
        self, url: str, secret: bytes | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        """Take a URL, and what to sign with; None: announcements are not signed.

        Raises:
            CollectionError: it is no URL that can be posted to.
        """
        if not _URL.fullmatch(url) or not _has_host(url):
            message = (
                "a webhook must be a URL as https://host/path, without a login in it; "
                "sign with --secret_file instead"
            )
            raise CollectionError(message)
        self._url, self._secret, self._clock = url, secret, clock
        parts = urlsplit(url)
        self.name = f"{parts.scheme}://{parts.netloc}"
        self._open = urllib.request.build_opener(_NoRedirection()).open

    def publish(self, announcement: Announcement) -> None:
        """Post one; see ``Publisher``."""
        body = announcement.body
        headers = {"Content-Type": CONTENT_TYPE, "User-Agent": f"batch-collection/{__version__}"}
        headers |= signed(announcement.id, int(self._clock()), body, self._secret)
        asked = urllib.request.Request(self._url, body, headers, method="POST")  # noqa: S310 - http
        try:
            with self._open(asked, timeout=_SECONDS) as answer:
                answer.read(_ANSWER_BYTES)
        except urllib.error.HTTPError as error:
            with error:
                if error.code == http.HTTPStatus.GONE:
                    message = f"{self.name} wants no more announcements (410 Gone)"
                    raise CollectionError(message) from error
                why = f"it answered {error.code} {error.reason}"
                raise self._undelivered(announcement, why) from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            why = in_one_line(reason) if isinstance(reason, Exception) else str(reason)
            raise self._undelivered(announcement, why) from error

    def _undelivered(self, announcement: Announcement, why: str) -> UndeliveredError:
        message = f"cannot announce {announcement.event['subject']} to {self.name}: {why}"
        return UndeliveredError(message)

    def close(self) -> None:
        """Do nothing: each announcement has a connection of its own."""


def _has_host(url: str) -> bool:
    """Tell whether host and port can be asked for."""
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    """Makes a redirection an error like any other answer."""

    def redirect_request(self, *_arguments: Any, **_named: Any) -> None:
        return None


def signed(name: str, seconds: int, body: bytes, secret: bytes | None) -> Mapping[str, str]:
    """Return the headers of Standard Webhooks 1.0 (standardwebhooks.com), the signature with a key.

    Args:
        name: the announcement's id, by which a receiver knows one that it has already.
        seconds: since 1970, when it is sent.
        body: what is sent.
        secret: the key; None: no signature.
    """
    headers = {"webhook-id": name, "webhook-timestamp": str(seconds)}
    if secret is not None:
        content = f"{name}.{seconds}.".encode() + body
        digest = hmac.new(secret, content, hashlib.sha256).digest()
        headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
    return headers


def parsed_secret(text: str) -> bytes:
    """Return the key of a secret as Standard Webhooks writes it, ``whsec_`` and base64.

    Raises:
        ValueError: it is none; the secret is not in the text.
    """
    try:
        key = base64.b64decode(text.strip().removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not text.strip().startswith(_PREFIX) or not _LEAST <= len(key) <= _MOST:
        message = f"must hold {_PREFIX} and {_LEAST} to {_MOST} bytes in base64"
        raise ValueError(message)
    return key
