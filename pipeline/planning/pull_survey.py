"""What there is to pull of a leased source, for a plan."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from batch_collection.log.entry import PartitionRead
from batch_collection.storage.opening import open_storage
from batch_collection.windows import EPOCH, format_duration, format_instant
from pipeline.planning.pins import check_source
from pipeline.planning.pulls import PullRules, Waits, make_last_plan, make_pull_plan
from transforms.elements.observers import say
from transforms.sources.pubsub.releasing import releasing_of

if TYPE_CHECKING:
    from batch_collection.log.entry import Entry, Source
    from pipeline.planning.planner import Asked, Planned, PlanRules
    from transforms.sources.contract import LeasedSource, Terms
    from transforms.sources.pubsub.releasing import Releasing
    from transforms.sources.pubsub.settings import SubscriptionReader

__all__ = ["PullSurvey"]

REFRESH = timedelta(minutes=5)
"""How often a source is asked whether it is still the same one."""

_TASK_SECONDS = 20.0
"""For how long a task pulls where nobody pulls between plans."""


@dataclass(slots=True)
class PullSurvey:
    """Says what is held of a source in this process, or that its tasks have to pull.

    Attributes:
        source: is asked what it is; its messages come by the ``reader``.
        reader: what this process and its workers pull with.
        is_here: pull in this process all the time; else tasks pull, wherever they run.
        goal: not None once ``--once`` collects what waits now.
        lag: messages that waited for a plan when one was last asked for.
    """

    source: LeasedSource
    reader: SubscriptionReader
    is_here: bool
    goal: dict[int, int] | None = None
    lag: int = 0
    is_beyond_until: bool = False
    _terms: Terms | None = None
    _refreshed_at: datetime | None = None
    _planned_at: datetime = EPOCH
    _behind_since: datetime | None = None
    _first: int | None = None
    _is_begun: bool = False
    _is_empty: bool = False
    _collection: str = ""

    @property
    def name(self) -> str:
        """The stream's name."""
        return self.source.name

    @property
    def size(self) -> str:
        """What it is, for people: how much it holds nobody knows."""
        return "subscription"

    @property
    def is_over(self) -> bool:
        """Whether all that ``--once`` collects has come, where no plan is due."""
        return not self.is_here or (self._is_begun and self._behind_since is None)

    def notes(self, newest: Entry, now: datetime) -> tuple[str, ...]:
        """Return what people should know before it is collected behind the newest entry."""
        terms = self._known()
        age = now - newest.committed_at
        if terms.retention is None or age < terms.retention:
            return terms.notes
        warning = (
            f"warning: {self.stream} keeps messages for {format_duration(terms.retention)}, and "
            f"the last entry is of {format_instant(newest.committed_at)}: whether some are gone "
            "can't be seen"
        )
        return (*terms.notes, warning)

    @property
    def stream(self) -> str:
        """What messages are pulled from, as a worker finds it."""
        return self._known().identity.topic

    def identity(self) -> Source:
        """Ask which stream it is now, and what else it says of itself."""
        self._terms = self.source.terms()
        return self._terms.identity

    def starts(self, start: str) -> tuple[PartitionRead, ...]:  # noqa: ARG002 - it can't be chosen
        """Return where the shards begin to count."""
        return (PartitionRead(0, 0, 0),)

    def set_goal(self, newest: Entry, goal: dict[int, int] | None = None) -> dict[int, int]:
        """Let what waits now be all that is pulled (``--once``), as far as can be told."""
        self._first = newest.cycle if self._first is None else self._first
        self.goal = goal or {}
        return self.goal

    def plan(self, newest: Entry, now: datetime, rules: PlanRules, asked: Asked) -> Planned | None:
        """Plan the next cycle if one is due; none is while the source is away.

        Raises:
            CollectionError: it can't be collected any more, or is another one now.
        """
        self._collection = rules.collection
        if self._refreshed_at is None:  # it was asked to open the collection
            self._refreshed_at = now
        if now - self._refreshed_at > REFRESH:
            check_source(newest, self.identity(), rules.collection)
            self._refreshed_at = now
        waits = self._held(now) if self.is_here else self._asked(newest, now)
        if waits is None:
            return None
        planned = make_pull_plan(newest, waits, self._retaining(rules), self._pulls, asked)
        if planned is not None:
            self._planned_at = now
        return planned

    def plan_last(
        self, newest: Entry, now: datetime, rules: PlanRules, asked: Asked
    ) -> Planned | None:
        """Plan the cycle by which the log hears at a run's end what was acknowledged.

        Returns:
            None where there is nothing that it does not know. What tasks elsewhere know is not
            known here: theirs may come to nothing.
        """
        is_known = all(file.acknowledged for file in newest.ids)
        if is_known or (self.is_here and not self._releasing().answered()):
            return None
        return make_last_plan(newest, now, self._retaining(rules), self._pulls, asked)

    def release(self, newest: Entry) -> None:  # noqa: ARG002 - the log tells it
        """Let what is durable be acknowledged, if it is held here; workers look for themselves."""
        if self.is_here and self._collection:
            self._look()

    def acknowledged(self, newest: Entry) -> tuple[str, ...]:
        """Return the lists for which the source has answered, where the newest entry may not know.

        Workers say it in the reports of their tasks.
        """
        if not self.is_here:
            return ()
        releasing = self._releasing()
        releasing.named(newest)
        return releasing.acknowledged()

    def _look(self) -> None:
        """Look what became of the plans so far: none is worked on while another one is made."""
        self._releasing().look(patience=0.0)

    def _releasing(self) -> Releasing:
        pulling = self.reader.pulling(self.stream, say)
        return releasing_of(pulling, self.stream, open_storage(self._collection))

    @property
    def _pulls(self) -> PullRules:
        bounds = self.reader.bounds
        seconds = 0.0 if self.is_here else _TASK_SECONDS
        return PullRules(self.stream, bounds.messages, bounds.bytes, seconds)

    def _retaining(self, rules: PlanRules) -> PlanRules:
        """Let ids be remembered as long as the source keeps messages, where it says how long."""
        retention = self._known().retention
        if rules.remembering is None or retention is None:
            return rules
        return replace(rules, remembering=rules.remembering._replace(retention=retention))

    def nothing_came(self) -> None:
        """Hear that a plan has brought nothing."""
        self._is_empty = True

    def reset(self) -> None:
        """Do nothing: connections for pulling are made again by themselves."""

    def _known(self) -> Terms:
        if self._terms is None:
            self.identity()
        assert self._terms is not None  # noqa: S101 - it was just asked for
        return self._terms

    def _held(self, now: datetime) -> Waits | None:
        """Say what this process holds; None while the source is away."""
        pulling = self.reader.pulling(self.stream, say)
        pulling.keeper.pull(math.inf)
        if not self._is_begun:
            self._is_begun, self._behind_since = True, now
        if pulling.arrivals.is_away():
            self._behind_since = now  # what is published meanwhile comes when it is back
            return None
        if self._behind_since is not None and pulling.arrivals.are_over(self._behind_since):
            self._behind_since = None
        self._look()
        waiting = pulling.keeper.waiting()
        self.lag = waiting.messages
        held = 0.0 if waiting.since is None else pulling.clock() - waiting.since
        return Waits(
            now,
            waiting.messages,
            waiting.bytes,
            timedelta(seconds=held),
            is_behind=self._behind_since is not None,
        )

    def _asked(self, newest: Entry, now: datetime) -> Waits:
        """Say that tasks have to pull, which they do once a minute, or that ``--once`` is over."""
        is_through = self._first is not None and (
            self._is_empty or (newest.cycle > self._first and newest.backlog_from is None)
        )
        if self.goal is not None and is_through:
            return Waits(now, 0)
        return Waits(now, age=now - self._planned_at)
