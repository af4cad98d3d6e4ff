"""JSON lines and what they stand for: rows under types that are known, never guessed.

Binary is base64, an instant RFC 3339, a map a list of pairs; a number that is none (``NaN``,
``Infinity``, ``-Infinity``) is that word as text, as in Protobuf's JSON.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from batch_collection.schema.arrow import joined
from batch_collection.schema.conforming import with_values
from batch_collection.windows import parse_instant

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["columns_of", "read_lines", "with_words"]


_MOST_ROWS = 50_000  # parsed at once
_MOST_BYTES = 1 << 26  # a block of the parser is below 2 GiB; a single line may be longer
_MICROSECONDS = pa.timestamp("us", "UTC")
_NUMBERS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
_WORDS = tuple(f'"{word}"'.encode() for word in _NUMBERS)


def columns_of(line: bytes) -> list[str]:
    """Return the columns of a file by its first line: each line names all of them.

    Raises:
        pyarrow.ArrowInvalid: it is no JSON object.
    """
    try:
        row = json.loads(line)
    except ValueError as error:
        raise pa.ArrowInvalid(str(error)) from error
    if not isinstance(row, dict):
        message = "a line is no JSON object"
        raise pa.ArrowInvalid(message)
    return list(row)


def read_lines(content: bytes, schema: pa.Schema) -> pa.Table:
    """Return the rows of JSON lines, one a line, all of whose columns are those of ``schema``.

    Raises:
        pyarrow.ArrowInvalid: a line is no such row.
    """
    ends = np.flatnonzero(np.frombuffer(content, np.uint8) == ord("\n")) + 1
    if content and (not len(ends) or ends[-1] != len(content)):
        message = "the last line has no end"
        raise pa.ArrowInvalid(message)
    if not schema.names:
        return pa.table({"": pa.nulls(len(ends))}).select([])  # rows without columns
    parts = _parts(ends.tolist())
    return joined(
        (_parsed(content[start:stop], rows, schema) for start, stop, rows in parts), schema
    )


def _parts(ends: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Cut lines, by where they end, in parts: start, stop, and lines of each."""
    start = first = 0
    for last in range(len(ends)):
        is_end = last + 1 == len(ends)
        if is_end or last + 1 - first == _MOST_ROWS or ends[last + 1] - start > _MOST_BYTES:
            yield start, ends[last], last + 1 - first
            start, first = ends[last], last + 1


