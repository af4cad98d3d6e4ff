"""Rows into Beam's fixed windows."""

from __future__ import annotations

from datetime import timedelta

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_collection.windows import microseconds
from tests.pipelines import MAIN, run
from tests.tasks import MINUTE, NOON, chunk, end, rows
from transforms import into_windows
from transforms.cutting.windows import InWindows
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


def in_turn(windows: int, first: int, count: int) -> pa.Table:
    """Return rows that are of one window after the other, again and again."""
    table = rows(range(first, first + count), first_offset=first)
    times = [microseconds(NOON) + n % windows * 60_000_000 for n in range(first, first + count)]
    return table.set_column(0, "row_time", pa.array(times, pa.int64()))


@pytest.mark.parametrize("is_ended", [True, False])
@pytest.mark.parametrize(("most", "pieces"), [(1 << 30, 7), (1, 21)])
def test_rows_out_of_order_are_split_together_up_to_some_bytes(
    monkeypatch: pytest.MonkeyPatch,
    is_ended: bool,  # noqa: FBT001
    most: int,
    pieces: int,
) -> None:
    """Three chunks of seven windows are seven pieces, in order; also where no end comes."""
    monkeypatch.setattr(into_windows, "_MOST_HELD", most)
    chunks = [chunk(in_turn(7, first, 50)) for first in (0, 50, 100)]
    out = run(IntoWindows(MINUTE, 10), [*chunks, *[end()] * is_ended], Chunk)[MAIN]

    found: dict[float | None, list[int]] = {}
    for seen in out[:-1] if is_ended else out:
        found.setdefault(seen.window_start, []).extend(seen.element.table["offset"].to_pylist())
    assert len(out) == pieces + is_ended
    assert found == {
        NOON.timestamp() + 60 * number: list(range(number, 150, 7)) for number in range(7)
    }
    assert out[-1].element.last is is_ended


def test_rows_of_other_attempts_and_of_other_types_are_not_put_together() -> None:
    """Each piece has one schema, and is of one attempt."""
    other = in_turn(2, 0, 4)
    text = pa.array([{"value": "x"}] * 4, pa.struct([("value", pa.string())]))
    other = other.set_column(other.num_columns - 1, "payload", text)
    chunks = [chunk(in_turn(2, 0, 4)), chunk(in_turn(2, 4, 4), attempt="second"), chunk(other)]
    out = run(IntoWindows(MINUTE, 10), [*chunks, end(), end(attempt="second")], Chunk)[MAIN]

    assert [(piece.element.attempt, piece.element.table.num_rows) for piece in out] == [
        *[("attempt", 2)] * 4,
        ("attempt", 0),
        *[("second", 2)] * 2,
        ("second", 0),
    ]


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
    pieces = list(InWindows.of(table, interval).split())
    starts = [start for start, _ in pieces]
    assert starts == sorted(set(starts))
    expected: dict[int, list[int]] = {}
    for offset, time in enumerate(times):
        length = microseconds(interval)
        expected.setdefault(time // length * length, []).append(offset)
    assert {start: piece["offset"].to_pylist() for start, piece in pieces} == expected
