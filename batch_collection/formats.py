"""The formats of batch files. Each is one class and one line in ``FORMATS``."""

from __future__ import annotations

import base64
import gzip
import io
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Protocol, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from batch_collection.errors import CollectionError, DamagedFileError
from batch_collection.json_lines import columns_of, read_lines, with_words
from batch_collection.names import PLACEHOLDER

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "FORMATS",
    "BatchWriter",
    "Format",
    "JsonLines",
    "Outline",
    "Parquet",
    "Told",
    "Types",
    "WritableFile",
    "format_named",
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


Types: TypeAlias = Mapping[str, pa.DataType]
"""What columns are, by name; there may be more of them than a file has."""


class Told(NamedTuple):
    """What the log tells of a file.

    ``rows`` is None where nobody knows. ``types`` gives what its columns may be, the likeliest
    first; it is asked for by formats whose files do not say it themselves.
    """

    rows: int | None
    types: Callable[[], Sequence[Types]]


class Format(Protocol):
    """A file format. ``compressions`` names what it takes, the default first.

    Whatever reads a file compares its rows with those that the log tells of: one that has others
    is a ``DamagedFileError``, before any of them is read where that can be. Rows without a column
    have ``PLACEHOLDER``, in all formats; format 1 may have kept none of them, and they were empty.
    """

    name: str
    compressions: tuple[str, ...]

    def suffix(self, compression: str) -> str:
        """Return the ending of file names, with its dot."""

    def writer(self, sink: WritableFile, schema: pa.Schema, compression: str) -> BatchWriter:
        """Start a file."""

    def read(
        self, source: BinaryIO, path: str, columns: Sequence[str] | None, told: Told
    ) -> pa.Table:
        """Return the rows of a file, or those of ``columns`` that it has; ``source`` is closed."""

    def outline(self, source: BinaryIO, path: str, told: Told) -> Outline:
        """Return what can be known of a file without keeping its rows; ``source`` is closed."""

    def read_groups(
        self,
        source: BinaryIO,
        path: str,
        groups: Sequence[int],
        columns: Sequence[str] | None,
        told: Told,
    ) -> pa.Table:
        """Return the rows of some groups, as ``read`` does those of all; ``source`` is closed.

        Many are read at once, each in a thread of its own.
        """


_NO_COLUMN = pa.schema([(PLACEHOLDER, pa.bool_())])
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

    def read(
        self, source: BinaryIO, path: str, columns: Sequence[str] | None, told: Told
    ) -> pa.Table:
        """Read a Parquet file."""
        with source, pq.ParquetFile(source) as file:
            if not file.schema_arrow.names:
                return _chosen(_empty(told), columns)
            _check_footer(file, path, told)
            return file.read(columns=columns)

    def outline(self, source: BinaryIO, path: str, told: Told) -> Outline:
        """Read the footer; groups are row groups."""
        with source, pq.ParquetFile(source) as file:
            if not file.schema_arrow.names:
                return _outline(_empty(told))
            _check_footer(file, path, told)
            found = file.metadata
            groups = tuple(found.row_group(i).num_rows for i in range(found.num_row_groups))
            _check_rows(path, sum(groups), told.rows)
            return Outline(file.schema_arrow, groups)

    def read_groups(
        self,
        source: BinaryIO,
        path: str,
        groups: Sequence[int],
        columns: Sequence[str] | None,
        told: Told,
    ) -> pa.Table:
        """Read row groups."""
        with source, pq.ParquetFile(source) as file:
            if not file.schema_arrow.names:
                return _chosen(_empty(told), columns)
            _check_footer(file, path, told)
            return file.read_row_groups(list(groups), columns=columns, use_threads=False)


def _empty(told: Told, rows: int = 0) -> pa.Table:
    """Return rows without a column."""
    return pa.table({PLACEHOLDER: pa.nulls(rows or told.rows or 0, pa.bool_())})


def _chosen(rows: pa.Table, columns: Sequence[str] | None) -> pa.Table:
    """Return those of some columns that are there."""
    known = rows.column_names
    return rows if columns is None else rows.select([name for name in columns if name in known])


def _outline(rows: pa.Table) -> Outline:
    return Outline(rows.schema, (rows.num_rows,))


def _check_footer(file: pq.ParquetFile, path: str, told: Told) -> None:
    """Refuse a file that is not the one that the log tells of."""
    _check_rows(path, file.metadata.num_rows, told.rows)
    twice = sorted(_twice(file.schema_arrow))
    if twice:
        message = (
            f"cannot read {path}: it has two columns named {', '.join(twice)}; "
            "run `batch-collection audit`"
        )
        raise DamagedFileError(message)


def _twice(fields: Iterable[pa.Field], above: str = "") -> set[str]:
    """Return the names that fields of one parent share, however deep."""
    counts = Counter(f"{above}{field.name}" for field in fields)
    found = {name for name, count in counts.items() if count > 1}
    for field in fields:
        type_ = field.type
        while pa.types.is_list(type_):
            type_ = type_.value_type
        if pa.types.is_struct(type_):
            found |= _twice(type_, f"{above}{field.name}.")
    return found


