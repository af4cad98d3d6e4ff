"""Splits: a hash of the key tells the side, for ever."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_collection.errors import CollectionError
from batch_collection.reading.splits import sides
from tests.tables import TableCollector, numbered

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from batch_collection.collection import Collection

PARTS = {"train": 0.8, "valid": 0.1, "test": 0.1}
KEYS = st.lists(st.one_of(st.none(), st.text(max_size=4)), max_size=40)


def chosen(
    keys: Sequence[object], by: tuple[str, ...] = ("k",), salt: str = ""
) -> dict[str, set[int]]:
    """Return the rows on each side."""
    rows = pa.table({"k": pa.array(keys, None if keys else pa.string())})
    found = sides(PARTS, by, salt)
    return {name: set(side.chosen(rows).nonzero()[0].tolist()) for name, side in found.items()}


@given(KEYS)
def test_every_row_is_on_one_side_and_no_key_on_two(keys: list[object]) -> None:
    """Rows without a key, too."""
    found = chosen(keys)

    assert sorted(row for side in found.values() for row in side) == list(range(len(keys)))
    held = [{keys[row] for row in side} for side in found.values()]
    assert sum(map(len, held)) == len(set(keys))


@given(KEYS, KEYS)
def test_a_row_stays_on_its_side_as_data_grows(keys: list[object], later: list[object]) -> None:
    """What came before it and what comes after make no difference."""
    before, after = chosen(keys), chosen([*later, *keys])

    moved = {name: {row + len(later) for row in side} for name, side in before.items()}
    assert all(moved[name] <= after[name] for name in PARTS)


def test_a_key_is_on_the_same_side_for_ever() -> None:
    """In other versions of anything, and whatever the width of its type."""
    keys = [f"device-{i}" for i in range(12)]
    assert chosen(keys)["valid"] | chosen(keys)["test"] == {0, 11}
    narrow = sides(PARTS, ("k",), "")["train"].chosen(pa.table({"k": pa.array([5, 6], pa.int8())}))
    wide = sides(PARTS, ("k",), "")["train"].chosen(pa.table({"k": pa.array([5, 6], pa.int64())}))
    assert narrow.tolist() == wide.tolist()


def test_sides_get_their_fractions_of_the_keys() -> None:
    """About: a hash is no dealer."""
    found = chosen([f"device-{i}" for i in range(10_000)])

    assert {name: round(len(side) / 1000) for name, side in found.items()} == {
        "train": 8,
        "valid": 1,
        "test": 1,
    }


def test_a_side_that_misses_its_fraction_is_told_with_the_figure(tmp_path: Path) -> None:
    """Once, when its rows are counted; a side that is about right is no warning."""
    keys = ["busy"] * 100 + [f"d{i}" for i in range(100)]
    view = TableCollector.at(tmp_path).collect((0, pa.table({"k": keys})))
    parts = view.split({"a": 0.5, "b": 0.3, "c": 0.2}, by="k")

    expected = "the side 0.5 to 0.8 by k has 70.0% of the rows, not 30.0%: k has few values, or"
    with pytest.warns(UserWarning, match=re.escape(expected)):
        assert parts["b"].rows == 140
    assert parts["b"].rows == 140
    with pytest.warns(UserWarning, match=r"has 9\.0% of the rows, not 20\.0%"):
        assert len(parts["c"].to_arrow_batches(1)) == 18
    even = TableCollector.at(tmp_path / "even").collect((0, pa.table({"k": keys[100:]})))
    assert even.split({"a": 0.5, "b": 0.3, "c": 0.2}, by="k")["c"].rows == 18


def test_another_salt_is_another_split() -> None:
    """So that a test set can be drawn anew."""
    keys: list[object] = [f"device-{i}" for i in range(100)]
    assert chosen(keys, salt="b") != chosen(keys)


@pytest.mark.parametrize(
    "fractions",
    [
        {},
        {"a": 0.0, "b": 1.0},
        {"a": 0.8, "b": 0.3},
        {"a": math.nan, "b": 1},
        {"a": 1, "b": math.nan},
    ],
)
def test_fractions_that_are_no_parts_are_refused(fractions: dict[str, float]) -> None:
    """None, nothing, too much, no number."""
    with pytest.raises(CollectionError, match="fractions must be above 0 and add up to 1 at most"):
        sides(fractions, ("k",), "")


def devices(view: Collection) -> set[str]:
    """Return the devices of a view's rows."""
    return set(view.to_arrow(["device"]).column(0).to_pylist())


def test_a_side_is_read_like_any_view(tmp_path: Path) -> None:
    """As a table, as batches, filtered; rows are counted without those of other sides."""
    collector = TableCollector.at(tmp_path, row_group=16)
    whole = collector.collect((0, numbered(0, 50)), (1, numbered(50, 90)))
    parts = whole.split({"a": 0.5, "b": 0.5}, by="device")

    assert devices(parts["a"]) | devices(parts["b"]) == devices(whole)
    assert devices(parts["a"]) & devices(parts["b"]) == set()
    ids = [parts[name].to_arrow(["id"]).column(0).to_pylist() for name in ("a", "b")]
    assert sorted(ids[0] + ids[1]) == list(range(90))
    assert [parts[name].rows for name in ("a", "b")] == [len(ids[0]), len(ids[1])]
    batches = list(parts["a"].to_arrow_batches(7, ["id"]))
    assert [row for batch in batches for row in batch.column(0).to_pylist()] == ids[0]
    assert {batch.num_rows for batch in batches[:-1]} == {7}
    with pytest.raises(
        CollectionError, match="one side of a split, or what a filter leaves, is no"
    ):
        parts["a"].scan()
    assert "by device" in repr(parts["a"])


