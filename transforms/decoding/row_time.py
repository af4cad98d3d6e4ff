"""Row times: when each row happened, by the rule of ``--timestamp``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch_collection.field_path import split_path
from batch_collection.instants import FIRST, LAST, instants_of
from batch_collection.windows import (
    format_duration,
    format_instant,
    from_microseconds,
    microseconds,
)

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    import numpy.typing as npt

__all__ = [
    "ATTRIBUTE",
    "FIELD",
    "kept_within_years",
    "limits",
    "row_times",
    "sent_times",
    "why_no_time",
    "within_years",
]


FIELD = "field:"
"""How a rule that takes the row time from a payload field begins; see ``field_path``."""
ATTRIBUTE = "attribute:"
"""How a rule that takes it from an attribute of the message begins."""

_PER_MICROSECOND = {"s": (1_000_000, 1), "ms": (1000, 1), "us": (1, 1), "ns": (1, 1000)}
_INT64_MAX = 2**63 - 1
_WHOLE = r"^-?\d{1,18}$|^[0-8]\d{18}$"  # as far as an int64 surely holds them
_FRACTION = r"^-?\d{1,18}\.\d{1,18}$"
_SPLITTER = 2.0**27 + 1


def limits(interval: timedelta) -> tuple[int, int]:
    """Return the first and last row time, in microseconds.

    These are the years 1 to 9999, as far as windows lie in them with both ends.
    """
    length = microseconds(interval)
    return -(-FIRST // length * length), LAST // length * length - 1


def within_years(milliseconds: pa.Int64Array) -> pa.BooleanArray:
    """Tell which milliseconds since the Unix epoch lie in the years 1 to 9999."""
    first, last = FIRST // 1000, LAST // 1000
    return pc.and_(pc.greater_equal(milliseconds, first), pc.less_equal(milliseconds, last))


def kept_within_years(milliseconds: pa.Int64Array) -> pa.Int64Array:
    """Return milliseconds since the Unix epoch, null where they are beyond the years 1 to 9999."""
    return _kept(milliseconds, FIRST // 1000, LAST // 1000)


def _kept(numbers: pa.Int64Array, first: int, last: int) -> pa.Int64Array:
    """Return numbers, null where they are beyond; not copied if none is."""
    found = pc.min_max(numbers).as_py()
    if found["min"] is None or first <= found["min"] <= found["max"] <= last:
        return numbers
    within = pc.and_(pc.greater_equal(numbers, first), pc.less_equal(numbers, last))
    return pc.if_else(within, numbers, pa.scalar(None, pa.int64()))


def sent_times(rule: str, messages: pa.Table) -> pa.ChunkedArray:
    """Return what a rule takes from each message itself, and not from its payload.

    That is the text of ``attribute:NAME``, else the record's timestamp: in milliseconds, or just
    when it was published.
    """
    if not rule.startswith(ATTRIBUTE):
        is_leased = "published" in messages.column_names
        return messages.column("published" if is_leased else "timestamp")
    headers, name = messages.column("headers"), rule.removeprefix(ATTRIBUTE)
    return pa.chunked_array([_texts(chunk, name) for chunk in headers.chunks], pa.string())


def _texts(headers: pa.ListArray, name: str) -> pa.StringArray:
    """Return the value of a header by its name, the first one; null where there is none."""
    keys, values = headers.flatten().flatten()
    places = np.flatnonzero(pc.equal(keys, name).to_numpy(zero_copy_only=False))
    messages, first = np.unique(
        pc.list_parent_indices(headers).to_numpy()[places], return_index=True
    )
    of_messages = np.full(len(headers), -1)
    of_messages[messages] = places[first]
    return values.take(pa.array(of_messages, mask=of_messages < 0)).cast(pa.string())


def row_times(
    rule: str,
    unit: str | None,
    interval: timedelta,
    planned_at: datetime,
    sent: pa.Array,
    payload: pa.StructArray,
) -> pa.Int64Array:
    """Return each row's time in microseconds since the Unix epoch, null where it has none.

    ``sent`` are ``sent_times`` of each row's message. With ``field:NAME`` numbers are counted in
    ``unit``, text is an instant (``instants``); with ``attribute:NAME`` text is either. What is
    finer than microseconds is rounded down, exactly, whatever the column's type. Null: no value, no
    time, or beyond ``limits``.
    """
    if rule == "collected":
        return pa.array(np.full(len(payload), microseconds(planned_at)))
    if rule == "record":
        times = _microseconds(sent, "ms")
    elif rule.startswith(ATTRIBUTE):
        times = _of_texts(sent, unit)
    else:
        times = _of_field(_columns(payload, rule.removeprefix(FIELD)), unit)
    return _kept(times, *limits(interval))


def why_no_time(
    rule: str,
    unit: str | None,
    interval: timedelta,
    sent: pa.Scalar,
    payload: pa.StructArray,
    row: int,
) -> str:
    """Return the reason, and the cure, why a row has no time; ``sent`` is its ``sent_times``."""
    if rule == "record":
        if not sent.is_valid:
            return "the record has no timestamp; use --timestamp=field:NAME or collected"
        unit = "us" if pa.types.is_timestamp(sent.type) else "ms"
        stamp = sent.cast(pa.int64()).as_py()
        within = _within(stamp * (1 if unit == "us" else 1000), interval)
        text = f"record timestamp {stamp} {unit} is not {within}"
        return f"{text}; fix the sender, or use --timestamp=field:NAME or collected"
    if rule.startswith(ATTRIBUTE):
        return _why_no_text(rule.removeprefix(ATTRIBUTE), unit, interval, sent)
    name = rule.removeprefix(FIELD)
    columns = _columns(payload.slice(row, 1), name)
    column = next((each for each in columns if each[0].is_valid), columns[-1])
    value = column.to_pylist()[0] if not pa.types.is_timestamp(column.type) else str(column[0])
    if value is None:
        return f"field {name} is missing or null; send it, or use --timestamp=record"
    if isinstance(value, (int, float)) and not isinstance(value, bool) and unit is None:
        return f"field {name} is the number {value}; say its unit with --timestamp_unit=s|ms|us|ns"
    within = _within(_microseconds(column, unit)[0].as_py(), interval)
    text = f"field {name} is no time {within}: {value!r:.80}"
    return f"{text}; send RFC 3339 or a number in --timestamp_unit, or use --timestamp=record"


def _why_no_text(name: str, unit: str | None, interval: timedelta, text: pa.StringScalar) -> str:
    if not text.is_valid:
        return f"attribute {name} is missing; send it, or use --timestamp=record"
    within = _within(_of_texts(pa.array([text.as_py()]), unit)[0].as_py(), interval)
    return (
        f"attribute {name} is no time {within}: {text.as_py()!r:.80}; send RFC 3339 or a number in "
        "--timestamp_unit, or use --timestamp=record"
    )


def _within(time: int | None, interval: timedelta) -> str:
    """Say what times rows may have, as closely as it takes to see that ``time`` is none."""
    years = "within years 1 to 9999"
    if time is None or not FIRST <= time <= LAST:
        return years
    first, last = (format_instant(from_microseconds(limit)) for limit in limits(interval))
    return f"{years}, in windows of {format_duration(interval)} {first} to {last}"


def _columns(payload: pa.StructArray, name: str) -> list[pa.Array]:
    """Return what a field's name may mean, the first first: a key of exactly that name, or a path.

    A later key must not take the time from rows that have none of it, so each row has its say.
    """
    paths = dict.fromkeys([(name,), split_path(name, lambda _: False)])
    return [_column(payload, names) for names in paths]


def _column(payload: pa.StructArray, names: tuple[str, ...]) -> pa.Array:
    """Return a field's values, nulls where there is no such field."""
    array: Any = payload
    for name in names:
        place = array.type.get_field_index(name) if pa.types.is_struct(array.type) else -1
        if place < 0:
            return pa.nulls(len(payload))
        array = pc.struct_field(array, [place])  # null where its struct is
    return array


