"""One stream and its collection: what to plan next, and what became of a plan."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from batch_collection.checkpoints.dead_letters import commonest_reason
from batch_collection.errors import CollectionError, OtherCollectorError, SourceError
from batch_collection.log.end import end_of_log
from batch_collection.log.entries import append_entry
from batch_collection.log.entry import Entry, PartitionRead
from batch_collection.paths import staged_cycle
from batch_collection.publishing.publish import publish
from batch_collection.storage.opening import open_storage
from batch_collection.windows import boundary_at, utc_now
from pipeline.planning.log_keeper import LogKeeper, check_writable, repair
from pipeline.planning.pinning import newly_pinned
from pipeline.planning.pins import Pins, begun_again, check_source, first_entry
from pipeline.planning.planner import MOST_WINDOWS, NOTHING_ASKED, Asked, Planned, PlanRules
from transforms.committing.commit import commit, read_failure
from transforms.elements.failure import NOTHING, SCHEMA_CHANGE, TOO_MANY
from transforms.elements.report import Report
from transforms.process.events import CycleCommitted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from batch_collection.log.entries import End
    from batch_collection.schema.types import Schema
    from batch_collection.storage.contract import Storage
    from pipeline.planning.pull_survey import PullSurvey
    from pipeline.planning.survey import Survey
    from transforms.elements.failure import Failure

__all__ = ["MOST_REPLANS", "TopicCollection", "dead_letters_of", "open_collection"]


MOST_REPLANS = 20
"""How often a cycle is planned again because its types changed, or its account did not close."""


def dead_letters_of(entries: Iterable[Entry], run: str) -> int:
    """Count the dead letters that a run has collected, of some entries."""
    own = (entry for entry in entries if entry.run == run)
    return sum(read.dead_letters for entry in own for read in entry.reads)


_CYCLES_WITHIN = 8
"""Cycles within a bound of bytes before one reads twice as much, which may be in vain."""


def _has_room(entry: Entry) -> bool:
    """Tell whether a cycle could have read twice as much and stay within the bound of windows."""
    carried = sum(staged_cycle(file.path) == entry.cycle for file in entry.carry)
    return 2 * (len(entry.panes) + carried) <= MOST_WINDOWS


def open_collection(
    survey: Survey | PullSurvey,
    pins: Pins,
    rules: PlanRules,
    clock: Callable[[], datetime] = utc_now,
) -> TopicCollection:
    """Begin a source's collection, or take it up where its log ends.

    Raises:
        CollectionError: it is of another source, was begun with other flags, or can't be written.
        SourceError: the source is away.
    """
    storage = open_storage(rules.collection)
    check_writable(storage)
    identity = survey.identity()
    end = end_of_log(storage)
    if end is None:
        pins.check_schema(None, storage.uri)
        reads = survey.starts(pins.start)
        end = append_entry(storage, first_entry(pins, identity, reads, rules.run, clock()))
    check_source(end.entry, identity, storage.uri)
    if end.entry.cause == "start" and pins.differ_from(end.entry):
        end = _begun_again(storage, end, survey, pins, rules.run, clock())
    pins.check(end.entry, storage.uri)
    warning = repair(storage, end)
    pins.check_schema(end.entry, storage.uri)
    log = LogKeeper(storage, end.entry, end.digest)
    return TopicCollection(survey, log, pins, rules, clock, warning, pins.schema_over(end.entry))


def _begun_again(
    storage: Storage, end: End, survey: Survey | PullSurvey, pins: Pins, run: str, now: datetime
) -> End:
    """Pin all anew behind an entry that only did that: nothing is collected yet."""
    publish(storage, end.entry, looked=end.looked)
    is_moved = pins.is_start_given and pins.start != end.entry.start
    reads = survey.starts(pins.start) if is_moved else None
    return append_entry(storage, begun_again(pins, end.entry, end.digest, reads, run, now))


@dataclass(slots=True)
class TopicCollection:
    """A stream on its way into its collection; see ``open_collection``.

    Attributes:
        survey: what there is to read.
        log: where its log stands.
        warning: what a user should know of how it was found; empty if all is well.
        dead_letters: how many this run has committed.
        limit: how many messages a cycle reads at most, where more were of too many windows, or had
            too many bytes.
        news: why the last cycle was planned again, where a user should know.
    """

    survey: Survey | PullSurvey
    log: LogKeeper
    pins: Pins
    rules: PlanRules
    clock: Callable[[], datetime]
    warning: str = ""
    _schema: Schema | None = None
    dead_letters: int = 0
    limit: int | None = None
    news: str = ""
    _tries: int = 0
    _within: int = 0
    _is_told: bool = True

    @property
    def name(self) -> str:
        """The stream's name."""
        return self.survey.name

    @property
    def newest(self) -> Entry:
        """The newest log entry taken up, which is published."""
        return self.log.newest

    @property
    def storage(self) -> Storage:
        """Where the collection lies."""
        return self.log.storage

    @property
    def is_at_end(self) -> bool:
        """Whether the last window before ``--until`` is closed."""
        until, boundary = self.rules.until, self.newest.boundary
        if until is None or boundary is None:
            return False
        return boundary >= boundary_at(until, timedelta(0), self.newest.interval)

    def next_due(self) -> datetime:
        """Return when the next interval's end is due to be collected."""
        passed = boundary_at(self.clock(), self.rules.grace, self.newest.interval)
        boundary = min(self.newest.boundary or passed, passed)  # a clock may have been set back
        return boundary + self.newest.interval + self.rules.grace

    def plan(self, asked: Asked, now: datetime | None = None) -> Planned | None:
        """Ask the source what there is, and plan the next cycle if one is due.

        Raises:
            CollectionError: see ``plan`` of the survey.
        """
        asked = self._asked(asked)
        return self.survey.plan(self.newest, now or self.clock(), self.rules, asked)

    def plan_last(self) -> Planned | None:
        """Plan the cycle that tells the log, at a run's end, what was acknowledged; None: nothing.

        Whoever asks does so once a run: so no answer that is lost, refused or late can keep one
        going.
        """
        asked = self._asked(NOTHING_ASKED)
        return self.survey.plan_last(self.newest, self.clock(), self.rules, asked)

    def _asked(self, asked: Asked) -> Asked:
        """Add what is known of the collection to what is asked of a plan."""
        return asked._replace(
            schema=self._schema,
            pinned=newly_pinned(self.pins.schema, self._schema or {}, self.newest.schema),
            dead_letters=self.dead_letters,
            previous=self.log.digest,
            limit=self.limit,
        )

    def commit_empty(self, planned: Planned) -> None:
        """Commit a plan that has nothing to read and nothing to cut: only windows to close."""
        acknowledged = self.survey.acknowledged(self.newest)
        reads = (
            Report(
                planned.plan,
                task.number,
                attempt="-",
                read=True,
                cut=True,
                reads=tuple(
                    PartitionRead(part.partition, part.start, part.end, lost=part.lost)
                    for part in task.slices
                ),
                acknowledged=acknowledged,
            )
            for task in planned.tasks
        )
        entry = commit(planned.plan, reads)
        self.log.committed = None if entry is None else entry.plan

    def settle(self, planned: Planned, *, published: bool = True) -> tuple[Entry, ...]:
        """See what became of a plan: return the entries that came since, and take them up.

        They are the plan's, or those of commands that were faster (``Entry.is_maintenance``): then
        its cycle is planned again behind them. Without any it is planned again, too. Where work
        on it broke off, what was committed may not be ``published`` yet.

        Raises:
            OtherCollectorError: another run committed this cycle.
            StoppedError: it was stopped, nothing was committed.
            CollectionError: why it failed.
        """
        plan, self.news = planned.plan, ""
        found = self.log.own(plan.id) or self.log.since()
        if found:
            self.check_rivals(entry for entry, _ in found)
            return self._taken(self.log.take(found, published=published))
        failure = read_failure(plan)
        self._tries += 1
        if failure is not None and self.heed(failure, self._tries):
            if failure.kind == TOO_MANY:
                self.news = f"cycle {plan.cycle} of {self.name} is planned again: {failure.text}"
            return ()
        if failure is None:
            message = (
                f"the account of cycle={plan.cycle} of {self.storage.uri} does not close: not "
                "every message read came to a file; nothing was committed"
            )
            raise CollectionError(message)
        raise failure.error()

    def release(self) -> str:
        """Tell the source how far it is collected; it serves lag tools, and nothing stops without.

        Returns:
            What a user should know, once: why it can't be told. Empty if all is well.
        """
        was_told, self._is_told = self._is_told, True
        try:
            self.survey.release(self.newest)
        except SourceError as error:
            self._is_told = False
            return f"{error}; collecting goes on" if was_told else ""
        return ""

    def heed(self, failure: Failure, tries: int) -> bool:
        """Let the next plan of the cycle take account of why the last one came to nothing.

        Args:
            failure: what its tasks say.
            tries: how often the cycle was planned before.

        Returns:
            Whether that helps: with other types, or fewer messages, or that it brought nothing.
        """
        if failure.kind == NOTHING:
            self._tries = 0
            self.survey.nothing_came()
            return True
        if failure.kind == TOO_MANY:
            self.limit, self._within = failure.limit, 0
            return True
        if failure.kind == SCHEMA_CHANGE and tries < MOST_REPLANS:
            self._schema = failure.schema
            return True
        return False

    def check_rivals(self, entries: Iterable[Entry]) -> None:
        """See that entries are this run's, or those of commands.

        Raises:
            OtherCollectorError: one is of another run.
        """
        for entry in entries:
            if entry.run != self.rules.run and not entry.is_maintenance:
                message = (
                    f"another collector (host={entry.host} pid={entry.pid}) committed "
                    f"cycle={entry.cycle} of {self.storage.uri}; run one collector a collection"
                )
                raise OtherCollectorError(message)

    def committed(self, entry: Entry, left: int, took: timedelta) -> CycleCommitted:
        """Return what to tell of an entry that was taken up."""
        reason = commonest_reason(self.storage, entry.dead_letters)
        return CycleCommitted(self.storage.uri, entry, left, took, reason)

    def take_up(self) -> tuple[Entry, ...]:
        """Take up what the log has got since; see ``LogKeeper.take_up``."""
        return self._taken(self.log.take_up())

    @property
    def _may_read_more(self) -> bool:
        """Whether to try it; no entry tells how near cycles come to a bound of bytes."""
        return self.rules.max_bytes is None or self._within >= _CYCLES_WITHIN

    def _taken(self, entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
        """Go on from entries that were taken up."""
        if entries:
            self.dead_letters += dead_letters_of(entries, self.rules.run)
            self._tries = 0
            self._within += len(entries)
            if self.limit is not None and _has_room(self.newest) and self._may_read_more:
                self._within = 0
                self.limit = 2 * self.limit if 2 * self.limit < self.rules.max_messages else None
            self._schema = self.pins.schema_over(self.newest)
        return entries
