"""Logs without files: whatever a collector may commit, for what reads nothing but the log."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import strategies as st

from batch_collection.checkpoints import ranges
from batch_collection.log.batch import batches_of
from batch_collection.log.entries import digest
from batch_collection.log.entry import BatchFile, CarryFile, Entry, Pane, PartitionRead, Source
from batch_collection.paths import batch_path, carry_path, entry_path, staged_path
from tests.builders import MINUTE, at

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from batch_collection.log.batch import Batch
    from batch_collection.storage.contract import Storage

__all__ = ["LOGS", "Cycle", "batches_by_entries", "log_of", "put", "spans"]

FIRST = at("10:00:00")


class Cycle(NamedTuple):
    """What a cycle gave: files of its own window, and by window of early and of late panes.

    Windows count from the cycle's own, which it closes, on and back.
    """

    files: int = 1
    early: tuple[int, ...] = ()
    late: tuple[int, ...] = ()
    messages: int = 1
    carried: tuple[int, ...] = ()


def _distances(most: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(st.integers(1, most), max_size=2, unique=True).map(tuple)


LOGS = st.lists(
    st.builds(
        Cycle, st.integers(0, 3), _distances(9), _distances(30), st.integers(0, 9), _distances(2)
    ),
    min_size=1,
    max_size=40,
)


@contextmanager
def spans(span: int = 2, factor: int = 2, levels: int = 3) -> Iterator[None]:
    """Make checkpoints of few entries, so that a short log has all kinds of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "SPAN", span)
        patch.setattr(ranges, "FACTOR", factor)
        patch.setattr(ranges, "LEVELS", levels)
        yield


def log_of(cycles: Sequence[Cycle], run: str = "run-1") -> list[Entry]:
    """Return chained entries."""
    entries: list[Entry] = []
    for number, cycle in enumerate(cycles):
        panes = [_pane(number, number, "on_time", cycle.files)] if cycle.files else []
        panes += [_pane(number, number + window, "early", 1) for window in cycle.early]
        panes += [_pane(number, number - window, "late", 2) for window in cycle.late]
        before = entries[-1] if entries else None
        entries.append(_entry(number, cycle, tuple(panes), before, run))
    return entries


def _entry(
    number: int, cycle: Cycle, panes: tuple[Pane, ...], before: Entry | None, run: str
) -> Entry:
    ended = before.reads[0].end if before else 0
    start = _window(number)
    opened = dict(before.open) if before else {}
    opened.pop(start, None)
    for pane in panes:
        if pane.timing == "early":
            opened[pane.window_start] = (*opened.get(pane.window_start, ()), number)
    carry = tuple(
        CarryFile(
            carry_path(number, 0, window, "0badcafe"), _window(number + window), 5, 0, 1, "00000000"
        )
        for window in cycle.carried
    )
    return Entry(
        cycle=number,
        run=run,
        plan=f"plan-{number}",
        previous=digest(before.to_json()) if before else None,
        host="test",
        pid=1,
        committed_at=start + 2 * MINUTE,
        source=Source("kafka", "batch-topic", "topic-id", "cluster-id"),
        interval=MINUTE,
        row_time="record",
        cause="interval",
        boundary=start + MINUTE,
        reads=(PartitionRead(0, ended, ended + cycle.messages, cycle.messages, tombstones=1),),
        panes=tuple(sorted(panes, key=lambda pane: pane.window_start)),
        closed_empty=() if cycle.files else ((start, start + MINUTE),),
        open=opened,
        carry=carry,
    )


def _window(number: int) -> datetime:
    return FIRST + number * MINUTE


def _pane(cycle: int, window: int, timing: str, files: int) -> Pane:
    start = _window(window)
    parts = []
    for number in range(files):
        path = batch_path(start, cycle, 0, number, f"{timing[:1]}{window & 0xFFFF:04x}", ".parquet")
        rows = 1 + (7 * cycle + 3 * window + number) % 50
        staged = staged_path(cycle, path)
        parts.append(BatchFile(path, staged, rows, 100, "00000000", start, start, {0: (0, 0, 1)}))
    return Pane(start, start + MINUTE, timing, sum(part.rows for part in parts), tuple(parts))


def put(storage: Storage, entries: Sequence[Entry]) -> None:
    """Write a log as it is, to a directory at once."""
    if storage.is_far:
        for entry in entries:
            storage.replace(entry_path(entry.cycle), entry.to_json())
        return
    Path(storage.uri, "log").mkdir(parents=True, exist_ok=True)
    for entry in entries:
        Path(storage.uri, entry_path(entry.cycle)).write_bytes(entry.to_json())


def batches_by_entries(storage: Storage, entries: Sequence[Entry]) -> list[Batch]:
    """Return the batches as the entries have them, one by one: what all reading must come to."""
    return [batch for entry in entries for batch in batches_of(storage, entry)]
