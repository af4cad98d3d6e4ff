"""Which rows of a partition were seen, in memory that grows with gaps, not with rows.

A row's position is its message's offset and its index in the message's array (0 where there is
none). Positions are kept as rectangles, offsets ``[start, end)`` times indexes ``[low, high)``: a
partition collected whole is one, however many files its rows came in.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

__all__ = ["Offsets", "Positions"]


_PENDING = 100_000  # rectangles


class Offsets(NamedTuple):
    """Offsets ``[start, end)`` of one partition."""

    start: int
    end: int


class Positions:
    """The positions seen in one partition."""

    _WHOLE = np.iinfo(np.int64).max

    def __init__(self) -> None:
        self._parts: list[Any] = []
        self._pending, self._limit = 0, _PENDING
        self._repeated: dict[Offsets, None] = {}

    @property
    def repeated(self) -> list[Offsets]:
        """Messages of which a row came more than once; whole once ``messages`` was asked for."""
        return [*self._repeated]

    def add(self, offsets: Any, indexes: Any) -> None:
        """Take rows in, as two arrays of int64 of the same length."""
        if not len(offsets):
            return
        order = np.lexsort((indexes, offsets))
        offsets, indexes = offsets[order], indexes[order]
        again = (np.diff(offsets) == 0) & (np.diff(indexes) == 0)
        self._repeat(offsets[1:][again], offsets[1:][again] + 1)
        first = np.concatenate([[True], (np.diff(offsets) != 0) | (np.diff(indexes) != 1)])
        last = np.concatenate([first[1:], [True]])
        starts = offsets[first]
        self._put(_joined(np.stack([starts, starts + 1, indexes[first], indexes[last] + 1])))

    def add_whole(self, offsets: Any) -> None:
        """Take whole messages in, as an array of int64: nothing else may hold a row of them."""
        zero = np.zeros_like(offsets)
        self._put(np.stack([offsets, offsets + 1, zero, np.full_like(offsets, self._WHOLE)]))

    def messages(self) -> int:
        """Return how many distinct messages were seen."""
        starts, ends, _, _ = self._compacted()
        before = np.concatenate([[np.iinfo(np.int64).min], np.maximum.accumulate(ends)])[:-1]
        return int(np.sum(np.maximum(0, ends - np.maximum(starts, before[: len(starts)]))))

    def torn(self) -> list[Offsets]:
        """Return messages some of whose rows were seen, but not all before those."""
        starts, ends, lows, _ = self._compacted()
        return _offsets(starts[lows > 0], ends[lows > 0])

    def _put(self, part: Any) -> None:
        self._parts.append(part)
        self._pending += part.shape[1]
        if self._pending > self._limit:
            self._limit = max(_PENDING, 2 * self._compacted().shape[1])

    def _compacted(self) -> Any:
        """Make as few rectangles as there can be, and note where two overlap."""
        if self._pending:
            self._parts = [self._merged(np.concatenate(self._parts, axis=1))]
            self._pending = 0
        return self._parts[0] if self._parts else np.empty((4, 0), np.int64)

    def _merged(self, seen: Any) -> Any:
        cuts, place, lows, highs = _split(seen)
        same = place[1:] == place[:-1]
        reached = _highest_so_far(place, highs)
        overlaps = place[1:][same & (lows[1:] < reached[:-1])]
        self._repeat(cuts[overlaps], cuts[overlaps + 1])
        first = np.flatnonzero(np.concatenate([[True], ~same | (lows[1:] > reached[:-1])]))
        highs, place = np.maximum.reduceat(highs, first), place[first]
        return _joined(np.stack([cuts[place], cuts[place + 1], lows[first], highs]))

    def _repeat(self, starts: Any, ends: Any) -> None:
        self._repeated |= dict.fromkeys(_offsets(starts, ends))


def _offsets(starts: Any, ends: Any) -> list[Offsets]:
    pairs = zip(starts.tolist(), ends.tolist(), strict=True)
    return [Offsets(*pair) for pair in dict.fromkeys(pairs)]


def _split(seen: Any) -> tuple[Any, Any, Any, Any]:
    """Cut rectangles at each other's first and last offsets.

    Returns:
        The cuts, and by piece, sorted: the cut it starts at, its lowest and its highest index.
    """
    cuts = np.unique(seen[:2])
    first, end = np.searchsorted(cuts, seen[0]), np.searchsorted(cuts, seen[1])
    counts = end - first
    which = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts - first, counts)
    order = np.lexsort((seen[2][which], place))
    return cuts, place[order], seen[2][which][order], seen[3][which][order]


def _highest_so_far(place: Any, highs: Any) -> Any:
    """Return the running maximum of ``highs``, begun anew at each place."""
    levels, level = np.unique(highs, return_inverse=True)
    base = place * len(levels)
    return levels[np.maximum.accumulate(base + level) - base]


def _joined(seen: Any) -> Any:
    """Join sorted rectangles of the same indexes, each of which starts where the last one ended."""
    starts, ends, lows, highs = seen
    apart = (starts[1:] != ends[:-1]) | (lows[1:] != lows[:-1]) | (highs[1:] != highs[:-1])
    first = np.concatenate([[True], apart])
    last = np.concatenate([apart, [True]])
    return np.stack([starts[first], ends[last], lows[first], highs[first]])
