"""Pulls messages and holds them, with their leases, until they are durable: one for a process."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from batch_collection.errors import CollectionError
from transforms.sources.pubsub.held import Bounds, Held

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from transforms.sources.contract import LeasedSource
    from transforms.sources.pubsub.held import Waiting

__all__ = ["Keeper"]

_TRIES = 3  # a lease is extended when a third of it is over: two may fail
_ALONE_SECONDS = 300
_LONGEST_PAUSE = 30.0
_TICK_SECONDS = 1.0
_EMPTY_SECONDS = 0.5  # a server may answer at once that it has nothing


class Keeper:
    """Holds what it pulls from a source, each message once, until plans say that it is durable.

    Nothing is acknowledged that was not released. What is held is extended at each third of its
    lease; where nobody has called for 5 minutes it is given back, and pulling ends. While the
    bounds are reached nothing is pulled. An error of the source is said once, and tried again until
    it answers, which is said as well; any other error of its threads is raised where it is called
    next. Threads may share it.
    """

    def __init__(
        self,
        source: LeasedSource,
        say: Callable[[str], None],
        *,
        bounds: Bounds = Bounds(),  # noqa: B008 - it is a tuple
        pulls: int = 4,
        lease_seconds: int = 120,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take a source, which is closed at the end; ``start`` begins.

        Args:
            source: what to pull from.
            say: is told of errors, and that they are over, a line each.
            bounds: how much to hold.
            pulls: how many to have in flight at once.
            lease_seconds: for how long to hold messages each time; so long after a crash they come
                again. Pub/Sub takes 10 to 600.
            clock: seconds that go forward.
        """
        self._source, self._say, self._clock = source, say, clock
        self._held, self._lease_seconds = Held(bounds), lease_seconds
        self._changed = threading.Condition()
        self._until = 0.0
        self._extend_at = self._visited = clock()
        self._troubles: set[str] = set()
        self._failure: Exception | None = None
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._go_on, args=(step,), name=f"keeper-{step.__name__}")
            for step in (self.extend_due, self.acknowledge, *[self.pull_once] * pulls)
        ]

    def start(self) -> None:
        """Start the threads that pull, once ``pull`` asks for it, and extend."""
        for thread in self._threads:
            thread.daemon = True  # a lease that nobody extends is what a crash leaves, too
            thread.start()

    def pull(self, seconds: float) -> None:
        """Pull for so long from now on; ``math.inf``: until the end."""
        with self._changed:
            self._visit()
            self._until = max(self._until, self._visited + seconds)
            self._changed.notify_all()

    def waiting(self) -> Waiting:
        """Count what no plan has taken; ``since`` is by the keeper's clock."""
        with self._changed:
            self._visit()
            return self._held.waiting()

    def take(self, plan: str, messages: int, nbytes: int) -> pa.Table:
        """Hand waiting messages on to a plan; see ``Held.take``."""
        with self._changed:
            self._visit()
            return self._held.take(plan, messages, nbytes)

    def release(self, ids: pa.Array | pa.ChunkedArray) -> int:
        """Note that messages are durable: those that are held are acknowledged from now on.

        Returns:
            How many are held.
        """
        with self._changed:
            self._visit()
            released = self._held.release(ids)
            self._changed.notify_all()
        return released

    def end_plan(self, plan: str) -> int:
        """Let what a plan has taken and nobody released wait for the next one; count it."""
        with self._changed:
            self._visit()
            return self._held.put_back(plan)

    def unacknowledged(self) -> set[str]:
        """Return the ids of what was released and has no answer yet; empty: all of it has."""
        with self._changed:
            return set(self._held.released().values())

    def stop(self) -> None:
        """Acknowledge what was released, give the rest back, as far as the source answers; close.

        Messages that were just handed out to pulls come again when their leases are over. Stopped
        again, it does nothing.
        """
        if self._stopping.is_set():
            return
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()
        self._source.interrupt()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        for step in (self.acknowledge, self._give_up):
            try:
                step()
            except CollectionError as error:
                self._say(f"{error}; what is held comes again when its leases are over")
        self._source.close()

    def pull_once(self) -> float:
        """Pull once, if it is wanted and there is room; return for how long to wait then."""
        with self._changed:
            now = self._clock()
            asked = self._held.ask() if now < self._until else 0
        if not asked:
            return _TICK_SECONDS
        table = None
        try:
            table = self._source.pull(asked)
        finally:
            with self._changed:
                leases = self._held.came(asked, table, self._clock())
        if leases:
            try:
                self._source.extend(leases, self._lease_seconds)
            except CollectionError:
                with self._changed:
                    self._extend_at = self._clock()
                raise
            with self._changed:
                self._held.put_away()
        return 0.0 if leases else _EMPTY_SECONDS

    def extend_due(self) -> float:
        """Extend all leases if it is time to, or give back what nobody wants; return the wait."""
        with self._changed:
            now, due = self._clock(), self._extend_at
            is_alone = now >= self._visited + _ALONE_SECONDS
            if is_alone:
                self._until = now
        if is_alone:
            self._give_up()
        if now >= due:
            with self._changed:
                leases = self._held.leases()
            if leases:
                self._source.extend(leases, self._lease_seconds)
            with self._changed:
                if self._extend_at == due:  # else what came meanwhile is to be extended at once
                    self._extend_at = now + self._lease_seconds / _TRIES
        return _TICK_SECONDS

    def acknowledge(self) -> float:
        """Acknowledge what was released; return for how long to wait then."""
        with self._changed:
            released = self._held.released()
        if released:
            self._source.acknowledge(list(released))
            with self._changed:
                self._held.acknowledged(released)
                self._changed.notify_all()  # there is room again
        return _TICK_SECONDS

    def _visit(self) -> None:
        self._visited = self._clock()
        if self._failure is not None:
            raise self._failure

    def _give_up(self) -> None:
        with self._changed:
            leases = self._held.give_up()
        if leases:
            self._source.give_back(leases)

    def _go_on(self, step: Callable[[], float]) -> None:
        """Take a step again and again; after errors with growing pauses."""
        pause = _TICK_SECONDS
        while not self._stopping.is_set():
            try:
                wait = self._try(step)
            except Exception as error:  # noqa: BLE001 - raised by whoever calls next
                self._failure = error
                return
            if wait is None:  # whatever changes here, the source needs its time
                self._stopping.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            pause = _TICK_SECONDS
            with self._changed:
                if wait and not self._stopping.is_set():
                    self._changed.wait(wait)

    def _try(self, step: Callable[[], float]) -> float | None:
        """Take a step; say its error, and that it is over, once. None: it failed."""
        name = step.__name__
        try:
            wait = step()
        except CollectionError as error:
            with self._changed:
                is_new = name not in self._troubles
                self._troubles.add(name)
            if is_new:
                self._say(f"{error}; trying again")
            return None
        with self._changed:
            is_over = name in self._troubles
            self._troubles.discard(name)
        if is_over:
            self._say(f"source={self._source.name} answers again")
        return wait
