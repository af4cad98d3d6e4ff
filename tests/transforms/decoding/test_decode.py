"""Decode: what each message becomes, whatever its bytes and its neighbours."""

from __future__ import annotations

import json
import pickle
import re
import sys
import time
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_collection.errors import CollectionError
from tests.decoding import (
    FIRST_OFFSET,
    LAW,
    MINUTE,
    NOW,
    STAMP,
    check_against_json,
    chunk,
    decoded,
    errors,
    offsets,
    rows,
    shown,
    with_ids,
    without_plain,
)
from transforms.decoding import json_rows
from transforms.decoding.additions import objection
from transforms.decoding.contract import MAX_SCHEMA_TEXT, Columns, SchemaChange
from transforms.decoding.decode import Decoded, decode
from transforms.decoding.rules import RowRules

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import FrameType


def test_objects_become_rows_in_their_places() -> None:
    """One row a message, with its position; types are inferred."""
    done = decoded(b'{"a":1,"b":"x"}', b' \t\r\n{"b":"y","c":[0.5]}\n', b"{}")

    assert done.schema == {"a": "int64", "b": "string", "c": ["double"]}
    assert done.rows.to_pylist() == [
        {
            "row_time": STAMP * 1000,
            "partition": 3,
            "offset": FIRST_OFFSET + place,
            "timestamp": datetime(2025, 10, 9, 8, 53, 20, 123000, timezone.utc),
            "index": None,
            "key": None,
            "headers": None,
            "payload": payload,
        }
        for place, payload in enumerate(
            [
                {"a": 1, "b": "x", "c": None},
                {"a": None, "b": "y", "c": [0.5]},
                {"a": None, "b": None, "c": None},
            ]
        )
    ]


def test_each_object_of_an_array_is_a_row() -> None:
    """They carry their message's offset and their place in it; objects stand between arrays."""
    done = decoded(b'[{"a":1},{"a":2}]', b'{"a":3}', b"[ ]", b'\n [{"b":null},{},{"a":4}]')

    assert rows(done) == [{"a": a} for a in (1, 2, 3, None, None, 4)]
    assert offsets(done) == [0, 0, 1, 3, 3, 3]
    assert done.rows.column("index").to_pylist() == [0, 1, None, 0, 1, 2]
    assert done.counts[0].empty == 1


def test_tombstones_are_counted_and_make_no_rows() -> None:
    """A null value is one, for every input format."""
    for input_format in ("json", "bytes", f"{__name__}:as_text"):
        done = decoded(None, b'{"a":1}', None, input_format=input_format)

        assert (done.counts[0].tombstones, offsets(done)) == (2, [1])


def test_a_chunk_may_be_empty_or_a_record_batch_or_a_slice() -> None:
    """No messages make no rows; how a chunk lies in memory makes no difference."""
    whole = chunk(b'{"a":1}', b"x", b'[{"a":2}]', None, b'{"a":3}').slice(1)
    pieces = pa.concat_tables([whole.slice(0, 2), whole.slice(2)])
    (batch,) = whole.to_batches()

    empty = decode(whole.slice(0, 0), Columns({}, {}), RowRules(), NOW, MINUTE)
    results = [
        decode(messages, Columns({}, {}), RowRules(), NOW, MINUTE)
        for messages in (whole, pieces, batch)
    ]

    assert (empty.rows.num_rows, empty.counts, empty.schema) == (0, (), {})
    for done in results:
        assert offsets(done) == [2, 4]
        assert done.counts == results[0].counts
        assert done.dead_letters.column("value").to_pylist() == [b"x"]


def test_counts_are_by_partition() -> None:
    """Each partition's offsets, and what its messages became, with its highest row time."""
    messages = pa.concat_tables(
        [
            chunk(b'[{"a":1},{"a":2}]', b"[]", None, partition=5),
            chunk(b'{"a":3}', b"x", partition=2, timestamp=STAMP + 1),
            chunk(b"x", partition=9),
        ]
    )

    two, five, nine = decode(messages, Columns({}, {}), RowRules(), NOW, MINUTE).counts

    assert (two.partition, two.start, two.end, two.messages) == (2, 1000, 1002, 2)
    assert (two.rows, two.dead_letters, two.tombstones, two.empty) == (1, 1, 0, 0)
    assert (five.rows, five.dead_letters, five.tombstones, five.empty) == (2, 0, 1, 1)
    assert two.max_time == datetime(2025, 10, 9, 8, 53, 20, 124000, timezone.utc)
    assert (nine.rows, nine.max_time) == (0, None)


NOT_JSON = {
    b"": "an empty message is no JSON",
    b" \t\r\n": "an empty message is no JSON",
    b'{"a":1}}\n{"v":{"a":2}': "not JSON: Extra data: line 1 column 8 (char 7)",
    b'{"a":1}}\n{"v":{"a":2}}\n\0': "not JSON: Extra data",
    b'{"a":1},"w":{}': "not JSON: Extra data",
    b'{"a":1},"v":{"a":2}': "not JSON: Extra data",
    b'[{"a":1}]}\n{"v":[{"a":2}]': "not JSON: Extra data",
    b'{"a":1}{"a":2}': "not JSON: Extra data",
    b'{"a":1}\n{"a":2}': "not JSON: Extra data",
    b'{"a":1}\0': "not JSON: Extra data",
    b'{"a":"\0"}': "not JSON: Invalid control character",
    b'{"a":"x\ny"}': "not JSON: Invalid control character",
    b'{"a":': "not JSON: Expecting value",
    b'{"a":"': "not JSON: Unterminated string",
    b"{": "not JSON: Expecting property name",
    b'{"a":1}/*x*/': "not JSON: Extra data",
    b'{"a":1,}': "not JSON:",
    b'{"a":01}': "not JSON:",
    b"{'a':1}": "not JSON: Expecting property name",
    b'\xef\xbb\xbf{"a":1}': "not JSON but JSON behind a byte order mark",
    b'{"a":"\xff"}': "not UTF-8 at byte 6; --input_format=bytes keeps messages as they are",
    b'{"a\xff":1}': "not UTF-8 at byte 3",
    '{"a":1}'.encode("utf-16"): "not JSON but UTF-16; send UTF-8",
    b'{"d":NaN}': "NaN is no JSON; send null instead",
    b'{"d":-Infinity}': "-Infinity is no JSON; send null instead",
    b'{"n":{"l":[0.5,NaN]}}': "NaN is no JSON; send null instead",
    b'{"a":1,"a":2}': "key 'a' is there twice in one object; send each key once",
    b'{"a":null,"\\u0061":2}': "key 'a' is there twice in one object",
    b'[{"n":{"x":1,"x":1}}]': "key 'x' is there twice in one object",
    b"null": "a JSON text of type null; send an object or an array of objects",
    b"1": "a JSON text of type int; send an object",
    b"true": "a JSON text of type boolean; send an object",
    b'"{}"': "a JSON text of type string; send an object",
    b'[null,{"a":1}]': "an array with an element of type null; send an object",
    b'[{"a":1},null,{"a":2}]': "an array with an element of type null; send an object",
    b'[{"a":1},2]': "an array with an element of type int; send an object",
    b'[[{"a":1}]]': "an array with an element of type array; send an object",
    b'{"s":"\\ud800"}': "column s holds half a surrogate pair, which is no text",
    b'{"s":"\\udc00"}': "column s holds half a surrogate pair, which is no text",
    b'{"\\ud800":1}': "a key holds half a surrogate pair, which is no text",
}


