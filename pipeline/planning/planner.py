"""What the next cycle reads and closes: a pure function of the log, the broker and the clock.

Guarantees, tested as laws: reads of consecutive plans meet without gap or overlap; with backlog
every plan reads something; the boundary never goes back, whatever the clock does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from batch_collection.errors import DataLossError
from batch_collection.paths import new_token
from batch_collection.windows import EPOCH, LAST_INSTANT, boundary_at
from transforms.elements.plan import Plan, Task
from transforms.sources.contract import Answer, Slice

if TYPE_CHECKING:
    from batch_collection.log.entry import CarryFile, Entry
    from transforms.elements.plan import DeadLetterLimit
    from transforms.sources.contract import Remembering

__all__ = [
    "MOST_WINDOWS",
    "NOTHING_ASKED",
    "Asked",
    "Choice",
    "PlanRules",
    "Planned",
    "Seen",
    "carry_of",
    "clock_boundary",
    "is_overdue",
    "latest",
    "leaving",
    "make_plan",
    "most_bytes",
    "most_messages",
    "most_windows",
    "plan_behind",
]


MOST_WINDOWS = 20_000
"""Windows that one cycle may read rows of, and windows whose waiting rows it may close: with one
file each an entry of ten megabytes, and half a minute of work that a crash repeats."""

TimeIndex = Callable[[datetime], Mapping[int, Answer]]


@dataclass(frozen=True, slots=True)
class PlanRules:
    """What a user has said about when and how much to collect; see the flags of the same names."""

    collection: str
    topic: str
    run: str
    grace: timedelta
    batch_size: int
    max_messages: int
    max_ahead: timedelta
    shards: int = 1
    skip_lost: bool = False
    until: datetime | None = None
    max_dead_letters: DeadLetterLimit | None = None
    remembering: Remembering | None = None
    target_bytes: int | None = None
    max_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What broker and clock say: by partition, the earliest offset and the end to read to."""

    clock: datetime
    offsets: Mapping[int, tuple[int, int]]
    index: TimeIndex


class Asked(NamedTuple):
    """What is asked of this plan beside the rules.

    ``schema`` pins types in the place of the newest entry's, ``pinned`` names those columns of it
    that ``--schema`` says anew; ``flush`` lets no rows wait; ``force`` makes a plan of whatever
    waits, however little; this run has had so many ``dead_letters``. ``previous`` is the digest of
    the newest entry. With a ``limit`` the cycle reads no more messages than that, since more are of
    too many windows.
    """

    schema: dict[str, Any] | None = None
    pinned: tuple[str, ...] = ()
    flush: bool = False
    force: bool = False
    dead_letters: int = 0
    previous: str = ""
    limit: int | None = None


NOTHING_ASKED = Asked()


class Planned(NamedTuple):
    """A plan, its tasks, and how much of the backlog they leave."""

    plan: Plan
    tasks: tuple[Task, ...]
    messages: int
    left: int

    @property
    def is_empty(self) -> bool:
        """Whether there is neither anything to read nor carry to take up."""
        is_asked = any(task.pull is not None and task.pull.messages for task in self.tasks)
        return not any(task.carry for task in self.tasks) and not self.messages and not is_asked


def make_plan(
    newest: Entry, seen: Seen, rules: PlanRules, asked: Asked = NOTHING_ASKED
) -> Planned | None:
    """Plan the cycle after ``newest``; None if none is due.

    ``collect --once`` and ``--flush`` ask for more. A cycle is due when the clock has passed an
    interval's end and the grace, when ``batch_size`` messages wait, or when there is more than one
    cycle may read.

    Raises:
        DataLossError: messages that no entry accounts for are gone, and ``skip_lost`` isn't set.
    """
    _check_partitions(newest, seen, rules)
    rules = replace(rules, max_messages=most_messages(rules, asked))
    reached = newest.ends
    starts = {p: reached.get(p, earliest) for p, (earliest, _) in seen.offsets.items()}
    lost = {p: _lost(start, p, seen.offsets[p], rules) for p, start in starts.items()}
    ends = {p: max(seen.offsets[p][1], starts[p] + lost[p]) for p in starts}
    firsts = {p: starts[p] + lost[p] for p in starts}
    backlog = _Backlog(firsts, ends)
    boundary = latest(newest.boundary, clock_boundary(newest, seen.clock, rules))
    cause = _cause(newest, boundary, backlog, seen, rules, asked)
    if cause is None:
        return None
    if cause == "backlog":
        boundary, ends = _part(newest, seen, rules, backlog)
    flush = asked.flush and cause != "backlog"
    boundary, carry = leaving(newest, boundary, flush=flush)
    if flush and carry != newest.carry:
        ends = firsts
    read = sum(ends.values()) - sum(firsts.values())
    choice = Choice("flush" if flush else cause, seen.clock, boundary, read, flush=flush)
    if read > len(backlog.partitions):
        choice = choice._replace(most_windows=most_windows(rules), most_bytes=most_bytes(rules))
    plan = plan_behind(newest, rules, asked, choice)
    slices = [Slice(rules.topic, p, starts[p], ends[p], lost[p]) for p in sorted(starts)]
    tasks = tuple(_task(plan, number, slices, carry) for number in range(rules.shards))
    return Planned(plan, tasks, read, backlog.total - read)


