"""The bytes of rows."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from transforms.cutting.row_bytes import between, ends_of, fitting, row_bytes

TYPE = pa.struct(
    {
        "n": pa.int64(),
        "t": pa.string(),
        "b": pa.bool_(),
        "o": pa.struct({"x": pa.float32(), "at": pa.timestamp("us", "UTC"), "no": pa.null()}),
        "l": pa.list_(pa.list_(pa.binary())),
    }
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "n": st.none() | st.just(1),
            "t": st.none() | st.text(max_size=3),
            "b": st.none() | st.booleans(),
            "o": st.none()
            | st.fixed_dictionaries({"x": st.none() | st.just(0.5), "at": st.just(1)}),
            "l": st.none() | st.lists(st.none() | st.lists(st.none() | st.binary(max_size=3))),
        }
    ),
    max_size=12,
)


def expected(value: Any, key: str = "") -> int:
    """Count the bytes of a value, one by one."""
    if value is None:
        return 0
    if isinstance(value, dict):
        return sum(expected(each, name) for name, each in value.items())
    if isinstance(value, list):
        return sum(map(expected, value))
    if isinstance(value, (str, bytes)):
        return len(value.encode() if isinstance(value, str) else value)
    return {"n": 8, "b": 1, "x": 4, "at": 8}[key]


@given(rows=ROWS, start=st.integers(0, 6), count=st.integers(0, 12), cut=st.integers(0, 6))
def test_rows_have_the_same_bytes_wherever_they_are(
    rows: list[dict[str, Any]], start: int, count: int, cut: int
) -> None:
    """In slices and in several chunks, too; what is null has none."""
    parts = [pa.array(part, TYPE) for part in (rows[:cut], rows[cut:])]
    found = row_bytes(pa.chunked_array(parts, TYPE).slice(start, count))
    assert found.tolist() == [expected(row) for row in rows[start : start + count]]


@given(st.lists(st.integers(0, 9)), st.integers(-9, 40), st.data())
def test_as_many_rows_fit_as_there_is_room_for(
    sizes: list[int], room: int, data: st.DataObject
) -> None:
    """Those from the first on, and rows of no bytes behind them; none where there is no room."""
    start = data.draw(st.integers(0, len(sizes)))
    ends = ends_of(row_bytes(pa.chunked_array([[b"x" * size for size in sizes]], pa.binary())))
    fits = fitting(ends, start, room)
    assert between(ends, start, fits) == sum(sizes[start : start + fits])
    assert not fits or between(ends, start, fits) <= room
    assert start + fits == len(sizes) or between(ends, start, fits + 1) > room
