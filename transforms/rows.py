"""Where rows wait for their batch: in memory, or in a file that takes the overflow."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa

from transforms.chunk import read_ipc, write_ipc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_collection.entry import CarryFile
    from batch_collection.storage import Storage

__all__ = ["Carried", "InMemory", "SpillFile", "Spilled", "carry_schema"]

_INDEXED = b"indexed"


@dataclass(frozen=True, slots=True)
class InMemory:
    """Rows (``POSITION`` and ``payload``) in memory."""

    table: pa.Table

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return int(self.table.num_rows)

    @property
    def schema(self) -> pa.Schema:
        """The rows' schema."""
        return self.table.schema

    @property
    def indexed(self) -> bool:
        """Whether any row comes from a message that holds an array."""
        return bool(self.table.column("index").null_count < self.table.num_rows)

    def pieces(self, start: int, rows: int) -> Iterator[pa.Table]:
        """Yield the rows ``[start, start + rows)``."""
        yield self.table.slice(start, rows)


@dataclass(frozen=True, slots=True)
class Spilled:
    """Rows at a place of a spill file."""

    file: SpillFile
    start: int
    size: int
    rows: int
    schema: pa.Schema
    indexed: bool

    def pieces(self, start: int, rows: int) -> Iterator[pa.Table]:
        """Yield the rows ``[start, start + rows)``, read back."""
        yield self.file.read(self.start, self.size).slice(start, rows)


@dataclass(frozen=True, slots=True)
class Carried:
    """Rows of a carry file."""

    storage: Storage
    path: str
    rows: int
    schema: pa.Schema
    indexed: bool

    @classmethod
    def of(cls, storage: Storage, file: CarryFile) -> Carried:
        """Look at a carry file; nothing but its schema is read."""
        with storage.open(file.path) as source, pa.ipc.open_stream(source) as reader:
            schema = reader.schema
        indexed = (schema.metadata or {}).get(_INDEXED) == b"1"
        return cls(storage, file.path, file.rows, schema.remove_metadata(), indexed)

    def pieces(self, start: int, rows: int) -> Iterator[pa.Table]:
        """Yield the rows ``[start, start + rows)``, one record batch after another."""
        with self.storage.open(self.path) as source, pa.ipc.open_stream(source) as reader:
            for batch in reader:
                piece = batch.slice(start, rows)
                start, rows = max(start - batch.num_rows, 0), rows - piece.num_rows
                if piece.num_rows:
                    yield pa.Table.from_batches([piece]).replace_schema_metadata()
                if not rows:
                    return


def carry_schema(schema: pa.Schema, *, indexed: bool) -> pa.Schema:
    """Return the schema of a carry file: that of its rows, and whether messages hold arrays."""
    return schema.with_metadata({_INDEXED: b"1" if indexed else b"0"})


@dataclass(slots=True)
class SpillFile:
    """A temporary file of Arrow tables, gone with the process."""

    _file: BinaryIO = field(default_factory=tempfile.TemporaryFile)
    _end: int = 0

    def spill(self, rows: InMemory) -> Spilled:
        """Write rows to the end of the file."""
        buffer = write_ipc(rows.table)
        self._file.seek(self._end)
        self._file.write(buffer)
        spilled = Spilled(self, self._end, buffer.size, rows.rows, rows.schema, rows.indexed)
        self._end += buffer.size
        return spilled

    def read(self, start: int, size: int) -> pa.Table:
        """Return the table at a place."""
        self._file.seek(start)
        return read_ipc(pa.py_buffer(self._file.read(size)))

    def close(self) -> None:
        """Give the disk space back."""
        self._file.close()
