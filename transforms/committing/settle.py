"""Close the account of a cycle: from the reports on its tasks to its log entry. Pure."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from batch_collection.log.entry import Entry, Pane
from batch_collection.schema.types import is_changed, merge
from transforms.committing.refusal import refusal
from transforms.cutting.cut import EARLY, ON_TIME, timing_of
from transforms.decoding.additions import without_twins
from transforms.decoding.contract import too_much
from transforms.elements.failure import SCHEMA_CHANGE, Failure
from transforms.elements.plan import RedrivePlan
from transforms.elements.report import Report, add_up

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from typing import Any

    from batch_collection.log.entry import PartitionRead
    from transforms.elements.plan import Plan
    from transforms.elements.report import WrittenBatch

__all__ = ["OPEN_HORIZON", "is_forgetful", "open_horizon", "settle"]


OPEN_HORIZON = timedelta(days=1)
"""Windows that start later than this after B are not named as open: a clock decades ahead must not
make every entry longer for ever. The earliest of them is (``Entry.forgotten``)."""


def open_horizon(plan: Plan) -> datetime:
    """Return where the windows begin that the plan's entry does not name as open."""
    return (plan.boundary or plan.planned_at) + OPEN_HORIZON


def is_forgetful(plan: Plan, previous: Entry) -> bool:
    """Tell whether a plan closes a window of which ``previous`` may not name the early panes."""
    forgotten = previous.forgotten
    return (
        forgotten is not None
        and plan.boundary is not None
        and forgotten + previous.interval <= plan.boundary
    )


def settle(
    plan: Plan,
    previous: Entry,
    previous_digest: str,
    reports: Iterable[Report],
    committed_at: datetime,
) -> Entry | Failure | None:
    """Return the entry of a plan whose account is closed.

    ``previous`` names all early panes of windows that the plan closes: see ``is_forgetful``.

    Returns:
        The entry; a ``Failure`` if the plan can't come to one; None as long as reports are missing.
        Of each task one whole attempt counts; what other attempts staged, the entry does not name.
    """
    attempts = [report for report in add_up(reports) if report.plan.id == plan.id]
    whole = {report.task: report for report in reversed(attempts) if report.whole}
    for report in attempts:
        if report.failure is not None and report.task not in whole:
            return report.failure
    if len(whole) < plan.tasks:
        return None
    tasks = [whole[number] for number in sorted(whole)]
    schema = plan.schema
    for task in tasks:
        schema = merge(schema, task.schema)
    if any(is_changed(types, schema) for task in tasks for types in (task.schema, task.untyped)):
        return Failure(SCHEMA_CHANGE, "tasks of one cycle saw different types", schema)
    some = _columns_of_some(plan, tasks)
    if some is not None:
        text = "tasks of one cycle saw too many columns together, or names of different case"
        return Failure(SCHEMA_CHANGE, text, some)
    if not isinstance(plan, RedrivePlan) and (refused := refusal(plan, previous, tasks, schema)):
        return refused
    return _entry(plan, previous, previous_digest, tasks, schema, committed_at)


def _columns_of_some(plan: Plan, tasks: Iterable[Report]) -> dict[str, Any] | None:
    """Return the columns of as many tasks as have room together; None: all do.

    Others get what room is left when the cycle is planned again. Of names that readers take for one
    the first task's is taken, and messages with another are dead letters then.
    """
    schema, is_whole = plan.schema, True
    for task in tasks:
        merged = without_twins(schema, merge(schema, task.schema), plan.form.fold)
        if too_much(merged, schema):
            is_whole = False
        else:
            schema = merged
            is_whole &= merge(schema, task.schema) == schema
    return None if is_whole else schema


