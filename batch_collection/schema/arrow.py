"""The types of the log as Arrow types, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from batch_collection.errors import CollectionError
from batch_collection.schema.types import NULL, Schema, prune

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = [
    "PRIMITIVES",
    "concatenated",
    "from_arrow",
    "joined",
    "shape_of",
    "to_arrow",
    "type_from_arrow",
]


PRIMITIVES: dict[str, pa.DataType] = {
    "binary": pa.binary(),
    "bool": pa.bool_(),
    "double": pa.float64(),
    "float": pa.float32(),
    "int8": pa.int8(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "string": pa.string(),
    "timestamp": pa.timestamp("us", "UTC"),
    "uint8": pa.uint8(),
    "uint16": pa.uint16(),
    "uint32": pa.uint32(),
    "uint64": pa.uint64(),
}
"""The types a column may be given. ``timestamp`` is an instant in microseconds, read from text (a
date, or a time without a zone, is UTC); ``binary`` read from JSON holds the text's UTF-8 bytes."""
_NAMES = {type_: name for name, type_ in PRIMITIVES.items()} | {pa.null(): NULL}


def to_arrow(schema: Schema) -> pa.StructType:
    """Return the struct type of a payload schema."""
    return pa.struct([pa.field(name, _to_arrow(type_)) for name, type_ in schema.items()])


def _to_arrow(type_: Any) -> pa.DataType:
    if isinstance(type_, dict):
        return to_arrow(type_)
    if isinstance(type_, list):
        return pa.list_(_to_arrow(type_[0]))
    return pa.null() if type_ == NULL else PRIMITIVES[type_]


def from_arrow(type_: pa.StructType) -> Schema:
    """Return the payload schema of a struct type, as ``shape_of`` and ``prune`` do together."""
    return prune(shape_of(type_))


def shape_of(type_: pa.StructType) -> Schema:
    """Return the payload schema of a struct type, and of what has no type yet its shape.

    Wider relatives become what a batch holds: ``large_string`` a string, any instant or date a
    timestamp, a half float a float, a dictionary the type of its values.

    Raises:
        CollectionError: a batch can't hold one of its types.
    """
    return {field.name: type_from_arrow(field.type, field.name) for field in type_}


def type_from_arrow(type_: pa.DataType, path: str) -> Any:
    """Return the type of one column, as ``shape_of`` does those of all."""
    is_ = pa.types
    if is_.is_struct(type_):
        return _fields_from_arrow(type_, path)
    if is_.is_list(type_) or is_.is_large_list(type_) or is_.is_fixed_size_list(type_):
        return [type_from_arrow(type_.value_type, f"{path}[]")]
    if is_.is_dictionary(type_):
        return type_from_arrow(type_.value_type, path)
    relatives: tuple[tuple[str, tuple[Callable[[pa.DataType], bool], ...]], ...] = (
        ("string", (is_.is_large_string, is_.is_string_view)),
        ("binary", (is_.is_large_binary, is_.is_binary_view, is_.is_fixed_size_binary)),
        ("timestamp", (is_.is_timestamp, is_.is_date)),
        ("float", (is_.is_float16,)),
    )
    for name, tests in relatives:
        if any(test(type_) for test in tests):
            return name
    if type_ not in _NAMES:
        message = f"column {path} has type {type_}; cast it to one of: {', '.join(PRIMITIVES)}"
        raise CollectionError(message)
    return _NAMES[type_]


def _fields_from_arrow(type_: pa.StructType, path: str) -> Schema:
    fields = {field.name: type_from_arrow(field.type, f"{path}.{field.name}") for field in type_}
    if len(fields) < type_.num_fields:
        message = f"column {path} has two fields of one name; rename one"
        raise CollectionError(message)
    return fields


def joined(tables: Iterable[pa.Table], schema: pa.Schema) -> pa.Table:
    """Return tables of a schema as one, whose chunks all hold rows."""
    found = [table for table in tables if table.num_rows]
    return concatenated(found) if found else schema.empty_table()


def concatenated(tables: Sequence[pa.Table]) -> pa.Table:
    """Return tables of one schema as one; pyarrow forgets how many rows without a column are."""
    if tables[0].num_columns:
        return pa.concat_tables(tables)
    rows = sum(table.num_rows for table in tables)
    return pa.table({"": pa.nulls(rows)}).select([])