@pytest.mark.parametrize("bad", NOT_JSON)
@pytest.mark.parametrize("pinned", [{}, {"a": "int64", "d": "double", "s": "string"}])
def test_what_is_no_json_object_is_a_dead_letter_alone(bad: bytes, pinned: dict[str, Any]) -> None:
    """Its bytes are unchanged, its reason tells the cure, its neighbours are untouched."""
    good = [b'{"a":%d}' % place for place in range(100)]

    done = decoded(*good, bad, *good, b'[{"a":1}]', pinned=pinned)

    assert list(errors(done)) == [100]
    assert NOT_JSON[bad] in errors(done)[100]
    assert done.dead_letters.column("value").to_pylist() == [bad]
    assert done.dead_letters.column("stage").to_pylist() == ["decode"]
    assert done.dead_letters.column("key").to_pylist() == [b"key-100"]
    assert [row["a"] for row in rows(done)] == [*range(100), *range(100), 1]
    assert offsets(done) == [*range(100), *range(101, 202)]
    assert errors(decoded(bad, pinned=pinned)) == {0: errors(done)[100]}


PINNED = {
    "i": "int64",
    "d": "double",
    "s": "string",
    "t": "timestamp",
    "n": {"x": ["int64"]},
    "u": "uint8",
    "f": "float",
    "b": "bool",
}
REDRIVE = "then `batch-collection redrive PATH`"


def cure(pin: str) -> str:
    """Return the advice to give a column another type."""
    type_ = pin.partition("=")[2]
    return f"give it type {type_}: `batch-collection schema PATH --pin {pin}`, {REDRIVE}"


AS_TEXT = "send it as text, with type string: `batch-collection schema PATH --pin"
MISFITS = {
    b'{"i":0.5}': f"column i is int64 and can't hold 0.5; {cure('i=double')}, "
    "or all new numbers with --numbers=double",
    b'{"i":1.0}': "column i is int64 and can't hold 1.0; give it type double",
    b'{"i":"x"}': f'column i is int64 and can\'t hold "x"; {cure("i=string")}',
    b'{"i":true}': "column i is int64 and can't hold true; send a number",
    b'{"i":{"x":0}}': 'column i is int64 and can\'t hold {"x": 0}; send values of one kind in it',
    b'{"i":[0]}': "column i is int64 and can't hold [0]; send values of one kind in it",
    b'{"i":9223372036854775808}': f"can't hold 9223372036854775808; {cure('i=uint64')}",
    b'{"i":18446744073709551616}': f"can't hold 18446744073709551616; {cure('i=double')}",
    b'{"i":18446744073709551617}': f"can't hold 18446744073709551617; {AS_TEXT} i=string`",
    b'{"d":9007199254740993}': "column d is double and can't hold 9007199254740993; "
    f"{AS_TEXT} d=string`",
    b'{"d":-9007199254740993}': f"can't hold -9007199254740993; {AS_TEXT} d=string`",
    b'{"d":1e400}': f"column d is double and can't hold Infinity; {AS_TEXT} d=string`",
    b'{"d":1.7976931348623159e308}': "can't hold Infinity; send it as text",
    b'{"d":%s}' % (b"9" * 400): f"can't hold {'9' * 80}...; send it as text",
    b'{"d":"1"}': f'column d is double and can\'t hold "1"; {cure("d=string")}',
    b'{"d":true}': "column d is double and can't hold true; send a number",
    b'{"s":1}': "column s is string and can't hold 1; send it as text",
    b'{"s":0.5}': "column s is string and can't hold 0.5; send it as text",
    b'{"s":true}': "column s is string and can't hold true; send it as text",
    b'{"n":{"x":[1,0.5]}}': "column n.x[] is int64 and can't hold 0.5; give it type double: "
    """`batch-collection schema PATH --pin 'n={"x": ["double"]}'`""",
    b'{"n":{"x":1}}': 'column n.x is ["int64"] and can\'t hold 1; send values of one kind in it',
    b'{"n":[0]}': 'column n is {"x": ["int64"]} and can\'t hold [0]; send values of one kind',
    b'{"u":256}': f"column u is uint8 and can't hold 256; {cure('u=int64')}",
    b'{"u":-1}': f"column u is uint8 and can't hold -1; {cure('u=int64')}",
    b'{"f":16777217}': f"column f is float and can't hold 16777217; {cure('f=double')}",
    b'{"f":1e300}': f"column f is float and can't hold 1e+300; {cure('f=double')}",
    b'{"b":1}': f"column b is bool and can't hold 1; {cure('b=int64')}",
    b'{"t":1}': "column t is timestamp and can't hold 1; send it as text",
    b'{"t":"noon"}': "column t is timestamp (RFC 3339 texts within years 1 to 9999, at most micro",
    b'{"t":"2026-11-22T10:30:00.1234567Z"}': 'can\'t hold "2026-11-22T10:30:00.1234567Z"; give it',
}


@pytest.mark.parametrize("bad", MISFITS)
def test_a_value_its_column_cannot_hold_makes_a_dead_letter(bad: bytes) -> None:
    """Nothing is rounded or cast; the reason names column, value, type and cure."""
    good = [b'{"i":%d,"d":1,"f":1}' % place for place in range(80)]

    done = decoded(*good, bad, *good, b"[%s]" % bad, pinned=PINNED)

    assert list(errors(done)) == [80, 161]
    assert MISFITS[bad] in errors(done)[80]
    assert [row["i"] for row in rows(done)] == [*range(80), *range(80)]
    assert done.schema == PINNED


def test_values_that_just_fit_are_kept_exactly() -> None:
    """The ends of every range, and integers that a double holds."""
    values: list[dict[str, Any]] = [
        {"i": 2**63 - 1},
        {"i": -(2**63)},
        {"d": 2**53, "f": 2**24},
        {"d": 2**60, "f": 2**25},
        {"d": 10**20},
        {"d": 1e308, "f": 0.5, "u": 255},
        {"d": 5e-324, "u": 0},
        {"n": {"x": [None, 1]}},
        {"n": {"x": []}},
    ]

    done = decoded(*(json.dumps(value).encode() for value in values), pinned=PINNED)

    empty: dict[str, Any] = dict.fromkeys(PINNED)
    assert rows(done) == [empty | value for value in values]


def test_text_is_read_as_a_pinned_timestamp() -> None:
    """A date, or a time without a zone, is UTC."""
    texts = [
        "2026-11-22T10:30:00.5Z",
        "2026-11-22 10:30:00",
        "2026-11-22",
        "2026-11-22T11:00:00+01:00",
    ]
    noon = datetime(2026, 11, 22, 10, 30, tzinfo=timezone.utc)

    done = decoded(*(b'{"t":"%s"}' % text.encode() for text in texts), pinned={"t": "timestamp"})

    assert [row["t"] for row in rows(done)] == [
        noon + timedelta(microseconds=500_000),
        noon,
        noon.replace(hour=0, minute=0),
        noon.replace(hour=10, minute=0),
    ]


def test_text_is_read_as_pinned_binary() -> None:
    """It gives its UTF-8 bytes; what is no text is a dead letter all the same."""
    done = decoded(b'{"x":"\xc3\xa4"}', b'{"x":"\xff"}', b'{"x":"y"}', pinned={"x": "binary"})

    assert (rows(done), list(errors(done))) == ([{"x": b"\xc3\xa4"}, {"x": b"y"}], [1])


def test_text_stays_text() -> None:
    """Even where pyarrow would make timestamps of it."""
    assert rows(decoded(b'{"at":"2026-11-22T10:30:00Z"}', b'{"at":"2026-11-22"}')) == [
        {"at": "2026-11-22T10:30:00Z"},
        {"at": "2026-11-22"},
    ]


def test_one_huge_integer_does_not_make_a_column_double() -> None:
    """It is the dead letter, and integers that a double would round are kept."""
    done = decoded(b'{"a":1}', b'{"a":18446744073709551616}', b'{"a":9007199254740993}')

    assert rows(done) == [{"a": 1}, {"a": 9007199254740993}]
    assert "column a is int64 and can't hold 18446744073709551616" in errors(done)[1]


def test_all_numbers_can_be_doubles() -> None:
    """With --numbers=double new integers are, if a double holds them; pinned ones stay."""
    done = decoded(
        b'{"a":1,"i":1,"l":[2]}',
        b'{"a":0.5}',
        b'{"a":9007199254740993}',
        pinned={"i": "int64"},
        numbers="double",
    )

    assert done.schema == {"i": "int64", "a": "double", "l": ["double"]}
    assert rows(done) == [{"i": 1, "a": 1.0, "l": [2.0]}, {"i": None, "a": 0.5, "l": None}]
    assert list(errors(done)) == [2]


