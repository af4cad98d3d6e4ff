"""What files say of themselves: size, checksum, and the positions of their rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from batch_collection.checksum import file_crc32c
from batch_collection.collection import open_published
from batch_collection.formats import Told, format_of

if TYPE_CHECKING:
    from batch_collection.file_types import FileTypes
    from batch_collection.storage import Storage

__all__ = [
    "FileRows",
    "batch_rows",
    "carry_rows",
    "dead_letter_rows",
    "published_crc32c",
    "spans",
]


class FileRows(NamedTuple):
    """How many rows a file has, and their positions as arrays (None: it has no such columns)."""

    total: int
    partitions: Any
    offsets: Any
    indexes: Any


def published_crc32c(storage: Storage, path: str, staged: str) -> tuple[int, str]:
    """Return the size and CRC-32C of a file that an entry names, wherever its publishing stands.

    Raises:
        FileNotFoundError: it is at neither of its names.
    """
    for name in (path, staged, path):
        try:
            return file_crc32c(storage, name)
        except FileNotFoundError:
            continue
    raise FileNotFoundError(path)


def batch_rows(storage: Storage, path: str, staged: str, types: FileTypes, cycle: int) -> FileRows:
    """Read a batch file of a cycle, without its payload."""
    columns = ["_partition", "_offset", "_index"]
    source = open_published(storage, path, staged)
    told = Told(None, lambda: types.of(cycle, path))
    table = format_of(path).read(source, path, columns, told)
    if not {"_partition", "_offset"} <= set(table.column_names):
        return FileRows(table.num_rows, None, None, None)
    return _positions(table, *columns)


def dead_letter_rows(storage: Storage, path: str, staged: str) -> FileRows:
    """Read a file of dead letters."""
    with open_published(storage, path, staged) as source, pq.ParquetFile(source) as file:
        return _positions(file.read(columns=["partition", "offset"]), "partition", "offset", "")


def carry_rows(storage: Storage, path: str) -> FileRows:
    """Read a carry file, record batch by record batch."""
    columns = ["partition", "offset", "index"]
    with storage.open(path) as source, pa.ipc.open_stream(source) as stream:
        parts = [batch.select([c for c in columns if c in batch.schema.names]) for batch in stream]
    return _positions(pa.Table.from_batches(parts), *columns)


def _positions(table: pa.Table, partition: str, offset: str, index: str) -> FileRows:
    zeros = np.zeros(table.num_rows, np.int64)
    return FileRows(
        total=table.num_rows,
        partitions=_integers(table.column(partition)),
        offsets=_integers(table.column(offset)),
        indexes=_integers(table.column(index)) if index in table.column_names else zeros,
    )


def _integers(column: pa.ChunkedArray) -> Any:
    """Return a column as int64; a null index is that of a message that is no array."""
    return column.cast(pa.int64()).fill_null(0).to_numpy()


def spans(rows: FileRows) -> dict[int, tuple[int, int, int]]:
    """Return, by partition, the first and last offset and the rows."""
    found = {}
    for partition in np.unique(rows.partitions).tolist():
        offsets = rows.offsets[rows.partitions == partition]
        found[partition] = (int(offsets.min()), int(offsets.max()), len(offsets))
    return found
