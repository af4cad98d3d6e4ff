"""DuckDB, Polars and pyarrow read ``data/`` as anybody would, and agree."""

from __future__ import annotations

import re
import shlex
import threading
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import batch_collection
from batch_collection.inspection.audit import audit
from batch_collection.paths import batch_path
from batch_collection.storage.local import LocalStorage
from batch_collection.windows import utc_now
from pipeline import cli
from pipeline.commands.schema import pin
from tests.builders import at
from tests.collecting import (
    Collecting,
    CollectorProcess,
    Sending,
    Stream,
    check,
    dead_letters_of,
    json_of,
    sending,
)
from tests.columns import rows_of
from tests.interposed import interposed
from tests.storages import Died, DyingStorage
from tests.tables import TableCollector
from tests.test_readme import blocks
from tests.told import answers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.services.kafka import KafkaBroker
    from transforms.sources.kafka.embedded import EmbeddedBroker

SECOND = timedelta(seconds=1)
RECIPES = next(block for block in blocks("python") if "read_parquet_schema" in block)
"""How docs/format.md reads columns that some files lack."""


class Seen(NamedTuple):
    """What a reader says of a collection: rows, the sum of ``x``, and that of the offsets."""

    rows: int
    x: float
    offsets: int


def of_duckdb(data: Path, options: str = "") -> Seen:
    """Ask DuckDB."""
    query = (
        f"SELECT count(*), sum(x), sum(_offset) FROM read_parquet('{data}/**/*.parquet'{options})"
    )
    with duckdb.connect() as connection:
        found = connection.execute(query).fetchone()
    assert found is not None
    return Seen(found[0], float(found[1] or 0), int(found[2] or 0))


def of_polars(frame: pl.DataFrame) -> Seen:
    """Ask a Polars frame."""
    return Seen(frame.height, float(frame["x"].sum()), int(frame["_offset"].sum()))


def of_pyarrow(table: pa.Table) -> Seen:
    """Ask a pyarrow table."""
    x, offsets = (pc.sum(table.column(name)).as_py() for name in ("x", "_offset"))
    return Seen(table.num_rows, float(x or 0), int(offsets or 0))


READERS: dict[str, Callable[[Path], Seen]] = {
    "duckdb **": of_duckdb,
    "polars **": lambda data: of_polars(pl.read_parquet(f"{data}/**/*.parquet")),
    "polars directory": lambda data: of_polars(pl.read_parquet(data)),
    "polars lazy": lambda data: of_polars(pl.scan_parquet(f"{data}/**/*.parquet").collect()),
    "pyarrow dataset": lambda data: of_pyarrow(
        ds.dataset(data, format="parquet", partitioning="hive").to_table()
    ),
    "pyarrow dataset, no partitioning": lambda data: of_pyarrow(
        ds.dataset(data, format="parquet").to_table()
    ),
    "pyarrow read_table": lambda data: of_pyarrow(pq.read_table(data)),
}
"""Readers with their defaults, as their manuals have them."""


def all_of(data: Path) -> dict[str, Seen]:
    """Ask every reader."""
    return {name: read(data) for name, read in READERS.items()}


def assert_all_say(data: Path, expected: Seen) -> None:
    """See that every reader says the same, and the right thing."""
    assert all_of(data) == dict.fromkeys(READERS, expected)


def expected_of(values: list[float], offsets: int) -> Seen:
    """Return what readers must say of rows with these values of ``x``."""
    return Seen(len(values), float(sum(values)), offsets)


