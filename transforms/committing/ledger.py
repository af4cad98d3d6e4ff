"""Which panes of a job the log has: what whoever commits knows, once a process."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from batch_collection.log.entries import newest_entry, read_kept, read_since
from batch_collection.log.expiry import first_cycle
from batch_collection.publishing.publish import sweep
from batch_collection.windows import utc_now
from transforms.process.process import current

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batch_collection.log.entry import Entry, Origin
    from batch_collection.storage.contract import Storage
    from transforms.elements.pane import Job, PaneReport

__all__ = ["Ledger", "ledger_of", "place_of"]

_SKEW = timedelta(minutes=10)
"""How far the clocks of who builds a pipeline and who commits may lie apart."""
_LEAST = timedelta(days=1)
"""How long panes are known at least: a bundle may be repeated whatever lateness is allowed."""
_AT_ONCE = 64

_Place = tuple[datetime, int, int]


class Ledger:
    """The panes of one run that entries of the last ``allowed_lateness`` name, at least a day.

    It is read from the log once, back to that time or to when the pipeline was built, and follows
    the log from then on. A pane that comes again later than that is taken for a new one.

    Attributes:
        lock: held by whoever commits, so that threads of a process are no rivals.
        published: the plan of the last entry that was committed and published here.
    """

    def __init__(self, job: Job) -> None:
        """Know nothing yet."""
        self.lock = threading.Lock()
        self.published: str | None = None
        self._run, self._built_at = job.run, job.built_at
        self._known_for = max(job.allowed_lateness + job.interval, _LEAST)
        self._cycle: int | None = None
        self._hint = 0
        self._seen: dict[_Place, set[str]] = {}
        self._ages: deque[tuple[datetime, _Place]] = deque()

    def newest(self, storage: Storage) -> Entry | None:
        """Return the newest entry, None if there is none; found by that of the last look.

        Raises:
            StorageError: files can't be moved to where they are to be seen.
        """
        if not self._hint:
            storage.check_moves()
        entry = newest_entry(storage, self._hint)
        self._hint = 0 if entry is None else entry.cycle
        return entry

    def follow(self, storage: Storage, newest: Entry) -> None:
        """Take in what was committed up to ``newest``, which is published.

        The first time, what crashed jobs have left long ago is removed.
        """
        if self._cycle is None:
            self._read_back(storage, newest)
            sweep(storage, newest)
        elif self._cycle < newest.cycle:
            for entry in read_since(storage, self._cycle, newest.cycle):
                self._note(entry)
        self._cycle = self._hint = newest.cycle
        self._forget()

    def take(self, entry: Entry) -> None:
        """Take in what was committed and published here, behind all that is known."""
        self._note(entry)
        self.published = entry.plan
        self._cycle = self._hint = entry.cycle

    def new(self, reports: Iterable[PaneReport]) -> list[PaneReport]:
        """Return the reports on panes that are not known, each pane once.

        One of a place that had other rows is marked as ``repeated``.
        """
        seen = dict[_Place, set[str]]()
        fresh = []
        for report in reports:
            place, checksum = place_of(report.origin), report.origin.checksum
            known = self._seen.get(place, set()) | seen.setdefault(place, set())
            if checksum not in known:
                seen[place].add(checksum)
                fresh.append(replace(report, origin=replace(report.origin, repeated=bool(known))))
        return fresh

    def _read_back(self, storage: Storage, newest: Entry) -> None:
        since = max(self._built_at - _SKEW, utc_now() - self._known_for)
        last, first_kept = newest.cycle, first_cycle(storage)
        while last >= first_kept:
            first = max(last - _AT_ONCE + 1, first_kept)
            entries = list(read_kept(storage, range(first, last + 1)))
            for entry in entries:
                self._note(entry)
            if not entries or entries[0].committed_at < since:
                return
            last = first - 1

    def _note(self, entry: Entry) -> None:
        for origin in entry.origins:
            if origin.run == self._run:
                place = place_of(origin)
                self._seen.setdefault(place, set()).add(origin.checksum)
                self._ages.append((entry.committed_at, place))

    def _forget(self) -> None:
        """Forget what is older."""
        since = utc_now() - self._known_for
        while self._ages and self._ages[0][0] < since:
            self._seen.pop(self._ages.popleft()[1], None)


def place_of(origin: Origin) -> _Place:
    """Return where in its run a pane was fired: window, shard and number."""
    return origin.window_start, origin.shard, origin.index


def ledger_of(job: Job) -> Ledger:
    """Return the ledger of a job in this process."""
    return current().kept((Ledger, job.collection, job.run), lambda: Ledger(job))