def _parsed(lines: bytes, rows: int, schema: pa.Schema) -> pa.Table:
    read_as = pa.schema([field.with_type(_read_as(field.type)) for field in schema])
    try:
        found = pyarrow.json.read_json(
            pa.BufferReader(lines),
            pyarrow.json.ReadOptions(use_threads=False, block_size=len(lines) + 1),
            pyarrow.json.ParseOptions(read_as, unexpected_field_behavior="error"),
        )
    except pa.ArrowInvalid:
        if not any(word in lines for word in _WORDS):
            raise
        found = _parsed_one_by_one(lines, read_as)
    found.validate(full=True)  # offsets and UTF-8, which the parser doesn't vouch for
    if found.num_rows != rows:
        message = f"{found.num_rows} JSON texts in {rows} lines"
        raise pa.ArrowInvalid(message)
    columns = [
        pa.chunked_array([_restored(part, field.type) for part in column.chunks], field.type)
        for field, column in zip(schema, found.select(schema.names).columns, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _read_as(type_: pa.DataType) -> pa.DataType:
    is_ = pa.types
    if is_.is_struct(type_):
        return pa.struct([field.with_type(_read_as(field.type)) for field in type_])
    if is_.is_map(type_):
        return pa.list_(pa.list_(pa.string()))
    if is_.is_list(type_):
        return pa.list_(_read_as(type_.value_type))
    if is_.is_timestamp(type_):
        return _MICROSECONDS
    return pa.string() if is_.is_binary(type_) else type_


def _restored(array: pa.Array, type_: pa.DataType) -> pa.Array:
    """Return as ``type_`` what was parsed under ``_read_as(type_)``."""
    is_ = pa.types
    if array.type == type_:
        return array
    if is_.is_struct(type_):
        fields = [_restored(array.field(i), field.type) for i, field in enumerate(type_)]
        return pa.StructArray.from_arrays(fields, fields=list(type_), mask=array.is_null())
    if is_.is_map(type_):
        return with_values(array, _entries(array.values, type_), type_)
    if is_.is_list(type_):
        return with_values(array, _restored(array.values, type_.value_type), type_)
    return _from_base64(array) if is_.is_binary(type_) else array.cast(type_)


def _entries(pairs: pa.ListArray, type_: pa.MapType) -> pa.StructArray:
    if pc.all(pc.equal(pairs.value_lengths(), 2).fill_null(False)).as_py() is False:  # noqa: FBT003
        message = "an element of a map is no pair"
        raise pa.ArrowInvalid(message)
    flat = pairs.flatten()
    places = np.arange(0, len(flat), 2)
    keys, items = flat.take(pa.array(places)), flat.take(pa.array(places + 1))
    if keys.null_count:
        message = "a key of a map is null"
        raise pa.ArrowInvalid(message)
    parts = [_restored(keys, type_.key_type), _restored(items, type_.item_type)]
    return pa.StructArray.from_arrays(parts, fields=[type_.key_field, type_.item_field])


def _from_base64(texts: pa.Array) -> pa.Array:
    try:
        values = [
            None if text is None else base64.b64decode(text, validate=True)
            for text in texts.to_pylist()
        ]
    except ValueError as error:
        message = f"not base64: {error}"
        raise pa.ArrowInvalid(message) from error
    return pa.array(values, pa.binary())


def _parsed_one_by_one(lines: bytes, schema: pa.Schema) -> pa.Table:
    """Parse lines of which some hold a word for a number."""
    try:
        rows = [json.loads(line) for line in lines.split(b"\n")[:-1]]
        if any(not isinstance(row, dict) or row.keys() != set(schema.names) for row in rows):
            message = "a line has other columns"
            raise pa.ArrowInvalid(message)
        columns = [
            pa.array([_with_numbers(row[field.name], field.type) for row in rows], field.type)
            for field in schema
        ]
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise pa.ArrowInvalid(str(error)) from error
    return pa.Table.from_arrays(columns, schema=schema)


def _with_numbers(value: Any, type_: pa.DataType) -> Any:
    """Return a JSON value with numbers in place of the words for them, instants in that of text."""
    if pa.types.is_struct(type_) and isinstance(value, dict):
        if value.keys() - {field.name for field in type_}:
            message = "an object has other fields"
            raise pa.ArrowInvalid(message)
        return {f.name: _with_numbers(value.get(f.name), f.type) for f in type_}
    if pa.types.is_list(type_) and isinstance(value, list):
        return [_with_numbers(each, type_.value_type) for each in value]
    if pa.types.is_floating(type_) and isinstance(value, str):
        return _NUMBERS[value]
    return parse_instant(value) if pa.types.is_timestamp(type_) and value is not None else value


def with_words(rows: list[dict[str, Any]], table: pa.Table) -> list[dict[str, Any]]:
    """Return the rows of a table, given as Python values, with words for numbers that are none."""
    odd = [
        field
        for field, column in zip(table.schema, table.columns, strict=True)
        if any(_is_odd(part) for part in column.chunks)
    ]
    for field in odd:
        for row in rows:
            row[field.name] = _with_word(row[field.name], field.type)
    return rows


def _is_odd(array: pa.Array) -> bool:
    """Tell whether a floating-point number in it is none."""
    if pa.types.is_floating(array.type):
        return pc.all(pc.is_finite(array)).as_py() is False
    if pa.types.is_list(array.type):
        return _is_odd(array.flatten())
    return pa.types.is_struct(array.type) and any(map(_is_odd, array.flatten()))


def _with_word(value: Any, type_: pa.DataType) -> Any:
    if value is None:
        return None
    if pa.types.is_struct(type_):
        return {f.name: _with_word(value[f.name], f.type) for f in type_}
    if pa.types.is_list(type_):
        return [_with_word(each, type_.value_type) for each in value]
    is_odd = isinstance(value, float) and not np.isfinite(value)
    return _word(value) if is_odd else value


def _word(number: float) -> str:
    return "NaN" if number != number else "Infinity" if number > 0 else "-Infinity"  # noqa: PLR0124
