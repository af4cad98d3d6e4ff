"""What a user sees of a running collector: a line a cycle; on a terminal, how it goes now."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Protocol, TextIO

from pipeline.showing.lines import say, shown
from pipeline.showing.wording import counted, stream_name
from transforms.process.events import (
    Away,
    Back,
    CycleBegan,
    CycleCommitted,
    FileStaged,
    GivenUp,
    MessagesRead,
    Note,
    Observer,
    Waiting,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self

    from batch_collection.log.entry import Entry
    from transforms.process.events import Event

__all__ = [
    "Display",
    "LineDisplay",
    "TerminalDisplay",
    "is_cycle",
    "open_display",
    "said",
]


class Display(Observer, Protocol):
    """An observer for people, who see it as long as its block lasts."""

    def __enter__(self) -> Self:
        """Start showing."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop showing."""


def _cycle_line(event: CycleCommitted) -> str:
    """Say in one line what a cycle did."""
    entry, left = event.entry, event.left
    read = sum(part.messages for part in entry.reads)
    dead_letters = sum(file.messages for file in entry.dead_letters)
    parts = [
        f"{entry.committed_at:%H:%M:%S}  {stream_name(entry.source)}  cycle {entry.cycle}",
        f"{read:,} messages",
        f"{sum(file.rows for file in entry.files):,} rows in {counted(len(entry.files), 'file')}",
        f"{sum(file.rows for file in entry.carry):,} waiting",
        f"{event.took.total_seconds():.1f} s",
    ]
    late = sum(pane.rows for pane in entry.panes if pane.timing == "late")
    lost = sum(part.lost for part in entry.reads)
    parts += [_windows(entry)] if any(pane.timing == "on_time" for pane in entry.panes) else []
    parts += [f"{late:,} late rows"] if late else []
    parts += [f"{counted(dead_letters, 'DEAD LETTER')}"] if dead_letters else []
    parts += [f"{lost:,} MESSAGES LOST"] if lost else []
    parts += [f"{left:,} behind"] if left else []
    return "  ".join(parts)


def _maintenance_line(event: CycleCommitted) -> str:
    """Say in one line that a command has made an entry, behind which collecting goes on."""
    entry = event.entry
    return (
        f"{entry.committed_at:%H:%M:%S}  {stream_name(entry.source)}  cycle {entry.cycle}  "
        f"{entry.cause} by host={entry.host} pid={entry.pid}; collecting goes on after it"
    )


def said(event: Event) -> str | None:
    """Say in one line what a user should know of an event; None: nothing."""
    match event:
        case CycleCommitted():
            line = _cycle_line if is_cycle(event) else _maintenance_line
            return line(event)
        case Away():
            until = "it is back" if event.is_of_source else "it works"
            return f"{event.error}; trying again until {until}"
        case Back():
            what = "the source is back" if event.is_of_source else "it works again"
            return f"{what}: topic={event.topic}"
        case GivenUp() if not event.is_last:
            return f"error: {event.error}; other topics go on"
        case Note():
            return event.text
    return None


def is_cycle(event: Event) -> bool:
    """Tell whether an event is the commit of a cycle, whose line begins with its own time."""
    return isinstance(event, CycleCommitted) and not event.entry.is_maintenance


def _windows(entry: Entry) -> str:
    """Name the windows that a cycle closed."""
    closed = [pane for pane in entry.panes if pane.timing == "on_time"]
    first, last = closed[0].window_start, closed[-1].window_end
    return f"closed {first:%H:%M:%S}-{last:%H:%M:%S}"


@dataclass
class LineDisplay:
    """One line a cycle, nothing else."""

    stream: TextIO = field(default_factory=lambda: sys.stderr)

    def __call__(self, event: Event) -> None:
        """Write a line, if there is something to say."""
        line = said(event)
        if line is not None:
            clock = "" if is_cycle(event) else f"{datetime.now(timezone.utc):%H:%M:%S}  "
            say(clock + line, to=self.stream)

    def __enter__(self) -> Self:
        """Start."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""


@dataclass
class TerminalDisplay:
    """One line a cycle, and below one that moves: the running cycle, or the time to the next."""

    clock: Callable[[], datetime]

    def __post_init__(self) -> None:
        """Make the moving line."""
        from rich.console import Console  # noqa: PLC0415 - only for terminals
        from rich.live import Live  # noqa: PLC0415

        self._planned = self._left = self._messages = self._files = 0
        self._began = self._due = self.clock()
        self._console = Console(stderr=True, highlight=False)
        self._live = Live(
            get_renderable=self._now, console=self._console, refresh_per_second=4, transient=True
        )

    def __call__(self, event: Event) -> None:
        """Write a line above, if there is something to say; keep what the moving one shows."""
        match event:
            case CycleBegan():
                self._planned, self._left, self._began = event.messages, event.left, self.clock()
                self._messages = self._files = 0
                self._live.refresh()  # a short cycle would come and go between two of its moments
            case MessagesRead():
                self._messages += event.messages
            case FileStaged():
                self._files += 1
            case Waiting():
                self._planned, self._due, self._left = 0, event.due, event.messages
        line = said(event)
        if line is not None and is_cycle(event):
            self._planned = 0
            self._console.print(shown(line), markup=False)
        elif line is not None:
            line = f"{self.clock():%H:%M:%S}  {line}"
            self._console.print(shown(line), markup=False, style="bold")

    def __enter__(self) -> Self:
        """Start the moving line."""
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take it away."""
        self._live.stop()

    def _now(self) -> str:
        if not self._planned:
            time_left = timedelta(seconds=max(int((self._due - self.clock()).total_seconds()), 0))
            return f"next boundary in {time_left}  {self._left:,} messages wait"
        seconds = max((self.clock() - self._began).total_seconds(), 0.001)
        done = min(self._messages, self._planned)
        return (
            f"{done:,} of {self._planned:,} messages ({done / self._planned:.0%})  "
            f"{done / seconds:,.0f}/s  {self._files} files  {self._left:,} behind"
        )


def open_display(clock: Callable[[], datetime]) -> Display:
    """Return a moving display on a terminal, plain lines elsewhere."""
    return TerminalDisplay(clock) if sys.stderr.isatty() else LineDisplay()
