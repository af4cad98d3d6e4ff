"""What there is to read of a source, for a plan."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from batch_collection.counted import counted
from batch_collection.log.entry import PartitionRead
from batch_collection.windows import EPOCH, parse_instant
from pipeline.planning.pins import check_source
from pipeline.planning.planner import Seen, make_plan
from transforms.sources.contract import Bounds

if TYPE_CHECKING:
    from batch_collection.log.entry import Entry, Source
    from pipeline.planning.planner import Asked, Planned, PlanRules
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

    @property
    def name(self) -> str:
        """The stream's name."""
        return self.source.name

    @property
    def size(self) -> str:
        """How large it is, for people."""
        return counted(len(self.source.partitions), "partition")

    def notes(self, newest: Entry, now: datetime) -> tuple[str, ...]:  # noqa: ARG002 - as of others
        """Return what people should know before it is collected: nothing."""
        return ()

    @property
    def is_over(self) -> bool:
        """Whether all that ``--once`` collects has come, where no plan is due."""
        return True

    def identity(self) -> Source:
        """Ask which stream it is now."""
        return self.source.identity()

    def plan(self, newest: Entry, now: datetime, rules: PlanRules, asked: Asked) -> Planned | None:
        """Ask what there is, and plan the next cycle if one is due.

        Raises:
            SourceError: the source is away.
            DataLossError: see ``make_plan``.
            LogError: the source is another one now; its offsets mean other messages.
        """
        seen = self.look(newest, now, rules.collection)
        planned = make_plan(newest, seen, rules, asked)
        if planned is not None and planned.messages:
            check_source(newest, self.source.identity(), rules.collection)
        return planned

    def release(self, newest: Entry) -> None:
        """Tell the source how far it is collected."""
        self.source.release(newest)

    def plan_last(self, newest: Entry, now: datetime, rules: PlanRules, asked: Asked) -> None:
        """Plan nothing at the end of a run: of what has addresses nothing is acknowledged."""

    def acknowledged(self, newest: Entry) -> tuple[str, ...]:  # noqa: ARG002 - as of others
        """Return what the source has answered for: nothing."""
        return ()

    def nothing_came(self) -> None:
        """Hear that a plan has read nothing: never, of a source with addresses."""

    def reset(self) -> None:
        """Let go of connections: the source was away."""
        self.source.reset()

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
