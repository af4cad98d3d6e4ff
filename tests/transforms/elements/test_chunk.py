"""The chunk coder: Arrow IPC, and only the rows."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING

import pytest
from apache_beam import coders

from tests.tasks import chunk, rows, rows_with_ids
from transforms.elements.chunk import Chunk, ChunkCoder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyarrow as pa


@pytest.mark.parametrize("built", [rows, rows_with_ids])
def test_a_chunk_comes_back_as_it_was(built: Callable[[Sequence[int]], pa.Table]) -> None:
    """Task, attempt and rows survive the coder."""
    before = chunk(built(range(100)))
    after = ChunkCoder().decode(ChunkCoder().encode(before))
    assert after == before
    assert isinstance(after, Chunk)


def test_a_chunk_of_another_version_is_read() -> None:
    """What is new in its head is ignored, what is missing has its default; it names no module."""
    before = chunk(rows(range(3)))
    encoded = ChunkCoder().encode(before)
    start = 4 + int.from_bytes(encoded[:4], "big")
    head = json.loads(encoded[4:start])
    del head["last"]
    other = json.dumps({**head, "since": 3}).encode()
    assert ChunkCoder().decode(len(other).to_bytes(4, "big") + other + encoded[start:]) == before
    assert b"transforms" not in encoded


def test_a_slice_is_encoded_without_the_buffers_behind_it() -> None:
    """A pickle would take all of them."""
    big = rows(range(100_000))
    few = chunk(big.slice(500, 10))
    assert len(ChunkCoder().encode(few)) < 10_000 < len(pickle.dumps(few.table)) / 100


def test_the_coder_is_the_registered_one() -> None:
    """Beam finds it by the type of a step's output."""
    assert isinstance(coders.registry.get_coder(Chunk), ChunkCoder)


def test_a_chunk_s_size_is_known_without_encoding_it() -> None:
    """Runners sample sizes; a sample must cost nothing."""
    few = chunk(rows(range(1000)))
    assert ChunkCoder().estimate_size(few) == few.table.nbytes
