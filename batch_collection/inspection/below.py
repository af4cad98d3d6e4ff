"""Which collections lie in a directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_collection.log.entries import is_collection
from batch_collection.storage.opening import open_storage

if TYPE_CHECKING:
    from batch_collection.storage.contract import Storage

__all__ = ["collections_below"]


def collections_below(uri: str) -> dict[str, Storage]:
    """Return the collections in a directory by their names, sorted; itself, if it is one.

    Raises:
        StorageError: the directory can't be listed.
    """
    root = open_storage(uri)
    if is_collection(root):
        return {root.uri.rstrip("/").rpartition("/")[2]: root}
    found = {name: open_storage(f"{root.uri}/{name}") for name in sorted(root.folders())}
    return {name: each for name, each in found.items() if is_collection(each)}