class Choice(NamedTuple):
    """What is chosen for a plan; see the fields of ``Plan``."""

    cause: str
    planned_at: datetime
    boundary: datetime | None
    messages: int
    flush: bool
    most_windows: int | None = None
    most_bytes: int | None = None


def plan_behind(newest: Entry, rules: PlanRules, asked: Asked, choice: Choice) -> Plan:
    """Return the plan of the cycle after ``newest``: what was chosen, the rest by rules and log."""
    limit = rules.max_dead_letters
    return Plan(
        collection=rules.collection,
        cycle=newest.cycle + 1,
        run=rules.run,
        id=new_token(),
        interval=newest.interval,
        batch_size=rules.batch_size,
        previous_boundary=newest.boundary,
        ahead_limit=_ahead_limit(choice.boundary, choice.planned_at, rules),
        schema=asked.schema if asked.schema is not None else newest.schema,
        tasks=rules.shards,
        pinned=asked.pinned,
        dropped=newest.dropped,
        format=newest.format,
        form=newest.form,
        max_dead_letters=limit and limit._replace(before=asked.dead_letters),
        previous=asked.previous,
        remembering=rules.remembering,
        target_bytes=rules.target_bytes,
        **choice._asdict(),
    )


def most_messages(rules: PlanRules, asked: Asked) -> int:
    """Return how many messages a cycle may read; of each ``batch_size`` a file may come."""
    most = min(rules.max_messages, rules.batch_size * MOST_WINDOWS)
    return most if asked.limit is None else min(most, asked.limit)


