"""Bytes and CRC-32C, while writing and after."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_collection.storage.checksum import ChecksumFile, crc32c
from batch_collection.storage.contract import Sink
from batch_collection.storage.local import LocalStorage
from tests.storages import file_crc32c

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Buffer


class Memory(Sink):
    """A sink in memory, the smallest there can be."""

    def __init__(self) -> None:
        """Start empty."""
        self.content = io.BytesIO()

    def write(self, content: Buffer) -> int:
        """Keep it."""
        return self.content.write(content)

    def abandon(self) -> None:
        """Forget it."""


def test_the_checksum_is_crc32c() -> None:
    """The check value of the CRC catalogue, eight digits with leading zeros."""
    assert crc32c(b"123456789") == "e3069283"
    assert crc32c(b"") == "00000000"


@given(st.lists(st.binary()))
def test_pieces_add_up(pieces: list[bytes]) -> None:
    """However the bytes come, count and checksum are those of the whole."""
    memory = Memory()
    file = ChecksumFile(memory)
    for piece in pieces:
        file.write(memoryview(piece))
    whole = b"".join(pieces)

    assert (file.bytes, file.crc32c, file.tell()) == (len(whole), crc32c(whole), len(whole))
    assert memory.content.getvalue() == whole


def test_a_parquet_file_is_what_was_summed_up(tmp_path: Path) -> None:
    """What pyarrow writes through it is what reading finds."""
    storage, table = LocalStorage(str(tmp_path)), pa.table({"a": list(range(10_000))})
    with ChecksumFile(storage.write("x")) as sink, pq.ParquetWriter(sink, table.schema) as writer:
        writer.write_table(table)

    assert (sink.bytes, sink.crc32c) == file_crc32c(storage, "x")
    with storage.open("x") as source:
        assert pq.read_table(source).equals(table)


def test_a_failed_block_abandons_the_sink(tmp_path: Path) -> None:
    """Nothing is left of the file behind."""
    storage = LocalStorage(str(tmp_path))

    def fail() -> None:
        with ChecksumFile(storage.write("x")) as sink:
            sink.write(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert storage.size("x") is None
