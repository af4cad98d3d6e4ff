"""Stage a pane of Beam: its rows, cut into files of at most so many rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from batch_collection.log.entry import Origin
from batch_collection.parallel import AT_ONCE, ahead
from batch_collection.windows import utc_now
from transforms.cutting.batch import Batch
from transforms.cutting.cut import Cutter
from transforms.cutting.waiting import InMemory
from transforms.decoding.given_rows import Types, rows_of
from transforms.elements.observers import tell
from transforms.elements.pane import PaneOrder
from transforms.process.events import RowsDecoded
from transforms.writing.rows import BatchRows
from transforms.writing.staging import bad_column, description, opening, stage, tell_staged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from batch_collection.log.entry import Entry
    from batch_collection.storage.contract import Storage
    from transforms.elements.given import Given
    from transforms.elements.pane import Job, PaneReport
    from transforms.elements.report import WrittenBatch
    from transforms.writing.layout import Output

__all__ = ["Fired", "stage_pane"]

_LEASE = 1_000_000
"""Entries that may be committed while a pane waits for its own; what a dead job left is swept
after them."""
_SHARED = 10_000
"""Cycles whose panes are staged in one folder."""


@dataclass(frozen=True, slots=True)
class Fired:
    """A pane that Beam has fired: its place, and its elements, each with its row time."""

    window_start: datetime
    shard: int
    index: int
    is_early: bool
    checksum: str
    elements: Iterable[tuple[int, Given]]


def stage_pane(
    storage: Storage, newest: Entry, job: Job, pane: Fired, output: Output
) -> PaneReport:
    """Write a pane's rows as files that nobody reads before they are committed.

    All but the last of them have ``batch_size`` rows. Memory: the rows of the pane, which may be
    twice as large as Python objects, and ``AT_ONCE`` files.

    Args:
        newest: the entry whose types rows are brought to, and behind which they will come.

    Raises:
        WriteError: a row fits no type, or can't be written.
        StorageError: the storage can't be written to; whoever calls tries all of it again.
    """
    types = Types(newest.schema, job.schema, newest.dropped, newest.fold)
    tables, schema = rows_of(pane.elements, types)
    rows = sum(table.num_rows for table in tables)
    tell(RowsDecoded(job.collection, rows, 0, 0))
    origin = Origin(job.run, pane.window_start, pane.shard, pane.index, pane.checksum, rows)
    order = _order(newest, job, origin, schema, is_early=pane.is_early)
    cutter = Cutter(order)
    cuts = [cut for table in tables for cut in cutter.add(pane.window_start, InMemory(table))]
    batches = [Batch(order, number, cut) for number, cut in enumerate([*cuts, *cutter.finish()])]
    written = [
        each
        for first in range(0, len(batches), AT_ONCE)
        for each in _staged(storage, batches[first : first + AT_ONCE], output)
    ]
    tell_staged(job.collection, written)
    return order.report().wrote(batches=tuple(written))


def _order(
    newest: Entry, job: Job, origin: Origin, schema: dict[str, Any], *, is_early: bool
) -> PaneOrder:
    return PaneOrder(
        collection=job.collection,
        cycle=(newest.cycle + _LEASE) // _SHARED * _SHARED,
        shard=origin.shard,
        attempt=origin.checksum,
        interval=newest.interval,
        batch_size=job.batch_size,
        boundary=newest.boundary,
        previous_boundary=newest.boundary,
        ahead_limit=utc_now(),
        schema=schema,
        flush=True,
        dropped=newest.dropped,
        format=newest.format,
        form=newest.form,
        origin=origin,
        is_early=is_early,
    )


def _staged(storage: Storage, batches: Sequence[Batch], output: Output) -> list[WrittenBatch]:
    """Write some files; they become durable together."""
    closing: list[Callable[[], dict[str, Any]]] = []
    for batch in batches:
        try:
            opens = opening(storage, batch.cut.rows)
            closing += [encode() for encode in stage(opens, batch, BatchRows.of(batch), output)]
        except Exception as error:  # noqa: BLE001 - whatever it is, the pane is not written
            what, bad = description(batch, output), bad_column(batch, output)
            batch.order.report().unwritten(error, what, bad)
    at_once = AT_ONCE if len(closing) > 1 else 0  # one needs no thread
    finished = ahead(lambda finish: finish(), closing, at_once)
    return [_without_address(batch) for each in finished for batch in each["batches"]]


def _without_address(written: WrittenBatch) -> WrittenBatch:
    return written._replace(file=replace(written.file, offsets={}))
