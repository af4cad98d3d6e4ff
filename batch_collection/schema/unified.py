"""One schema for the files of a snapshot: older files lack columns, or hold an older type."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING

import pyarrow as pa

from batch_collection.errors import CollectionError
from batch_collection.schema.arrow import to_arrow
from batch_collection.schema.columns import PLACEHOLDER
from batch_collection.schema.retyped import MisfitError, can_retype, pin_of, retyped

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from batch_collection.schema.types import Schema

__all__ = ["Unified", "conformed", "unified"]


@dataclass(frozen=True, slots=True)
class Unified:
    """The columns of a snapshot, in the order in which they came.

    ``conflicts`` says of those columns that no type holds what is wrong with them. ``payload`` are
    those that messages gave.
    """

    fields: dict[str, pa.DataType] = field(default_factory=dict)
    conflicts: dict[str, str] = field(default_factory=dict)
    payload: frozenset[str] = frozenset()

    def schema(self, columns: Sequence[str] | None, where: str) -> pa.Schema:
        """Return the schema of some columns, or of all; ``where`` names the collection.

        Raises:
            CollectionError: there is no such column, or its type differs from file to file.
        """
        wanted = list(self.fields) if columns is None else list(dict.fromkeys(columns))
        lacking = sorted(set(wanted) - set(self.fields))
        if lacking:
            message = (
                f"no batch of {where} has a column {', '.join(lacking)}; "
                f"there are: {', '.join(self.fields) or 'none'}"
            )
            raise CollectionError(message)
        wrong = [self.conflicts[name] for name in wanted if name in self.conflicts]
        if wrong:
            raise CollectionError(wrong[0])
        return pa.schema([(name, self.fields[name]) for name in wanted])

    def usable(self) -> pa.Schema:
        """Return the schema of all columns without a conflict."""
        return pa.schema([each for each in self.fields.items() if each[0] not in self.conflicts])


def unified(schemas: Iterable[pa.Schema], newest: Schema | None = None) -> Unified:
    """Unify schemas, earlier ones first; ``newest`` are the types that the log has in the end.

    Nulls take any type, structs gain fields, numbers of two kinds become those of one that holds
    both. A column whose type was changed otherwise is read as the newest. The placeholder of rows
    without a column is there only where no file has one.
    """
    found: dict[str, list[pa.DataType]] = {}
    for schema in dict.fromkeys(schemas):
        for column in schema:
            found.setdefault(column.name, []).append(column.type)
    if len(found) > 1 and PLACEHOLDER not in (newest or {}):
        found.pop(PLACEHOLDER, None)
    known = {each.name: each.type for each in to_arrow(newest or {})}
    fields: dict[str, pa.DataType] = {}
    conflicts: dict[str, str] = {}
    for name, types in found.items():
        try:
            fields[name] = _common_type(name, types, known.get(name))
        except CollectionError as error:
            cure = (
                "read the batches one by one, leave the column out, or read all of it as text "
                f"after `batch-collection schema PATH {pin_of((name,), 'string')}`"
            )
            fields[name], conflicts[name] = types[-1], f"{error}; {cure}"
    return Unified(fields, conflicts, frozenset(known))


def _common_type(
    name: str, types: Sequence[pa.DataType], newest: pa.DataType | None
) -> pa.DataType:
    """Return the type under which a column of several types is read."""
    typed = [each for each in types if not pa.types.is_null(each)]
    if not typed:
        return types[0]
    newest = typed[0] if newest is None and all(each == typed[0] for each in typed) else newest
    like = [each for each in typed if newest is None or _kind(each) == _kind(newest)]
    common = _of_one_kind(name, like, newest) if like else newest
    for each in typed:
        if common is None or not can_retype(each, common):
            message = f"column {name} is {each} in some batches and {common or typed[-1]} in others"
            raise CollectionError(message)
    return common


def _kind(type_: pa.DataType) -> str:
    if pa.types.is_struct(type_):
        return "struct"
    if pa.types.is_list(type_):
        return "list"
    return "number" if _number_kind(type_) else str(type_)


def _of_one_kind(
    name: str, types: Sequence[pa.DataType], newest: pa.DataType | None
) -> pa.DataType | None:
    """Return the type for structs, lists or numbers of several types; None if there is none."""
    every = types if newest is None else [*types, newest]
    if all(each == types[0] for each in every):
        return types[0]
    if all(map(pa.types.is_struct, every)):
        return _common_struct(name, types, newest)
    if all(map(pa.types.is_list, every)):
        element = None if newest is None else newest.value_type
        return pa.list_(_common_type(f"{name}[]", [each.value_type for each in types], element))
    if not all(map(_number_kind, every)):
        return newest
    return reduce(_common_number, every) or newest


def _common_number(one: pa.DataType | None, other: pa.DataType) -> pa.DataType | None:
    """Return the type for numbers of two types, None if there is none.

    A double takes integers, too: whether each has its exact double is seen when it is read.
    """
    if one is None or one == other:
        return one
    kinds = {_number_kind(one), _number_kind(other)}
    if "float" in kinds:
        return pa.float64()
    if len(kinds) == 1:
        return max(one, other, key=lambda type_: type_.bit_width)
    return None if pa.uint64() in (one, other) else pa.int64()


def _number_kind(type_: pa.DataType) -> str | None:
    is_ = pa.types
    if is_.is_floating(type_):
        return "float"
    if is_.is_signed_integer(type_):
        return "signed"
    return "unsigned" if is_.is_unsigned_integer(type_) else None


def _common_struct(
    name: str, types: Sequence[pa.StructType], newest: pa.StructType | None
) -> pa.StructType:
    """Return the struct of all fields that files have, each under its own common type."""
    found: dict[str, list[pa.DataType]] = {}
    for type_ in types:
        for each in type_:
            found.setdefault(each.name, []).append(each.type)
    known = {each.name: each.type for each in newest or ()}
    return pa.struct(
        [
            (field, _common_type(f"{name}.{field}", of_field, known.get(field)))
            for field, of_field in found.items()
        ]
    )


def conformed(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the columns of ``schema``; one that is not there is null.

    Raises:
        CollectionError: a value has no exact equivalent in its column.
    """
    if rows.schema.equals(schema):
        return rows
    there = set(rows.column_names)
    columns = [
        _cast(rows, column) if column.name in there else pa.nulls(rows.num_rows, column.type)
        for column in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _cast(rows: pa.Table, column: pa.Field) -> pa.ChunkedArray:
    found = rows.column(column.name)
    try:
        chunks = [retyped(chunk, column.type, (column.name,)) for chunk in found.chunks]
    except MisfitError as error:
        message = (
            f"column {column.name} is {found.type} in some batches, and not all of it can be said "
            f"as {column.type}: {error}; read the batches one by one, leave the column out, or "
            f"read all of it as text after `batch-collection schema PATH "
            f"{pin_of(error.path, 'string')}`"
        )
        raise CollectionError(message) from error
    return pa.chunked_array(chunks, column.type)