def test_groups_that_begin_anywhere_have_their_rows_of_a_side(tmp_path: Path) -> None:
    """Whatever eighth of them a group begins with: a side is remembered by a bit a row."""
    whole = TableCollector.at(tmp_path, row_group=13).collect((0, numbered(0, 200)))
    side = whole.split({"a": 0.5, "b": 0.5}, by="id")["a"]
    expected = side.to_arrow(["id"]).column(0).to_pylist()

    for first in range(0, len(expected), 7):
        batches = side.to_arrow_batches(1, ["id"])
        batches.skip(first)
        assert [batch.column(0)[0].as_py() for batch in batches] == expected[first:]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(1, 9), st.none() | st.integers(0, 9))
def test_shards_of_a_side_are_balanced(
    tmp_path_factory: pytest.TempPathFactory, count: int, size: int, shuffle: int | None
) -> None:
    """The key tells a side's rows before they are dealt out: disjoint, complete, within one row."""
    collector = TableCollector.at(tmp_path_factory.mktemp("c"), row_group=16)
    whole = collector.collect((0, numbered(0, 50)), (1, numbered(50, 90)))
    side = whole.split({"a": 0.5, "b": 0.5}, by="device")["a"]
    shards = [
        [
            row
            for batch in side.to_arrow_batches(size, ["id"], shard=(i, count), shuffle=shuffle)
            for row in batch.column(0).to_pylist()
        ]
        for i in range(count)
    ]

    assert sorted(row for shard in shards for row in shard) == sorted(
        side.to_arrow(["id"]).column(0).to_pylist()
    )
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_fields_and_several_columns_make_a_key(tmp_path: Path) -> None:
    """``place.x``, and more than one."""
    rows = pa.table({"place": [{"x": i % 5} for i in range(40)], "day": [i % 3 for i in range(40)]})
    view = TableCollector.at(tmp_path).collect((0, rows))
    parts = view.split({"a": 0.5, "b": 0.5}, by=["place.x", "day"])

    assert sum(part.rows for part in parts.values()) == 40
    assert all(part.to_arrow(["day"]).column_names == ["day"] for part in parts.values())


@pytest.mark.filterwarnings("ignore:the side .* of the rows")
def test_a_key_is_the_column_of_exactly_that_name_or_a_quoted_field(tmp_path: Path) -> None:
    """A part has all rows that are equal in the key, whatever else looks like it."""
    rows = pa.table({"a.b": range(40), "a": [{"b": i % 2, "c.d": i % 3} for i in range(40)]})
    view = TableCollector.at(tmp_path).collect((0, rows))

    def sizes(by: str) -> list[int]:
        return [part.rows for part in view.split({"x": 0.5, "y": 0.5}, by=by).values()]

    assert sizes('"a.b"') == sizes("a.b") != sizes('a."b"')
    assert set(sizes('a."b"')) <= {0, 20, 40}
    assert sum(sizes('a."c.d"')) == 40
    for by in ("a.c.d", "a.x", "a.b.c", '"a'):
        with pytest.raises(CollectionError, match=r"has a column|cannot read the field name"):
            sizes(by)


def test_a_file_whose_objects_lack_the_key_has_rows_without_one(tmp_path: Path) -> None:
    """Its field, or the whole column."""
    collector = TableCollector.at(tmp_path)
    collector.collect((0, pa.table({"n": [1, 2], "place": [{"y": 1}] * 2})))
    collector.collect((1, pa.table({"n": [3]})))
    view = collector.collect(
        (2, pa.table({"n": range(10, 30), "place": [{"x": i} for i in range(20)]}))
    )
    parts = view.split({"a": 0.5, "b": 0.5}, by="place.x")

    found = [part.to_arrow(["n"]).column(0).to_pylist() for part in parts.values()]
    assert sorted(len({1, 2, 3} & set(each)) for each in found) == [0, 3]
    assert sum(map(len, found)) == 23


def test_a_file_from_before_the_key_has_rows_without_one(tmp_path: Path) -> None:
    """They are on one side together."""
    collector = TableCollector.at(tmp_path)
    collector.collect((0, pa.table({"id": [1, 2, 3]})))
    view = collector.collect((1, numbered(10, 20)))
    parts = view.split({"a": 0.5, "b": 0.5}, by="device")

    sizes = [
        sum(id_ < 10 for id_ in part.to_arrow(["id"]).column(0).to_pylist())
        for part in parts.values()
    ]
    assert sorted(sizes) == [0, 3]


def test_a_part_is_split_again_by_the_same_key(tmp_path: Path) -> None:
    """Anew: not along the line that made it."""
    rows = pa.table({"id": range(1000)})
    view = TableCollector.at(tmp_path).collect((0, rows))
    half = view.split({"a": 0.5, "b": 0.5}, by="id")["a"]
    quarters = half.split({"a": 0.5, "b": 0.5}, by="id")

    assert sum(part.rows for part in quarters.values()) == half.rows
    assert all(200 < part.rows < 300 for part in quarters.values())


def test_a_key_that_is_not_there_or_no_key_is_refused(tmp_path: Path) -> None:
    """At once, or when its type is seen."""
    rows = pa.table({"value": [0.5], "tags": [["a"]]})
    view = TableCollector.at(tmp_path).collect((0, rows))

    with pytest.raises(CollectionError, match=r"has a column devcie; there are: value, tags"):
        view.split(PARTS, by="devcie")
    for name in ("value", "tags"):
        with pytest.raises(CollectionError, match=re.escape(f"cannot split by {name}, which is")):
            view.split(PARTS, by=name)["train"].to_arrow()
