"""Which rows make which batch: the count trigger, the windows' ends and the carry, exactly.

Pure: rows are segments of known length, wherever they are; nothing here looks into them. See "How
it works" in docs/, and "Cutting and writing" under the decisions in CONTRIBUTING.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from transforms.cutting.row_bytes import between, fitting
from transforms.cutting.waiting import Carried

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from batch_collection.log.entry import CarryFile
    from transforms.cutting.waiting import RowSource
    from transforms.elements.order import Order

__all__ = [
    "CARRY",
    "EARLY",
    "LATE",
    "ON_TIME",
    "Boundaries",
    "Cut",
    "Cutter",
    "Segment",
    "timing_of",
]


EARLY, ON_TIME, LATE, CARRY = "early", "on_time", "late", "carry"


class Segment(NamedTuple):
    """Rows ``[start, start + rows)`` of a source; their bytes, if batches end by bytes."""

    source: RowSource
    start: int
    rows: int
    size: int = 0

    def split(self, rows: int) -> tuple[Segment, Segment]:
        """Return the first rows, and the rest."""
        size = between(self.source.ends, self.start, rows) if self.size else 0
        rest = (self.start + rows, self.rows - rows, self.size - size)
        return Segment(self.source, self.start, rows, size), Segment(self.source, *rest)


class Cut(NamedTuple):
    """Rows that leave together: as a batch file of a pane, or as a carry file (``timing``)."""

    window_start: datetime
    timing: str
    segments: tuple[Segment, ...]

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return sum(segment.rows for segment in self.segments)


class Boundaries(Protocol):
    """A plan, an order, or whatever else advances B."""

    @property
    def boundary(self) -> datetime | None:
        """B: windows that end at or before it are due."""

    @property
    def previous_boundary(self) -> datetime | None:
        """What it was before: windows that end at or before it are late."""


def timing_of(asked: Boundaries, window_end: datetime) -> str:
    """Return what a batch of a window is by two boundaries: early, on time or late."""
    if asked.previous_boundary is not None and window_end <= asked.previous_boundary:
        return LATE
    if asked.boundary is not None and window_end <= asked.boundary:
        return ON_TIME
    return EARLY


@dataclass(slots=True)
class Cutter:
    """Cuts the rows of one order. Feed it with ``add``; end with ``finish``.

    Guarantees: each row fed, and each row of carry taken up, is in exactly one cut; a batch has at
    most ``batch_size`` rows, and exactly that many unless it is the last of its window's; a window
    that is due leaves no carry; a window and shard has at most ``batch_size - 1`` rows of carry.
    With ``target_bytes`` a batch also ends before the row with which it would have more bytes than
    that (``row_bytes``), so only one of a single row has, and carry never.
    """

    order: Order
    carry: Iterable[Carried] = ()
    _taken: dict[str, CarryFile] = field(default_factory=dict)
    _waiting: dict[datetime, _Window] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Put the carry in front of what comes."""
        for carried in self.carry:
            window = self._window(carried.file.window_start)
            window.put(window.carried, self._segment(carried))

    def add(self, window_start: datetime, source: RowSource, *, ahead: bool = False) -> list[Cut]:
        """Take rows of one window in; return the full batches that they complete.

        Those that are ``ahead`` (their times are after the order's ``ahead_limit``) do not wait.
        """
        window = self._window(window_start)
        window.put(window.ahead if ahead else window.fresh, self._segment(source))
        return self._full_batches(window_start, window)

    def finish(self) -> list[Cut]:
        """Return what is left: last batches of rows that do not wait, and carry, by window."""
        cuts: list[Cut] = []
        for start, window in sorted(self._waiting.items()):
            cuts += self._full_batches(start, window)
            waits = self._waits(start)
            if rest := window.take_ahead() if waits else window.take(window.rows):
                cuts.append(self._cut(start, self._timing(start), rest))
            if waits and (carry := window.take_carry()):
                cuts.append(self._cut(start, CARRY, carry))
        self._waiting.clear()
        return cuts

    @property
    def taken(self) -> tuple[CarryFile, ...]:
        """The carry files whose rows are in cuts."""
        return tuple(self._taken.values())

    def replace_fresh(self, replaced: Callable[[Segment], Segment]) -> None:
        """Put other segments of the same rows in the place of those of this cycle that wait."""
        for window in self._waiting.values():
            window.fresh = [replaced(segment) for segment in window.fresh]
            window.ahead = [replaced(segment) for segment in window.ahead]

    def _window(self, start: datetime) -> _Window:
        return self._waiting.setdefault(start, _Window())

    def _full_batches(self, start: datetime, window: _Window) -> list[Cut]:
        cuts, most, target = [], self.order.batch_size, self.order.target_bytes
        while window.rows >= most or (target is not None and window.size > target):
            cuts.append(self._cut(start, self._timing(start), window.take(most, target)))
        return cuts

    def _segment(self, source: RowSource) -> Segment:
        if self.order.target_bytes is None:
            return Segment(source, 0, source.rows)
        return Segment(source, 0, source.rows, int(source.ends[-1]))

    def _cut(self, start: datetime, timing: str, segments: tuple[Segment, ...]) -> Cut:
        carry = (s.source.file for s in segments if isinstance(s.source, Carried))
        self._taken.update({file.path: file for file in carry})
        return Cut(start, timing, segments)

    def _timing(self, start: datetime) -> str:
        return timing_of(self.order, start + self.order.interval)

    def _waits(self, start: datetime) -> bool:
        """Tell whether a window's rest becomes carry, but for what is ahead."""
        return self._timing(start) == EARLY and not self.order.flush


