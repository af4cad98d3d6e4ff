"""How many bytes rows have: the same, whatever chunk, memory or file they are in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["between", "ends_of", "fitting", "row_bytes", "spread"]


def row_bytes(payload: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Return the bytes of the values of each row: of text its UTF-8, of a number as many as it has.

    Neither offsets nor nulls count, nor how the rows are compressed.
    """
    if not len(payload):
        return np.zeros(0, np.int64)
    return np.concatenate([_bytes_of(chunk) for chunk in payload.chunks])


def _bytes_of(array: Any) -> npt.NDArray[np.int64]:
    is_ = pa.types
    if is_.is_struct(array.type):
        total = np.zeros(len(array), np.int64)
        for child in array.flatten():
            total += _bytes_of(child)
        return total
    if is_.is_list(array.type):
        ends = np.concatenate(([0], np.cumsum(_bytes_of(array.values))))
        offsets = array.offsets.to_numpy()
        return np.where(_valid(array), ends[offsets[1:]] - ends[offsets[:-1]], 0)
    if is_.is_string(array.type) or is_.is_binary(array.type):
        return pc.binary_length(array).fill_null(0).to_numpy().astype(np.int64)
    if is_.is_null(array.type):
        return np.zeros(len(array), np.int64)
    return np.where(_valid(array), max(array.type.bit_width // 8, 1), 0)


def _valid(array: pa.Array) -> Any:
    return array.is_valid().to_numpy(zero_copy_only=False) if array.null_count else True


def ends_of(sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return how many bytes come before each row, and behind the last: one number more."""
    return np.concatenate(([0], np.cumsum(sizes)))


def spread(total: int, rows: int) -> npt.NDArray[np.int64]:
    """Return the same for rows that have a total together, each as many as can be."""
    return np.arange(rows + 1) * total // max(rows, 1)


def between(ends: npt.NDArray[np.int64], start: int, rows: int) -> int:
    """Return the bytes of the rows ``[start, start + rows)``."""
    return int(ends[start + rows] - ends[start])


def fitting(ends: npt.NDArray[np.int64], start: int, room: int) -> int:
    """Return how many rows from ``start`` on have no more bytes than there is room for."""
    return max(int(np.searchsorted(ends, ends[start] + room, side="right")) - 1 - start, 0)
