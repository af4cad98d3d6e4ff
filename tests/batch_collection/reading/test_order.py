"""The arithmetic of order: permutations, shards, loader workers, blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_collection.reading.order import (
    argsorted,
    blocks,
    hashed,
    permutation,
    shard_range,
    worker_range,
)

ROWS = st.lists(st.integers(0, 20), max_size=12)


def test_a_permutation_is_the_same_for_ever() -> None:
    """Not only in this version of numpy: saved states and published results depend on it."""
    assert permutation(8, 7, 0).tolist() == [7, 4, 6, 2, 5, 1, 0, 3]
    assert permutation(8, 7, 1).tolist() != permutation(8, 7, 0).tolist()
    assert permutation(2**18, 7, 0)[:5].tolist() == [84926, 196269, 108190, 65271, 255030]


@pytest.mark.parametrize("count", [0, 1, 31, 64, 97, 4095, 70_000, 2**18 + 5, 2**19 + 1])
@pytest.mark.parametrize("bits", [64, 40, 33, 8])
def test_hashes_are_sorted_as_numpy_sorts_them(count: int, bits: int) -> None:
    """The sooner way gives the same order, with many hashes that are alike above, too, or equal."""
    keys = hashed(np.arange(count, dtype=np.uint64)) << np.uint64(64 - bits)
    for few in (keys, keys >> np.uint64(64 - bits)):
        assert np.array_equal(argsorted(few), np.argsort(few, kind="stable"))


@given(st.integers(0, 200), st.integers(0, 2**40), st.integers(0, 9))
def test_a_permutation_has_each_place_once(count: int, seed: int, epoch: int) -> None:
    """Whatever the key."""
    assert sorted(permutation(count, seed, epoch).tolist()) == list(range(count))


def test_permutations_of_neighbouring_seeds_and_epochs_are_unrelated() -> None:
    """Places agree about as often as chance lets them: once in a permutation."""
    found = [permutation(500, seed, epoch) for seed in range(4) for epoch in range(4)]
    agreeing = [int(np.sum(a == b)) for i, a in enumerate(found) for b in found[:i]]

    assert max(agreeing) < 10
    assert abs(np.mean(agreeing) - 1) < 0.5
    assert abs(float(np.corrcoef(np.arange(500), found[0])[0, 1])) < 0.2


@given(st.integers(0, 500), st.integers(1, 20))
def test_shards_are_disjoint_complete_and_balanced(rows: int, count: int) -> None:
    """They meet, and differ by one row at most."""
    ranges = [shard_range(rows, index, count) for index in range(count)]

    assert [low for low, _ in ranges] == [0, *(high for _, high in ranges[:-1])]
    assert ranges[-1][1] == rows
    sizes = [high - low for low, high in ranges]
    assert max(sizes) - min(sizes) <= 1


@given(st.integers(0, 500), st.integers(1, 20), st.integers(1, 20))
def test_loader_workers_have_whole_batches(rows: int, size: int, count: int) -> None:
    """Those that one worker alone would cut, each in one place."""
    ranges = [worker_range(rows, size, index, count) for index in range(count)]

    assert [low for low, _ in ranges] == [0, *(high for _, high in ranges[:-1])]
    assert ranges[-1][1] == rows
    assert all(low % size == 0 or low == rows for low, _ in ranges)


@given(ROWS, st.randoms(use_true_random=False), st.data(), st.integers(1, 30))
def test_blocks_hold_each_row_of_a_range_once_in_order(
    rows: list[int], random: object, data: st.DataObject, size: int
) -> None:
    """Pieces in the order given; a block has ``size`` rows or up to a piece more."""
    order = list(range(len(rows)))
    random.shuffle(order)  # type: ignore[attr-defined]
    low = data.draw(st.integers(0, sum(rows)))
    high = data.draw(st.integers(low, sum(rows)) | st.just(sum(rows) + 100))
    sequence = [(piece, row) for piece in order for row in range(rows[piece])]

    found = list(blocks(rows.__getitem__, order, low, high, lambda: size))

    held = [(s.piece, row) for block in found for s in block.slices for row in range(*s[1:])]
    assert held == sequence[low:high]
    firsts = [0, *np.cumsum([block.rows for block in found]).tolist()]
    assert [block.first for block in found] == firsts[: len(found)]
    assert all(block.rows >= size for block in found[:-1])
    assert all(block.rows < size + max(rows) for block in found)
