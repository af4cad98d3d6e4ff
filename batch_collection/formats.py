"""The formats of batch files. Each is one class and one line in ``FORMATS``."""

from __future__ import annotations

import base64
import gzip
import io
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq

from batch_collection.names import PLACEHOLDER

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "FORMATS",
    "BatchWriter",
    "Format",
    "JsonLines",
    "Outline",
    "Parquet",
    "WritableFile",
    "format_of",
]

WritableFile = io.RawIOBase | BinaryIO
"""What a format writes to: it needs ``write``, ``flush``, ``tell`` and ``closed``."""


class BatchWriter(Protocol):
    """Writes the rows of one file, table after table of one schema."""

    def write(self, rows: pa.Table) -> None:
        """Append rows."""

    def close(self) -> int:
        """Write what is left; return how many rows the file holds. The sink stays open."""


class Outline(NamedTuple):
    """A file's schema, and the rows of each of its groups: what can be read alone, in order."""

    schema: pa.Schema
    groups: tuple[int, ...]


class Format(Protocol):
    """A file format. ``compressions`` names what it takes, the default first."""

    name: str
    compressions: tuple[str, ...]

    def suffix(self, compression: str) -> str:
        """Return the ending of file names, with its dot."""

    def writer(self, sink: WritableFile, schema: pa.Schema, compression: str) -> BatchWriter:
        """Start a file."""

    def read(self, source: BinaryIO, path: str, columns: list[str] | None) -> pa.Table:
        """Return the rows of a file, or those of ``columns`` that it has; ``source`` is closed."""

    def outline(self, source: BinaryIO, path: str) -> Outline:
        """Return what can be known of a file without keeping its rows; ``source`` is closed."""

    def read_groups(
        self, source: BinaryIO, path: str, groups: Sequence[int], columns: list[str] | None
    ) -> pa.Table:
        """Return the rows of some groups, as ``read`` does those of all; ``source`` is closed.

        Many are read at once, each in a thread of its own.
        """


_TIMESTAMP = "_timestamp"
_GZIP = 16 + zlib.MAX_WBITS  # with a header, which has no time of day in it


class Parquet:
    """Apache Parquet; each written table becomes a row group."""

    name = "parquet"
    compressions: tuple[str, ...] = ("zstd", "snappy", "gzip", "none")

    def suffix(self, compression: str) -> str:  # noqa: ARG002 - the codec stands in the file
        """Return ``.parquet``."""
        return ".parquet"

    def writer(self, sink: WritableFile, schema: pa.Schema, compression: str) -> BatchWriter:
        """Start a Parquet file."""
        return _ParquetWriter(sink, schema, compression)

    def read(self, source: BinaryIO, path: str, columns: list[str] | None) -> pa.Table:  # noqa: ARG002
        """Read a Parquet file."""
        with source, pq.ParquetFile(source) as file:
            return file.read(columns=columns)

    def outline(self, source: BinaryIO, path: str) -> Outline:  # noqa: ARG002
        """Read the footer; groups are row groups."""
        with source, pq.ParquetFile(source) as file:
            found = file.metadata
            groups = (found.row_group(i).num_rows for i in range(found.num_row_groups))
            return Outline(file.schema_arrow, tuple(groups))

    def read_groups(
        self,
        source: BinaryIO,
        path: str,  # noqa: ARG002
        groups: Sequence[int],
        columns: list[str] | None,
    ) -> pa.Table:
        """Read row groups."""
        with source, pq.ParquetFile(source) as file:
            return file.read_row_groups(list(groups), columns=columns, use_threads=False)


class _ParquetWriter:
    def __init__(self, sink: WritableFile, schema: pa.Schema, compression: str) -> None:
        self._footers: list[pq.FileMetaData] = []
        self._writer = _Unforced(
            sink, schema, compression=compression, metadata_collector=self._footers
        )

    def write(self, rows: pa.Table) -> None:
        self._writer.write_table(rows, row_group_size=max(rows.num_rows, 1))

    def close(self) -> int:
        self._writer.close()
        return int(self._footers[0].num_rows)


class _Unforced(pq.ParquetWriter):  # type: ignore[misc]
    """pyarrow's writer, which does not finish a file that is given up."""

    def __del__(self) -> None:
        """Let it go: to be closed, it would write to a sink that is gone, and complain."""


