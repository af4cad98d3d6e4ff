"""What users give, as bytes: the same for the same row, and all of it back."""

from __future__ import annotations

import copy
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.utils.timestamp import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from batch_collection.errors import CollectionError
from transforms.elements.given import read_given, write_given

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.datetimes()
    | st.dates()
    | st.decimals(allow_nan=False),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3),
    max_leaves=8,
)
ROWS = st.dictionaries(st.text(), VALUES, max_size=4)


@given(ROWS)
def test_a_row_comes_back_and_has_one_form(row: dict[str, Any]) -> None:
    """Its bytes do not depend on which of its values are one object: checksums are made of them."""
    content = write_given(row)
    assert read_given(content) == row
    assert write_given(copy.deepcopy(row)) == content
    assert write_given(read_given(content)) == content


@given(ROWS, ROWS)
def test_other_rows_have_other_bytes(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Two rows that are not equal are told apart."""
    assert one == other or write_given(one) != write_given(other)


class Inner(NamedTuple):
    """A row within a row."""

    when: Any


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Inner(np.datetime64("2026-11-22T12:00:00", "ns")), {"when": datetime(2026, 11, 22, 12)}),  # noqa: DTZ001 - numpy knows no zone
        (Inner(Timestamp(0)), {"when": datetime(1970, 1, 1, tzinfo=timezone.utc)}),
        (beam.Row(x=np.float32(0.5)), {"x": 0.5}),
        ((1, (date(2026, 1, 1), Decimal(1))), [1, [date(2026, 1, 1), Decimal(1)]]),
        (np.array([[1, 2]]), [[1, 2]]),
    ],
)
def test_values_of_libraries_become_plain_ones(value: Any, expected: Any) -> None:
    """Rows within rows, too."""
    assert read_given(write_given({"v": value})) == {"v": expected}


def test_a_slice_of_a_table_takes_its_own_rows_along() -> None:
    """Not the buffers behind them; and no rows are nothing."""
    table = pa.table({"n": range(100_000)})
    content = write_given(table.slice(5, 2))
    assert len(content) < 1000
    assert read_given(content) == pa.table({"n": [5, 6]})
    assert write_given(table.slice(0, 0)) == b""


@pytest.mark.parametrize("element", [5, "text", [1], None, {1: 2}, {"a": {None: 1}}])
def test_what_is_no_row_is_refused(element: Any) -> None:
    """It says what to give."""
    with pytest.raises(CollectionError, match=r"give it dictionaries|name columns by text"):
        write_given(element)
