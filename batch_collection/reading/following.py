"""What entries bring, in the order of the log, from a remembered place on, waiting at its end."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from batch_collection.errors import ExpiredError
from batch_collection.log.entries import Chain
from batch_collection.log.expiry import Expiry, Folded, first_kept, newest_expiry, read_stub
from batch_collection.paths import entry_path
from batch_collection.reading.cursor import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from datetime import datetime

    from batch_collection.log.entry import Entry
    from batch_collection.reading.cursor import Cursor
    from batch_collection.storage.contract import Storage

__all__ = ["Following", "Item", "Step"]


_REST = 1.0
"""Seconds between two places where remembering costs: an object takes one write a second."""


class Item(Protocol):
    """Something of a window that an entry brings: a batch, say."""

    @property
    def cycle(self) -> int:
        """The entry's."""

    @property
    def number(self) -> int:
        """Its place among what the entry brings."""

    @property
    def window_end(self) -> datetime:
        """The end of the window that it is of."""


_T = TypeVar("_T", bound=Item)


@dataclass(frozen=True, slots=True)
class Step(Generic[_T]):
    """An item, of which ``used`` rows were used before, or none; and the place ``after`` it."""

    item: _T | None
    used: int
    after: Place


@dataclass(slots=True)
class Following(Generic[_T]):
    """A follower of a log.

    Attributes:
        items_of: what an entry brings, numbered from 0.
        latest: where a new cursor begins: the first cycle to come; None: with what there is.
        skips: whether batches that were expired before they were read are passed over; else they
            are an error.
        wait: called at the end of the log, a true answer ends it; None: it ends there.
        clock: seconds, from any start.
    """

    storage: Storage
    cursor: Cursor
    items_of: Callable[[Entry], Sequence[_T]]
    latest: int | None
    skips: bool
    wait: Callable[[], object] | None
    clock: Callable[[], float] = time.monotonic
    _expiry: Expiry | None = None
    _known: Expiry | None = None
    _reached: Place | None = None
    _stored: Place | None = None
    _stored_at: float = -_REST

    def items(self) -> Generator[_T, None, None]:
        """Yield item after item; a place is remembered when the next one is asked for.

        Where remembering is an upload, it is put off for a second at most, but not beyond the end
        of the log or of the loop.

        Raises:
            ExpiredError: some were expired before they were read.
            LogError: an entry does not follow the one that was read before it.
        """
        try:
            for step in self.steps():
                if step.item is None:
                    self.put_off(step.after)
                else:
                    yield step.item
                    self.reach(step.after)
        finally:
            if self.cursor.is_far:  # a disk has all but that nothing came since
                self.remember()

    @property
    def stub(self) -> int | None:
        """The newest stub of which this follower knows that it has missed what it hides."""
        return None if self._known is None else self._known.number

    def steps(self) -> Iterator[Step[_T]]:
        """Yield step after step; only places that it is told to have reached are remembered.

        Raises:
            ExpiredError: some items were expired before they were read.
            LogError: an entry does not follow the one that was read before it.
        """
        place, chain = self._begin(), Chain(self.storage)
        while True:
            while self.storage.size(entry_path(place.cycle)) is None:
                folded = self._folded(place)
                if folded is not None:
                    place, chain = self._jump(place, folded), Chain(self.storage, folded.sha256)
                    yield Step(None, 0, place)
                    continue
                self.remember()
                if self.wait is None or self.wait():
                    return
            ((entry, _),) = chain.links(place.cycle, place.cycle)
            items = self.items_of(entry)
            if place.index > len(items):
                self.cursor.refuse(
                    f"it is behind {place.index} parts of cycle={place.cycle}, which has "
                    f"{len(items)}"
                )
            after = Place(place.cycle + 1)
            for item in items[place.index :]:
                if self._is_there(item):
                    used = place.row if item is items[place.index] else 0
                    is_last = item is items[-1]
                    yield Step(item, used, after if is_last else Place(item.cycle, item.number + 1))
            place = after
            yield Step(None, 0, place)

    def _begin(self) -> Place:
        """Take the place up; a new cursor begins with what is left."""
        self._expiry = newest_expiry(self.storage)
        kept = first_kept(self._expiry)
        number = None if self._expiry is None else self._expiry.number
        place = self.cursor.load(Place(self.latest or kept, 0, number), kept)
        if self.skips and number is not None and number != place.stub:
            place = replace(place, stub=number)
            self.cursor.store(place)
        self._known = None if place.stub is None else read_stub(self.storage, place.stub)
        return place

    def _folded(self, place: Place) -> Folded | None:
        """Return what an entry was folded into that is missing for that, None if it is to come.

        The newest entry is never expired: as long as the one before is there, it is to come.
        """
        waits = self.wait is not None and place.cycle > 0
        if waits and self.storage.size(entry_path(place.cycle - 1)) is not None:
            return None
        self._expiry = newest_expiry(self.storage)
        if self._expiry is None or place.cycle >= self._expiry.first:
            return None
        return self._expiry.folded

    def _jump(self, place: Place, folded: Folded) -> Place:
        """Go on where the log begins, if no batch is missed by it, or that is agreed to."""
        if (place.cycle, place.index) < folded.place:
            self._miss()
        return Place(folded.last.cycle + 1)

    def _is_there(self, item: _T) -> bool:
        if self._expiry is None or not self._expiry.hides(item.cycle, item.window_end):
            return True
        if self._known is None or not self._known.hides(item.cycle, item.window_end):
            self._miss()
        return False

    def _miss(self) -> None:
        """Note that batches were expired before they were read.

        Raises:
            ExpiredError: that is not agreed to.
        """
        if not self.skips:
            message = (
                f"cursor {self.cursor.path} has not read all of what was expired in "
                f"{self.storage.uri}: {self._expiry}; give --on_expired=skip "
                "(follow(..., on_expired='skip')) to go on with what is left"
            )
            raise ExpiredError(message)
        self._known = self._expiry

    def reach(self, place: Place, *, often: bool = False) -> None:
        """Remember a place, or put it off: the next one, the end, or the wait for more has it.

        It is put off where remembering costs: far away, or where places are reached ``often``.
        """
        self.put_off(place)
        is_costly = often or self.cursor.is_far
        if not is_costly or self.clock() - self._stored_at >= _REST:
            self.remember()

    def put_off(self, place: Place) -> None:
        """Have a place remembered when the log's end is reached, or with the next one."""
        self._reached = replace(place, stub=self.stub)

    def remember(self) -> None:
        """Remember the place that was reached last, if it is not yet."""
        if self._reached not in {None, self._stored}:
            self.cursor.store(self._reached)
            self._stored, self._stored_at = self._reached, self.clock()
