"""Open the storage that a path or a URI names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from batch_collection.errors import StorageError
from batch_collection.storage.local import LocalStorage

if TYPE_CHECKING:
    from batch_collection.storage.contract import Storage


__all__ = ["open_storage"]

_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")


def open_storage(uri: str) -> Storage:
    """Return the storage that ``uri`` names: a local path, or ``gs://bucket/prefix``.

    It costs next to nothing: nothing is looked up, and a process keeps one connection.

    Raises:
        StorageError: no storage of that kind is known, or a bucket's name is missing.
    """
    scheme, separator, rest = uri.partition("://")
    if uri.startswith("gs:/") and not separator:
        message = f"{uri} is no directory; give gs://bucket/prefix as text: a Path drops a slash"
        raise StorageError(message)
    if not separator:
        return LocalStorage(str(Path(uri).expanduser().absolute()))
    if scheme != "gs":
        message = f"unknown storage {scheme}://; give a local directory or gs://bucket/prefix"
        raise StorageError(message)
    bucket, _, prefix = rest.partition("/")
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