class JsonLines:
    """One JSON object a line. Binary is base64, instants are RFC 3339, nulls are written.

    Rows without a column are ``{}``.
    """

    name = "jsonl"
    compressions: tuple[str, ...] = ("none", "gzip")

    def suffix(self, compression: str) -> str:
        """Return ``.jsonl`` or ``.jsonl.gz``."""
        return ".jsonl.gz" if compression == "gzip" else ".jsonl"

    def writer(self, sink: WritableFile, schema: pa.Schema, compression: str) -> BatchWriter:  # noqa: ARG002
        """Start a file of JSON lines."""
        return _JsonWriter(sink, gzipped=compression == "gzip")

    def read(self, source: BinaryIO, path: str, columns: list[str] | None) -> pa.Table:
        """Read a file of JSON lines; types are inferred, and strings stay strings."""
        with source, gzip.open(source) if path.endswith(".gz") else source as lines:
            content = lines.read()
        rows = _parsed(content, None)
        pinned = [_without_instants(field) for field in rows.schema]
        if pinned != list(rows.schema):
            rows = _parsed(content, pa.schema(pinned))
        if _TIMESTAMP in rows.column_names:
            rows = _with_timestamp(rows)
        return (
            rows if columns is None else rows.select([c for c in columns if c in rows.column_names])
        )

    def outline(self, source: BinaryIO, path: str) -> Outline:
        """Read the file: it has one group, and says its types nowhere else."""
        rows = self.read(source, path, None)
        return Outline(rows.schema, (rows.num_rows,))

    def read_groups(
        self,
        source: BinaryIO,
        path: str,
        groups: Sequence[int],  # noqa: ARG002 - there is one
        columns: list[str] | None,
    ) -> pa.Table:
        """Read the file."""
        return self.read(source, path, columns)


def _parsed(content: bytes, schema: pa.Schema | None) -> pa.Table:
    return pyarrow.json.read_json(
        io.BytesIO(content),
        read_options=pyarrow.json.ReadOptions(block_size=max(len(content), 1)),
        parse_options=pyarrow.json.ParseOptions(explicit_schema=schema),
    )


def _without_instants(field: pa.Field) -> pa.Field:
    """Undo pyarrow's guess that strings are instants: it guesses file by file."""
    kind = field.type
    if pa.types.is_timestamp(kind):
        return field.with_type(pa.string())
    if pa.types.is_struct(kind):
        return field.with_type(pa.struct([_without_instants(inner) for inner in kind]))
    if pa.types.is_list(kind):
        return field.with_type(pa.list_(_without_instants(kind.value_field)))
    return field


def _with_timestamp(rows: pa.Table) -> pa.Table:
    """Give ``_timestamp`` the type it has in Parquet, where all of it is RFC 3339."""
    column = rows.column(_TIMESTAMP)
    try:
        instants = column.cast(pa.timestamp("us", "UTC")).cast(pa.timestamp("ms", "UTC"))
    except pa.ArrowInvalid:
        return rows  # somebody's own field: the metadata is none
    return rows.set_column(rows.column_names.index(_TIMESTAMP), _TIMESTAMP, instants)


class _JsonWriter:
    def __init__(self, sink: WritableFile, *, gzipped: bool) -> None:
        import orjson  # noqa: PLC0415 - readers do not need it

        self._dumps: Callable[..., bytes] = orjson.dumps
        self._options = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z
        # a gzip.GzipFile that is given up would write to a sink that is gone
        self._gzip = zlib.compressobj(zlib.Z_BEST_COMPRESSION, wbits=_GZIP) if gzipped else None
        self._sink = sink
        self._lines = 0

    def write(self, rows: pa.Table) -> None:
        if rows.column_names == [PLACEHOLDER] and rows.column(0).null_count == rows.num_rows:
            rows = rows.select([])  # its rows are ``{}``
        # pyarrow writes no JSON: Python runs once a row here, and only here
        lines = (self._dumps(row, _base64, self._options) for row in rows.to_pylist())
        content = b"".join(lines)
        self._lines += content.count(b"\n")
        self._sink.write(content if self._gzip is None else self._gzip.compress(content))

    def close(self) -> int:
        if self._gzip is not None:
            self._sink.write(self._gzip.flush())
        return self._lines


def _base64(value: Any) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    message = f"no JSON for {type(value).__name__}"
    raise TypeError(message)


FORMATS: dict[str, Format] = {"parquet": Parquet(), "jsonl": JsonLines()}


def format_of(path: str) -> Format:
    """Return the format of a batch file, by the ending of its name."""
    return FORMATS["parquet" if path.endswith(".parquet") else "jsonl"]
