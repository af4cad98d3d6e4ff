"""Messages that are no JSON, told by their first bytes."""

from __future__ import annotations

import gzip

import pytest

from tests.decoding import decoded, errors, rows
from transforms.decoding.foreign_bytes import told_by_bytes

OBJECT = '{"a":1}'


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (
            b"\0\0\0\0\x05" + OBJECT.encode(),
            "but JSON framed for a schema registry (schema id 5); ",
        ),
        (
            b"\0\0\0\1\0\x02\xfe",
            "but Avro or Protobuf framed for a schema registry (schema id 256)",
        ),
        (
            b"\xef\xbb\xbf" + OBJECT.encode(),
            "but JSON behind a byte order mark; send UTF-8 without",
        ),
        (gzip.compress(OBJECT.encode(), mtime=0), "but gzip; send it uncompressed"),
        (OBJECT.encode("utf-16"), "but UTF-16; send UTF-8"),
        (OBJECT.encode("utf-16-le"), "but UTF-16; send UTF-8"),
        (OBJECT.encode("utf-16-be"), "but UTF-16; send UTF-8"),
        ("[]".encode("utf-16-be"), "but UTF-16; send UTF-8"),
        (b"\x28\xb5\x2f\xfd\x01", "but zstd; "),
    ],
)
def test_the_cause_is_named(message: bytes, told: str) -> None:
    """Its neighbours are rows, as ever."""
    done = decoded(b'{"a":1}', message, b'{"a":2}')
    assert rows(done) == [{"a": 1}, {"a": 2}]
    assert errors(done)[1].startswith(f"not JSON {told}")
    assert errors(done)[1].endswith("; --input_format=bytes keeps messages as they are")


@pytest.mark.parametrize(
    "message",
    [b"", b"hello", b"\0", b"\0\0\0\0\1", bytes(range(9)), bytes(9), b"{", OBJECT.encode()],
)
def test_what_tells_nothing_is_nothing_special(message: bytes) -> None:
    """The parser's own reason stays."""
    assert told_by_bytes(message) is None