@pytest.mark.parametrize("template", [b'{"a":%s}', b'{"n":[{"a":%s}]}', b'[{"a":%s}]'])
def test_integers_and_fractions_of_one_chunk_make_a_double(template: bytes) -> None:
    """In whatever order they come, close together or far apart."""
    for count in (1, 300):
        numbers = [b"1"] * count + [b"0.5"] + [b"9007199254740993"] + [b"2"]

        done = decoded(*(template % number for number in numbers))

        assert '"double"' in json.dumps(done.schema)
        assert list(errors(done)) == [count + 1]
        assert done.rows.num_rows == count + 2


@pytest.mark.parametrize(
    ("known", "message", "merged"),
    [
        ({"a": "int64"}, b'{"a":0.5}', {"a": "double"}),
        ({"n": [{"a": "int64"}]}, b'[{"n":[{"a":1e3}]}]', {"n": [{"a": "double"}]}),
    ],
)
def test_a_fraction_in_a_column_of_this_cycle_changes_the_schema(
    known: dict[str, Any], message: bytes, merged: dict[str, Any]
) -> None:
    """Earlier chunks wrote integers: the cycle is planned again with the column double."""
    pinned: dict[str, Any] = {"p": "string"}

    with pytest.raises(SchemaChange) as raised:
        decoded(b'{"new":1}', message, pinned=pinned, known=pinned | known)

    wanted: dict[str, Any] = {**pinned, **known, **merged, "new": "int64"}
    assert raised.value.schema == wanted
    assert pickle.loads(pickle.dumps(raised.value)).schema == raised.value.schema  # noqa: S301
    assert errors(decoded(message, pinned=pinned | known)).keys() == {0}


def test_all_columns_of_a_chunk_that_must_be_doubles_are_told_together() -> None:
    """A cycle is planned again only so often; also those that other chunks have only begun."""
    names = [f"c{place}" for place in range(100)]
    known = dict.fromkeys(names[:50], "int64")
    chunks = [b'{"%s":%s}' % (n.encode(), v) for v in (b"1", b"0.5") for n in names]

    with pytest.raises(SchemaChange) as raised:
        decoded(*chunks, pinned={}, known=known)

    assert raised.value.schema == dict.fromkeys(names, "double")


def test_a_bad_message_does_not_change_the_schema() -> None:
    """Neither new columns nor a double come from a message that makes no row."""
    bad = [b'{"a":0.5,"p":1}', b'{"a":0.5,"t":"noon"}', b'{"x":1,"p":1}', b'{"x":1,"t":"noon"}']
    pinned = {"p": "string", "t": "timestamp"}
    known = pinned | {"a": "int64"}

    done = decoded(*bad, b'{"a":1}', pinned=pinned, known=known)

    assert (done.schema, list(errors(done))) == (known, [0, 1, 2, 3])


def test_the_first_type_of_a_new_column_wins() -> None:
    """Later messages that disagree are dead letters."""
    done = decoded(b'{"a":"x"}', b'{"a":1}', b'{"a":["x"]}', b'{"b":[1,"x"]}', b'{"a":"y"}')

    assert done.schema == {"a": "string"}
    assert list(errors(done)) == [1, 2, 3]


def test_a_column_of_nulls_is_left_out_until_it_has_a_type() -> None:
    """Nulls, empty objects and empty lists too; no message is lost over them."""
    empty = [b'{"a":null}', b'{"a":[]}', b'{"a":{}}', b'{"a":[null,[]]}', b'{"a":[{}]}']

    done = decoded(*empty * 50, b'{"b":1}')
    typed = decoded(b'{"a":null}', *[b'{"b":1}'] * 100, b'{"a":{"x":[0.5],"y":null}}', b'{"a":{}}')

    assert (done.schema, errors(done)) == ({"b": "int64"}, {})
    assert done.rows.num_rows == 251
    assert typed.schema == {"b": "int64", "a": {"x": ["double"]}}
    assert rows(typed)[-2:] == [{"a": {"x": [0.5]}, "b": None}, {"a": {"x": None}, "b": None}]


@pytest.mark.parametrize("empty", [b"{}", b"[]", b"[{}]", b'{"x":{}}', b"[null]"])
@pytest.mark.parametrize("value", [b'"x"', b"1", b'["x"]', b'{"y":1}', b"[[0.5]]"])
def test_what_has_no_type_gives_way_to_what_has_one(empty: bytes, value: bytes) -> None:
    """A column of empty things gets the type of the first value; no row is lost over them."""
    first, second = (b'{"k":%s}' % each for each in (empty, value))

    for count in (1, 100):
        done = decoded(*[first] * count, b"{", *[second] * count)

        assert list(errors(done)) == [count]
        for made, sent in ((rows(done)[:count], empty), (rows(done)[count:], value)):
            assert made == [shown({"k": json.loads(sent)}, done.schema)] * count


def test_any_name_may_be_a_column() -> None:
    """With dots, Unicode, control characters, like a wrapper; but for those readers change."""
    value = {" ": 1, "a.b": 2, "größe": 3, "v": 4, "\n": 5, "\1": 6, "[]": 7, "payload": 8}

    assert rows(decoded(json.dumps(value).encode(), b"{}")) == [value, dict.fromkeys(value)]


@pytest.mark.parametrize(
    ("metadata", "reserved"),
    [
        ("none", {"window_date", "window_hour"}),
        ("position", {"window_date", "_partition", "_offset", "_timestamp", "_index"}),
        ("full", {"window_hour", "_offset", "_key", "_headers"}),
    ],
)
def test_a_field_named_like_another_column_makes_a_dead_letter(
    metadata: str, reserved: set[str]
) -> None:
    """Also if it is null; nested it is free, and so are names that are not written."""
    free = {"_key", "_offset", "window_date"} - reserved - {"window_date"}
    fields = [json.dumps({name: 1}).encode() for name in sorted(free)]
    bad = [json.dumps({"a": 1, name: None}).encode() for name in sorted(reserved)]

    done = decoded(
        *fields, b'{"n":{"_offset":1}}', *bad, b'[{"a":1},%s]' % bad[0], metadata=metadata
    )

    assert list(errors(done)) == list(range(len(fields) + 1, len(fields) + len(bad) + 2))
    for name, error in zip(sorted(reserved), errors(done).values(), strict=False):
        assert error.startswith(f"field '{name}' ")
        assert "rename it" in error


@pytest.mark.parametrize("metadata", ["position", "full", "none"])
def test_names_are_reserved_by_what_rows_of_a_source_show(metadata: str) -> None:
    """Kafka's rows show no id, Pub/Sub's no address: so such fields are theirs."""
    values = [b'{"_message_id":1}', b'{"_attributes":1}', b'{"_offset":1}', b'{"_headers":1}']
    values += [b'{"_index":1}', b'{"window_hour":1}']
    refused = {
        kind: {*errors(decoded(*values, kind=kind, metadata=metadata))}
        for kind in ("kafka", "pubsub")
    }

    assert (
        refused
        == {
            "none": {"kafka": {5}, "pubsub": {5}},
            "position": {"kafka": {2, 4, 5}, "pubsub": {0, 4, 5}},
            "full": {"kafka": {2, 3, 4, 5}, "pubsub": {0, 1, 4, 5}},
        }[metadata]
    )


@pytest.mark.parametrize("name", ["_offset", "_Offset"])
def test_a_known_column_may_not_be_named_like_another(name: str) -> None:
    """As by another ``--metadata`` than before; what is advised ends that."""
    pinned = {name: "int64"}
    advice = "go on with the --metadata of before, or use another --output"

    with pytest.raises(CollectionError, match=re.escape(advice)):
        decoded(b'{"a":1}', pinned=pinned)
    assert rows(decoded(b'{"a":1}', pinned=pinned, metadata="none")) == [{name: None, "a": 1}]
    assert rows(decoded(b'{"a":1}', dropped=pinned)) == [{"a": 1}]


