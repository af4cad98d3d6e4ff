"""Open a bucket: only then is the client of Cloud Storage imported."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from batch_collection.errors import StorageError

if TYPE_CHECKING:
    from batch_collection.storage.contract import Storage

__all__ = ["open_bucket"]


_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")


def open_bucket(uri: str) -> Storage:
    """Return the storage of ``gs://bucket/prefix``.

    Raises:
        StorageError: the bucket's name is missing or none, or the client is not installed.
    """
    bucket, _, prefix = uri.removeprefix("gs://").partition("/")
    if not _BUCKET.fullmatch(bucket):
        what = f"the bucket {bucket!r}, which is no name of one" if bucket else "no bucket"
        message = f"{uri} names {what}; write gs://bucket/prefix"
        raise StorageError(message)
    try:
        from batch_collection.storage.gcs import GcsStorage  # noqa: PLC0415 - a directory needs none of it
    except ImportError as error:
        message = f"{uri} needs google-cloud-storage: {error}; pip install google-cloud-storage"
        raise StorageError(message) from error
    return GcsStorage(bucket, prefix.strip("/"))
