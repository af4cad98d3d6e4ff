"""The batches of a log, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from batch_collection.batch_table import LISTED, listed
from batch_collection.checkpoint import read_rows
from batch_collection.gathered import gathered

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batch_collection.checkpoint import Summary
    from batch_collection.entry import Entry
    from batch_collection.expiry import Expiry
    from batch_collection.narrowing import Narrowing
    from batch_collection.storage import Storage

__all__ = ["hidden", "listing"]

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


def hidden(expiry: Expiry) -> pc.Expression:
    """Return what holds for batches as ``LISTED`` that an expiry hides: see ``Expiry.hides``."""
    before = pa.scalar(expiry.before, LISTED.field("window_end").type)
    return (pc.field("cycle") <= expiry.through) & (pc.field("window_end") <= before)
