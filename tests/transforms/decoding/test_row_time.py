"""Row times of fields: rounded down exactly, whatever the type; found by name or by path."""

from __future__ import annotations

import random
from datetime import timedelta
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batch_collection.errors import CollectionError
from tests.decoding import NOW
from transforms.decoding.row_time import limits, row_times, sent_times
from transforms.sources.contract import HEADERS

if TYPE_CHECKING:
    from collections.abc import Sequence

MINUTE = timedelta(minutes=1)
A_SECOND = {"s": 1, "ms": 1000, "us": 10**6, "ns": 10**9}
UNITS = st.sampled_from(sorted(A_SECOND))


def times(payload: pa.StructArray, field: str, unit: str | None = None) -> list[int | None]:
    """Return the rows' times in microseconds."""
    nothing = pa.nulls(len(payload), pa.int64())
    return row_times(f"field:{field}", unit, MINUTE, NOW, nothing, payload).to_pylist()


def numbers(values: Sequence[Any], type_: pa.DataType) -> pa.StructArray:
    """Build rows of one column ``at``."""
    return pa.StructArray.from_arrays([pa.array(values, type_)], ["at"])


def expected(value: Any, unit: str) -> int | None:
    """Return the microseconds of a number, rounded down; None beyond the limits."""
    first, last = limits(MINUTE)
    micros = Fraction(value) * 10**6 // A_SECOND[unit]
    return micros if first <= micros <= last else None


@st.composite
def near_a_microsecond(draw: st.DrawFn, unit: str) -> float:
    """Draw a number that is a whole microsecond, or next to one, where rounding goes wrong."""
    micros = draw(st.integers(-(2**58), 2**58)) >> draw(st.integers(0, 58))
    value = float(Fraction(micros) * A_SECOND[unit] / 10**6)
    return value + draw(st.sampled_from([0, 1e-7, -1e-7, 1e-300, -5e-324]))


@given(unit=UNITS, data=st.data())
def test_fractions_are_rounded_down_exactly(unit: str, data: st.DataObject) -> None:
    """A double is what it is to its last digit, before the epoch, too."""
    anything = st.floats(allow_nan=False, allow_infinity=False)
    rng = random.Random(data.draw(st.integers(0, 2**32)))
    within_limits = [rng.uniform(-6.2e10, 2.5e11) * A_SECOND[unit] for _ in range(100)]
    values = within_limits + data.draw(st.lists(anything | near_a_microsecond(unit)))
    found = times(numbers(values, pa.float64()), "at", unit)
    assert found == [expected(value, unit) for value in values]


@given(unit=UNITS, values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_short_fractions_are_rounded_down_exactly(unit: str, values: list[float]) -> None:
    """So is a float of 32 bits."""
    found = times(numbers(values, pa.float32()), "at", unit)
    assert found == [expected(value, unit) for value in values]


@given(unit=UNITS, values=st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 2**50)))
@example("ns", [2**63 + 1999, 18_446_744_073_709_551_615])
@example("us", [2**63])
def test_unsigned_integers_are_rounded_down_exactly(unit: str, values: list[int]) -> None:
    """Nanoseconds of them reach to the year 2554."""
    found = times(numbers(values, pa.uint64()), "at", unit)
    assert found == [expected(value, unit) for value in values]


@given(unit=UNITS, values=st.lists(st.integers(-(2**63), 2**63 - 1)))
@example("ns", [-(2**63), 2**63 - 1])
def test_integers_are_rounded_down_exactly(unit: str, values: list[int]) -> None:
    """Before the epoch, too."""
    found = times(numbers(values, pa.int64()), "at", unit)
    assert found == [expected(value, unit) for value in values]


@given(st.integers(-(2**53), 2**53), UNITS)
def test_an_integer_and_a_double_of_one_value_are_one_instant(value: int, unit: str) -> None:
    """So a column that becomes double moves no row to another window."""
    one, other = (
        times(numbers([value], type_), "at", unit) for type_ in (pa.int64(), pa.float64())
    )
    assert one == other


def test_neither_nan_nor_infinity_is_a_time() -> None:
    """Nor null; none of them is a row of 1970."""
    values = [float("nan"), float("inf"), -float("inf"), None, 0.0]
    assert times(numbers(values, pa.float64()), "at", "s") == [None] * 4 + [0]