def twins(one: str, other: str) -> str:
    """Return the reason of a message that would make columns of both names."""
    return (
        f"names {one!r} and {other!r} differ by case alone, and DuckDB and Spark take them for "
        "one; use one of them, or keep messages as they are with --input_format=bytes"
    )


def test_names_that_differ_by_case_are_a_dead_letter() -> None:
    """At any level, in one message or two, if both would be columns, and only for ASCII letters."""
    sent = {
        b'{"userId":1,"userID":2}': twins("userId", "userID"),
        b'{"A":"x"}': twins("a", "A"),
        b'[{"b":1},{"B":1}]': twins("b", "B"),
        b'{"n":{"y":1,"Y":1}}': twins("n.y", "n.Y"),
        b'{"l":[[{"x":{"y":1}},{"x":{"Y":1}}]]}': twins("l[][].x.y", "l[][].x.Y"),
    }
    good = [b'{"a":1}', b'{"A":null,"a":2}', b'{"A":[],"n":{"x":1,"X":{}}}', b'{"n":{"a":1,"K":1}}']
    good += ['{"kÄ":1}'.encode(), '{"kä":1,"ß":1,"ss":1,"ẞ":1}'.encode()]

    for count in (1, 100):
        done = decoded(*good, *list(sent) * count, *good)

        dead = range(len(good), len(good) + len(sent) * count)
        assert errors(done) == dict(zip(dead, [*sent.values()] * count, strict=True))
    assert list(done.schema) == ["a", "n", "kÄ", "kä", "ß", "ss", "ẞ"]
    old = decode(chunk(*sent), Columns({}, {}, "none"), RowRules(), NOW, MINUTE)
    assert old.dead_letters.num_rows == 0
    assert list(old.schema) == ["userId", "userID", "A", "n", "l", "b", "B"]


def test_names_that_differ_by_case_stay_if_the_collection_has_them() -> None:
    """As one that was begun before they were refused; a third is."""
    pair = {
        "userId": "int64",
        "userID": "int64",
        "n": {"x": "bool", "X": "bool"},
    }
    message = b'{"userId":1,"userID":2,"n":{"x":true,"X":false}}'

    done = decoded(message, b'{"USERID":1}', b'{"n":{"y":1,"Y":1}}', pinned=pair)

    assert rows(done) == [json.loads(message)]
    assert errors(done) == {1: twins("userId", "USERID"), 2: twins("n.y", "n.Y")}


@pytest.mark.parametrize(
    ("name", "metadata", "reason"),
    [
        ("_Offset", "position", "is a column of the metadata '_offset', but for its case, which"),
        ("_INDEX", "full", "is a column of the metadata '_index', but for its case, which DuckDB"),
        ("_Key", "full", "is a column of the metadata '_key', but for its case, which DuckDB and"),
        ("Window_Date", "none", "would mask the path's window_date=; rename it in the sender"),
        ("WINDOW_HOUR", "position", "would mask the path's window_hour=; rename it in the sender"),
    ],
)
def test_a_field_named_like_another_column_but_for_its_case_makes_a_dead_letter(
    name: str, metadata: str, reason: str
) -> None:
    """Also if it is null; nested it is free."""
    good = json.dumps({"n": {name: 1}}).encode()
    bad = [json.dumps({name: value}).encode() for value in (1, None)]

    done = decoded(good, *bad, metadata=metadata)

    assert errors(done).keys() == {1, 2}
    assert all(error.startswith(f"field {name!r} {reason}") for error in errors(done).values())
    assert (
        decode(chunk(*bad), Columns({}, {}, "none"), RowRules(), NOW, MINUTE).dead_letters.num_rows
        == 0
    )


def nested(levels: int, opening: bytes = b'{"a":', closing: bytes = b"}") -> bytes:
    """Nest objects, or arrays inside of one."""
    return opening * levels + b"1" + closing * levels


def test_a_message_nested_too_deep_is_a_dead_letter() -> None:
    """63 levels are a row; ten thousand, or millions, don't crash the process."""
    deep = [
        nested(64),
        nested(101),
        nested(10_000),
        b'{"a":%s}' % nested(10_000, b"[", b"]"),
        b'{"a":' * 10_000,
        b"[" * 3_000_000,
        b'{"s":"%s","a":%s}' % (b'}]\\"\\\\' * 50, nested(63)),
    ]
    flat = [
        nested(63),
        b"[%s]" % b",".join([b'{"b":1}'] * 500),
        b'{"s":"%s\\"\\\\"}' % (b"{[" * 500),
    ]

    done = decoded(*deep, *flat)

    assert list(errors(done)) == list(range(len(deep)))
    assert all(
        re.search("nested [0-9]+ levels deep, the limit is 63", e) for e in errors(done).values()
    )
    assert done.rows.num_rows == 502
    assert decoded(b'{"a":%s}' % nested(90, b"[", b"]").replace(b"1", b"")).rows.num_rows == 1


def test_a_message_that_adds_too_many_columns_is_a_dead_letter() -> None:
    """1,000 columns are the most; messages that bring no new ones go on."""

    def wide(start: int, stop: int) -> bytes:
        return json.dumps({"n": {f"c{place}": 1 for place in range(start, stop)}}).encode()

    done = decoded(wide(0, 999), wide(998, 1001), wide(999, 1000), wide(1000, 1001), wide(5, 7))

    assert list(errors(done)) == [1, 3]
    assert errors(done)[1].startswith("more than 1000 columns with this message's; send")
    assert len(done.schema["n"]) == 1000


def test_names_that_would_fill_every_later_entry_make_a_dead_letter() -> None:
    """Long ones, many long ones, or deep ones: the schema's text has a limit."""
    long = [json.dumps({f"k{place:04}" * 2000: 1}).encode() for place in range(20)]
    deep = [
        b"".join(b'{"%030d-%d":' % (level, place) for level in range(60)) + b"1" + b"}" * 60
        for place in range(50)
    ]

    for names in ([b'{"%s":1}' % (b"k" * 10_000_000)], long, deep):
        done = decoded(b'{"a":1}', *names, b'{"a":2}')

        assert len(json.dumps(done.schema)) <= 100_000
        assert [row["a"] for row in rows(done) if row["a"] is not None] == [1, 2]
        assert errors(done)[len(names)].startswith("more than 100000 characters of names and types")


def test_columns_given_by_a_schema_file_have_no_limit() -> None:
    """It is messages that may not add more."""
    pinned = {f"c{place}": "int64" for place in range(1500)}
    every = json.dumps(dict.fromkeys(pinned, 1)).encode()

    done = decoded(every, b'{"new":1}', b'{"c1":null}', pinned=pinned)

    assert (done.schema, list(errors(done))) == (pinned, [1])


def test_a_key_that_stands_twice_among_very_many_is_found_at_once() -> None:
    """In time that grows as the message does, not as its square."""
    keys = ",".join(f'"k{place}":1' for place in range(100_000))
    began = time.process_time()

    done = decoded(b'{%s,"k99999":1}' % keys.encode())

    assert errors(done) == {0: "key 'k99999' is there twice in one object; send each key once"}
    assert time.process_time() - began < 20  # it was many minutes


def test_a_reason_is_short_however_long_the_value() -> None:
    """Its ends are kept: what is wrong, and the cure."""
    pinned = {"t": "timestamp", "i": "int64"}
    long = b"x" * 1_000_000
    bad = [b'{"t":"%s"}' % long, b'{"%s":1,"%s":1}' % (long, long), b'{"i":{"%s":1}}' % long]

    done = decoded(*bad, pinned=pinned)

    assert max(map(len, errors(done).values())) < 1000
    assert errors(done)[0].endswith(REDRIVE)
    assert errors(done)[1].endswith("is there twice in one object; send each key once")


