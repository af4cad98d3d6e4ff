"""Views of a collection: windows, cycles, and the tables that other libraries make of them."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest

import batch_collection
from batch_collection.collection import Collection
from batch_collection.errors import CollectionError, LogError
from batch_collection.publishing.publish import publish
from batch_collection.storage.local import LocalStorage
from tests.tables import TableCollector, ids, numbered

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def collector(tmp_path: Path) -> TableCollector:
    """Return a collector with windows 10:00 to 10:03 in two cycles, the first two closed."""
    collector = TableCollector.at(tmp_path / "c", row_group=4)
    collector.collect((1, numbered(10, 20)), (0, numbered(0, 10)))
    collector.collect((2, numbered(20, 30)), (0, numbered(30, 33)), closed=2)
    return collector


FIRST, SECOND, THIRD = [*range(10), 30, 31, 32], [*range(10, 20)], [*range(20, 30)]

# narrower views


def test_rows_come_window_by_window(view: Collection) -> None:
    """A late file among those of its window; batches come as the log has them."""
    assert ids(view) == FIRST + SECOND + THIRD
    assert view.table(["id"]).equals(view.to_arrow(["id"]))
    assert [batch.cycle for batch in view] == [1, 1, 2, 2]
    assert [batch.cycle for batch in view.in_window_order()] == [1, 2, 1, 2]


def test_windows_can_be_chosen_by_time(view: Collection) -> None:
    """Text or instants, either end or both; whole windows only."""
    start = datetime(2026, 11, 22, 10, 1, tzinfo=timezone.utc)

    assert ids(view.between("2026-11-22T10:01Z", "2026-11-22T10:02Z")) == SECOND
    assert ids(view.between(start)) == SECOND + THIRD
    assert ids(view.between(end="2026-11-22T11:01+01:00")) == FIRST
    assert ids(view.between("2026-11-22T10:00:30Z", "2026-11-22T10:02:30Z")) == SECOND
    assert ids(view.between(start).between(end="2026-11-22T10:02")) == SECOND
    assert view.between(start, start).rows == 0
    with pytest.raises(CollectionError, match="not an instant: 'noon'"):
        view.between("noon")


def test_a_cycle_can_be_gone_back_to(view: Collection) -> None:
    """As it was then, in any order of narrowing."""
    old = view.at(cycle=1)

    assert ids(old) == FIRST[:10] + SECOND
    assert ids(view.between(end="2026-11-22T10:01Z").at(cycle=1)) == FIRST[:10]
    assert (ids(view.complete()), ids(old.complete())) == (FIRST + SECOND, [])
    assert ids(view.complete().at(cycle=1)) == []
    with pytest.raises(LogError, match=r"no log entry log/0+9\.json"):
        view.at(cycle=9)


def test_a_view_says_what_it_shows(view: Collection) -> None:
    """For logs and prompts."""
    assert repr(view.between("2026-11-22T10:01Z").complete()).endswith(
        "cycle=2, from 2026-11-22T10:01:00Z, closed by 2026-11-22T10:02:00Z; 10 rows, 1 batch, "
        "1 window, 2026-11-22T10:01:00Z to 2026-11-22T10:02:00Z)"
    )


def test_a_part_is_not_followed(view: Collection) -> None:
    """A cursor stands in the whole log."""
    with pytest.raises(CollectionError, match="is only a part of the log; follow what open"):
        view.complete().follow("a")


def test_time_splits_leave_the_gap_out(view: Collection) -> None:
    """Windows within it belong to no side, and none to two."""
    parts = view.split_by_time(
        ["train", "test"], at=["2026-11-22T10:01Z"], gap=timedelta(minutes=1)
    )

    assert {name: ids(part) for name, part in parts.items()} == {"train": FIRST, "test": THIRD}
    three = view.split_by_time(["a", "b", "c"], at=["2026-11-22T10:01Z", "2026-11-22T10:02Z"])
    assert [ids(part) for part in three.values()] == [FIRST, SECOND, THIRD]


def test_a_time_split_stays_as_data_grows(collector: TableCollector, view: Collection) -> None:
    """Instants are given, not fractions of what there is so far."""
    names, at = ["train", "test"], ["2026-11-22T10:01Z"]
    before = view.split_by_time(names, at)
    after = collector.collect((5, numbered(40, 45)), (0, numbered(45, 46))).split_by_time(names, at)

    assert ids(after["train"]) == [*FIRST, 45]
    assert set(ids(before["test"])) < set(ids(after["test"]))


def test_time_splits_that_make_no_sense_are_refused(view: Collection) -> None:
    """One instant less than names, rising."""
    expected = "2 names need 1 rising instants between them, got none"
    with pytest.raises(CollectionError, match=re.escape(expected)):
        view.split_by_time(["a", "b"], at=[])
    with pytest.raises(CollectionError, match="3 names need 2 rising instants"):
        view.split_by_time(["a", "b", "c"], at=["2026-11-22T10:02Z", "2026-11-22T10:01Z"])


# snapshots


def test_a_snapshot_reads_the_same_bytes_whatever_is_collected(
    collector: TableCollector, view: Collection
) -> None:
    """The table, and another one at the same cycle opened later."""
    before = view.to_arrow()
    collector.collect((0, numbered(100, 110)), (9, numbered(110, 120)), closed=9)
    later = batch_collection.open(collector.storage)

    assert view.to_arrow().equals(before)
    assert later.at(cycle=2).to_arrow().equals(before)
    assert view.scan().to_table().equals(before)
    assert later.rows == 53


def test_files_are_found_wherever_publishing_stands(collector: TableCollector) -> None:
    """Staged, and moved under the scanner."""
    view = collector.collect((3, numbered(40, 50)), published=False)
    dataset = view.scan()
    before = dataset.to_table()
    publish(collector.storage, collector.newest)

    assert before.num_rows == 43
    assert dataset.to_table().equals(before)
    assert view.to_arrow().equals(before)


# other libraries


def test_filters_and_columns_are_pushed_down(view: Collection) -> None:
    """Rows as asked for; a column that is filtered by need not be returned."""
    table = view.to_arrow(["device"], where=pc.field("id") >= 30)

    assert table.column_names == ["device"]
    assert table.column(0).to_pylist() == ["d2", "d3", "d4"]
    side = view.split({"a": 1.0}, by="device")["a"]
    assert side.to_arrow(["device"], where=pc.field("id") >= 30).equals(table)


def test_a_scan_is_a_dataset_of_exactly_the_files(
    collector: TableCollector, view: Collection
) -> None:
    """Row groups that a filter excludes are not read; what isn't published for it is not there."""
    collector.collect((0, numbered(100, 110)))
    dataset = view.between(end="2026-11-22T10:01Z").scan()

    assert isinstance(dataset, ds.FileSystemDataset)
    assert len(list(dataset.get_fragments())) == 2
    fragment = next(dataset.get_fragments())
    assert fragment.subset(pc.field("id") == 9).num_row_groups == 1
    assert dataset.count_rows(filter=pc.field("id") > 5) == 7
    assert view.scan(["id"]).schema.names == ["id"]


