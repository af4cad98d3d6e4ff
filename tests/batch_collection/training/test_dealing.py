"""The laws of dealing: equal numbers of batches, each row once, gone on from by any number."""

from __future__ import annotations

import itertools
import re
from functools import cache
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batch_collection.errors import CollectionError
from batch_collection.training.dealing import Deal

COUNTS = st.integers(1, 8)


def dealt(rows: int, start: int, batch_size: int, world: int, *, drop: bool) -> list[list[range]]:
    """Return what each rank is dealt, round by round."""
    deals = [Deal(rows, batch_size, rank, world, drop) for rank in range(world)]
    return [
        [range(*deal.share(start, number)) for deal in deals]
        for number in range(deals[0].rounds(start))
    ]


@given(st.integers(0, 200), st.integers(0, 200), st.integers(1, 9), COUNTS, st.booleans())
@example(rows=17, start=0, batch_size=2, world=8, drop=False)  # the round before the last gives
@example(rows=9, start=0, batch_size=1, world=8, drop=False)  # it has none to give
@example(rows=9, start=6, batch_size=4, world=8, drop=False)  # there is none before the last
def test_all_ranks_have_as_many_batches_and_each_row_is_dealt_once(
    rows: int,
    start: int,
    batch_size: int,
    world: int,
    drop: bool,  # noqa: FBT001
) -> None:
    """In the global order; none is empty; rows are twice only where there are too few for all."""
    start = min(start, rows)
    rounds = dealt(rows, start, batch_size, world, drop=drop)

    at = start
    for number, shares in enumerate(rounds):
        here = list(itertools.chain(*shares))
        end = Deal(rows, batch_size, 0, world, drop).end(start, number + 1)
        sizes = {len(share) for share in shares}
        is_scant = end - at < world
        assert len(shares) == world
        assert 1 <= min(sizes) <= max(sizes) <= min(batch_size, min(sizes) + 1)
        assert sorted(set(here)) == list(range(at, end))
        assert here == (sorted(here) if is_scant else list(range(at, end)))
        assert is_scant == Deal(rows, batch_size, 0, world, drop).is_scant(start, number)
        is_unavoidable = number == len(rounds) - 1 and (batch_size == 1 or len(rounds) == 1)
        assert is_unavoidable or not is_scant
        is_full = sizes == {batch_size}
        assert is_full or (number >= len(rounds) - 2 and not drop)
        at = end
    left = rows - at
    assert 0 <= left < batch_size * world if drop else left == 0


@pytest.mark.parametrize("rows", [0, 1, 103, 257])
def test_two_changes_of_ranks_and_workers_leave_each_remaining_row_once(rows: int) -> None:
    """All of them, 1 to 8 of each, stopped anywhere early: what comes is the order, gone on."""
    batch_size = 3

    @cache
    def remaining(
        start: int, ranks: int, workers: int, rounds: int | None
    ) -> tuple[int, list[int]]:
        """Deal from a place to workers, as loaders do; return the place then, and the rows."""
        count = Deal(rows, batch_size, 0, ranks).rounds(start)
        stop = count if rounds is None else min(rounds, count)
        found: list[int] = []
        queues = []
        for rank in range(ranks):
            deal = Deal(rows, batch_size, rank, ranks)
            parts = [range(worker, count, workers) for worker in range(workers)]
            queues.append([iter([deal.share(start, n) for n in part]) for part in parts])
        for number in range(stop):
            for of_rank in queues:
                found.extend(range(*next(of_rank[number % workers])))
        return Deal(rows, batch_size, 0, ranks).end(start, stop), found

    def is_gone_on(found: list[int], start: int, end: int, ranks: int) -> bool:
        if end == rows and rows - start < ranks:  # more ranks than rows: the same row to some
            found = sorted(set(found))
        return found == list(range(start, end))

    configurations = list(itertools.product(range(1, 9), repeat=2))
    for first in configurations:
        begun, one = remaining(0, *first, 2)
        assert is_gone_on(one, 0, begun, first[0])
        for second in configurations:
            middle, two = remaining(begun, *second, 1 + second[1] % 3)
            assert is_gone_on(two, begun, middle, second[0])
            for third in configurations:
                end, three = remaining(middle, *third, None)
                assert end == rows
                assert is_gone_on(three, middle, rows, third[0])


@given(st.integers(0, 300), st.integers(1, 6), COUNTS, st.integers(0, 60))
def test_a_place_gone_on_from_by_as_many_ranks_has_the_same_rounds(
    rows: int, batch_size: int, world: int, taken: int
) -> None:
    """As if nobody had stopped, the short rounds at the end among them."""
    rounds = dealt(rows, 0, batch_size, world, drop=False)
    taken = min(taken, len(rounds))
    place = Deal(rows, batch_size, 0, world).end(0, taken)

    assert dealt(rows, place, batch_size, world, drop=False) == rounds[taken:]


@given(st.integers(0, 300), st.integers(1, 4), st.integers(0, 300))
def test_fewer_ranks_with_larger_batches_use_the_same_rows_together(
    rows: int, batch_size: int, start: int
) -> None:
    """So a run goes on just as it would have: each full round is of the same rows."""
    start = min(start, rows)
    many, few = Deal(rows, batch_size, 0, 8), Deal(rows, 4 * batch_size, 0, 2)
    full = (rows - start) // (8 * batch_size) - 1

    assert many.rounds(start) == few.rounds(start)
    for number in range(full):
        assert many.end(start, number) == few.end(start, number)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"rank": 2, "world": 2}, "rank must be from 0 to world - 1, got rank=2 world=2"),
        ({"rank": -1}, "rank must be from 0 to world - 1, got rank=-1 world=1"),
        ({"world": 1.0}, "world must be a whole number, got 1.0"),
        ({"drop_last": 1}, "drop_last must be True or False, got 1"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], expected: str) -> None:
    """At once."""
    with pytest.raises(CollectionError, match=re.escape(expected)):
        Deal(10, 2, **options)
