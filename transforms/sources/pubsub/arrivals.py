"""Notes when messages come of a source, so that ``--once`` knows when what was there is pulled."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    import pyarrow as pa

    from transforms.sources.contract import LeasedSource, Terms

__all__ = ["Arrivals"]

_IDLE_SECONDS = 10.0
_ANSWERING_SECONDS = 5.0  # who does not answer at all refuses sooner


class Arrivals:
    """A ``LeasedSource`` over another one, which sees what each pull brings.

    No source says that nothing waits. That it brings nothing for a while, or only what is newer, is
    as near as one can come: messages are handed out roughly as they were published.
    """

    def __init__(self, source: LeasedSource, clock: Callable[[], float]) -> None:
        """Take a source, and a clock of seconds that go forward."""
        self._source, self._clock = source, clock
        self._lock = threading.Lock()
        self._began: dict[int, float] = {}  # pulls on their way, by their threads
        self._idle_since: float | None = None
        self._oldest: datetime | None = None
        self._has_failed = False

    def are_over(self, start: datetime) -> bool:
        """Tell whether all that was published before an instant seems to have come."""
        with self._lock:
            if self._oldest is not None and self._oldest > start:
                return True
            idle = self._idle_since
            return idle is not None and self._clock() >= idle + _IDLE_SECONDS

    def is_away(self) -> bool:
        """Tell whether the source has refused the last pull, and none waits for its answer since.

        A source may keep a pull waiting for messages, so that it is back is not known at once.
        """
        with self._lock:
            now = self._clock()
            waited = now - min(self._began.values(), default=now)
            return self._has_failed and waited < _ANSWERING_SECONDS

    @property
    def name(self) -> str:
        """The source's."""
        return self._source.name

    def terms(self) -> Terms:
        """Ask the source."""
        return self._source.terms()

    def pull(self, messages: int) -> pa.Table:
        """Pull, and note what came; a source that is away, or not asked, is not idle."""
        me, now = threading.get_ident(), self._clock()
        with self._lock:
            self._began[me] = now
            self._idle_since = now if self._idle_since is None else self._idle_since
        table = None
        try:
            table = self._source.pull(messages)
        finally:
            with self._lock:
                del self._began[me]
                self._has_failed = table is None
                if table is None or table.num_rows:
                    self._idle_since = None
                if table is not None and table.num_rows:
                    self._oldest = pc.min(table["published"]).as_py()
        return table

    def interrupt(self) -> None:
        """Interrupt the source's pulls."""
        self._source.interrupt()

    def extend(self, leases: Sequence[str], seconds: int) -> None:
        """Extend them at the source."""
        self._source.extend(leases, seconds)

    def acknowledge(self, leases: Sequence[str]) -> list[str]:
        """Acknowledge them at the source."""
        return self._source.acknowledge(leases)

    def give_back(self, leases: Sequence[str]) -> None:
        """Give them back to the source."""
        self._source.give_back(leases)

    def close(self) -> None:
        """Close the source."""
        self._source.close()
