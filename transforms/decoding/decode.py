"""Decode: a chunk of messages in, its rows and dead letters out, every message accounted for."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from batch_collection.errors import CollectionError, printable
from batch_collection.log.entry import PartitionRead
from batch_collection.schema.arrow import to_arrow
from batch_collection.schema.conforming import conform
from batch_collection.schema.types import is_changed, merge
from batch_collection.windows import from_microseconds
from transforms.decoding.additions import folded
from transforms.decoding.contract import Piece, SchemaChange, array_of
from transforms.decoding.known import decoder_named
from transforms.decoding.row_time import kept_within_years, row_times, sent_times, why_no_time
from transforms.elements.partitions import Partitions
from transforms.elements.tables import POSITION, position_of
from transforms.sources.contract import MESSAGES, message_schema

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    import numpy.typing as npt

    from batch_collection.schema.types import Schema
    from transforms.decoding.contract import Columns, Reading
    from transforms.decoding.rules import RowRules

__all__ = ["DEAD_LETTERS", "Decoded", "decode"]


_FAULT = [pa.field("stage", pa.string()), pa.field("error", pa.string())]
DEAD_LETTERS = pa.schema([*MESSAGES, *_FAULT])
"""Messages of which no row could be made, unchanged. ``stage``: ``decode`` or ``row_time``.

