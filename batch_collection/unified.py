"""One schema for the files of a snapshot: older files lack columns, none has another type."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa

from batch_collection.errors import CollectionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Unified", "conformed", "unified"]


@dataclass(frozen=True, slots=True)
class Unified:
    """The columns of a snapshot, in the order in which they came.

    ``conflicts`` says of those columns that no type holds exactly what is wrong with them.
    """

    fields: dict[str, pa.DataType] = field(default_factory=dict)
    conflicts: dict[str, str] = field(default_factory=dict)

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


def unified(schemas: Iterable[pa.Schema]) -> Unified:
    """Unify schemas, earlier ones first.

    Nulls take any type, structs gain fields, and numbers of two kinds, as a column has whose type
    was changed for the future, become those of one that holds both; no more.
    """
    found = Unified()
    for schema in dict.fromkeys(schemas):
        for column in schema:
            name, known = column.name, found.fields.get(column.name)
            try:
                found.fields[name] = _common_type(name, known, column.type)
            except CollectionError as error:
                found.conflicts[name] = str(error)
    return found


def _common_type(name: str, one: pa.DataType | None, other: pa.DataType) -> pa.DataType:
    """Return the type that holds both exactly."""
    if one is None or one == other or pa.types.is_null(one):
        return other
    if pa.types.is_null(other):
        return one
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        return _common_struct(name, one, other)
    if pa.types.is_list(one) and pa.types.is_list(other):
        return pa.list_(_common_type(name, one.value_type, other.value_type))
    common = _common_number(one, other)
    if common is not None:
        return common
    message = (
        f"column {name} is {one} in some batches and {other} in others; "
        "read the batches one by one, or leave the column out"
    )
    raise CollectionError(message)


def _common_number(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Return the type for numbers of two types, None if there is none.

    A double takes integers, too: whether each has its exact double is seen when it is read.
    """
    kinds = {_number_kind(one), _number_kind(other)}
    if None in kinds:
        return None
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


def _common_struct(name: str, one: pa.StructType, other: pa.StructType) -> pa.StructType:
    fields = {each.name: each.type for each in one}
    for each in other:
        fields[each.name] = _common_type(f"{name}.{each.name}", fields.get(each.name), each.type)
    return pa.struct(list(fields.items()))


def conformed(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the columns of ``schema``; one that is not there is null.

    Raises:
        CollectionError: a value has no exact equivalent in its column.
    """
    if rows.schema.equals(schema):
        return rows
    columns = [
        _cast(rows, column)
        if column.name in rows.column_names
        else pa.nulls(rows.num_rows, column.type)
        for column in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _cast(rows: pa.Table, column: pa.Field) -> pa.ChunkedArray:
    try:
        return rows.column(column.name).cast(column.type)
    except pa.ArrowInvalid as error:
        message = (
            f"column {column.name} is {rows.column(column.name).type} in some batches, and not all "
            f"of it can be said as {column.type}: {error}; read the batches one by one, or leave "
            "the column out"
        )
        raise CollectionError(message) from error
