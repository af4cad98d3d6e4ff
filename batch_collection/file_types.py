"""What types the columns of a file have, as the log tells it: JSON lines do not say it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from batch_collection.errors import ExpiredError
from batch_collection.log import read_entry
from batch_collection.names import staged_cycle
from batch_collection.schema import merge, to_arrow

if TYPE_CHECKING:
    from batch_collection.entry import Entry
    from batch_collection.formats import Types
    from batch_collection.schema import Schema
    from batch_collection.storage import Storage

__all__ = ["METADATA_TYPES", "FileTypes"]

METADATA_TYPES: Types = {
    "_partition": pa.int32(),
    "_offset": pa.int64(),
    "_timestamp": pa.timestamp("ms", "UTC"),
    "_index": pa.int32(),
    "_key": pa.binary(),
}
"""The metadata's columns in every collection; ``_headers`` has the type of its form."""

_HEADERS = {
    "map": pa.map_(pa.string(), pa.binary()),
    "list": pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())])),
}
_MOST_ENTRIES = 64


class _Entry(NamedTuple):
    """What an entry says of types: those of its columns, and those that some of its files have."""

    columns: Schema
    headers: str
    of_files: dict[str, Schema]
    waited: tuple[int, ...]
    is_exact: bool


class FileTypes:
    """Tells the types of files by their entries, the last few of which it keeps."""

    def __init__(self, storage: Storage) -> None:
        """Read nothing yet."""
        self._storage = storage
        self._entries: dict[int, _Entry] = {}

    def of(self, cycle: int, path: str) -> tuple[Types, ...]:
        """Return what the columns of an entry's file may be, the likeliest first.

        Rows that waited while a type was changed may have kept the old one. In format 2 their entry
        says so; before that they may have the types of any cycle that let them wait.

        Raises:
            LogError: the entry is gone or can't be read.
        """
        entry = self._entry(cycle)
        found = [entry.columns | entry.of_files.get(path, {})]
        for earlier in () if entry.is_exact else entry.waited:
            try:
                columns = self._entry(earlier).columns
            except ExpiredError:
                continue
            found.append(merge(columns, entry.columns, widen=False))
        unique = [types for place, types in enumerate(found) if types not in found[:place]]
        return tuple(_arrow(types, entry.headers) for types in unique)

    def _entry(self, cycle: int) -> _Entry:
        found = self._entries.get(cycle)
        if found is None:
            found = _told(read_entry(self._storage, cycle))
            for known in list(self._entries)[: -_MOST_ENTRIES + 1]:
                self._entries.pop(known, None)
            self._entries[cycle] = found
        return found


def _told(entry: Entry) -> _Entry:
    waited = {staged_cycle(path) for path in entry.released}
    return _Entry(
        columns=entry.schema,
        headers=entry.headers,
        of_files={file.path: file.types for file in entry.files if file.types},
        waited=tuple(sorted((cycle for cycle in waited if cycle is not None), reverse=True)),
        is_exact=entry.format > 1,
    )


def _arrow(columns: Schema, headers: str) -> Types:
    metadata = {**METADATA_TYPES, "_headers": _HEADERS[headers]}
    return metadata | {field.name: field.type for field in to_arrow(columns)}
