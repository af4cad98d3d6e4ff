"""Where a follower stands in the log, remembered under a name."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from batch_collection.errors import CollectionError, LogError
from batch_collection.names import cursor_path, entry_path

if TYPE_CHECKING:
    from batch_collection.storage import Storage

__all__ = ["Cursor"]

_CURSOR = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Cursor:
    """A follower's place: the next batch is number ``index`` of the entry of ``cycle``."""

    def __init__(self, storage: Storage, name: str) -> None:
        """Name a place in a storage.

        Raises:
            CollectionError: ``name`` is none for a file.
        """
        if not _CURSOR.fullmatch(name):
            message = (
                f"cursor must be up to 100 letters, digits, '.', '_' or '-', got {name!r}; "
                "give a name such as my-group"
            )
            raise CollectionError(message)
        self._storage, self._path = storage, cursor_path(name)

    def load(self, first: tuple[int, int]) -> tuple[int, int]:
        """Return the place, ``first`` if there is none; that is remembered, too."""
        try:
            content = self._storage.read(self._path)
        except FileNotFoundError:
            self.store(*first)
            return first
        cycle, index = self._parse(content)
        self._check_reached(cycle if index else cycle - 1)
        return cycle, index

    def store(self, cycle: int, index: int) -> None:
        """Remember a place, durably."""
        content = json.dumps({"format": 1, "cycle": cycle, "index": index})
        self._storage.replace(self._path, content.encode() + b"\n")

    def _parse(self, content: bytes) -> tuple[int, int]:
        try:
            fields: dict[str, Any] = json.loads(content)
            return int(fields["cycle"]), int(fields["index"])
        except (ValueError, KeyError, TypeError) as error:
            message = (
                f"cannot read cursor {self._storage.uri}/{self._path}; remove it to start again"
            )
            raise CollectionError(message) from error

    def _check_reached(self, cycle: int) -> None:
        """Refuse a place that the log never had: the collection was made anew under the cursor."""
        if cycle >= 0 and self._storage.size(entry_path(cycle)) is None:
            message = (
                f"cursor {self._path} stands after cycle={cycle}, which the log of "
                f"{self._storage.uri} does not have; remove it to start again"
            )
            raise LogError(message)
