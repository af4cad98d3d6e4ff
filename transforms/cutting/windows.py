"""Rows of any windows, window by window; those of one window, by whether they may wait."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch_collection.windows import microseconds
from transforms.elements.partitions import run_starts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime, timedelta

    import numpy.typing as npt

    from transforms.elements.order import Order


__all__ = ["InWindows", "split_ahead"]

_WORTH_A_SLICE = 256
"""Rows that a run of one window must have on average: fewer are sorted, which copies all of them,
but has no price a run."""


class InWindows(NamedTuple):
    """Rows, and in which windows they are.

    ``starts``: of each row's window, in microseconds since the Unix epoch; ``runs``: the first row
    of each run of rows of one window.
    """

    rows: pa.Table
    starts: npt.NDArray[np.int64]
    runs: npt.NDArray[np.int64]

    @classmethod
    def of(cls, rows: pa.Table, interval: timedelta) -> InWindows:
        """Look at the row times of rows."""
        length = microseconds(interval)
        starts = rows.column("row_time").to_numpy() // length * length
        return cls(rows, starts, run_starts(starts))

    @classmethod
    def joined(cls, parts: Sequence[InWindows]) -> InWindows:
        """Return all rows of parts of one schema, one behind the other."""
        if len(parts) == 1:
            return parts[0]
        starts = np.concatenate([part.starts for part in parts])
        return cls(pa.concat_tables([part.rows for part in parts]), starts, run_starts(starts))

    @property
    def is_scattered(self) -> bool:
        """Whether windows come again and again, in short runs, so that rows are sorted."""
        is_short = len(self.runs) * _WORTH_A_SLICE > len(self.starts)
        return is_short and bool(np.any(np.diff(self.starts[self.runs]) < 0))

    def split(self) -> Iterator[tuple[int, pa.Table]]:
        """Yield each window's start and its rows in their order."""
        rows, starts, runs = self
        if self.is_scattered:
            order = np.argsort(starts, kind="stable")
            starts, rows = starts[order], rows.combine_chunks().take(pa.array(order))
            runs = run_starts(starts)
        parts: dict[int, list[pa.Table]] = defaultdict(list)
        for first, end in pairwise([*runs.tolist(), rows.num_rows]):
            parts[int(starts[first])].append(rows.slice(first, end - first))
        for start, tables in sorted(parts.items(), key=itemgetter(0)):
            yield start, tables[0] if len(tables) == 1 else pa.concat_tables(tables)


def split_ahead(rows: pa.Table, start: datetime, order: Order) -> Iterator[tuple[pa.Table, bool]]:
    """Yield the rows of one window that may wait, then, with True, those too far ahead to.

    Only in the one window that the order's ``ahead_limit`` lies in are rows told apart.
    """
    if start > order.ahead_limit or start + order.interval <= order.ahead_limit:
        yield rows, start > order.ahead_limit
        return
    ahead = pc.greater(rows.column("row_time"), microseconds(order.ahead_limit))
    for part, is_ahead in ((rows.filter(pc.invert(ahead)), False), (rows.filter(ahead), True)):
        if part.num_rows:
            yield part, is_ahead
