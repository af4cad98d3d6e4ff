"""What part of a snapshot a view shows: some windows, and what was committed of them lately."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from batch_collection.windows import format_instant

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["Narrowing"]


@dataclass(frozen=True, slots=True)
class Narrowing:
    """Windows that lie in ``[start, end)``, and end by ``boundary``; None: no bound.

    Of these, what was committed after the cycle ``since``.
    """

    start: datetime | None = None
    end: datetime | None = None
    boundary: datetime | None = None
    since: int | None = None

    @property
    def windows(self) -> pc.Expression:
        """What holds of a batch, by its window's start and end and its cycle, if it is shown."""
        chosen = pc.scalar(True)  # noqa: FBT003 - an expression's value
        if self.since is not None:
            chosen &= pc.field("cycle") > self.since
        if self.start is not None:
            chosen &= pc.field("window_start") >= _scalar(self.start)
        for end in (self.end, self.boundary):
            if end is not None:
                chosen &= pc.field("window_end") <= _scalar(end)
        return chosen

    def may_show(self, latest_start: datetime, earliest_end: datetime) -> bool:
        """Tell whether any of some windows can be among them, given the extremes of all."""
        ends = [end for end in (self.end, self.boundary) if end is not None]
        return (self.start is None or latest_start >= self.start) and all(
            earliest_end <= end for end in ends
        )

    def between(self, start: datetime | None, end: datetime | None) -> Narrowing:
        """Narrow further, to windows that lie in ``[start, end)`` as well."""
        starts = [each for each in (self.start, start) if each is not None]
        ends = [each for each in (self.end, end) if each is not None]
        return replace(self, start=max(starts, default=None), end=min(ends, default=None))

    def closed(self, boundary: datetime) -> Narrowing:
        """Narrow further, to windows that end by ``boundary``."""
        return replace(self, boundary=min(boundary, self.boundary or boundary))

    def after(self, cycle: int) -> Narrowing:
        """Narrow further, to what was committed after a cycle."""
        return replace(self, since=max(cycle, self.since or 0))

    def __str__(self) -> str:
        """Say it in the words of the calls that made it, nothing for the whole."""
        words = []
        if self.start is not None:
            words.append(f"from {format_instant(self.start)}")
        if self.end is not None:
            words.append(f"to {format_instant(self.end)}")
        if self.boundary is not None:
            words.append(f"closed by {format_instant(self.boundary)}")
        if self.since is not None:
            words.append(f"since cycle {self.since}")
        return "".join(f", {word}" for word in words)


def _scalar(instant: datetime) -> pa.Scalar:
    return pa.scalar(instant, pa.timestamp("us", "UTC"))
