"""Sets of message ids, as files hold them and as they are looked up."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

__all__ = ["IdSet"]

_DECIMAL = "^(?:0|[1-9][0-9]{0,18})$"  # each such number has one text, and fits into 64 bits


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
        decimal, numbers, texts = _parted(ids)
        found = np.zeros(len(ids), bool)
        found[decimal] = _among(numbers, self.numbers)
        if len(self.texts) and len(texts):
            found[~decimal] = np.asarray(pc.is_in(texts, value_set=self.texts), bool)
        return found

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


def _parted(ids: pa.Array | pa.ChunkedArray) -> tuple[NDArray[np.bool_], NDArray[np.uint64], Any]:
    """Return of ids which are numbers, those, and the texts that all others are."""
    decimal = pc.match_substring_regex(ids, _DECIMAL)
    numbers = np.asarray(pc.cast(ids.filter(decimal), pa.uint64()), np.uint64)
    return np.asarray(decimal, bool), numbers, ids.filter(pc.invert(decimal))


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
