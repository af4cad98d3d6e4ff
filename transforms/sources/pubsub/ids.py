"""Sets of message ids, as files hold them and as they are looked up."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batch_collection.errors import CollectionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["IdRuns", "IdSet"]

_DECIMAL = "^(?:0|[1-9][0-9]{0,18})$"  # each such number has one text, and fits into 64 bits
_GROWTH = 2


@dataclass(frozen=True, slots=True, eq=False)
class IdSet:
    """Ids, sorted, each once: those that are plain decimals as numbers, all others as texts.

    They are the ids, not hashes of them: two that met would cost a message.
    """

    numbers: NDArray[np.uint64]
    texts: pa.Array

    @classmethod
    def of(cls, ids: pa.Array | pa.ChunkedArray) -> IdSet:
        """Return the set of some ids, strings, which may come more than once."""
        _, numbers, texts = _parted(ids)
        return cls(_each_once(np.sort(numbers)), _sorted(texts))

    @classmethod
    def union(cls, sets: Iterable[IdSet]) -> IdSet:
        """Return the set of the ids of all."""
        every = list(sets)
        numbers = [np.empty(0, np.uint64), *(each.numbers for each in every)]
        texts = [pa.array([], pa.string()), *(each.texts for each in every)]
        merged = np.sort(np.concatenate(numbers), kind="stable")  # merges what is sorted
        return cls(_each_once(merged), _sorted(pa.chunked_array(texts)))

    def __len__(self) -> int:
        """Return how many ids there are."""
        return len(self.numbers) + len(self.texts)

    @property
    def nbytes(self) -> int:
        """Their bytes in memory."""
        return self.numbers.nbytes + self.texts.nbytes

    def contains(self, ids: pa.Array | pa.ChunkedArray) -> NDArray[np.bool_]:
        """Tell of each of some ids whether it is in the set."""
        return _contained([self], ids)

    def strings(self) -> pa.Array:
        """Return all ids as they came: numbers in their order, then texts in theirs."""
        return pa.concat_arrays([pc.cast(pa.array(self.numbers), pa.string()), self.texts])

    def to_parquet(self, notes: Mapping[str, str] | None = None) -> bytes:
        """Return a file of them: a row an id, in one of two columns. ``notes`` go with them."""
        columns = [
            pa.concat_arrays([pa.array(self.numbers), pa.nulls(len(self.texts), pa.uint64())]),
            pa.concat_arrays([pa.nulls(len(self.numbers), pa.string()), self.texts]),
        ]
        table = pa.table(columns, names=["number", "text"]).replace_schema_metadata(notes)
        sink = io.BytesIO()
        pq.write_table(
            table,
            sink,
            compression="zstd",
            use_dictionary=False,
            column_encoding={"number": "DELTA_BINARY_PACKED", "text": "DELTA_BYTE_ARRAY"},
            write_statistics=False,
        )
        return sink.getvalue()

    @classmethod
    def from_parquet(cls, content: bytes) -> tuple[IdSet, dict[str, str]]:
        """Return the ids and the notes of a file of ``to_parquet``."""
        table = pq.read_table(io.BytesIO(content))
        numbers = np.asarray(table["number"].drop_null(), np.uint64)
        texts = table["text"].drop_null().combine_chunks()
        noted = {
            key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()
        }
        return cls(numbers, texts), noted


class IdRuns:
    """Ids that grow run by run, merged so that few runs are left: a look-up asks each of them.

    Each run is more than twice the next one, so an id is moved once for each doubling.
    """

    def __init__(self, most_bytes: int) -> None:
        """Begin without ids.

        Args:
            most_bytes: how much memory they may take.
        """
        self._most_bytes = most_bytes
        self._runs: list[IdSet] = []

    def __len__(self) -> int:
        """Return how many ids there are, those in two runs twice."""
        return sum(map(len, self._runs))

    @property
    def runs(self) -> int:
        """How many runs there are: not more than the ids doubled."""
        return len(self._runs)

    @property
    def nbytes(self) -> int:
        """Their bytes in memory."""
        return sum(run.nbytes for run in self._runs)

    def add(self, ids: IdSet) -> None:
        """Add a run.

        Raises:
            CollectionError: they take more memory than they may; none is added.
        """
        if self.nbytes + ids.nbytes > self._most_bytes:
            message = (
                f"the ids of {len(self) + len(ids)} messages take "
                f"{self.nbytes + ids.nbytes} bytes, and may take {self._most_bytes}: "
                "remember them for a shorter time, or allow more"
            )
            raise CollectionError(message)
        if len(ids):
            self._runs.append(ids)
        while len(self._runs) > 1 and len(self._runs[-2]) <= _GROWTH * len(self._runs[-1]):
            self._runs[-2:] = [IdSet.union(self._runs[-2:])]

    def contains(self, ids: pa.Array | pa.ChunkedArray) -> NDArray[np.bool_]:
        """Tell of each of some ids whether it is in any run."""
        return _contained(self._runs, ids)


def _parted(ids: pa.Array | pa.ChunkedArray) -> tuple[NDArray[np.bool_], NDArray[np.uint64], Any]:
    """Return of ids which are numbers, those, and the texts that all others are."""
    decimal = pc.match_substring_regex(ids, _DECIMAL)
    numbers = np.asarray(pc.cast(ids.filter(decimal), pa.uint64()), np.uint64)
    return np.asarray(decimal, bool), numbers, ids.filter(pc.invert(decimal))


def _contained(sets: Sequence[IdSet], ids: pa.Array | pa.ChunkedArray) -> NDArray[np.bool_]:
    """Tell of each of some ids whether it is in any set."""
    decimal, numbers, texts = _parted(ids)
    found = np.zeros(len(ids), bool)
    for each in sets:
        found[decimal] |= _among(numbers, each.numbers)
        if len(each.texts) and len(texts):
            found[~decimal] |= np.asarray(pc.is_in(texts, value_set=each.texts), bool)
    return found


def _each_once(ordered: NDArray[np.uint64]) -> NDArray[np.uint64]:
    is_new = np.ones(len(ordered), bool)
    is_new[1:] = ordered[1:] != ordered[:-1]
    return ordered[is_new]


def _sorted(texts: pa.Array | pa.ChunkedArray) -> pa.Array:
    unique = pc.unique(texts)
    return unique.take(pc.sort_indices(unique))


def _among(asked: NDArray[np.uint64], known: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Tell of each number asked for whether it is among sorted ones."""
    if not len(known):
        return np.zeros(len(asked), bool)
    places = np.searchsorted(known, asked)
    return known[np.minimum(places, len(known) - 1)] == asked
