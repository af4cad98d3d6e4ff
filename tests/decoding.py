"""Decoding in tests: messages, what became of them, and Python's own opinion of each."""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from batch_collection.schema.arrow import to_arrow
from transforms.decoding import json_rows
from transforms.decoding.contract import MAX_SCHEMA_TEXT, Columns
from transforms.decoding.decode import DEAD_LETTERS, Decoded, decode
from transforms.decoding.json_value import MAX_DEPTH
from transforms.decoding.rules import RowRules
from transforms.elements.tables import POSITION
from transforms.sources.contract import LEASED_MESSAGES, MESSAGES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = [
    "FIRST_OFFSET",
    "LAW",
    "MINUTE",
    "NOW",
    "STAMP",
    "check_against_json",
    "chunk",
    "decoded",
    "errors",
    "expected",
    "offsets",
    "rows",
    "shown",
    "substance",
    "with_ids",
    "without_plain",
]

NOW = datetime(2026, 11, 22, 10, 30, tzinfo=timezone.utc)
MINUTE = timedelta(minutes=1)
STAMP = 1_760_000_000_123
FIRST_OFFSET = 1000

LAW: dict[str, Any] = {
    "a": "int64",
    "d": "double",
    "s": "string",
    "n": {"x": "int64"},
    "l": ["double"],
}
"""The types that Python's opinion is asked about."""


def chunk(*values: bytes | None, timestamp: int | None = STAMP, partition: int = 3) -> pa.Table:
    """Build messages at consecutive offsets, each with a key and a header that name it."""
    count = range(len(values))
    columns: list[list[Any]] = [
        [partition] * len(values),
        [FIRST_OFFSET + place for place in count],
        [timestamp] * len(values),
        list(values),
        [b"key-%d" % place for place in count],
        [[("n", b"%d" % place)] for place in count],
    ]
    return pa.Table.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, MESSAGES, strict=True)],
        schema=MESSAGES,
    )


def with_ids(messages: pa.Table) -> pa.Table:
    """Make messages such as a leased source hands out: id and instant name the offset."""
    places = messages.column("offset").to_pylist()
    stamps = messages.column("timestamp").to_pylist()
    published = [
        1000 * (stamp or 0) + place % 1000 for stamp, place in zip(stamps, places, strict=True)
    ]
    columns = [*messages.columns, [f"id-{place}" for place in places], published]
    return pa.table(columns, schema=LEASED_MESSAGES)


def decoded(
    *values: bytes | None,
    pinned: dict[str, Any] | None = None,
    known: dict[str, Any] | None = None,
    timestamp: int | None = STAMP,
    dropped: dict[str, Any] | None = None,
    **rules: Any,
) -> Decoded:
    """Decode messages and see that they are all accounted for, in order, whatever way they go."""
    pinned = pinned or {}
    messages = chunk(*values, timestamp=timestamp)
    columns = Columns(pinned, known or pinned, dropped=dropped or {})
    done = decode(messages, columns, RowRules(**rules), NOW, MINUTE)
    with without_plain():
        again = decode(messages, columns, RowRules(**rules), NOW, MINUTE)
    assert done.rows.equals(again.rows)
    assert done.dead_letters.equals(again.dead_letters)
    assert (done.counts, done.schema, done.untyped) == (again.counts, again.schema, again.untyped)
    done.rows.validate(full=True)
    done.dead_letters.validate(full=True)
    assert done.rows.schema == POSITION.append(pa.field("payload", to_arrow(done.schema)))
    assert done.dead_letters.schema == DEAD_LETTERS
    if values:
        (count,) = done.counts
        made_rows = len(set(offsets(done)))
        assert count.messages == len(values)
        assert count.messages == made_rows + count.dead_letters + count.tombstones + count.empty
        assert count.rows == done.rows.num_rows
        assert count.dead_letters == done.dead_letters.num_rows
    for table in (done.rows, done.dead_letters):
        order = table.column("offset").to_pylist()
        assert order == sorted(order)
    return done


@contextmanager
def without_plain() -> Iterator[None]:
    """Read JSON as where ``plain_json.c`` was not compiled, as long as the block lasts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_rows, "plain_reader", lambda _: None)
        yield


def offsets(done: Decoded) -> list[int]:
    """Return each row's message, counted from 0."""
    return [offset - FIRST_OFFSET for offset in done.rows.column("offset").to_pylist()]


def rows(done: Decoded) -> list[dict[str, Any]]:
    """Return the rows' payloads."""
    return done.rows.column("payload").to_pylist()


def errors(done: Decoded) -> dict[int, str]:
    """Return each dead letter's reason, by its message counted from 0."""
    places = [offset - FIRST_OFFSET for offset in done.dead_letters.column("offset").to_pylist()]
    return dict(zip(places, done.dead_letters.column("error").to_pylist(), strict=True))