def _of_field(columns: list[pa.Array], unit: str | None) -> pa.Int64Array:
    """Return the times of each row by the first column in which it has a value."""
    first, *others = columns
    times = _microseconds(first, unit)
    return pc.if_else(first.is_valid(), times, _of_field(others, unit)) if others else times


def _of_texts(texts: pa.StringArray, unit: str | None) -> pa.Int64Array:
    """Return the times that texts say, as instants or as numbers of a unit."""
    times = instants_of(texts)
    if unit is None:
        return times
    whole = _of_integers(_numbers(texts, _WHOLE, pa.int64()), *_PER_MICROSECOND[unit])
    fractions = _of_fractions(_numbers(texts, _FRACTION, pa.float64()), *_PER_MICROSECOND[unit])
    return pc.coalesce(times, whole, fractions)


def _numbers(texts: pa.StringArray, pattern: str, type_: pa.DataType) -> pa.Array:
    is_number = pc.match_substring_regex(texts, pattern)
    return pc.if_else(is_number, texts, pa.scalar(None, pa.string())).cast(type_)


def _microseconds(column: pa.Array, unit: str | None) -> pa.Int64Array:
    is_ = pa.types
    if is_.is_timestamp(column.type):
        return column.cast(pa.int64())
    if is_.is_string(column.type):
        return instants_of(column)
    if unit is not None and is_.is_integer(column.type):
        return _of_integers(column, *_PER_MICROSECOND[unit])
    if unit is not None and is_.is_floating(column.type):
        return _of_fractions(column, *_PER_MICROSECOND[unit])
    return pa.nulls(len(column), pa.int64())


