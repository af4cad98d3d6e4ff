"""Counts and bounds by partition."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from transforms.elements.partitions import Partitions

_ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(-(2**63), 2**63 - 1), st.booleans()), max_size=40
)


@given(_ROWS)
def test_whatever_the_runs_each_partition_has_what_its_rows_say(
    rows: list[tuple[int, int, bool]],
) -> None:
    """In runs or one by one, none at all too."""
    column = pa.array([partition for partition, _, _ in rows], pa.int32())
    values = np.array([value for _, value, _ in rows], np.int64)
    chosen = np.flatnonzero([is_chosen for _, _, is_chosen in rows])
    found = Partitions.of(column)
    by_partition: dict[int, list[tuple[int, bool]]] = {}
    for partition, value, is_chosen in sorted(rows):
        by_partition.setdefault(partition, []).append((value, is_chosen))
    assert found.counts() == {p: len(its) for p, its in by_partition.items()}
    assert found.least(values) == {p: min(its)[0] for p, its in by_partition.items()}
    assert found.most(values) == {p: max(its)[0] for p, its in by_partition.items()}
    assert found.count(chosen) == {
        p: sum(is_chosen for _, is_chosen in its) for p, its in by_partition.items()
    }
