"""Decode: a chunk of messages in, its rows and dead letters out, every message accounted for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch_collection.errors import CollectionError, printable
from batch_collection.log.entry import PartitionRead
from batch_collection.schema.arrow import to_arrow
from batch_collection.schema.conforming import conform
from batch_collection.schema.types import is_changed, merge
from batch_collection.windows import from_microseconds
from transforms.decoding.additions import folded
from transforms.decoding.contract import Piece, SchemaChange, array_of
from transforms.decoding.known import decoder_named
from transforms.decoding.row_time import row_times, sent_times, why_no_time, within_years
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
    piece = _joined(reading)
    live = table.num_rows - table.column("value").null_count
    if len(piece.read) + len(faults) != live:
        message = f"{live} messages became {len(piece.read)} read and {len(faults)} dead letters"
        raise RuntimeError(message)
    rows, untimed = _rows(piece, table, rules, planned_at, interval)
    without_rows = np.ones(table.num_rows, np.bool_)
    without_rows[piece.messages] = False
    empty = piece.read[without_rows[piece.read]]
    faults |= untimed
    return Decoded(
        rows,
        _dead_letters(table, faults),
        _counts(table, rows, sorted(faults), empty),
        reading.schema,
        reading.untyped,
    )


def _joined(reading: Reading) -> Piece:
    """Return all pieces as one, rows in the order of their messages."""
    type_ = to_arrow(reading.schema)
    pieces = [replace(piece, payload=conform(piece.payload, type_)) for piece in reading.pieces]
    if len(pieces) == 1:
        return pieces[0]
    none = np.zeros(0, np.int64)
    if not pieces:
        return Piece(none, none, None, pa.array([], type_))
    read = np.sort(np.concatenate([piece.read for piece in pieces]), kind="stable")  # runs
    messages = np.concatenate([piece.messages for piece in pieces])
    index = None
    if any(piece.index is not None for piece in pieces):
        index = np.concatenate([_index(piece) for piece in pieces])
    payload = pa.concat_arrays([piece.payload for piece in pieces])
    if np.all(messages[1:] >= messages[:-1]):
        return Piece(read, messages, index, payload)
    order = np.argsort(messages, kind="stable")
    index = None if index is None else index[order]
    return Piece(read, messages[order], index, payload.take(pa.array(order)))


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
    for row in np.flatnonzero(times.is_null().to_numpy(zero_copy_only=False)):
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

    stamps = of("timestamp")
    within = within_years(stamps)
    index = pa.nulls(len(times), pa.int32())
    if piece.index is not None:
        index = pa.array(piece.index, mask=piece.index == _NO_INDEX)
    return [
        times,
        of("partition"),
        of("offset"),
        pc.if_else(within, stamps, pa.scalar(None, pa.int64())).cast(pa.timestamp("ms", "UTC")),
        index,
        *(
            of(name)
            if rules.metadata == "full"
            else pa.nulls(len(times), MESSAGES.field(name).type)
            for name in ("key", "headers")
        ),
        *map(of, position_of(table).names[len(POSITION) :]),
    ]


def _of_rows(of_messages: pa.ChunkedArray, piece: Piece) -> pa.Array:
    """Return what messages have as many times as they make rows."""
    column = array_of(of_messages)
    is_whole = len(piece.messages) == len(column) and piece.index is None
    return column if is_whole else column.take(pa.array(piece.messages))


def _dead_letters(table: pa.Table, faults: dict[int, _Fault]) -> pa.Table:
    numbers, schema = sorted(faults), message_schema(table)
    letters = table.select(schema.names).take(pa.array(numbers, pa.int64()))
    for field in _FAULT:
        texts = pa.array([getattr(faults[number], field.name) for number in numbers], field.type)
        letters = letters.append_column(field, texts)
    return letters.cast(pa.schema([*schema, *_FAULT]))


def _counts(
    table: pa.Table, rows: pa.Table, dead: list[int], empty: npt.NDArray[np.int64]
) -> tuple[PartitionRead, ...]:
    partitions = array_of(table.column("partition")).to_numpy()
    offsets = array_of(table.column("offset")).to_numpy()
    nulls = array_of(table.column("value")).is_null().to_numpy(zero_copy_only=False)
    of_rows = array_of(rows.column("partition")).to_numpy()
    times = array_of(rows.column("row_time")).to_numpy()
    counts = []
    for partition in sorted(pc.unique(table.column("partition")).to_pylist()):
        mine = partitions == partition
        its_times = times[of_rows == partition]
        counts.append(
            PartitionRead(
                partition=partition,
                start=int(offsets[mine].min()),
                end=int(offsets[mine].max()) + 1,
                messages=int(mine.sum()),
                rows=len(its_times),
                dead_letters=int(mine[dead].sum()),
                tombstones=int((mine & nulls).sum()),
                empty=int(mine[empty].sum()),
                max_time=from_microseconds(int(its_times.max())) if len(its_times) else None,
            )
        )
    return tuple(counts)
