"""Which ranges of the log have a checkpoint."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from batch_collection.checkpoints.ranges import FACTOR, LEVELS, SPAN, Range, cover
from tests.logs import spans

CYCLES = st.integers(0, 3_000)


@given(CYCLES, CYCLES, st.integers(1, 7), st.integers(2, 4), st.integers(0, 4))
def test_a_cover_has_each_cycle_once_in_order(
    first: int, count: int, span: int, factor: int, levels: int
) -> None:
    """From the first to the last asked for, and none has two pieces without a checkpoint inside."""
    with spans(span, factor, levels):
        pieces = list(cover(first, first + count - 1))
        inner = [piece for piece in pieces[1:-1] if levels and piece.level is None]

    cycles = [cycle for piece in pieces for cycle in range(piece.first, piece.last + 1)]
    assert cycles == list(range(first, first + count))
    assert inner == []


@given(CYCLES, CYCLES, st.integers(2, 4))
def test_a_piece_is_as_large_as_can_be(first: int, count: int, factor: int) -> None:
    """No two neighbours could be part of one larger range that fits in."""
    last = first + count - 1
    with spans(2, factor, 3):
        for piece in cover(first, last):
            size = piece.last - piece.first + 1
            for larger in (2, 2 * factor, 2 * factor**2):
                start = piece.first - piece.first % larger
                assert larger <= size or start < first or start + larger - 1 > last


@given(st.integers(0, 2), st.integers(0, 50))
def test_the_parts_of_a_range_make_it_up(level: int, number: int) -> None:
    """Ten of the next level each; the lowest has none."""
    size = SPAN * FACTOR**level
    span = Range(number * size, (number + 1) * size - 1)

    assert span.level == level
    assert [part.level for part in span.parts] == ([level - 1] * FACTOR if level else [])
    cycles = [cycle for part in span.parts for cycle in (part.first, part.last)]
    assert not level or (cycles[0], cycles[-1], cycles) == (*span, sorted(cycles))


def test_a_million_entries_are_few_pieces() -> None:
    """28 checkpoints and 999 entries at most; ten years of 10 s are some hundred checkpoints."""
    worst = [len(list(cover(0, last))) for last in (999_998, 998_999, 989_999, 1_000_000)]
    ten_years = len(list(cover(0, 10 * 365 * 8_640)))

    assert max(worst) <= 29
    assert ten_years < 350
    assert LEVELS == 3