def most_windows(rules: PlanRules) -> int:
    """Return of how many windows a task's rows may be."""
    return max(MOST_WINDOWS // rules.shards, 1)


def most_bytes(rules: PlanRules) -> int | None:
    """Return how many bytes a task's messages may have; None: any."""
    return None if rules.max_bytes is None else max(rules.max_bytes // rules.shards, 1)


def leaving(
    newest: Entry, boundary: datetime | None, *, flush: bool
) -> tuple[datetime | None, tuple[CarryFile, ...]]:
    """Bound the windows whose waiting rows leave; return the boundary, and the carry, for that.

    With ``flush`` the carry of windows that must stay is left out; then nothing may be read.
    """
    windows = {
        file.window_start
        for file in newest.carry
        if flush or (boundary is not None and file.window_start + newest.interval <= boundary)
    }
    if len(windows) <= MOST_WINDOWS:
        return boundary, newest.carry
    last = sorted(windows)[MOST_WINDOWS - 1]
    boundary = boundary and latest(newest.boundary, min(boundary, last + newest.interval))
    if not flush:
        return boundary, newest.carry
    return boundary, tuple(file for file in newest.carry if file.window_start <= last)


class _Backlog(NamedTuple):
    """What waits: by partition, the first offset to read and the end."""

    firsts: dict[int, int]
    ends: dict[int, int]

    @property
    def total(self) -> int:
        return sum(self.ends.values()) - sum(self.firsts.values())

    @property
    def partitions(self) -> list[int]:
        return [p for p in self.ends if self.ends[p] > self.firsts[p]]


def _check_partitions(newest: Entry, seen: Seen, rules: PlanRules) -> None:
    gone = sorted(newest.ends.keys() - seen.offsets.keys())
    if gone:
        message = (
            f"topic={rules.topic} has no partition={gone[0]} any more: it was created again; "
            "collect it into another --output"
        )
        raise DataLossError(message)


def _lost(start: int, partition: int, offsets: tuple[int, int], rules: PlanRules) -> int:
    """Count the messages that are gone before any entry accounted for them."""
    earliest, end = offsets
    if end < start:
        message = (
            f"topic={rules.topic} partition={partition} ends at offset {end}, but the log says "
            f"that it was read up to {start}: the topic was truncated or created again; collect it "
            "into another --output"
        )
        raise DataLossError(message)
    if earliest > start and not rules.skip_lost:
        message = (
            f"topic={rules.topic} partition={partition} offsets=[{start}, {earliest}) were deleted "
            "before they were read (retention); --on_data_loss=skip records the gap and goes on"
        )
        raise DataLossError(message)
    return max(earliest - start, 0)


def _ahead_limit(boundary: datetime | None, clock: datetime, rules: PlanRules) -> datetime:
    """Return the last row time that waits; of a clock gone wrong it may be the calendar's end."""
    latest = max(boundary or clock, clock)
    return latest + min(rules.max_ahead, LAST_INSTANT - latest)


def clock_boundary(newest: Entry, clock: datetime, rules: PlanRules) -> datetime:
    """Return the last boundary that the clock has passed by the grace, up to ``--until``."""
    boundary = boundary_at(clock, rules.grace, newest.interval)
    if rules.until is None:
        return boundary
    return min(boundary, boundary_at(rules.until, timedelta(0), newest.interval))


def latest(*boundaries: datetime | None) -> datetime | None:
    """Return the latest of some boundaries, None if there is none."""
    return max((b for b in boundaries if b is not None), default=None)


def is_overdue(newest: Entry, clock: datetime, rules: PlanRules) -> bool:
    """Tell whether the clock, set back behind the boundary, has passed an interval's end since.

    Without this, messages would wait until it has caught up: years, after a clock gone wrong.
    """
    passed, before = (
        boundary_at(instant, rules.grace, newest.interval)
        for instant in (clock, newest.committed_at)
    )
    return newest.boundary is not None and passed < newest.boundary and passed != before


def _cause(
    newest: Entry,
    boundary: datetime | None,
    backlog: _Backlog,
    seen: Seen,
    rules: PlanRules,
    asked: Asked,
) -> str | None:
    if backlog.total > rules.max_messages:
        return "backlog"
    if boundary != newest.boundary or (backlog.total and is_overdue(newest, seen.clock, rules)):
        return "interval"
    if backlog.total >= rules.batch_size:
        return "count"
    if asked.force and backlog.total:
        return "once"
    if asked.flush and (backlog.total or newest.carry):
        return "flush"
    return None


def _part(
    newest: Entry, seen: Seen, rules: PlanRules, backlog: _Backlog
) -> tuple[datetime | None, dict[int, int]]:
    """Choose a part of a backlog that is more than one cycle may read, and its boundary.

    Best the messages up to a boundary of the past, by the broker's time index. Where not even one
    interval fits, or the index can't be used, a proportional part.
    """
    if newest.row_time != "collected":
        historical = _up_to_a_boundary(newest, seen, rules, backlog)
        if historical is not None:
            return historical
    share = rules.max_messages / backlog.total
    ends = {partition: _share(backlog, partition, share) for partition in backlog.ends}
    return _boundary_behind(newest, seen, rules, backlog), ends


def _share(backlog: _Backlog, partition: int, share: float) -> int:
    first, end = backlog.firsts[partition], backlog.ends[partition]
    return min(end, first + max(int((end - first) * share), 1)) if end > first else end


def _up_to_a_boundary(
    newest: Entry, seen: Seen, rules: PlanRules, backlog: _Backlog
) -> tuple[datetime, dict[int, int]] | None:
    """Find the latest boundary whose messages fit, by halving; None where that reads nothing."""
    interval, best = newest.interval, None
    low = (newest.boundary - EPOCH) // interval if newest.boundary is not None else 0
    high = (clock_boundary(newest, seen.clock, rules) - EPOCH) // interval
    while low < high:
        middle = (low + high + 1) // 2
        boundary = EPOCH + middle * interval
        ends = _ends_at(boundary + rules.grace, seen, backlog)
        if ends is None or _Backlog(backlog.firsts, ends).total > rules.max_messages:
            high = middle - 1
        else:
            low, best = middle, (boundary, ends)
    return best if best is not None and best[1] != backlog.firsts else None


def _ends_at(instant: datetime, seen: Seen, backlog: _Backlog) -> dict[int, int] | None:
    """Return where messages stamped at ``instant`` begin, None if a future stamp hides it."""
    answers = seen.index(instant)
    ends = {}
    for partition, end in backlog.ends.items():
        answer = answers.get(partition, Answer(None, None))
        if answer.offset is None or answer.offset >= end:
            ends[partition] = end
        elif answer.timestamp is not None and answer.timestamp > seen.clock:
            return None
        else:
            ends[partition] = max(answer.offset, backlog.firsts[partition])
    return ends


def _boundary_behind(
    newest: Entry, seen: Seen, rules: PlanRules, backlog: _Backlog
) -> datetime | None:
    """Return the boundary that every partition with backlog has been read past, for all we know."""
    reached = {read.partition: read.max_time for read in newest.reads}
    times = [reached.get(partition) for partition in backlog.partitions]
    if newest.row_time == "collected":
        return latest(newest.boundary, clock_boundary(newest, seen.clock, rules))
    if any(time is None for time in times):
        return newest.boundary
    behind = boundary_at(
        min(time for time in times if time is not None), rules.grace, newest.interval
    )
    return latest(newest.boundary, min(behind, clock_boundary(newest, seen.clock, rules)))


def _task(plan: Plan, number: int, slices: list[Slice], carry: Iterable[CarryFile]) -> Task:
    """Give a shard its fixed share of the partitions, and the carry that it may need."""
    mine = tuple(s for s in slices if s.partition % plan.tasks == number)
    reads = any(s.end > s.first for s in mine)
    return Task(plan, number, mine, carry_of(plan, number, carry, reads=reads))


def carry_of(
    plan: Plan, number: int, carry: Iterable[CarryFile], *, reads: bool
) -> tuple[CarryFile, ...]:
    """Return a shard's carry that leaves or, where it ``reads``, may be joined by rows."""
    return tuple(
        file
        for file in carry
        if file.shard % plan.tasks == number and (reads or _leaves(plan, file))
    )


def _leaves(plan: Plan, file: CarryFile) -> bool:
    """Tell whether a window's carry is written although no row comes."""
    due = plan.boundary is not None and file.window_start + plan.interval <= plan.boundary
    return due or plan.flush
