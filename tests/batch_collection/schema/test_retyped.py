"""Values said under another type: exactly, or with an error that names the value."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

import batch_collection
from batch_collection.errors import CollectionError
from batch_collection.exporting.export import export
from batch_collection.schema.arrow import PRIMITIVES, to_arrow
from batch_collection.schema.files import read_type
from batch_collection.schema.retyped import ELEMENT, MisfitError, can_retype, pin_of, retyped
from pipeline.commands.schema import pin
from tests.tables import TableCollector

if TYPE_CHECKING:
    from pathlib import Path

    from batch_collection.collection import Collection
    from batch_collection.schema.types import Schema

STRING = pa.string()
UTC = timezone.utc
INSTANT = datetime(2026, 11, 22, 10, tzinfo=UTC)
FRACTION = INSTANT.replace(microsecond=5)

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(),
    "double": st.floats(allow_nan=False, allow_infinity=False),
    "float": st.floats(allow_nan=False, allow_infinity=False, width=32),
    "int8": st.integers(-(2**7), 2**7 - 1),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "uint64": st.integers(0, 2**64 - 1),
    "string": st.text(),
    "timestamp": st.datetimes(timezones=st.just(UTC)),
}

SCANNED = ("bool", "double", "int64", "string", "timestamp")


def type_of(text: str) -> pa.DataType:
    """Return the Arrow type that a pin's text says."""
    return to_arrow({"x": read_type(text, "x")}).field("x").type


def said(values: list[Any], old: str, new: str) -> list[Any]:
    """Return values of one type as those of another."""
    array = pa.array([None, *values, None], type_of(old)).slice(1, len(values))
    found = retyped(array, type_of(new), ("x",))
    found.validate(full=True)
    assert found.type == type_of(new)
    return found.to_pylist()


@given(st.data())
def test_every_value_is_said_as_text_and_back(data: st.DataObject) -> None:
    """Whatever its type; the text is what JSON writes."""
    name = data.draw(st.sampled_from(sorted(VALUES)))
    values = data.draw(st.lists(st.one_of(st.none(), VALUES[name]), max_size=20))

    texts = said(values, name, "string")

    assert said(texts, "string", name) == values
    if name not in {"string", "timestamp", "float"}:
        assert [None if text is None else json.loads(text) for text in texts] == values


@pytest.mark.parametrize(
    ("old", "new", "values", "expected"),
    [
        ("int64", "string", [5, None, -(2**63)], ["5", None, "-9223372036854775808"]),
        ("double", "string", [1.0, 0.1, 1e300], ["1.0", "0.1", "1e+300"]),
        ("double", "string", [float("nan"), float("-inf")], ["NaN", "-Infinity"]),
        ("float", "string", [1.0, 0.1], ["1.0", "0.1"]),
        ("bool", "string", [True, False], ["true", "false"]),
        (
            "timestamp",
            "string",
            [INSTANT, FRACTION],
            ["2026-11-22T10:00:00Z", "2026-11-22T10:00:00.000005Z"],
        ),
        ("binary", "string", ["ä".encode()], ["ä"]),
        ("string", "binary", ["ä"], ["ä".encode()]),
        ("int64", "binary", [5], [b"5"]),
        ("string", "double", ["1", "0.5", "1e3"], [1.0, 0.5, 1000.0]),
        ("string", "timestamp", ["2026-11-22T10:00:00Z", "2026-11-22 10:00"], [INSTANT] * 2),
        ("bool", "int64", [True, False], [1, 0]),
        ("int64", "bool", [1, 0], [True, False]),
        ("uint64", "int8", [127], [127]),
        ("double", "int64", [2.0], [2]),
        ("int64", '["int64"]', [1, None], [[1], None]),
        ('["int64"]', '["string"]', [[1, None], None, []], [["1", None], None, []]),
        ('{"a": "int64"}', "string", [{"a": 1}, None], ['{"a":1}', None]),
        ('{"a": ["timestamp"]}', "string", [{"a": [INSTANT]}], ['{"a":["2026-11-22T10:00:00Z"]}']),
        (
            '{"a": "int64", "b": "bool"}',
            '{"a": "string", "b": "bool"}',
            [{"a": 1, "b": True}, None, {"a": None, "b": None}],
            [{"a": "1", "b": True}, None, {"a": None, "b": None}],
        ),
    ],
)
def test_what_another_type_holds_is_said_exactly(
    old: str, new: str, values: list[Any], expected: list[Any]
) -> None:
    """Of numbers, texts, lists and structs."""
    assert can_retype(type_of(old), type_of(new))
    assert said(values, old, new) == expected


