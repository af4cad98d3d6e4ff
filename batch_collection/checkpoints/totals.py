"""What a whole log adds up to, entries that were folded included; how many windows it closed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch_collection.checkpoints.batch_table import LISTED, listed
from batch_collection.checkpoints.checkpoint import read_starts
from batch_collection.checkpoints.gathered import gathered
from batch_collection.log.expiry import first_kept
from batch_collection.log.sums import Sums
from batch_collection.windows import microseconds

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    import numpy.typing as npt

    from batch_collection.checkpoints.checkpoint import Summary
    from batch_collection.log.entry import Entry
    from batch_collection.log.expiry import Expiry
    from batch_collection.storage.contract import Storage

__all__ = ["WindowCounts", "folded_sums", "summed", "window_counts"]


class WindowCounts(NamedTuple):
    """Windows up to the boundary: with rows, and without."""

    closed: int
    empty: int


def summed(storage: Storage, newest: Entry, expiry: Expiry | None) -> Sums:
    """Sum all entries up, those that were folded, too."""
    parts = gathered(
        storage,
        first_kept(expiry),
        newest.cycle,
        lambda summary: summary.sums,
        lambda entries: Sums.total(map(Sums.of, entries)),
    )
    return Sums.total([folded_sums(expiry), *parts])


def folded_sums(expiry: Expiry | None) -> Sums:
    """Return the sums of the entries that an expiry has folded."""
    if expiry is None or expiry.folded is None:
        return Sums()
    folded = expiry.folded
    return Sums.of(folded.last)._replace(
        rows=folded.rows,
        late_rows=folded.late_rows,
        files=folded.files,
        bytes=folded.bytes,
        closed_windows=folded.closed_windows,
        empty_windows=folded.empty_windows,
    )


def window_counts(
    storage: Storage, newest: Entry, expiry: Expiry | None, sums: Sums
) -> WindowCounts:
    """Count each window that ever had rows, or was closed without any, once.

    Entries say what a window was when it was closed. A late row may come for one that was empty, or
    lies before all that were closed; and earlier versions took windows for empty that were not. So
    where there are such rows, windows are counted by the listing. What is folded stays as it was
    then: a late row that comes still later changes nothing.

    Args:
        storage: Where the log lies.
        newest: The newest entry.
        expiry: What is expired of it.
        sums: Those of all entries: ``summed``.
    """
    more = (0, 0) if expiry is None or expiry.folded is None else expiry.folded.more
    closed, empty = sums.closed_windows, sums.empty_windows
    if newest.boundary is not None and (sums.late_rows or newest.unsure is not None):
        closed, empty = _by_listing(storage, newest, newest.boundary, expiry, sums)
    return WindowCounts(closed + more[0], empty + more[1])


def _by_listing(
    storage: Storage, newest: Entry, boundary: datetime, expiry: Expiry | None, sums: Sums
) -> tuple[int, int]:
    """Count by the windows that have files; each since the first one was closed in one way."""
    passed = sums.closed_windows + sums.empty_windows
    first = boundary - passed * newest.interval
    folded = folded_sums(expiry)
    starts = _starts(storage, newest, boundary, expiry)
    since = int(np.count_nonzero(starts >= microseconds(first)))
    kept = passed - folded.closed_windows - folded.empty_windows
    return folded.closed_windows + len(starts), folded.empty_windows + kept - since


def _starts(
    storage: Storage, newest: Entry, boundary: datetime, expiry: Expiry | None
) -> npt.NDArray[np.int64]:
    """Return the windows with rows that entries closed which are in the log, in microseconds."""
    end = pc.field("window_end")
    where = end <= _instant(boundary)
    early: Iterable[datetime] = ()
    if expiry is not None and expiry.folded is not None:
        last = expiry.folded.last.boundary
        early = expiry.folded.early
        where &= end > _instant(last) if last is not None else pc.scalar(value=True)

    def of_checkpoint(summary: Summary) -> pa.Array | None:
        return read_starts(storage, summary, where)

    def of_entries(entries: Iterable[Entry]) -> pa.Array:
        return listed(entries).filter(where).column("window_start").unique()

    parts = [*gathered(storage, first_kept(expiry), newest.cycle, of_checkpoint, of_entries)]
    starts = pa.chunked_array(parts, LISTED.field("window_start").type).cast(pa.int64())
    passed = [microseconds(start) for start in early if start + newest.interval <= boundary]
    return np.union1d(starts.to_numpy(), np.array(passed, np.int64))


def _instant(instant: datetime) -> pa.Scalar:
    return pa.scalar(instant, LISTED.field("window_end").type)