DROPPED = {"x": {"y": "int64"}, "z": "double"}
HELD: dict[str, st.SearchStrategy[Any]] = {
    "x": st.fixed_dictionaries({}, optional={"y": st.integers(0, 9), "new": st.text(max_size=2)})
    | st.recursive(st.none() | st.booleans(), lambda inner: st.lists(inner, max_size=2)),
    "z": st.floats(0, 1) | st.integers() | st.text(max_size=2),
}
KEPT = {"a": st.integers(0, 9), "b": st.lists(st.floats(0, 1), max_size=2), "_offset": st.none()}
OBJECTS = st.fixed_dictionaries({}, optional=HELD | KEPT)


@given(st.lists(OBJECTS | st.lists(OBJECTS, max_size=3), min_size=1, max_size=6))
def test_what_was_dropped_is_as_if_it_had_not_been_sent(values: list[Any]) -> None:
    """Whatever it holds; all else is learned and refused as ever."""

    def left(value: Any) -> Any:
        if isinstance(value, list):
            return list(map(left, value))
        return {name: each for name, each in value.items() if name not in DROPPED}

    values = values * 40  # more than are looked at closely

    done = decoded(*(json.dumps(value).encode() for value in values), dropped=DROPPED)
    expected = decoded(*(json.dumps(left(value)).encode() for value in values))

    assert done.schema == expected.schema
    assert done.rows.equals(expected.rows)
    assert errors(done) == errors(expected)


def test_what_was_dropped_may_be_deeper_than_any_batch_holds() -> None:
    """Up to the limit of a message."""
    deep: Any = "string"
    for _ in range(70):
        deep = [deep]
    value = b"[" * 70 + b'"x"' + b"]" * 70

    done = decoded(b'{"a":1,"x":%s}' % value, b'{"a":2,"x":[1]}', dropped={"x": deep})

    assert rows(done) == [{"a": 1}, {"a": 2}]


def test_a_function_need_not_know_what_was_dropped() -> None:
    """Its columns are left out, if they are all that it returns, too."""
    name = returning(pa.table({"x": ["1", "2"], "a": [1, 2]}))
    assert rows(decoded(b"", b"", input_format=name, dropped=DROPPED)) == [{"a": 1}, {"a": 2}]

    name = returning(pa.table({"x": ["1", "2"]}))
    assert rows(decoded(b"", b"", input_format=name, dropped=DROPPED)) == [{}, {}]


def test_a_name_that_readers_take_for_one_that_was_dropped_is_refused() -> None:
    """Files of before hold that column still."""
    assert "x" in DROPPED
    rule = f"{__name__}:as_json"

    for done in (
        decoded(b'{"X":1}', b'{"a":1,"x":2}', dropped=DROPPED),
        decoded(b'{"X":1}', b'{"a":1,"x":2}', dropped=DROPPED, input_format=rule),
    ):
        assert "names 'x' and 'X' differ by case alone" in errors(done)[0]
        assert rows(done) == [{"a": 1}]


@pytest.mark.parametrize("pinned", [{}, {"i": "int64", "d": "double", "s": "string"}])
def test_an_integer_of_thousands_of_digits_is_a_dead_letter(pinned: dict[str, str]) -> None:
    """Python would take hours for millions of digits, and refuses."""
    bad = [b'{"%s":%s}' % (name, b"7" * 100_000) for name in (b"i", b"d", b"s", b"new")]

    done = decoded(*bad, b'{"d":0.%s}' % (b"7" * 100_000), pinned=pinned)

    assert set(errors(done).values()) == {"an integer of thousands of digits; send it as text"}
    assert rows(done) == [dict.fromkeys(done.schema) | {"d": 7 / 9}]


def test_keys_that_are_values_do_not_exhaust_the_machine() -> None:
    """A hundred thousand names in one chunk: in fields that are null, too."""
    names = [json.dumps({f"k{place}-{i}": i for i in range(10)}).encode() for place in range(3000)]
    nulls = [
        json.dumps({f"n{place}-{i}": None for i in range(300)}).encode() for place in range(30)
    ]

    done = decoded(b'{"a":1}', *names, b'{"a":2}')
    of_nulls = decoded(b'{"a":1}', *nulls)

    assert (done.rows.num_rows, len(done.schema)) == (101, 991)
    assert (of_nulls.rows.num_rows, of_nulls.schema) == (31, {"a": "int64"})


def test_a_large_message_is_a_row() -> None:
    """Ten megabytes are nothing special."""
    done = decoded(b'{"s":"%s"}' % (b"x" * 10_000_000), b'{"s":"y"}')

    assert [len(row["s"]) for row in rows(done)] == [10_000_000, 1]


def test_a_chunk_larger_than_one_parse_is_parsed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither its messages nor its bytes are limited."""
    messages = chunk(*(b'{"a":%d}' % place for place in range(1000)))
    columns = Columns({"a": "int64"}, {"a": "int64"})

    for limit, bound, most in (("_MOST_MESSAGES", 300, 300), ("_MOST_BYTES", 700, 100)):
        monkeypatch.setattr(json_rows, limit, bound)
        with without_plain():
            read = json_rows.read_json(messages, columns, RowRules())

        made = [row["a"] for piece in read.pieces for row in piece.payload.to_pylist()]
        assert made == list(range(1000))
        assert max(len(piece.read) for piece in read.pieces) <= most


@pytest.mark.parametrize("parsers", [2, 4])
def test_it_makes_no_difference_how_many_parts_are_parsed_at_once(
    parsers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bad messages and new columns in any part: the same rows, dead letters and types."""
    values: list[bytes | None] = [b'{"a":%d}' % number for number in range(8000)]
    values[::7] = [b'[{"a":%d},{"a":1,"late":"x"}]' % number for number in range(0, 8000, 7)]
    for number in (10, 3999, 4000, 4001, 7999):
        values[number] = b'{"a":"text"}'
    values[3000], values[6000] = b'{"b":2.5}', b'{"b":1,"c":true}'
    values[5000], values[5001] = None, b"[]"
    monkeypatch.setattr(json_rows, "_PARSERS", 1)
    alone = decoded(*values)
    monkeypatch.setattr(json_rows, "_PARSERS", parsers)

    together = decoded(*values)

    assert together == alone
    assert sorted(errors(together)) == [10, 3999, 4000, 4001, 7999]
    assert together.schema == {"a": "int64", "late": "string", "b": "double", "c": "bool"}


def times(done: Decoded) -> list[int]:
    """Return the rows' times in microseconds."""
    return done.rows.column("row_time").to_pylist()


LAST = 253402300799999  # the last millisecond of year 9999
YEAR_1 = -62135596800000


def test_the_row_time_is_the_records_by_default() -> None:
    """Within years 1 to 9999 in whole windows; nanoseconds taken for milliseconds are not."""
    for stamp in (YEAR_1, 0, LAST - 60_000):
        assert times(decoded(b"{}", timestamp=stamp)) == [stamp * 1000]
    in_windows = ", in windows of 1m 0001-01-01T00:00:00Z to 9999-12-31T23:58:59.999999Z"
    for stamp, more in (
        (YEAR_1 - 1, ""),
        (LAST - 59_999, in_windows),
        (LAST, in_windows),
        (STAMP * 1000, ""),
        (STAMP * 1_000_000, ""),
        (-(2**63), ""),
    ):
        done = decoded(b'{"a":1}', b'[{"a":1},{"a":2}]', timestamp=stamp)
        reason = (
            f"record timestamp {stamp} ms is not within years 1 to 9999{more}; fix the sender, "
            "or use --timestamp=field:NAME or collected"
        )
        assert errors(done) == {0: reason, 1: reason}
        assert done.dead_letters.column("stage").to_pylist() == ["row_time"] * 2
    (without,) = errors(decoded(b"{}", timestamp=None)).values()
    assert without == "the record has no timestamp; use --timestamp=field:NAME or collected"


