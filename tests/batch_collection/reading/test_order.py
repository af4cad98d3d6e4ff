"""The arithmetic of order: permutations, shards, loader workers, blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_collection.reading import order
from batch_collection.reading.order import blocks, permutation, shard_range, worker_range
from tests.services.extension import check_built

ROWS = st.lists(st.integers(0, 20), max_size=12)


def test_a_permutation_is_the_same_for_ever() -> None:
    """Not only in this version of numpy: saved states and published results depend on it."""
    assert permutation(8, 7, 0).tolist() == [7, 4, 6, 2, 5, 1, 0, 3]
    assert permutation(8, 7, 1).tolist() != permutation(8, 7, 0).tolist()
    assert permutation(2**18, 7, 0)[:5].tolist() == [84926, 196269, 108190, 65271, 255030]


@pytest.fixture(scope="module")
def _is_built() -> None:
    """See that there is something to try."""
    check_built("batch_collection/reading/random_order.c", is_built=order.is_built())


def plain_permutation(count: int, *key: int) -> Any:
    """Return a permutation as where nothing was compiled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order, "is_built", lambda: False)
        return permutation(count, *key)


@pytest.mark.usefixtures("_is_built")
@given(st.integers(0, 5000), st.integers(0, 2**64 - 1))
def test_both_ways_give_the_same_order(count: int, seed: int) -> None:
    """That in C, and that in numpy; of anything."""
    assert np.array_equal(permutation(count, seed), plain_permutation(count, seed))


@pytest.mark.usefixtures("_is_built")
@pytest.mark.parametrize("count", [2**9, 2**9 + 1, 2**18 - 1, 2**18, 2**18 + 1, 2**22])
def test_both_ways_give_the_same_order_of_many(count: int) -> None:
    """Of so many that some hashes are alike in the bits that are sorted."""
    assert np.array_equal(permutation(count, 3, 1), plain_permutation(count, 3, 1))


@pytest.mark.usefixtures("_is_built")
def test_hashes_that_fall_too_close_together_are_sorted_the_other_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A bucket that is full ends what C does, within its memory."""
    random_order = pytest.importorskip("batch_collection.reading.random_order")
    expected = permutation(5000, 3)
    buckets, guard = np.full(16 * 10 + 1, 7, np.uint64), 16 * 10
    is_done = random_order.sort_numbers(3, 5000, 4, 10, buckets.ctypes.data, 0)

    assert not is_done
    assert buckets[guard] == 7
    monkeypatch.setattr(random_order, "sort_numbers", lambda *_: False)
    assert np.array_equal(permutation(5000, 3), expected)


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
