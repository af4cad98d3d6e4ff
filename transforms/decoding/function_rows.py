"""Rows that a user's function makes of messages (``--input_format=module:function``), or bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch_collection.errors import CollectionError
from batch_collection.instants import FIRST, INSTANT, LAST
from batch_collection.schema.arrow import shape_of, to_arrow
from batch_collection.schema.conforming import conform
from batch_collection.schema.types import is_changed, merge, prune, untyped
from transforms.decoding.additions import folded, objection
from transforms.decoding.contract import (
    Piece,
    Reading,
    SchemaChange,
    array_of,
    grow,
    halves,
    reason_of,
    too_much,
)
from transforms.decoding.json_value import Misfit
from transforms.elements.headers import headers_as_map

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from batch_collection.schema.types import Schema
    from transforms.decoding.contract import Columns
    from transforms.decoding.rules import RowRules

    RowFunction: TypeAlias = Callable[[pa.Table], pa.Table]

__all__ = [
    "COLUMNS",
    "LEASED_COLUMNS",
    "MESSAGE",
    "check_instants",
    "read_bytes",
    "read_function",
    "struct_of",
]


COLUMNS = ("value", "key", "headers", "timestamp", "offset", "partition")
"""The columns of the table that a function is called with; ``headers`` is a map."""

LEASED_COLUMNS = ("value", "key", "headers", "timestamp", "id", "published")
"""The same for messages of a leased source, whose addresses are not theirs."""

MESSAGE = "_message"
"""The column, if any, in which a function tells each row's message, by its place in the table."""

_FIRST, _LAST = (pa.scalar(edge, INSTANT) for edge in (FIRST, LAST))


def read_bytes(messages: pa.Table, columns: Columns, rules: RowRules) -> Reading:
    """Return messages as they are: one row each, one column ``value``."""
    return read_function(_values, "bytes", messages, columns, rules)


def _values(messages: pa.Table) -> pa.Table:
    return messages.select(["value"])


def read_function(
    function: RowFunction, name: str, messages: pa.Table, columns: Columns, rules: RowRules
) -> Reading:
    """Return the rows that ``function`` makes of messages; tombstones are not shown to it.

    In: a table of ``COLUMNS`` or ``LEASED_COLUMNS``. It returns a table with one row a message in
    their order, or with a column ``_message`` that tells each row's message; without any column, it
    is one row a message. Where it raises, or a value does not fit its column, it is called again
    with halves, until the bad messages stand alone. What was ``dropped`` is left out of its table.

    Raises:
        CollectionError: it returns something else.
        SchemaChange: a column in ``known`` but not ``pinned`` must become double.
    """
    names = LEASED_COLUMNS if "id" in messages.column_names else COLUMNS
    shown = headers_as_map(messages.select(names))
    reader = _Reader(function, name, shown, columns, rules.reserved, columns.known)
    live = messages.column("value").is_valid().to_numpy()
    reader.read(np.flatnonzero(live))
    return Reading(reader.pieces, reader.faults, reader.known, reader.untyped)