def test_the_row_time_may_be_the_planning_s() -> None:
    """Then a record needs no timestamp, and one out of range is null in its column."""
    for stamp, column in (
        (None, None),
        (LAST + 1, None),
        (0, datetime(1970, 1, 1, tzinfo=timezone.utc)),
    ):
        done = decoded(b"[{},{}]", timestamp=stamp, row_time="collected")

        assert times(done) == [1795343400_000_000] * 2
        assert done.rows.column("timestamp").to_pylist() == [column] * 2


@pytest.mark.parametrize(
    ("unit", "text", "microseconds"),
    [
        ("s", "1760000000", 1_760_000_000_000_000),
        ("ms", "-1", -1000),
        ("us", "1760000000123457", 1_760_000_000_123_457),
        ("ns", "1760000000123456999", 1_760_000_000_123_456),
        ("ns", "-1", -1),
        ("s", "1760000000.1234567", 1_760_000_000_123_456),
        ("s", "1700000000.1", 1_700_000_000_099_999),  # the double is that much less
        ("s", "-0.0000001", -1),
        ("ms", "0.0009999", 0),
        ("ms", "-1.5", -1500),
        ("us", "-1.5", -2),
        ("ns", "-0.5", -1),
        ("ns", "1760000000123456800.0", 1_760_000_000_123_456),
        (None, '"2026-11-22T10:30:00Z"', 1795343400_000_000),
        ("s", '"2026-11-22T10:30:00"', 1795343400_000_000),
        (None, '"2026-11-22 11:30:00.123456789+01:00"', 1795343400_123_456),
        (None, '"2026-11-22t10:30:00.1z"', 1795343400_100_000),
        (None, '"2026-11-22"', 1795305600_000_000),
        (None, '"2026-11-22T10:30Z"', 1795343400_000_000),
        (None, '"0001-01-01T00:00:00Z"', YEAR_1 * 1000),
        (None, '"9999-12-31T23:58:59Z"', LAST * 1000 - 60_999_000),
    ],
)
def test_the_row_time_may_be_a_field(unit: str | None, text: str, microseconds: int) -> None:
    """Numbers in their unit, or RFC 3339; nested, too."""
    flat = decoded(b'{"at":%s}' % text.encode(), row_time="field:at", timestamp_unit=unit)
    deep = decoded(
        b'{"m":null}',
        b'{"m":{"at":%s}}' % text.encode(),
        row_time="field:m.at",
        timestamp_unit=unit,
    )

    assert (times(flat), times(deep), list(errors(deep))) == ([microseconds], [microseconds], [0])


@pytest.mark.parametrize(
    ("unit", "value", "reason"),
    [
        ("s", "null", "field at is missing or null; send it, or use --timestamp=record"),
        ("s", "9223372036854775807", "field at is no time within years 1 to 9999: 922337203685477"),
        ("ns", "-9223372036854775808e6", "field at is no time within years 1 to 9999: -9.22"),
        ("s", "1e300", "field at is no time within years 1 to 9999: 1e+300; send RFC 3339"),
        ("s", "true", "field at is no time within years 1 to 9999: True"),
        ("s", '{"x":1}', "field at is no time within years 1 to 9999: {'x': 1}"),
        ("s", '"1760000000"', "field at is no time within years 1 to 9999: '1760000000'; send RFC"),
        (None, '"2026-02-30T00:00:00Z"', "field at is no time within years 1 to 9999: '2026-02-30"),
        (None, '"2026-11-22T1030"', "field at is no time within years 1 to 9999: '2026-11-22T10"),
        (
            None,
            '"9999-12-31T23:59:59-01:00"',
            "field at is no time within years 1 to 9999: '9999-1",
        ),
        (
            None,
            '"9999-12-31T23:59:59Z"',
            "field at is no time within years 1 to 9999, in windows of 1m 0001-01-01T00:00:00Z to ",
        ),
        (None, "1", "field at is the number 1; say its unit with --timestamp_unit=s|ms|us|ns"),
    ],
)
def test_a_field_that_is_no_time_makes_a_dead_letter(
    unit: str | None, value: str, reason: str
) -> None:
    """The whole message, even if one row of many has none; the reason names field and value."""
    done = decoded(
        b'[{"a":1,"at":%s}]' % value.encode(),
        b'{"b":1}',
        row_time="field:at",
        timestamp_unit=unit,
    )

    assert errors(done)[0].startswith(reason)
    assert errors(done)[1].startswith("field at is missing or null")
    assert done.dead_letters.column("stage").to_pylist() == ["row_time"] * 2


def test_a_pinned_type_may_be_the_row_time() -> None:
    """A timestamp needs no unit; an unsigned integer beyond all times makes a dead letter."""
    instant = decoded(
        b'{"at":"2026-11-22T10:30:00Z"}', pinned={"at": "timestamp"}, row_time="field:at"
    )
    count = decoded(
        b'{"at":18446744073709551615}',
        b'{"at":1}',
        pinned={"at": "uint64"},
        row_time="field:at",
        timestamp_unit="s",
    )

    assert times(instant) == [1795343400_000_000]
    assert (times(count), list(errors(count))) == ([1_000_000], [0])


def test_one_row_without_a_time_takes_its_message_along() -> None:
    """A message makes all of its rows or none; its neighbours theirs."""
    done = decoded(
        b'[{"at":1},{"at":2}]',
        b'[{"at":3},{"x":1}]',
        b'{"at":4}',
        row_time="field:at",
        timestamp_unit="s",
    )

    assert (offsets(done), times(done), list(errors(done))) == (
        [0, 0, 2],
        [10**6, 2 * 10**6, 4 * 10**6],
        [1],
    )


def test_key_and_headers_are_carried_only_if_asked_for() -> None:
    """Rows have them with the metadata full; an array's rows all have their message's."""
    full = decoded(b"[{},{}]", b'{"a":1}', metadata="full")
    position = decoded(b"[{},{}]", b'{"a":1}')

    assert full.rows.column("key").to_pylist() == [b"key-0", b"key-0", b"key-1"]
    headers = [[{"key": "n", "value": b"%d" % number}] for number in (0, 0, 1)]
    assert full.rows.column("headers").to_pylist() == headers
    for name in ("key", "headers"):
        assert position.rows.column(name).null_count == 3


def test_bytes_are_kept_as_they_are() -> None:
    """One row a message, whatever is in it."""
    done = decoded(b"", b"\xff\0", b'{"a":1}', input_format="bytes")

    assert (done.schema, rows(done)) == (
        {"value": "binary"},
        [{"value": b""}, {"value": b"\xff\0"}, {"value": b'{"a":1}'}],
    )


def as_text(messages: pa.Table) -> pa.Table:
    """Give each message's text and offset."""
    texts = messages.column("value").cast(pa.string())
    return pa.table({"text": texts, "at": messages.column("offset")})


def as_names(messages: pa.Table) -> pa.Table:
    """Give the columns that are shown, and each message's id or else its offset."""
    names = messages.column_names
    last = messages.column("id" if "id" in names else "offset").cast(pa.string())
    return pa.table({"names": [" ".join(sorted(names))] * len(messages), "of": last})


def test_a_function_is_shown_ids_in_the_place_of_addresses() -> None:
    """Where messages have them; all else is called the same for all sources."""
    rules = RowRules(input_format=f"{__name__}:as_names")

    plain, leased = (
        decode(messages, Columns({}, {}), rules, NOW, MINUTE)
        for messages in (chunk(b"x"), with_ids(chunk(b"x")))
    )

    assert rows(plain) == [{"names": "headers key offset partition timestamp value", "of": "1000"}]
    assert rows(leased) == [{"names": "headers id key published timestamp value", "of": "id-1000"}]


def as_words(messages: pa.Table) -> pa.Table:
    """Give each word its row, the last message's first; refuse what holds a question mark."""
    places, words = [], []
    for place, value in reversed(list(enumerate(messages.column("value").to_pylist()))):
        if b"?" in value:
            message = f"what is {value.decode()}"
            raise KeyError(message)
        words += value.decode().split()
        places += [place] * len(value.split())
    return pa.table(
        {"_message": pa.array(places, pa.int32()), "word": pa.array(words, pa.string())}
    )


