"""What part of a snapshot a view shows: some windows, some rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from batch_collection.windows import format_instant

if TYPE_CHECKING:
    from datetime import datetime

    from batch_collection.batch import Batch
    from batch_collection.splits import Side

__all__ = ["Narrowing"]


@dataclass(frozen=True, slots=True)
class Narrowing:
    """Windows that lie in ``[start, end)``, and end by ``boundary``; rows on all ``sides``."""

    start: datetime | None = None
    end: datetime | None = None
    boundary: datetime | None = None
    sides: tuple[Side, ...] = ()

    def has(self, batch: Batch) -> bool:
        """Tell whether a batch's window is among them."""
        return (
            (self.start is None or batch.window_start >= self.start)
            and (self.end is None or batch.window_end <= self.end)
            and (self.boundary is None or batch.window_end <= self.boundary)
        )

    def between(self, start: datetime | None, end: datetime | None) -> Narrowing:
        """Narrow further, to windows that lie in ``[start, end)`` as well."""
        starts = [each for each in (self.start, start) if each is not None]
        ends = [each for each in (self.end, end) if each is not None]
        return replace(self, start=max(starts, default=None), end=min(ends, default=None))

    def closed(self, boundary: datetime) -> Narrowing:
        """Narrow further, to windows that end by ``boundary``."""
        return replace(self, boundary=min(boundary, self.boundary or boundary))

    def on_side(self, side: Side) -> Narrowing:
        """Narrow further, to rows on a side."""
        return replace(self, sides=(*self.sides, side))

    def __str__(self) -> str:
        """Say it in the words of the calls that made it, nothing for the whole."""
        words = []
        if self.start is not None:
            words.append(f"from {format_instant(self.start)}")
        if self.end is not None:
            words.append(f"to {format_instant(self.end)}")
        if self.boundary is not None:
            words.append(f"closed by {format_instant(self.boundary)}")
        for side in self.sides:
            part = f"{side.low / 2**64:.6g} to {side.high / 2**64:.6g}"
            words.append(f"{part} by {','.join(side.by)}{side.salt and f' ({side.salt})'}")
        return "".join(f", {word}" for word in words)
