"""Bad messages end to end: each is its own rows or a dead letter, and harms no neighbour."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from confluent_kafka import Producer

from batch_collection.inspection.audit import audit
from batch_collection.storage.local import LocalStorage
from tests.builders import at
from tests.collecting import (
    Collecting,
    Sending,
    Stream,
    check,
    dead_letters_of,
    entries_of,
    json_of,
    payloads_of,
    rows_of,
    sending,
    strays_of,
    tables_of,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.services.kafka import KafkaBroker
    from transforms.sources.kafka.embedded import EmbeddedBroker

SECOND = timedelta(seconds=1)
STAMP = at("10:30:01")
DEEP = 10_000

BAD: dict[str, tuple[bytes, str]] = {
    "truncated": (b'{"v": 1', "not JSON"),
    "truncated array": (b'[{"v": 1}, {"v": 2}', "not JSON"),
    "truncated text": (b'{"t": "half', "not JSON"),
    "scalar": (b"7", "a JSON text of type int"),
    "string": (b'"text"', "a JSON text of type string"),
    "true": (b"true", "a JSON text of type bool"),
    "null": (b"null", "a JSON text of type null"),
    "mixed array": (b'[{"v": 1}, 2]', "an array with an element of type int"),
    "null first": (b'[null, {"v": 1}, {"v": 2}]', "an array with an element of type null"),
    "nested array": (b'[[{"v": 1}]]', "an array with an element of type array"),
    "empty": (b"", "an empty message"),
    "whitespace": (b" \t\r\n ", "an empty message"),
    "two documents": (b'{"v": 1}{"v": 2}', "not JSON"),
    "two lines": (b'{"v": 1}\n{"v": 2}', "not JSON"),
    "duplicate keys": (b'{"v": 1, "v": 2}', "key 'v' is there twice"),
    "over 64 bits": (b'{"v": 9223372036854775808}', "column v is int64 and can't hold 9223372"),
    "far over 64 bits": (b'{"v": 1' + b"0" * 400 + b"}", "column v is int64 and can't hold 1000"),
    "a fraction": (b'{"v": 0.5}', "column v is int64 and can't hold 0.5"),
    "text in a number": (b'{"v": "1"}', 'column v is int64 and can\'t hold "1"'),
    "an object in a number": (b'{"v": {"w": 1}}', "column v is int64 and can't hold"),
    "a number in a text": (b'{"t": 1}', "column t is string and can't hold 1"),
    "nan": (b'{"d": NaN}', "NaN is no JSON"),
    "infinity": (b'{"d": -Infinity}', "-Infinity is no JSON"),
    "too large a double": (b'{"d": 1e999}', "column d is double"),
    "deep": (b'{"v": ' + b"[" * DEEP + b"]" * DEEP + b"}", "nested 10001 levels deep"),
    "deep and truncated": (b"[" * DEEP, "nested 10000 levels deep"),
    "wrapper": (b'{"v":1}}\n{"v":{"v":2}', "not JSON"),
    "wrapper of two": (b'{"v":1},"w":{}', "not JSON"),
    "wrapper of lines": (b'1}\n{"v":{"v":2}}\n{"v":3', "not JSON"),
    "not utf-8": (b'{"t": "\xff\xfe"}', "not UTF-8 at byte 7"),
    "nul": (b'{"v": 1}\x00', "not JSON"),
    "byte order mark": (b'\xef\xbb\xbf{"v": 1}', "JSON"),
    "half a surrogate": (b'{"t": "\\ud800"}', "half a surrogate pair"),
    "reserved": (b'{"_offset": 1}', "'_offset' is a column of the metadata"),
    "of the path": (b'{"window_date": "2026"}', "'window_date' would mask the path's"),
    "garbage": (bytes(range(256)), "not UTF-8"),
}
GOOD: dict[str, tuple[bytes | None, int]] = {
    "object": (b'{"v": 1, "t": "one", "d": 1.5}', 1),
    "array": (b'[{"v": 2}, {"v": 3, "t": "three"}, {"v": null}]', 3),
    "padded": (b'\r\n {"v": 4}\n', 1),
    "empty array": (b"[]", 0),
    "no fields": (b"{}", 1),
    "largest": (b'{"v": 9223372036854775807}', 1),
    "smallest": (b'{"v": -9223372036854775808}', 1),
    "integer in a double": (b'{"d": 2}', 1),
    "brackets in a text": (b'{"t": "' + b"[" * 500 + b'"}', 1),
    "line feed in a text": (b'{"t": "two\\nlines}"}', 1),
    "tombstone": (None, 0),
}


def pinned(folder: Path) -> str:
    """Return the flag that pins the neighbours' columns: known ones are not looked at closely."""
    path = folder / "schema.json"
    path.write_bytes(json_of({"v": "int64", "t": "string", "d": "double"}))
    return f"--schema={path}"


