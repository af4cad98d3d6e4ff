"""Columns as arrays: types, nulls, nested columns, time zones."""

from __future__ import annotations

import math
import re
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_collection.errors import CollectionError
from batch_collection.field_path import quoted_path
from batch_collection.training import arrays as arrays_module
from tests.tables import TableCollector

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOON = datetime(2026, 7, 1, 12, 0, 0, 5, tzinfo=timezone.utc)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return where collections lie."""
    return tmp_path


def arrays(root: Path, rows: dict[str, Any], **options: Any) -> Any:
    """Return the only batch of a collection with these columns."""
    view = TableCollector.at(root).collect((0, pa.table(rows)))
    (batch,) = view.to_numpy_batches(100, **options)
    return batch


def test_numbers_and_truths_have_their_own_types(root: Path) -> None:
    """Of their own width."""
    columns = {
        "a": pa.array([1, 2], pa.int32()),
        "b": [0.5, 1.5],
        "c": [True, False],
        "d": pa.array([1, 255], pa.uint8()),
    }
    found = arrays(root, columns)

    assert {name: str(column.dtype) for name, column in found.items()} == {
        "a": "int32",
        "b": "float64",
        "c": "bool",
        "d": "uint8",
    }
    assert found["d"].tolist() == [1, 255]


def test_arrays_can_be_written_to(root: Path) -> None:
    """In place: no other batch changes, nor what is read again."""
    view = TableCollector.at(root).collect((0, pa.table({"a": [1, 2, 3, 4]})))
    batches = view.to_numpy_batches(2)
    first, second = batches
    first["a"] += 10

    assert second["a"].tolist() == [3, 4]
    assert next(iter(batches))["a"].tolist() == [1, 2]


def test_text_and_bytes_are_objects(root: Path) -> None:
    """Of Python's own types."""
    found = arrays(root, {"t": ["a", "ü"], "b": [b"\x00", b""]})

    assert found["t"].tolist() == ["a", "ü"]
    assert found["b"].tolist() == [b"\x00", b""]


def test_instants_are_utc_in_microseconds(root: Path) -> None:
    """Whatever their unit in the file."""
    columns = {"t": pa.array([NOON], pa.timestamp("ns", "UTC"))}
    assert arrays(root, columns)["t"].tolist() == [NOON.replace(tzinfo=None)]
    assert arrays(root / "b", columns)["t"].dtype == np.dtype("datetime64[us]")


def test_instants_can_be_the_wall_clocks_of_a_zone(root: Path) -> None:
    """Summer time and all: for the hour of the day as people live it."""
    winter = NOON.replace(month=1)
    columns = {"t": pa.array([NOON, winter], pa.timestamp("ms", "UTC"))}
    found = arrays(root, columns, time_zone="Europe/Berlin")["t"]

    assert [str(each)[11:19] for each in found] == ["14:00:00", "13:00:00"]


@pytest.mark.parametrize(
    "options", [{}, {"lengths": {"l": 1}}, {"casts": {"l": pa.timestamp("s", "UTC")}}]
)
def test_instants_in_lists_are_those_of_columns(root: Path, options: dict[str, Any]) -> None:
    """In microseconds, by the wall clock of a zone."""
    noon = NOON.replace(microsecond=0)
    lists = pa.array([[noon], [noon.replace(month=1)]], pa.list_(pa.timestamp("us", "UTC")))
    found = arrays(root, {"l": lists}, time_zone="Europe/Berlin", **options)["l"]

    assert [each.tolist() for each in found] == [
        [datetime(2026, 7, 1, 14)],  # noqa: DTZ001 - that of a wall clock
        [datetime(2026, 1, 1, 13)],  # noqa: DTZ001 - as above
    ]
    assert {each.dtype for each in found} == {np.dtype("datetime64[us]")}


def test_columns_of_a_struct_come_by_their_names(root: Path) -> None:
    """All of them, or one; a field of a null is null."""
    columns = {"place": [{"x": 1.0, "in": {"y": "a"}}, {"x": 2.0, "in": {"y": "b"}}]}
    assert sorted(arrays(root / "a", columns)) == ["place.in.y", "place.x"]
    assert arrays(root / "b", columns, columns=["place.in.y"])["place.in.y"].tolist() == ["a", "b"]
    absent = pa.array([None, {"x": 2.0}], pa.struct([("x", pa.float64())]))
    assert math.isnan(arrays(root / "c", {"place": absent})["place.x"][0])


