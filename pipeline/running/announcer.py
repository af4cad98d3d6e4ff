"""Announces closed windows, one after the other, from where it was left off."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from batch_collection.announcing.closing import closings_of, manifest_seen
from batch_collection.errors import CollectionError, ExpiredError
from batch_collection.reading.cursor import Cursor
from batch_collection.reading.following import Following
from pipeline.announcing.contract import UndeliveredError
from pipeline.announcing.event import announcement_of, source_of
from pipeline.running.policy import pause_after

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from batch_collection.storage.contract import Storage
    from pipeline.announcing.contract import Announcement, Publisher
    from pipeline.announcing.target import Target

__all__ = ["CURSOR", "PATIENCE", "Announcer", "Beside", "announced_beside"]

CURSOR = "announce"
"""The name its place is remembered under, where no other is given."""
PATIENCE = timedelta(minutes=1)
"""For how long one announcement is tried where the program is to end by itself."""
_POLL = timedelta(seconds=1)


@dataclass(slots=True)
class Announcer:
    """Hands announcements of one collection over, at least once each, in the order of the log.

    None is handed over before all that it tells of is visible. The place is remembered when the
    receiver has it, so that after a crash the last one comes again, under the same id.

    Attributes:
        storage: where the collection lies.
        publisher: takes announcements.
        cursor: remembers the place.
        say: is told of trouble, and that it is over, a line each.
        stop: set when the program is to end soon.
        at_end: waits at the end of the log; a true answer ends it there. None: it ends there.
        patience: for how long one is tried; None: until ``stop``.
        latest: where a new cursor begins: the first cycle to come; None: with what there is.
        skips: whether windows that were expired before they were announced are passed over.
        done: is told of each one that the receiver has.
    """

    storage: Storage
    publisher: Publisher
    cursor: Cursor
    say: Callable[[str], None]
    stop: threading.Event
    at_end: Callable[[], object] | None = None
    patience: timedelta | None = None
    latest: int | None = None
    skips: bool = False
    done: Callable[[Announcement], None] = lambda _: None
    clock: Callable[[], float] = time.monotonic

    def run(self) -> None:
        """Announce until the log ends, or ``stop``.

        Raises:
            UndeliveredError: one was not taken in time; the next run begins with it.
            ExpiredError: windows were expired before they were announced.
            CollectionError: the receiver wants no more, or the collection is damaged.
        """
        source = source_of(self.storage)
        following = Following(
            storage=self.storage,
            cursor=self.cursor,
            items_of=closings_of,
            latest=self.latest,
            skips=self.skips,
            wait=self.at_end,
        )
        with closing(following.items()) as items:
            for item in items:
                if self.stop.is_set():
                    return
                try:
                    found = manifest_seen(self.storage, item, self.at_end or _at_once)
                except ExpiredError:
                    if not self.skips:
                        raise
                    continue
                if found is None or not self._delivered(announcement_of(source, item, found)):
                    return

    def _delivered(self, announcement: Announcement) -> bool:
        """Hand one over, again and again; tell whether it was, False if ``stop`` came first."""
        began, tries = self.clock(), 0
        while True:
            try:
                self.publisher.publish(announcement)
            except UndeliveredError as error:
                pause = pause_after(tries).total_seconds()
                spent = self.clock() - began + pause
                if self.patience is not None and spent > self.patience.total_seconds():
                    raise
                if tries == 0:
                    self.say(f"{error}; trying again")
                if self.stop.wait(pause):
                    return False
                tries += 1
            else:
                if tries:
                    self.say(f"{self.publisher.name} takes announcements again")
                self.done(announcement)
                return True


@dataclass(slots=True)
class _Ending:
    """Waits at the end of a log, which may have grown before ``over`` was set: it looks again."""

    over: threading.Event
    is_last_look: bool = False

    def wait(self) -> bool:
        if self.is_last_look:
            return True
        self.is_last_look = self.over.wait(_POLL.total_seconds())
        return False


def _at_once() -> bool:
    return True


@dataclass(slots=True)
class Beside:
    """Announces what is closed in some collections, a thread each, beside what else goes on.

    Attributes:
        failures: what went wrong for good, a line each; all of it once the block is over.
    """

    target: Target | None
    say: Callable[[str], None]
    stop: threading.Event
    ends: bool
    closes: ExitStack
    failures: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def add(self, storage: Storage) -> None:
        """Announce what is closed in one collection, too."""
        if self.target is None:
            return
        publisher = self.closes.enter_context(closing(self.target.open()))
        announcer = Announcer(
            storage=storage,
            publisher=publisher,
            cursor=Cursor(storage, CURSOR),
            say=self.say,
            stop=self.stop,
            at_end=_Ending(self._over).wait,
            patience=PATIENCE if self.ends else None,
        )
        thread = threading.Thread(target=self._announce, args=(announcer,), daemon=True)
        self.closes.callback(thread.join)  # before its publisher is closed
        thread.start()

    def end(self) -> None:
        """Announce what is left."""
        self._over.set()

    def _announce(self, announcer: Announcer) -> None:
        try:
            announcer.run()
        except CollectionError as error:
            self.failures.append(str(error))
            self.say(f"error: {error}; windows are not announced any more")


@contextmanager
def announced_beside(
    target: Target | None,
    collections: Sequence[Storage],
    say: Callable[[str], None],
    stop: threading.Event,
    *,
    ends: bool,
) -> Iterator[Beside]:
    """Announce what is closed in some collections as long as the block lasts, and what is left.

    Nothing in the block waits for a receiver, or fails because of one.

    Args:
        target: Where to; None: nothing is announced.
        collections: Where they lie; more may be added.
        say: Is told of trouble, from other threads.
        stop: Set when the program is to end soon.
        ends: Whether the block ends by itself; then an announcement is tried for a minute only.

    Yields:
        What announces.
    """
    with ExitStack() as closes:
        beside = Beside(target, say, stop, ends, closes)
        try:
            for storage in collections:
                beside.add(storage)
            yield beside
        finally:
            beside.end()
