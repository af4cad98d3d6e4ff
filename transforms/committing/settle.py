"""Close the account of a cycle: from the reports on its tasks to its log entry. Pure."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from typing import TYPE_CHECKING

from batch_collection.schema.types import is_changed, merge
from transforms.committing.refusal import refusal
from transforms.committing.remembered import ids_of
from transforms.committing.windows import windows_of
from transforms.decoding.additions import without_twins
from transforms.decoding.contract import too_much
from transforms.elements.failure import SCHEMA_CHANGE, Failure
from transforms.elements.plan import RedrivePlan
from transforms.elements.report import Report, add_up

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from typing import Any

    from batch_collection.log.entry import Entry, PartitionRead
    from transforms.elements.plan import Plan

__all__ = ["closed", "settle"]


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
    tasks = _whole(_sums(plan, reports), plan.tasks)
    if tasks is None or isinstance(tasks, Failure):
        return tasks
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


def closed(plan: Plan, reports: Iterable[Report]) -> list[Report]:
    """Return the sums of a plan's reports once they say what becomes of it, and none before.

    ``settle`` takes them as well as the reports, and has nothing to add up then.
    """
    sums = _sums(plan, reports)
    return [] if _whole(sums, plan.tasks) is None else sums


def _sums(plan: Plan, reports: Iterable[Report]) -> list[Report]:
    """Return one report an attempt at a task of the plan."""
    return add_up(report for report in reports if report.plan.id == plan.id)


def _whole(attempts: Sequence[Report], tasks: int) -> list[Report] | Failure | None:
    """Return a whole report of each task, why one can't be done, or None as long as some lack."""
    whole = {report.task: report for report in reversed(attempts) if report.whole}
    for report in attempts:
        if report.failure is not None and report.task not in whole:
            return report.failure
    if len(whole) < tasks:
        return None
    return [whole[number] for number in sorted(whole)]


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
        reads=_reads(previous, tasks),
        **windows_of(plan, previous, batches),
        carry=(*(file for file in previous.carry if file.path not in taken), *carried),
        released=tuple(sorted(taken)),
        dead_letters=tuple(file for task in tasks for file in task.dead_letters),
        schema=schema,
        pinned=plan.pinned,
        backlog_from=min((t.oldest for t in tasks if t.oldest is not None), default=None),
        **ids_of(plan, previous, tasks, committed_at),
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
