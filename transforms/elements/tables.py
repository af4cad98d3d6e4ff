"""The columns that rows have on the edges of the graph, and their bytes there."""

from __future__ import annotations

import pyarrow as pa

from transforms.sources.contract import HEADERS, LEASED_MESSAGES

__all__ = ["COMPRESSED", "LEASED_POSITION", "POSITION", "position_of", "read_ipc", "write_ipc"]


COMPRESSED = pa.ipc.IpcWriteOptions(compression="lz4")

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

LEASED_POSITION = pa.schema(
    [*POSITION, LEASED_MESSAGES.field("id"), LEASED_MESSAGES.field("published")]
)
"""The same of rows made of ``LEASED_MESSAGES``, wherever they go."""


def position_of(table: pa.Table) -> pa.Schema:
    """Return the columns that rows have beside their payload: these rows, or those of messages."""
    return LEASED_POSITION if "id" in table.column_names else POSITION


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
