"""Rows of any windows, window by window; those of one window, by whether they may wait."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch_collection.windows import microseconds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime, timedelta

    from transforms.elements.order import Order


__all__ = ["split_ahead", "split_by_window"]


def split_by_window(rows: pa.Table, interval: timedelta) -> Iterator[tuple[int, pa.Table]]:
    """Yield each window's start (microseconds since the Unix epoch) and its rows in their order."""
    if not rows.num_rows:
        return
    length = microseconds(interval)
    starts = rows.column("row_time").to_numpy() // length * length
    if np.any(starts[1:] < starts[:-1]):
        order = np.argsort(starts, kind="stable")
        starts, rows = starts[order], rows.take(pa.array(order))
    borders = [0, *(np.flatnonzero(np.diff(starts)) + 1).tolist(), rows.num_rows]
    for first, end in pairwise(borders):
        yield int(starts[first]), rows.slice(first, end - first)


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
