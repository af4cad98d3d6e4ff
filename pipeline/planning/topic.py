"""One topic and its collection: where the log stands, what to plan next, what became of a plan."""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from batch_collection.checkpoints.making import mend
from batch_collection.errors import CollectionError, FileGoneError, LogError, OtherCollectorError
from batch_collection.log.end import end_of_log
from batch_collection.log.entries import append_entry, links_since, newest_cycle, read_link
from batch_collection.log.entry import FORMAT, FORMS, Entry, PartitionRead, Source
from batch_collection.paths import entry_path, new_token, staged_cycle, staged_path
from batch_collection.publishing.publish import left_over, publish, sweep
from batch_collection.schema.types import merge
from batch_collection.storage.opening import open_storage
from batch_collection.windows import EPOCH, boundary_at, format_duration, parse_instant
from pipeline.planning.pinning import check_schema, newly_pinned
from pipeline.planning.planner import MOST_WINDOWS, Asked, Planned, PlanRules, Seen, make_plan
from transforms.committing.commit import commit, read_failure
from transforms.elements.failure import SCHEMA_CHANGE, TOO_MANY
from transforms.elements.report import Report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from batch_collection.log.entries import Link
    from batch_collection.log.expiry import Looked
    from batch_collection.storage.contract import Storage
    from transforms.sources.contract import Answer
    from transforms.sources.kafka.broker import Broker, TopicInfo

__all__ = ["MOST_REPLANS", "Pins", "TopicCollection", "dead_letters_of"]


TOPIC_REFRESH = timedelta(seconds=30)
"""How often the topic is asked for added partitions, and whether it is still the same one."""

MOST_REPLANS = 20
"""How often a cycle is planned again because its types changed, or its account did not close."""


def dead_letters_of(entries: Iterable[Entry], run: str) -> int:
    """Count the dead letters that a run has collected, of some entries."""
    own = (entry for entry in entries if entry.run == run)
    return sum(read.dead_letters for entry in own for read in entry.reads)


def _has_room(entry: Entry) -> bool:
    """Tell whether a cycle could have read twice as much and stay within the bound of windows."""
    carried = sum(staged_cycle(file.path) == entry.cycle for file in entry.carry)
    return 2 * (len(entry.panes) + carried) <= MOST_WINDOWS


@dataclass(frozen=True, slots=True)
class Pins:
    """What a collection is begun with and keeps: see the flags of the same names.

    ``reserved`` are names that a column can't have (``RowRules``).
    """

    interval: timedelta
    row_time: str
    start: str
    is_start_given: bool
    group_id: str | None
    schema: dict[str, Any]
    reserved: frozenset[str]


