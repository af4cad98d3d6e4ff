"""The element on the edges of the graph: some thousand messages, or rows, as one Arrow table."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
from apache_beam import coders

from transforms.headers import HEADERS

if TYPE_CHECKING:
    from transforms.plan import Task

__all__ = ["COMPRESSED", "MESSAGES", "POSITION", "Chunk", "ChunkCoder", "read_ipc", "write_ipc"]

COMPRESSED = pa.ipc.IpcWriteOptions(compression="lz4")

MESSAGES = pa.schema(
    [
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("timestamp", pa.int64()),
        pa.field("value", pa.binary()),
        pa.field("key", pa.binary()),
        pa.field("headers", HEADERS),
    ]
)
"""Messages as read. ``timestamp``: milliseconds since the Unix epoch, null if the record has none.
A null ``value`` is a tombstone."""

POSITION = pa.schema(
    [
        pa.field("row_time", pa.int64(), nullable=False),
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("timestamp", pa.timestamp("ms", "UTC")),
        pa.field("index", pa.int32()),
        pa.field("key", pa.binary()),
        pa.field("headers", HEADERS),
    ]
)
"""What every row has beside its ``payload``, one struct column that follows these.

``row_time``: microseconds since the Unix epoch. ``index``: the row's place in its message's array,
null where the message was no array. ``key`` and ``headers`` are null unless the metadata is
``full``."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Messages (``MESSAGES``) or rows (``POSITION`` and ``payload``) of one attempt at a task.

    ``last`` marks the task's end; it follows everything else and brings no rows.
    """

    task: Task
    attempt: str
    table: pa.Table
    last: bool = False


class ChunkCoder(coders.Coder):
    """Arrow IPC: Beam's pickle takes the whole buffers behind ten rows along (444 KB, measured)."""

    def encode(self, value: Chunk) -> bytes:
        """Write the task in front of the rows."""
        head = pickle.dumps((value.task, value.attempt, value.last))
        return len(head).to_bytes(4, "big") + head + write_ipc(value.table).to_pybytes()

    def decode(self, encoded: bytes) -> Chunk:
        """Read what ``encode`` wrote."""
        start = 4 + int.from_bytes(encoded[:4], "big")
        task, attempt, last = pickle.loads(encoded[4:start])  # noqa: S301 - our own bytes
        return Chunk(task, attempt, read_ipc(pa.py_buffer(encoded)[start:]), last)

    def estimate_size(self, value: Chunk) -> int:
        """Return the rows' bytes, without encoding them."""
        return int(value.table.nbytes)

    def is_deterministic(self) -> bool:
        """Return False: a chunk is no key."""
        return False


coders.registry.register_coder(Chunk, ChunkCoder)


def write_ipc(table: pa.Table) -> pa.Buffer:
    """Return a table as an Arrow IPC stream, compressed."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=COMPRESSED) as writer:
        writer.write_table(table)
    return sink.getvalue()


def read_ipc(source: pa.Buffer) -> pa.Table:
    """Return the table of an Arrow IPC stream."""
    with pa.ipc.open_stream(source) as reader:
        return reader.read_all()
