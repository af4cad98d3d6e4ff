"""How a collection is read: the batches that its log names, in order, and nothing else."""

from __future__ import annotations

import json
import os
import re
import time
import zlib
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from batch_collection.errors import CollectionError, LogError, StorageError
from batch_collection.formats import format_of
from batch_collection.log import newest_entry, read_entries, read_entry
from batch_collection.names import cursor_path, cycle_name, entry_path
from batch_collection.storage import Storage, open_storage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from typing import BinaryIO

    from batch_collection.entry import BatchFile, Entry

__all__ = ["Batch", "Collection", "Window", "batches_of", "no_collection", "open", "open_published"]

_MOST_LOOKS = 100  # among folders, for a collection
_CURSOR = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class Batch:
    """At most ``--batch_size`` rows of one window, in one file.

    ``number`` is its place in the entry of its ``cycle``; both together are its identity, the same
    for ever. ``timing`` is ``early``, ``on_time`` or ``late``. ``path`` is relative to the
    collection.
    """

    window_start: datetime
    window_end: datetime
    timing: str
    cycle: int
    number: int
    rows: int
    path: str
    _storage: Storage = field(repr=False, compare=False)
    _file: BatchFile = field(repr=False, compare=False)

    @property
    def id(self) -> str:
        """The batch's identity, ``CYCLE-NUMBER``; ids sort as the log does."""
        return f"{cycle_name(self.cycle)}-{self.number:04d}"

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the batch's rows, all columns or those named, in that order.

        Raises:
            CollectionError: the batch has no such column (perhaps one that was added later).
        """
        rows = self._read(None if columns is None else list(columns))
        lacking = sorted(set(columns or ()) - set(rows.column_names))
        if lacking:
            message = (
                f"batch {self.id} has no column {', '.join(lacking)}; it has: "
                f"{', '.join(self._read(None).column_names)}"
            )
            raise CollectionError(message)
        return rows if columns is None else rows.select(list(columns))

    def _read(self, columns: list[str] | None) -> pa.Table:
        """Return the columns that are there."""
        source = open_published(self._storage, self._file.path, self._file.staged)
        try:
            return format_of(self.path).read(source, self.path, columns)
        except (pa.ArrowException, OSError, EOFError, zlib.error) as error:
            message = f"cannot read {self.path}: {error}; run `batch-collection audit`"
            raise StorageError(message) from error


@dataclass(frozen=True, slots=True)
class Window:
    """What a collection holds of one window; ``is_closed``: all that was in time is there."""

    start: datetime
    end: datetime
    rows: int
    is_closed: bool
    batches: tuple[Batch, ...]


class Collection:
    """A consistent view of a collection: all that was committed when it was opened, and no more.

    Iterating yields its batches in the order of the log.
    """

    def __init__(self, storage: Storage, newest: Entry) -> None:
        """Show what the log of ``storage`` names up to ``newest``."""
        self._storage, self.newest = storage, newest
        self._batches: tuple[Batch, ...] | None = None

    def __iter__(self) -> Iterator[Batch]:
        """Yield all batches."""
        return iter(self._all())

    def __len__(self) -> int:
        """Return how many batches there are."""
        return len(self._all())

    def __repr__(self) -> str:
        """Name the collection and where the view ends."""
        return f"Collection({self._storage.uri!r}, cycle={self.newest.cycle})"

    @property
    def rows(self) -> int:
        """How many rows all batches have."""
        return sum(batch.rows for batch in self)

    def windows(self) -> tuple[Window, ...]:
        """Return the windows that have batches, by time."""
        by_start: dict[datetime, list[Batch]] = {}
        for batch in self:
            by_start.setdefault(batch.window_start, []).append(batch)
        return tuple(self._window(batches) for _, batches in sorted(by_start.items()))

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return all rows; a column that a file lacks is null in its rows.

        Raises:
            CollectionError: no file has such a column, or two files give one column types that no
                type holds exactly.
        """
        wanted = None if columns is None else list(columns)
        tables = [batch._read(wanted) for batch in self]  # noqa: SLF001 - ours, in this module
        schema = _unified([table.schema for table in tables])
        lacking = sorted(set(wanted or ()) - set(schema.names))
        if lacking and tables:
            message = f"no batch of {self._storage.uri} has a column {', '.join(lacking)}"
            raise CollectionError(message)
        if not tables:
            return schema.empty_table()
        rows = pa.concat_tables([_widened(table, schema) for table in tables])
        return rows if wanted is None else rows.select(wanted)

    def follow(
        self,
        cursor: str,
        *,
        start: str = "earliest",
        poll: timedelta = timedelta(seconds=1),
        once: bool = False,
        wait: Callable[[float], object] = time.sleep,
    ) -> Iterator[Batch]:
        """Yield each committed batch in the order of the log, then wait for new ones.

        The place is remembered, durably, when the loop asks for the next batch: every batch comes
        at least once across crashes, and once without. A loop left by ``break`` or an exception
        gets its last batch again. One loop at a time may use a cursor.

        Args:
            cursor: The name under which ``cursors/`` remembers the place.
            start: Where a new cursor begins: ``earliest``, or ``latest`` for what is committed
                after this view was opened.
            poll: How often to look for a new entry.
            once: Stop at the end of the log.
            wait: Waits for so many seconds; a true answer ends the loop (``threading.Event.wait``).

        Raises:
            CollectionError: the cursor's name, its file or ``start`` is not usable.
        """
        if start not in {"earliest", "latest"}:
            message = f"start must be earliest or latest, got {start!r}"
            raise CollectionError(message)
        place = _Cursor(self._storage, cursor)
        first = (0, 0) if start == "earliest" else (self.newest.cycle + 1, 0)
        return self._follow(place, first, poll.total_seconds(), None if once else wait)

    def _follow(
        self,
        place: _Cursor,
        first: tuple[int, int],
        poll: float,
        wait: Callable[[float], object] | None,
    ) -> Iterator[Batch]:
        cycle, index = place.load(first)
        while True:
            while self._storage.size(entry_path(cycle)) is None:
                if wait is None or wait(poll):
                    return
            for batch in batches_of(self._storage, read_entry(self._storage, cycle))[index:]:
                yield batch
                place.store(cycle, batch.number + 1)
            cycle, index = cycle + 1, 0

    def _all(self) -> tuple[Batch, ...]:
        if self._batches is None:
            entries = read_entries(self._storage, 0, self.newest.cycle)
            self._batches = tuple(
                batch for entry in entries for batch in batches_of(self._storage, entry)
            )
        return self._batches

    def _window(self, batches: list[Batch]) -> Window:
        start, end = batches[0].window_start, batches[0].window_end
        boundary = self.newest.boundary
        return Window(
            start=start,
            end=end,
            rows=sum(batch.rows for batch in batches),
            is_closed=boundary is not None and end <= boundary,
            batches=tuple(batches),
        )


