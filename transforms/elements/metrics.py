"""What happens, as Beam metrics of one namespace: the observer of every engine's worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apache_beam.metrics import Metrics

from transforms.process.events import (
    CycleBegan,
    CycleCommitted,
    FileStaged,
    MessagesRead,
    PanesSkipped,
    RowsDecoded,
    Spent,
)

if TYPE_CHECKING:
    from transforms.process.events import Event

__all__ = ["NAMESPACE", "count"]

NAMESPACE = "batch_collection"


def count(event: Event) -> None:
    """Add an event to the metrics of the step that runs, if one does in this thread."""
    match event:
        case MessagesRead():
            _add("messages", event.messages)
        case RowsDecoded():
            _add("rows", event.rows)
            _add("dead_letters", event.dead_letters)
            _add("undated_rows", event.undated)
        case FileStaged():
            _add("files", 1)
            _add("bytes", event.bytes)
            _add("late_rows", event.rows if event.is_late else 0)
        case PanesSkipped():
            _add("skipped_panes", event.panes)
        case Spent():
            _observe(f"{event.doing}_milliseconds", event.milliseconds)
        case CycleBegan():
            _observe("lag_messages", event.messages + event.left)
        case CycleCommitted() if not event.entry.is_maintenance:
            _add("cycles", 1)
            _observe("cycle_milliseconds", round(event.took.total_seconds() * 1000))
            _add("repeated_panes", sum(origin.repeated for origin in event.entry.origins))


def _add(name: str, number: int) -> None:
    if number:
        Metrics.counter(NAMESPACE, name).inc(number)


def _observe(name: str, value: int) -> None:
    Metrics.distribution(NAMESPACE, name).update(value)