def as_numbers(messages: pa.Table) -> pa.Table:
    """Give doubles."""
    return pa.table({"i": [float(value) for value in messages.column("value").to_pylist()]})


def test_a_function_makes_rows() -> None:
    """It sees value, key, headers, timestamp, offset and partition; its types are kept."""
    done = decoded(b"x", b"y", input_format=f"{__name__}:as_text")

    assert done.schema == {"text": "string", "at": "int64"}
    assert rows(done) == [{"text": "x", "at": 1000}, {"text": "y", "at": 1001}]
    assert done.rows.column("index").null_count == 2


def test_a_function_may_make_many_rows_or_none() -> None:
    """Rows are put in the order of their messages; where it raises, the message stands alone."""
    values = [b"a b", b"", b"what?", b"c", *[b"d"] * 50]

    done = decoded(*values, input_format=f"{__name__}:as_words")

    assert [row["word"] for row in rows(done)] == ["a", "b", "c", *["d"] * 50]
    assert offsets(done) == [0, 0, 3, *range(4, 54)]
    assert done.rows.column("index").to_pylist()[:4] == [0, 1, 0, 0]
    assert done.counts[0].empty == 1
    assert errors(done) == {
        2: f"{__name__}:as_words raised KeyError: 'what is what?'; fix the function or the sender"
    }


def test_a_function_s_values_must_fit_their_columns() -> None:
    """Like those of JSON: exactly, or the message is a dead letter, or the schema changes."""
    rule = f"{__name__}:as_numbers"

    done = decoded(b"1", b"0.5", b"2", pinned={"i": "int64"}, input_format=rule)

    assert rows(done) == [{"i": 1}, {"i": 2}]
    assert "0.5" in errors(done)[1]
    with pytest.raises(SchemaChange):
        decoded(b"1", pinned={}, known={"i": "int64"}, input_format=rule)


def as_json(messages: pa.Table) -> pa.Table:
    """Give each message the columns that its own JSON object has."""
    values = [json.loads(value) for value in messages.column("value").to_pylist()]
    names = dict.fromkeys(name for value in values for name in value)
    return pa.table({name: [value.get(name) for value in values] for name in names})


def test_a_function_s_types_and_names_are_looked_at_like_those_of_json() -> None:
    """What no file can hold, or readers can't tell apart, is a dead letter of that message."""
    rule = f"{__name__}:as_json"
    bad = [nested(64), b'{"a":%s}' % nested(63, b"[", b"]"), b'{"x":1,"X":1}', b'{"K":1}']

    done = decoded(b'{"k":1}', *bad, b'{"k":2}', input_format=rule)

    limit = f"{rule} returned what a batch can't hold: nested 64 levels deep, the limit is 63"
    assert [row["k"] for row in rows(done)] == [1, 2]
    assert list(errors(done)) == [1, 2, 3, 4]
    assert errors(done)[1].startswith(limit)
    assert errors(done)[2].startswith(limit)
    assert "names 'x' and 'X' differ by case alone" in errors(done)[3]
    assert "names 'k' and 'K' differ by case alone" in errors(done)[4]
    with pytest.raises(CollectionError, match="returned a column 'Window_Date' of the metadata"):
        decoded(b'{"Window_Date":1}', input_format=rule)


def as_arrow(messages: pa.Table) -> pa.Table:
    """Give what no batch can hold, though its type is one of a batch's."""
    values = messages.column("value").to_pylist()
    rows = [(value == b"text", int(value == b"time") * 10**7, value == b"list") for value in values]
    texts = pa.array([b"\xff" if bad else b"ok" for bad, _, _ in rows])
    return pa.table(
        {
            "text": texts.cast(pa.string(), safe=False),
            "day": pa.array([day for _, day, _ in rows], pa.int32()).view(pa.date32()),
            "list": pa.array(
                [[{"at": 2**62 if bad else -62135596800000000}] for _, _, bad in rows],
                pa.list_(pa.struct([("at", pa.timestamp("us", "UTC"))])),
            ),
        }
    )


def test_a_function_s_values_that_no_batch_can_hold_are_dead_letters() -> None:
    """Text that is no UTF-8, instants of no year: JSON lines and Python can't say them."""
    done = decoded(b"a", b"text", b"time", b"b", b"list", input_format=f"{__name__}:as_arrow")

    assert [row["text"] for row in rows(done)] == ["ok", "ok"]
    assert [row["list"][0]["at"].year for row in rows(done)] == [1, 1]
    assert list(errors(done)) == [1, 2, 4]
    assert "Invalid UTF8" in errors(done)[1]
    assert errors(done)[2].startswith("column day is timestamp and can't hold 864000000000000000 ")
    assert errors(done)[4].startswith(f"column list[].at is timestamp and can't hold {2**62} ")


def test_what_a_function_returns_without_a_type_fits_every_column() -> None:
    """As of JSON; and it is told where rows are null for want of a type."""
    rule = f"{__name__}:as_json"

    for pinned, found in (({}, {}), ({"c": "bool"}, {"c": None}), ({"c": ["bool"]}, {"c": []})):
        done = decoded(b'{"c":[]}', pinned=pinned, input_format=rule)
        assert rows(done) == [found]
        assert done.untyped == ({} if pinned else {"c": "empty"})


@pytest.mark.parametrize("metadata", ["none", "position"])
def test_a_function_may_return_rows_without_columns(metadata: str) -> None:
    """One a message, or as many as it says; columns may come later."""
    rule = f"{__name__}:as_json"
    names = f"{__name__}:as_places"

    done = decoded(b"{}", b"{}", input_format=rule, metadata=metadata)
    later = decoded(b"{}", b"{}", b'{"a":1}', input_format=rule, metadata=metadata)
    many = decoded(b"2", b"0", b"1", input_format=names, metadata=metadata)

    assert rows(done) == [{}, {}]
    assert rows(later) == [{"a": None}, {"a": None}, {"a": 1}]
    assert (rows(many), offsets(many), many.counts[0].empty) == ([{}] * 3, [0, 0, 2], 1)


def as_places(messages: pa.Table) -> pa.Table:
    """Give each message as many rows as it says, without any column."""
    counts = [int(value) for value in messages.column("value").to_pylist()]
    places = [place for place, count in enumerate(counts) for _ in range(count)]
    return pa.table({"_message": pa.array(places, pa.int64())})


def as_columns(messages: pa.Table) -> pa.Table:
    """Give each message a column of its own."""
    values = messages.column("value").to_pylist()
    return pa.table({value.decode(): [1] * len(values) for value in values})


def test_a_function_may_not_give_too_many_columns() -> None:
    """The messages that would are dead letters."""
    values = [b"c%d" % place for place in range(1002)]

    done = decoded(*values, input_format=f"{__name__}:as_columns")

    assert (len(done.schema), done.counts[0].dead_letters) == (1000, 2)
    assert set(errors(done).values()) == {
        f"{__name__}:as_columns returned more than 1000 columns; return fewer"
    }


def returning(result: Any) -> str:
    """Return the name of a function that returns ``result``."""
    globals()["returned"] = result
    return f"{__name__}:return_it"


def return_it(messages: pa.Table) -> Any:  # noqa: ARG001 - that is the contract
    """Give whatever the test wants."""
    return globals()["returned"]


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        (None, "returned NoneType; return a pyarrow.Table"),
        (pa.table({"a": [1]}), "returned 1 rows for 2 messages; name each row's message"),
        (pa.table({"_message": ["x"]}), "returned _message as string; return integers without"),
        (pa.table({"_message": [2], "a": [1]}), "returned a _message beyond its 2 messages"),
        (pa.table({"_message": [-1], "a": [1]}), "returned a _message beyond its 2 messages"),
        (pa.table({"_offset": [1, 2]}), "returned a column '_offset' of the metadata"),
        (pa.table([[1, 2], [1, 2]], ["a", "a"]), "returned two columns of one name"),
        (
            pa.table({"a": pa.array([1, 2], pa.duration("s"))}),
            "returned what a batch can't hold: c",
        ),
        (
            pa.table({"s": pa.StructArray.from_arrays([pa.array([1, 2])] * 2, ["p", "p"])}),
            "returned what a batch can't hold: column s has two fields of one name",
        ),
    ],
)
def test_a_function_that_breaks_its_contract_stops_the_run(result: Any, problem: str) -> None:
    """That is nobody's message's fault: one line names the flag."""
    name = returning(result)

    with pytest.raises(CollectionError, match=re.escape(f"--input_format={name} {problem}")):
        decoded(b"x", b"y", input_format=name)


