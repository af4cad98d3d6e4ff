"""Which cycles are not committed although their account closes: of too many messages no rows. Pure.

A wrong flag makes dead letters of all messages, and what the first entries say is kept for ever.
Neither are those of pulls that would say nothing: they may bring no message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_collection.errors import DeadLettersError, RowTimeError
from batch_collection.field_path import plain_path
from transforms.decoding.row_time import FIELD
from transforms.elements.failure import NOTHING, Failure
from transforms.elements.plan import ACKNOWLEDGED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from batch_collection.log.entry import Entry
    from transforms.elements.plan import Plan
    from transforms.elements.report import Report

__all__ = ["FEWEST", "refusal"]


FEWEST = 100
"""Messages of a cycle from which on a share of them is looked at."""

_MOST_FIELDS = 12
_PINNED = (
    "this collection has closed windows by that rule and keeps it: collect into another --output "
    "with another one"
)


def refusal(
    plan: Plan, previous: Entry, tasks: Sequence[Report], schema: dict[str, Any]
) -> Failure | None:
    """Return why a plan is not committed behind ``previous``; None if nothing is against it.

    Args:
        plan: the plan.
        previous: the entry before.
        tasks: what became of each task, whole.
        schema: the payload's columns, with those that this cycle has seen first.
    """
    messages = sum(read.messages for task in tasks for read in task.reads)
    return (
        _nothing(plan, tasks)
        or _without_time(previous, tasks, messages, schema)
        or _too_many(plan, previous, tasks, messages)
    )


def _nothing(plan: Plan, tasks: Sequence[Report]) -> Failure | None:
    """Refuse an entry of pulls that brought nothing, by which no window is closed, no row moved.

    What the log has already is something: it is counted. What was acknowledged is only for the plan
    that is there for it, or each minute with messages would have an entry more.
    """
    if plan.remembering is None or plan.boundary != plan.previous_boundary:
        return None
    is_something = any(
        task.taken
        or task.batches
        or task.repeated
        or (task.acknowledged and plan.cause == ACKNOWLEDGED)
        or any(read.end > read.start for read in task.reads)
        for task in tasks
    )
    return None if is_something else Failure(NOTHING, "nothing came")


def _without_time(
    previous: Entry, tasks: Sequence[Report], messages: int, schema: dict[str, Any]
) -> Failure | None:
    """Refuse the first messages of a collection if the rule gives none of them a row time."""
    untimed = sum(task.untimed for task in tasks)
    has_rows = any(read.rows for task in tasks for read in task.decoded)
    had_rows = any(read.max_time is not None for read in previous.reads)
    if not untimed or has_rows or had_rows:
        return None
    reason = _reason(task.why_untimed for task in tasks)
    text = (
        f"--timestamp={previous.row_time}: none of the {messages:,} messages of "
        f"{_stream(previous)} has a row time; nothing was committed; {reason}"
    )
    if previous.row_time.startswith(FIELD):
        names = [plain_path(names, schema) for names in _fields(schema)]
        more = ", ..." if len(names) > _MOST_FIELDS else ""
        text += f"; their fields are {', '.join(names[:_MOST_FIELDS])}{more}" if names else ""
    if previous.cause != "start":
        text += f"; {_PINNED}"
    return Failure.of(RowTimeError(text))


def _too_many(
    plan: Plan, previous: Entry, tasks: Sequence[Report], messages: int
) -> Failure | None:
    """Refuse more dead letters than ``--max_dead_letters`` allows."""
    limit = plan.max_dead_letters
    dead = sum(read.dead_letters for task in tasks for read in task.decoded)
    if limit is None or not dead:
        return None
    if limit.percent is not None:
        is_over = messages >= FEWEST and dead * 100 > limit.percent * messages
        said, of_run = f"{limit.percent:g}%", ""
    else:
        total = limit.before + dead
        is_over = limit.most is not None and total > limit.most
        said, of_run = f"{limit.most}", f" ({total:,} of this run)"
    if not is_over:
        return None
    text = (
        f"{dead:,} of {messages:,} messages of {_stream(previous)}, cycle={plan.cycle}, "
        f"became dead letters{of_run}, more than --max_dead_letters={said}; nothing of it was "
        f"committed; most often: {_reason(task.commonest for task in tasks)}"
    )
    return Failure.of(DeadLettersError(text))


def _stream(entry: Entry) -> str:
    return f"{entry.source.stream}={entry.source.topic}"


def _reason(counted: Iterable[tuple[int, str]]) -> str:
    """Return the commonest reason for dead letters, in one line."""
    return " ".join(max(counted)[1].split())


def _fields(schema: dict[str, Any], *within: str) -> Iterator[tuple[str, ...]]:
    """Yield the names that lead to each field that holds values."""
    for name, type_ in schema.items():
        if isinstance(type_, dict):
            yield from _fields(type_, *within, name)
        elif not isinstance(type_, list):
            yield (*within, name)