def test_a_column_whose_name_has_a_dot_is_itself(root: Path) -> None:
    """It is asked for first."""
    columns = {"a.b": [1], "a": [{"b": 2}]}
    assert arrays(root, columns, columns=["a.b"])["a.b"].tolist() == [1]


DOTS = {"a.b": [1], "a": [{"b": 2, "c.d": {"e": 3}}]}


def test_quotes_keep_the_dots_of_a_name(root: Path) -> None:
    """Each array has the name that it was asked for by."""
    asked = ["a.b", 'a."b"', 'a."c.d".e', 'a."c.d"', '"a"']
    view = TableCollector.at(root).collect((0, pa.table(DOTS)))
    (found,) = view.to_numpy_batches(9, columns=asked[:3], casts={'a."b"': "float32"})
    (below,) = view.to_numpy_batches(9, columns=asked[3:4])

    assert {name: array.tolist() for name, array in found.items()} == {
        "a.b": [1],
        'a."b"': [2],
        'a."c.d".e': [3],
    }
    assert found['a."b"'].dtype == np.float32
    assert list(below) == ['a."c.d".e']


@pytest.mark.parametrize("options", [{}, {"columns": ["a", "a.b"]}, {"columns": ["a.b", "a"]}])
def test_two_columns_of_one_name_are_refused(root: Path, options: dict[str, Any]) -> None:
    """None is lost; how they can be told apart is said, and so they can."""
    view = TableCollector.at(root).collect((0, pa.table(DOTS)))

    with pytest.raises(CollectionError, match=r"two columns would be a\.b; choose one") as caught:
        view.to_numpy_batches(9, **options)
    apart = str(caught.value).rpartition(": ")[2].split(" and ")
    (found,) = view.to_numpy_batches(9, columns=apart)

    assert {array.tolist()[0] for array in found.values()} == {1, 2}


def test_a_column_that_is_asked_for_twice_comes_once(root: Path) -> None:
    """By itself, and with the object that it is in."""
    columns = {"place": [{"x": 1, "y": 2}]}
    assert list(arrays(root, columns, columns=["place.x", "place"])) == ["place.x", "place.y"]


def test_a_mask_hides_no_column(root: Path) -> None:
    """A column may be named as the mask would be."""
    columns = {"a": [None, 1.0], "a_is_null": [5, 6]}
    with pytest.raises(CollectionError, match="mask of a would be a_is_null, which is a column"):
        arrays(root, columns, mask=["a"])


_LEAVES = st.recursive(
    st.integers(0, 9),
    lambda inner: st.dictionaries(st.sampled_from(["a", "b", "a.b", '"']), inner, min_size=1),
    max_leaves=4,
)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.sampled_from(["a", "a.b", "b.a", "a.b.a"]), _LEAVES, min_size=1))
def test_no_value_is_lost_whatever_the_names(
    tmp_path_factory: pytest.TempPathFactory, row: dict[str, Any]
) -> None:
    """There are as many arrays as values, or none; by its quoted path each is found."""
    view = TableCollector.at(tmp_path_factory.mktemp("dots")).collect(
        (0, pa.Table.from_pylist([row]))
    )
    values = list(leaves_of(row))
    try:
        (found,) = view.to_numpy_batches(9)
        assert len(found) == len(values)
    except CollectionError as error:
        assert "two columns would be" in str(error)  # noqa: PT017 - either of both is right

    for path, value in values:
        (found,) = view.to_numpy_batches(9, columns=[quoted_path(path)])
        assert [array.tolist() for array in found.values()] == [[value]]


