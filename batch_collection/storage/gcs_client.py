"""The connection to Cloud Storage that a process keeps, and what its errors mean to a user."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import google.auth
import requests
from google.api_core import exceptions as api
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import AuthorizedSession
from google.cloud import storage
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from google.cloud.storage.retry import DEFAULT_RETRY

from batch_collection.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["EMULATOR", "SENDERS", "TIMEOUT", "Connection", "connection", "failing", "retry"]


EMULATOR = "STORAGE_EMULATOR_HOST"

TIMEOUT = (20, 60)
"""Seconds that a call may take to connect, and between two bytes of its answer."""

RETRY_SECONDS = 120.0
"""How long a call is tried again before it counts as failed."""

SENDERS = 8
"""Parts of large files on their way at once."""

_SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
_CONNECTIONS = 512  # kept open, so that threads don't make urllib3 throw some away, and warn
_MOST_TEXT = 300


class Connection(NamedTuple):
    """A client, the session below it, and the threads that send parts of files."""

    client: storage.Client
    session: AuthorizedSession
    senders: ThreadPoolExecutor


def retry() -> Any:
    """Return the client's own policy. All calls here may be repeated: see ``gcs``."""
    return DEFAULT_RETRY.with_delay(initial=0.2, maximum=20, multiplier=2).with_timeout(
        RETRY_SECONDS
    )


def connection() -> Connection:
    """Return this process's connection, made when it is first asked for.

    Raises:
        google.auth.exceptions.GoogleAuthError: there are no credentials, or bad ones.
    """
    return _connect(os.getpid(), os.environ.get(EMULATOR))


@functools.lru_cache(maxsize=8)
def _connect(pid: int, emulator: str | None) -> Connection:  # noqa: ARG001 - after a fork anew
    credentials: Any = AnonymousCredentials()
    if not emulator:
        credentials, _ = google.auth.default(scopes=[_SCOPE])
    session = AuthorizedSession(credentials)
    for scheme in ("http://", "https://"):
        session.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=_CONNECTIONS))
    client = storage.Client(project=None, credentials=credentials, _http=session)
    # for traces, of which we make none, it would look the bucket up behind each missing object
    client._bucket_metadata_cache = None  # noqa: SLF001
    return Connection(client, session, ThreadPoolExecutor(SENDERS, "upload"))


@contextlib.contextmanager
def failing(verb: str, bucket: str, path: str) -> Iterator[None]:
    """Turn what the client says into one clear line; a missing object is a FileNotFoundError."""
    try:
        yield
    except api.NotFound as error:
        if verb not in {"create", "list", "write"} and "bucket does not exist" not in str(error):
            raise FileNotFoundError(
                errno.ENOENT, f"no such object in bucket={bucket}", path
            ) from error
        message = f"cannot {verb} {path}: bucket={bucket} does not exist; create it first"
        raise StorageError(message) from error
    except api.PreconditionFailed as error:
        message = f"cannot {verb} {path}: File exists in bucket={bucket}"
        raise StorageError(message) from error
    except (api.Forbidden, api.Unauthorized) as error:
        message = (
            f"cannot {verb} {path} in bucket={bucket}: {_text(error)}; grant the account the role "
            "Storage Object User"
        )
        raise StorageError(message) from error
    except GoogleAuthError as error:
        message = (
            f"cannot {verb} {path} in bucket={bucket}: no usable Google credentials: "
            f"{_text(error)}; name a key file in GOOGLE_APPLICATION_CREDENTIALS, or log in with "
            "`gcloud auth application-default login`"
        )
        raise StorageError(message) from error
    except (
        api.GoogleAPIError,
        requests.RequestException,
        InvalidResponse,
        DataCorruption,
    ) as error:
        message = f"cannot {verb} {path} in bucket={bucket}: {_text(error)}"
        raise StorageError(message) from error


def _text(error: BaseException) -> str:
    """Return what the service said, in one line."""
    if isinstance(error, api.RetryError) and error.cause is not None:
        return f"{_text(error.cause)} (tried again for {RETRY_SECONDS:.0f}s)"
    response = getattr(error, "response", None)
    if isinstance(response, requests.Response):  # uploads and downloads quote it with its request
        error = api.from_http_response(response)
    said = [each["message"] for each in getattr(error, "errors", ()) if "message" in each]
    text = said[0] if said else getattr(error, "message", None) or (error.args or (error,))[0]
    return " ".join(str(text).split()).rstrip(".")[:_MOST_TEXT]
