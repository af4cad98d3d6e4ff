"""Rows that are objects already, and tables: nothing is lost or rounded, or it is an error."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_collection.errors import WriteError
from transforms.decoding.given_rows import Types, rows_of
from transforms.elements.given import read_given, write_given

NONE = Types({}, {}, {}, "ascii")


def read(*given_: Any, types: Types = NONE) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the payloads of elements, and the schema."""
    tables, schema = rows_of(enumerate(given_), types)
    return [row for table in tables for row in table.column("payload").to_pylist()], schema


COLUMNS = {
    "whole": st.none() | st.integers(-(2**53), 2**53),
    "number": st.none() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False),
    "text": st.none() | st.text(),
    "flags": st.none() | st.lists(st.booleans(), min_size=1),
    "inner": st.none() | st.fixed_dictionaries({"x": st.integers(0, 9)}),
}


@given(st.lists(st.fixed_dictionaries({}, optional=COLUMNS), min_size=1, max_size=12), st.data())
def test_values_come_back_as_they_were(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    """One by one or in tables, in whatever parts; what a row does not name is null."""
    cut = data.draw(st.integers(0, len(rows)))
    elements: list[Any] = rows[:cut]
    if rows[cut:] and any(rows[cut:]):
        names = dict.fromkeys(name for row in rows[cut:] for name in row)
        columns = {name: [row.get(name) for row in rows[cut:]] for name in names}
        elements.append(pa.table(columns))
    else:
        elements += rows[cut:]
    found, schema = read(*(read_given(write_given(each)) for each in elements))
    expected = [{name: row.get(name) for name in schema} for row in rows]
    assert found == expected
    assert {name for row in rows for name in row if row[name] is not None} == schema.keys()


def test_times_are_those_of_the_elements() -> None:
    """A table's is that of all its rows."""
    tables, _ = rows_of([(7, {"n": 1}), (8, pa.table({"n": [2, 3]})), (9, {"n": 4})], NONE)
    assert [table.column("row_time").to_pylist() for table in tables] == [[7], [8, 8], [9]]


def test_fractions_behind_integers_are_of_all_tables() -> None:
    """Whichever came first."""
    found, schema = read({"x": 1}, pa.table({"x": [0.5]}))
    assert (found, schema) == ([{"x": 1.0}, {"x": 0.5}], {"x": "double"})


@pytest.mark.parametrize(
    ("known", "value", "expected"),
    [
        ("double", 1, 1.0),
        ("int64", 1.0, 1),
        ("string", 5, "5"),
        ("int64", "5", 5),
        (["int64"], 5, [5]),
        ("float", 0.1, 0.10000000149011612),
    ],
)
def test_values_take_the_type_that_is_given(known: Any, value: Any, expected: Any) -> None:
    """As readers do with files that are older than their column's type."""
    found, schema = read({"x": value}, types=Types({}, {"x": known}, {}, "ascii"))
    assert (found, schema) == ([{"x": expected}], {"x": known})


@pytest.mark.parametrize(
    ("known", "value"),
    [("int64", 0.5), ("int64", "a"), ("int8", 300), ("bool", 2), ({"a": "int64"}, 1)],
)
def test_a_value_that_its_type_cannot_say_is_an_error(known: Any, value: Any) -> None:
    """It names the column, both types, and what to do."""
    with pytest.raises(WriteError, match=r"column x is .* and .* came: .*schema="):
        read({"x": value}, types=Types({}, {"x": known}, {}, "ascii"))


def test_what_was_dropped_is_left_out() -> None:
    """Whatever it holds."""
    found, schema = read({"x": 1, "y": 2}, types=Types({}, {}, {"y": "string"}, "ascii"))
    assert (found, schema) == ([{"x": 1}], {"x": "int64"})
