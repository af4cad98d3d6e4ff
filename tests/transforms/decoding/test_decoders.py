"""The law of decoders, which each one that is registered passes, and one that is from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_collection.schema.arrow import to_arrow
from batch_collection.schema.conforming import conform
from tests import toy_decoder
from tests.decoding import chunk, decoded, errors, rows
from transforms.decoding import json_rows
from transforms.decoding.contract import Columns, SchemaChange
from transforms.decoding.known import DECODERS, decoder_named
from transforms.decoding.rules import RowRules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transforms.decoding.contract import Decoder, Reading

FRAGMENTS = [
    *(
        b'{"a":1}',
        b'{"a":0.5}',
        b'{"a":"x"}',
        b'[{"a":1},{"b":[]}]',
        b"[]",
        b"{}",
        b'{"b":{"c":1}}',
    ),
    *(
        b'{"a":',
        b"}\n{",
        b"null",
        b"1",
        b"\xff",
        b"\n",
        b",",
        b"a,1",
        b"b,-7\nc,8",
        b"d,x",
        b" ",
        b"?",
    ),
]
VALUES = (
    st.none()
    | st.lists(st.sampled_from(FRAGMENTS), max_size=3).map(b"".join)
    | st.binary(max_size=5)
)


def as_words(messages: pa.Table) -> pa.Table:
    """Give each word its row, the last message's first; refuse what is no text."""
    places, words = [], []
    for place, value in reversed([*enumerate(messages.column("value").to_pylist())]):
        found = value.decode().split()
        words += found
        places += [place] * len(found)
    return pa.table(
        {"_message": pa.array(places, pa.int32()), "word": pa.array(words, pa.string())}
    )


@pytest.fixture(scope="module")
def registered() -> Iterator[None]:
    """Register a decoder from outside, by one line."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DECODERS, toy_decoder.NAME, toy_decoder.read_csv)
        yield


@pytest.fixture(scope="module", params=[*DECODERS, f"{__name__}:as_words", toy_decoder.NAME])
def decoder(request: pytest.FixtureRequest, registered: None) -> Decoder:  # noqa: ARG001
    """Give each decoder."""
    return decoder_named(request.param)


def settled(decoder: Decoder, values: list[bytes | None]) -> Reading:
    """Read messages under the types that they end with, as a cycle does that is planned again."""
    schema: dict[str, Any] = {}
    while True:
        try:
            reading = decoder(chunk(*values), Columns(schema, schema), RowRules())
        except SchemaChange as change:
            schema = change.schema
            continue
        if reading.schema == schema:
            return reading
        schema = reading.schema


def rows_of(reading: Reading) -> dict[int, list[Any]]:
    """Return each read message's rows, in their order."""
    made: dict[int, list[tuple[int, Any]]] = {}
    for piece in reading.pieces:
        for number in piece.read.tolist():
            assert number not in made, "read twice"
            made[number] = []
        index = [0] * len(piece.messages) if piece.index is None else piece.index.tolist()
        payload = conform(piece.payload, to_arrow(reading.schema)).to_pylist()
        for number, place, row in zip(piece.messages.tolist(), index, payload, strict=True):
            made[number].append((place, row))
    for found in made.values():
        assert [place for place, _ in found] == [*range(len(found))]
    return {number: [row for _, row in found] for number, found in made.items()}


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_every_live_message_is_read_or_a_fault_in_its_own_place(
    decoder: Decoder, data: st.DataObject
) -> None:
    """Exactly one of both, each with a reason; a tombstone is neither."""
    values = data.draw(st.lists(VALUES, max_size=8))

    reading = settled(decoder, values)

    made = rows_of(reading)
    assert made.keys() & reading.faults.keys() == set()
    live = {number for number, value in enumerate(values) if value is not None}
    assert made.keys() | reading.faults.keys() == live
    assert all(reading.faults.values())


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_what_a_message_makes_does_not_depend_on_its_neighbours(
    decoder: Decoder, data: st.DataObject
) -> None:
    """Given the types: alone, at another place, it makes the same rows, or is a fault as well."""
    values = data.draw(st.lists(VALUES, min_size=1, max_size=6))
    reading = settled(decoder, values)
    columns, made = Columns(reading.schema, reading.schema), rows_of(reading)

    for number, value in enumerate(values):
        alone = decoder(chunk(None, value), columns, RowRules())

        assert alone.schema == reading.schema
        assert rows_of(alone).get(1) == made.get(number)
        assert (1 in alone.faults) == (number in reading.faults)


def test_dropped_columns_are_left_out(decoder: Decoder) -> None:
    """Whatever messages hold under their names."""
    values = [b'{"a":1}', b"a,1"]
    full = settled(decoder, [*values]).schema

    reading = decoder(chunk(*values, b'{"a":"x"}'), Columns({}, {}, dropped=full), RowRules())

    assert reading.schema == {}
    assert reading.pieces
    assert {number: [{}] * len(of) for number, of in rows_of(reading).items()} == rows_of(reading)


@pytest.mark.usefixtures("registered")
def test_a_decoder_from_outside_decodes() -> None:
    """By its name, as the others do."""
    done = decoded(b"x,1\ny,2", None, b"x", b"", input_format=toy_decoder.NAME)

    assert done.schema == toy_decoder.TYPES
    assert rows(done) == [{"name": "x", "amount": 1}, {"name": "y", "amount": 2}]
    assert errors(done)[2].startswith("no CSV: ")
    assert (done.counts[0].tombstones, done.counts[0].empty) == (1, 1)


@settings(max_examples=100, deadline=None)
@given(
    values=st.lists(
        st.sampled_from([*FRAGMENTS, b"NaN", b'{"a":1e999}', b'"\\ud800"']), max_size=40
    )
)
def test_many_bad_messages_are_told_like_few(values: list[bytes]) -> None:
    """What is no JSON is looked for first, then: rows and reasons are the same."""

    def read(few: int) -> tuple[Any, ...]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(json_rows, "_FEW_FAILURES", few)
            patch.setattr(json_rows, "_CLOSE_LOOK", 2)
            done = decoded(*values, pinned={"a": "int64"})
        return errors(done), rows(done), done.schema

    assert read(0) == read(10**9)
