"""What a cycle costs the coordinator: plan, descriptors, commit, with made-up tasks and no broker.

``python -m bench.coordinator [PARTITIONS] [FILES] [SHARDS]`` prints milliseconds and bytes a cycle.
"""

from __future__ import annotations

import pickle
import sys
import time
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, TypeVar

from batch_collection.log.entries import digest
from batch_collection.log.entry import BatchFile, Entry, PartitionRead, Source
from pipeline.planning.planner import Planned, PlanRules, Seen, make_plan
from transforms.committing.settle import settle
from transforms.elements.report import Report, WrittenBatch, add_up

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["main"]

MINUTE = timedelta(minutes=1)
NOON = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
MESSAGES = 1000  # a partition
ROUNDS = 3

_T = TypeVar("_T")


def main(partitions: int = 10_000, files: int = 1_000, shards: int = 100) -> None:
    """Print a table of one cycle's costs."""
    rules = PlanRules(
        collection="collected/orders",
        topic="orders",
        run="run",
        grace=timedelta(seconds=2),
        batch_size=10**6,
        max_messages=10**9,
        max_ahead=timedelta(hours=1),
        shards=shards,
    )
    newest = _entry(partitions)
    ends = dict.fromkeys(range(partitions), (0, 2 * MESSAGES))
    seen = Seen(NOON + timedelta(seconds=63), ends, lambda _: {})
    print(f"{partitions:,} partitions, {files:,} files, {shards:,} tasks a cycle")
    planned = _timed("plan", lambda: make_plan(newest, seen, rules))
    assert planned is not None
    _bytes("tasks, as they go to the workers", sum(len(pickle.dumps(t)) for t in planned.tasks))
    reports = _reports(planned, files)
    _bytes("descriptors, as they come back", sum(len(pickle.dumps(r)) for r in reports))
    _timed("add up the descriptors", lambda: add_up(reports))
    before = newest.to_json()
    settled = _timed(
        "close the account",
        lambda: settle(planned.plan, newest, digest(before), reports, seen.clock),
    )
    assert isinstance(settled, Entry)
    content = _timed("write the entry", settled.to_json)
    _bytes("entry", len(content))
    _timed("read the entry", lambda: Entry.from_json(content))


def _entry(partitions: int) -> Entry:
    return Entry(
        cycle=1,
        run="run",
        plan="plan",
        previous=None,
        host="host",
        pid=1,
        committed_at=NOON,
        source=Source("kafka", "orders"),
        interval=MINUTE,
        row_time="record",
        cause="interval",
        boundary=NOON,
        reads=tuple(PartitionRead(p, 0, MESSAGES) for p in range(partitions)),
        schema={"id": "int64"},
    )


def _reports(planned: Planned, files: int) -> list[Report]:
    """Make up what the tasks say: each message is a row of one of the files."""
    tasks = planned.tasks
    reports = []
    for task in tasks:
        parts = [s for s in task.slices if s.end > s.start]
        reads = tuple(PartitionRead(s.partition, s.start, s.end, messages=MESSAGES) for s in parts)
        rows = MESSAGES * len(parts)
        count = max(files // len(tasks), 1)
        report = Report(
            planned.plan,
            task.number,
            "attempt",
            read=True,
            reads=reads,
            decoded=tuple(replace(read, rows=MESSAGES) for read in reads),
            cut=True,
        )
        offsets = {s.partition: (s.start, s.end - 1, MESSAGES // count) for s in parts}
        written = [rows // count + (n < rows % count) for n in range(count)]
        batches = tuple(_batch(n, number, offsets) for number, n in enumerate(written))
        reports.append(replace(report, batches=batches))
    return reports


def _batch(rows: int, number: int, offsets: dict[int, tuple[int, int, int]]) -> WrittenBatch:
    name = f"20261122T120000Z-0000000002-00-{number:04d}-3fa9c1d2.parquet"
    file = BatchFile(
        path=f"data/window_date=2026-11-22/window_hour=12/{name}",
        staged=f"staging/00000000000000000002/{name}",
        rows=rows,
        bytes=10**6,
        crc32c="AAAAAA==",
        min_time=NOON,
        max_time=NOON,
        offsets=offsets,
    )
    return WrittenBatch(NOON, "on_time", number, file)


def _timed(what: str, act: Callable[[], _T]) -> _T:
    """Run a few times; print the best."""
    best, result = float("inf"), None
    for _ in range(ROUNDS):
        began = time.perf_counter()
        result = act()
        best = min(best, time.perf_counter() - began)
    print(f"  {what:<36}{best * 1000:>10,.1f} ms")
    found: Any = result
    return found


def _bytes(what: str, number: int) -> None:
    print(f"  {what:<36}{number:>10,} bytes")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