@dataclass
class _Reader:
    function: RowFunction
    name: str
    messages: pa.Table
    columns: Columns
    reserved: frozenset[str]
    known: Schema
    pieces: list[Piece] = field(default_factory=list)
    faults: dict[int, str] = field(default_factory=dict)
    untyped: Schema = field(default_factory=dict)

    def read(self, numbers: npt.NDArray[np.int64]) -> None:
        """Read messages whole, or half by half."""
        if not len(numbers):
            return
        try:
            self.pieces.append(self._piece(numbers))
        except (CollectionError, SchemaChange):
            raise
        except Exception as error:  # noqa: BLE001 - a user's code may raise anything
            if len(numbers) == 1:
                self.faults[int(numbers[0])] = self._reason(error)
                return
            for half in halves(numbers):
                self.read(half)

    def _reason(self, error: Exception) -> str:
        if isinstance(error, Misfit):
            return str(error)
        if isinstance(error, pa.ArrowInvalid):
            return reason_of(error)
        return f"{self.name} raised {type(error).__name__}: {error}; fix the function or the sender"

    def _piece(self, numbers: npt.NDArray[np.int64]) -> Piece:
        whole = len(numbers) == self.messages.num_rows
        rows = self.function(self.messages if whole else self.messages.take(pa.array(numbers)))
        if not isinstance(rows, pa.Table):
            self._refuse(f"returned {type(rows).__name__}; return a pyarrow.Table")
        places, rows = self._places(rows, len(numbers))
        rows = rows.drop_columns(
            [name for name in rows.column_names if name in self.columns.dropped]
        )
        payload = self._payload(rows, len(numbers) if places is None else len(places))
        if places is None:
            return Piece(numbers, numbers, None, payload)
        order = np.argsort(places, kind="stable")
        places = places[order]
        index = np.arange(len(places)) - np.searchsorted(places, places)
        return Piece(
            numbers, numbers[places], index.astype(np.int32), payload.take(pa.array(order))
        )

    def _places(self, rows: pa.Table, messages: int) -> tuple[Any, pa.Table]:
        """Return each row's message, None if they go one by one, and the other columns."""
        if MESSAGE not in rows.column_names:
            if rows.num_columns and rows.num_rows != messages:  # else it can't tell how many
                self._refuse(
                    f"returned {rows.num_rows} rows for {messages} messages; "
                    f"name each row's message in a column {MESSAGE}"
                )
            return None, rows
        column = rows.column(MESSAGE)
        if not pa.types.is_integer(column.type) or column.null_count:
            self._refuse(f"returned {MESSAGE} as {column.type}; return integers without nulls")
        places = column.to_numpy().astype(np.int64)
        if len(places) and not 0 <= places.min() <= places.max() < messages:
            self._refuse(f"returned a {MESSAGE} beyond its {messages} messages; count from 0")
        return places, rows.drop_columns([MESSAGE])

    def _payload(self, rows: pa.Table, count: int) -> pa.StructArray:
        names = rows.column_names
        for name in names:
            if name not in self.known and folded(name, self.columns.fold) in self.reserved:
                self._refuse(f"returned a column {name!r} of the metadata or path; rename it")
        if len(set(names)) < len(names):
            self._refuse("returned two columns of one name; rename one")
        array = struct_of(rows) if names else pa.array([{}] * count, pa.struct([]))
        try:
            shape = shape_of(array.type)
            grown = grow(self.known, self.columns.pinned, prune(shape))
        except CollectionError as error:
            self._refuse(f"returned what a batch can't hold: {error}")
        if what := too_much(grown, self.known):
            reason = f"{self.name} returned {what}; return fewer"
            raise Misfit(reason)
        if problem := objection(self.known, grown, self.columns.fold, self.columns.dropped):
            reason = f"{self.name} returned what a batch can't hold: {problem}"
            raise Misfit(reason)
        payload = conform(array, to_arrow(grown))
        payload.validate(full=True)  # it may hold text that is no UTF-8
        check_instants(payload, "")
        if is_changed(self.known, grown):
            raise SchemaChange(grown)
        self.known = grown
        self.untyped = merge(self.untyped, untyped(shape, grown))
        return payload

    def _refuse(self, problem: str) -> Any:
        message = f"--input_format={self.name} {problem}"
        raise CollectionError(message)


def check_instants(array: pa.Array, path: str) -> None:
    """Refuse instants beyond the years 1 to 9999, which Python and JSON lines can't say.

    Raises:
        Misfit: there is one.
    """
    if pa.types.is_struct(array.type):
        for field, values in zip(array.type, array.flatten(), strict=True):
            check_instants(values, f"{path}.{field.name}")
    elif pa.types.is_list(array.type):
        check_instants(array.flatten(), f"{path}[]")
    elif pa.types.is_timestamp(array.type):
        beyond = array.filter(pc.or_(pc.less(array, _FIRST), pc.greater(array, _LAST)))
        if len(beyond):
            reason = (
                f"column {path[1:]} is timestamp and can't hold {beyond[0].value} microseconds "
                "since 1970, which are not within years 1 to 9999; fix the function or the sender"
            )
            raise Misfit(reason)


def struct_of(rows: pa.Table) -> pa.StructArray:
    """Return the rows as one struct array."""
    columns = [array_of(column) for column in rows.columns]
    return pa.StructArray.from_arrays(columns, fields=list(rows.schema))