class _Cursor:
    """A follower's place: the next batch is number ``index`` of the entry of ``cycle``."""

    def __init__(self, storage: Storage, name: str) -> None:
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


def open(path: str | os.PathLike[str] | Storage) -> Collection:  # noqa: A001 - batch_collection.open
    """Open a collection as it is now.

    Args:
        path: Its directory, ``OUTPUT/NAME``, or the storage it lies in.

    Raises:
        LogError: there is no collection.
    """
    storage = open_storage(os.fspath(path)) if isinstance(path, (str, os.PathLike)) else path
    newest = newest_entry(storage)
    if newest is None:
        raise no_collection(storage)
    return Collection(storage, newest)


def no_collection(storage: Storage) -> LogError:
    """Return the error that says so, and names those one folder below, where users forget to go."""
    below = (f"{storage.uri}/{name}" for name in sorted(islice(storage.folders(), _MOST_LOOKS)))
    logs = [uri for uri in below if open_storage(uri).size(entry_path(0)) is not None][:3]
    others = f"; did you mean {' or '.join(logs)}?" if logs else ""
    return LogError(f"no collection in {storage.uri}: it has no {entry_path(0)}{others}")


def open_published(storage: Storage, path: str, staged: str) -> BinaryIO:
    """Open a file that an entry names, wherever its publishing stands.

    Raises:
        StorageError: it is at neither of its names.
    """
    for name in (path, staged, path):
        try:
            return storage.open(name)
        except FileNotFoundError:
            continue
    message = f"{storage.uri}/{path} is gone, though the log names it; run `batch-collection audit`"
    raise StorageError(message)


def batches_of(storage: Storage, entry: Entry) -> tuple[Batch, ...]:
    """Return the batches of one entry."""
    pairs = [(pane, file) for pane in entry.panes for file in pane.files]
    return tuple(
        Batch(
            window_start=pane.window_start,
            window_end=pane.window_end,
            timing=pane.timing,
            cycle=entry.cycle,
            number=number,
            rows=file.rows,
            path=file.path,
            _storage=storage,
            _file=file,
        )
        for number, (pane, file) in enumerate(pairs)
    )


def _unified(schemas: list[pa.Schema]) -> pa.Schema:
    fields: dict[str, pa.DataType] = {}
    for schema in schemas:
        for column in schema:
            fields[column.name] = _common_type(column.name, fields.get(column.name), column.type)
    return pa.schema(list(fields.items()))


def _common_type(name: str, one: pa.DataType | None, other: pa.DataType) -> pa.DataType:
    """Return the type that holds both exactly: nulls take any, structs gain fields, no more."""
    if one is None or one == other or pa.types.is_null(one):
        return other
    if pa.types.is_null(other):
        return one
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        return pa.struct(list(_unified([pa.schema(list(one)), pa.schema(list(other))])))
    if pa.types.is_list(one) and pa.types.is_list(other):
        return pa.list_(_common_type(name, one.value_type, other.value_type))
    message = (
        f"column {name} is {one} in some batches and {other} in others; "
        "read the batches one by one, or leave the column out"
    )
    raise CollectionError(message)


def _widened(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = [
        table.column(column.name).cast(column.type)
        if column.name in table.column_names
        else pa.nulls(table.num_rows, column.type)
        for column in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)