def neighbour(number: int, partition: int = 0) -> Sending:
    """Return a good message."""
    return sending(STAMP, partition, v=number, t=f"t{number}", d=number + 0.25)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_message_is_one_dead_letter_among_untouched_neighbours(
    embedded: EmbeddedBroker, tmp_path: Path, name: str
) -> None:
    """At its own offset, with unchanged bytes, key and headers, and the reason."""
    value, reason = BAD[name]
    stream = Stream(embedded)
    bad = Sending(value, STAMP, 0, b"key", {"trace": b"1"})
    produced = stream.send(neighbour(0), neighbour(1), bad, neighbour(2), neighbour(3))
    collecting = Collecting.of(stream, tmp_path, "--interval=10s", pinned(tmp_path))

    (entry,) = collecting.once(at("10:30:12"))

    check(collecting.path, produced, dead=[(0, 2)])
    (read, *_) = entry.reads
    assert (read.messages, read.rows, read.dead_letters) == (5, 4, 1)
    letter = dead_letters_of(collecting.path)[0, 2]
    assert letter["value"] == value
    assert letter["key"] == b"key"
    assert letter["headers"] == [{"key": "trace", "value": b"1"}]
    assert letter["timestamp"] == STAMP
    assert letter["stage"] == "decode"
    assert reason in letter["error"]


@pytest.mark.parametrize("is_pinned", [True, False])
def test_bad_and_good_messages_of_all_kinds_in_one_chunk_come_apart(
    embedded: EmbeddedBroker, tmp_path: Path, *, is_pinned: bool
) -> None:
    """All of them, twice, between neighbours: rows and dead letters at their own offsets."""
    stream = Stream(embedded)
    bad = {name: each for name, each in BAD.items() if is_pinned or name != "a fraction"}
    messages, dead_values = [neighbour(0)], set()
    for number, (name, (value, _)) in enumerate([*GOOD.items(), *bad.items()] * 2):
        messages += [Sending(value, STAMP), neighbour(number)]
        if name in bad:
            dead_values.add(value)
    stream.send(*messages)
    dead = [(m.partition, m.offset) for m in stream.produced if m.value in dead_values]
    flags = [pinned(tmp_path)] if is_pinned else []
    collecting = Collecting.of(stream, tmp_path, "--interval=10s", *flags)

    (entry,) = collecting.once(at("10:30:12"))

    check(collecting.path, stream.produced, dead=dead)
    (read, *_) = entry.reads
    assert read.dead_letters == len(dead) == 2 * len(bad)
    assert (read.tombstones, read.empty) == (2, 2)
    assert read.messages == len(messages)
    assert strays_of(collecting.path) == []


@pytest.mark.parametrize("name", GOOD)
def test_an_unusual_message_is_its_own_rows(
    embedded: EmbeddedBroker, tmp_path: Path, name: str
) -> None:
    """What is strange but sound makes the rows that it says, exactly."""
    value, rows = GOOD[name]
    stream = Stream(embedded)
    stream.send(neighbour(0), Sending(value, STAMP), neighbour(1))
    collecting = Collecting.of(stream, tmp_path, "--interval=10s")

    collecting.once(at("10:30:12"))

    check(collecting.path, stream.produced)
    found = payloads_of(rows_of(collecting.path))
    assert sum(offset == 1 for _, offset, _ in found) == rows


@pytest.mark.integration
@pytest.mark.parametrize("is_good", [True, False])
def test_a_message_of_10_megabytes_is_like_any_other(
    kafka: KafkaBroker, tmp_path: Path, *, is_good: bool
) -> None:
    """Sound or not, it stands between its neighbours, whole."""
    stream = Stream(kafka, settings={"max_message_bytes": 20_000_000})
    value = json_of({"t": "x" * 10_000_000})
    big = Sending(value if is_good else value[:-1], STAMP)
    stream.send(neighbour(0), big, neighbour(1))
    collecting = Collecting.of(stream, tmp_path, "--interval=10s")

    collecting.once(at("10:30:12"))

    check(collecting.path, stream.produced, dead=[] if is_good else [(0, 1)])


