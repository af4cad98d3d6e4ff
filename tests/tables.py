"""Collections written from whole tables: what a collector leaves, without a collector."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import pyarrow as pa

import batch_collection
from batch_collection.formats.known import FORMATS
from batch_collection.log.entries import create_entry, digest
from batch_collection.log.entry import BatchFile, Entry, Pane
from batch_collection.paths import batch_path, entry_path, new_token, staged_path
from batch_collection.publishing.publish import publish
from batch_collection.reading.row_sequence import RowSequence
from batch_collection.schema.types import merge
from batch_collection.storage.checksum import ChecksumFile
from batch_collection.storage.local import LocalStorage
from tests.builders import first_entry, payload_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pytest

    from batch_collection.collection import Collection
    from batch_collection.reading.order import Slice
    from batch_collection.storage.contract import Storage

__all__ = ["FIRST", "MINUTE", "TableCollector", "ids", "numbered", "rows_read"]

FIRST = datetime(2026, 11, 22, 10, tzinfo=timezone.utc)
MINUTE = timedelta(minutes=1)


@dataclass
class TableCollector:
    """One call of ``collect`` is one cycle; windows are minutes, counted from 10:00."""

    storage: Storage
    newest: Entry
    format: str = "parquet"
    row_group: int = 128 * 1024
    compression: str | None = None

    @classmethod
    def at(
        cls, root: Path, file_format: str = "parquet", row_group: int = 128 * 1024
    ) -> TableCollector:
        """Begin a collection in a directory."""
        storage = LocalStorage(str(root))
        entry = create_entry(storage, first_entry(committed_at=FIRST))
        return cls(storage, entry, file_format, row_group)

    def collect(
        self,
        *files: tuple[int, pa.Table],
        closed: int | None = None,
        published: bool = True,
        types: Sequence[dict[str, Any]] = (),
        **changes: Any,
    ) -> Collection:
        """Commit files of ``(minute, rows)``; windows before minute ``closed`` are closed.

        ``types`` are those that a file has beside its entry's, ``changes`` other fields of that.
        """
        before, schema = self.newest, self.newest.schema
        for _, rows in files:
            schema = merge(schema, payload_of(rows), widen=False)
        panes = tuple(
            Pane(start, start + MINUTE, "early", rows.num_rows, (replace(file, types=own or {}),))
            for number, ((minute, rows), own) in enumerate(zip_longest(files, types))
            for start in (FIRST + minute * MINUTE,)
            for file in (self._file(number, start, rows),)
        )
        entry = replace(
            before,
            cycle=before.cycle + 1,
            plan=f"plan-{before.cycle + 1}",
            previous=digest(self.storage.read(entry_path(before.cycle))),
            cause="interval",
            panes=panes,
            schema=schema,
            boundary=before.boundary if closed is None else FIRST + closed * MINUTE,
        )
        self.newest = create_entry(self.storage, replace(entry, **changes))
        if published:
            publish(self.storage, self.newest)
        return batch_collection.open(self.storage)

    def _file(self, number: int, start: datetime, rows: pa.Table) -> BatchFile:
        form = FORMATS[self.format]
        compression = self.compression or next(iter(form.endings))
        path = batch_path(
            start, self.newest.cycle + 1, 0, number, new_token(), form.endings[compression]
        )
        staged = staged_path(self.newest.cycle + 1, path)
        with ChecksumFile(self.storage.write(staged)) as sink:
            writer = form.writer(sink, rows.schema, compression)
            for first in range(0, rows.num_rows, self.row_group):
                writer.write(rows.slice(first, self.row_group))
            writer.close()
        return BatchFile(
            path, staged, rows.num_rows, sink.bytes, sink.crc32c, start, start, {0: (0, 0, 0)}
        )


def numbered(start: int, stop: int) -> pa.Table:
    """Return rows ``id`` from ``start`` to ``stop``, and a device of seven each."""
    numbers = range(start, stop)
    return pa.table({"id": pa.array(numbers, pa.int64()), "device": [f"d{i % 7}" for i in numbers]})


def ids(view: Collection) -> list[int]:
    """Return the ids of all rows, in order."""
    found: list[int] = view.to_arrow(["id"]).column(0).to_pylist()
    return found


def rows_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return what learns how many rows each piece has that batches are cut from."""
    read: list[int] = []
    load = RowSequence.load

    def counted(self: RowSequence, slices: Sequence[Slice], schema: pa.Schema) -> pa.Table:
        found = load(self, slices, schema)
        read.append(found.num_rows)
        return found

    monkeypatch.setattr(RowSequence, "load", counted)
    return read
