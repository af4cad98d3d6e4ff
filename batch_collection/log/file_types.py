"""What types the columns of a file have, as the log tells it: JSON lines do not say it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from batch_collection.errors import ExpiredError
from batch_collection.log.entries import read_entry
from batch_collection.paths import staged_cycle
from batch_collection.schema.arrow import to_arrow
from batch_collection.schema.types import merge

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from batch_collection.formats.told import Types
    from batch_collection.log.entry import Entry
    from batch_collection.schema.types import Schema
    from batch_collection.storage.contract import Storage

__all__ = ["METADATA_TYPES", "FileTypes"]


METADATA_TYPES: Types = {
    "_partition": pa.int32(),
    "_offset": pa.int64(),
    "_timestamp": pa.timestamp("ms", "UTC"),
    "_index": pa.int32(),
    "_key": pa.binary(),
    "_message_id": pa.string(),
    "_publish_time": pa.timestamp("us", "UTC"),
    "_ordering_key": pa.string(),
    "_attributes": pa.list_(pa.struct([("key", pa.string()), ("value", pa.string())])),
}
"""The metadata's columns of all sources; ``_headers`` has the type of the collection's form."""

_HEADERS = {
    "map": pa.map_(pa.string(), pa.binary()),
    "list": pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())])),
}
_MOST_ENTRIES = 64
_MOST_WAITED = 16


class _Entry(NamedTuple):
    """What an entry says of types: those of its columns, and those that some of its files have."""

    columns: Schema
    headers: str
    of_files: dict[str, Schema]
    waited: frozenset[int]
    is_exact: bool


class FileTypes:
    """Tells the types of files by their entries, the last few of which it keeps."""

    def __init__(self, storage: Storage, known: Iterable[Entry] = ()) -> None:
        """Read nothing yet; ``known`` entries need not be read."""
        self._storage = storage
        self._entries = {entry.cycle: _told(entry) for entry in known}

    def know(self, entry: Entry) -> None:
        """Take in an entry that is about to be asked for; it need not be read."""
        self._keep(entry.cycle, _told(entry))

    def of(self, cycle: int, path: str) -> tuple[Types, ...]:
        """Return what the columns of an entry's file may be, the likeliest first.

        Rows that waited while a type was changed may have kept the old one. In format 2 their entry
        says so; before that they may have the types of the cycles that let them wait.

        Raises:
            LogError: the entry is gone or can't be read.
        """
        entry = self._entry(cycle)
        found = [entry.columns | entry.of_files.get(path, {})]
        if not entry.is_exact:
            earlier = (one.columns for one in self._waited(entry))
            found += [merge(columns, entry.columns, widen=False) for columns in earlier]
        unique = [types for place, types in enumerate(found) if types not in found[:place]]
        return tuple(_arrow(types, entry.headers) for types in unique)

    def _waited(self, entry: _Entry) -> Iterator[_Entry]:
        """Yield the last few entries by which rows waited, newest first."""
        cycles = set(entry.waited)
        for _ in range(_MOST_WAITED):
            if not cycles:
                return
            cycle = max(cycles)
            cycles.remove(cycle)
            with contextlib.suppress(ExpiredError):
                found = self._entry(cycle)
                cycles |= found.waited
                yield found

    def _entry(self, cycle: int) -> _Entry:
        found = self._entries.get(cycle)
        if found is None:
            found = _told(read_entry(self._storage, cycle))
            self._keep(cycle, found)
        return found

    def _keep(self, cycle: int, told: _Entry) -> None:
        for known in list(self._entries)[: -_MOST_ENTRIES + 1]:
            self._entries.pop(known, None)
        self._entries[cycle] = told


def _told(entry: Entry) -> _Entry:
    waited = map(staged_cycle, entry.released)
    return _Entry(
        columns=entry.schema,
        headers=entry.headers,
        of_files={file.path: file.types for file in entry.files if file.types},
        waited=frozenset(cycle for cycle in waited if cycle is not None),
        is_exact=entry.format > 1,
    )


def _arrow(columns: Schema, headers: str) -> Types:
    metadata = {**METADATA_TYPES, "_headers": _HEADERS[headers]}
    return metadata | {field.name: field.type for field in to_arrow(columns)}
