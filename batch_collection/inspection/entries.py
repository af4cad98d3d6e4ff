"""Check a log: every entry in its place, every checkpoint what its entries come to."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from batch_collection.checkpoints import ranges
from batch_collection.checkpoints.checkpoint import (
    Checkpoint,
    checkpoint_of,
    listing_path,
    merged,
    read_listing,
    summary_of,
    summary_path,
)
from batch_collection.checkpoints.ranges import Range
from batch_collection.errors import LogError
from batch_collection.inspection.stubs import left_over
from batch_collection.log.chain import check_link
from batch_collection.log.entries import digest
from batch_collection.log.entry import Entry
from batch_collection.log.expiry import first_kept
from batch_collection.paths import LOG, checkpoint_range, entry_cycle, entry_path, is_checkpoint
from batch_collection.storage.fetching import each

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from batch_collection.checkpoints.checkpoint import Summary
    from batch_collection.log.expiry import Expiry
    from batch_collection.storage.contract import Storage

__all__ = ["LogAudit"]


_CURE = "remove it, and a collector makes it anew"


class LogAudit:
    """Reads a log from its first entry on, and tells ``find`` what is wrong with it.

    Attributes:
        newest: the newest cycle in the folder, None if there is no entry: probing would stop at a
            hole.
    """

    def __init__(
        self, storage: Storage, expiry: Expiry | None, find: Callable[[str], None]
    ) -> None:
        """List the log; it begins where the expiry has left it."""
        self._storage, self._find = storage, find
        self._first = first_kept(expiry)
        self._folded = None if expiry is None else expiry.folded
        self.newest = None if expiry is None else expiry.first
        checkpoints, old = set(), []
        for path in storage.list(LOG):
            span = checkpoint_range(path)
            cycle = entry_cycle(path) if span is None else span[1]
            if cycle is not None and cycle < self._first:
                old.append(path)
            elif is_checkpoint(path):
                checkpoints.add(path)
            elif cycle is not None:
                self.newest = max(cycle, -1 if self.newest is None else self.newest)
        for path in sorted(old):
            find(left_over(path))
        self._checkpoints = _Checkpoints(storage, checkpoints, find)

    def entries(self, last: int) -> Iterator[Entry]:
        """Yield the entries up to cycle ``last`` that can be gone by, in order."""
        before = None if self._folded is None else self._folded.last
        previous = None if self._folded is None else self._folded.sha256
        cycles = range(self._first, last + 1)
        read = partial(_read, self._storage)
        for cycle, (content, own) in zip(cycles, each(self._storage, read, cycles), strict=True):
            entry = None if content is None else self._entry(cycle, content, previous)
            if content is None:
                self._find(f"{entry_path(cycle)} is missing, though later entries are there")
            if entry is not None:
                for finding in check_link(entry, before):
                    self._find(finding)
                yield entry
            self._checkpoints.add(cycle, entry, own)
            before, previous = entry, own
        self._checkpoints.finish()

    def _entry(self, cycle: int, content: bytes, previous: str | None) -> Entry | None:
        """Return an entry that stands in its place in the chain, None if there is none to go by."""
        path = entry_path(cycle)
        try:
            entry = Entry.from_json(content)
        except LogError as error:
            self._find(f"{path}: {error}")
            return None
        if entry.cycle != cycle:
            self._find(f"{path} holds the entry of cycle={entry.cycle}")
            return None
        if entry.previous != previous and (previous is not None or cycle == 0):
            self._find(f"{path} does not follow the entry before it: one of them was changed")
        return entry


def _read(storage: Storage, cycle: int) -> tuple[bytes | None, str | None]:
    try:
        content = storage.read(entry_path(cycle))
    except FileNotFoundError:
        return None, None
    return content, digest(content)


class _Checkpoints:
    """Compares checkpoints with what entries come to, level by level."""

    def __init__(self, storage: Storage, paths: set[str], find: Callable[[str], None]) -> None:
        self._storage, self._paths, self._find = storage, paths, find
        self._entries: list[Entry | None] = []
        self._parts: list[list[Checkpoint | None]] = [[] for _ in range(ranges.LEVELS)]

    def add(self, cycle: int, entry: Entry | None, own: str | None) -> None:
        """Take the next entry in; None for one that can't be gone by."""
        if not self._paths:
            return
        self._entries.append(entry)
        if (cycle + 1) % ranges.SPAN:
            return
        entries, self._entries = self._entries, []
        whole = [each for each in entries if each is not None]
        span = Range(cycle + 1 - ranges.SPAN, cycle)
        is_whole = own is not None and len(whole) == ranges.SPAN
        self._compare(0, span, checkpoint_of(span, whole, own or "", {}) if is_whole else None)

    def finish(self) -> None:
        """Find those that no entries are there for."""
        for path in sorted(self._paths):
            found = checkpoint_range(path)
            span = Range(*found) if found else None
            if span is None or span.level is None:
                self._find(f"{path} is of no range that has a checkpoint; {_CURE}")
            elif self._storage.size(entry_path(span.last)) is None:
                self._find(f"{path} is there, but not all entries that it was made of")

    def _compare(self, level: int, span: Range, expected: Checkpoint | None) -> None:
        """Look at the checkpoint of a range, then at that which it completes."""
        summary_is_there = summary_path(span) in self._paths
        self._paths -= {summary_path(span), listing_path(span)}
        if summary_is_there and expected is not None:
            self._look_at(span, expected)
        parts = self._parts[level]
        parts.append(expected)
        size = ranges.SPAN * ranges.FACTOR ** (level + 1)
        if level + 1 < ranges.LEVELS and (span.last + 1) % size == 0:
            self._parts[level] = []
            above = Range(span.last + 1 - size, span.last)
            self._compare(level + 1, above, _merged(above, parts))

    def _look_at(self, span: Range, expected: Checkpoint) -> None:
        summary = summary_of(self._storage, span)
        if summary is None:
            self._find(f"{summary_path(span)} is damaged, or of another version; {_CURE}")
            return
        if not _agrees(summary, expected.summary):
            self._find(f"{summary_path(span)} does not agree with the entries; {_CURE}")
            return
        content = read_listing(self._storage, summary)
        if content is None:
            self._find(f"{listing_path(span)} is not what {summary_path(span)} says; {_CURE}")
        elif Checkpoint(summary, content).table != expected.table:
            self._find(f"{listing_path(span)} does not agree with the entries; {_CURE}")


def _agrees(summary: Summary, expected: Summary) -> bool:
    """Tell whether two summaries say the same; one without reasons says nothing of them."""
    letters = sum((summary.reasons or {}).values())
    if summary.reasons is not None and letters != summary.sums.dead_letters:
        return False
    return replace(summary, reasons=None, listing=expected.listing) == replace(
        expected, reasons=None
    )


def _merged(span: Range, parts: list[Checkpoint | None]) -> Checkpoint | None:
    whole = [part for part in parts if part is not None]
    try:
        return merged(span, whole) if len(whole) == ranges.FACTOR else None
    except LogError:
        return None  # found already, where the entry was looked at
