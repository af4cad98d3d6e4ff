"""What a row holds, and the account of those that came."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bench.readers.contract import ID, VALUE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.readers.contract import Batch

__all__ = ["Account", "WrongRowsError", "total", "values"]


class WrongRowsError(Exception):
    """Other rows came than the collection has."""


def values(ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the values of rows: fractions of 24 bits, which floats of 32 hold, too."""
    mixed = (ids * 2_654_435_761) & 0xFFFFFFFF
    return (mixed >> 8) / float(1 << 24)


class Account:
    """Which rows of a collection came, each with its value, and none of them twice."""

    def __init__(self, rows: int) -> None:
        """Expect rows 0 to ``rows`` - 1."""
        self._seen = np.zeros(rows, dtype=bool)
        self._rows = 0

    def take(self, batches: Sequence[Batch]) -> None:
        """Note the rows of some batches.

        Raises:
            WrongRowsError: one is none of the collection.
        """
        ids = np.asarray(_joined([batch[ID] for batch in batches]), dtype=np.int64)
        found = _joined([batch[VALUE] for batch in batches])
        self._rows += len(ids)
        if len(ids) and not 0 <= ids.min() <= ids.max() < len(self._seen):
            message = f"ids from {ids.min():,} to {ids.max():,} of {len(self._seen):,} rows"
            raise WrongRowsError(message)
        if not np.array_equal(found, values(ids)):
            message = f"values of others stand beside ids, first beside {ids[0]:,}"
            raise WrongRowsError(message)
        self._seen[ids] = True

    def close(self, *, whole: bool) -> None:
        """See that no row came twice, and, after a ``whole`` epoch, that all came.

        Raises:
            WrongRowsError: it is not so.
        """
        distinct = int(self._seen.sum())
        if self._rows != distinct or (whole and distinct != len(self._seen)):
            message = (
                f"{self._rows:,} rows came, {distinct:,} different ones of {len(self._seen):,}"
            )
            raise WrongRowsError(message)


def total(batches: Sequence[Batch]) -> float:
    """Return the sum of all numbers in some batches: every one is looked at, at little cost."""
    return float(sum(_joined([batch[name] for batch in batches]).sum() for name in (ID, VALUE)))


def _joined(columns: Sequence[Any]) -> npt.NDArray[Any]:
    """Return one array of all, whatever framework they are of."""
    if type(columns[0]).__module__.startswith("torch"):
        import torch  # noqa: PLC0415 - it is there, since this is a tensor

        return torch.cat(list(columns)).numpy()  # type: ignore[no-any-return, unused-ignore]
    return np.concatenate([np.asarray(column) for column in columns])
