"""Texts of instants: what is one, and that columns, flags and single texts are read alike."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_collection.instants import exact_instants_of, instants_of, is_exact_instant
from batch_collection.windows import EPOCH, microseconds, parse_instant

SECOND = 1795343400_000_000  # 2026-11-22T10:30:00Z

GOOD = [
    ("2026-11-22T10:30:00Z", SECOND),
    ("2026-11-22t10:30:00z", SECOND),
    ("2026-11-22 10:30:00", SECOND),
    ("2026-11-22T10:30Z", SECOND),
    ("2026-11-22 10:30", SECOND),
    ("2026-11-22T10Z", SECOND - 1_800_000_000),
    ("2026-11-22", SECOND - 37_800_000_000),
    ("2026-11-22T12:30:00+02:00", SECOND),
    ("2026-11-22T12:30:00+0200", SECOND),
    ("2026-11-22 12:30:00+02", SECOND),
    ("2026-11-23T00:30:00+14:00", SECOND),
    ("2026-11-22T10:30:00-00:00", SECOND),
    ("2026-11-22T16:00+0530", SECOND),
    ("2026-11-22T10:30:00.5Z", SECOND + 500_000),
    ("2026-11-22T10:30:00.123456000Z", SECOND + 123_456),
    ("2026-11-22T10:30:00.123456000000+00:00", SECOND + 123_456),
    ("1969-12-31T23:59:59.999999Z", -1),
    ("0001-01-01T00:00:00Z", -62_135_596_800_000_000),
    ("9999-12-31T23:59:59.999999Z", 253_402_300_799_999_999),
    ("0000-12-31T23:00:00-01:00", -62_135_596_800_000_000),
    ("2024-02-29", 1_709_164_800_000_000),
    ("2000-02-29", 951_782_400_000_000),
]
"""Texts and their microseconds, which all columns and flags read, and none finer."""

FINER = [
    ("2026-11-22T10:30:00.123456789Z", SECOND + 123_456),
    ("2026-11-22T10:30:00.1234569-00:00", SECOND + 123_456),
    ("1969-12-31T23:59:59.9999999Z", -1),
]
"""Instants that only a column of texts holds exactly; as a time they are rounded down."""

BAD = [
    "",
    "soon",
    "10:30",
    "1795343400",
    "2026-11-22T24:00:00Z",
    "2026-12-31T23:59:60Z",
    "2026-02-29",
    "1900-02-29",
    "2026-04-31T00:00:00Z",
    "2026-13-01",
    "2026-00-10",
    "2026-1-2",
    "2026-11-22Z",
    "2026-11-22T10:30:00.Z",
    "2026-11-22T10:30:00,5Z",
    "2026-11-22T10:30.5Z",
    "2026-11-22T10:30:00 Z",
    "2026-11-22T10:30:00Z\n2026-11-22T10:30:00Z",
    "2026-11-22T10:30:00+24:00",
    "2026-11-22T10:30:00+10:60",
    "20261122T103000Z",
    "2026-W47-7",
    "2026-W47-1T10:00:00Z",
    "0000-12-31T23:59:59Z",
    "0001-01-01T00:00:00+00:01",
    "9999-12-31T23:59:59-00:01",
    "10000-01-01T00:00:00Z",
    "-2026-11-22",
    "२०२६-11-22",
]


def column(texts: list[str]) -> pa.StringArray:
    """Build a column that begins with what Arrow reads at once."""
    return pa.array(["2026-11-22T10:30:00Z"] * 20 + [None, *texts], pa.string())


def test_a_column_of_any_instants_is_read_at_once() -> None:
    """Each as it says, whatever stands beside it; finer fractions are rounded down."""
    both = GOOD + FINER
    read = instants_of(column([text for text, _ in both] + BAD)).to_pylist()
    assert read[20:] == [None, *(micros for _, micros in both), *[None] * len(BAD)]


@pytest.mark.parametrize(("text", "micros"), GOOD + FINER)
def test_an_instant_of_a_flag_is_read_as_one_of_a_column(text: str, micros: int) -> None:
    """Alone in its column, or as what a user says; blanks around that are left out."""
    assert instants_of(pa.array([text])).to_pylist() == [micros]
    assert microseconds(parse_instant(f" {text}\n")) == micros


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_instant_of_a_column_is_none_of_a_flag(text: str) -> None:
    """One set of texts for all."""
    assert instants_of(pa.array([text])).to_pylist() == [None]
    with pytest.raises(ValueError, match="not an instant"):
        parse_instant(text)


def test_a_column_of_instants_holds_no_finer_ones() -> None:
    """Zeros behind the microseconds are none; each text alone is judged as in its column."""
    texts = [text for text, _ in GOOD + FINER] + BAD
    read = exact_instants_of(pa.array(texts)).cast(pa.int64()).to_pylist()
    assert read == [*(micros for _, micros in GOOD), *[None] * (len(FINER) + len(BAD))]
    assert [is_exact_instant(text) for text in texts] == [micros is not None for micros in read]


ZONES = st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(
    lambda span: timezone(timedelta(minutes=span // timedelta(minutes=1)))
)


@given(
    st.lists(
        st.tuples(
            st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=ZONES),  # noqa: DTZ001
            st.sampled_from("Tt "),
            st.sampled_from(["auto", "hours", "minutes", "microseconds"]),
        )
    )
)
def test_what_python_writes_is_read_as_python_says(
    drawn: list[tuple[datetime, str, str]],
) -> None:
    """Any instants, zones and precisions, mixed."""
    texts = [instant.isoformat(separator, spec) for instant, separator, spec in drawn]
    expected = [microseconds(datetime.fromisoformat(text)) for text in texts]
    assert instants_of(pa.array(texts, pa.string())).to_pylist() == expected


@given(st.from_regex(r"\d{4}-\d{2}-\d{2}", fullmatch=True))
def test_the_calendar_is_that_of_python(day: str) -> None:
    """Months have their days, leap years theirs."""
    try:
        expected = microseconds(datetime.fromisoformat(f"{day}T00:00:00+00:00") - EPOCH)
    except ValueError:
        expected = None
    assert instants_of(pa.array([day])).to_pylist() == [expected]