def leaves_of(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the values of an object, with the names that lead there."""
    if not isinstance(value, dict):
        yield path, value
        return
    for name, each in value.items():
        yield from leaves_of(each, (*path, name))


@pytest.mark.parametrize("shuffle", [None, 1])
def test_what_one_array_cannot_hold_comes_in_parts(
    root: Path, monkeypatch: pytest.MonkeyPatch, shuffle: int | None
) -> None:
    """Two GB of text: the same arrays, in the same order."""
    columns = {
        "n": pa.array([1, None, 3, 4]),
        "text": ["a", "b", None, "d"],
        "list": [[1], [2, 3], [], [4]],
        "instant": pa.array([NOON] * 4, pa.timestamp("us", "UTC")),
    }
    view = TableCollector.at(root).collect((0, pa.table(columns)))
    batches = view.to_numpy_batches(
        3, shuffle=shuffle, mask=["n", "text"], lengths={"list": 2}, columns=[*columns]
    )
    whole = list(batches)
    monkeypatch.setattr(
        arrays_module, "chunks_of", lambda column: [column.chunk(0)[i : i + 2] for i in (0, 2)]
    )
    batches.set_epoch(0)

    for parts, batch in zip(batches, whole, strict=True):
        assert {name: (str(each.dtype), each.tolist()) for name, each in parts.items()} == {
            name: (str(each.dtype), each.tolist()) for name, each in batch.items()
        }


def test_metadata_comes_where_it_is_asked_for(root: Path) -> None:
    """Models are not to learn offsets by accident."""
    columns = {"value": [1.0], "_offset": [7], "_mine": [1]}

    assert list(arrays(root / "a", columns)) == ["value", "_mine"]
    messages_gave = {"value": [1.0], "_message_id": [7]}  # which is Pub/Sub's alone
    assert list(arrays(root / "c", messages_gave)) == ["value", "_message_id"]
    assert arrays(root / "b", columns, columns=["_offset"])["_offset"].tolist() == [7]


def test_lists_keep_their_lengths_or_are_given_one(root: Path) -> None:
    """Cut, or filled up with zeros."""
    columns = {"tags": [["a", "b", "c"], [], ["d"]], "v": [[1.0, 2.0], [3.0], [4.0, 5.0]]}
    ragged = arrays(root / "a", columns)
    fixed = arrays(root / "b", columns, lengths={"tags": 2, "v": 2}, casts={"v": "float32"})

    assert [row.tolist() for row in ragged["tags"]] == [["a", "b", "c"], [], ["d"]]
    assert [row.tolist() for row in ragged["v"]] == [[1.0, 2.0], [3.0], [4.0, 5.0]]
    assert fixed["tags"].tolist() == [["a", "b"], ["", ""], ["d", ""]]
    assert fixed["v"].tolist() == [[1.0, 2.0], [3.0, 0.0], [4.0, 5.0]]
    assert fixed["v"].dtype == np.float32


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 9), max_size=5), min_size=1, max_size=9), st.integers(1, 6))
def test_lists_of_a_length_hold_what_they_held(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[int]], length: int
) -> None:
    """Row by row, at any place of a batch."""
    root = tmp_path_factory.mktemp("lists")
    view = TableCollector.at(root).collect(
        (0, pa.table({"v": pa.array(rows, pa.list_(pa.int64()))}))
    )
    found = [row for batch in view.to_numpy_batches(2, lengths={"v": length}) for row in batch["v"]]

    assert [row.tolist() for row in found] == [(row + [0] * length)[:length] for row in rows]


def test_nulls_are_nan_in_fractions_and_an_error_elsewhere(root: Path) -> None:
    """Nobody's zero is made up."""
    assert math.isnan(arrays(root / "a", {"v": [None, 1.0]})["v"][0])
    expected = "column v has nulls; say what to put there with fill={'v': ...}"
    for number, column in enumerate(([None, 1], [None, True], [None, "a"], [None, NOON])):
        with pytest.raises(CollectionError, match=re.escape(expected)):
            arrays(root / str(number), {"v": column})
    with pytest.raises(CollectionError, match=r"column v has nulls; fill={'v': \[\]} or mask"):
        arrays(root / "b", {"v": [None, [1]]})
    with pytest.raises(CollectionError, match=re.escape("column v[] has nulls")):
        arrays(root / "c", {"v": [[None], [1]]})


def test_a_null_in_a_late_file_is_refused_before_the_first_batch(root: Path) -> None:
    """Footers tell, and where a file lacks the column: no epoch ends in the midst."""
    first = pa.table({"i": [1], "place": [{"x": 1}], "f": [1.0], "l": [[1]]})
    nulls = pa.table({"i": [1, None], "place": [None, {"x": 1}], "f": [None, 1.0], "l": [[1], [2]]})
    lacking = pa.table({"f": [1.0, 2.0], "l": [[1], [2]]})
    for number, last in enumerate((nulls, lacking)):
        collector = TableCollector.at(root / str(number), row_group=1)
        view = collector.collect((0, first), (1, first), (2, last))
        where = re.escape(f"; the first is in {view.in_window_order()[2].path}")
        for column in ("i", "place.x"):
            expected = f"column {column} has nulls; say what .*{where}"
            with pytest.raises(CollectionError, match=expected):
                view.to_numpy_batches(1, columns=[column])
        view.to_numpy_batches(1, columns=["f", "l"])
        view.to_numpy_batches(1, columns=["i", "place"], fill={"i": 0}, mask=["place.x"])
        closed = view.between(end="2026-11-22T10:02Z").to_numpy_batches(1, columns=["i", "place"])
        assert [batch["i"].tolist() for batch in closed] == [[1], [1]]


@pytest.mark.parametrize("is_null", [True, False])
def test_a_null_counts_on_its_side_of_a_split(root: Path, is_null: bool) -> None:  # noqa: FBT001
    """Rows of another side are nobody's concern here."""
    keys = [f"k{number}" for number in range(20)]
    rows = pa.table({"k": keys, "v": [None if is_null and k == "k3" else 1 for k in keys]})
    lacking = pa.table({"k": [] if is_null else ["k3"]})
    view = TableCollector.at(root).collect((0, rows), (1, lacking))
    sides = view.split({"a": 0.5, "b": 0.5}, by="k").values()
    mine, other = sorted(sides, key=lambda side: "k3" not in side.to_arrow()["k"].to_pylist())

    with pytest.raises(CollectionError, match="column v has nulls"):
        mine.to_numpy_batches(1, columns=["v"])
    assert sum(len(batch["v"]) for batch in other.to_numpy_batches(1)) == other.rows


def test_columns_and_fields_are_left_out(root: Path) -> None:
    """Also those that nothing could be made of."""
    rows = {"v": [1], "s": [{"x": 1, "y": 2, "z": [[1]]}], "l": [[{"x": 1}]], "a.b": [3]}

    assert [*arrays(root / "a", rows, exclude=["l", "s"])] == ["v", "a.b"]
    assert [*arrays(root / "b", rows, exclude=["l", "s.x", "s.z", "a.b"])] == ["v", "s.y"]
    assert [*arrays(root / "c", rows, columns=["s", "v"], exclude=["s.z"])] == ["s.x", "s.y", "v"]


def test_nulls_are_filled(root: Path) -> None:
    """With what is said."""
    columns = {"i": [None, 1], "f": [None, 1.0], "t": [None, "a"], "l": [None, [1]]}
    elements = arrays(root / "elements", {"l": [[None, 2], [1]]}, fill={"l[]": -1})
    assert [row.tolist() for row in elements["l"]] == [[-1, 2], [1]]
    found = arrays(root, columns, fill={"i": -1, "f": 0, "t": "?", "l": []})

    assert found["i"].tolist() == [-1, 1]
    assert found["f"].tolist() == [0.0, 1.0]
    assert found["t"].tolist() == ["?", "a"]
    assert [row.tolist() for row in found["l"]] == [[], [1]]


def test_masks_say_where_nulls_were(root: Path) -> None:
    """In a column beside; with zero or the filling in their place."""
    columns = {"i": [None, 1], "t": [None, "a"], "n": [None, NOON], "b": [None, True]}
    found = arrays(root, columns, mask=["i", "t", "n", "b"], fill={"i": 7})

    assert found["i"].tolist() == [7, 1]
    assert found["t"].tolist() == ["", "a"]
    assert found["n"].tolist()[0] == datetime(1970, 1, 1)  # noqa: DTZ001 - numpy knows no zones
    assert found["b"].tolist() == [False, True]
    assert found["i_is_null"].tolist() == [True, False]
    assert found["t_is_null"].tolist() == [True, False]


def test_a_column_that_came_later_is_null_before(tmp_path: Path) -> None:
    """In every batch, those of older files too."""
    collector = TableCollector.at(tmp_path)
    collector.collect((0, pa.table({"a": [1]})))
    view = collector.collect((1, pa.table({"a": [2], "b": [5]})))

    (batch,) = view.to_numpy_batches(10, fill={"b": 0})
    assert batch["b"].tolist() == [0, 5]


def test_casts_never_change_a_value_in_silence(root: Path) -> None:
    """A number that does not fit is an error, with the column."""
    assert arrays(root / "a", {"v": [1, 2]}, casts={"v": "int8"})["v"].dtype == np.int8
    assert arrays(root / "b", {"v": ["1", "2"]}, casts={"v": "float32"})["v"].tolist() == [1, 2]
    with pytest.raises(CollectionError, match=r"column v: .* give it another type with casts"):
        arrays(root / "c", {"v": [1, 300]}, casts={"v": "int8"})
    for place, values in enumerate(([0.5, 1e300], [[0.5, -1e300]], ["0.5", "1e+300"])):
        with pytest.raises(
            CollectionError, match=r"column v: -?1e\+300 is beyond the range of float"
        ):
            arrays(root / f"d{place}", {"v": values}, casts={"v": "float32"})
    for place, value in enumerate((float("inf"), "Infinity")):
        infinite = arrays(root / f"e{place}", {"v": [value, None]}, casts={"v": "float16"})["v"]
        assert str(infinite.tolist()) == "[inf, nan]"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"columns": ["w"]}, "has a column w; there are: v, s, l, t, n"),
        ({"columns": ["s.y"]}, "has a column s.y"),
        ({"casts": {"v": "flaot"}}, "casts gives v an unknown type 'flaot'; one is float32"),
        ({"columns": ["v"], "fill": {"w": 0}}, "fill names w; no such column is read"),
        ({"columns": ["v"], "mask": ["w"]}, "mask names w; no such column is read"),
        ({"columns": ["v"], "lengths": {"v": 2}}, "lengths names v; no such list is read"),
        (
            {},
            "), t (list<item: list<element: int64>>); leave out what you do not need with exclude=",
        ),
        ({"exclude": ["w"]}, "exclude names w; no such column is read"),
        ({"columns": ["v"], "exclude": ["l"]}, "exclude names l; no such column is read"),
        ({"columns": "v"}, "columns must be a list of names, as ['value'], got 'v'"),
        ({"mask": "v"}, "mask must be a list of names, as ['value'], got 'v'"),
        ({"casts": ["v"]}, "casts must be a mapping by names, as {'value': 'float32'}, got ['v']"),
        ({"columns": ["v"], "fill": {"v": "x"}}, "fill of v must be a value of int64, got 'x'"),
        ({"columns": ["v"], "fill": {"v": None}}, "fill of v must be a value of int64, got None"),
        ({"columns": ["n"], "fill": {"n": [1]}}, "fill of n must be [], got [1]"),
        ({"columns": ["n"], "fill": {"n[]": []}}, "fill of n[] must be a value of int64, got []"),
        ({"columns": ["v"], "fill": {"v[]": 0}}, "fill names v[]; no such column is read"),
        ({"columns": ["n"], "lengths": {"n": 1.5}}, "length of n must be a whole number, got 1.5"),
        ({"columns": ["n"], "lengths": {"n": -1}}, "length of n must be at least 0, got -1"),
        ({"time_zone": "Nowhere"}, "time_zone must be the name of one, as Europe/Berlin, got"),
        ({"colums": ["v"]}, "unknown option colums; there are: casts, columns, drop_remainder"),
    ],
)
def test_rules_for_what_is_not_there_are_refused(
    root: Path, options: dict[str, Any], expected: str
) -> None:
    """Before a row is read."""
    lists = {"l": [[{"x": 1}]], "t": [[[1]]], "n": [[1]]}
    rows = pa.table({"v": [1], "s": [{"x": 1}], **lists})
    view = TableCollector.at(root).collect((0, rows))

    with pytest.raises(CollectionError, match=re.escape(expected)):
        view.to_numpy_batches(1, **options)