def test_a_name_is_a_key_or_a_path_row_by_row() -> None:
    """The exact key first; where a row has none, dots lead into its structs."""
    rows = pa.array(
        [
            {"m.at": 1, "m": {"at": 2}},
            {"m.at": None, "m": {"at": 2}},
            {"m.at": 1, "m": None},
            {"m.at": None, "m": {"at": None}},
        ]
    )
    assert times(rows, "m.at", "us") == [1, 2, 1, None]
    assert times(rows, '"m.at"', "us") == [1, None, 1, None]
    assert times(rows, '"m".at', "us") == [2, 2, None, None]
    assert times(rows, "m.at.x", "us") == [None] * 4


def test_a_key_with_dots_may_lie_in_a_struct_or_be_one() -> None:
    """Quotes keep dots at any depth."""
    rows = pa.array([{"a.b": {"c.d": {"e": 7}}}])
    assert times(rows, '"a.b"."c.d".e', "us") == [7]
    assert times(rows, "a.b.c.d.e", "us") == [None]


def test_a_quote_that_is_not_closed_names_no_field() -> None:
    """It is refused, not taken for a field that no message has."""
    with pytest.raises(CollectionError, match="cannot read the field name"):
        times(pa.array([{"a": 1}]), '"a', "us")


def test_the_first_and_the_last_window_are_whole() -> None:
    """Both ends of each lie in the years 1 to 9999, which is what a date can say."""
    week = timedelta(days=7)
    for interval in (timedelta(seconds=1), MINUTE, timedelta(seconds=7), week):
        length = interval // timedelta(microseconds=1)
        first, last = limits(interval)
        assert first % length == 0
        assert (last + 1) % length == 0
        assert -62_135_596_800_000_000 <= first < -62_135_596_800_000_000 + length
        assert 253_402_300_799_999_999 - length < last + 1 <= 253_402_300_799_999_999


ATTRIBUTES = st.none() | st.lists(
    st.tuples(st.sampled_from(["at", "by", "At"]), st.sampled_from([b"1", b"2.5", b"x"]))
)


@given(st.lists(ATTRIBUTES), st.integers(0, 3))
def test_an_attribute_is_found_in_its_own_message(
    attributes: list[list[tuple[str, bytes]] | None], skipped: int
) -> None:
    """By its whole name, the first of them; null without it, wherever others stand."""
    headers = pa.chunked_array([pa.array(attributes, HEADERS)] * 2).slice(skipped)
    wanted = [
        next((value.decode() for name, value in each or () if name == "at"), None)
        for each in (attributes * 2)[skipped:]
    ]

    assert sent_times("attribute:at", pa.table({"headers": headers})).to_pylist() == wanted


def attribute_times(*texts: str | None, unit: str | None = None) -> list[int | None]:
    """Return the times that an attribute says, in microseconds."""
    payload = pa.array([{}] * len(texts), pa.struct([]))
    sent = pa.array(texts, pa.string())
    return row_times("attribute:at", unit, MINUTE, NOW, sent, payload).to_pylist()


@given(unit=UNITS, value=st.integers(-(2**63), 2**63))
def test_a_number_in_an_attribute_is_rounded_down_exactly(unit: str, value: int) -> None:
    """As far as 64 bits surely hold it; instants are told beside it."""
    instant = "2026-11-22T10:30:00.5Z"
    is_held = -(10**18) < value < 9 * 10**18

    found = attribute_times(str(value), instant, None, "", f"{value} ", unit=unit)

    assert found == [
        expected(value, unit) if is_held else None,
        *times(pa.array([{"at": instant}]), "at"),
        *[None] * 3,
    ]


@given(
    unit=UNITS,
    whole=st.integers(-(10**12), 10**12),
    digits=st.text("0123456789", min_size=1, max_size=9),
)
def test_a_fraction_in_an_attribute_is_the_double_that_it_reads_as(
    unit: str, whole: int, digits: str
) -> None:
    """As a fraction in a field is."""
    text = f"{whole}.{digits}"

    assert attribute_times(text, unit=unit) == [expected(float(text), unit)]


def test_a_number_in_an_attribute_needs_a_unit() -> None:
    """Without one only instants are times."""
    assert attribute_times("1763807400", "1763807400.5") == [None, None]
