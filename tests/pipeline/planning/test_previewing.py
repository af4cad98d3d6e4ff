"""What the first messages of a stream would become."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.planning.previewing import first_messages
from transforms.sources.contract import Bounds


@given(
    st.dictionaries(
        st.integers(0, 20), st.tuples(st.integers(0, 1_000), st.integers(0, 50)), max_size=8
    ),
    st.integers(1, 100),
)
def test_the_first_messages_are_shared_among_partitions(
    given_bounds: dict[int, tuple[int, int]], most: int
) -> None:
    """As many as are asked for or there; no partition has more while another would have fewer."""
    bounds = {
        partition: Bounds(first, first + size) for partition, (first, size) in given_bounds.items()
    }
    slices = first_messages("topic", bounds, most)
    counts = {part.partition: part.end - part.start for part in slices}
    assert all(part.start == bounds[part.partition].first for part in slices)
    assert all(part.end - part.start > 0 for part in slices)
    assert all(part.end <= bounds[part.partition].end for part in slices)
    assert [part.partition for part in slices] == sorted(counts)
    there = sum(each.end - each.first for each in bounds.values())
    assert sum(counts.values()) == min(most, there)
    for partition, each in bounds.items():
        if counts.get(partition, 0) < each.end - each.first:  # it would have more
            assert max(counts.values(), default=0) <= counts.get(partition, 0) + 1
