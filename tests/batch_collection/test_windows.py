"""Instants, durations, windows."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_collection.instants import instants_of
from batch_collection.windows import (
    EPOCH,
    TooLongError,
    boundary_at,
    compact_instant,
    format_duration,
    format_instant,
    from_microseconds,
    microseconds,
    parse_compact_instant,
    parse_duration,
    parse_instant,
    window_start,
)
from tests.builders import at

INSTANTS = st.datetimes(
    min_value=datetime(1, 1, 3),  # noqa: DTZ001 - hypothesis wants it naive
    max_value=datetime(9999, 12, 29),  # noqa: DTZ001
    timezones=st.just(timezone.utc),
)
FIRST = datetime(1, 1, 1, tzinfo=timezone.utc)
INTERVALS = st.timedeltas(timedelta(milliseconds=1), timedelta(days=1))


@given(INSTANTS)
def test_instants_round_trip(instant: datetime) -> None:
    """As RFC 3339, as microseconds, and as they stand in file names."""
    assert parse_instant(format_instant(instant)) == instant
    assert from_microseconds(microseconds(instant)) == instant
    assert parse_compact_instant(compact_instant(instant)) == instant


@given(INSTANTS, INTERVALS)
def test_an_instant_belongs_to_one_window(instant: datetime, interval: timedelta) -> None:
    """Start inclusive, end exclusive, a multiple of the interval since the epoch."""
    start = window_start(instant, interval)

    assert start <= instant < start + interval
    assert (start - EPOCH) % interval == timedelta(0)


@given(INSTANTS, st.timedeltas(timedelta(0), timedelta(days=1)), INTERVALS)
def test_the_boundary_is_at_least_grace_ago(
    clock: datetime, grace: timedelta, interval: timedelta
) -> None:
    """And no later one is."""
    boundary = boundary_at(clock, grace, interval)

    assert boundary <= clock - grace < boundary + interval


@given(INSTANTS, INTERVALS)
def test_no_boundary_is_before_the_calendar(instant: datetime, interval: timedelta) -> None:
    """A row of the year 1 does not stop the planner, however long the grace."""
    boundary = boundary_at(instant, instant - FIRST + timedelta(days=1), interval)

    assert FIRST <= boundary < FIRST + interval
    assert (boundary - EPOCH) % interval == timedelta(0)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-11-22T10:30:00Z", at("10:30:00")),
        ("2026-11-22 10:30:00", at("10:30:00")),
        ("2026-11-22T12:30:00+02:00", at("10:30:00")),
        ("2026-11-22T10:30:00.5Z", at("10:30:00.5")),
        ("2026-11-22T10:30:00.123456789z", at("10:30:00.123456")),
        ("2026-11-22", at("00:00:00")),
    ],
)
def test_instants_are_read_as_people_write_them(text: str, instant: datetime) -> None:
    """With or without zone, fraction, time."""
    assert parse_instant(text) == instant


@pytest.mark.parametrize(
    "text",
    [
        *("2026-11-22T10:30:00,123456Z", "2026-11-22T103000.1Z", "2026-11-22T24:00:00Z"),
        *("2026-11-22T103000.12345678Z", "2026-11-22T10:30:00.12345Z", "2026-W47-7T10:30:00Z"),
        *("2026-11-22T10:30:00Z", "2026-02-29T10:30:00Z", "2026-11-22T10:30:00.123456Z"),
    ],
)
def test_one_text_is_read_as_a_column_of_texts(text: str) -> None:
    """What is as long as what we write ourselves is no other language."""
    (micros,) = instants_of(pa.array([text])).to_pylist()

    try:
        found = microseconds(parse_instant(text))
    except ValueError:
        found = None
    assert found == micros


@pytest.mark.parametrize("text", ["", "soon", "10:30", "0001-01-01T00:00:00+14:00", "2026-13-01"])
def test_what_is_no_instant_is_said_to_be_none(text: str) -> None:
    """An instant before the year 1 is none either."""
    with pytest.raises(ValueError, match=re.escape(f"not an instant: {text!r}")):
        parse_instant(text)


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("10s", timedelta(seconds=10)),
        ("1h30m", timedelta(hours=1.5)),
        ("250ms", timedelta(milliseconds=250)),
        ("0.5s", timedelta(seconds=0.5)),
        ("2d", timedelta(days=2)),
        ("4w", timedelta(days=28)),
        ("1y2d", timedelta(days=367)),
    ],
)
def test_durations_are_read(text: str, duration: timedelta) -> None:
    """One number and unit, or several."""
    assert parse_duration(text) == duration


@pytest.mark.parametrize("text", ["", "10", "s", "-1s", "1 s", "1x", "nan", "1e3s", "٣s", "1.s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Digits of other scripts are none, as in instants."""
    with pytest.raises(ValueError, match=f"^not a duration: {text!r}; write it as 10s"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["9999999999d", "365001d", "1001y", "9" * 5000 + "y"])
def test_a_duration_that_leads_beyond_the_calendar_is_said_to_be_too_long(text: str) -> None:
    """With the most that there is."""
    with pytest.raises(TooLongError, match=r"^too long a duration: '.*'; write at most 1000y$"):
        parse_duration(text)
    assert parse_duration("1000y") == timedelta(days=365_000)


@given(st.integers(1, 10**12).map(lambda whole: timedelta(milliseconds=whole)))
def test_a_duration_is_written_as_it_is_read(duration: timedelta) -> None:
    """To the millisecond, up to 30 years."""
    assert abs(parse_duration(format_duration(duration)) - duration) <= duration / 10**5
