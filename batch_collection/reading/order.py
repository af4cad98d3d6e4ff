"""In what order rows come: pieces of files, permuted or not, cut in shards and in blocks.

All of it is arithmetic on row counts: no row is read, and the same counts and the same seed give
the same order with any version of anything.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

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
    with np.errstate(over="ignore"):
        mixed = values + np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(30)
        mixed *= np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= mixed >> np.uint64(27)
        mixed *= np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
        return mixed


def permutation(count: int, *key: int) -> npt.NDArray[np.int64]:
    """Return a random order of ``count`` things, the same for the same key.

    numpy promises no version its permutations; hence the hashes.
    """
    state = np.zeros(1, np.uint64)
    for part in key:
        state = hashed(state ^ np.uint64(part & _MASK))
    return argsorted(hashed(_places(count) ^ state))


@lru_cache(2)
def _places(count: int) -> npt.NDArray[np.uint64]:
    """Hash places; blocks have about as many rows, one like the other."""
    return hashed(np.arange(count, dtype=np.uint64))


def argsorted(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Return what sorts hashes: just what ``np.argsort(keys, kind="stable")`` gives, but sooner.

    numpy sorts 16 bits by counting, and what is nearly in order with few steps.
    """
    order = np.argsort((keys >> np.uint64(48)).astype(np.uint16), kind="stable")
    return order[np.argsort(keys[order], kind="stable")]


def shard_range(rows: int, index: int, count: int) -> tuple[int, int]:
    """Return the rows ``[low, high)`` of shard ``index``: shards differ by one row at most."""
    return rows * index // count, rows * (index + 1) // count


def worker_range(rows: int, batch_size: int, index: int, count: int) -> tuple[int, int]:
    """Return a loader worker's rows of a shard's: whole batches, so that all cut the same ones."""
    batches = -(-rows // batch_size)
    low, high = shard_range(batches, index, count)
    return min(low * batch_size, rows), min(high * batch_size, rows)


def blocks(
    rows: Sequence[int], order: Iterable[int], low: int, high: int, size: Callable[[], int]
) -> Iterator[Block]:
    """Cut rows ``[low, high)`` of the pieces, taken in ``order``, in blocks.

    A block ends with the piece that brings it to ``size()`` rows, so that no piece is read twice
    but where shards meet; it is asked for each block anew. ``rows`` tells the rows of each piece;
    ``first`` counts from ``low``.
    """
    slices: list[Slice] = []
    at = held = first = 0
    for piece in order:
        start, stop = max(low - at, 0), min(high - at, rows[piece])
        at += rows[piece]
        if start < stop:
            slices.append(Slice(int(piece), start, stop))
            held += stop - start
        if slices and (at >= high or held >= size()):
            yield Block(first, held, tuple(slices))
            first, held, slices = first + held, 0, []
        if at >= high:
            break
