"""In what order rows come: pieces of files, permuted or not, cut in shards and in blocks.

All of it is arithmetic on row counts: no row is read, and the same counts and the same seed give
the same order with any version of anything.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy.typing as npt

__all__ = [
    "Block",
    "Slice",
    "argsorted",
    "blocks",
    "hashed",
    "permutation",
    "shard_range",
    "worker_range",
]


_MASK = 2**64 - 1

_IN_CACHE = 2**14
"""Hashes that are made at once: so many stay close to the processor."""

_TILE = 64
_MOST_NEAR = 2**19  # of so many, about eight begin with the same 16 bits


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

    numpy promises no version its permutations; hence the hashes.
    """
    state = np.zeros(1, np.uint64)
    for part in key:
        state = hashed(state ^ np.uint64(part & _MASK))
    keys = np.frombuffer(pa.allocate_buffer(8 * count), np.uint64, count)  # stays with Arrow
    np.bitwise_xor(_places(count.bit_length())[:count], state, out=keys)
    return argsorted(_scramble(keys))


@lru_cache(2)
def _places(bits: int) -> npt.NDArray[np.uint64]:
    """Hash places; blocks have about as many rows, one like the other."""
    return hashed(np.arange(1 << bits, dtype=np.uint64))


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


def argsorted(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Return what sorts hashes: just what ``np.argsort(keys, kind="stable")`` gives, but sooner.

    numpy sorts 16 bits by counting, and a few numbers with one instruction for many of them.
    """
    first = np.empty(len(keys), np.uint16)
    np.right_shift(keys, np.uint64(48), out=first, casting="unsafe")
    order = np.argsort(first, kind="stable")
    if len(keys) > _MOST_NEAR:
        return order[np.argsort(keys[order], kind="stable")]
    return order if _sort_near(order, keys) else np.argsort(keys, kind="stable")


def _sort_near(order: npt.NDArray[np.int64], keys: npt.NDArray[np.uint64]) -> bool:
    """Sort the places of hashes that are, each, less than half a tile from where they belong.

    The last bits of hashes give way to their places, which are sorted with them. False, with
    ``order`` lost, if some are alike without these, or were further away.
    """
    near, bits = order.view(np.uint64), np.uint64(len(keys).bit_length())
    places = np.uint64((1 << int(bits)) - 1)
    parts = [slice(at, at + _IN_CACHE) for at in range(0, len(keys), _IN_CACHE)]
    for part in parts:
        near[part] |= keys.take(order[part]) & ~places
    for start in (0, _TILE // 2):
        stop = start + max(len(near) - start, 0) // _TILE * _TILE
        near[start:stop].reshape(-1, _TILE).sort(axis=1)
        near[stop:].sort()
    last = np.uint64(0)
    for part in parts:
        rest = near[part] >> bits
        if (rest[0] <= last and part.start) or (rest[1:] <= rest[:-1]).any():
            return False
        last = rest[-1]
        near[part] &= places
    return True


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