Those of a leased source have their ``id`` and ``published`` before these."""

_ENDS = 400  # characters of a reason


class Decoded(NamedTuple):
    """What became of a chunk.

    ``rows``: ``position_of`` the messages and ``payload``, in their order. ``dead_letters``:
    ``DEAD_LETTERS``, likewise. ``counts``: by partition, from the chunk's first offset to beyond
    its last, what its messages became. ``schema``: known before, and what this chunk added.
    ``untyped``: where rows say null for objects and arrays of no type (``schema.untyped``).
    """

    rows: pa.Table
    dead_letters: pa.Table
    counts: tuple[PartitionRead, ...]
    schema: Schema
    untyped: Schema


class _Fault(NamedTuple):
    stage: str
    error: str


def _fault(stage: str, reason: str) -> _Fault:
    """Keep a reason as it may be shown, without its middle: a name in it may be megabytes."""
    if len(reason) > 2 * _ENDS:
        reason = f"{reason[:_ENDS]} ... {reason[-_ENDS:]}"
    return _Fault(stage, printable(reason))


def decode(
    messages: pa.RecordBatch | pa.Table,
    columns: Columns,
    rules: RowRules,
    planned_at: datetime,
    interval: timedelta,
) -> Decoded:
    """Make rows of messages, whose times lie in windows one ``interval`` long.

    In: ``MESSAGES``, or those of a leased source (``LEASED_MESSAGES``).

    A message makes rows as a whole or none: each is rows, a dead letter, a tombstone or empty, at
    its own partition and offset whatever its bytes or its neighbours'. Given the types that a cycle
    ends with, what a message makes does not depend on the chunk it is in: if rows say null for an
    object or array whose column got a type only later (``untyped``), the cycle is planned again
    with that type.

    Raises:
        SchemaChange: a column in ``known`` but not ``pinned`` holds integers and now a fraction.
        CollectionError: the ``--input_format`` function breaks its contract, or a pinned column
            has a reserved name.
    """
    pinned, known = columns.pinned, columns.known
    if clash := sorted(name for name in pinned if folded(name, columns.fold) in rules.reserved):
        message = (
            f"column {clash[0]!r} has a name of the metadata or path; rename it, go on with the "
            "--metadata of before, or use another --output"
        )
        raise CollectionError(message)
    table = pa.Table.from_batches([messages]) if isinstance(messages, pa.RecordBatch) else messages
    table = table.combine_chunks()
    schema = merge(pinned, known, widen=False)
    while True:
        try:
            decoded = _decode(table, replace(columns, known=schema), rules, planned_at, interval)
        except SchemaChange as change:  # begin again with doubles
            schema = change.schema
            continue
        if is_changed(known, decoded.schema):  # not only the chunk's own columns
            raise SchemaChange(decoded.schema)
        if not is_changed(decoded.untyped, decoded.schema):
            return decoded
        schema = decoded.schema


def _decode(
    table: pa.Table, columns: Columns, rules: RowRules, planned_at: datetime, interval: timedelta
) -> Decoded:
    reading = decoder_named(rules.input_format)(table, columns, rules)
    faults = {number: _fault("decode", reason) for number, reason in reading.faults.items()}
    pieces = _in_order(reading)
    read = np.concatenate([piece.read for piece in pieces])
    live = table.num_rows - table.column("value").null_count
    if len(read) + len(faults) != live:
        message = f"{live} messages became {len(read)} read and {len(faults)} dead letters"
        raise RuntimeError(message)
    without_rows = np.ones(table.num_rows, np.bool_)
    tables = []
    for piece in pieces:
        rows, untimed = _rows(piece, table, rules, planned_at, interval)
        without_rows[piece.messages] = False
        tables.append(rows)
        faults |= untimed
    rows, empty = pa.concat_tables(tables), read[without_rows[read]]
    return Decoded(
        rows,
        _dead_letters(table, faults),
        _counts(table, rows, sorted(faults), empty),
        reading.schema,
        reading.untyped,
    )


_FEW_ROWS = 2_000  # of a piece: joined to others, since each has a price of its own


def _in_order(reading: Reading) -> list[Piece]:
    """Return the pieces in the order of their messages; as one, where that takes or is worth it."""
    type_ = to_arrow(reading.schema)
    none = np.zeros(0, np.int64)
    pieces = [replace(piece, payload=conform(piece.payload, type_)) for piece in reading.pieces]
    pieces.sort(key=lambda piece: int(piece.read[0]) if len(piece.read) else 0)
    if not pieces:
        return [Piece(none, none, None, pa.array([], type_))]
    messages = np.concatenate([piece.messages for piece in pieces])
    is_ordered = bool(np.all(messages[1:] >= messages[:-1]))
    if is_ordered and len(messages) >= _FEW_ROWS * (len(pieces) - 1):
        return pieces
    read = np.sort(np.concatenate([piece.read for piece in pieces]), kind="stable")  # runs
    index = None
    if any(piece.index is not None for piece in pieces):
        index = np.concatenate([_index(piece) for piece in pieces])
    payload = pa.concat_arrays([piece.payload for piece in pieces])
    if is_ordered:
        return [Piece(read, messages, index, payload)]
    order = np.argsort(messages, kind="stable")
    index = None if index is None else index[order]
    return [Piece(read, messages[order], index, payload.take(pa.array(order)))]


_NO_INDEX = -1


def _index(piece: Piece) -> npt.NDArray[np.int32]:
    if piece.index is not None:
        return piece.index
    return np.full(len(piece.messages), _NO_INDEX, np.int32)


def _rows(
    piece: Piece, table: pa.Table, rules: RowRules, planned_at: datetime, interval: timedelta
) -> tuple[pa.Table, dict[int, _Fault]]:
    """Return the rows, and why some messages have none for want of a row time."""
    sent = _of_rows(sent_times(rules.row_time, table), piece)
    times = row_times(
        rules.row_time, rules.timestamp_unit, interval, planned_at, sent, piece.payload
    )
    faults: dict[int, _Fault] = {}
    for row in np.flatnonzero(_true(times.is_null())) if times.null_count else ():
        number = int(piece.messages[row])
        if number not in faults:
            reason = why_no_time(
                rules.row_time,
                rules.timestamp_unit,
                interval,
                sent[int(row)],
                piece.payload,
                int(row),
            )
            faults[number] = _fault("row_time", reason)
    rows = pa.Table.from_arrays(
        [*_position(piece, table, rules, times), piece.payload],
        schema=position_of(table).append(pa.field("payload", piece.payload.type)),
    )
    if faults:
        rows = rows.filter(pa.array(~np.isin(piece.messages, list(faults))))
    return rows, faults


def _position(piece: Piece, table: pa.Table, rules: RowRules, times: pa.Array) -> list[pa.Array]:
    """Return the columns of ``position_of`` the messages."""

    def of(name: str) -> pa.Array:
        return _of_rows(table.column(name), piece)

    index = _nulls(len(times), pa.int32())
    if piece.index is not None:
        index = pa.array(piece.index, mask=piece.index == _NO_INDEX)
    return [
        times,
        of("partition"),
        of("offset"),
        kept_within_years(of("timestamp")).cast(pa.timestamp("ms", "UTC")),
        index,
        *(
            of(name) if rules.metadata == "full" else _nulls(len(times), MESSAGES.field(name).type)
            for name in ("key", "headers")
        ),
        *map(of, position_of(table).names[len(POSITION) :]),
    ]


def _nulls(count: int, type_: pa.DataType) -> pa.Array:
    """Return so many nulls; those of many chunks, which may wait together, share memory."""
    most = 1 << (count - 1).bit_length()
    return _many_nulls(most, type_).slice(0, count)


@lru_cache(maxsize=64)
def _many_nulls(count: int, type_: pa.DataType) -> pa.Array:
    return pa.nulls(count, type_)


def _of_rows(of_messages: pa.ChunkedArray, piece: Piece) -> pa.Array:
    """Return what messages have as many times as they make rows."""
    column, messages = array_of(of_messages), piece.messages
    if len(messages) and piece.index is None and messages[-1] - messages[0] == len(messages) - 1:
        return column.slice(messages[0], len(messages))
    return column.take(pa.array(messages))


def _dead_letters(table: pa.Table, faults: dict[int, _Fault]) -> pa.Table:
    numbers, schema = sorted(faults), message_schema(table)
    letters = table.select(schema.names).take(pa.array(numbers, pa.int64()))
    for field in _FAULT:
        texts = pa.array([getattr(faults[number], field.name) for number in numbers], field.type)
        letters = letters.append_column(field, texts)
    return letters.cast(pa.schema([*schema, *_FAULT]))


def _true(mask: pa.BooleanArray) -> npt.NDArray[np.bool_]:
    return mask.to_numpy(zero_copy_only=False)


def _counts(
    table: pa.Table, rows: pa.Table, dead: list[int], empty: npt.NDArray[np.int64]
) -> tuple[PartitionRead, ...]:
    of_messages = Partitions.of(table.column("partition"))
    offsets = array_of(table.column("offset")).to_numpy()
    starts, last = of_messages.least(offsets), of_messages.most(offsets)
    messages, letters = of_messages.counts(), of_messages.count(np.array(dead, np.int64))
    tombstones = of_messages.count(np.flatnonzero(_true(array_of(table.column("value")).is_null())))
    without_rows = of_messages.count(empty)
    of_rows = Partitions.of(rows.column("partition"))
    made, times = of_rows.counts(), of_rows.most(rows.column("row_time").to_numpy())
    return tuple(
        PartitionRead(
            partition=partition,
            start=start,
            end=last[partition] + 1,
            messages=messages[partition],
            rows=made.get(partition, 0),
            dead_letters=letters[partition],
            tombstones=tombstones[partition],
            empty=without_rows[partition],
            max_time=from_microseconds(times[partition]) if partition in times else None,
        )
        for partition, start in starts.items()
    )