def _no_constant(name: str) -> None:
    """Refuse NaN and its like."""
    raise ValueError(name)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse keys that stand twice."""
    if len(dict(pairs)) < len(pairs):
        raise ValueError(pairs)
    return dict(pairs)


def _fits(value: Any, type_: Any) -> bool:
    """Tell whether a value stays the same in its column; the tests' own opinion."""
    if substance(value) is None:
        return _has_names(value)
    if isinstance(type_, dict):
        return isinstance(value, dict) and all(
            _is_name(name) and _fits(field, type_.get(name, "unknown"))
            for name, field in value.items()
        )
    if isinstance(type_, list):
        return isinstance(value, list) and all(_fits(element, type_[0]) for element in value)
    if type_ == "string":
        return isinstance(value, str) and _is_text(value)
    return isinstance(value, bool) if type_ == "bool" else _fits_number(value, type_)


def _has_names(value: Any) -> bool:
    """Tell whether all fields of a value, however deep, may be called that."""
    if isinstance(value, dict):
        return all(_is_name(name) and _has_names(field) for name, field in value.items())
    return not isinstance(value, list) or all(map(_has_names, value))


def _is_name(text: str) -> bool:
    """Tell whether a field may be called that, even if it is null."""
    return _is_text(text) and len(text) < MAX_SCHEMA_TEXT


def _is_text(text: str) -> bool:
    """Tell whether UTF-8 can write it: half a surrogate pair it can't."""
    return text == text.encode(errors="ignore").decode()


def _fits_number(value: Any, type_: str) -> bool:
    """Tell whether a value is a number that stays the same in its column."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    if type_ == "int64":
        return isinstance(value, int) and -(2**63) <= value < 2**63
    return type_ == "double" and abs(value) < 2**1024 and float(value) == value


def shown(value: Any, type_: Any) -> Any:
    """Return a value as its column shows it, missing fields and what has no type null."""
    if isinstance(type_, dict) and isinstance(value, dict):
        return {name: shown(value.get(name), field) for name, field in type_.items()}
    if isinstance(type_, list) and isinstance(value, list):
        return [shown(element, type_[0]) for element in value]
    return None if isinstance(value, (dict, list)) else value


def expected(message: bytes, types: dict[str, Any] = LAW) -> list[Any] | None:
    """Return the rows of one message by Python's json, None for a dead letter."""
    try:
        value = json.loads(message.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    objects = value if isinstance(value, list) else [value]
    if any(isinstance(each, dict) and "_offset" in each for each in objects):
        return None
    if _levels(value) > MAX_DEPTH:
        return None
    if all(isinstance(each, dict) and _fits(each, types) for each in objects):
        return [shown(each, types) for each in objects]
    return None


def _levels(value: Any) -> int:
    """Count how deep a value nests objects and arrays."""
    if not isinstance(value, (dict, list)):
        return 0
    return 1 + max(map(_levels, value.values() if isinstance(value, dict) else value), default=0)


def _by_offset(done: Decoded) -> dict[int, list[Any]]:
    """Return each message's rows."""
    made: dict[int, list[Any]] = {}
    for offset, row in zip(offsets(done), rows(done), strict=True):
        made.setdefault(offset, []).append(row)
    return made


def _letters(done: Decoded) -> dict[int, bytes]:
    """Return each dead letter's bytes."""
    places = done.dead_letters.column("offset").to_pylist()
    values = done.dead_letters.column("value").to_pylist()
    return {place - FIRST_OFFSET: value for place, value in zip(places, values, strict=True)}


def _known_only(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row without the columns that other messages added."""
    return shown(row, LAW)


def substance(value: Any) -> Any:
    """Return what a value holds beside nulls and empty things, None if that is nothing."""
    if isinstance(value, dict):
        fields = {name: substance(field) for name, field in value.items()}
        return {name: field for name, field in fields.items() if field is not None} or None
    if isinstance(value, list):
        elements = [substance(element) for element in value]
        return elements if any(element is not None for element in elements) else None
    return value


def check_against_json(values: Sequence[bytes | None], done: Decoded) -> None:
    """See that each message, decoded under ``LAW``, made what Python's json says of it alone.

    Its rows are Python's, or it is a dead letter, unchanged, at its own offset.
    """
    made, dead = _by_offset(done), _letters(done)

    for place, value in enumerate(values):
        wanted = None if value is None else expected(value)
        if value is None:
            assert place not in made
            assert place not in dead
        elif wanted is not None:
            assert [_known_only(row) for row in made.get(place, [])] == wanted
            assert place not in dead
        elif place in dead:
            assert dead[place] == value
            assert place not in made
        else:  # it added columns, which Python's opinion above doesn't know
            objects = json.loads(value)
            objects = objects if isinstance(objects, list) else [objects]
            assert len(made[place]) == len(objects)
            assert [substance(row) for row in made[place]] == [substance(each) for each in objects]
