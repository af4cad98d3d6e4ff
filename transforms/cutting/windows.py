"""Rows of any windows, window by window."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from batch_collection.windows import microseconds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta


__all__ = ["split_by_window"]


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
