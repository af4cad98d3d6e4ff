"""Which messages of a source with ids were seen: no id may stand in two places."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch_collection.inspection.positions import Positions

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

__all__ = ["MessageIds"]


_NUMBER = r"^(0|[1-9]\d{0,17})$"  # what is written in one way, and an int64 holds
_MOST = 20  # findings
_MOST_FILES = 4


class _Span(NamedTuple):
    path: str
    first: int
    last: int


class MessageIds:
    """The ids that rows and dead letters have.

    Ids that are decimal numbers, as Pub/Sub's are, are looked at as offsets are (``Positions``):
    memory grows with the gaps between them. Of others each takes some 100 bytes.
    """

    def __init__(self) -> None:
        self._positions = Positions()
        self._numbers: dict[str, int] = {}  # of ids that are no numbers: below zero
        self._texts: list[str] = []
        self._spans: list[_Span] = []

    def rows(self, path: str, ids: pa.ChunkedArray, indexes: npt.NDArray[np.int64]) -> None:
        """Take in the rows of a file: the ids of their messages, their places in these."""
        self._positions.add(self._seen(path, ids), indexes)

    def letters(self, path: str, ids: pa.ChunkedArray) -> None:
        """Take in whole messages."""
        self._positions.add_whole(self._seen(path, ids))

    def findings(self) -> Iterator[str]:
        """Yield what stands in more than one place, with files that may hold it."""
        self._positions.messages()  # notes the last of them
        found = chain.from_iterable(map(self._named, self._positions.repeated))
        for text, number in islice(found, _MOST):
            paths = [span.path for span in self._spans if span.first <= number <= span.last]
            yield f"{text} in more than one place: see {', '.join(paths[:_MOST_FILES])}"

    def _named(self, repeated: tuple[int, int]) -> Iterator[tuple[str, int]]:
        start, end = repeated
        if start >= 0:
            ids = str(start) if end == start + 1 else f"{start} to {end - 1}"
            yield f"rows of message id {ids} are", start
            return
        for number in range(start, end):
            yield f"rows of message id {self._texts[-number - 1]!r} are", number

    def _seen(self, path: str, ids: pa.ChunkedArray) -> Any:
        """Return ids as numbers, and note which of them a file has."""
        is_number = pc.match_substring_regex(ids, _NUMBER)
        numbers = pc.if_else(is_number, ids, "0").cast(pa.int64()).to_numpy().copy()
        texts = np.flatnonzero(~is_number.to_numpy())
        numbers[texts] = [
            self._number(text) for text in ids.filter(pc.invert(is_number)).to_pylist()
        ]
        if len(numbers):
            self._spans.append(_Span(path, int(numbers.min()), int(numbers.max())))
        return numbers

    def _number(self, text: str) -> int:
        number = self._numbers.setdefault(text, -len(self._texts) - 1)
        if -number > len(self._texts):
            self._texts.append(text)
        return number
