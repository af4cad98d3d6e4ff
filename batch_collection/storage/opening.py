"""Open the storage that a path or a URI names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_collection.errors import StorageError
from batch_collection.storage.known import DIRECTORY, STORAGES

if TYPE_CHECKING:
    from batch_collection.storage.contract import Storage


__all__ = ["open_storage"]


def open_storage(uri: str) -> Storage:
    """Return the storage that ``uri`` names: a local path, or ``gs://bucket/prefix``.

    It costs next to nothing: nothing is looked up, and a process keeps one connection.

    Raises:
        StorageError: it is empty, no storage of that kind is known, or a bucket's name is missing.
    """
    if not uri:
        message = "a path is empty; name a directory, as collected, or gs://bucket/prefix"
        raise StorageError(message)
    scheme, separator, _ = uri.partition("://")
    opening = STORAGES.get(scheme if separator else DIRECTORY)
    if opening is None:
        known = ", ".join(f"{each}://bucket/prefix" for each in STORAGES if each is not DIRECTORY)
        message = f"unknown storage {scheme}://; give a local directory or {known}"
        raise StorageError(message)
    scheme, is_torn, _ = uri.partition(":/")
    if is_torn and not separator and scheme in STORAGES:
        message = (
            f"{uri} is no directory; give {scheme}://bucket/prefix as text: a Path drops a slash"
        )
        raise StorageError(message)
    return opening(uri)
