"""What the first messages of a stream would become, without a collection."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch_collection.checkpoints.dead_letters import grouped
from batch_collection.log.entry import FORMAT, FORMS
from batch_collection.windows import from_microseconds, microseconds, utc_now
from transforms.decoding.contract import Columns, SchemaChange
from transforms.decoding.decode import decode
from transforms.sources.contract import Slice

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta

    from batch_collection.schema.types import Schema
    from transforms.decoding.rules import RowRules
    from transforms.sources.contract import AddressedSource, Bounds, Reader

__all__ = ["Preview", "first_messages", "preview"]


@dataclass(frozen=True, slots=True)
class Preview:
    """What some messages would become.

    Attributes:
        messages: how many were read.
        available: how many there are.
        rows: how many rows they make.
        windows: how many windows those are of.
        times: the first and the last row time; None without rows.
        dead_letters: how many messages can't become rows, by reason, the commonest first.
        example: where the first of those lies, ``partition P, offset O``; None without any.
        schema: the columns, as ``--schema`` has them.
        first: the first row's payload; None without rows.
    """

    messages: int
    available: int
    rows: int
    windows: int
    times: tuple[datetime, datetime] | None
    dead_letters: dict[str, int]
    example: str | None
    schema: Schema
    first: dict[str, Any] | None


def first_messages(topic: str, bounds: Mapping[int, Bounds], most: int) -> list[Slice]:
    """Share ``most`` messages among the partitions, from the first of each on.

    Partitions with fewer leave their share to the others.
    """
    slices, left = [], most
    filled = sorted(
        ((each.end - each.first, partition) for partition, each in bounds.items()),
    )
    for index, (size, partition) in enumerate(filled):
        count = min(size, left // (len(filled) - index))
        if count:
            first = bounds[partition].first
            slices.append(Slice(topic, partition, first, first + count))
            left -= count
    return sorted(slices, key=lambda one: one.partition)


def preview(
    source: AddressedSource,
    reader: Reader,
    most: int,
    rules: RowRules,
    pinned: Schema,
    interval: timedelta,
) -> Preview:
    """Read the first messages of a stream, and decode them as a new collection would.

    Raises:
        SourceError: it is away.
        CollectionError: the ``--input_format`` function breaks its contract.
    """
    bounds = source.bounds()
    found = list(reader.read(first_messages(source.name, bounds, most), skip_lost=True))
    batches = [each for each in found if isinstance(each, pa.RecordBatch)]
    available = sum(each.end - each.first for each in bounds.values())
    if not batches:
        return Preview(0, available, 0, 0, None, {}, None, pinned, None)
    messages = pa.Table.from_batches(batches)
    return _decoded(messages, available, rules, pinned, interval)


def _decoded(
    messages: pa.Table, available: int, rules: RowRules, schema: Schema, interval: timedelta
) -> Preview:
    now = utc_now()
    while True:
        columns = Columns(schema, schema, FORMS[FORMAT].fold, {})
        try:
            decoded = decode(messages, columns, rules, now, interval)
        except SchemaChange as change:  # a fraction came where integers were first
            schema = change.schema
            continue
        break
    rows, letters = decoded.rows, decoded.dead_letters
    times = rows.column("row_time")
    reasons = grouped(Counter(letters.column("error").to_pylist()))
    return Preview(
        messages=messages.num_rows,
        available=available,
        rows=rows.num_rows,
        windows=len(np.unique(times.to_numpy() // microseconds(interval))),
        times=_range(times),
        dead_letters=dict(reasons.most_common()),
        example=_place(letters),
        schema=decoded.schema,
        first=rows.column("payload")[0].as_py() if rows.num_rows else None,
    )


def _range(times: pa.ChunkedArray) -> tuple[datetime, datetime] | None:
    found = pc.min_max(times).as_py()
    if found["min"] is None:
        return None
    return from_microseconds(found["min"]), from_microseconds(found["max"])


def _place(letters: pa.Table) -> str | None:
    if not letters.num_rows:
        return None
    partition, offset = letters.column("partition")[0].as_py(), letters.column("offset")[0].as_py()
    return f"partition {partition}, offset {offset}"
