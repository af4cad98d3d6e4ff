"""JSON lines: one object a row, compressed with gzip."""

from __future__ import annotations

import base64
import gzip
import io
import zlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa

from batch_collection.errors import CollectionError, DamagedFileError
from batch_collection.formats.json_lines_text import columns_of, read_lines, with_words
from batch_collection.formats.told import (
    NO_COLUMN,
    Outline,
    Told,
    Types,
    check_rows,
    chosen_columns,
    outline_of,
    placeholder_rows,
)
from batch_collection.schema.columns import PLACEHOLDER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from batch_collection.formats.contract import BatchWriter, WritableFile


__all__ = ["JsonLines"]

_GZIP = 16 + zlib.MAX_WBITS  # with a header, which has no time of day in it


class JsonLines:
    """One JSON object a line, each with all columns of its file: see ``json_lines``."""

    name = "jsonl"
    endings: Mapping[str, str] = MappingProxyType({"none": ".jsonl", "gzip": ".jsonl.gz"})
    reads_parts = False

    def __init__(self, *, has_words: bool = True) -> None:
        """Write numbers that are none as words, or as nulls."""
        self._has_words = has_words

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
        check_rows(path, rows.num_rows, told.rows)
        return chosen_columns(rows, columns)

    def outline(self, source: BinaryIO, path: str, told: Told) -> Outline:
        """Read the first line, which names the columns; more where the log leaves types open."""
        known = told.types()
        if told.rows is None or len(known) > 1:
            return outline_of(self.read(source, path, None, told))
        with source, _lines(source, path) as lines:
            names = _names(lines.readline())
        return Outline(_schema(names, known[0], path) if names else NO_COLUMN, (told.rows,))

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
        return placeholder_rows(told, read_lines(content, pa.schema([])).num_rows)
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
