"""The batches of a log, as a table."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa

from batch_collection.batch_table import LISTED, listed
from batch_collection.checkpoint import read_rows
from batch_collection.gathered import gathered

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batch_collection.checkpoint import Summary
    from batch_collection.entry import Entry
    from batch_collection.narrowing import Narrowing
    from batch_collection.storage import Storage

__all__ = ["listing", "listing_by", "listing_of"]

_IN_LOG = [("cycle", "ascending"), ("number", "ascending")]


def listing(storage: Storage, first: int, last: int, narrowing: Narrowing) -> pa.Table:
    """Return the batches of entries ``first`` to ``last`` that ``narrowing`` shows, as ``LISTED``.

    They are in the log's order. Little more is read than what is shown.
    """
    of_checkpoint = partial(listing_of, storage, narrowing)
    of_entries = partial(listing_by, narrowing)
    parts = gathered(storage, first, last, of_checkpoint, of_entries)
    return pa.concat_tables([LISTED.empty_table(), *parts])


def listing_of(storage: Storage, narrowing: Narrowing, summary: Summary) -> pa.Table | None:
    """Return the same of the entries of a checkpoint, None if it can't be told from that."""
    start, end = summary.latest_start, summary.earliest_end
    if start is None or end is None or not narrowing.may_show(start, end):
        return LISTED.empty_table()
    rows = read_rows(storage, summary, narrowing.windows)
    return None if rows is None else rows.sort_by(_IN_LOG)


def listing_by(narrowing: Narrowing, entries: Iterable[Entry]) -> pa.Table:
    """Return the same of some entries."""
    return listed(entries).filter(narrowing.windows)