def _entry(
    plan: Plan,
    previous: Entry,
    previous_digest: str,
    tasks: Sequence[Report],
    schema: dict[str, Any],
    committed_at: datetime,
) -> Entry:
    batches = [batch for task in tasks for batch in task.batches]
    opened, forgotten = _open(plan, previous, batches)
    panes = (*_panes(previous, batches), *_panes_without_rows(plan, previous, batches))
    taken = {file.path for task in tasks for file in task.taken}
    carried = [file for task in tasks for file in task.carried]
    return previous.following(
        previous_digest,
        cycle=plan.cycle,
        run=plan.run,
        plan=plan.id,
        host=socket.gethostname(),
        pid=os.getpid(),
        committed_at=committed_at,
        cause=plan.cause,
        boundary=plan.boundary,
        reads=_reads(previous, tasks),
        panes=tuple(sorted(panes, key=lambda pane: pane.window_start)),
        closed_empty=_closed_empty(plan, previous, batches),
        open=opened,
        forgotten=forgotten,
        carry=(*(file for file in previous.carry if file.path not in taken), *carried),
        released=tuple(sorted(taken)),
        dead_letters=tuple(file for task in tasks for file in task.dead_letters),
        schema=schema,
        pinned=plan.pinned,
    )


def _reads(previous: Entry, tasks: Iterable[Report]) -> tuple[PartitionRead, ...]:
    """Join what was read with what became of it; a partition's highest row time never goes back."""
    highest = {read.partition: read.max_time for read in previous.reads}
    reads = []
    for task in tasks:
        decoded = {read.partition: read for read in task.decoded}
        for read in task.reads:
            became = decoded.get(read.partition, read)
            times = [t for t in (became.max_time, highest.get(read.partition)) if t is not None]
            reads.append(
                replace(
                    became,
                    start=read.start,
                    end=read.end,
                    lost=read.lost,
                    max_time=max(times, default=None),
                )
            )
    return tuple(sorted(reads, key=lambda read: read.partition))


def _panes(previous: Entry, batches: Iterable[WrittenBatch]) -> list[Pane]:
    """Put the batches of each window together."""
    by_window: dict[datetime, list[WrittenBatch]] = {}
    for batch in batches:
        by_window.setdefault(batch.window_start, []).append(batch)
    return [
        Pane(
            window_start=start,
            window_end=start + previous.interval,
            timing=pane[0].timing,
            rows=sum(batch.file.rows for batch in pane),
            files=tuple(batch.file for batch in pane),
            earlier=previous.open.get(start, ()),
        )
        for start, pane in by_window.items()
    ]


def _panes_without_rows(plan: Plan, previous: Entry, batches: Iterable[WrittenBatch]) -> list[Pane]:
    """Close the windows that are due and whose rows left in early panes, all of them."""
    got_rows = {batch.window_start for batch in batches}
    return [
        Pane(start, start + previous.interval, ON_TIME, 0, (), cycles)
        for start, cycles in previous.open.items()
        if start not in got_rows and timing_of(plan, start + previous.interval) == ON_TIME
    ]


def _open(
    plan: Plan, previous: Entry, batches: Iterable[WrittenBatch]
) -> tuple[dict[datetime, tuple[int, ...]], datetime | None]:
    """Give the windows with early panes that stay open, and the earliest one that is not named."""
    now_early = {batch.window_start: (plan.cycle,) for batch in batches if batch.timing == EARLY}
    cycles = {
        start: (*previous.open.get(start, ()), *now_early.get(start, ()))
        for start in sorted({*previous.open, *now_early})
        if timing_of(plan, start + previous.interval) == EARLY
    }
    horizon = open_horizon(plan)
    far = [start for start in cycles if start >= horizon]
    if previous.forgotten is not None:
        far.append(previous.forgotten)
    named = {start: seen for start, seen in cycles.items() if start < horizon}
    return named, min(far, default=None)


def _closed_empty(
    plan: Plan, previous: Entry, batches: Iterable[WrittenBatch]
) -> tuple[tuple[datetime, datetime], ...]:
    """Give the ranges between two boundaries in which no window ever had a row.

    Before the first boundary no window was due, so what is recorded begins at its first window.
    """
    if plan.boundary is None:
        return ()
    closed = {batch.window_start for batch in batches if batch.timing == ON_TIME}
    closed |= {s for s in previous.open if s + previous.interval <= plan.boundary}
    gap_start = previous.boundary or min(closed, default=plan.boundary)
    ranges = []
    for start in sorted(start for start in closed if start >= gap_start):
        if gap_start < start:
            ranges.append((gap_start, start))
        gap_start = start + previous.interval
    if gap_start < plan.boundary:
        ranges.append((gap_start, plan.boundary))
    return tuple(ranges)
