"""Files of any format, written and read as a collection does."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pyarrow as pa

from batch_collection.formats.known import format_named, format_of
from batch_collection.formats.told import Told
from tests.builders import at

if TYPE_CHECKING:
    from batch_collection.formats.contract import Format

__all__ = ["HEADERS", "ROWS", "read", "read_back", "told", "written"]

ROWS = pa.table(
    {
        "text": ["2026-11-22T10:30:00Z", None, "x"],
        "number": [1.5, 2.0, None],
        "_partition": pa.array([0, 0, 1], pa.int32()),
        "_offset": pa.array([7, 8, 2**53 + 1], pa.int64()),
        "_timestamp": pa.array([at("10:30:00.123")] * 3, pa.timestamp("ms", "UTC")),
    }
)
HEADERS = [
    pa.map_(pa.string(), pa.binary()),
    pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())])),
]


def written(file_format: Format, rows: pa.Table, compression: str) -> bytes:
    """Write a table in two parts."""
    sink = io.BytesIO()
    writer = file_format.writer(sink, rows.schema, compression)
    writer.write(rows.slice(0, 1))
    writer.write(rows.slice(1))
    writer.close()
    return sink.getvalue()  # fails if the writer had closed it


def told(schema: pa.Schema, rows: int | None = None) -> Told:
    """Return what a log tells of a file."""
    return Told(rows, lambda: [{field.name: field.type for field in schema}])


def read(
    content: bytes, path: str, schema: pa.Schema, columns: list[str] | None = None
) -> pa.Table:
    """Read a file by its name."""
    return format_of(path).read(io.BytesIO(content), path, columns, told(schema))


def read_back(rows: pa.Table, name: str, compression: str, version: int = 2) -> pa.Table:
    """Write rows and read them again."""
    file_format = format_named(name, version)
    content = written(file_format, rows, compression)
    return read(content, f"a{file_format.endings[compression]}", rows.schema)
