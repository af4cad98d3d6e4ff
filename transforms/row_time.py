"""Row times: when each row happened, by the rule of ``--timestamp``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch_collection.windows import EPOCH, microseconds
from transforms.reading import halves

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    import numpy.typing as npt

__all__ = ["FIELD", "instants_of", "limits", "row_times", "why_no_time"]

FIELD = "field:"
"""How a rule that takes the row time from a payload field begins; dots lead into structs."""

_FIRST = EPOCH.replace(year=1)
_LAST = EPOCH.replace(
    year=9999, month=12, day=31, hour=23, minute=59, second=59, microsecond=999_999
)
_PER_MICROSECOND = {"s": (1_000_000, 1), "ms": (1000, 1), "us": (1, 1), "ns": (1, 1000)}
_RFC_3339 = r"^\d{4}-\d{2}-\d{2}([Tt ]\d{2}:\d{2}:\d{2}(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})?)?$"
_INSTANT = pa.timestamp("us", "UTC")
_INT64_MAX = 2**63 - 1


def limits(interval: timedelta) -> tuple[int, int]:
    """Return the first and last row time, in microseconds, whose window Beam and Python can hold.

    These are the years 1 to 9999 with an interval to spare on both sides.
    """
    return microseconds(_FIRST + interval), microseconds(_LAST - interval)


def row_times(
    rule: str,
    unit: str | None,
    interval: timedelta,
    planned_at: datetime,
    timestamps: pa.Array,
    payload: pa.StructArray,
) -> pa.Int64Array:
    """Return each row's time in microseconds since the Unix epoch, null where it has none.

    ``timestamps`` are the records', in milliseconds. With ``field:NAME`` numbers are counted in
    ``unit`` (integers exactly, finer ones rounded down; fractions to the nearest microsecond); text
    is RFC 3339, UTC if it names no zone, finer fractions cut. Null: no value, no time, or beyond
    ``limits``.
    """
    if rule == "collected":
        return pa.array(np.full(len(payload), microseconds(planned_at)))
    if rule == "record":
        column, unit = timestamps, "ms"
    else:
        column = _column(payload, rule.removeprefix(FIELD))
    times = _microseconds(column, unit)
    first, last = limits(interval)
    within = pc.and_(pc.greater_equal(times, first), pc.less_equal(times, last))
    return pc.if_else(within, times, pa.scalar(None, pa.int64()))


def why_no_time(
    rule: str, unit: str | None, timestamp: int | None, payload: pa.StructArray, row: int
) -> str:
    """Return the reason, and the cure, why a row has no time."""
    if rule == "record":
        if timestamp is None:
            return "the record has no timestamp; use --timestamp=field:NAME or collected"
        return f"record timestamp {timestamp} ms is not within years 1 to 9999; mend the sender"
    name = rule.removeprefix(FIELD)
    column = _column(payload.slice(row, 1), name)
    value = column.to_pylist()[0] if not pa.types.is_timestamp(column.type) else str(column[0])
    if value is None:
        return f"field {name} is missing or null; send it, or use --timestamp=record"
    if isinstance(value, (int, float)) and not isinstance(value, bool) and unit is None:
        return f"field {name} is the number {value}; say its unit with --timestamp_unit=s|ms|us|ns"
    text = f"field {name} is no time within years 1 to 9999: {value!r:.80}"
    return f"{text}; send RFC 3339 or a number in --timestamp_unit, or use --timestamp=record"


def _column(payload: pa.StructArray, name: str) -> pa.Array:
    """Return a field's values, nulls where there is no such field."""
    array: Any = payload
    for part in name.split("."):
        is_there = pa.types.is_struct(array.type) and array.type.get_field_index(part) >= 0
        if not is_there:
            return pa.nulls(len(payload))
        array = pc.struct_field(array, part)  # null where its struct is
    return array


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
        column = pc.if_else(pc.less_equal(column, pa.scalar(_INT64_MAX, pa.uint64())), column, None)
    numbers = column.cast(pa.int64())
    most = _INT64_MAX // factor
    bearable = pc.and_(pc.greater_equal(numbers, -most), pc.less_equal(numbers, most))
    numbers = pc.if_else(bearable, numbers, pa.scalar(None, pa.int64()))
    micros = numbers.fill_null(0).to_numpy() * factor // divisor
    return pa.array(micros, mask=_missing(numbers))


def _of_fractions(column: pa.Array, factor: int, divisor: int) -> pa.Int64Array:
    numbers = column.cast(pa.float64()).fill_null(np.nan).to_numpy() * factor / divisor
    missing = ~(np.abs(numbers) < 2.0**63)
    return pa.array(np.rint(np.where(missing, 0.0, numbers)).astype(np.int64), mask=missing)


def _missing(array: pa.Array) -> npt.NDArray[np.bool_]:
    return array.is_null().to_numpy(zero_copy_only=False)


def instants_of(texts: pa.StringArray) -> pa.Int64Array:
    """Return RFC 3339 texts as microseconds since the Unix epoch, null where it is none."""
    is_time = pc.match_substring_regex(texts, _RFC_3339)
    texts = pc.if_else(is_time, texts, pa.scalar(None, pa.string()))
    try:
        return texts.cast(_INSTANT).cast(pa.int64())
    except pa.ArrowInvalid:
        return _parsed(_plain(texts))


def _plain(texts: pa.StringArray) -> pa.StringArray:
    """Write texts the one way that Arrow reads: upper case, microseconds, with a zone."""
    texts = pc.replace_substring_regex(pc.utf8_upper(texts), r"(\.\d{6})\d+", r"\1")
    has_zone = pc.match_substring_regex(texts, r"(Z|[+-]\d{2}:\d{2})$")
    has_zone = pc.and_(has_zone, pc.greater(pc.utf8_length(texts), len("2026-11-22")))
    with_time = pc.if_else(
        pc.equal(pc.utf8_length(texts), len("2026-11-22")),
        pc.binary_join_element_wise(texts, "T00:00:00", ""),
        texts,
    )
    return pc.if_else(has_zone, texts, pc.binary_join_element_wise(with_time, "Z", ""))


def _parsed(texts: pa.StringArray) -> pa.Int64Array:
    """Cast all at once, or half by half."""
    try:
        return texts.cast(_INSTANT).cast(pa.int64())
    except pa.ArrowInvalid:
        if len(texts) == 1:
            return pa.nulls(1, pa.int64())
        parts = [_parsed(texts.take(pa.array(part))) for part in halves(np.arange(len(texts)))]
        return pa.concat_arrays(parts)
