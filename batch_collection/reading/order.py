"""In what order rows come: pieces of files, permuted or not, cut in shards and in blocks.

All of it is arithmetic on row counts: no row is read, and the same counts and the same seed give
the same order with any version of anything.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy.typing as npt

__all__ = [
    "Block",
    "Slice",
    "blocks",
    "hashed",
    "is_built",
    "permutation",
    "shard_range",
    "worker_range",
]


@cache
def is_built() -> bool:
    """Tell whether what sorts in C was compiled when this was installed."""
    return find_spec("batch_collection.reading.random_order") is not None


if is_built():
    from batch_collection.reading import random_order

_MASK = 2**64 - 1

_IN_CACHE = 2**14
"""Hashes that are made at once: so many stay close to the processor."""

_BUCKET_BITS = 9
"""A bucket holds 2 ** 9 numbers, or half as many: 4 KB, which stay close, too."""


class Slice(NamedTuple):
    """Rows ``[start, stop)`` of a piece."""

    piece: int
    start: int
    stop: int


class Block(NamedTuple):
    """What is read at once: ``rows`` rows, the first of which is row ``first`` of the sequence."""

    first: int
    rows: int
    slices: tuple[Slice, ...]


def hashed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Scramble 64-bit integers, one to one (the finalizer of SplitMix64, Steele et al. 2014)."""
    return _scramble(values.copy())


def permutation(count: int, *key: int) -> npt.NDArray[np.int64]:
    """Return a random order of ``count`` things, the same for the same key.

    numpy promises no version its permutations; hence places are sorted by the hashes of their
    numbers, of which no two are the same.
    """
    state = np.zeros(1, np.uint64)
    for part in key:
        state = hashed(state ^ np.uint64(part & _MASK))
    found = _sorted_fast(count, int(state[0])) if is_built() else None
    if found is None:
        places = np.arange(count, dtype=np.uint64)
        found = _argsorted(_scramble(_scramble(places) ^ state))
    return found


def _sorted_fast(count: int, state: int) -> npt.NDArray[np.int64] | None:
    """Do it in C, in memory that stays with Arrow; None: hashes fell too close together."""
    bits = max((count - 1).bit_length() - _BUCKET_BITS, 1)
    expected = count >> bits
    room = expected + expected // 4 + 64  # eight standard deviations more
    buckets, order = pa.allocate_buffer(8 * room << bits), pa.allocate_buffer(8 * count)
    is_done = random_order.sort_numbers(state, count, bits, room, buckets.address, order.address)
    return np.frombuffer(order, np.int64, count) if is_done else None


def _argsorted(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Sort by the first 16 bits, which numpy does by counting, then what is nearly in order."""
    order = np.argsort((hashes >> np.uint64(48)).astype(np.uint16), kind="stable")
    return order[np.argsort(hashes[order], kind="stable")]


def _scramble(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        for first in range(0, len(values), _IN_CACHE):
            part = values[first : first + _IN_CACHE]
            part += np.uint64(0x9E3779B97F4A7C15)
            part ^= part >> np.uint64(30)
            part *= np.uint64(0xBF58476D1CE4E5B9)
            part ^= part >> np.uint64(27)
            part *= np.uint64(0x94D049BB133111EB)
            part ^= part >> np.uint64(31)
    return values


def shard_range(rows: int, index: int, count: int) -> tuple[int, int]:
    """Return the rows ``[low, high)`` of shard ``index``: shards differ by one row at most."""
    return rows * index // count, rows * (index + 1) // count


def worker_range(rows: int, batch_size: int, index: int, count: int) -> tuple[int, int]:
    """Return a loader worker's rows of a shard's: whole batches, so that all cut the same ones."""
    batches = -(-rows // batch_size)
    low, high = shard_range(batches, index, count)
    return min(low * batch_size, rows), min(high * batch_size, rows)


def blocks(
    rows: Callable[[int], int], order: Iterable[int], low: int, high: int, size: Callable[[], int]
) -> Iterator[Block]:
    """Cut rows ``[low, high)`` of the pieces, taken in ``order``, in blocks.

    A block ends with the piece that brings it to ``size()`` rows, so that no piece is read twice
    but where shards meet; it is asked for each block anew. ``rows`` tells the rows of a piece when
    it is come to; ``first`` counts from ``low``. All may end before ``high``.
    """
    slices: list[Slice] = []
    at = held = first = 0
    for piece in order:
        count = rows(piece)
        start, stop = max(low - at, 0), min(high - at, count)
        at += count
        if start < stop:
            slices.append(Slice(int(piece), start, stop))
            held += stop - start
        if slices and (at >= high or held >= size()):
            yield Block(first, held, tuple(slices))
            first, held, slices = first + held, 0, []
        if at >= high:
            return
    if slices:
        yield Block(first, held, tuple(slices))
