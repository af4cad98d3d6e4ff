"""The storages there are; adding one is a line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_collection.storage.gcs_opening import open_bucket
from batch_collection.storage.local import open_directory

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_collection.storage.contract import Storage


__all__ = ["DIRECTORY", "STORAGES"]


DIRECTORY = None
"""The scheme of a path, which has none."""

STORAGES: dict[str | None, Callable[[str], Storage]] = {
    DIRECTORY: open_directory,
    "gs": open_bucket,
}
"""What opens a URI, by its scheme.

It costs next to nothing, and nothing is looked up. Client libraries are imported only then.
"""
