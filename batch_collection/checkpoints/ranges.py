"""Which ranges of the log have a checkpoint: all of it is arithmetic, nothing is looked up."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FACTOR", "LEVELS", "SPAN", "Range", "cover"]


SPAN = 1_000
"""Entries of a checkpoint of the lowest level."""

FACTOR = 10
"""Checkpoints of one level that one of the next level stands for."""

LEVELS = 3
"""So one stands for 100,000 entries at most, and whoever makes it needs memory for no more."""


class Range(NamedTuple):
    """The cycles ``first`` to ``last``, both included."""

    first: int
    last: int

    @property
    def level(self) -> int | None:
        """The level of the checkpoint of exactly this range, None if there is none."""
        for level, size in enumerate(_sizes()):
            if self.last - self.first + 1 == size and self.first % size == 0:
                return level
        return None

    @property
    def parts(self) -> tuple[Range, ...]:
        """The ranges of the next lower level that make it up; none where there is no such level."""
        if not self.level:
            return ()
        size = _sizes()[self.level - 1]
        return tuple(Range(at, at + size - 1) for at in range(self.first, self.last + 1, size))


def cover(first: int, last: int) -> Iterator[Range]:
    """Yield, in order, the fewest ranges that make up cycles ``first`` to ``last``.

    Each has a checkpoint (``level``), but those before the first and after the last one that has.
    """
    while first <= last:
        fitting = [size for size in _sizes() if first % size == 0 and first + size - 1 <= last]
        size = max(fitting, default=SPAN - first % SPAN)
        yield Range(first, min(first + size - 1, last))
        first += size


def _sizes() -> list[int]:
    return [SPAN * FACTOR**level for level in range(LEVELS)]
