"""Rows that are objects or tables already, as one payload: types are found as for JSON, or given.

Nothing is dropped, nothing rounded: a row that the collection can't hold is an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np
import pyarrow as pa

from batch_collection.errors import CollectionError, WriteError, in_one_line
from batch_collection.schema.arrow import shape_of, to_arrow
from batch_collection.schema.columns import PATH_KEYS
from batch_collection.schema.conforming import conform
from batch_collection.schema.retyped import MisfitError, retyped
from batch_collection.schema.types import merge, prune
from transforms.decoding.additions import folded, objection
from transforms.decoding.contract import grow, too_much
from transforms.decoding.function_rows import check_instants, struct_of
from transforms.decoding.json_value import Misfit
from transforms.elements.tables import POSITION

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from batch_collection.schema.types import Schema
    from transforms.elements.given import Given

__all__ = ["Types", "rows_of"]

_MOST_ROWS = 10_000
"""Dictionaries that become one table."""

_CURE = (
    "give CollectBatches a schema= with a type that takes all values of the column, or the "
    "collection another type: `batch-collection schema PATH --pin NAME=TYPE`"
)


class Types(NamedTuple):
    """What rows are read under.

    Attributes:
        known: the collection's columns.
        given: the types that a user says, which stay.
        dropped: columns that are left out.
        fold: see ``Form``.
    """

    known: Schema
    given: Schema
    dropped: Schema
    fold: str


def rows_of(elements: Iterable[tuple[int, Given]], types: Types) -> tuple[list[pa.Table], Schema]:
    """Return elements, each with its row time, as tables (``POSITION`` and ``payload``).

    Rows are in the order of the elements, one table a table, one for many dictionaries. The schema
    is that which was known, with what they add: integers become fractions where some are, for
    tables before, too. Row times are microseconds since the Unix epoch, positions 0 and null.

    Raises:
        WriteError: a value fits no type of its column; it names both.
    """
    known = merge(types.known, types.given, widen=False)
    parts = [(times, _array(part, types)) for times, part in _parts(elements)]
    schema = known
    for _, array in parts:
        schema = _grown(schema, array.type, types)
    return [_table(times, _payload(array, schema)) for times, array in parts], schema


def _parts(
    elements: Iterable[tuple[int, Given]],
) -> Iterator[tuple[Sequence[int], pa.Table | list[dict[str, Any]]]]:
    """Yield tables one by one, and dictionaries together."""
    times: list[int] = []
    rows: list[dict[str, Any]] = []
    for time, given in elements:
        if rows and (not isinstance(given, dict) or len(rows) == _MOST_ROWS):
            yield times, rows
            times, rows = [], []
        if isinstance(given, dict):
            times.append(time)
            rows.append(given)
        else:
            yield [time] * given.num_rows, given
    if rows:
        yield times, rows


def _array(rows: pa.Table | list[dict[str, Any]], types: Types) -> pa.StructArray:
    """Return rows as one struct array, each column of the type that pyarrow finds in it."""
    table = rows if isinstance(rows, pa.Table) else _columns(rows)
    names = [name for name in table.column_names if name not in types.dropped]
    if len(set(names)) < len(names):
        _refuse("a table has two columns of one name; rename one")
    for name in names:
        if folded(name, types.fold) in PATH_KEYS:
            _refuse(f"a column is named {name!r}, as a key of the path is; rename it")
    if not names:
        return pa.array([{}] * len(rows), pa.struct([]))
    array = struct_of(table.select(names))
    try:
        shape = shape_of(array.type)
        array = conform(array, to_arrow(shape))
        array.validate(full=True)  # it may hold text that is no UTF-8
        check_instants(array, "")
    except (CollectionError, Misfit, pa.ArrowInvalid) as error:
        _refuse(in_one_line(error), error)
    return array


def _columns(rows: list[dict[str, Any]]) -> pa.Table:
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
            _refuse(f"column {name}: {in_one_line(error)}; {_CURE}", error)
    return pa.table(columns)


def _grown(known: Schema, type_: pa.StructType, types: Types) -> Schema:
    found = prune(shape_of(type_))
    grown = grow(known, types.given, found)
    if what := too_much(grown, known):
        _refuse(f"rows have {what}; give fewer")
    if problem := objection(known, grown, types.fold, types.dropped):
        _refuse(problem)
    return grown


def _payload(array: pa.StructArray, schema: Schema) -> pa.StructArray:
    """Return rows under a schema that has all of their columns."""
    type_ = to_arrow(schema)
    if not type_.num_fields:
        return pa.array([{}] * len(array), type_)
    try:
        return retyped(array, type_, ())
    except MisfitError as error:
        name = ".".join(step or "[]" for step in error.path)
        new, old = (each.field(str(error.path[0])).type for each in (type_, array.type))
        _refuse(f"column {name} is {new} and {old} came: {error}; {_CURE}", error)


def _table(times: Sequence[int], payload: pa.StructArray) -> pa.Table:
    """Return rows with their times; they have no other position."""
    count = len(payload)
    position = {
        "row_time": pa.array(np.asarray(times, np.int64)),
        "partition": pa.array(np.zeros(count, np.int32)),
        "offset": pa.array(np.zeros(count, np.int64)),
    }
    columns = [
        position[each.name] if each.name in position else pa.nulls(count, each.type)
        for each in POSITION
    ]
    return pa.Table.from_arrays(
        [*columns, payload], schema=POSITION.append(pa.field("payload", payload.type))
    )


def _refuse(problem: str, error: Exception | None = None) -> NoReturn:
    message = f"CollectBatches can't write a row: {problem}"
    raise WriteError(message) from error
