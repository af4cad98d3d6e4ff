"""What files say of themselves: size, checksum, and the positions of their rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from batch_collection.errors import CollectionError, in_one_line
from batch_collection.formats.known import format_of
from batch_collection.formats.told import Told
from batch_collection.log.entry import CarryFile
from batch_collection.parallel import AT_ONCE
from batch_collection.storage.checksum import stream_crc32c

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_collection.log.entry import BatchFile, DeadLetterFile, Entry, IdFile
    from batch_collection.log.file_types import FileTypes
    from batch_collection.storage.contract import Storage

    File = BatchFile | CarryFile | DeadLetterFile | IdFile

__all__ = [
    "Evidence",
    "FileRows",
    "batch_rows",
    "carry_rows",
    "dead_letter_rows",
    "evidence",
    "id_rows",
    "spans",
    "weight",
]


_OWN = ["_partition", "_offset", "_index", "_message_id"]
_MOST_BYTES = 64 << 20
"""Of files that are looked at together, without the last one: opened, they may be in memory."""


class FileRows(NamedTuple):
    """How many rows a file has, and their positions as arrays (None: it has no such columns).

    ``ids`` are those of their messages, None where they are not there.
    """

    total: int
    partitions: Any
    offsets: Any
    indexes: Any
    ids: pa.ChunkedArray | None = None


class Evidence(NamedTuple):
    """What was found of a file: its rows, or else what is wrong with it, and of what ``kind``.

    ``kind`` is ``missing``, ``changed`` or ``unreadable``; empty if all is well.
    """

    rows: FileRows | None
    kind: str = ""
    finding: str = ""


def weight(file: File) -> float:
    """Return as how many of ``AT_ONCE`` files one counts, where several are looked at together."""
    return max(1, AT_ONCE * file.bytes / _MOST_BYTES)


def evidence(
    storage: Storage,
    file: File,
    staged: str,
    read: Callable[[BinaryIO], FileRows],
) -> Evidence:
    """Fetch a file once, wherever its publishing stands; read it if it is what its entry says."""
    try:
        source = _opened(storage, file.path, staged)
    except FileNotFoundError:
        return Evidence(None, "missing", f"is {_where(storage, file)}")
    with source:
        size, checksum = stream_crc32c(source)
        if (size, checksum) != (file.bytes, file.crc32c):
            finding = (
                f"has {size} bytes with crc32c={checksum}, the log says {file.bytes} with "
                f"{file.crc32c}"
            )
            return Evidence(None, "changed", finding)
        source.seek(0)
        try:
            return Evidence(read(source))
        except (CollectionError, pa.ArrowException, KeyError, OSError) as error:
            return Evidence(None, "unreadable", f"cannot be read: {in_one_line(error)}")


def _where(storage: Storage, file: File) -> str:
    staged = file.path if isinstance(file, CarryFile) else file.staged
    if staged not in {"", file.path} and storage.size(staged) is not None:
        return f"committed, not visible: it lies at {staged}"
    return "missing"


def _opened(storage: Storage, path: str, staged: str) -> BinaryIO:
    for name in (path, staged):
        try:
            return storage.open(name)
        except FileNotFoundError:
            continue
    return storage.open(path)  # it was moved in between


def batch_rows(source: BinaryIO, path: str, types: FileTypes, entry: Entry) -> FileRows:
    """Read a batch file of an entry, without its payload."""
    own = [name for name in _OWN if name not in entry.schema]  # messages may give such columns
    told = Told(None, lambda: types.of(entry.cycle, path))
    table = format_of(path).read(source, path, own, told)
    if {"_partition", "_offset"} <= set(table.column_names):
        return _positions(table, *_OWN)
    return FileRows(
        table.num_rows, None, None, _indexes(table, "_index"), _ids(table, "_message_id")
    )


def dead_letter_rows(source: BinaryIO) -> FileRows:
    """Read a file of dead letters."""
    with pq.ParquetFile(source) as file:
        table = file.read(columns=["partition", "offset", "id"])
    return _positions(table, "partition", "offset", "", "id")


def id_rows(source: BinaryIO) -> FileRows:
    """Count the ids of a list of them."""
    with pq.ParquetFile(source) as file:
        return FileRows(file.metadata.num_rows, None, None, None)


def carry_rows(source: BinaryIO) -> FileRows:
    """Read a carry file, record batch by record batch."""
    columns = ["partition", "offset", "index", "id"]
    with pa.ipc.open_stream(source) as stream:
        parts = [batch.select([c for c in columns if c in batch.schema.names]) for batch in stream]
    return _positions(pa.Table.from_batches(parts), *columns)


def _positions(table: pa.Table, partition: str, offset: str, index: str, id_: str) -> FileRows:
    return FileRows(
        total=table.num_rows,
        partitions=_integers(table.column(partition)),
        offsets=_integers(table.column(offset)),
        indexes=_indexes(table, index),
        ids=_ids(table, id_),
    )


def _indexes(table: pa.Table, name: str) -> Any:
    is_there = name in table.column_names
    return _integers(table.column(name)) if is_there else np.zeros(table.num_rows, np.int64)


def _ids(table: pa.Table, name: str) -> pa.ChunkedArray | None:
    return table.column(name) if name in table.column_names else None


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
