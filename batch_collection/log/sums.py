"""What entries of the log add up to."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batch_collection.log.entry import Entry

__all__ = ["Sums"]


class Sums(NamedTuple):
    """Counts of some entries; they add up.

    ``rows``, ``late_rows``, ``files`` and ``bytes`` are of batches; ``closed_windows`` had rows
    when they were closed, ``empty_windows`` had none: see ``totals.window_counts``; the others are
    of messages. ``dead_letters`` came to files, ``taken_up`` were taken out of files again,
    ``redriven`` are those of them that are no longer dead letters.
    """

    messages: int = 0
    rows: int = 0
    late_rows: int = 0
    files: int = 0
    bytes: int = 0
    closed_windows: int = 0
    empty_windows: int = 0
    dead_letters: int = 0
    tombstones: int = 0
    empty: int = 0
    lost: int = 0
    taken_up: int = 0
    redriven: int = 0

    @classmethod
    def of(cls, entry: Entry) -> Sums:
        """Return those of one entry."""
        files, became = entry.files, entry.became
        return cls(
            messages=sum(read.messages for read in entry.reads),
            rows=sum(pane.rows for pane in entry.panes),
            late_rows=sum(pane.rows for pane in entry.panes if pane.timing == "late"),
            files=len(files),
            bytes=sum(file.bytes for file in files),
            closed_windows=sum(pane.timing == "on_time" for pane in entry.panes),
            empty_windows=sum((end - start) // entry.interval for start, end in entry.closed_empty),
            dead_letters=sum(read.dead_letters for read in (*entry.reads, *became)),
            tombstones=sum(read.tombstones for read in (*entry.reads, *became)),
            empty=sum(read.empty for read in (*entry.reads, *became)),
            lost=sum(read.lost for read in entry.reads),
            taken_up=sum(read.messages for read in became),
            redriven=sum(read.messages - read.dead_letters for read in became),
        )

    @classmethod
    def total(cls, parts: Iterable[Sums]) -> Sums:
        """Add up."""
        return cls(*map(sum, zip(*parts, strict=True)))
