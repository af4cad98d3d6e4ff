"""What a column of partitions has of each, from its runs: messages come some thousands in a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

__all__ = ["Partitions", "run_starts"]


@dataclass(frozen=True, slots=True)
class Partitions:
    """The partitions of some messages, or rows. What is asked is answered by partition, sorted.

    Attributes:
        numbers: each partition once.
        starts: where runs of one partition begin.
        places: for each run, the place of its partition in ``numbers``.
        rows: how many there are in all.
    """

    numbers: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]
    rows: int

    @classmethod
    def of(cls, column: pa.ChunkedArray | pa.Array) -> Partitions:
        """Find the runs of a column without nulls."""
        partitions = column.to_numpy()
        starts = run_starts(partitions)
        numbers, places = np.unique(partitions[starts], return_inverse=True)
        return cls(numbers, starts, places.reshape(-1), len(partitions))

    def counts(self) -> dict[int, int]:
        """Return how many there are of each."""
        found = np.zeros(len(self.numbers), np.int64)
        np.add.at(found, self.places, np.diff(self.starts, append=self.rows))
        return self._told(found)

    def count(self, chosen: npt.NDArray[np.int64]) -> dict[int, int]:
        """Return how many of each are chosen, by their places among all."""
        runs = np.searchsorted(self.starts, chosen, side="right") - 1
        return self._told(np.bincount(self.places[runs], minlength=len(self.numbers)))

    def least(self, values: npt.NDArray[np.int64]) -> dict[int, int]:
        """Return the least value of each."""
        found = np.full(len(self.numbers), np.iinfo(np.int64).max)
        np.minimum.at(found, self.places, np.minimum.reduceat(values, self.starts))
        return self._told(found)

    def most(self, values: npt.NDArray[np.int64]) -> dict[int, int]:
        """Return the greatest value of each."""
        found = np.full(len(self.numbers), np.iinfo(np.int64).min)
        np.maximum.at(found, self.places, np.maximum.reduceat(values, self.starts))
        return self._told(found)

    def _told(self, found: npt.NDArray[np.int64]) -> dict[int, int]:
        return dict(zip(self.numbers.tolist(), found.tolist(), strict=True))


def run_starts(values: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """Return where runs of equal values begin; nowhere, if there are none."""
    if not len(values):
        return np.zeros(0, np.int64)
    return np.concatenate(([0], np.flatnonzero(values[1:] != values[:-1]) + 1))
