"""The fast way for most JSON messages: columns made in C, in one pass over their bytes.

``plain_json.c`` takes the messages that are plain, and leaves out the others, which
``json_rows`` reads. Where it was not compiled, all are left to that.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from transforms.decoding.json_instants import as_texts, with_instants
from transforms.sources.foreign_array import foreign_array

if TYPE_CHECKING:
    import numpy.typing as npt

    from transforms.decoding.plain_json import _Column, _Shape

__all__ = ["Plain", "PlainReader", "is_built", "plain_reader", "truncated_power"]


def is_built() -> bool:
    """Tell whether it was compiled when this was installed."""
    return find_spec("transforms.decoding.plain_json") is not None


if is_built():
    from transforms.decoding import plain_json


class Plain(NamedTuple):
    """What the plain ones of some messages hold.

    ``values``: one of each, as an array of the reader's type; ``is_plain``: which of the messages
    they are.
    """

    values: Any
    is_plain: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class PlainReader:
    """Reads messages as values of a type: that of an object, or of a list of objects."""

    type_: pa.DataType
    texts: pa.DataType  # with instants as they are sent
    shape: _Shape

    def read(self, messages: pa.BinaryArray, numbers: npt.NDArray[np.int64]) -> Plain:
        """Return what plain messages hold, of those with ``numbers``, none of which is null.

        A text that is no instant where there must be one makes none of the messages plain.
        """
        _, bounds, content = messages.buffers()
        chosen = np.ascontiguousarray(numbers, np.int64)
        column, told = plain_json.read_plain(
            self.shape,
            0 if content is None else content.address,
            bounds.address + 4 * messages.offset,
            chosen.ctypes.data,
            len(chosen),
        )
        is_plain = np.frombuffer(pa.foreign_buffer(*told), np.bool_)
        try:
            return Plain(with_instants(_array(column, self.texts), self.type_), is_plain)
        except pa.ArrowInvalid:  # who knows why says so
            return Plain(pa.array([], self.type_), np.zeros(len(numbers), np.bool_))


@lru_cache(maxsize=256)
def plain_reader(type_: pa.DataType) -> PlainReader | None:
    """Return what reads messages fast as values of a type; None: nothing does here."""
    if not is_built():
        return None
    _know_powers()
    texts = as_texts(type_)
    shape = _shape(b"", texts)
    return None if shape is None else PlainReader(type_, texts, shape)


def truncated_power(power: int) -> tuple[int, int]:
    """Return the upper 128 bits of ``5 ** power``, as two of 64; those of fractions rounded up."""
    if power >= 0:
        five = 5**power
        shift = five.bit_length() - 128
        bits = five >> shift if shift > 0 else five << -shift
    else:
        five = 5**-power
        bits = (1 << (five.bit_length() + 127)) // five + 1
    return bits >> 64, bits & (2**64 - 1)


@cache
def _know_powers() -> None:
    powers = [truncated_power(power) for power in range(-342, 309)]
    plain_json.know_powers(np.array(powers, np.uint64).tobytes())


_KINDS = {
    pa.null(): (b"n", 0),
    pa.bool_(): (b"b", 1),
    pa.int8(): (b"i", 1),
    pa.int16(): (b"i", 2),
    pa.int32(): (b"i", 4),
    pa.int64(): (b"i", 8),
    pa.uint8(): (b"u", 1),
    pa.uint16(): (b"u", 2),
    pa.uint32(): (b"u", 4),
    pa.uint64(): (b"u", 8),
    pa.float64(): (b"d", 8),
    pa.string(): (b"t", 4),
    pa.binary(): (b"t", 4),
}


def _shape(name: bytes, type_: pa.DataType) -> _Shape | None:
    if any(byte < ord(" ") or byte in b'"\\' for byte in name):  # escaped where it is sent
        return None
    if type_ in _KINDS:
        kind, width = _KINDS[type_]
        return kind, width, name, ()
    if pa.types.is_struct(type_):
        kind, width, inner = b"s", 0, [_shape(each.name.encode(), each.type) for each in type_]
    elif pa.types.is_list(type_):
        kind, width, inner = b"l", 4, [_shape(b"", type_.value_type)]
    else:
        return None
    fields = tuple(each for each in inner if each is not None)
    return (kind, width, name, fields) if len(fields) == len(inner) else None


def _array(column: _Column, type_: pa.DataType) -> pa.Array:
    rows, nulls, validity, values, content, fields = column
    if pa.types.is_null(type_):
        return pa.nulls(rows)
    buffers = [] if pa.types.is_struct(type_) else [values]
    if type_ in (pa.string(), pa.binary()):
        buffers.append(content)
    inner = [type_.field(place).type for place in range(type_.num_fields)]
    children = [_array(*each) for each in zip(fields, inner, strict=True)]
    return foreign_array(type_, rows, buffers, nulls, validity, children)
