"""Types of JSON lines are those of the entry that committed the file, whatever came later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import batch_collection
from batch_collection.errors import CollectionError
from batch_collection.paths import carry_path
from batch_collection.publishing.expire import expire
from batch_collection.schema.arrow import to_arrow
from tests.columns import NAMES, TYPES, rows_of
from tests.tables import FIRST, MINUTE, TableCollector, numbered

if TYPE_CHECKING:
    from pathlib import Path

FORMATS = ["parquet", "jsonl"]


def same(one: pa.Table, other: pa.Table) -> bool:
    """Tell whether tables have the same columns and values; NaN is NaN."""
    return one.schema.equals(other.schema) and repr(one.to_pylist()) == repr(other.to_pylist())


def test_nulls_that_lead_a_list_are_kept(tmp_path: Path) -> None:
    """Inference by pyarrow drops them."""
    collector = TableCollector.at(tmp_path, "jsonl")
    rows = pa.table({"c": [[None, 1.5], [2.5, 3.5]], "n": pa.array([2**64 - 1, 0], pa.uint64())})

    view = collector.collect((0, rows.slice(0, 1)), (0, rows.slice(1)))

    assert same(view.table(), rows)
    assert [batch.table().to_pylist() for batch in view] == [[row] for row in rows.to_pylist()]


def test_columns_of_several_cycles_are_those_of_their_entries(tmp_path: Path) -> None:
    """New columns, new fields of objects; an older file's lists of nulls have a type, too."""
    collector = TableCollector.at(tmp_path, "jsonl")
    old = pa.table({"s": pa.array([None], pa.struct([("x", pa.int64())])), "v": [1]})
    new = pa.table({"s": [{"x": 2, "y": ["b"]}], "v": [3], "w": pa.array([b"\x00"])})
    collector.collect((0, old))
    view = collector.collect((1, new))

    first, second = view

    assert same(first.table(), old)
    assert same(second.table(), new)
    assert view.table().to_pylist() == [
        {"s": None, "v": 1, "w": None},
        {"s": {"x": 2, "y": ["b"]}, "v": 3, "w": b"\x00"},
    ]
    with pytest.raises(CollectionError, match="has no column w; it has: s, v"):
        first.table(["w"])


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_collection_reads_alike_in_all_formats(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever its columns, and though they come and go from file to file."""
    columns = data.draw(st.dictionaries(NAMES, TYPES, min_size=1, max_size=4))
    files = []
    for _ in range(data.draw(st.integers(1, 3))):
        names = data.draw(st.lists(st.sampled_from(list(columns)), min_size=1, unique=True))
        files.append(data.draw(rows_of(pa.schema([(name, columns[name]) for name in names]))))
    views = []
    for file_format in FORMATS:
        collector = TableCollector.at(tmp_path_factory.mktemp("c") / "c", file_format)
        for minute, rows in enumerate(files):
            views.append(collector.collect((minute, rows)))
    parquet, lines = views[len(files) - 1], views[-1]

    assert same(parquet.table(), lines.table())
    for rows, one, other in zip(files, parquet, lines, strict=True):
        assert same(one.table(), rows)
        assert same(other.table(), rows)


RETYPED: list[tuple[Any, ...]] = [
    ("int64", "double", 2**53 + 1, 0.5),
    ("double", "float", 0.1, 0.5),
    ("double", "int64", 0.5, 3),
    ("string", "int64", "7", 7),
    ("int64", "string", 7, "7"),
    ({"x": "int64", "y": "bool"}, {"x": "string", "y": "bool"}, {"x": 1}, {"x": "a"}),
    (["int64"], ["double"], [2**53 + 1, None], [1.0]),
]


@pytest.mark.parametrize(
    ("version", "kept", "now", "waited", "fresh"),
    [(version, *case) for case in RETYPED for version in (1, 2)]
    + [(2, "binary", "string", b"\xff", "abcd")],
)
def test_rows_that_kept_the_type_they_waited_under_are_read_under_it(
    tmp_path: Path, version: int, kept: Any, now: Any, waited: Any, fresh: Any
) -> None:
    """Format 2 says so; in format 1 a file is read as what it would be written as again."""
    collector = TableCollector.at(tmp_path, "jsonl")
    old, new = (
        pa.table([pa.array([value], to_arrow({"v": type_}).field("v").type)], ["v"])
        for value, type_ in ((waited, kept), (fresh, now))
    )
    collector.collect((0, old), schema={"v": kept})
    collector.collect((1, new), schema={"v": now}, released=(carry_path(1, 0, 0, "0badcafe"),))

    view = collector.collect(
        (1, new),
        (1, old),
        types=[{}, {"v": kept}] if version == 2 else [],
        schema={"v": now},
        released=(carry_path(2, 0, 0, "0badcafe"),),
        format=version,
    )

    tables = [batch.table() for batch in view]
    assert [same(table, new) for table in tables] == [False, True, True, False]
    assert [same(table, old) for table in tables] == [True, False, False, True]


@pytest.mark.parametrize("version", [1, 2])
def test_rows_that_kept_a_column_that_is_no_more_are_read_with_it(
    tmp_path: Path, version: int
) -> None:
    """It is in the file, and in the entry that let them wait."""
    collector = TableCollector.at(tmp_path, "jsonl")
    old, new = numbered(0, 2), numbered(2, 4).select(["id"])
    collector.collect((0, old))

    view = collector.collect(
        (1, new),
        (1, old),
        types=[{}, {"device": "string"}] if version == 2 else [],
        schema={"id": "int64"},
        released=(carry_path(1, 0, 0, "0badcafe"),),
        format=version,
    )

    assert all(same(one.table(), rows) for one, rows in zip(view, (old, new, old), strict=True))
    assert view.table()["device"].to_pylist() == ["d0", "d1", None, None, "d0", "d1"]


def test_a_payload_column_named_like_the_metadata_has_its_own_type(tmp_path: Path) -> None:
    """Without metadata columns the names are free."""
    rows = pa.table({"_timestamp": ["soon"], "_offset": [{"x": 1}]})
    schema = {"_timestamp": "string", "_offset": {"x": "int64"}}

    view = TableCollector.at(tmp_path, "jsonl").collect((0, rows), schema=schema)

    assert same(view.table(), rows)


def test_a_view_that_is_expired_in_part_reads_the_rest(tmp_path: Path) -> None:
    """The entry of what is left is left."""
    collector = TableCollector.at(tmp_path, "jsonl")
    for minute in range(4):
        collector.collect((minute, numbered(minute, minute + 1)), closed=minute + 1)
    expire(collector.storage, FIRST + 2 * MINUTE, FIRST + 9 * MINUTE)

    view = batch_collection.open(tmp_path)

    assert view.table()["id"].to_pylist() == [2, 3]
