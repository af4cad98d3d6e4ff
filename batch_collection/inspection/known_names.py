"""Which names were seen, in 8 bytes each."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["KnownNames"]


_AT_ONCE = 10_000


class KnownNames:
    """A set of names that keeps only their hashes.

    Python's are 64 bits, keyed anew in each process: that a name passes for one of a million others
    has a chance of 1 to 2**44, and nobody can make one that does.
    """

    def __init__(self) -> None:
        self._hashes = array("q")

    def add(self, name: str) -> None:
        """Take a name in."""
        self._hashes.append(hash(name))

    def unknown(self, names: Iterable[str]) -> Iterator[str]:
        """Yield the names that were never taken in."""
        known = np.sort(np.array(self._hashes, np.int64))
        some: list[str] = []
        for name in names:
            some.append(name)
            if len(some) == _AT_ONCE:
                yield from _missing(some, known)
                some = []
        yield from _missing(some, known)


def _missing(names: list[str], known: np.ndarray) -> Iterator[str]:
    hashes = np.array([hash(name) for name in names], np.int64)
    places = np.searchsorted(known, hashes)
    found = np.append(known, 0)[places] == hashes if len(known) else np.zeros(len(names), bool)
    found &= places < len(known)
    return (name for name, is_known in zip(names, found.tolist(), strict=True) if not is_known)