def test_a_field_that_changes_its_type_is_told_from_then_on(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """The first cycle pins the types; what fits them goes on, the rest are dead letters."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path, "--interval=10s")
    stream.send(sending(STAMP, x=1, y="a"), sending(STAMP, x=2))
    collecting.once(at("10:30:12"))
    later = STAMP + 10 * SECOND
    values: list[dict[str, Any]] = [
        {"x": "3"},
        {"x": 4},
        {"x": 4.5},
        {"y": 5},
        {"x": None, "y": "b"},
        {"x": [6]},
    ]
    produced = stream.send(*(sending(later, **value) for value in values))

    collecting.once(at("10:30:22"))

    dead = {(0, produced[n].offset) for n in (0, 2, 3, 5)}
    check(collecting.path, stream.produced, dead=dead)
    assert entries_of(collecting.path)[-1].schema == {"x": "int64", "y": "string"}
    assert {r["x"] for r in payloads_of(rows_of(collecting.path)).values() if "x" in r} == {1, 2, 4}


def test_integers_and_fractions_of_the_first_cycle_make_a_double(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """Across chunks, shards and partitions: planned again with the type pinned, nothing lost."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path, "--interval=10s", "--shards=2")
    stream.send(*(sending(STAMP, number % 4, x=number) for number in range(8)))
    stream.send(sending(STAMP, 3, x=0.5))

    (entry,) = collecting.once(at("10:30:12"))

    assert entry.schema == {"x": "double"}
    check(collecting.path, stream.produced)
    assert strays_of(collecting.path) == []


def test_shards_together_give_a_collection_no_more_columns_than_one_may(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """Planned again with the columns that have room; the rest are dead letters."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path, "--interval=10s", "--shards=4")
    for partition in range(4):
        names = [f"p{partition}-{number}" for number in range(800)]
        parts = [names[first : first + 100] for first in range(0, 800, 100)]
        stream.send(*(sending(STAMP, partition, **dict.fromkeys(part, 1)) for part in parts))

    (entry,) = collecting.once(at("10:30:12"))

    dead = dead_letters_of(collecting.path)
    assert len(entry.schema) == 1000
    assert len(dead) == 4 * 8 - 10
    check(collecting.path, stream.produced, dead=dead)
    assert strays_of(collecting.path) == []


@pytest.mark.parametrize("output_format", ["parquet", "jsonl"])
def test_a_message_nested_too_deep_stops_nothing(
    embedded: EmbeddedBroker, tmp_path: Path, output_format: str
) -> None:
    """What nests as deep as may be waits, is taken up and written; one level more is dead alone."""
    stream = Stream(embedded)
    kinds = [(b'{"a":', b"}"), (b"[", b"]"), (b'[{"a":', b"}]")]
    values = [
        b'{"%s%d":%s1%s}' % (name, place, opening * levels, closing * levels)
        for place, (opening, closing) in enumerate(kinds)
        for name, levels in ((b"deep", 63), (b"fits", 62 if len(opening) < 6 else 31))
    ]
    collecting = Collecting.of(
        stream, tmp_path, "--interval=10s", "--shards=2", f"--output_format={output_format}"
    )
    for now in ("10:30:05", "10:30:08", "10:30:12"):
        stream.send(*(Sending(value, STAMP, n % 4) for n, value in enumerate(values)))
        stream.send(*(sending(STAMP, n % 4, fits0=None, x=n) for n in range(4)))

        collecting.once(at(now))

    dead = {(m.partition, m.offset) for m in stream.produced if b"deep" in (m.value or b"")}
    letters = dead_letters_of(collecting.path)
    assert letters.keys() == dead
    assert {letter["error"] for letter in letters.values()} == {
        f"nested {levels} levels deep, the limit is 63; make it flatter, or keep messages as they "
        "are with --input_format=bytes"
        for levels in (64, 127)
    }
    assert sum(pane.rows for entry in entries_of(collecting.path) for pane in entry.panes) == 21
    if output_format == "parquet":
        check(collecting.path, stream.produced, dead=dead)


def test_what_has_no_type_is_the_same_in_each_shard_and_chunk(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """One partition holds ``[]`` where another's lists are of numbers: planned again, and kept."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path, "--interval=10s", "--shards=2")
    stream.send(*(sending(STAMP, 0, c=[], d={}, e=[None]) for _ in range(3)))
    stream.send(sending(STAMP, 1, c=[1.5], d="text", e=[{"x": 1}]))

    (entry,) = collecting.once(at("10:30:12"))

    assert entry.schema == {"c": ["double"], "d": "string", "e": [{"x": "int64"}]}
    found = payloads_of(*tables_of(collecting.path))
    assert [found[0, n, None] for n in range(3)] == [{"c": [], "e": [None]}] * 3
    assert found[1, 0, None] == {"c": [1.5], "d": "text", "e": [{"x": 1}]}
    assert strays_of(collecting.path) == []


def test_names_that_differ_by_case_in_two_shards_are_one_column(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """Planned again with the first shard's; the other's messages are dead letters."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path, "--interval=10s", "--shards=2")
    stream.send(*(sending(STAMP, 1, userID=n) for n in range(3)))
    stream.send(*(sending(STAMP, 0, userId=n) for n in range(3)))

    (entry,) = collecting.once(at("10:30:12"))

    assert entry.schema == {"userId": "int64"}
    check(collecting.path, stream.produced, dead=[(1, n) for n in range(3)])
    assert strays_of(collecting.path) == []


def test_a_message_is_bad_as_a_whole(embedded: EmbeddedBroker, tmp_path: Path) -> None:
    """One bad element of an array: none of its rows is kept, and its row time counts likewise."""
    stream = Stream(embedded)
    collecting = Collecting.of(
        stream, tmp_path, "--interval=10s", "--timestamp=field:s", "--timestamp_unit=s"
    )
    second = STAMP.timestamp()
    values = [
        [{"s": second, "v": 1}, {"s": second, "v": 2}],
        [{"s": second, "v": 3}, {"v": 4}],
        [{"s": second, "v": 5}, {"s": second, "v": "6"}],
        {"s": 1e300, "v": 7},
        {"s": second, "v": 8},
    ]
    stream.send(*(Sending(json_of(value), STAMP) for value in values))

    collecting.once(at("10:30:12"))

    check(collecting.path, stream.produced, dead=[(0, 1), (0, 2), (0, 3)])
    letters = dead_letters_of(collecting.path)
    assert [letters[0, offset]["stage"] for offset in (1, 2, 3)] == [
        "row_time",
        "decode",
        "row_time",
    ]


MICROSECONDS = 1_795_343_401_000_000
"""A stamp of a producer that takes Kafka's milliseconds for microseconds."""


def stamped(stream: Stream, *values: bytes) -> None:
    """Produce messages stamped in microseconds, to partition 0."""
    producer = Producer({"bootstrap.servers": stream.broker.bootstrap_servers})
    for value in values:
        producer.produce(stream.name, value, partition=0, timestamp=MICROSECONDS)
    assert producer.flush(30) == 0


def test_stamps_in_microseconds_are_dead_letters_that_all_can_read(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """The number is in the reason and in a column; the date is null."""
    stream = Stream(embedded)
    stream.send(sending(STAMP, 1, v=0))
    stamped(stream, b'{"v": 1}', b"no JSON")
    collecting = Collecting.of(stream, tmp_path, "--interval=10s")

    collecting.once(at("10:30:12"))

    (file,) = map(str, collecting.path.glob("dead_letters/**/*.parquet"))
    assert audit(LocalStorage(str(collecting.path))).findings == ()
    columns = ["timestamp", "timestamp_ms", "stage"]
    with duckdb.connect() as connection:
        by_duckdb = connection.sql(f"SELECT {', '.join(columns)} FROM '{file}'").fetchall()
    table = pq.read_table(file)
    assert table.select(columns).to_pylist() == pl.read_parquet(file)[columns].to_dicts()
    assert [tuple(row.values()) for row in table.select(columns).to_pylist()] == by_duckdb
    assert pd.read_parquet(file)["timestamp"].isna().all()
    assert by_duckdb == [(None, MICROSECONDS, "row_time"), (None, MICROSECONDS, "decode")]
    reasons = table["error"].to_pylist()
    assert f"timestamp {MICROSECONDS} ms is not within years 1 to 9999; fix the" in reasons[0]
    assert reasons[1].startswith("not JSON")


@pytest.mark.parametrize("rule", ["collected", "field:t"])
def test_rows_without_a_timestamp_are_told(
    embedded: EmbeddedBroker, tmp_path: Path, rule: str
) -> None:
    """Their time is another, and they are rows; but a column of theirs is empty."""
    stream = Stream(embedded)
    stamped(stream, b'{"v": 1, "t": "2026-11-22T10:30:01Z"}')
    collecting = Collecting.of(stream, tmp_path, "--interval=10s", f"--timestamp={rule}")

    collecting.once(at("10:30:12"), "--flush")
    stream.send(sending(STAMP, v=2, t="2026-11-22T10:30:02Z"))
    collecting.once(at("10:30:32"), "--flush")

    (told,) = [note for note in collecting.recorder.notes if "_timestamp" in note]
    assert told.startswith(
        "warning: rows without _timestamp: 1; those of their records are missing"
    )
    assert rows_of(collecting.path)["_timestamp"].to_pylist() == [None, STAMP]


def test_nothing_but_bad_messages_is_a_cycle_without_files(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """A topic of garbage is collected as dead letters, and windows close as ever."""
    stream = Stream(embedded)
    stream.send(*(Sending(b"garbage %d" % number, STAMP, number % 4) for number in range(40)))
    collecting = Collecting.of(stream, tmp_path, "--interval=10s")

    (entry,) = collecting.once(at("10:30:12"))

    check(collecting.path, stream.produced, dead=[(m.partition, m.offset) for m in stream.produced])
    assert (entry.panes, entry.carry, entry.schema) == ((), (), {})
    assert json.loads((collecting.path / "log" / f"{1:020d}.json").read_text())["boundary"]