def test_a_label_is_handed_out_beside_its_features(tmp_path: Path) -> None:
    """Of each batch, shuffled or not, whether it is among the columns asked for or not."""
    rows = pa.table(
        {
            "x": pa.array(range(10), pa.int64()),
            "place": [{"y": float(i)} for i in range(10)],
            "_offset": pa.array(range(10), pa.int64()),
        }
    )
    view = TableCollector.at(tmp_path, row_group=4).collect((0, rows))

    for options in ({}, {"columns": ["x"]}, {"columns": ["x", "place.y"], "shuffle": 1}):
        features, labels = zip(*view.to_numpy_batches(3, label="place.y", **options), strict=True)
        assert [list(each) for each in features] == [["x"]] * 4
        assert [each["x"].tolist() for each in features] == [each.tolist() for each in labels]
    (batch,) = view.to_numpy_batches(10, label="_offset", casts={"_offset": "float32"})
    assert list(batch[0]) == ["x", "place.y"]
    assert batch[1].dtype == np.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": "z"}, "has a column z"),
        ({"label": "place"}, "label must be one column that is read, not a struct; place is none"),
        ({"label": "x", "exclude": ["x"]}, "label must be one column that is read, not a struct;"),
        ({"label": ["x"]}, "label must be the name of a column, got ['x']"),
        ({"label": "x", "mask": ["x"]}, "mask names the label x: features would tell of it"),
    ],
)
def test_a_label_that_makes_no_sense_is_refused(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    """When batches are asked for."""
    rows = pa.table({"x": [1], "place": [{"y": 1}]})
    view = TableCollector.at(tmp_path).collect((0, rows))

    with pytest.raises(CollectionError) as caught:
        view.to_numpy_batches(3, **options)

    assert message in str(caught.value)