@pytest.mark.parametrize(
    ("old", "new", "value"),
    [
        *(("string", "int64", text) for text in ("dev-1", "05", "0x10", "-0", " 5", "1.0", "")),
        *(("string", "double", text) for text in ("x", "nan", "05", "1e999", "9007199254740993")),
        *(("string", "bool", text) for text in ("TRUE", "1", "yes")),
        *(("string", "timestamp", text) for text in ("soon", "5")),
        ("int64", "bool", 2),
        ("int64", "uint64", -1),
        ("uint64", "int64", 2**63),
        ("double", "int64", 0.5),
        ("int64", "double", 2**53 + 1),
        ("binary", "string", b"\xff"),
    ],
)
def test_what_another_type_does_not_hold_is_an_error_that_leads_to_it(
    old: str, new: str, value: Any
) -> None:
    """Never another value in silence; nulls beside it are no matter."""
    with pytest.raises(MisfitError) as error:
        said([None, value], old, new)
    assert error.value.path == ("x",)
    with pytest.raises(MisfitError) as error:
        said([{"a": [value]}], f'{{"a": ["{old}"]}}', f'{{"a": ["{new}"]}}')
    assert error.value.path == ("x", "a", ELEMENT)


def test_lists_and_structs_are_no_single_values() -> None:
    """Which is known before a row is read; nor are instants numbers."""
    for old, new in (
        ('["int64"]', "int64"),
        ('{"a": "int64"}', "int64"),
        ("int64", '{"a": "int64"}'),
        ("timestamp", "int64"),
        ("int64", "timestamp"),
        ("binary", "int64"),
    ):
        assert not can_retype(type_of(old), type_of(new))


def test_a_pin_is_written_as_a_shell_takes_it() -> None:
    """Of fields and elements, too."""
    assert pin_of(("id",), "string") == "--pin id=string"
    assert pin_of(("-id",), "string") == "--pin=-id=string"
    assert pin_of(("a", "b c", ELEMENT), "string") == """--pin 'a={"b c": ["string"]}'"""


def collected(root: Path, *steps: pa.Table | Schema) -> TableCollector:
    """Collect tables, a window each; what is no table are types that entries have from then on."""
    collector = TableCollector.at(root)
    for minute, step in enumerate(steps):
        if isinstance(step, pa.Table):
            collector.collect((minute, step))
        else:
            collector.newest = replace(collector.newest, schema=step)
    return collector


def view_of(root: Path, *steps: pa.Table | Schema) -> Collection:
    """Return the view of what was collected."""
    return batch_collection.open(collected(root, *steps).storage)


OLD = pa.table({"n": [1, 2, 10], "id": [1, None, 20]})
NEW = pa.table({"n": [3, 4], "id": ["dev-1", "20"]})
IDS = ["1", None, "20", "dev-1", "20"]


def test_every_way_of_reading_gives_a_column_its_newest_type(tmp_path: Path) -> None:
    """Whole, filtered, by DuckDB and Polars, in batches and parts, and exported."""
    view = view_of(tmp_path / "c", OLD, {"id": "string"}, NEW)

    assert view.table().column("id").to_pylist() == IDS
    assert view.scan().to_table().equals(view.table())
    assert view.to_arrow(["n"], where=pc.field("id") == "20").to_pylist() == [{"n": 10}, {"n": 4}]
    assert view.to_duckdb().filter("id = '20'").fetchall() == [(10, "20"), (4, "20")]
    assert view.to_polars().filter(n=10).collect()["id"].to_list() == ["20"]
    assert view.to_pandas()["id"].to_list()[2:] == IDS[2:]
    batches = view.to_arrow_batches(2)
    assert [row["id"] for batch in batches for row in batch.to_pylist()] == IDS
    arrays = view.to_numpy_batches(5, columns=["id"], fill={"id": ""})
    assert next(iter(arrays))["id"].tolist() == ["1", "", "20", "dev-1", "20"]
    export({"": view}, tmp_path / "out", "jsonl")
    lines = next((tmp_path / "out").glob("part-*")).read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == IDS


def test_rows_stay_on_their_sides_when_their_key_becomes_text(tmp_path: Path) -> None:
    """An integer and its text are one key; fractions are split by their texts."""
    collector = collected(tmp_path / "c", OLD)
    parts = {"a": 0.5, "b": 0.5}
    before = batch_collection.open(collector.storage).split(parts, by="id")
    collector.newest = pin(collector.storage, {"id": "string"}) or collector.newest
    after = collector.collect((9, NEW)).split(parts, by="id")
    for name, view in before.items():
        rows = view.table(["n"]).column("n").to_pylist()
        assert [
            n for n in after[name].table(["n"]).column("n").to_pylist() if n in OLD["n"].to_pylist()
        ] == rows
    twenties = [
        {10, 4} <= set(view.table(["n"]).column("n").to_pylist()) for view in after.values()
    ]
    assert sorted(twenties) == [False, True]

    texts = pa.table({"id": ["0.5", "x"]})
    doubles = pa.table({"id": [0.5]})
    sides = view_of(tmp_path / "d", doubles, {"id": "string"}, texts).split(parts, by="id")
    found = [view.table(["id"]).column("id").to_pylist() for view in sides.values()]
    assert sum(ids.count("0.5") == 2 for ids in found) == 1


