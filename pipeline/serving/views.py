"""What is served of collections: what their logs say, looked at again when they have grown."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from batch_collection.checkpoints.totals import summed
from batch_collection.inspection.status import status
from batch_collection.log.entries import newest_again, read_entries, read_since
from batch_collection.log.expiry import first_kept, undisturbed
from batch_collection.log.sums import Sums
from batch_collection.windows import format_instant

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from batch_collection.log.entry import Entry, Pane
    from batch_collection.log.expiry import Expiry
    from batch_collection.storage.contract import Storage

__all__ = ["CollectionView", "WindowView", "logged"]

_ENTRIES = 120
"""Of so many of the last entries windows are shown."""
_CYCLES = 40


@dataclass(slots=True)
class WindowView:
    """A window as the last entries tell of it: rows of its panes, by their timing."""

    start: datetime
    end: datetime
    rows: dict[str, int] = field(default_factory=lambda: {"early": 0, "on_time": 0, "late": 0})
    files: int = 0
    panes: int = 0

    def add(self, pane: Pane) -> None:
        """Count a pane in."""
        self.rows[pane.timing] += pane.rows
        self.files += len(pane.files)
        self.panes += 1


class CollectionView:
    """One collection, as far as it was looked at; threads may share it.

    Counts are of all that was ever committed, so they are the same whoever serves them, and after a
    restart.
    """

    def __init__(
        self,
        name: str,
        storage: Storage,
        look: Callable[[Entry | None], Entry | None],
        lag: Callable[[], int | None] = lambda: None,
    ) -> None:
        """Look at nothing yet.

        Args:
            name: What it is called in metrics.
            storage: Where it lies.
            look: Gives its newest entry, of which the last one is known.
            lag: Gives how many messages wait at the source; None: nobody knows.
        """
        self.name, self.storage, self._look, self.lag = name, storage, look, lag
        self.newest: Entry | None = None
        self.sums = Sums()
        self._recent: deque[Entry] = deque(maxlen=_ENTRIES)
        self._status: dict[str, Any] | None = None
        self._lock = threading.Lock()

    def refresh(self) -> None:
        """Take up what was committed since the last look.

        Raises:
            CollectionError: the log can't be read.
        """
        with self._lock:
            newest = self._look(self.newest)
            if newest is None or (self.newest is not None and newest.cycle == self.newest.cycle):
                return
            if self.newest is None:
                self.sums, entries = undisturbed(self.storage, partial(self._all, newest))
            else:
                entries = self._since(self.newest, newest)
                self.sums = Sums.total([self.sums, *map(Sums.of, entries)])
            self._recent.extend(entries)
            self.newest, self._status = newest, None

    def _since(self, known: Entry, newest: Entry) -> tuple[Entry, ...]:
        if newest.cycle == known.cycle + 1:
            return (newest,)
        return read_since(self.storage, known.cycle, newest.cycle)

    def _all(self, newest: Entry, expiry: Expiry | None) -> tuple[Sums, tuple[Entry, ...]]:
        first = max(first_kept(expiry), newest.cycle - _ENTRIES + 1)
        return (
            summed(self.storage, newest, expiry),
            tuple(read_entries(self.storage, first, newest.cycle)),
        )

    def windows(self) -> list[WindowView]:
        """Return the windows that the last entries gave rows, by time."""
        found: dict[datetime, WindowView] = {}
        with self._lock:
            panes = [pane for entry in self._recent for pane in entry.panes]
        for pane in panes:
            window = found.setdefault(
                pane.window_start, WindowView(pane.window_start, pane.window_end)
            )
            window.add(pane)
        return [found[start] for start in sorted(found)]

    def described(self) -> dict[str, Any]:
        """Return what a page shows of it, as JSON values.

        Raises:
            CollectionError: the log can't be read.
        """
        self.refresh()
        found = self._status
        if found is None and self.newest is not None:
            found = self._status = status(self.storage, _CYCLES).plain()
        return {
            "name": self.name,
            "lag": self.lag(),
            "status": found,
            "windows": [_plain(window, self.newest) for window in self.windows()],
        }


def _plain(window: WindowView, newest: Entry | None) -> dict[str, Any]:
    boundary = None if newest is None else newest.boundary
    return {
        "start": format_instant(window.start),
        "end": format_instant(window.end),
        "is_closed": boundary is not None and window.end <= boundary,
        "files": window.files,
        "panes": window.panes,
        **window.rows,
    }


def logged(name: str, storage: Storage) -> CollectionView:
    """Return the view of a collection that others write: its log is looked at each time."""
    return CollectionView(name, storage, partial(newest_again, storage))
