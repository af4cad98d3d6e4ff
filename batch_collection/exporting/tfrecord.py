"""TFRecord files of ``tf.train.Example``, written without TensorFlow.

The framing (TensorFlow's record_writer.h) and the three messages (feature.proto) are small
and have not changed since 2015; the libraries that write them without TensorFlow are not kept up.
Tests read the files with TensorFlow's own parser.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import google_crc32c

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["example", "framed"]


_MASK = 0xA282EAD8
_BYTES, _FLOATS, _INTEGERS = 1, 2, 3  # fields of a Feature
_LENGTH_DELIMITED = 2  # the only wire type that is needed


def framed(record: bytes) -> bytes:
    """Return a record as it stands in a file: length, its checksum, the record, its checksum."""
    length = struct.pack("<Q", len(record))
    return length + _checksum(length) + record + _checksum(record)


def example(features: Mapping[str, Sequence[Any]]) -> bytes:
    """Return a serialized ``tf.train.Example``.

    A feature is a list: of bytes, text (UTF-8), floats (32 bits in the format) or integers (64). An
    empty list is a feature without values, which parsers take for a missing one.
    """
    entries = (
        _field(1, _field(1, name.encode()) + _field(2, _feature(values)))
        for name, values in features.items()
    )
    return _field(1, b"".join(entries))


def _checksum(content: bytes) -> bytes:
    found = google_crc32c.value(content)
    return struct.pack("<I", (((found >> 15) | (found << 17)) + _MASK) & 0xFFFFFFFF)


def _feature(values: Sequence[Any]) -> bytes:
    if not values:
        return b""
    first = values[0]
    if isinstance(first, float):
        packed = struct.pack(f"<{len(values)}f", *values)
        return _field(_FLOATS, _field(1, packed))
    if isinstance(first, int):
        return _field(_INTEGERS, _field(1, b"".join(map(_number, values))))
    texts = (value.encode() if isinstance(value, str) else value for value in values)
    return _field(_BYTES, _repeated(texts))


def _repeated(values: Iterable[bytes]) -> bytes:
    return b"".join(_field(1, value) for value in values)


def _field(number: int, content: bytes) -> bytes:
    return _number(number << 3 | _LENGTH_DELIMITED) + _number(len(content)) + content


def _number(value: int) -> bytes:
    """Return a varint; a negative one is its two's complement in 64 bits."""
    value &= 0xFFFFFFFFFFFFFFFF
    if value < 0x80:  # noqa: PLR2004 - seven bits a byte
        return bytes((value,))
    parts = bytearray()
    while value >= 0x80:  # noqa: PLR2004
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)
