"""Rows of any windows, window by window; those of one window, by whether they may wait."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch_collection.windows import microseconds
from transforms.elements.partitions import run_starts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime, timedelta

    from transforms.elements.order import Order


__all__ = ["split_ahead", "split_by_window"]

_WORTH_A_SLICE = 256
"""Rows that a run of one window must have on average: fewer are sorted, which copies all of them,
but has no price a run."""


def split_by_window(rows: pa.Table, interval: timedelta) -> Iterator[tuple[int, pa.Table]]:
    """Yield each window's start (microseconds since the Unix epoch) and its rows in their order."""
    if not rows.num_rows:
        return
    length = microseconds(interval)
    starts = rows.column("row_time").to_numpy() // length * length
    runs = run_starts(starts)
    if len(runs) * _WORTH_A_SLICE > rows.num_rows and np.any(np.diff(starts[runs]) < 0):
        order = np.argsort(starts, kind="stable")
        starts, rows = starts[order], rows.take(pa.array(order))
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
