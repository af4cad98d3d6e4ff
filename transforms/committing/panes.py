"""Commit panes of Beam: reports in, one entry behind the newest out, each pane once."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from batch_collection.checkpoints.listing import recalled
from batch_collection.checkpoints.making import keep_up
from batch_collection.errors import LogError, WriteError
from batch_collection.log.end import end_of_log
from batch_collection.log.entries import append_entry
from batch_collection.log.entry import FORMAT, FORMS, Awaited, Entry, Source
from batch_collection.paths import new_token
from batch_collection.publishing.append import append
from batch_collection.schema.arrow import to_arrow
from batch_collection.schema.retyped import can_retype
from batch_collection.schema.types import Schema, is_changed, merge
from batch_collection.storage.opening import open_storage
from batch_collection.windows import format_duration, utc_now
from transforms.committing.ledger import ledger_of, place_of
from transforms.committing.windows import (
    is_forgetful,
    open_horizon,
    rebased_batch,
    windows_of,
)
from transforms.elements.observers import tell
from transforms.process.events import CycleCommitted, PanesSkipped

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from batch_collection.storage.contract import Storage
    from transforms.elements.pane import Job, PaneReport
    from transforms.elements.report import WrittenBatch

__all__ = ["Step", "begun", "check_collection", "commit_panes", "paned", "step_behind"]


KIND = "beam"
ROW_TIME = "element"


def begun(job: Job) -> Entry:
    """Return the newest entry of a job's collection, which is begun if it isn't there.

    Raises:
        LogError: it is another one: see ``check_collection``.
    """
    storage = open_storage(job.collection)
    newest = ledger_of(job).newest(storage)
    if newest is None:
        end = end_of_log(storage) or append_entry(storage, _first_entry(job))
        newest = end.entry
    check_collection(newest, job)
    return newest


def check_collection(newest: Entry, job: Job) -> None:
    """Refuse to write into a collection of another kind, interval, or types.

    Raises:
        LogError: it names what differs, and the cure.
    """
    uri = job.collection
    if newest.source.kind != KIND:
        message = f"{uri} was collected from {newest.source.kind}; use another output="
        raise LogError(message)
    if newest.interval != job.interval:
        before, now = map(format_duration, (newest.interval, job.interval))
        message = (
            f"interval={now}, but {uri} was begun with interval={before}; use that or another "
            "output="
        )
        raise LogError(message)
    for name, type_ in job.schema.items():
        if name in newest.schema and newest.schema[name] != type_:
            message = (
                f"schema= says that column {name} is {type_}, but {uri} has it as "
                f"{newest.schema[name]}; use that, or change it by `batch-collection schema`"
            )
            raise LogError(message)


def _first_entry(job: Job) -> Entry:
    return Entry(
        cycle=0,
        run=job.run,
        plan=new_token(),
        previous=None,
        host=socket.gethostname(),
        pid=os.getpid(),
        committed_at=utc_now(),
        source=Source(KIND, ""),
        interval=job.interval,
        row_time=ROW_TIME,
        cause="start",
        schema=job.schema,
        pinned=tuple(job.schema),
        format=FORMAT,
        **FORMS[FORMAT]._asdict(),
    )


class Step(NamedTuple):
    """What panes come to behind an entry.

    Attributes:
        reports: on the panes, each named once, by their places.
        awaited: the windows that are known and not closed then.
    """

    cycle: int
    boundary: datetime | None
    previous_boundary: datetime | None
    planned_at: datetime
    reports: tuple[PaneReport, ...]
    awaited: tuple[Awaited, ...]


def commit_panes(job: Job, reports: Sequence[PaneReport]) -> Entry | None:
    """Commit and publish panes, as one entry behind the newest, whoever else commits.

    A pane that the log has already, with the same rows, is skipped, and what was staged of it
    removed. If this is interrupted anywhere it may be done again.

    Returns:
        The entry; None if there was nothing new.

    Raises:
        LogError: the log is damaged, or others were faster again and again.
        WriteError: a column came with types of which none says the values of the other.
    """
    storage, ledger, began = open_storage(job.collection), ledger_of(job), utc_now()
    fresh: list[PaneReport] = []

    def made(newest: Entry, newest_digest: str) -> Entry | None:
        ledger.follow(storage, newest)
        fresh[:] = ledger.new(reports)
        step = step_behind(newest, job, fresh, utc_now())
        if is_forgetful(step, newest):
            newest = recalled(storage, newest, open_horizon(step))
        return paned(newest, newest_digest, step, job)

    with ledger.lock:
        entry = append(storage, made, published=ledger.published)
        if entry is not None:
            ledger.take(entry)
            keep_up(storage, entry.cycle)
            tell(CycleCommitted(job.collection, entry, 0, utc_now() - began))
    _remove(storage, job, reports, fresh)
    return entry


def _remove(
    storage: Storage, job: Job, reports: Sequence[PaneReport], fresh: Sequence[PaneReport]
) -> None:
    """Remove what was staged of panes that the log had: all that it names is where it belongs."""
    kept = {batch.file.staged for report in fresh for batch in report.batches}
    storage.delete(
        batch.file.staged
        for report in reports
        for batch in report.batches
        if batch.file.staged not in kept
    )
    if len(fresh) < len(reports):
        tell(PanesSkipped(job.collection, len(reports) - len(fresh)))


def step_behind(newest: Entry, job: Job, reports: Iterable[PaneReport], now: datetime) -> Step:
    """Return what panes come to behind ``newest``: how far windows are closed. Pure.

    B becomes the latest end of a window whose on-time panes have come from all shards, unless one
    that is known to be open ends before; it never goes back. Windows that another run has left open
    hold nothing up: whether that one lives cannot be told, and what it still brings is late then.
    """
    panes = tuple(sorted(reports, key=lambda report: place_of(report.origin)))
    ended = {each.window_start: {*each.ended} for each in newest.awaited if each.run == job.run}
    for pane in panes:
        start = pane.origin.window_start
        if newest.boundary is None or start + newest.interval > newest.boundary:
            shards = ended.setdefault(start, set())
            shards |= set() if pane.is_early else {pane.origin.shard}
    open_from = min((start for start, of in ended.items() if len(of) < job.shards), default=None)
    closed = (start for start in ended if open_from is None or start < open_from)
    ends = [start + newest.interval for start in closed]
    boundary = max([*ends, *([newest.boundary] if newest.boundary else [])], default=None)
    mine = (Awaited(job.run, start, tuple(sorted(of))) for start, of in sorted(ended.items()))
    others = (each for each in newest.awaited if each.run != job.run)
    step = Step(newest.cycle + 1, boundary, newest.boundary, now, panes, ())
    horizon = open_horizon(step)
    awaited = (
        each
        for each in (*others, *mine)
        if each.window_start < horizon
        and (boundary is None or each.window_start + newest.interval > boundary)
    )
    return step._replace(awaited=tuple(awaited))


def paned(newest: Entry, newest_digest: str, step: Step, job: Job) -> Entry | None:
    """Return the entry of a step; None if it says nothing. Pure.

    ``newest`` names all early panes of windows that are closed: see ``is_forgetful``.

    Raises:
        WriteError: a column came with types of which none says the values of the other.
    """
    reports = step.reports
    if not any(report.batches for report in reports) and (step.boundary, step.awaited) == (
        newest.boundary,
        newest.awaited,
    ):
        return None
    schema = newest.schema
    for report in reports:
        schema = merge(schema, _without(report.schema, newest.dropped))
    batches = [batch for report in reports for batch in _rebased(report, step, newest, schema)]
    return newest.following(
        newest_digest,
        cycle=step.cycle,
        run=job.run,
        plan=new_token(),
        host=socket.gethostname(),
        pid=os.getpid(),
        committed_at=step.planned_at,
        cause="pane",
        **windows_of(step, newest, batches),
        schema=schema,
        pinned=tuple(name for name in newest.schema if newest.schema[name] != schema[name]),
        origins=tuple(report.origin for report in reports),
        awaited=step.awaited,
    )


def _without(schema: Schema, dropped: Schema) -> Schema:
    return {name: type_ for name, type_ in schema.items() if name not in dropped}


def _rebased(
    report: PaneReport, step: Step, newest: Entry, schema: Schema
) -> Iterator[WrittenBatch]:
    """Yield files with the names of the cycle that they come to, their timing and types in it."""
    own = _without(report.schema, newest.dropped)
    types = {name: type_ for name, type_ in own.items() if is_changed({name: type_}, schema)}
    for name, type_ in types.items():
        old, new = (to_arrow({name: each}).field(0).type for each in (type_, schema[name]))
        if not can_retype(old, new):
            message = (
                f"column {name} came as {type_}, and is {schema[name]}; give CollectBatches a "
                "schema= with a type that takes all values"
            )
            raise WriteError(message)
    for batch in report.batches:
        moved = rebased_batch(batch, step, newest)
        yield moved._replace(file=replace(moved.file, types={**moved.file.types, **types}))
