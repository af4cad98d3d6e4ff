"""Columns joined and rows taken, however much they hold."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_collection.schema import taking
from batch_collection.schema.taking import chunks_of, taken

if TYPE_CHECKING:
    import numpy.typing as npt

MOST = 2**31 - 1


def lists(*lengths: int) -> pa.Table:
    """Return a chunk for each length: a list of so many nulls, which are in no memory."""
    chunks = [
        pa.ListArray.from_arrays(pa.array([0, length], pa.int32()), pa.nulls(length))
        for length in lengths
    ]
    return pa.table({"id": range(len(lengths)), "list": pa.chunked_array(chunks)})


def test_as_many_rows_are_taken_where_there_is_no_column() -> None:
    """Of which pyarrow takes none."""
    assert taken(pa.table({"id": [1, 2, 3]}).select([]), np.array([2, 0])).num_rows == 2


def test_rows_are_taken_of_more_than_one_array_holds() -> None:
    """They are looked for in each chunk alone."""
    rows = lists(MOST, 1, MOST, 2, MOST)
    places = np.array([3, 1])
    with pytest.raises(pa.ArrowInvalid, match="offset overflow"):
        rows.take(pa.array(places))

    found = taken(rows, places)

    assert found.to_pylist() == [{"id": 3, "list": [None, None]}, {"id": 1, "list": [None]}]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(1, 9), st.data())
def test_what_is_taken_apart_is_what_is_taken_at_once(
    sizes: list[int], most: int, data: st.DataObject
) -> None:
    """In the order that was asked for, whatever the chunks, and however few rows an array holds."""
    ends = np.cumsum([0, *sizes])
    rows = pa.table({"id": pa.chunked_array([np.arange(*each) for each in pairwise(ends)])})
    places = np.array(data.draw(st.permutations(range(ends[-1]))), np.int64)
    places = places[: data.draw(st.integers(0, len(places)))]
    in_order = taking._in_order  # noqa: SLF001 - it can't be made to fail but by gigabytes

    def limited(parts: list[pa.RecordBatch], order: npt.NDArray[np.int64]) -> pa.Table:
        if len(order) > most:
            message = "offset overflow"
            raise pa.ArrowInvalid(message)
        return in_order(parts, order)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(taking, "_in_order", limited)
        found = taking._taken_apart(rows.to_batches(), places)  # noqa: SLF001 - for what is vast

    assert found["id"].to_pylist() == places.tolist()


def test_a_column_is_one_array_where_one_can_hold_it() -> None:
    """Else its chunks; of no chunk an empty one."""
    column = lists(MOST, 1)["list"]

    assert [len(each) for each in chunks_of(column)] == [1, 1]
    assert [each.to_pylist() for each in chunks_of(pa.chunked_array([[1], [2]]))] == [[1, 2]]
    assert [each.type for each in chunks_of(pa.chunked_array([], pa.int8()))] == [pa.int8()]