def test_readers_agree_with_dead_letters_and_a_crashed_stage_lying_about(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """What is staged, carried or dead lies outside of ``data/``, and no reader meets it."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path, "--interval=10s", "--batch_size=7")
    stream.send(*(sending(at("10:30:00") + n * SECOND / 2, n % 4, x=n) for n in range(40)))
    stream.send(*(Sending(b"bad", at("10:30:05"), n) for n in range(4)))
    collecting.once(at("10:30:12"))
    before = all_of(collecting.path / "data")
    assert len(set(before.values())) == 1

    stream.send(*(sending(at("10:30:15"), n % 4, x=n) for n in range(40, 60)))
    dying = DyingStorage(LocalStorage(str(collecting.path)), k=24)
    with interposed(dying), pytest.raises((Died, RuntimeError)):
        collecting.once(at("10:30:22"))

    assert list((collecting.path / "staging").rglob("*.parquet"))
    assert list((collecting.path / "carry").rglob("*.arrow"))
    assert len(dead_letters_of(collecting.path)) == 4
    assert all_of(collecting.path / "data") == before

    collecting.once(at("10:30:32"))
    written = [m for m in stream.produced if m.value != b"bad"]
    offsets = sum(message.offset for message in written)
    assert_all_say(collecting.path / "data", expected_of([*range(60)], offsets))


def test_a_fraction_after_an_integer_is_a_dead_letter_and_no_reader_rounds(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """First 1, then 0.6 in one field: the files fit together, and nothing is 1 that was 0.6."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path, "--interval=10s")
    stream.send(sending(at("10:30:01"), x=1))
    collecting.once(at("10:30:12"))
    stream.send(sending(at("10:30:11"), x=0.6), sending(at("10:30:12"), x=3))

    collecting.once(at("10:30:22"))

    assert_all_say(collecting.path / "data", expected_of([1, 3], 0 + 2))
    letter = dead_letters_of(collecting.path)[0, 1]
    assert letter["value"] == b'{"x": 0.6}'
    assert "column x is int64 and can't hold 0.6" in letter["error"]
    assert "--numbers=double" in letter["error"]
    check(collecting.path, stream.produced, dead=[(0, 1)])


@pytest.mark.parametrize(
    ("before", "after", "seen"),
    [
        (1, "dev-1", ["1", "dev-1"]),
        (True, "on", ["true", "on"]),
        (1, 0.5, [1.0, 0.5]),
        (1, 2**63, [1, 2**63]),
        ([1], ["dev-1"], [["1"], ["dev-1"]]),
        ({"a b": [1]}, {"a b": ["dev-1"]}, [{"a b": ["1"]}, {"a b": ["dev-1"]}]),
    ],
)
def test_the_advice_of_a_dead_letter_leads_to_rows_for_every_reader(
    embedded: EmbeddedBroker,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    before: object,
    after: object,
    seen: list[object],
) -> None:
    """Its commands are run as they stand, and what they print for readers is done."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path, "--interval=10s")
    stream.send(sending(at("10:30:01"), x=before))
    collecting.once(at("10:30:12"))
    stream.send(sending(at("10:30:11"), x=after))
    collecting.once(at("10:30:22"))
    (letter,) = dead_letters_of(collecting.path).values()
    commands = re.findall("`batch-collection ([^`]*)`", letter["error"])
    printed = []

    for command in commands:
        capsys.readouterr()
        words = [word.replace("PATH", str(collecting.path)) for word in shlex.split(command)]
        assert cli.main(words) == 0
        printed += capsys.readouterr().out.splitlines()

    found = answers(printed)
    assert found.keys() == {"batch_collection", "DuckDB", "pyarrow", "Polars"}
    for name, values in found.items():
        assert list(map(plain, values)) == seen, name
    check_values = batch_collection.open(collecting.path).table(["x"]).column("x").to_pylist()
    assert check_values == seen
    assert audit(LocalStorage(str(collecting.path))).findings == ()


def plain(value: object) -> object:
    """Return a value as JSON has it: DuckDB gives large integers as decimals."""
    return int(value) if isinstance(value, Decimal) else value


def test_numbers_pinned_as_doubles_read_alike(embedded: EmbeddedBroker, tmp_path: Path) -> None:
    """With ``--numbers=double`` the 0.6 after the 1 is a row, for every reader."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path, "--interval=10s", "--numbers=double")
    stream.send(sending(at("10:30:01"), x=1))
    collecting.once(at("10:30:12"))
    stream.send(sending(at("10:30:11"), x=0.6))

    collecting.once(at("10:30:22"))

    assert_all_say(collecting.path / "data", expected_of([1, 0.6], 0 + 1))
    check(collecting.path, stream.produced)


def test_a_column_added_later_needs_the_readers_options(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """With them all agree, and the new column is null where files lack it."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path, "--interval=10s")
    stream.send(*(sending(at("10:30:01"), x=n) for n in range(3)))
    collecting.once(at("10:30:12"))
    stream.send(*(sending(at("10:30:11"), x=n, y=f"y{n}") for n in range(3, 5)))

    collecting.once(at("10:30:22"))

    data, expected = collecting.path / "data", expected_of([*range(5)], 0 + 1 + 2 + 3 + 4)
    files, newest = f"{data}/**/*.parquet", max(data.rglob("*.parquet"))
    frame = pl.scan_parquet(
        files, schema=pl.read_parquet_schema(newest), missing_columns="insert"
    ).collect()
    table = ds.dataset(data, pq.read_schema(newest), format="parquet").to_table()
    assert of_duckdb(data, ", union_by_name = true") == expected
    assert of_polars(frame) == expected
    assert of_pyarrow(table) == expected
    assert frame["y"].to_list() == [None, None, None, "y3", "y4"]
    assert table.column("y").to_pylist() == [None, None, None, "y3", "y4"]
    with duckdb.connect() as connection:
        query = f"SELECT count(y) FROM read_parquet('{files}', union_by_name = true)"
        assert connection.execute(query).fetchone() == (2,)
    check(collecting.path, stream.produced)


@pytest.mark.parametrize("metadata", ["none", "full"])
def test_a_header_name_that_stands_twice_is_read_by_all(
    embedded: EmbeddedBroker, tmp_path: Path, metadata: str
) -> None:
    """A map with a name twice is refused by DuckDB, and Polars keeps its last value."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path, "--interval=10s", f"--metadata={metadata}")
    twice: Any = [("trace", b"1"), ("trace", None), ("trace", b"\xff")]
    stream.send(Sending(b'{"x": 1}', at("10:30:01"), headers=twice))
    stream.send(Sending(b"bad", at("10:30:01"), headers=twice))

    collecting.once(at("10:30:12"))

    kept = [{"key": name, "value": value} for name, value in twice]
    folders = {"headers": collecting.path / "dead_letters"}
    if metadata == "full":
        folders["_headers"] = collecting.path / "data"
        opened = batch_collection.open(collecting.path)
        (found,) = opened.to_duckdb().project("_headers").fetchall()
        assert found == (kept,)
        assert opened.table(["_headers"]).to_pylist() == [{"_headers": kept}]
    for column, folder in folders.items():
        (file,) = folder.rglob("*.parquet")
        with duckdb.connect() as connection:
            query = f"SELECT {column} FROM read_parquet('{file}')"
            assert connection.execute(query).fetchall() == [(kept,)]
        assert pl.read_parquet(file)[column].to_list() == [kept]
        assert pq.read_table(file, partitioning=None)[column].to_pylist() == [kept]


def types_of_hour(data: Path) -> tuple[object, ...]:
    """Return the type that each reader gives ``window_hour``."""
    files = f"{data}/**/*.parquet"
    with duckdb.connect() as connection:
        query = f"SELECT DISTINCT typeof(window_hour) FROM read_parquet('{files}')"
        in_duckdb = connection.execute(query).fetchall()
    in_polars = pl.scan_parquet(data).collect_schema()["window_hour"]
    in_pyarrow = ds.dataset(data, partitioning="hive").schema.field("window_hour").type
    return in_duckdb, in_polars, in_pyarrow


@pytest.mark.parametrize(
    "hours",
    [*([hour] for hour in range(24)), [4, 9], [4, 10], [9, 23], [0, 8, 10], [*range(24)]],
    ids=str,
)
def test_the_hour_is_a_number_whatever_hours_there_are(tmp_path: Path, hours: list[int]) -> None:
    """Padded, it was a number where all hours had two digits, and text elsewhere."""
    for hour in hours:
        path = tmp_path / batch_path(at(f"{hour:02d}:00:00"), 1, 0, 0, "token", ".parquet")
        path.parent.mkdir(parents=True)
        pq.write_table(pa.table({"x": [hour]}), path)

    assert types_of_hour(tmp_path / "data") == ([("BIGINT",)], pl.Int64, pa.int32())
    with duckdb.connect() as connection:
        query = f"FROM read_parquet('{tmp_path}/data/**/*.parquet') WHERE window_hour = {hours[0]}"
        assert len(connection.execute(query).fetchall()) == 1


_POINT = {"x": pa.int64(), "y": pa.string(), "z": pa.list_(pa.float64())}
_COLUMNS: dict[str, pa.DataType] = {
    "n": pa.int64(),
    "text": pa.string(),
    "k.e y": pa.float64(),
    "when": pa.timestamp("us", "UTC"),
    "raw": pa.binary(),
    "u": pa.uint16(),
    "_index": pa.int32(),
    "_key": pa.binary(),
}


@st.composite
def some_columns(draw: st.DrawFn) -> pa.Schema:
    """Return the columns of one file: some of all, and objects with some of all fields."""
    names = draw(st.lists(st.sampled_from(list(_COLUMNS)), unique=True))
    columns = {name: _COLUMNS[name] for name in names}
    for name in draw(st.lists(st.sampled_from(["point", "points"]), unique=True)):
        fields = draw(st.lists(st.sampled_from(list(_POINT)), min_size=1, unique=True))
        point = pa.struct([(field, _POINT[field]) for field in fields])
        columns[name] = point if name == "point" else pa.list_(point)
    return pa.schema(columns)


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_recipes_for_columns_that_come_and_go_give_what_the_collection_gives(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever each shard and window has, ``_index`` too: those of the page, as they stand."""
    root = tmp_path_factory.mktemp("recipes")
    collector, number = TableCollector.at(root / "collected" / "sensor"), 0
    for minute in range(data.draw(st.integers(1, 3))):
        files = []
        for _ in range(data.draw(st.integers(1, 3))):
            rows = data.draw(rows_of(data.draw(some_columns()), most=2))
            offsets = pa.array(range(number, number + rows.num_rows), pa.int64())
            number += rows.num_rows
            place = data.draw(st.integers(0, rows.num_columns))
            files.append((60 * minute, rows.add_column(place, "_offset", offsets)))
        view = collector.collect(*files, schema={})

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        pq.write_table(view.schema.empty_table(), "schema.parquet")
        scope: dict[str, Any] = {}
        exec(RECIPES, scope)  # noqa: S102 - the page's own
        found = {
            "pyarrow": scope["table"],
            "polars": scope["frame"].collect().to_arrow(),
            "duckdb": scope["relation"].arrow().read_all(),
        }
    expected = by_offset(view.table(), view.schema)
    assert {name: by_offset(table, view.schema) for name, table in found.items()} == dict.fromkeys(
        found, expected
    )


def by_offset(table: pa.Table, schema: pa.Schema) -> str:
    """Return rows in the order of their offsets, in a form in which NaN is NaN."""
    rows = table.select(schema.names).cast(schema).sort_by("_offset").to_pylist()
    return repr(rows)


def test_json_lines_read_as_parquet_does(embedded: EmbeddedBroker, tmp_path: Path) -> None:
    """Types and values, with all metadata, though a type was changed while rows waited."""
    stream, pins = Stream(embedded), tmp_path / "types.json"
    pins.write_text('{"u": "uint64", "b": "binary", "t": "timestamp", "f": "float"}')
    flags = ("--interval=10s", "--metadata=full", "--shards=2", f"--schema={pins}")
    both = [
        Collecting.of(stream, tmp_path / name, *flags, f"--output_format={name}")
        for name in ("parquet", "jsonl")
    ]
    rows: list[dict[str, Any]] = [
        {"c": [None, 1.5], "u": 2**64 - 1, "b": "\u2028", "t": "0001-01-01T00:00:00.000001Z"},
        {
            "c": [2.5, 3.5],
            "f": 0.1,
            "o": {"x": None, "y": [{"z": 2**53 + 1}]},
            "when": "2026-11-22",
        },
        {"o": {"x": "new", "w": [[None], [], [1]]}, "c": [], 'k.e"y': "\x00"},
    ]
    stream.send(*(sending(at("10:30:01"), n % 2, **row) for n, row in enumerate(rows)))
    headers: Any = [("h", b"\xff"), ("h", None), ("", b"")]
    array = json_of([{"c": [0.5]}, {"id": 2**53 + 1}])
    stream.send(Sending(array, at("10:30:05"), 1, b"\xff\x00", headers))
    stream.send(sending(at("10:30:15"), id=2**53 + 1))
    for collecting in both:
        collecting.once(at("10:30:12"))
        pin(LocalStorage(str(collecting.path)), {"id": "double"})
    stream.send(sending(at("10:30:16"), id=0.5))
    for collecting in both:
        collecting.once(at("10:30:22"))

    parquet, lines = (batch_collection.open(collecting.path) for collecting in both)
    named = [[batch.table().column_names for batch in view] for view in (parquet, lines)]
    assert named[0] == named[1]
    ids = [[batch.table(["id"])["id"] for batch in view] for view in (parquet, lines)]
    assert ids[0] == ids[1]
    assert {column.type for column in ids[1]} == {pa.int64(), pa.float64()}
    others = [name for name in parquet.schema.names if name != "id"]
    assert parquet.table(others).to_pylist() == lines.table(others).to_pylist()
    for collecting in both:
        assert not audit(LocalStorage(str(collecting.path))).findings


@pytest.mark.integration
def test_readers_agree_while_collecting(kafka: KafkaBroker, tmp_path: Path) -> None:
    """They read whole files only, never fewer than before, and in the end all of them."""
    stream, stop = Stream(kafka), threading.Event()

    def produce() -> None:
        number = 0
        while not stop.wait(0.02):
            for _ in range(20):
                stream.post(sending(utc_now(), number % 4, x=number))
                number += 1

    producer = threading.Thread(target=produce, daemon=True)
    producer.start()
    data, rows = tmp_path / stream.name / "data", [0]
    flags = ("--interval=1s", "--grace=0s", "--batch_size=100")
    with CollectorProcess([stream], tmp_path, *flags) as collector:
        while not [*data.rglob("*.parquet")]:
            collector.wait_for(" files  ")
        for _ in range(6):
            collector.wait_for(" files  ")
            for read in READERS.values():
                seen = read(data)
                assert seen.rows >= rows[-1]
                rows.append(seen.rows)
    stop.set()
    producer.join()
    stream.flush()
    assert rows[-1] > rows[1] > 0

    Collecting.of(stream, tmp_path, *flags).once(utc_now() + SECOND, "--flush")

    check(tmp_path / stream.name, stream.produced)
    offsets = sum(message.offset for message in stream.produced)
    assert_all_say(data, expected_of([*range(len(stream.produced))], offsets))


def test_rows_without_any_column_are_seen_by_every_reader(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """Messages ``{}`` without metadata, alone in their file; another file has a column."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path, "--interval=10s", "--metadata=none")
    data = collecting.path / "data"
    for clock, values, rows, column in (
        ("10:30:01", [b"{}", b"{}"], 2, "_empty"),
        ("10:30:11", [b'{"x":1}'], 3, "x"),
    ):
        stream.send(*(Sending(value, at(clock)) for value in values))

        collecting.once(at(clock) + 12 * SECOND)

        query = f"SELECT count(*) FROM read_parquet('{data}/**/*.parquet', union_by_name=true)"
        with duckdb.connect() as connection:
            assert connection.execute(query).fetchall() == [(rows,)]
        files = sorted(data.rglob("*.parquet"))
        assert sum(pl.read_parquet(file).height for file in files) == rows
        assert ds.dataset(data, partitioning="hive").count_rows() == rows
        opened = batch_collection.open(collecting.path)
        assert (opened.schema.names, opened.to_arrow().num_rows) == ([column], rows)
        assert opened.scan().count_rows() == rows
        assert audit(LocalStorage(str(collecting.path))).findings == ()