@dataclass(slots=True)
class _Window:
    """The rows of a window: carry of earlier cycles, oldest first, then this cycle's.

    Of these ``fresh`` may wait for the window's end, those ``ahead`` may not.
    """

    carried: list[Segment] = field(default_factory=list)
    fresh: list[Segment] = field(default_factory=list)
    ahead: list[Segment] = field(default_factory=list)
    rows: int = 0
    size: int = 0

    def put(self, segments: list[Segment], segment: Segment) -> None:
        """Put rows behind those that are there."""
        segments.append(segment)
        self.rows += segment.rows
        self.size += segment.size

    def take(self, rows: int, room: int | None = None) -> tuple[Segment, ...]:
        """Remove rows from the front: so many, but no more than have room, or a single one."""
        taken: list[Segment] = []
        while rows and (segments := self.carried or self.fresh or self.ahead):
            count = self._fitting(segments[0], rows, room)
            if not count and taken:
                break
            first, rest = segments.pop(0).split(count or 1)
            if rest.rows:
                segments.insert(0, rest)
            taken.append(first)
            rows -= first.rows
            room = None if room is None else room - first.size
        self._took(taken)
        return tuple(taken)

    @staticmethod
    def _fitting(segment: Segment, rows: int, room: int | None) -> int:
        count = min(rows, segment.rows)
        if room is None or (count == segment.rows and segment.size <= room):
            return count
        return min(fitting(segment.source.ends, segment.start, room), count)

    def take_ahead(self) -> tuple[Segment, ...]:
        """Remove the rows that may not wait, all of them."""
        taken, self.ahead = tuple(self.ahead), []
        self._took(taken)
        return taken

    def _took(self, taken: Iterable[Segment]) -> None:
        for segment in taken:
            self.rows -= segment.rows
            self.size -= segment.size

    def take_carry(self) -> tuple[Segment, ...]:
        """Remove what must be written as carry: this cycle's rows, and older ones to merge.

        Each carry file left is more than twice the next, so there are at most log2(rows) of them
        and a row is written at most log1.5(rows) times. The rest of a carry file that was cut goes
        along.
        """
        keep = len(self.carried)
        rows = sum(segment.rows for segment in self.fresh)
        if self.carried and self.carried[0].start:
            keep = 0
        while keep and rows and self.carried[keep - 1].rows <= 2 * rows:
            keep -= 1
            rows += self.carried[keep].rows
        return (*self.carried[keep:], *self.fresh)
