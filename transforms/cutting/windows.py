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

    import numpy.typing as npt

    from transforms.elements.order import Order


__all__ = ["is_scattered", "split_ahead", "split_by_window"]

_WORTH_A_SLICE = 256
"""Rows that a run of one window must have on average: fewer are sorted, which copies all of them,
but has no price a run."""


def is_scattered(rows: pa.Table, interval: timedelta) -> bool:
    """Tell whether rows are so much out of order that they are sorted to be split."""
    starts = _starts(rows, interval)
    return _go_back(starts, run_starts(starts))


def split_by_window(rows: pa.Table, interval: timedelta) -> Iterator[tuple[int, pa.Table]]:
    """Yield each window's start (microseconds since the Unix epoch) and its rows in their order."""
    if not rows.num_rows:
        return
    starts = _starts(rows, interval)
    runs = run_starts(starts)
    if _go_back(starts, runs):
        order = np.argsort(starts, kind="stable")
        starts, rows = starts[order], rows.combine_chunks().take(pa.array(order))
        runs = run_starts(starts)
    parts: dict[int, list[pa.Table]] = defaultdict(list)
    for first, end in pairwise([*runs.tolist(), rows.num_rows]):
        parts[int(starts[first])].append(rows.slice(first, end - first))
    for start, tables in sorted(parts.items(), key=itemgetter(0)):
        yield start, tables[0] if len(tables) == 1 else pa.concat_tables(tables)


def _starts(rows: pa.Table, interval: timedelta) -> npt.NDArray[np.int64]:
    length = microseconds(interval)
    return rows.column("row_time").to_numpy() // length * length


def _go_back(starts: npt.NDArray[np.int64], runs: npt.NDArray[np.int64]) -> bool:
    """Tell whether windows come again and again, in short runs."""
    is_short = len(runs) * _WORTH_A_SLICE > len(starts)
    return is_short and bool(np.any(np.diff(starts[runs]) < 0))


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