def _check_rows(path: str, found: int, told: int | None) -> None:
    """Compare a file's rows with those that the log tells of.

    Raises:
        DamagedFileError: it has others.
    """
    if told is not None and found != told:
        message = (
            f"cannot read {path}: it has {found} rows, the log says {told}; "
            "run `batch-collection audit`"
        )
        raise DamagedFileError(message)


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
    """One JSON object a line, each with all columns of its file: see ``json_lines``."""

    name = "jsonl"
    compressions: tuple[str, ...] = ("none", "gzip")

    def __init__(self, *, has_words: bool = True) -> None:
        """Write numbers that are none as words, or as nulls."""
        self._has_words = has_words

    def suffix(self, compression: str) -> str:
        """Return ``.jsonl`` or ``.jsonl.gz``."""
        return ".jsonl.gz" if compression == "gzip" else ".jsonl"

    def writer(self, sink: WritableFile, schema: pa.Schema, compression: str) -> BatchWriter:  # noqa: ARG002
        """Start a file of JSON lines."""
        return _JsonWriter(sink, gzipped=compression == "gzip", has_words=self._has_words)

    def read(
        self, source: BinaryIO, path: str, columns: Sequence[str] | None, told: Told
    ) -> pa.Table:
        """Read a file of JSON lines, under the types that the log tells of."""
        with source, _lines(source, path) as lines:
            content = lines.read()
        rows = _read_as_told(content, path, told)
        _check_rows(path, rows.num_rows, told.rows)
        return _chosen(rows, columns)

    def outline(self, source: BinaryIO, path: str, told: Told) -> Outline:
        """Read the first line, which names the columns; more where the log leaves types open."""
        known = told.types()
        if told.rows is None or len(known) > 1:
            return _outline(self.read(source, path, None, told))
        with source, _lines(source, path) as lines:
            names = _names(lines.readline())
        return Outline(_schema(names, known[0], path) if names else _NO_COLUMN, (told.rows,))

    def read_groups(
        self,
        source: BinaryIO,
        path: str,
        groups: Sequence[int],  # noqa: ARG002 - there is one
        columns: Sequence[str] | None,
        told: Told,
    ) -> pa.Table:
        """Read the file."""
        return self.read(source, path, columns, told)


def _lines(source: BinaryIO, path: str) -> Any:
    return gzip.open(source) if path.endswith(".gz") else source


def _names(line: bytes) -> list[str]:
    """Return the columns that the first line names; a file may have no line."""
    return columns_of(line) if line else []


def _schema(names: Sequence[str], types: Types, path: str) -> pa.Schema:
    """Give the columns of a file their types."""
    unknown = sorted(set(names) - types.keys())
    if unknown:
        message = (
            f"cannot read {path}: the log knows no column {', '.join(unknown)} of it; "
            "run `batch-collection audit`"
        )
        raise DamagedFileError(message)
    return pa.schema([(name, types[name]) for name in names])


def _read_as_told(content: bytes, path: str, told: Told) -> pa.Table:
    """Read lines under the first types under which they say just what is written.

    Where the log leaves no doubt, they are not written again for that.
    """
    names = _names(content[: content.find(b"\n") + 1] or content)
    if not names:
        return _empty(told, read_lines(content, pa.schema([])).num_rows)
    known = told.types()
    failure: Exception = pa.ArrowInvalid("it is not what a collector writes")
    for types in known:
        try:
            rows = read_lines(content, _schema(names, types, path))
        except (pa.ArrowInvalid, DamagedFileError) as error:
            failure = error
            continue
        if len(known) == 1 or _written(rows) == content:
            return rows
    raise failure


def _written(rows: pa.Table) -> bytes:
    sink = io.BytesIO()
    try:
        _JsonWriter(sink, gzipped=False, has_words=False).write(rows)
    except ImportError as error:
        message = f"the types of a file can't be told without orjson ({error}); pip install orjson"
        raise CollectionError(message) from error
    return sink.getvalue()


class _JsonWriter:
    def __init__(self, sink: WritableFile, *, gzipped: bool, has_words: bool) -> None:
        import orjson  # noqa: PLC0415 - readers do not need it

        self._dumps: Callable[..., bytes] = orjson.dumps
        self._options = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z
        # a gzip.GzipFile that is given up would write to a sink that is gone
        self._gzip = zlib.compressobj(zlib.Z_BEST_COMPRESSION, wbits=_GZIP) if gzipped else None
        self._sink, self._has_words, self._lines = sink, has_words, 0

    def write(self, rows: pa.Table) -> None:
        if rows.column_names == [PLACEHOLDER] and rows.column(0).null_count == rows.num_rows:
            rows = rows.select([])  # its rows are ``{}``
        # pyarrow writes no JSON: Python runs once a row here, and only here
        values = rows.to_pylist()
        if self._has_words:  # JSON has no such numbers, and orjson writes nulls
            values = with_words(values, rows)
        content = b"".join(self._dumps(row, _base64, self._options) for row in values)
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


_NULLS: Format = JsonLines(has_words=False)


def format_named(name: str, version: int) -> Format:
    """Return a format, as it is written to collections whose log is of format ``version``."""
    return _NULLS if version == 1 and name == _NULLS.name else FORMATS[name]


def format_of(path: str) -> Format:
    """Return the format of a batch file, by the ending of its name."""
    return FORMATS["parquet" if path.endswith(".parquet") else "jsonl"]
