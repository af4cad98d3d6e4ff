"""Which rows of a global order each rank is dealt, round by round: arithmetic, no row is read.

All ranks step together. In each round every rank gets one batch, and the batches of ranks 0, 1, 2
and so on are the next rows of the order. So what all have used when a round ends are the rows
before one place, and that place can be gone on from by any number of ranks.
"""

from __future__ import annotations

from dataclasses import dataclass

from batch_collection.errors import CollectionError
from batch_collection.given import whole_number
from batch_collection.reading.order import shard_range

__all__ = ["Deal"]


@dataclass(frozen=True, slots=True)
class Deal:
    """How an epoch of ``rows`` rows is dealt to ``world`` ranks, from any row ``start`` on.

    All ranks have as many rounds. Each is of ``batch_size`` rows a rank, but those at the end: what
    is left for the last one is shared evenly, and where that would be fewer rows than ranks, the
    one before gives it a row of each rank.

    Args:
        rows: Those of an epoch.
        batch_size: The most that a rank is dealt at once.
        rank: Whose share is asked for, counted from 0.
        world: How many ranks there are.
        drop_last: Leave out what does not fill a round.
    """

    rows: int
    batch_size: int
    rank: int = 0
    world: int = 1
    drop_last: bool = False

    def __post_init__(self) -> None:
        """Refuse what makes no sense.

        Raises:
            CollectionError: names the option.
        """
        for name in ("rank", "world"):
            object.__setattr__(self, name, whole_number(name, getattr(self, name)))
        if not 0 <= self.rank < self.world:
            message = f"rank must be from 0 to world - 1, got rank={self.rank} world={self.world}"
            raise CollectionError(message)
        if not isinstance(self.drop_last, bool):
            message = f"drop_last must be True or False, got {self.drop_last!r}"
            raise CollectionError(message)

    def rounds(self, start: int) -> int:
        """Return how many rounds there are from row ``start`` on."""
        rest, full = self.rows - start, self.batch_size * self.world
        return rest // full if self.drop_last else -(-rest // full)

    def end(self, start: int, number: int) -> int:
        """Return the row that the first ``number`` rounds from ``start`` on end before."""
        full = self.batch_size * self.world
        end = min(start + number * full, self.rows)
        is_last_but_one = 0 < number == self.rounds(start) - 1 and not self.drop_last
        gives = is_last_but_one and self.rows - end < self.world and self.batch_size > 1
        return end - self.world if gives else end

    def share(self, start: int, number: int) -> tuple[int, int]:
        """Return this rank's rows ``[low, high)`` of round ``number``, counted from 0.

        There is one at least: where a round has fewer rows than ranks, some get the same one.
        """
        begin, end = self.end(start, number), self.end(start, number + 1)
        low, high = shard_range(end - begin, self.rank, self.world)
        return begin + low, begin + max(high, low + 1)

    def is_scant(self, start: int, number: int) -> bool:
        """Tell whether a round has fewer rows than ranks, so that some get the same one."""
        return self.end(start, number + 1) - self.end(start, number) < self.world
