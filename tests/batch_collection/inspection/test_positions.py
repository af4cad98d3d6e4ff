"""Positions against the plain sets they stand for."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from batch_collection.inspection.positions import Positions

ROWS = st.lists(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 4)), min_size=1, max_size=30),
    max_size=8,
)


def seen(parts: list[list[tuple[int, int]]]) -> Positions:
    """Take rows in, part by part."""
    positions = Positions()
    for part in parts:
        offsets, indexes = np.array(part, np.int64).T
        positions.add(offsets, indexes)
    return positions


@given(ROWS)
def test_positions_know_messages_and_repeats(parts: list[list[tuple[int, int]]]) -> None:
    """As many messages as a set would have, and every offset of which a row came twice."""
    rows = [row for part in parts for row in part]
    twice = {offset for offset, index in rows if rows.count((offset, index)) > 1}
    positions = seen(parts)

    assert positions.messages() == len({offset for offset, _ in rows})
    assert {o for one in positions.repeated for o in range(one.start, one.end)} == twice


@given(ROWS)
@example([[(0, 0), (0, 1)], [(0, 0), (0, 2)]])
def test_positions_know_torn_messages(parts: list[list[tuple[int, int]]]) -> None:
    """A row is there, one before it is not."""
    rows = {row for part in parts for row in part}
    torn = {o for o, index in rows if any((o, before) not in rows for before in range(index))}

    assert {o for one in seen(parts).torn() for o in range(one.start, one.end)} == torn


def test_a_whole_message_shares_its_offset_with_nothing() -> None:
    """A dead letter that is also a row is found."""
    positions = seen([[(1, 0), (2, 0)]])
    positions.add_whole(np.array([2, 3], np.int64))

    assert positions.messages() == 3
    assert [(one.start, one.end) for one in positions.repeated] == [(2, 3)]


def test_a_partition_collected_whole_is_one_rectangle() -> None:
    """However its rows are spread over files: memory grows with gaps only."""
    positions = Positions()
    offsets = np.arange(300_000, dtype=np.int64)
    for part in range(7):
        chosen = offsets[offsets % 7 == part]
        positions.add(np.repeat(chosen, 3), np.tile(np.arange(3), len(chosen)))

    assert positions.messages() == 300_000
    assert sum(part.shape[1] for part in positions._parts) == 1  # noqa: SLF001
    assert positions.repeated == []
    assert positions.torn() == []