def test_a_scan_of_json_lines_is_a_dataset_too(tmp_path: Path) -> None:
    """In memory."""
    view = TableCollector.at(tmp_path, "jsonl").collect((0, numbered(0, 10)))

    assert view.scan().count_rows(filter=pc.field("id") < 3) == 3


def test_columns_that_came_later_are_null_before(tmp_path: Path) -> None:
    """In a scan as in a table; structs gain fields; a conflict is named only where it is read."""
    collector = TableCollector.at(tmp_path)
    collector.collect((0, pa.table({"a": [1], "s": [{"x": 1}], "c": [1]})))
    new = pa.table({"s": [{"x": 2, "y": "b"}], "b": ["new"], "c": ["1"]})
    view = collector.collect((1, new), schema={})
    expected = [
        {"a": 1, "s": {"x": 1, "y": None}, "b": None},
        {"a": None, "s": {"x": 2, "y": "b"}, "b": "new"},
    ]
    columns = ["a", "s", "b"]

    assert view.to_arrow(columns).to_pylist() == expected
    assert view.scan(columns).to_table().to_pylist() == expected
    assert view.to_arrow(columns, where=pc.field("b") == "new").to_pylist() == expected[1:]
    for read in (view.to_arrow, view.scan):
        with pytest.raises(CollectionError, match="column c is int64 in some batches and string"):
            read()


