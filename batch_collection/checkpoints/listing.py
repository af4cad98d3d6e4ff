"""The batches of a log, as a table."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from batch_collection.checkpoints.batch_table import LISTED, listed
from batch_collection.checkpoints.checkpoint import read_rows
from batch_collection.checkpoints.gathered import gathered
from batch_collection.checkpoints.narrowing import Narrowing
from batch_collection.log.expiry import first_kept, undisturbed
from batch_collection.windows import from_microseconds

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from batch_collection.checkpoints.checkpoint import Summary
    from batch_collection.log.entry import Entry
    from batch_collection.log.expiry import Expiry
    from batch_collection.storage.contract import Storage

__all__ = ["hidden", "kept_listing", "listing", "recalled"]


_IN_LOG = [("cycle", "ascending"), ("number", "ascending")]


def listing(storage: Storage, first: int, last: int, narrowing: Narrowing) -> pa.Table:
    """Return the batches of entries ``first`` to ``last`` that ``narrowing`` shows, as ``LISTED``.

    They are in the log's order. Little more is read than what is shown.
    """

    def of_checkpoint(summary: Summary) -> pa.Table | None:
        start, end = summary.latest_start, summary.earliest_end
        if start is None or end is None or not narrowing.may_show(start, end):
            return LISTED.empty_table()
        rows = read_rows(storage, summary, narrowing.windows)
        return None if rows is None else rows.sort_by(_IN_LOG)

    def of_entries(entries: Iterable[Entry]) -> pa.Table:
        return listed(entries).filter(narrowing.windows)

    parts = gathered(storage, first, last, of_checkpoint, of_entries)
    return pa.concat_tables([LISTED.empty_table(), *parts])


def kept_listing(storage: Storage, last: int, narrowing: Narrowing) -> pa.Table:
    """Return the ``listing`` of all entries up to ``last`` in the log, whoever expires some."""
    return undisturbed(
        storage, lambda expiry: listing(storage, first_kept(expiry), last, narrowing)
    )


def recalled(storage: Storage, entry: Entry, before: datetime) -> Entry:
    """Return an entry whose ``open`` names all windows that start ``before`` an instant.

    ``forgotten`` is the earliest of the others.
    """
    table = kept_listing(storage, entry.cycle, Narrowing(start=entry.forgotten))
    is_early = pc.field("timing") == "early"
    if entry.boundary is not None:
        is_early &= pc.field("window_end") > _instant(entry.boundary)
    early = table.filter(is_early)
    is_near = pc.field("window_start") < _instant(before)
    cycles: defaultdict[datetime, set[int]] = defaultdict(set)
    for start, seen in entry.open.items():
        cycles[start].update(seen)
    near = early.filter(is_near).select(["window_start", "cycle"])
    starts = near.column("window_start").cast(pa.int64()).to_pylist()
    for start, cycle in zip(starts, near.column("cycle").to_pylist(), strict=True):
        cycles[from_microseconds(start)].add(cycle)
    earliest = pc.min(early.filter(~is_near).column("window_start").cast(pa.int64())).as_py()
    return replace(
        entry,
        open={start: tuple(sorted(cycles[start])) for start in sorted(cycles)},
        forgotten=None if earliest is None else from_microseconds(earliest),
    )


def _instant(instant: datetime) -> Any:
    return pa.scalar(instant, LISTED.field("window_end").type)


def hidden(expiry: Expiry) -> pc.Expression:
    """Return what holds for batches as ``LISTED`` that an expiry hides: see ``Expiry.hides``."""
    return (pc.field("cycle") <= expiry.through) & (
        pc.field("window_end") <= _instant(expiry.before)
    )
