"""The account of an audit: by partition, what the log says was read, and what files hold of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from batch_collection.inspection.positions import Positions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from batch_collection.inspection.evidence import FileRows
    from batch_collection.log.entry import Pane, PartitionRead
    from batch_collection.log.expiry import Folded

__all__ = ["Account"]


_MOST = 20  # of findings of one kind about one partition


class Account:
    """Adds up what is shown to it, and says where that does not close.

    Where rows of a partition were expired, or files do not tell their rows' positions, the log's
    rows are counted in the place of messages.

    Attributes:
        is_blind: some files do not tell their rows' positions.
    """

    def __init__(self, folded: Folded | None) -> None:
        """Begin where the entries that are ``folded`` end."""
        self.is_blind = False
        self._starts: dict[int, int] = {}
        self._totals: dict[int, Counter[str]] = defaultdict(Counter)
        self._dead: Counter[int] = Counter()
        self._uncounted: set[int] = set()  # partitions with dead letters of entries that are folded
        self._came: Counter[int] = Counter()  # rows, by the log
        self._filed: Counter[int] = Counter()  # rows in batches, by the log, and in the carry
        self._expired_to: dict[int, int] = {}  # offsets from here on have all their rows
        self._positions: dict[int, Positions] = defaultdict(Positions)
        self._incomplete: set[int] = set()  # partitions whose files could not all be read
        if folded is None:
            return
        for read in folded.last.reads:
            self._starts[read.partition] = read.start
            self._expired_to[read.partition] = read.end
            self._came[read.partition] = read.rows
        self._came.update({read.partition: read.rows for read in folded.last.became})
        self._filed.update(folded.filed)

    # what the log says

    def read(self, read: PartitionRead, *, begins: bool = False) -> None:
        """Take in what an entry read; with ``begins`` it says where reading starts."""
        if begins:
            self._starts[read.partition] = read.start
        self._starts.setdefault(read.partition, read.start)
        self._came[read.partition] += read.rows
        self._totals[read.partition].update(
            messages=read.messages,
            dead_letters=read.dead_letters,
            without_rows=read.tombstones + read.empty,
        )

    def redriven(self, read: PartitionRead, *, is_whole: bool) -> None:
        """Take in what became of dead letters; ``is_whole``: of letters that were all shown."""
        self._came[read.partition] += read.rows
        if not is_whole:
            self._uncounted.add(read.partition)
        self._totals[read.partition].update(
            dead_letters=read.dead_letters - read.messages,
            without_rows=read.tombstones + read.empty,
        )

    def filed(self, pane: Pane) -> None:
        """Take in the rows that a pane's files hold."""
        for file in pane.files:
            self._filed.update({p: rows for p, (_, _, rows) in file.offsets.items()})

    def expired(self, pane: Pane) -> None:
        """Take in that a pane's files are no longer there."""
        for file in pane.files:
            for partition, (_, last, _) in file.offsets.items():
                upto = self._expired_to.get(partition, 0)
                self._expired_to[partition] = max(upto, last + 1)

    # what files hold

    def rows(self, rows: FileRows, ends: dict[int, int]) -> Iterator[str]:
        """Take in a file's rows; yield what can't be, where reading ended at ``ends``."""
        for partition in np.unique(rows.partitions).tolist():
            chosen = rows.partitions == partition
            offsets = rows.offsets[chosen]
            yield from self._outside(partition, offsets, ends)
            self._positions[partition].add(offsets, rows.indexes[chosen])

    def waiting(self, rows: FileRows, ends: dict[int, int]) -> Iterator[str]:
        """Take in the rows of a carry file; yield what can't be, as ``rows`` does."""
        yield from self.rows(rows, ends)
        self._filed.update(rows.partitions.tolist())

    def letters(self, rows: FileRows, ends: dict[int, int]) -> Iterator[str]:
        """Take in a file's dead letters; yield what can't be, as ``rows`` does."""
        for partition in np.unique(rows.partitions).tolist():
            offsets = rows.offsets[rows.partitions == partition]
            self._dead[partition] += len(offsets)
            yield from self._outside(partition, offsets, ends)
            self._positions[partition].add_whole(offsets)

    def lacks(self, partitions: Iterable[int]) -> None:
        """Take in that a file of these partitions could not be read: that was found already."""
        self._incomplete |= set(partitions)

    def _outside(self, partition: int, offsets: Any, ends: dict[int, int]) -> Iterator[str]:
        start, end = self._starts.get(partition), ends.get(partition)
        if start is None or end is None:
            yield f"holds partition={partition}, which was never read"
        elif len(offsets) and (offsets.min() < start or offsets.max() >= end):
            yield (
                f"holds offsets {offsets.min()} to {offsets.max()} of partition={partition}, read "
                f"were {start} to {end - 1}"
            )

    # the whole

    def total(self, name: str) -> int:
        """Return a sum over all partitions: ``messages`` or ``dead_letters``."""
        return sum(total[name] for total in self._totals.values())

    def findings(self, places: Callable[[int, int], str]) -> Iterator[str]:
        """Yield what does not close; ``places`` names the files that may hold an offset."""
        for partition in sorted(self._totals):
            for finding in self._findings(partition, places):
                yield f"partition={partition}: {finding}"

    def _findings(self, partition: int, places: Callable[[int, int], str]) -> Iterator[str]:
        positions = self._positions[partition]
        seen, torn = positions.messages(), positions.torn()
        for start, end in positions.repeated[:_MOST]:
            where = places(partition, start)
            yield f"rows of offsets {start} to {end - 1} are in more than one place{where}"
        if partition in self._incomplete:
            return
        if self.is_blind:
            yield from self._sums(partition, None)
            return
        complete_from = self._expired_to.get(partition, 0)
        for start, end in [place for place in torn if place.start >= complete_from][:_MOST]:
            yield f"some rows of offsets {start} to {end - 1} are nowhere"
        yield from self._sums(partition, seen)

    def _sums(self, partition: int, seen: int | None) -> Iterator[str]:
        """Compare the log's sums; rows where positions do not tell which messages were ``seen``."""
        total, dead = self._totals[partition], self._dead[partition]
        came, filed = self._came[partition], self._filed[partition]
        expected = total["messages"] - total["without_rows"]
        if seen is None or partition in self._expired_to:
            if came != filed:
                yield (
                    f"{came} rows should be in batches, expired or not, and in the carry, {filed} "
                    "are"
                )
        elif seen != expected:
            yield (f"{expected} messages should be in batches, carry or dead letters, {seen} are")
        if partition not in self._uncounted and dead != total["dead_letters"]:
            yield f"{dead} dead letters are there, the log says {total['dead_letters']}"
