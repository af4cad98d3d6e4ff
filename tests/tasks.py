"""Builders of plans, tasks and chunks."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from batch_collection.windows import microseconds
from transforms.elements.chunk import Chunk
from transforms.elements.plan import Plan, Task
from transforms.elements.report import TaskOrder, order_of
from transforms.elements.tables import LEASED_POSITION, POSITION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batch_collection.log.entry import CarryFile
    from transforms.sources.contract import Slice

__all__ = ["MINUTE", "NOON", "chunk", "end", "order", "plan", "rows", "rows_with_ids", "task"]

NOON = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
MINUTE = timedelta(minutes=1)


def plan(collection: object = "collected/topic", **changes: Any) -> Plan:
    """Build the plan of cycle 1, which closes the window before noon."""
    plain = Plan(
        collection=str(collection),
        cycle=1,
        run="run",
        id="plan",
        cause="interval",
        planned_at=NOON + timedelta(seconds=2),
        interval=MINUTE,
        batch_size=100,
        boundary=NOON,
        previous_boundary=NOON - 10 * MINUTE,
        ahead_limit=NOON + timedelta(hours=1),
        schema={"value": "int64"},
        tasks=1,
    )
    return replace(plain, **changes)


def task(
    asked: Plan | None = None,
    number: int = 0,
    slices: Sequence[Slice] = (),
    carry: Sequence[CarryFile] = (),
) -> Task:
    """Build a task."""
    return Task(asked or plan(), number, tuple(slices), tuple(carry))


def order(asked: Plan | None = None, **changes: Any) -> TaskOrder:
    """Build the order of an attempt at a task."""
    return replace(order_of(task(asked), "attempt"), **changes)


def rows(
    values: Sequence[int],
    at: datetime = NOON - timedelta(seconds=30),
    *,
    first_offset: int = 0,
    step: timedelta = timedelta(0),
    payload: dict[str, list[Any]] | None = None,
    partition: int = 0,
) -> pa.Table:
    """Build rows: one a message, ``step`` apart."""
    count = len(values)
    times = [microseconds(at + number * step) for number in range(count)]
    columns = payload or {"value": list(values)}
    struct = pa.table(columns).to_struct_array().combine_chunks()
    table = pa.table(
        {
            "row_time": times,
            "partition": [partition] * count,
            "offset": range(first_offset, first_offset + count),
            "timestamp": [time // 1000 for time in times],
            "index": [None] * count,
            "key": [None] * count,
            "headers": [None] * count,
        },
        schema=POSITION,
    )
    return table.append_column("payload", struct)


def rows_with_ids(values: Sequence[int], **rules: Any) -> pa.Table:
    """Build such rows of messages of a leased source: ids name the values."""
    table = rows(values, **rules)
    payload = table.column("payload")
    columns = {
        "key": [b"key"] * len(values),
        "headers": [[("n", b"%d" % value)] for value in values],
        "id": [f"id-{value}" for value in values],
        "published": [time + 7 for time in table.column("row_time").to_pylist()],
    }
    kept = {name: table.column(name) for name in POSITION.names}
    return pa.table(kept | columns, LEASED_POSITION).append_column("payload", payload)


def chunk(table: pa.Table, of: Task | None = None, attempt: str = "attempt") -> Chunk:
    """Build a chunk."""
    return Chunk(of or task(), attempt, table)


def end(of: Task | None = None, attempt: str = "attempt") -> Chunk:
    """Build the chunk that marks a task's end."""
    return Chunk(of or task(), attempt, POSITION.empty_table(), last=True)
