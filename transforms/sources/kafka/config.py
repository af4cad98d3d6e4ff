"""librdkafka properties that stay where they are: a worker reads them, no graph carries them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from batch_collection.errors import CollectionError
from batch_collection.storage.opening import open_storage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["SECRET_VERSION", "ConsumerConfig", "is_secret", "parse_properties", "read_config"]


SECRET_VERSION = re.compile(r"projects/[^/]+/secrets/[^/]+/versions/[^/]+")
"""A Secret Manager resource name, as ``projects/P/secrets/S/versions/latest``."""

_SECRET = re.compile(r"password|secret|jaas|token|private|\.key|key\.pem|oauthbearer\.config")
_MANAGER = "https://secretmanager.googleapis.com"
_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
_SECONDS = 30


class ConsumerConfig(Mapping[str, object]):
    """Properties that are given, over those of a file; the file is read where they are first used.

    Pickled, it carries the given ones and the file's name, never its content.
    """

    def __init__(self, given: Mapping[str, object], file: str) -> None:
        """Take what is known; ``file`` as in ``read_config``."""
        self.given, self.file = dict(given), file
        self._read: dict[str, object] | None = None

    def __getitem__(self, key: str) -> object:
        """Return a property."""
        return self._all()[key]

    def __iter__(self) -> Iterator[str]:
        """Yield the names."""
        return iter(self._all())

    def __len__(self) -> int:
        """Count the properties."""
        return len(self._all())

    def __repr__(self) -> str:
        """Show where they come from, and none of the file's."""
        return f"ConsumerConfig({self.given!r}, {self.file!r})"

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what was read."""
        return {"given": self.given, "file": self.file, "_read": None}

    def _all(self) -> dict[str, object]:
        if self._read is None:
            lines = enumerate(read_config(self.file).splitlines(), 1)
            found = parse_properties((f"{self.file}:{number}", line) for number, line in lines)
            self._read = {**found, **self.given}
        return self._read


def is_secret(key: str) -> bool:
    """Tell a property whose value nobody else is to see."""
    return _SECRET.search(key.lower()) is not None


def parse_properties(lines: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the properties of ``key=value`` lines, each given with where it stands.

    Raises:
        CollectionError: lines that aren't any, one line each; what they say may be secret, and is
            not shown.
    """
    pairs = [(where, *line.strip().partition("=")) for where, line in lines if _says(line)]
    wrong = [
        f"{where} must be key=value, got {'one without a key' if equals else 'no = in it'}"
        for where, key, equals, _ in pairs
        if not key.strip() or not equals
    ]
    if wrong:
        raise CollectionError(*wrong)
    return {key.strip(): value.strip() for _, key, _, value in pairs}


def _says(line: str) -> bool:
    """Tell a line from an empty one and a comment."""
    return bool(line.strip()) and not line.strip().startswith("#")


def read_config(file: str, secret_manager: str = _MANAGER) -> str:
    """Return the text of a local file, of ``gs://bucket/path``, or of a Secret Manager version.

    Raises:
        CollectionError: it can't be read; the text says what to mend.
    """
    try:
        if SECRET_VERSION.fullmatch(file):
            return _access(file, secret_manager)
        folder, _, name = file.rpartition("/")
        if not folder:
            folder = "." if name == file else "/"
        return open_storage(folder).read(name).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError, CollectionError) as error:
        reason = getattr(error, "strerror", None) or error
        message = f"cannot read --consumer_config={file} on this worker: {reason}"
        raise CollectionError(message) from error


def _access(version: str, endpoint: str) -> str:
    """Ask Secret Manager, as the worker's service account."""
    import base64  # noqa: PLC0415 - seldom needed, as all of these

    try:
        import google.auth  # noqa: PLC0415
        from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415
        from google.auth.transport.requests import AuthorizedSession  # noqa: PLC0415
    except ImportError as error:
        message = f"{error}; pip install google-auth requests"
        raise CollectionError(message) from error
    try:
        credentials, _ = google.auth.default(scopes=_SCOPES)
        answer = AuthorizedSession(credentials).get(
            f"{endpoint}/v1/{version}:access", timeout=_SECONDS
        )
    except GoogleAuthError as error:
        message = f"no credentials for Secret Manager: {error}"
        raise CollectionError(message) from error
    if not answer.ok:
        message = (
            f"Secret Manager answers {answer.status_code} {answer.reason}; let the workers' "
            "service account have roles/secretmanager.secretAccessor"
        )
        raise CollectionError(message)
    return base64.b64decode(answer.json()["payload"]["data"]).decode()
