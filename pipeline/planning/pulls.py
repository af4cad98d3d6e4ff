"""When messages of a leased source are pulled next, and what that closes: pure, as ``planner``.

Such messages have no addresses before a task has claimed them: each shard counts its own, from
where the newest entry ends.

Guarantees, tested as laws: the boundary never goes back, whatever the clock does, nor beyond it;
no message is held longer than a minute and a cycle.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from batch_collection.windows import boundary_at
from pipeline.planning.planner import (
    NOTHING_ASKED,
    Choice,
    Planned,
    carry_of,
    clock_boundary,
    is_overdue,
    latest,
    leaving,
    most_bytes,
    most_messages,
    most_windows,
    plan_behind,
)
from transforms.elements.plan import ACKNOWLEDGED, Task
from transforms.sources.contract import Pull, Slice

if TYPE_CHECKING:
    from batch_collection.log.entry import CarryFile, Entry
    from pipeline.planning.planner import Asked, PlanRules
    from transforms.elements.plan import Plan

__all__ = ["HOLD", "PullRules", "Waits", "make_last_plan", "make_pull_plan"]

HOLD = timedelta(seconds=60)
"""How long a message is held, at most, before a cycle is run for it."""

_NEARLY = 0.8  # of what may be held: what is on its way comes meanwhile


class PullRules(NamedTuple):
    """How messages are pulled.

    Attributes:
        stream: what they are pulled from, as a worker finds it.
        messages: how many a process may hold.
        bytes: how many bytes of them.
        seconds: for how long a task pulls; none where the process pulls anyhow.
    """

    stream: str
    messages: int
    bytes: int
    seconds: float = 0.0


class Waits(NamedTuple):
    """What waits, and the clock.

    Attributes:
        clock: now.
        messages: how many messages are held for a plan; None where only tasks pull.
        bytes: how many bytes they take.
        age: for how long the oldest is held; where tasks pull, how long ago they last did.
        is_behind: what was published before pulling began may still have to come.
    """

    clock: datetime
    messages: int | None = None
    bytes: int = 0
    age: timedelta = timedelta(0)
    is_behind: bool = False

    @property
    def may_come(self) -> bool:
        """Whether a plan may get messages."""
        return self.messages is None or self.messages > 0


def make_pull_plan(
    newest: Entry, waits: Waits, rules: PlanRules, pulls: PullRules, asked: Asked = NOTHING_ASKED
) -> Planned | None:
    """Plan the cycle after ``newest``; None if none is due.

    One is due when the clock has passed an interval's end and the grace, when ``batch_size``
    messages wait, when nearly as much is held as may be, and when the oldest message is held for a
    minute. ``collect --once`` and ``--flush`` ask for more.
    """
    most = most_messages(rules, asked)
    is_backlog = _is_backlog(newest, waits, pulls, most)
    boundary = _boundary(newest, waits, rules, is_backlog=is_backlog)
    cause = _cause(newest, boundary, waits, rules, asked, is_backlog=is_backlog)
    if cause is None:
        return None
    flush = asked.flush and not is_backlog and not waits.is_behind
    boundary, carry = leaving(newest, boundary, flush=flush)
    if flush and carry != newest.carry:
        most = 0
    elif waits.messages is not None and (is_backlog or not waits.messages):
        most = min(most, waits.messages)  # so that it stops there, and says so
    read = min(waits.messages or 0, most)
    cause = "flush" if flush else cause
    choice = Choice(cause, waits.clock, boundary, read or most, flush=flush)
    if most > rules.shards:
        choice = choice._replace(most_windows=most_windows(rules), most_bytes=most_bytes(rules))
    plan = plan_behind(newest, rules, asked, choice)
    each = pulls._replace(
        messages=-(-min(most, pulls.messages) // plan.tasks), bytes=pulls.bytes // plan.tasks
    )
    tasks = tuple(_task(plan, number, newest, each, carry) for number in range(plan.tasks))
    return Planned(plan, tasks, read, (waits.messages or 0) - read)


def make_last_plan(
    newest: Entry, clock: datetime, rules: PlanRules, pulls: PullRules, asked: Asked
) -> Planned:
    """Plan a cycle that reads nothing and closes nothing: it tells what was acknowledged."""
    choice = Choice(ACKNOWLEDGED, clock, newest.boundary, 0, flush=False)
    plan = plan_behind(newest, rules, asked, choice)
    none = pulls._replace(messages=0, bytes=0, seconds=0.0)
    tasks = tuple(_task(plan, number, newest, none, ()) for number in range(plan.tasks))
    return Planned(plan, tasks, 0, 0)


def _is_backlog(newest: Entry, waits: Waits, pulls: PullRules, most: int) -> bool:
    """Tell whether more waits than one cycle may take, or has just been so."""
    if waits.messages is None:
        return newest.backlog_from is not None
    is_full = waits.messages >= _NEARLY * pulls.messages or waits.bytes >= _NEARLY * pulls.bytes
    return is_full or waits.messages > most


def _boundary(
    newest: Entry, waits: Waits, rules: PlanRules, *, is_backlog: bool
) -> datetime | None:
    """Return which windows are over: by the clock, in a backlog by how far it has been pulled.

    Messages come roughly as they were published, so where more wait than a cycle takes, those of
    the windows that are over by the clock are not all here.
    """
    passed = clock_boundary(newest, waits.clock, rules)
    if newest.row_time == "collected":
        return latest(newest.boundary, passed)
    if newest.backlog_from is not None:
        reached = boundary_at(newest.backlog_from, rules.grace, newest.interval)
        return latest(newest.boundary, min(reached, passed))
    is_known = not (is_backlog or waits.is_behind)
    return latest(newest.boundary, passed) if is_known else newest.boundary


def _cause(  # noqa: PLR0911 - a line a cause
    newest: Entry,
    boundary: datetime | None,
    waits: Waits,
    rules: PlanRules,
    asked: Asked,
    *,
    is_backlog: bool,
) -> str | None:
    if is_backlog:
        return "backlog"
    if boundary != newest.boundary or (waits.messages and is_overdue(newest, waits.clock, rules)):
        return "interval"
    if (waits.messages or 0) >= rules.batch_size:
        return "count"
    if waits.may_come and waits.age >= HOLD:
        return "held"
    if waits.is_behind:
        return None
    if waits.may_come and asked.force:
        return "once"
    if asked.flush and (waits.may_come or newest.carry):
        return "flush"
    return None


def _task(
    plan: Plan, number: int, newest: Entry, pulls: PullRules, carry: tuple[CarryFile, ...]
) -> Task:
    """Let a shard pull, and keep where those that are no longer used end."""
    ends = {number: 0, **newest.ends}
    mine = sorted(partition for partition in ends if partition % plan.tasks == number)
    slices = tuple(Slice(pulls.stream, each, ends[each], ends[each]) for each in mine)
    pull = Pull(
        pulls.stream, number, ends[number], pulls.messages, pulls.bytes, seconds=pulls.seconds
    )
    is_asked = pulls.messages > 0
    return Task(plan, number, slices, carry_of(plan, number, carry, reads=is_asked), pull)
