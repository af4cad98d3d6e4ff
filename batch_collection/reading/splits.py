"""Which side of a split a row is on: told by a hash of its key, and by nothing else."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch_collection.errors import CollectionError
from batch_collection.field_path import split_path
from batch_collection.given import mapping
from batch_collection.reading.order import hashed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

__all__ = ["Side", "leaf", "leaf_at", "leaf_type", "sides", "skewed"]


_WHOLE = 2**64
_NULL = b"\x00null"


@dataclass(frozen=True, slots=True)
class Side:
    """The rows whose key's hash lies in ``[low, high)``, of the 2**64 hashes that there are."""

    by: tuple[str, ...]
    low: int
    high: int
    salt: str = ""

    def __str__(self) -> str:
        """Say it in the words of the call that made it."""
        part = f"{self.low / 2**64:.6g} to {self.high / 2**64:.6g}"
        return f"{part} by {','.join(self.by)}{self.salt and f' ({self.salt})'}"

    def chosen(self, rows: pa.Table) -> npt.NDArray[np.bool_]:
        """Tell of each row whether it is on this side."""
        hashes, *others = (_hashes(leaf(rows, name), name, self.salt) for name in self.by)
        known, codes = hashed(hashes.known), hashes.codes
        if others:  # rows are told by several
            known = known.take(codes)
            for other in others:
                known = hashed(known ^ other.known.take(other.codes))
        chosen = (known >= np.uint64(self.low)) & (known <= np.uint64(self.high - 1))
        return chosen if others else chosen.take(codes)


def sides(fractions: Mapping[str, float], by: tuple[str, ...], salt: str) -> dict[str, Side]:
    """Give each name its fraction of the hashes, in the order given.

    Raises:
        CollectionError: the fractions are no parts of a whole.
    """
    values = list(mapping("fractions", fractions, "{'train': 0.8, 'test': 0.2}").values())
    if not all(isinstance(value, Real) and not isinstance(value, bool) for value in values):
        message = f"fractions must be numbers, got {dict(fractions)}"
        raise CollectionError(message)
    if not values or not (min(values) > 0 and math.fsum(values) <= 1 + 1e-9):
        message = f"fractions must be above 0 and add up to 1 at most, got {dict(fractions)}"
        raise CollectionError(message)
    ends = [round(min(math.fsum(values[: i + 1]), 1) * _WHOLE) for i in range(len(values))]
    if math.isclose(math.fsum(values), 1):
        ends[-1] = _WHOLE
    starts = [0, *ends[:-1]]
    return {
        name: Side(by, low, high, salt)
        for name, low, high in zip(fractions, starts, ends, strict=True)
    }


def skewed(sides: Sequence[Side], rows: int, total: int) -> str | None:
    """Say that rows miss the fraction of the keys: half as many as it, or as the rest, or twice."""
    wanted = math.prod((side.high - side.low) / _WHOLE for side in sides)
    if not total or all(
        part / 2 <= found <= part * 2
        for part, found in ((wanted, rows / total), (1 - wanted, 1 - rows / total))
    ):
        return None
    keys = ",".join(dict.fromkeys(name for side in sides for name in side.by))
    side = ", ".join(map(str, sides))
    return (
        f"the side {side} has {rows / total:.1%} of the rows, not {wanted:.1%}: {keys} has few "
        "values, or some with very many rows; split by another key, or with another salt"
    )


def leaf(rows: pa.Table, name: str) -> pa.ChunkedArray:
    """Return a column, or a field of one, by the name that users give it: see ``field_path``."""
    return leaf_at(rows, split_path(name, rows.column_names.__contains__))


def leaf_at(rows: pa.Table, path: Sequence[str]) -> pa.ChunkedArray:
    """Return a column, or a field of one, by its path; null where a row, or the table, lacks it."""
    column = rows.column(path[0])
    if leaf_type(column.type, path[1:]) is None:
        return pa.chunked_array([pa.nulls(rows.num_rows)])
    return pc.struct_field(column, list(path[1:])) if path[1:] else column


def leaf_type(type_: pa.DataType, path: Sequence[str]) -> pa.DataType | None:
    """Return the type of a field by its path, None if there is no such field."""
    for name in path:
        if not pa.types.is_struct(type_) or type_.get_field_index(name) < 0:
            return None
        type_ = type_.field(name).type
    return type_


class _Hashes(NamedTuple):
    """The hash of each value that a column holds, and for each row which of them it has."""

    known: npt.NDArray[np.uint64]
    codes: npt.NDArray[np.int32]


def _hashes(column: pa.ChunkedArray, name: str, salt: str) -> _Hashes:
    """Hash each value; what is equal is hashed once."""
    if pa.types.is_nested(column.type) or pa.types.is_floating(column.type):
        message = (
            f"cannot split by {name}, which is {column.type}; "
            "split by text, an integer, an instant or a field of one of these types"
        )
        raise CollectionError(message)
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", column.type.tz)).cast(pa.int64())
    if pa.types.is_null(column.type):
        column = column.cast(pa.string())
    if not pa.types.is_dictionary(column.type):
        column = column.combine_chunks().dictionary_encode()
    encoded = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(encoded, pa.ChunkedArray):  # no chunk at all
        return _Hashes(np.zeros(0, np.uint64), np.zeros(0, np.int32))
    key = hashlib.blake2b(salt.encode(), digest_size=32).digest() if salt else b""
    values = encoded.dictionary.to_pylist()
    known = np.array([_hash(_text(value), key) for value in [*values, None]], np.uint64)
    codes = encoded.indices
    if codes.null_count:
        codes = codes.fill_null(len(values))
    return _Hashes(known, codes.to_numpy(zero_copy_only=False))


def _text(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    return _NULL if value is None else str(value).encode()


@lru_cache(1 << 14)  # the keys of one file are often those of the others, too
def _hash(text: bytes, key: bytes) -> int:
    found = hashlib.blake2b(text, digest_size=8, key=key)
    return int.from_bytes(found.digest(), "little")