def test_a_scan_gives_numbers_of_two_types_as_the_one_that_holds_both(tmp_path: Path) -> None:
    """Inside of objects, too."""
    collector = TableCollector.at(tmp_path)
    collector.collect((0, pa.table({"a": [1], "s": [{"x": 1}]})))
    view = collector.collect((1, pa.table({"a": [0.5], "s": [{"x": 0.5}]})))
    expected = [{"a": 1.0, "s": {"x": 1.0}}, {"a": 0.5, "s": {"x": 0.5}}]

    assert view.to_arrow().to_pylist() == expected
    assert view.scan().to_table().to_pylist() == expected


def test_an_empty_view_has_the_columns_of_the_log(tmp_path: Path) -> None:
    """Whatever it is read with."""
    view = TableCollector.at(tmp_path).collect()

    assert (view.to_arrow().num_rows, view.scan().count_rows()) == (0, 0)
    assert list(view.to_numpy_batches(3)) == []
    assert view.to_arrow(where=pc.scalar(value=True)).num_rows == 0


def test_an_empty_part_has_the_columns_of_the_whole(view: Collection) -> None:
    """So that a program which waits for a window need not treat it apart."""
    empty = view.between(end="2026-11-22T09:00Z")
    side = empty.split({"a": 1.0}, by="device")["a"]

    assert empty.to_arrow(["id"]).schema.equals(view.to_arrow(["id"]).schema)
    assert list(empty.to_numpy_batches(3, columns=["id"])) == []
    assert side.to_arrow(["id"]).num_rows == 0
    assert side.to_arrow(["id"], where=pc.field("id") > 3).num_rows == 0


def test_duckdb_reads_a_view(view: Collection) -> None:
    """A relation, lazily; or a side of a split."""
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    with duckdb.connect() as connection:
        found = view.to_duckdb(connection).filter("id >= 30").aggregate("sum(id), count(*)")
        assert found.fetchall() == [(93, 3)]
        side = view.split({"a": 1.0}, by="device")["a"].to_duckdb(connection)
        assert side.count("id").fetchall() == [(33,)]
    assert view.to_duckdb().count("id").fetchall() == [(33,)]


def test_duckdb_gets_all_of_a_view_that_is_far(
    view: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once: a scan there that DuckDB drops could hang."""
    pytest.importorskip("duckdb", reason="duckdb is not installed")
    monkeypatch.setattr(LocalStorage, "is_far", True)
    monkeypatch.setattr(Collection, "scan", None)
    assert view.to_duckdb().limit(5).count("id").fetchall() == [(5,)]


def test_polars_reads_a_view(view: Collection) -> None:
    """A lazy frame; or a side of a split."""
    polars = pytest.importorskip("polars", reason="polars is not installed")
    frame = view.to_polars()

    assert frame.filter(polars.col("id") >= 30).select("id").collect()["id"].to_list() == [
        30,
        31,
        32,
    ]
    assert frame.select("id").collect()["id"].to_list() == ids(view)
    side = view.split({"a": 1.0}, by="device")["a"].to_polars()
    assert side.collect().height == 33


def test_pandas_reads_a_view(view: Collection) -> None:
    """A data frame."""
    pytest.importorskip("pandas", reason="pandas is not installed")
    frame = view.to_pandas(["id"], where=pc.field("id") < 3)

    assert frame["id"].tolist() == [0, 1, 2]


def test_a_missing_extra_is_named_with_its_cure(
    view: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a traceback of an import."""
    for module, read in (
        ("pandas", view.to_pandas),
        ("polars", view.to_polars),
        ("duckdb", view.to_duckdb),
        ("torch", lambda: view.to_torch(1)),
        ("tensorflow", lambda: view.to_tf(1)),
    ):
        monkeypatch.setitem(__import__("sys").modules, module, None)
        expected = f"install it with: pip install {module}"
        with pytest.raises(CollectionError, match=re.escape(expected)):
            read()


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("text", "where must be an expression, as pc.field('value') > 1, got 'text'"),
        (pc.field("nope") > 1, "cannot filter where (nope > 1): No match for FieldRef.Name(nope)"),
        (pc.field("device") > 1, "cannot filter where (device > 1): Function 'greater' has no"),
    ],
)
def test_what_is_no_filter_is_refused(
    view: Collection, where: pc.Expression, expected: str
) -> None:
    """Whether files are scanned for it or rows are filtered."""
    side = view.split({"all": 1.0}, by="id")["all"]
    for narrowed in (view, side):
        with pytest.raises(CollectionError, match=re.escape(expected)):
            narrowed.to_arrow(["id"], where=where)


