"""What two consecutive entries of the log must have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_collection.paths import entry_path
from batch_collection.windows import format_instant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_collection.log.entry import Entry

__all__ = ["check_link"]


def check_link(entry: Entry, before: Entry | None) -> Iterator[str]:
    """Yield, one sentence each, what does not fit; ``before`` is None where it can't be told."""
    name = entry_path(entry.cycle)
    if entry.cause == "start" and before is not None:
        for finding in _check_begun_again(entry, before):
            yield f"{name}: {finding}"
        return
    for finding in _check_reads(entry, before):
        yield f"{name}: {finding}"
    if before is None:
        return
    if before.boundary and (entry.boundary is None or entry.boundary < before.boundary):
        yield f"{name}: the boundary went back, it was {format_instant(before.boundary)} before"
    if entry.format < before.format:
        yield f"{name}: the format went back, it was {before.format} before"
    for rule in ("source", "interval", "row_time", "layout", "headers", "fold"):
        if getattr(entry, rule) != getattr(before, rule):
            yield f"{name}: {rule} differs from that of the entry before"
    for finding in _check_rows(entry, before):
        yield f"{name}: {finding}"


def _check_begun_again(entry: Entry, before: Entry) -> Iterator[str]:
    """Check that all is pinned anew only where nothing was collected, and nothing is by that."""
    if before.cause != "start":
        yield "it begins the collection anew, though the entry before it holds more than a start"
    is_read = any(read.end != read.start or read.messages for read in entry.reads)
    if is_read or entry.panes or entry.carry or entry.dead_letters:
        yield "it begins the collection anew, and collects something"
    for rule in ("source", "layout", "headers", "fold", "format"):
        if getattr(entry, rule) != getattr(before, rule):
            yield f"{rule} differs from that of the entry before"


def _check_reads(entry: Entry, before: Entry | None) -> Iterator[str]:
    ends = before.ends if before is not None else {}
    for read in entry.reads:
        expected = ends.get(read.partition, read.start)
        if read.start != expected:
            yield (
                f"partition={read.partition} is read from offset={read.start}, but the entry "
                f"before ended at {expected}"
            )
        if read.end < read.start or read.messages + read.lost > read.end - read.start:
            yield f"partition={read.partition} has more messages than offsets"
    for partition in sorted(set(ends) - set(entry.ends)):
        yield f"partition={partition} is not in the reads any more"


def _check_rows(entry: Entry, before: Entry) -> Iterator[str]:
    waiting, waited = (sum(file.rows for file in one.carry) for one in (entry, before))
    came = sum(read.rows for read in (*entry.reads, *entry.became))
    came += sum(origin.rows for origin in entry.origins)
    left = sum(pane.rows for pane in entry.panes)
    if waited + came != left + waiting:
        yield f"{waited} waiting and {came} new rows became {left} in batches and {waiting} waiting"