def _of_integers(column: pa.Array, factor: int, divisor: int) -> pa.Int64Array:
    if column.type == pa.uint64():
        column, divisor = pc.divide(column, pa.scalar(divisor, pa.uint64())), 1
        column = pc.if_else(pc.less_equal(column, pa.scalar(_INT64_MAX, pa.uint64())), column, None)
    numbers = column.cast(pa.int64())
    least, most = -(2**63 // factor), _INT64_MAX // factor
    numbers = _kept(numbers, least, most)
    micros = numbers.fill_null(0).to_numpy() * factor
    if divisor > 1:
        micros //= divisor
    return pa.array(micros, mask=_missing(numbers) if numbers.null_count else None)


def _of_fractions(column: pa.Array, factor: int, divisor: int) -> pa.Int64Array:
    """Round down what binary fractions are exactly."""
    numbers = column.cast(pa.float64()).fill_null(np.nan).to_numpy()
    missing = ~(np.abs(numbers) < 2.0**62 / factor * divisor)
    numbers = np.where(missing, 0.0, numbers)
    if divisor > 1:
        micros = _thousandths(np.floor(numbers))
    else:
        whole = np.trunc(numbers)
        micros = whole.astype(np.int64) * factor + _floor_of_product(numbers - whole, factor)
    return pa.array(micros, mask=missing)


def _thousandths(whole: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return whole numbers by 1000, rounded down; those of 2**62 or more are multiples of 1024."""
    is_long = np.abs(whole) >= 2.0**62
    parts = np.where(is_long, whole / 1024, 0).astype(np.int64)
    of_long = parts // 125 * 128 + parts % 125 * 128 // 125
    return np.where(is_long, of_long, np.where(is_long, 0, whole).astype(np.int64) // 1000)


def _floor_of_product(fractions: npt.NDArray[np.float64], factor: int) -> npt.NDArray[np.int64]:
    """Return ``fractions * factor`` rounded down, exactly; fractions between -1 and 1.

    Each is split into two halves of its digits (Veltkamp), whose products are exact, and so is the
    sign of how far they are from the nearest integer.
    """
    nearest = np.rint(fractions * factor)
    split = fractions * _SPLITTER
    high = split - (split - fractions)
    low = fractions - high
    is_above = (high * factor - nearest) + low * factor < 0
    return nearest.astype(np.int64) - is_above


def _missing(array: pa.Array) -> npt.NDArray[np.bool_]:
    return array.is_null().to_numpy(zero_copy_only=False)
