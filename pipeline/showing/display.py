"""What a user sees of a running collector: a line a cycle; on a terminal, how it goes now."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Protocol, TextIO

from transforms.elements.progress import progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from batch_collection.log.entry import Entry
    from pipeline.planning.planner import Planned

__all__ = [
    "Display",
    "LineDisplay",
    "TerminalDisplay",
    "cycle_line",
    "maintenance_line",
    "open_display",
]


class Display(Protocol):
    """Is told what happens."""

    def begin(self, planned: Sequence[Planned]) -> None:
        """Cycles begin."""

    def end(self, entry: Entry, planned: Planned, took: timedelta) -> None:
        """A cycle is committed."""

    def wait(self, due: datetime, lag: int) -> None:
        """Nothing is due before ``due``; ``lag`` messages wait for it."""

    def note(self, text: str) -> None:
        """Something a user should know."""

    def __enter__(self) -> Self:
        """Start showing."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop showing."""


def cycle_line(entry: Entry, left: int, took: timedelta) -> str:
    """Say in one line what a cycle did; ``left`` messages it left for the next."""
    read = sum(part.messages for part in entry.reads)
    dead_letters = sum(file.messages for file in entry.dead_letters)
    parts = [
        f"{entry.committed_at:%H:%M:%S}  {entry.source.topic}  cycle {entry.cycle}",
        f"{read:,} messages",
        f"{sum(file.rows for file in entry.files):,} rows in {_count(len(entry.files), 'file')}",
        f"{sum(file.rows for file in entry.carry):,} waiting",
        f"{took.total_seconds():.1f} s",
    ]
    late = sum(pane.rows for pane in entry.panes if pane.timing == "late")
    lost = sum(part.lost for part in entry.reads)
    parts += [_windows(entry)] if any(pane.timing == "on_time" for pane in entry.panes) else []
    parts += [f"{late:,} late rows"] if late else []
    parts += [f"{_count(dead_letters, 'DEAD LETTER')}"] if dead_letters else []
    parts += [f"{lost:,} MESSAGES LOST"] if lost else []
    parts += [f"{left:,} behind"] if left else []
    return "  ".join(parts)


def maintenance_line(entry: Entry) -> str:
    """Say in one line that a command has made an entry, behind which collecting goes on."""
    return (
        f"{entry.committed_at:%H:%M:%S}  {entry.source.topic}  cycle {entry.cycle}  "
        f"{entry.cause} by host={entry.host} pid={entry.pid}; collecting goes on after it"
    )


def _windows(entry: Entry) -> str:
    """Name the windows that a cycle closed."""
    closed = [pane for pane in entry.panes if pane.timing == "on_time"]
    first, last = closed[0].window_start, closed[-1].window_end
    return f"closed {first:%H:%M:%S}-{last:%H:%M:%S}"


def _count(number: int, name: str) -> str:
    return f"{number:,} {name}" + ("" if number == 1 else "S" if name.isupper() else "s")


@dataclass
class LineDisplay:
    """One line a cycle, nothing else."""

    stream: TextIO = field(default_factory=lambda: sys.stderr)

    def begin(self, planned: Sequence[Planned]) -> None:
        """Say nothing."""

    def end(self, entry: Entry, planned: Planned, took: timedelta) -> None:
        """Write the cycle's line."""
        self._line(cycle_line(entry, planned.left, took))

    def wait(self, due: datetime, lag: int) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Write it."""
        self._line(f"{datetime.now(timezone.utc):%H:%M:%S}  {text}")

    def __enter__(self) -> Self:
        """Start."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""

    def _line(self, text: str) -> None:
        print(text, file=self.stream, flush=True)


@dataclass
class TerminalDisplay:
    """One line a cycle, and below one that moves: the running cycle, or the time to the next."""

    clock: Callable[[], datetime]

    def __post_init__(self) -> None:
        """Make the moving line."""
        from rich.console import Console  # noqa: PLC0415 - only for terminals
        from rich.live import Live  # noqa: PLC0415

        self._planned = self._left = 0
        self._began = self._due = self.clock()
        self._console = Console(stderr=True, highlight=False)
        self._live = Live(
            get_renderable=self._now, console=self._console, refresh_per_second=4, transient=True
        )

    def begin(self, planned: Sequence[Planned]) -> None:
        """Show the running cycle from now on."""
        self._planned = sum(item.messages for item in planned)
        self._left = sum(item.left for item in planned)
        self._began = self.clock()
        self._live.refresh()  # a short cycle would come and go between two moments of its own

    def end(self, entry: Entry, planned: Planned, took: timedelta) -> None:
        """Write the cycle's line above."""
        self._planned = 0
        self._console.print(cycle_line(entry, planned.left, took), markup=False)

    def wait(self, due: datetime, lag: int) -> None:
        """Show the time to the next cycle, and what waits for it."""
        self._planned, self._due, self._left = 0, due, lag

    def note(self, text: str) -> None:
        """Write it above."""
        self._console.print(f"{self.clock():%H:%M:%S}  {text}", markup=False, style="bold")

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
        done = min(progress.messages, self._planned)
        return (
            f"{done:,} of {self._planned:,} messages ({done / self._planned:.0%})  "
            f"{done / seconds:,.0f}/s  {progress.files} files  {self._left:,} behind"
        )


def open_display(clock: Callable[[], datetime]) -> Display:
    """Return a moving display on a terminal, plain lines elsewhere."""
    return TerminalDisplay(clock) if sys.stderr.isatty() else LineDisplay()