def test_what_cannot_be_meant_is_refused(view: Collection) -> None:
    """In one line."""
    with pytest.raises(CollectionError, match=r"cycle must be a whole number, got 1\.0"):
        view.at(cycle=1.0)  # type: ignore[arg-type]
    with pytest.raises(CollectionError, match="an instant must be a datetime, or text as"):
        view.between(5)  # type: ignore[arg-type]
    with pytest.raises(CollectionError, match=r"columns must be a list of names, as \['value'\]"):
        view.to_arrow("id")
    with pytest.raises(CollectionError, match=r"columns must be a list of names, as \['value'\]"):
        view.scan([1])  # type: ignore[list-item]
    with pytest.raises(CollectionError, match="salt must be text, got 1"):
        view.split({"a": 0.5}, by="id", salt=1)  # type: ignore[arg-type]
    with pytest.raises(CollectionError, match="gap must be a timedelta of at least 0, or text as"):
        view.split_by_time(["a", "b"], at=["2026-11-22T10:01Z"], gap=60)  # type: ignore[arg-type]
    with pytest.raises(CollectionError, match="poll must be a timedelta of at least 0, or text as"):
        view.follow("group", poll=5)  # type: ignore[arg-type]
    with pytest.raises(CollectionError, match="path must be a directory or a URI"):
        batch_collection.open(None)  # type: ignore[arg-type]


def test_durations_are_texts_and_files_are_paths(view: Collection, tmp_path: Path) -> None:
    """As everywhere: no reader need look up which of them a method takes."""
    at = ["2026-11-22T10:01Z"]
    parts = view.split_by_time(["a", "b"], at, gap="1m")
    waited: list[float] = []

    def wait(seconds: float) -> bool:
        waited.append(seconds)
        return True

    followed = view.follow(
        cursor_file=tmp_path / "place.json",
        start="latest",
        poll="2s",
        wait=wait,
    )

    assert parts == view.split_by_time(["a", "b"], at, gap=timedelta(minutes=1))
    assert list(followed) == []
    assert waited == [2.0]
    assert (tmp_path / "place.json").is_file()


# what is new


def test_a_view_since_a_cycle_is_what_came_after_it(view: Collection) -> None:
    """In the order of windows; several are the latest of them; a state names it."""
    assert ids(view.since(1)) == [30, 31, 32, *THIRD]
    assert ids(view.since(0)) == ids(view)
    assert ids(view.since(2)) == ids(view.since(1).at(cycle=1)) == []
    assert ids(view.since(1).since(0)) == ids(view.since(1))
    assert ids(view.since(1).complete()) == ids(view.complete().since(1)) == [30, 31, 32]
    assert repr(view.since(1)).partition(";")[0].endswith("cycle=2, since cycle 1")
    state = view.since(1).to_numpy_batches(4).state_dict()
    assert state["rows"] == "since cycle 1"
    with pytest.raises(CollectionError, match="the state was saved with rows=since cycle 1"):
        view.to_numpy_batches(4).load_state_dict(state)
    for cycle, message in ((3, "cycle must be 0 to 2"), ("1", "cycle must be a whole number")):
        with pytest.raises(CollectionError, match=message):
            view.since(cycle)  # type: ignore[arg-type]


def test_the_last_closed_windows_are_counted_back_from_the_boundary(
    collector: TableCollector, view: Collection
) -> None:
    """Not from now: the same view gives the same ones, which its state names."""
    assert ids(view.last("1m")) == SECOND
    assert ids(view.last(timedelta(minutes=2))) == FIRST + SECOND
    assert ids(view.last("90s")) == SECOND
    assert ids(view.last("1y")) == FIRST + SECOND
    assert ids(view.at(cycle=1).last("1y")) == []
    last = view.last("1m").to_numpy_batches(4).state_dict()["rows"]
    assert last == "from 2026-11-22T10:01:00Z, closed by 2026-11-22T10:02:00Z"
    assert ids(collector.collect((3, numbered(40, 41)), closed=3).last("1m")) == THIRD
    for span in ("week", "", 7, timedelta(0)):
        with pytest.raises(CollectionError, match=r"not a duration|a span must be"):
            view.last(span)  # type: ignore[arg-type]
