"""What there is to read of a source, for a plan."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from batch_collection.log.entry import PartitionRead
from batch_collection.windows import EPOCH, parse_instant
from pipeline.planning.pins import check_source
from pipeline.planning.planner import Seen
from transforms.sources.contract import Bounds

if TYPE_CHECKING:
    from batch_collection.log.entry import Entry
    from transforms.sources.contract import AddressedSource

__all__ = ["Survey"]


REFRESH = timedelta(seconds=30)
"""How often a source is asked for added partitions, and whether it is still the same one."""


@dataclass(slots=True)
class Survey:
    """Asks a source what waits, up to ``--until`` and, with ``--once``, up to a goal.

    Attributes:
        until: the first message stamped at or after it is not read any more.
        goal: by partition, where reading ends with ``--once``; None as long as it is not set.
        is_beyond_until: whether messages stamped at or after ``until`` were read before.
        lag: messages that waited when the source was last asked.
    """

    source: AddressedSource
    until: datetime | None = None
    goal: dict[int, int] | None = None
    is_beyond_until: bool = False
    lag: int = 0
    _refreshed_at: datetime = EPOCH

    def look(self, newest: Entry, now: datetime, uri: str) -> Seen:
        """Ask what there is behind the collection's newest entry.

        Raises:
            LogError: it is another source than the one collected so far.
            SourceError: it is away.
        """
        if self.goal is None and now - self._refreshed_at > REFRESH:
            check_source(newest, self.source.refresh(), uri)
            self._refreshed_at = now
        bounds = self._bounds(newest)
        if self.goal is not None:
            bounds = {
                p: Bounds(bounds[p].first, min(end, bounds[p].end)) for p, end in self.goal.items()
            }
        ends = newest.ends
        self.lag = sum(there.end - ends.get(p, there.first) for p, there in bounds.items())
        return Seen(now, bounds, self.source.at)

    def set_goal(self, newest: Entry, goal: dict[int, int] | None = None) -> dict[int, int]:
        """Let what is there now, or what was at another time, be all that is read (``--once``)."""
        self.goal = goal or {p: there.end for p, there in self._bounds(newest).items()}
        return self.goal

    def starts(self, start: str) -> tuple[PartitionRead, ...]:
        """Ask where reading starts: where the source remembers it, else what ``--start`` says."""
        bounds = self.source.bounds()
        starts = {p: there.end if start == "latest" else there.first for p, there in bounds.items()}
        if start not in {"earliest", "latest"}:
            for partition, answer in self.source.at(parse_instant(start)).items():
                end = bounds[partition].end
                starts[partition] = end if answer.offset is None else answer.offset
        starts |= self.source.remembered()
        return tuple(PartitionRead(p, starts[p], starts[p]) for p in sorted(starts))

    def _bounds(self, newest: Entry) -> dict[int, Bounds]:
        """Return the earliest offset and the end of each partition.

        With ``until`` that is the first message stamped at or after it; where more was read
        before, what was read.
        """
        bounds = dict(self.source.bounds())
        if self.until is None:
            return bounds
        for partition, answer in self.source.at(self.until).items():
            first, end = bounds[partition]
            if answer.offset is not None:
                reached = newest.ends.get(partition, first)
                self.is_beyond_until |= reached > answer.offset
                bounds[partition] = Bounds(first, min(end, max(answer.offset, reached)))
        return bounds
