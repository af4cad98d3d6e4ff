"""What an entry says of windows: their panes, which are open, which had no row. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from batch_collection.log.entry import Pane
from batch_collection.paths import of_cycle
from transforms.cutting.cut import EARLY, ON_TIME, Boundaries, timing_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from batch_collection.log.entry import Entry
    from transforms.elements.report import WrittenBatch

__all__ = ["OPEN_HORIZON", "Advance", "is_forgetful", "open_horizon", "rebased_batch", "windows_of"]


class Advance(Boundaries, Protocol):
    """A plan, or whatever else comes to an entry."""

    @property
    def cycle(self) -> int:
        """The entry's."""

    @property
    def planned_at(self) -> datetime:
        """The clock when it was planned."""


OPEN_HORIZON = timedelta(days=1)
"""Windows that start later than this after B are not named as open: a clock decades ahead must not
make every entry longer for ever. The earliest of them is (``Entry.forgotten``)."""


def open_horizon(plan: Advance) -> datetime:
    """Return where the windows begin that the plan's entry does not name as open."""
    return (plan.boundary or plan.planned_at) + OPEN_HORIZON


def is_forgetful(plan: Advance, previous: Entry) -> bool:
    """Tell whether a plan closes a window of which ``previous`` may not name the early panes."""
    forgotten = previous.forgotten
    return (
        forgotten is not None
        and plan.boundary is not None
        and forgotten + previous.interval <= plan.boundary
    )


def rebased_batch(batch: WrittenBatch, plan: Advance, newest: Entry) -> WrittenBatch:
    """Return a file with the name of the cycle that it comes to, and its timing in it."""
    return batch._replace(
        timing=timing_of(plan, batch.window_start + newest.interval),
        file=replace(batch.file, path=of_cycle(batch.file.path, plan.cycle)),
    )


def windows_of(plan: Advance, previous: Entry, batches: Sequence[WrittenBatch]) -> dict[str, Any]:
    """Return the fields of an entry that tell of windows.

    ``previous`` names all early panes of windows that are closed: see ``is_forgetful``.
    """
    opened, forgotten = _open(plan, previous, batches)
    panes = (*_panes(previous, batches), *_panes_without_rows(plan, previous, batches))
    return {
        "boundary": plan.boundary,
        "panes": tuple(sorted(panes, key=lambda pane: pane.window_start)),
        "closed_empty": _closed_empty(plan, previous, batches),
        "open": opened,
        "forgotten": forgotten,
    }


def _panes(previous: Entry, batches: Iterable[WrittenBatch]) -> list[Pane]:
    """Put the batches of each window together."""
    by_window: dict[datetime, list[WrittenBatch]] = {}
    for batch in batches:
        by_window.setdefault(batch.window_start, []).append(batch)
    return [
        Pane(
            window_start=start,
            window_end=start + previous.interval,
            timing=pane[0].timing,
            rows=sum(batch.file.rows for batch in pane),
            files=tuple(batch.file for batch in pane),
            earlier=previous.open.get(start, ()),
        )
        for start, pane in by_window.items()
    ]


def _panes_without_rows(
    plan: Advance, previous: Entry, batches: Iterable[WrittenBatch]
) -> list[Pane]:
    """Close the windows that are due and whose rows left in early panes, all of them."""
    got_rows = {batch.window_start for batch in batches}
    return [
        Pane(start, start + previous.interval, ON_TIME, 0, (), cycles)
        for start, cycles in previous.open.items()
        if start not in got_rows and timing_of(plan, start + previous.interval) == ON_TIME
    ]


def _open(
    plan: Advance, previous: Entry, batches: Iterable[WrittenBatch]
) -> tuple[dict[datetime, tuple[int, ...]], datetime | None]:
    """Give the windows with early panes that stay open, and the earliest one that is not named."""
    now_early = {batch.window_start: (plan.cycle,) for batch in batches if batch.timing == EARLY}
    cycles = {
        start: (*previous.open.get(start, ()), *now_early.get(start, ()))
        for start in sorted({*previous.open, *now_early})
        if timing_of(plan, start + previous.interval) == EARLY
    }
    horizon = open_horizon(plan)
    far = [start for start in cycles if start >= horizon]
    if previous.forgotten is not None:
        far.append(previous.forgotten)
    named = {start: seen for start, seen in cycles.items() if start < horizon}
    return named, min(far, default=None)


def _closed_empty(
    plan: Advance, previous: Entry, batches: Iterable[WrittenBatch]
) -> tuple[tuple[datetime, datetime], ...]:
    """Give the ranges between two boundaries in which no window ever had a row.

    Before the first boundary no window was due, so what is recorded begins at its first window.
    """
    if plan.boundary is None:
        return ()
    closed = {batch.window_start for batch in batches if batch.timing == ON_TIME}
    closed |= {s for s in previous.open if s + previous.interval <= plan.boundary}
    gap_start = previous.boundary or min(closed, default=plan.boundary)
    ranges = []
    for start in sorted(start for start in closed if start >= gap_start):
        if gap_start < start:
            ranges.append((gap_start, start))
        gap_start = start + previous.interval
    if gap_start < plan.boundary:
        ranges.append((gap_start, plan.boundary))
    return tuple(ranges)