@pytest.mark.parametrize("name", ["no_such:f", f"{__name__}:none", f"{__name__}:NOW", "x", ":f"])
def test_a_function_that_is_not_there_is_named(name: str) -> None:
    """So is what is no function."""
    with pytest.raises(CollectionError, match="--input_format") as error:
        decoded(b"x", input_format=name)
    assert name in str(error.value)


# What Python's json says of each message, against what a whole chunk made of it.

INTEGERS = st.integers(-(2**64), 2**64) | st.sampled_from([2**53, 2**53 + 1, 2**63, -(2**63)])
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
GOOD = st.fixed_dictionaries(
    {},
    optional={
        "a": st.none() | st.integers(-(2**63), 2**63 - 1),
        "d": st.none() | FLOATS | st.integers(-(2**53), 2**53),
        "s": st.none() | st.text(st.characters(codec="utf-8"), max_size=5),
        "n": st.none() | st.fixed_dictionaries({}, optional={"x": st.none() | st.integers(0, 9)}),
        "l": st.none() | st.lists(st.none() | FLOATS, max_size=3),
    },
)
ANY = st.recursive(
    st.none() | st.booleans() | INTEGERS | FLOATS | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["a", "d", "s", "n", "l", "x", "_offset"]), inner, max_size=3
        )
    ),
    max_leaves=5,
)


@st.composite
def dumped(draw: st.DrawFn, values: st.SearchStrategy[Any]) -> bytes:
    """Write a value as JSON in one of many ways."""
    text = json.dumps(
        draw(values),
        ensure_ascii=draw(st.booleans()),
        indent=draw(st.sampled_from([None, 1])),
    )
    padding = st.text(" \t\r\n", max_size=2)
    return f"{draw(padding)}{text}{draw(padding)}".encode(errors="surrogatepass")


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Cut, insert and double parts of JSON."""
    text = draw(dumped(GOOD | st.lists(GOOD, max_size=2)))
    start, stop = sorted(draw(st.tuples(*[st.integers(0, len(text))] * 2)))
    return (
        text[:start]
        + draw(st.sampled_from(FRAGMENTS))
        + text[draw(st.sampled_from([start, stop])) :]
    )


FRAGMENTS = [
    *NOT_JSON,
    *MISFITS,
    *(
        b"}\n",
        b'{"v":',
        b'}\n{"v":',
        b',"v":',
        b',"w":',
        b"null",
        b"NaN",
        b"\\u0061",
        b"\xc3",
        b"]",
    ),
]
CHUNKS = st.lists(
    st.none()
    | dumped(GOOD)
    | dumped(st.lists(GOOD, max_size=3))
    | dumped(ANY)
    | mutated()
    | st.lists(st.sampled_from(FRAGMENTS), max_size=3).map(b"".join)
    | st.binary(max_size=4),
    max_size=12,
)


@settings(deadline=None)  # machines pause
@given(CHUNKS)
def test_each_message_makes_what_json_says_of_it_alone(values: list[bytes | None]) -> None:
    """Rows equal Python's, or it is a dead letter, unchanged, at its own offset."""
    done = decoded(*values, pinned=LAW)

    check_against_json(values, done)


@settings(deadline=None)  # machines pause
@given(CHUNKS)
def test_a_message_keeps_its_id_whatever_becomes_of_it(values: list[bytes | None]) -> None:
    """As row, each of an array's, or dead letter; all else is as it is without ids."""
    messages, plain = with_ids(chunk(*values)), decoded(*values, pinned=LAW)

    done = decode(messages, Columns(LAW, LAW), RowRules(), NOW, MINUTE)

    times = done.rows.column("row_time")
    assert times.to_pylist() == done.rows.column("published").cast(pa.int64()).to_pylist()
    assert times.to_pylist() == [STAMP * 1000 + place for place in offsets(done)]
    assert [replace(each, max_time=None) for each in done.counts] == [
        replace(each, max_time=None) for each in plain.counts
    ]
    assert done.schema == plain.schema
    without = done.rows.set_column(0, plain.rows.field(0), plain.rows.column("row_time"))
    for found, expected in ((without, plain.rows), (done.dead_letters, plain.dead_letters)):
        found.validate(full=True)
        places = found.column("offset").to_pylist()
        assert found.column("id").to_pylist() == [f"id-{place}" for place in places]
        assert found.select(expected.column_names) == expected


@settings(deadline=None)  # machines pause
@given(CHUNKS, st.lists(st.integers(0, 12), max_size=3))
def test_it_makes_no_difference_how_messages_are_cut_into_chunks(
    values: list[bytes | None], cuts: Iterable[int]
) -> None:
    """Given the types: rows, dead letters and their reasons are the same."""
    full = LAW | {"x": "int64"}
    values = [value for value in values if value is None or adds_nothing(value, full)]
    whole = decoded(*values, pinned=full)
    borders: Sequence[int] = sorted({0, len(values), *(min(cut, len(values)) for cut in cuts)})
    messages = chunk(*values)
    parts = [
        decode(messages.slice(start, stop - start), Columns(full, full), RowRules(), NOW, MINUTE)
        for start, stop in pairwise(borders)
    ]

    if parts:
        assert pa.concat_tables([part.rows for part in parts]).equals(whole.rows)
        assert pa.concat_tables([part.dead_letters for part in parts]).equals(whole.dead_letters)


def adds_nothing(value: bytes, schema: dict[str, Any]) -> bool:
    """Tell whether a message alone leaves the schema as it is."""
    return decoded(value, pinned=schema).schema == schema


@settings(deadline=None)  # machines pause
@given(
    st.lists(
        st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "a": st.integers(0, 9),
                    "b": st.text("xy", max_size=2),
                    "c": st.lists(st.integers(0, 9), max_size=2),
                },
            ),
            max_size=3,
        ),
        max_size=8,
    )
)
def test_new_columns_hold_what_was_sent(arrays: list[list[dict[str, Any]]]) -> None:
    """Without any pinned type, no good message becomes a dead letter."""
    done = decoded(*(json.dumps(array).encode() for array in arrays))

    assert rows(done) == [shown(each, done.schema) for array in arrays for each in array]
    assert done.counts == () or done.counts[0].dead_letters == 0


def test_columns_that_come_one_by_one_are_taken_up_together() -> None:
    """To look at all columns once for each new one would take seconds for a thousand of them."""
    looks, other = [], sys.getprofile()

    def count(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code is objection.__code__:
            looks.append(frame)

    sys.setprofile(count)
    try:
        done = decoded(*(b'{"k%d":%d}' % (number, number) for number in range(1000)))
    finally:
        sys.setprofile(other)
    assert [*done.schema] == [f"k{number}" for number in range(1000)]
    assert len(looks) < 1000 / 16


def test_one_that_adds_too_much_keeps_no_neighbour_from_adding() -> None:
    """Those that come together are taken up alone if they must be, in their order."""
    long = "x" * MAX_SCHEMA_TEXT
    messages = [b'{"a":1}', b'{"%s":1,"a":2}' % long.encode(), b'{"b":1.5,"a":"x"}', b'{"c":1}']
    done = decoded(*messages, b'{"b":2,"B":3}', b'{"c":2,"a":3}')
    assert [*errors(done)] == [1, 2, 4]
    assert done.schema == {"a": "int64", "c": "int64"}
    assert offsets(done) == [0, 3, 5]
