"""Expire old windows: their files go, their entries are folded into a stub, nothing else changes.

Files, manifests and entries are deleted once the stub is durable, in this order, each kind for good
before the next. Whatever was interrupted is done by the next one, since the newest stub speaks for
all; entries go last, so that what is to be deleted can be told until it is. Only entries that a
later one follows are touched: they are published, and no collector needs them.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING

from batch_collection.checkpoints.totals import summed, window_counts
from batch_collection.errors import AlreadyExistsError, CollectionError, LogError
from batch_collection.log.end import end_of_log
from batch_collection.log.entries import (
    digest,
    newest_entry,
    no_collection,
    read_contents,
    read_entry,
    read_kept,
)
from batch_collection.log.entry import Entry
from batch_collection.log.expiry import Expiry, fold, newest_expiry, undisturbed
from batch_collection.paths import (
    LOG,
    WINDOWS,
    checkpoint_range,
    entry_cycle,
    entry_path,
    manifest_window,
    stub_path,
)
from batch_collection.publishing.manifest import read_manifest
from batch_collection.windows import boundary_at, format_instant

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from batch_collection.storage.contract import Storage

__all__ = ["Expired", "expire"]


_AT_ONCE = 1000  # paths of one call to delete


@dataclass(frozen=True, slots=True)
class Expired:
    """What an expiry takes away, beyond what earlier ones did; ``before`` is as it was kept to.

    ``stub`` is the path of what is left, None if there is nothing to take away.
    """

    before: datetime
    windows: int
    files: int
    rows: int
    bytes: int
    dead_letters: int
    entries: int
    entries_left: int
    stub: str | None


@dataclass(slots=True)
class _Plan:
    """What is found while the log is read.

    ``touched`` are the cycles of entries of which something is gone, None: they are not known.
    """

    expiry: Expiry
    entries_left: int
    touched: set[int] | None = None
    files: int = 0
    rows: int = 0
    bytes: int = 0
    dead_letters: int = 0
    entries: int = 0
    windows: set[datetime] = field(default_factory=set)

    def found(self) -> Expired:
        is_new = bool(self.windows or self.entries)
        return Expired(
            before=self.expiry.before,
            windows=len(self.windows),
            files=self.files,
            rows=self.rows,
            bytes=self.bytes,
            dead_letters=self.dead_letters,
            entries=self.entries,
            entries_left=self.entries_left - self.entries,
            stub=stub_path(self.expiry.number) if is_new else None,
        )


def expire(
    storage: Storage,
    before: datetime,
    now: datetime,
    *,
    exact: bool = True,
    dry_run: bool = False,
) -> Expired:
    """Take away the windows that end by ``before``, and say what they were.

    Collectors, readers and audits may go on meanwhile.

    Args:
        storage: Where the collection lies.
        before: An instant; the last boundary of windows that is not after it counts.
        now: The clock.
        exact: Refuse an instant up to which windows are not closed yet, or before which an earlier
            expiry went; else come as near to it as can be.
        dry_run: Only say what would go.

    Raises:
        LogError: there is no collection, or its log is damaged: nothing is expired.
        CollectionError: ``before`` is refused, or somebody else expires at the same time.
    """
    plan = undisturbed(
        storage, lambda earlier: _planned(storage, earlier, before, now, exact=exact)
    )
    found = plan.found()
    if dry_run:
        return found
    if found.stub is not None:
        try:
            storage.create(found.stub, plan.expiry.to_json())
        except AlreadyExistsError as error:
            message = f"somebody else expires {storage.uri} at the same time; run it again"
            raise CollectionError(message) from error
    expiry = newest_expiry(storage)
    if expiry is not None:
        _carry_out(storage, expiry, plan.touched)
    return found


def _planned(
    storage: Storage, earlier: Expiry | None, before: datetime, now: datetime, *, exact: bool
) -> _Plan:
    end = end_of_log(storage)
    if end is None:
        raise no_collection(storage)
    newest = end.entry.cycle
    through = newest - 1
    first = 0 if earlier is None else earlier.first
    last = read_entry(storage, through) if through >= first else None
    if last is None and earlier is not None and earlier.folded is not None:
        last = earlier.folded.last
    boundary = _boundary(storage, earlier, last, before, exact=exact)
    expiry = Expiry(
        number=0 if earlier is None else earlier.number + 1,
        previous=None if earlier is None else digest(storage.read(stub_path(earlier.number))),
        host=socket.gethostname(),
        pid=os.getpid(),
        expired_at=now,
        before=boundary,
        through=through,
        folded=None if earlier is None else earlier.folded,
    )
    plan = _Plan(expiry, entries_left=newest + 1 - first)
    is_closed = last is not None and last.boundary is not None and boundary <= last.boundary
    if is_closed and (earlier is None or boundary >= earlier.before):
        _read(storage, plan, earlier)
    if plan.entries:
        plan.expiry = _with_counts(storage, plan.expiry, earlier, end.entry)
    return plan


def _with_counts(storage: Storage, expiry: Expiry, earlier: Expiry | None, newest: Entry) -> Expiry:
    """Let the counts of windows stay what they are, whatever is known only by what is folded."""
    before, after = (
        window_counts(storage, newest, each, summed(storage, newest, each))
        for each in (earlier, expiry)
    )
    folded = expiry.folded
    if folded is None:
        return expiry
    more = (
        folded.more[0] + before.closed - after.closed,
        folded.more[1] + before.empty - after.empty,
    )
    return replace(expiry, folded=replace(folded, more=more))


def _boundary(
    storage: Storage, earlier: Expiry | None, last: Entry | None, before: datetime, *, exact: bool
) -> datetime:
    """Return the boundary that ``before`` stands for.

    Raises:
        CollectionError: it can't be kept to.
    """
    closed = None if last is None else last.boundary
    boundary = before if last is None else boundary_at(before, timedelta(0), last.interval)
    if exact and (closed is None or boundary > closed):
        upto = "no window" if closed is None else f"windows up to {format_instant(closed)}"
        message = (
            f"before={format_instant(before)} is too late: {upto} can be expired in "
            f"{storage.uri}, which are closed and followed by another entry"
        )
        raise CollectionError(message)
    boundary = boundary if closed is None else min(boundary, closed)
    if exact and earlier is not None and boundary < earlier.before:
        message = (
            f"before={format_instant(before)} is too early: windows before "
            f"{format_instant(earlier.before)} of {storage.uri} were expired already"
        )
        raise CollectionError(message)
    return boundary


def _read(storage: Storage, plan: _Plan, earlier: Expiry | None) -> None:
    """Read the log from its first entry on; fold it as far as it goes, and count what is hidden.

    Raises:
        LogError: an entry does not follow the one before: what would be left would prove nothing.
    """
    expiry, is_folding = plan.expiry, True
    folded, letters = expiry.folded, 0
    touched = plan.touched = set[int]()
    previous = None if folded is None else folded.sha256
    contents = read_contents(storage, expiry.first, expiry.through)
    for cycle, content in enumerate(contents, expiry.first):
        entry, sha256 = Entry.from_json(content), digest(content)
        if (entry.cycle, entry.previous) != (cycle, previous):
            message = (
                f"{entry_path(cycle)} does not follow the entry before it; nothing was expired; "
                f"run batch-collection audit {storage.uri}"
            )
            raise LogError(message)
        previous = sha256
        _count(plan, touched, entry, earlier)
        is_folding = is_folding and _is_old(expiry, entry)
        if not is_folding:
            continue
        folded = fold(folded, entry, sha256)
        letters += sum(file.messages for file in entry.dead_letters)
        letters -= sum(read.messages for read in entry.became)  # they are no longer
        if entry.boundary is not None:  # before the first one nothing tells how old it is
            plan.expiry = replace(expiry, folded=folded)
            plan.entries, plan.dead_letters = cycle + 1 - expiry.first, letters


def _is_old(expiry: Expiry, entry: Entry) -> bool:
    """Say whether all windows of an entry, those that it closed empty as well, are expired.

    Then no later entry needs it: a window that is open, or was closed since, has panes of its own.
    """
    return (entry.boundary is None or entry.boundary <= expiry.before) and all(
        expiry.hides(entry.cycle, pane.window_end) for pane in entry.panes
    )


def _count(plan: _Plan, touched: set[int], entry: Entry, earlier: Expiry | None) -> None:
    for pane in entry.panes:
        if not plan.expiry.hides(entry.cycle, pane.window_end):
            continue
        touched.add(entry.cycle)
        if earlier is not None and earlier.hides(entry.cycle, pane.window_end):
            continue
        plan.windows.add(pane.window_start)
        plan.files += len(pane.files)
        plan.rows += pane.rows
        plan.bytes += sum(file.bytes for file in pane.files)


def _carry_out(storage: Storage, expiry: Expiry, touched: set[int] | None) -> None:
    """Delete what a stub says is gone, as far as it is there."""
    log = list(storage.list(LOG))
    cycles = (entry_cycle(path) for path in log)
    old = sorted(cycle for cycle in cycles if cycle is not None and cycle <= expiry.through)
    entries = read_kept(
        storage,
        [cycle for cycle in old if cycle < expiry.first or touched is None or cycle in touched],
    )
    _delete(storage, (path for entry in entries for path in expiry.gone(entry)))
    _delete(storage, _manifests(storage, expiry))
    _delete(storage, (entry_path(cycle) for cycle in old if cycle < expiry.first))
    ranges = ((path, checkpoint_range(path)) for path in log)
    _delete(storage, (path for path, span in ranges if span and span[1] < expiry.first))


def _manifests(storage: Storage, expiry: Expiry) -> Iterator[str]:
    """Yield the manifests of expired panes; of windows that got panes since, those are read."""
    listed = list(storage.list(WINDOWS))
    newest = newest_entry(storage, expiry.through + 1)
    if newest is None:
        return
    entries = read_kept(storage, range(expiry.through + 1, newest.cycle + 1))
    since = {pane.window_start for entry in entries for pane in entry.panes}
    for path in listed:
        start = manifest_window(path)
        if start is None or start + newest.interval > expiry.before:
            continue
        if start not in since or _cycle_of(storage, path) <= expiry.through:
            yield path


def _cycle_of(storage: Storage, manifest: str) -> int:
    """Return the cycle of a manifest, 0 of one that is gone already, or damaged and so no loss."""
    try:
        content = read_manifest(storage, manifest)
    except FileNotFoundError:
        return 0
    return 0 if content is None else int(content["cycle"])


def _delete(storage: Storage, paths: Iterable[str]) -> None:
    left = iter(paths)
    while some := list(islice(left, _AT_ONCE)):
        storage.delete(some)
