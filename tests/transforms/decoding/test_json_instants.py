"""Columns of instants in JSON: read as the same texts are as row times, exactly or not at all."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tests.batch_collection.test_instants import BAD, FINER, GOOD
from tests.collecting import json_of
from tests.decoding import decoded, errors

PINNED: dict[str, Any] = {"t": "timestamp", "s": {"l": [{"t": "timestamp"}]}, "n": "int64"}


def micros(payload: pa.ChunkedArray, *names: str) -> list[int | None]:
    """Return a column of instants in microseconds."""
    column = pc.struct_field(payload, list(names)).combine_chunks()
    return column.cast(pa.int64()).to_pylist()


@pytest.mark.parametrize("field", ["", "field:t"])
def test_a_column_and_a_time_field_read_the_same_texts(field: str) -> None:
    """A text is one instant, in a column, deep in one, and as a row's time."""
    values = [json_of({"t": t, "s": {"l": [{"t": t}, {}, None]}, "n": 1}) for t, _ in GOOD[:-5]]
    expected = [micros for _, micros in GOOD[:-5]]

    done = decoded(*values, pinned=PINNED, row_time=field or "record")

    payload = done.rows.column("payload")
    lists = pc.struct_field(payload, ["s", "l"]).combine_chunks()
    assert micros(payload, "t") == expected
    assert micros(pa.chunked_array([lists.flatten()]), "t") == [
        each for instant in expected for each in (instant, None, None)
    ]
    assert not field or done.rows.column("row_time").to_pylist() == expected


@pytest.mark.parametrize(("text", "instant"), GOOD)
def test_an_instant_alone_is_read_as_among_others(text: str, instant: int) -> None:
    """Those at the ends of the calendar, too, whatever windows can hold."""
    payload = decoded(json_of({"t": text}), b"{}", pinned=PINNED).rows.column("payload")
    assert micros(payload, "t") == [instant, None]


@pytest.mark.parametrize("text", BAD + [text for text, _ in FINER])
def test_a_bad_instant_is_a_dead_letter_alone(text: str) -> None:
    """Among very many good ones, deep in lists, too; the reason says what an instant is."""
    good = b'{"t":"2026-11-22T10:30:00Z","s":{"l":[{"t":"2026-11-22"}]}}'
    deep = json_of({"s": {"l": [{"t": "2026-11-22T10:30:00Z"}, {"t": text}]}})

    done = decoded(*[good] * 100, json_of({"t": text}), deep, b"[%s]" % deep, good, pinned=PINNED)

    what = "is timestamp (RFC 3339 texts within years 1 to 9999, at most microseconds)"
    assert {place: error.split(" and can't")[0] for place, error in errors(done).items()} == {
        100: f"column t {what}",
        101: f"column s.l[].t {what}",
        102: f"column s.l[].t {what}",
    }
