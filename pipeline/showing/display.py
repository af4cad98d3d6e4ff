"""What a user sees of a running collector: a line a cycle; on a terminal, how it goes now."""

from __future__ import annotations

import logging
import math
import sys
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol, TextIO

from batch_collection.counted import counted
from pipeline.showing.board import Board
from pipeline.showing.columns import Part, flowed
from pipeline.showing.event_log import EventLog, importance
from pipeline.showing.lines import log_form, say, say_styled, styled
from pipeline.showing.streams import is_terminal
from pipeline.showing.wording import humanised_duration
from transforms.process.events import (
    CycleBegan,
    CycleCommitted,
    FileStaged,
    MessagesRead,
    Observer,
    Waiting,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime
    from types import TracebackType

    from rich.text import Text
    from typing_extensions import Self

    from pipeline.showing.board import Line, Totals
    from transforms.process.events import Event

__all__ = ["Display", "LineDisplay", "Progress", "TerminalDisplay", "open_display"]


_ALARM = "bold red"


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


@dataclass
class LineDisplay:
    """A line for each event that there is something to say of, however long, and a last one."""

    board: Board
    stream: TextIO = field(default_factory=lambda: sys.stderr)

    def __call__(self, event: Event) -> None:
        """Write a line, if there is something to say."""
        self._write(self.board.lines(event), importance(event))

    def __enter__(self) -> Self:
        """Start."""
        return self

    def __exit__(self, *_: object) -> None:
        """Sum up."""
        self._write(self.board.total(), logging.INFO)

    def _write(self, lines: Iterable[Line], level: int) -> None:
        for line in lines:
            say("".join(part.text for part in line), to=self.stream, level=level)


@dataclass
class Progress:
    """How the cycle goes that runs, or when the next one comes: the line that moves."""

    clock: Callable[[], datetime]
    _planned: int = 0
    _left: int = 0
    _messages: int = 0
    _files: int = 0
    _began: datetime | None = None
    _due: datetime | None = None

    def __call__(self, event: Event) -> None:
        """Keep what is shown."""
        match event:
            case CycleBegan():
                self._planned, self._left, self._began = event.messages, event.left, self.clock()
                self._messages = self._files = 0
            case MessagesRead():
                self._messages += event.messages
            case FileStaged():
                self._files += 1
            case CycleCommitted():
                self._planned, self._due, self._left = 0, self.clock(), event.left
            case Waiting():
                self._planned, self._due, self._left = 0, event.due, event.messages

    def line(self, totals: Totals, room: int) -> Line:
        """Write it in so many columns; what is least needed has no room first."""
        parts = [Part(text) for text in self._parts()]
        if totals.cycles:
            parts.append(Part(f"in all {counted(totals.sums.rows, 'row')}"))
        if totals.sums.dead_letters:
            parts.append(Part(counted(totals.sums.dead_letters, "dead letter"), is_alarm=True))
        return next(flowed(parts, room))

    def _parts(self) -> list[str]:
        if self._planned and self._began is not None:
            seconds = max((self.clock() - self._began).total_seconds(), 0.001)
            done = min(self._messages, self._planned)
            return [
                f"{done:,} of {self._planned:,} messages ({done / self._planned:.0%})",
                f"{done / seconds:,.0f}/s",
                counted(self._files, "file"),
                *([f"{self._left:,} behind"] if self._left else []),
            ]
        if self._due is None:
            return ["starting"]
        seconds = math.ceil((self._due - self.clock()).total_seconds())
        is_long = seconds >= 60  # noqa: PLR2004 - a minute
        left = humanised_duration(timedelta(seconds=seconds)) if is_long else f"{seconds}s"
        when = f"in {left}" if seconds > 0 else "now"
        return [f"next cycle {when}", f"{counted(self._left, 'message')} waiting"]


@dataclass
class TerminalDisplay:
    """A line a cycle, as wide as the terminal at most, and below them one that moves."""

    board: Board

    def __post_init__(self) -> None:
        """Make the moving line."""
        from rich.console import Console  # noqa: PLC0415 - only for terminals
        from rich.live import Live  # noqa: PLC0415

        self._progress = Progress(self.board.clock)
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._live = Live(
            get_renderable=self._now, console=self._console, refresh_per_second=4, transient=True
        )

    def __call__(self, event: Event) -> None:
        """Write a line above, if there is something to say; keep what the moving one shows."""
        self._progress(event)
        if isinstance(event, CycleBegan):
            self._live.refresh()  # a short cycle would come and go between two of its moments
        self._write(self.board.lines(event, self._room))

    def __enter__(self) -> Self:
        """Start the moving line."""
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take it away, and sum up."""
        self._live.stop()
        self._write(self.board.total(self._room))

    @property
    def _room(self) -> int:
        """How wide it is now; the last column is left, since some terminals break a line there."""
        return max(self._console.width - 1, 1)

    def _write(self, lines: Iterable[Line]) -> None:
        for line in lines:
            say_styled(_styles(line), to=self._console)

    def _now(self) -> Text:
        return styled(_styles(self._progress.line(self.board.totals, self._room)))


def _styles(line: Line) -> list[tuple[str, str]]:
    return [(part.text, _ALARM if part.is_alarm else "") for part in line]


def open_display(
    clock: Callable[[], datetime], topics: Iterable[str] = (), *, verbose: bool = False
) -> Display:
    """Return what shows a run: objects, a moving display on a terminal, plain lines elsewhere.

    Args:
        clock: tells the time.
        topics: whose cycles will come.
        verbose: show cycles that do nothing, too.
    """
    if log_form.as_json:
        return EventLog()
    board = Board(clock, verbose or log_form.level <= logging.DEBUG)
    board.expect(topics)
    if is_terminal() and log_form.level <= logging.INFO:
        return TerminalDisplay(board)
    return LineDisplay(board)
