"""What is written of a run where programs read it: an object an event."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

from batch_collection.counted import counted
from batch_collection.log.sums import Sums
from batch_collection.windows import format_instant
from pipeline.showing.board import Totals, is_cycle, is_idle, said
from pipeline.showing.lines import level_of, say_record
from pipeline.showing.wording import stream_name
from transforms.process.events import Away, CycleCommitted, GivenUp, Note

if TYPE_CHECKING:
    from typing_extensions import Self

    from transforms.process.events import Event

__all__ = ["EventLog", "fields_of", "importance"]

_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])")


def importance(event: Event) -> int:
    """Return how important an event is: a level of ``logging``."""
    match event:
        case GivenUp():
            return logging.ERROR
        case Away():
            return logging.WARNING
        case CycleCommitted() if is_cycle(event):
            return _importance_of_cycle(event)
        case Note():
            return level_of(event.text)
        case _ if said(event) is None:
            return logging.DEBUG
    return logging.INFO


def _importance_of_cycle(event: CycleCommitted) -> int:
    sums = Sums.of(event.entry)
    if sums.dead_letters or sums.lost:
        return logging.WARNING
    return logging.DEBUG if is_idle(event) else logging.INFO


def fields_of(event: Event) -> dict[str, Any]:
    """Return what an event tells, by names that stay."""
    match event:
        case CycleCommitted():
            return _of_entry(event)
        case GivenUp():
            return {"topic": event.topic, "error": str(event.error)}
    names = [name for name in ("topic", "error", "is_of_source") if hasattr(event, name)]
    return {name: getattr(event, name) for name in names}


def _of_entry(event: CycleCommitted) -> dict[str, Any]:
    entry, sums = event.entry, Sums.of(event.entry)
    boundary = entry.boundary
    return {
        "topic": stream_name(entry.source),
        "collection": event.collection,
        "cycle": entry.cycle,
        "cause": entry.cause,
        "messages": sums.messages,
        "rows": sums.rows,
        "late_rows": sums.late_rows,
        "files": sums.files,
        "bytes": sums.bytes,
        "dead_letters": sums.dead_letters,
        "reason": event.reason or None,
        "lost": sums.lost,
        "waiting_rows": sum(file.rows for file in entry.carry),
        "messages_left": event.left,
        "closed_through": None if boundary is None else format_instant(boundary),
        "committed_at": format_instant(entry.committed_at),
        "seconds": event.took.total_seconds(),
    }


class EventLog:
    """A display for programs: a line of JSON an event, and one that sums up."""

    def __init__(self) -> None:
        """Begin to count cycles."""
        self._totals = Totals()

    def __call__(self, event: Event) -> None:
        """Write an event, if it is important enough and there is something to say of it."""
        if is_cycle(event) and isinstance(event, CycleCommitted):
            self._totals.add(event)
        message = said(event, verbose=True)
        if message is not None:
            name = _WORDS.sub("_", type(event).__name__).lower()
            say_record(importance(event), name, message, fields_of(event))

    def __enter__(self) -> Self:
        """Start."""
        return self

    def __exit__(self, *_: object) -> None:
        """Sum up."""
        totals, sums = self._totals, self._totals.sums
        fields = {
            "cycles": totals.cycles,
            "messages": sums.messages,
            "rows": sums.rows,
            "files": sums.files,
            "bytes": sums.bytes,
            "dead_letters": sums.dead_letters,
            "lost": sums.lost,
            "waiting_rows": sum(totals.waiting.values()),
        }
        message = f"{counted(sums.rows, 'row')} in {counted(totals.cycles, 'cycle')}"
        say_record(logging.INFO, "ended", message, fields)
