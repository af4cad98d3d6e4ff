"""Rows into Beam's fixed windows."""

from __future__ import annotations

from datetime import timedelta

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_collection.windows import microseconds
from tests.pipelines import MAIN, run
from tests.tasks import MINUTE, NOON, chunk, end, rows
from transforms.cutting.windows import split_by_window
from transforms.elements.chunk import Chunk
from transforms.into_windows import IntoWindows


def test_each_piece_is_in_the_beam_window_of_its_rows() -> None:
    """A chunk over three windows becomes three, in their windows."""
    across = rows(range(9), NOON - MINUTE, step=timedelta(seconds=20))
    out = run(IntoWindows(MINUTE, 10), [chunk(across), end()], Chunk)[MAIN]
    pieces = [(seen.window_start, seen.element.table["payload"].to_pylist()) for seen in out[:-1]]
    start = (NOON - MINUTE).timestamp()
    assert pieces == [
        (start + 60 * number, [{"value": 3 * number + each} for each in range(3)])
        for number in range(3)
    ]
    assert out[-1].element.last


@settings(max_examples=200, deadline=None)
@given(
    times=st.lists(st.integers(-(10**15), 10**16), min_size=1, max_size=50),
    seconds=st.integers(1, 100_000),
    run=st.sampled_from([1, 300]),
)
def test_splitting_keeps_every_row_in_order_within_its_window(
    times: list[int], seconds: int, run: int
) -> None:
    """Whatever the times, before 1970 too; rows of one window may come in long runs."""
    times = [time for time in times for _ in range(run)]
    table = rows(range(len(times)))
    table = table.set_column(0, "row_time", pa.array(times, pa.int64()))
    interval = timedelta(seconds=seconds)
    pieces = list(split_by_window(table, interval))
    starts = [start for start, _ in pieces]
    assert starts == sorted(set(starts))
    expected: dict[int, list[int]] = {}
    for offset, time in enumerate(times):
        length = microseconds(interval)
        expected.setdefault(time // length * length, []).append(offset)
    assert {start: piece["offset"].to_pylist() for start, piece in pieces} == expected