def test_a_cycle_of_before_has_the_type_of_then(tmp_path: Path) -> None:
    """The log says which type is the newest, at the view's cycle."""
    view = view_of(tmp_path / "c", OLD, {"id": "string"}, NEW)

    assert view.at(1).table().column("id").to_pylist() == [1, None, 20]
    assert view.between(end="2026-11-22T10:01Z").scan().schema.field("id").type == STRING


def test_a_column_that_was_dropped_is_read_as_it_was_last(tmp_path: Path) -> None:
    """Older files still have it."""
    collector = collected(tmp_path / "c", OLD, {"id": "string"}, NEW)
    collector.newest = replace(collector.newest, schema={}, dropped={"id": "string"})

    view = collector.collect((9, pa.table({"n": [5]})))

    assert view.table(["id"]).column("id").to_pylist() == [*IDS, None]


def test_a_file_written_late_under_an_older_type_changes_nothing(tmp_path: Path) -> None:
    """Rows that waited leave as they were read."""
    view = view_of(tmp_path / "c", OLD, {"id": "string"}, NEW, OLD)

    assert view.table().column("id").to_pylist() == [*IDS, "1", None, "20"]


def test_numbers_are_read_as_the_type_that_holds_both(tmp_path: Path) -> None:
    """Whichever was pinned last."""
    numbers = pa.table({"x": [0.5]}), pa.table({"x": [2]})
    for name, types in (("d", ("int64", "double")), ("i", ("double", "int64"))):
        view = view_of(tmp_path / name, {"x": types[0]}, numbers[0], {"x": types[1]}, numbers[1])
        assert view.table().to_pylist() == [{"x": 0.5}, {"x": 2.0}]


def test_what_the_newest_type_does_not_hold_is_named_with_a_cure_that_works(tmp_path: Path) -> None:
    """And hinders nobody who leaves the column out."""
    collector = collected(tmp_path / "c", NEW, {"id": "int64"}, OLD)
    view = batch_collection.open(collector.storage)

    with pytest.raises(CollectionError, match=re.escape("'dev-1'")) as error:
        view.table()
    with pytest.raises(CollectionError, match="dev-1"):
        view.to_arrow(["n"], where=pc.field("id") == 1)
    assert view.table(["n"]).num_rows == 5
    assert view.to_arrow(["n"], where=pc.field("n") > 3).num_rows == 2
    assert view.scan(["n"]).count_rows() == 5

    assert "batch-collection schema PATH --pin id=string" in str(error.value)
    pin(collector.storage, {"id": "string"})
    assert batch_collection.open(collector.storage).table().num_rows == 5


def test_no_type_holds_a_list_and_its_element(tmp_path: Path) -> None:
    """From the list to the element; after what the error says all of it is text."""
    lists = pa.table({"n": [1], "id": [[1]]})
    collector = TableCollector.at(tmp_path / "c")
    collector.collect((0, lists))
    pin(collector.storage, {"id": "int64"})
    collector.newest = batch_collection.open(collector.storage).newest
    view = collector.collect((1, OLD))

    assert view.table(["n"]).num_rows == 4
    with pytest.raises(CollectionError, match=r"column id is list.*PATH --pin id=string`"):
        view.table()
    pin(collector.storage, {"id": "string"})
    found = batch_collection.open(collector.storage).table(["id"]).column("id").to_pylist()
    assert found == ["[1]", "1", None, "20"]


@pytest.mark.parametrize("old", SCANNED)
@pytest.mark.parametrize("new", SCANNED)
def test_what_is_scanned_is_what_is_read(tmp_path: Path, old: str, new: str) -> None:
    """For each pair of types, or both refuse it."""
    steps = [
        pa.table({"x": pa.array([None, 1], pa.int64()).cast(PRIMITIVES[name], safe=False)})
        if name != "binary"
        else pa.table({"x": [None, b"1"]})
        for name in (old, new)
    ]
    view = view_of(tmp_path / "c", {"x": old}, steps[0], {"x": new}, steps[1])
    try:
        table = view.table()
    except CollectionError:
        with pytest.raises((CollectionError, pa.ArrowException)):
            view.scan().to_table()
    else:
        assert view.scan().to_table().equals(table)
        assert table.num_rows == 4
        assert table.column("x").null_count == 2
