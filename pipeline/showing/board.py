"""What is written of a run: from events to lines, in columns that all of its cycles share. Pure."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from batch_collection.counted import counted
from batch_collection.errors import printable
from batch_collection.log.sums import Sums
from pipeline.showing.columns import Column, Columns, Part, cut, flowed, width_of, wrapped
from pipeline.showing.wording import called, stream_name, to_the_second
from transforms.elements.plan import ACKNOWLEDGED
from transforms.process.events import Away, Back, CycleCommitted, GivenUp, Note

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from batch_collection.log.entry import Entry
    from transforms.process.events import Event

__all__ = ["Board", "Line", "Totals", "is_cycle", "is_idle", "said"]


Line = list[Part]

_COLUMNS = {
    "time": Column("<", len("10:30:00"), 2),
    "topic": Column("<", 1),
    "cycle": Column("<", len("cycle 10"), 6),
    "messages": Column(">", len("1,000 messages"), 1),
    "rows": Column(">", len("10,000 rows")),
    "files": Column(">", len("2 files"), 4),
    "waiting": Column(">", len("1,000 waiting"), 3),
    "windows": Column("<", len("closed to 10:30:00"), 5),
    "took": Column(">", len("10.0 s"), 7),
}
_INDENT = len("10:30:00  ")
_LEAST_REASON = 40  # columns; below that the command gets a line of its own


@dataclass(slots=True)
class Totals:
    """What the cycles of a run came to."""

    cycles: int = 0
    shown: int = 0
    sums: Sums = Sums()  # noqa: RUF009 - it is a tuple
    waiting: dict[str, int] = field(default_factory=dict)

    def add(self, event: CycleCommitted) -> None:
        """Add a cycle."""
        self.cycles += event.entry.cause != ACKNOWLEDGED
        self.shown += not is_idle(event)
        self.sums = Sums.total([self.sums, Sums.of(event.entry)])
        self.waiting[event.collection] = sum(file.rows for file in event.entry.carry)


@dataclass(slots=True)
class Board:
    """Says events in lines: one each, but where a terminal is too narrow for its tail.

    Attributes:
        clock: tells when what is no cycle happened.
        verbose: cycles that did nothing are said, too.
        totals: what all cycles came to, those that are not said, too.
    """

    clock: Callable[[], datetime]
    verbose: bool = False
    totals: Totals = field(default_factory=Totals)
    _columns: Columns = field(default_factory=lambda: Columns(_COLUMNS, "topic"))

    def expect(self, topics: Iterable[str]) -> None:
        """Make room for the names of topics, before the first of their cycles."""
        for topic in topics:
            self._columns.widen({"topic": printable(topic)})

    def lines(self, event: Event, room: int | None = None) -> list[Line]:
        """Say an event within so many columns; None: in one line, however long."""
        if not isinstance(event, CycleCommitted) or not is_cycle(event):
            line = said(event)
            return [] if line is None else self._noted(line, room, is_alarm=_is_alarm(event))
        self.totals.add(event)
        if is_idle(event) and not self.verbose:
            return []
        return self._row(_cells(event), _tail(event), room)

    def total(self, room: int | None = None) -> list[Line]:
        """Sum the run up; nothing where its only cycle has said the same."""
        totals, sums = self.totals, self.totals.sums
        if not totals.cycles or totals.cycles == totals.shown == 1:
            return []
        cells = {
            "time": f"{self.clock():%H:%M:%S}",
            "topic": "in all",
            "messages": _number(sums.messages, "message"),
            "rows": _number(sums.rows, "row"),
            "files": _number(sums.files, "file"),
            "waiting": f"{sum(totals.waiting.values()):,} waiting",
        }
        tail = _alarms(sums.dead_letters, sums.lost)
        return self._row(cells, [Part(text, is_alarm=True) for text in tail], room)

    def _row(self, cells: Mapping[str, str], tail: Sequence[Part], room: int | None) -> list[Line]:
        head = Part(self._columns.line(cells, room))
        whole = [head, *(each for part in tail for each in (Part("  "), part))]
        if room is None or sum(width_of(part.text) for part in whole) <= room:
            return [whole]
        indent = _indent(room)
        below = flowed(_giving_way(tail, room - indent), room - indent)
        return [[head], *([Part(" " * indent), *line] for line in below)]

    def _noted(self, text: str, room: int | None, *, is_alarm: bool) -> list[Line]:
        clock = Part(f"{self.clock():%H:%M:%S}  ")
        text = printable(text)
        if room is None:
            return [[clock, Part(text, is_alarm)]]
        indent = _indent(room)
        first, *rest = wrapped(text, room - _INDENT, room - indent)
        return [
            [clock, Part(first, is_alarm)],
            *([Part(" " * indent), Part(line, is_alarm)] for line in rest),
        ]


def said(event: Event, *, verbose: bool = False) -> str | None:
    """Say in one line what a user should know of an event; None: nothing.

    Of cycles that did nothing only if it is to be ``verbose``.
    """
    match event:
        case CycleCommitted():
            return _of_entry(event, verbose=verbose)
        case Away():
            until = "it is back" if event.is_of_source else "it works"
            return f"{event.error}; trying again until {until}"
        case Back():
            what = "the source is back" if event.is_of_source else "it works again"
            return f"{what}: {called(event)}"
        case GivenUp() if not event.is_last:
            return f"error: {event.error}; the others go on"
        case Note():
            return event.text
    return None


def _of_entry(event: CycleCommitted, *, verbose: bool) -> str | None:
    entry = event.entry
    if entry.is_maintenance:
        return (
            f"{stream_name(entry.source)}  cycle {entry.cycle}  {entry.cause} by host={entry.host} "
            f"pid={entry.pid}; collecting goes on after it"
        )
    if is_idle(event) and not verbose:
        return None
    cells = [*_cells(event).values(), *(part.text for part in _tail(event))]
    return "  ".join(cell.rstrip() for cell in cells if cell)


def is_cycle(event: Event) -> bool:
    """Tell whether an event is the commit of a cycle, whose line begins with its own time."""
    return isinstance(event, CycleCommitted) and not event.entry.is_maintenance


def is_idle(event: CycleCommitted) -> bool:
    """Tell whether a cycle has read and written nothing, as most of a quiet topic do."""
    sums = Sums.of(event.entry)
    return not any((sums.messages, sums.lost, sums.files, sums.dead_letters, event.left))


def _cells(event: CycleCommitted) -> dict[str, str]:
    """Return what each cycle says of itself, by its column."""
    entry, sums = event.entry, Sums.of(event.entry)
    return {
        "time": f"{entry.committed_at:%H:%M:%S}",
        "topic": printable(stream_name(entry.source)),
        "cycle": f"cycle {entry.cycle}",
        "messages": _number(sums.messages, "message"),
        "rows": _number(sums.rows, "row"),
        "files": _number(sums.files, "file"),
        "waiting": f"{sum(file.rows for file in entry.carry):,} waiting",
        "windows": _windows(entry),
        "took": f"{event.took.total_seconds():.1f} s",
    }


def _number(number: int, name: str) -> str:
    """Write how many there are, so that digits stand under digits: one has no plural."""
    return counted(number, name) + " " * (number == 1)


def _windows(entry: Entry) -> str:
    """Say up to where a cycle has closed windows, or written those that are open."""
    closed = [pane.window_end for pane in entry.panes if pane.timing == "on_time"]
    if closed:
        return f"closed to {_instant(entry.boundary or max(closed), entry)}"
    flushed = [pane.window_end for pane in entry.panes if pane.timing == "early"]
    if entry.cause == "flush" and flushed:
        return f"flushed to {_instant(max(flushed), entry)}"
    return ""


def _instant(instant: datetime, entry: Entry) -> str:
    """Write an instant, with its day where that is not the commit's."""
    is_same_day = instant.date() == entry.committed_at.astimezone(timezone.utc).date()
    return f"{instant:%H:%M:%S}" if is_same_day else to_the_second(instant)