@dataclass(slots=True)
class TopicCollection:
    """A topic on its way into its collection.

    Attributes:
        newest: the newest log entry, which is published.
        warning: what a user should know of how it was found; empty if all is well.
        lag: messages that waited when the broker was last asked.
        is_beyond_until: whether messages stamped at or after ``--until`` were read before.
        dead_letters: how many this run has committed.
        limit: how many messages a cycle reads at most, where more were of too many windows.
        news: why the last cycle was planned again, where a user should know.
        goal: by partition, where reading ends with ``--once``; None as long as it is not set.
    """

    broker: Broker
    info: TopicInfo
    pins: Pins
    rules: PlanRules
    clock: Callable[[], datetime]
    storage: Storage = field(init=False)
    newest: Entry = field(init=False)
    warning: str = ""
    lag: int = 0
    is_beyond_until: bool = False
    dead_letters: int = 0
    goal: dict[int, int] | None = None
    _digest: str = ""
    _committed: str | None = None
    limit: int | None = None
    news: str = ""
    _schema: dict[str, Any] | None = None
    _tries: int = 0
    _looked_at: datetime = EPOCH

    def __post_init__(self) -> None:
        """Begin the collection, or take it up where its log ends."""
        self.storage = open_storage(self.rules.collection)
        self._check_writable()
        self.storage.check_moves()
        end = end_of_log(self.storage)
        if end is None:
            self._check_schema(None)
            end = append_entry(self.storage, self._first_entry())
        newest, self._digest, looked = end
        self._check_source(newest)
        if newest.cause == "start" and self._differs(newest):
            publish(self.storage, newest, looked=looked)
            again = self._begun_again(newest, self._digest)
            newest, self._digest, looked = append_entry(self.storage, again)
        self._check_pins(newest)
        self._finish(newest, looked)
        self.newest = newest
        self._check_schema(newest)
        self._schema = self._pinned_schema()

    def _finish(self, newest: Entry, looked: Looked) -> None:
        """Repair what a crash has left of the newest cycle, and remove what it left of others."""
        left = left_over(self.storage)
        try:
            publish(self.storage, newest, looked=looked, left=left)
        except FileGoneError as error:
            # the file was durable before its entry was made: a reader has taken it away
            self.warning = f"{error}: taken away since? it is not collected again"
            publish(self.storage, newest, without_gone=True, looked=looked, left=left)
        sweep(self.storage, newest, left)
        mend(self.storage, newest.cycle, looked=looked)

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
        """Ask the broker what there is, and plan the next cycle if one is due.

        Raises:
            SourceError: the broker can't be reached.
            DataLossError: see ``make_plan``.
            LogError: the topic was created again; its offsets mean other messages now.
        """
        pinned = newly_pinned(self.pins.schema, self._schema or {}, self.newest.schema)
        asked = asked._replace(
            schema=self._schema,
            pinned=pinned,
            dead_letters=self.dead_letters,
            previous=self._digest,
            limit=self.limit,
        )
        seen = self._look(now or self.clock())
        ends = self.newest.ends
        self.lag = sum(end - ends.get(p, first) for p, (first, end) in seen.offsets.items())
        planned = make_plan(self.newest, seen, self.rules, asked)
        if planned is not None and planned.messages and self.info.topic_id is not None:
            topic_id = self.broker.topic_id(self.info.name)
            self.info = self.info._replace(topic_id=topic_id)
            self._check_pins(self.newest)
        return planned

    def commit_empty(self, planned: Planned) -> None:
        """Commit a plan that has nothing to read and nothing to cut: only windows to close."""
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
            )
            for task in planned.tasks
        )
        entry = commit(planned.plan, reads)
        self._committed = None if entry is None else entry.plan

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
        found = self._own(plan.id) or self._since()
        if found:
            for entry, _ in found:
                self._check_run(entry)
            return self._take(found, published=published)
        failure = read_failure(plan)
        if failure is not None and failure.kind == TOO_MANY:
            self.limit = failure.limit
            self.news = f"cycle {plan.cycle} of {self.info.name} is planned again: {failure.text}"
            return ()
        self._tries += 1
        if failure is not None and failure.kind == SCHEMA_CHANGE and self._tries < MOST_REPLANS:
            self._schema = failure.schema
            return ()
        if failure is None:
            message = (
                f"the account of cycle={plan.cycle} of {self.storage.uri} does not close: not "
                "every message read came to a file; nothing was committed"
            )
            raise CollectionError(message)
        raise failure.error()

    def commit_offsets(self) -> None:
        """Tell the consumer group how far its topic is collected, for lag tools.

        Raises:
            SourceError: the broker can't be reached.
        """
        if self.pins.group_id is not None:
            self.broker.commit(self.info.name, self.pins.group_id, self.newest.ends)

    def _check_run(self, entry: Entry) -> None:
        if entry.run != self.rules.run and not entry.is_maintenance:
            message = (
                f"another collector (host={entry.host} pid={entry.pid}) committed "
                f"cycle={entry.cycle} of {self.storage.uri}; run one collector a collection"
            )
            raise OtherCollectorError(message)

    def set_goal(self, goal: dict[int, int] | None = None) -> dict[int, int]:
        """Let what is there now, or what was at another time, be all that is read (``--once``)."""
        self.goal = goal or {partition: end for partition, (_, end) in self._offsets().items()}
        return self.goal

    def take_up(self) -> tuple[Entry, ...]:
        """Take up what the log has got since, whoever committed it, and return it.

        The newest entry is published when this returns, so that the next may be created.

        Raises:
            LogError: it does not follow the entry that this collector goes on from.
        """
        plan, self._committed = self._committed, None
        own = () if plan is None else self._own(plan)
        if own:
            return self._take(own, published=True)
        found = self._since()
        return self._take(found, published=False) if found else ()

    def _own(self, plan: str) -> tuple[Link, ...]:
        """Return the entry that a plan has become, if it is the next; no look for others then."""
        with contextlib.suppress(LogError):
            link = read_link(self.storage, self.newest.cycle + 1)
            if link.entry.plan == plan and link.entry.previous == self._digest:
                return (link,)
        return ()

    def _since(self) -> tuple[Link, ...]:
        known = self.newest.cycle
        newest = newest_cycle(self.storage, hint=known)
        if newest is None or newest < known:
            message = (
                f"{entry_path(known)} is missing in {self.storage.uri}: somebody has removed it "
                "since this collector began; put it back from a backup or the bucket's older "
                "versions"
            )
            raise LogError(message)
        return links_since(self.storage, known, newest, self._digest)

    def _take(self, found: Sequence[Link], *, published: bool) -> tuple[Entry, ...]:
        """Go on from the last of some entries, and return them all.

        Those of commands are published again: what this collector had staged for their cycles,
        which commands leave alone, goes with that.
        """
        entries = tuple(entry for entry, _ in found)
        for entry in entries:
            if entry.is_maintenance or (entry is entries[-1] and not published):
                self._publish(entry)
        self.dead_letters += dead_letters_of(entries, self.rules.run)
        self.newest, self._digest = found[-1]
        self._tries = 0
        if self.limit is not None and _has_room(self.newest):
            self.limit = 2 * self.limit if 2 * self.limit < self.rules.max_messages else None
        self._schema = self._pinned_schema()
        return entries

    def _publish(self, entry: Entry) -> None:
        """Publish an entry, again if it was; what a later one has redriven since is not missed."""
        try:
            publish(self.storage, entry)
        except FileGoneError:
            if newest_cycle(self.storage, hint=entry.cycle) == entry.cycle:
                raise
            publish(self.storage, entry, without_gone=True)

    def pin(self, schema: dict[str, Any] | None) -> None:
        """Plan the next cycle again with this schema."""
        self._schema = schema

    def _look(self, now: datetime) -> Seen:
        if self.goal is None and now - self._looked_at > TOPIC_REFRESH:
            self._refresh(now)
        offsets = self._offsets()
        if self.goal is not None:
            offsets = {p: (offsets[p][0], min(end, offsets[p][1])) for p, end in self.goal.items()}
        return Seen(now, offsets, self._offsets_at)

    def _offsets(self) -> dict[int, tuple[int, int]]:
        """Return the earliest offset and the end of each partition.

        With ``--until`` that is the first message stamped at or after it; where more was read
        before, what was read.
        """
        offsets = dict(self.broker.offsets(self.info.name, self.info.partitions))
        if self.rules.until is None:
            return offsets
        for partition, answer in self._offsets_at(self.rules.until).items():
            earliest, end = offsets[partition]
            if answer.offset is not None:
                reached = self.newest.ends.get(partition, earliest)
                self.is_beyond_until |= reached > answer.offset
                offsets[partition] = (earliest, min(end, max(answer.offset, reached)))
        return offsets

    def _offsets_at(self, instant: datetime) -> Mapping[int, Answer]:
        return self.broker.offsets_at(self.info.name, self.info.partitions, instant)

    def _refresh(self, now: datetime) -> None:
        """Look for added partitions, and whether it is still the same topic."""
        self.info = self.broker.topic(self.info.name)
        self._check_pins(self.newest)
        self._looked_at = now

    def _first_entry(self) -> Entry:
        """Make entry 0: no rows, but where reading starts and what is pinned."""
        return Entry(
            cycle=0,
            run=self.rules.run,
            plan=new_token(),
            previous=None,
            host=socket.gethostname(),
            pid=os.getpid(),
            committed_at=self.clock(),
            source=self._source(),
            interval=self.pins.interval,
            row_time=self.pins.row_time,
            start=self.pins.start,
            cause="start",
            reads=self._first_reads(),
            schema=self.pins.schema,
            pinned=tuple(self.pins.schema),
            format=FORMAT,
            **FORMS[FORMAT]._asdict(),
        )

    def _begun_again(self, newest: Entry, digest: str) -> Entry:
        """Make the entry that pins all anew behind one that only did that: nothing is collected."""
        start, reads = newest.start, newest.standing_reads
        if self.pins.is_start_given and self.pins.start != start:
            start, reads = self.pins.start, self._first_reads()
        schema = self.pins.schema or newest.schema
        return newest.following(
            digest,
            run=self.rules.run,
            plan=new_token(),
            host=socket.gethostname(),
            pid=os.getpid(),
            committed_at=self.clock(),
            interval=self.pins.interval,
            row_time=self.pins.row_time,
            start=start,
            cause="start",
            reads=reads,
            schema=schema,
            pinned=tuple(schema),
        )

    def _differs(self, newest: Entry) -> bool:
        """Tell whether the collection was begun with other flags."""
        flags = any(before != given for _, before, given in self._pinned(newest))
        return flags or bool(self.pins.schema and self.pins.schema != newest.schema)

    def _source(self) -> Source:
        return Source("kafka", self.info.name, self.info.topic_id, self.info.cluster_id)

    def _first_reads(self) -> tuple[PartitionRead, ...]:
        starts = self._starts()
        return tuple(PartitionRead(p, starts[p], starts[p]) for p in sorted(starts))

    def _starts(self) -> dict[int, int]:
        """Return where reading starts: where the group stands, else what ``--start`` says."""
        name, partitions = self.info.name, self.info.partitions
        offsets = self.broker.offsets(name, partitions)
        starts = {
            p: end if self.pins.start == "latest" else earliest
            for p, (earliest, end) in offsets.items()
        }
        if self.pins.start not in {"earliest", "latest"}:
            answers = self._offsets_at(parse_instant(self.pins.start))
            for partition, answer in answers.items():
                end = offsets[partition][1]
                starts[partition] = end if answer.offset is None else answer.offset
        if self.pins.group_id is not None:
            starts |= self.broker.committed(name, partitions, self.pins.group_id)
        return starts

    def _check_writable(self) -> None:
        path = staged_path(0, f"/probe-{new_token()}")  # of a cycle that is over: swept, if left
        self.storage.create(path, b"")
        self.storage.delete([path])

    def _check_pins(self, newest: Entry) -> None:
        """Refuse to go on with another source, interval or rule than the collection was begun with.

        Raises:
            LogError: it names the flag and the cure.
        """
        self._check_source(newest)
        for flag, before, given in self._pinned(newest):
            if before != given:
                message = (
                    f"--{flag}={given}, but {self.storage.uri} was begun with --{flag}={before}; "
                    f"use --{flag}={before} or another --output"
                )
                raise LogError(message)

    def _check_source(self, newest: Entry) -> None:
        """Refuse to go on with another topic or cluster.

        Raises:
            LogError: it names what differs and the cure.
        """
        source, mine, where = newest.source, self._source(), self.storage.uri
        if source.topic != mine.topic:
            message = f"{where} holds topic={source.topic}, not {mine.topic}; use another --output"
            raise LogError(message)
        for name in ("cluster_id", "topic_id"):
            before, now = getattr(source, name), getattr(mine, name)
            if before is not None and now is not None and before != now:
                what = (
                    "another cluster" if name == "cluster_id" else "a topic that was created again"
                )
                message = (
                    f"{where} was collected from {name}={before}, but --bootstrap_servers leads to "
                    f"{name}={now} ({what}); use another --output"
                )
                raise LogError(message)

    def _check_schema(self, newest: Entry | None) -> None:
        check_schema(self.pins.schema, newest, self.storage.uri, self.pins.reserved)

    def _pinned_schema(self) -> dict[str, Any] | None:
        """Return the collection's schema with what ``--schema`` adds, None if that is nothing.

        A type that was pinned since this collector began stands against its ``--schema``, and so
        does a column that was dropped.
        """
        dropped = self.newest.dropped
        given = {name: type_ for name, type_ in self.pins.schema.items() if name not in dropped}
        merged = merge(self.newest.schema, given, widen=False)
        return merged if merged != self.newest.schema else None

    def _pinned(self, newest: Entry) -> list[tuple[str, str, str]]:
        """Give each pinned flag, what it was begun with, and what it is now."""
        pinned = [
            ("interval", format_duration(newest.interval), format_duration(self.pins.interval)),
            ("timestamp", newest.row_time, self.pins.row_time),
        ]
        if self.pins.is_start_given:
            pinned.append(("start", newest.start, self.pins.start))
        return pinned
