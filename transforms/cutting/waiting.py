"""Where rows wait for their batch: in memory, or in a file that takes the overflow."""

from __future__ import annotations

import errno
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, BinaryIO, Protocol

import pyarrow as pa

from batch_collection.errors import DamagedFileError, FileGoneError
from batch_collection.log.entries import newest_cycle
from batch_collection.log.verified import decoding, open_verified
from transforms.cutting.row_bytes import ends_of, row_bytes, spread
from transforms.elements.headers import headers_as_list
from transforms.elements.tables import read_ipc, write_ipc

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt

    from batch_collection.log.entry import CarryFile
    from batch_collection.log.verified import Verified
    from batch_collection.storage.contract import Storage

__all__ = ["Carried", "InMemory", "RowSource", "SpillFile", "Spilled"]


class RowSource(Protocol):
    """Where rows (``position_of``, ``payload``) wait; read as often as asked, always the same."""

    @property
    def rows(self) -> int:
        """How many rows it has."""

    @property
    def schema(self) -> pa.Schema | None:
        """The rows' schema; None: types of before, which the plan's must hold exactly."""

    @property
    def indexed(self) -> bool:
        """Whether any row comes from a message that holds an array."""

    def pieces(self, start: int, rows: int) -> Iterator[pa.Table]:
        """Yield the rows ``[start, start + rows)``, in tables of one schema."""

    @property
    def ends(self) -> npt.NDArray[np.int64]:
        """How many bytes (``row_bytes``) come before each row, and before its end."""


@dataclass(frozen=True)
class InMemory:
    """Rows (``position_of``, ``payload``) in memory."""

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

    @cached_property
    def ends(self) -> npt.NDArray[np.int64]:
        """Count the bytes of rows."""
        return ends_of(row_bytes(self.table.column("payload")))


@dataclass(frozen=True)
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

    @cached_property
    def ends(self) -> npt.NDArray[np.int64]:
        """Count the bytes of rows, read back once."""
        return InMemory(self.file.read(self.start, self.size)).ends


@dataclass(frozen=True)
class Carried:
    """Rows of a carry file. Their columns are among those of the schema of the next plan.

    The types are those, too, unless another one was pinned since. The file is what the log says, or
    nothing is read of it.

    Attributes:
        cycle: the one that takes them up.
        verified: the files that were found unchanged in this attempt.
    """

    storage: Storage
    file: CarryFile
    cycle: int
    verified: Verified = field(default_factory=set, compare=False)

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return self.file.rows

    @property
    def schema(self) -> None:
        """Nothing that has to be looked at."""

    @property
    def indexed(self) -> bool:
        """Whether any row comes from a message that holds an array."""
        return self.file.indexed

    def pieces(self, start: int, rows: int) -> Iterator[pa.Table]:
        """Yield the rows ``[start, start + rows)``, one record batch after another.

        Raises:
            DamagedFileError: it is not the file that the log tells of.
            FileGoneError: it isn't there.
            FileNotFoundError: another collector has taken it up meanwhile.
        """
        with self._opened() as reader:
            while rows and (batch := self._next(reader)) is not None:
                piece = batch.slice(start, rows)
                start, rows = max(start - batch.num_rows, 0), rows - piece.num_rows
                if piece.num_rows:
                    yield headers_as_list(pa.Table.from_batches([piece]))

    @cached_property
    def ends(self) -> npt.NDArray[np.int64]:
        """Spread what the log says of all rows over them; it may tell the file's bytes only."""
        return spread(self.file.size or self.file.bytes, self.file.rows)

    def _next(self, reader: pa.RecordBatchStreamReader) -> pa.RecordBatch | None:
        """Return the next record batch, None at the end: ``write_batch_files`` counts the rows."""
        with decoding(self.storage, self.file):
            return next(reader, None)

    @contextmanager
    def _opened(self) -> Iterator[pa.RecordBatchStreamReader]:
        with self._verified() as source:
            with decoding(self.storage, self.file):
                reader = pa.ipc.open_stream(source)
            with reader:
                yield reader

    def _verified(self) -> BinaryIO:
        """Open the file; first of all, whoever is late for its cycle has no need of it."""
        try:
            return open_verified(self.storage, self.file, self.verified)
        except (DamagedFileError, FileGoneError) as error:
            newest = newest_cycle(self.storage, self.cycle - 1)
            if newest is None or newest < self.cycle:
                raise
            what = f"it waited for cycle={self.cycle}, which was committed meanwhile"
            raise FileNotFoundError(errno.ENOENT, what, self.file.path) from error


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