def _tail(event: CycleCommitted) -> list[Part]:
    """Return what few cycles say of themselves, most of it bad news."""
    sums = Sums.of(event.entry)
    late, dead = sums.late_rows, sums.dead_letters
    tail = [Part(f"{counted(late, 'late row')}")] if late else []
    tail += [Part(f"{event.left:,} behind")] if event.left else []
    tail += [Part(text, is_alarm=True) for text in _alarms(0, sums.lost)]
    if dead:
        mostly = "mostly " if dead > 1 else ""
        what = printable(event.reason.partition("; ")[0])  # behind it is what to do, at length
        reason = f": {mostly}{what}" if what else ""
        command = f"batch-collection dead-letters {shlex.quote(_nearest(event.collection))}"
        tail.append(Part(counted(dead, "dead letter") + reason, is_alarm=True))
        tail.append(Part(printable(command), is_whole=True))
    return tail


def _giving_way(tail: Sequence[Part], room: int) -> list[Part]:
    """Let what stands before a command be so short that both have room in one line, if need be."""
    parts = list(tail)
    for place, part in enumerate(parts):
        left = room - width_of(part.text) - len("  ")
        if place and part.is_whole and left >= _LEAST_REASON:
            before = parts[place - 1]
            parts[place - 1] = before._replace(text=cut(before.text, left))
    return parts


def _alarms(dead_letters: int, lost: int) -> list[str]:
    texts = [counted(dead_letters, "dead letter")] if dead_letters else []
    return texts + ([f"{counted(lost, 'message')} lost"] if lost else [])


def _nearest(uri: str) -> str:
    """Return a collection as it can be typed here: a directory from where we are, if shorter."""
    if not uri.startswith("/"):
        return uri
    near = os.path.relpath(uri)
    return near if len(near) < len(uri) else uri


def _is_alarm(event: Event) -> bool:
    is_error = isinstance(event, Note) and event.text.startswith("error: ")
    return is_error or isinstance(event, (Away, GivenUp))


def _indent(room: int) -> int:
    """Return how far what goes on in another line is indented: less where there is little room."""
    return min(_INDENT, room // 5)
