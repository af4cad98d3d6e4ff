"""Columns joined and rows taken, also where one array can't hold all: 2 GB of text, say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["chunks_of", "taken"]


_AT_ONCE = 1 << 28
"""Bytes that are taken at once, about, of what is too large for one array."""


def chunks_of(column: pa.ChunkedArray) -> list[pa.Array]:
    """Return a column as one array, or as its chunks where one can't hold it."""
    try:
        whole = column.combine_chunks()
    except pa.ArrowInvalid:
        return list(column.chunks)
    return [pa.array([], column.type) if isinstance(whole, pa.ChunkedArray) else whole]


def taken(rows: pa.Table, places: npt.NDArray[np.int64]) -> pa.Table:
    """Return rows by their places, all of which there must be: nobody looks, which saves half."""
    if not rows.num_columns:  # of which only their number is left, and Arrow forgets it
        return rows.slice(0, len(places))
    try:
        return pc.take(rows, pa.array(places), boundscheck=False)
    except pa.ArrowInvalid:  # it joins the chunks first, which is too much for one
        count = -(-rows.nbytes // _AT_ONCE)
        parts = np.array_split(places, max(min(count, len(places)), 1))
        return pa.concat_tables([_taken_apart(rows.to_batches(), part) for part in parts])


def _taken_apart(chunks: list[pa.RecordBatch], places: npt.NDArray[np.int64]) -> pa.Table:
    """Take rows of each chunk alone, then put them in order; fewer at once, if they are large."""
    ends = np.cumsum([0, *map(len, chunks)])
    by_place = np.argsort(places, kind="stable")
    cuts = np.searchsorted(places[by_place], ends)
    found = [
        chunk.take(pa.array(places[by_place[low:high]] - start))
        for chunk, start, low, high in zip(chunks, ends, cuts, cuts[1:], strict=False)
    ]
    try:
        return _in_order(found, np.argsort(by_place))
    except pa.ArrowInvalid:
        if len(places) == 1:
            raise
        halves = np.array_split(places, 2)
        return pa.concat_tables([_taken_apart(chunks, half) for half in halves])


def _in_order(parts: list[pa.RecordBatch], order: npt.NDArray[np.int64]) -> pa.Table:
    return pa.Table.from_batches(parts).take(pa.array(order))
