"""Filters: a view of the rows for which an expression holds, whatever reads it."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import tempfile
from decimal import Decimal
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_collection.errors import CollectionError, StorageError
from batch_collection.reading.filters import Condition, Filter
from batch_collection.schema.unified import Unified
from tests.tables import TableCollector, ids, numbered

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_collection.collection import Collection

LATE = pc.field("id") >= 30
FEW = pc.field("device").isin(["d1", "d3", "d5"])


@pytest.fixture
def collector(tmp_path: Path) -> TableCollector:
    """Return a collector with windows 10:00 to 10:02 in two cycles, the first two closed."""
    collector = TableCollector.at(tmp_path / "c", row_group=8)
    collector.collect((1, numbered(20, 40)), (0, numbered(0, 20)))
    collector.collect((2, numbered(40, 60)), (0, numbered(60, 70)), closed=2)
    return collector


def in_batches(view: Collection, **options: Any) -> list[int]:
    """Return the ids that come in batches."""
    batches = view.to_numpy_batches(7, columns=["id"], **options)
    return [row for batch in batches for row in batch["id"].tolist()]


# the law

_NUMBERS = st.one_of(st.none(), st.sampled_from([0.0, -0.0, 1.0, 2.0, math.nan, math.inf]))
_ROWS = st.lists(st.tuples(_NUMBERS, st.one_of(st.none(), st.integers(0, 3))), max_size=12)
_FIELDS = st.sampled_from([pc.field("v"), pc.field("n"), pc.field("place", "v")])
_ATOMS = st.one_of(
    st.builds(lambda column, bound: column > bound, _FIELDS, st.integers(0, 3)),
    st.builds(lambda column, bound: column <= bound, _FIELDS, st.integers(0, 3)),
    st.builds(lambda column, bound: column == bound, _FIELDS, st.integers(0, 3)),
    st.builds(lambda column, bound: column != bound, _FIELDS, st.integers(0, 3)),
    st.builds(lambda column: column.is_null(), _FIELDS),
    st.builds(lambda column: column.is_null(nan_is_null=True), st.just(pc.field("v"))),
    st.builds(lambda column: column.is_valid(), _FIELDS),
    st.builds(lambda: pc.field("v").isin([1.0, math.nan])),
    st.builds(lambda: pc.field("v").isin([2, 0])),
    st.builds(lambda: pc.field("n").isin([1, 2])),
)
_FILTERS = st.recursive(
    _ATOMS,
    lambda inner: st.one_of(
        st.builds(lambda one: ~one, inner),
        st.builds(lambda one, other: one & other, inner, inner),
        st.builds(lambda one, other: one | other, inner, inner),
        st.builds(lambda one: pc.if_else(one, False, True), inner),  # noqa: FBT003
        st.builds(lambda one: pc.coalesce(one, True), inner),
    ),
    max_leaves=4,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(_ROWS, min_size=1, max_size=3), _FILTERS, st.integers(1, 4))
def test_just_the_rows_come_for_which_it_holds(
    files: list[list[tuple[float | None, int | None]]], where: pc.Expression, group: int
) -> None:
    """In their order, whatever statistics say, NaN and null among them; for tables and batches."""
    numbers = itertools.count()
    tables = [
        pa.table(
            {
                "id": pa.array([next(numbers) for _ in rows], pa.int64()),
                "v": pa.array([v for v, _ in rows], pa.float64()),
                "n": pa.array([n for _, n in rows], pa.int64()),
                "place": pa.array([{"v": v} for v, _ in rows], pa.struct([("v", pa.float64())])),
            }
        )
        for rows in files
    ]
    whole = pa.concat_tables(tables)
    expected = whole.filter(where).column("id").to_pylist()
    with tempfile.TemporaryDirectory() as root:
        collector = TableCollector.at(Path(root) / "c", row_group=group)
        part = collector.collect(*enumerate(tables)).where(where)

        assert ids(part) == expected
        assert part.rows == len(expected)
        assert in_batches(part) == expected
        assert sorted(in_batches(part, shuffle=1)) == expected
        shards = [in_batches(part, shard=(index, 3)) for index in range(3)]
        assert [row for shard in shards for row in shard] == expected


@pytest.mark.parametrize(
    "where",
    [
        ~(pc.field("v") < 5),
        pc.field("v").is_null(nan_is_null=True),
        pc.if_else(pc.field("v") < 5, False, True),  # noqa: FBT003
        pc.field("v").isin([*range(100), math.nan]),
    ],
)
def test_rows_whose_nan_holds_are_among_them(tmp_path: Path, where: pc.Expression) -> None:
    """Statistics of their row group say that no value does."""
    rows = pa.table({"id": [0, 1, 2], "v": [-1.0, -2.0, math.nan]})
    view = TableCollector.at(tmp_path).collect((0, rows))

    assert ids(view.where(where)) == in_batches(view.where(where)) == [2]
    assert view.to_arrow(["id"], where=where)["id"].to_pylist() == [2]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ([0.0], [0, 1, 4]),
        ([-0.0], [2, 3]),
        ([7, 0], [0, 1, 4]),
        (pa.chunked_array([[7.0], [0.0]]), [0, 1, 4]),
        ([Decimal("0.0")], [0, 1, 4]),
    ],
)
def test_zeros_are_found_by_their_signs(tmp_path: Path, wanted: Any, found: list[int]) -> None:
    """Footers have -0 to 0 for them, and Arrow takes that for the one that is less."""
    rows = pa.table({"id": range(6), "v": [0.0, 0.0, -0.0, -0.0, 0.0, 1.0]})
    where = pc.field("v").isin(wanted)
    view = TableCollector.at(tmp_path, row_group=2).collect((0, rows)).where(where)

    assert ids(view) == in_batches(view) == found


@pytest.mark.parametrize(
    "where",
    [
        pc.field("v").isin([1.0, 10, 0.5]) & (pc.field("v") > 0),
        pc.field("text").isin(["0", "x 0 y", "]"]) & (pc.field("v") >= 0.0),
        pc.field("n").isin([10, -10, 100]) & (pc.field("v") < 1),
    ],
)
def test_zeros_that_no_list_of_numbers_has_leave_row_groups_out(where: pc.Expression) -> None:
    """Those that are compared, or are within texts and other numbers, are told by footers."""
    known = Unified({"v": pa.float64(), "text": pa.string(), "n": pa.int64()})
    condition = Condition.of([Filter.of(where)], known, "here")

    assert condition is not None
    assert condition.by_ranges


def test_views_are_narrowed_in_any_order(view: Collection) -> None:
    """The same rows, under the same name."""
    steps: list[Callable[[Collection], Collection]] = [
        lambda one: one.where(LATE),
        lambda one: one.where(FEW),
        lambda one: one.split({"a": 0.6}, by="device")["a"],
        lambda one: one.between(end="2026-11-22T10:02Z"),
        lambda one: one.complete().at(cycle=2),
    ]
    found = [
        reduce(lambda one, step: step(one), order, view) for order in itertools.permutations(steps)
    ]

    kept = set(ids(view.split({"a": 0.6}, by="device")["a"])) & set(ids(view.complete()))
    expected = [i for i in ids(view) if i in kept and i >= 30 and f"d{i % 7}" in {"d1", "d3", "d5"}]
    assert expected
    assert all(ids(one) == expected for one in found)
    assert len({json.dumps(one.to_numpy_batches(4).state_dict()) for one in found}) == 1
    assert ids(view.where(LATE).at(cycle=1)) == list(range(30, 40))


def test_row_groups_that_cannot_match_are_not_read(view: Collection) -> None:
    """Their bytes may be anything: here they are none of Parquet's."""
    for batch in view:
        path = Path(str(batch.storage.local_path(batch.path)))
        footer = pq.ParquetFile(path).metadata
        for group in range(footer.num_row_groups):
            column = footer.row_group(group).column(0)
            if column.statistics.max < 30:
                with path.open("r+b") as file:
                    file.seek(column.dictionary_page_offset or column.data_page_offset)
                    file.write(os.urandom(column.total_compressed_size))

    part = view.where(pc.field("id") > 31)

    assert sorted(in_batches(part)) == sorted(ids(part)) == list(range(32, 70))
    assert part.split({"a": 1.0}, by="id")["a"].rows == 38
    with pytest.raises(StorageError, match="cannot read"):
        ids(view)


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_all_that_reads_rows_reads_those_of_a_filter(tmp_path: Path, form: str) -> None:
    """Tables, frames, relations and batches, in both formats."""
    collector = TableCollector.at(tmp_path, form, row_group=8)
    part = collector.collect((0, numbered(0, 20)), (1, numbered(20, 40))).where(LATE)
    expected = list(range(30, 40))

    assert part.rows == 10
    assert part.table(["id"]).column(0).to_pylist() == expected
    assert [row for batch in part.to_arrow_batches(4) for row in batch["id"].to_pylist()] == (
        expected
    )
    assert in_batches(part, order_by="id") == expected
    assert part.to_arrow(["id"], where=pc.field("id") < 33)["id"].to_pylist() == [30, 31, 32]
    with pytest.raises(CollectionError, match="or what a filter leaves, is no set of files"):
        part.scan()


@pytest.mark.parametrize("module", ["pandas", "polars", "duckdb"])
def test_frames_have_the_rows_of_a_filter(view: Collection, module: str) -> None:
    """And no others."""
    pytest.importorskip(module)
    part = view.where(LATE & (pc.field("id") < 40))

    if module == "pandas":
        found = part.to_pandas(["id"])["id"].tolist()
    elif module == "polars":
        found = part.to_polars().collect()["id"].to_list()
    else:
        found = [row[0] for row in part.to_duckdb().project("id").fetchall()]
    assert sorted(found) == list(range(30, 40))


def test_a_state_is_that_of_its_filter(view: Collection) -> None:
    """It goes on there, and is refused by another one, or none, even one of the same text."""
    batches = view.where(pc.field("id") > 30).to_numpy_batches(4, columns=["id"])
    loop = iter(batches)
    seen = [row for _ in range(2) for row in next(loop)["id"].tolist()]
    state = json.loads(json.dumps(batches.state_dict()))
    again = view.where(pc.field("id") > 30).to_numpy_batches(4, columns=["id"])
    again.load_state_dict(state)

    assert seen + [row for batch in again for row in batch["id"].tolist()] == [
        i for i in ids(view) if i > 30
    ]
    with pytest.raises(CollectionError, match=re.escape("rows=where (id > 30), this has all")):
        view.to_numpy_batches(4, columns=["id"]).load_state_dict(state)
    with pytest.raises(CollectionError, match=re.escape("this has where (id > 31); make the")):
        view.where(pc.field("id") > 31).to_numpy_batches(4, columns=["id"]).load_state_dict(state)
    listed = [[*range(50), 50 + middle, *range(100, 150)] for middle in (0, 1)]
    one, other = (
        view.where(pc.field("id").isin(values)).to_numpy_batches(4, columns=["id"])
        for values in listed
    )
    with pytest.raises(CollectionError, match="the state was saved with where=is_in"):
        one.load_state_dict(other.state_dict())


def test_batches_are_files_and_so_are_not_those_of_a_filter(view: Collection) -> None:
    """They would bring rows for which it does not hold; windows tell the rows of the view."""
    for part in (view.where(LATE), view.split({"a": 0.5}, by="device")["a"]):
        for asked in (list, len, in_window_order):
            with pytest.raises(CollectionError, match="has some rows of its batches, which are"):
                asked(part)
        with pytest.raises(CollectionError, match="is only a part of the log"):
            part.follow("a")
        assert part
        assert not part.between(end="2026-11-22T10:00Z")
    windows = view.where(LATE).windows()
    assert [(window.rows, window.is_closed) for window in windows] == [
        (10, True),
        (10, True),
        (20, False),
    ]
    assert [window.rows for window in view.where(pc.field("id") < 0).windows()] == [0, 0, 0]


def in_window_order(view: Collection) -> object:
    """Ask a view for its batches."""
    return view.in_window_order()


def test_a_filter_may_name_what_only_the_log_has(collector: TableCollector) -> None:
    """A column that came later is null in the windows before: no row holds, in any order."""
    later = numbered(70, 75).append_column("extra", pa.array(range(5), pa.int64()))
    view = collector.collect((3, later))
    early = view.between(end="2026-11-22T10:03Z")

    assert ids(view.where(pc.field("extra") > 2)) == [73, 74]
    assert ids(early.where(pc.field("extra") > 2)) == []
    assert ids(view.where(pc.field("extra") > 2).between(end="2026-11-22T10:03Z")) == []
    assert in_batches(early.where(pc.field("extra").is_null())) == ids(early)
    with pytest.raises(CollectionError, match=r"No match for FieldRef.Name\(extra\)"):
        ids(view.where(pc.field("extra") > 2).at(cycle=1))


def test_nulls_that_a_filter_leaves_out_are_no_nulls(tmp_path: Path) -> None:
    """Arrays that can't hold any are made of what is left."""
    rows = pa.table({"id": pa.array([1, None, 3], pa.int64())})
    view = TableCollector.at(tmp_path).collect((0, rows))

    with pytest.raises(CollectionError, match="column id has nulls"):
        view.to_numpy_batches(2)
    (batch,) = view.where(pc.field("id").is_valid()).to_numpy_batches(2)
    assert batch["id"].tolist() == [1, 3]


def test_a_side_of_few_rows_is_no_warning_where_a_filter_left_few(view: Collection) -> None:
    """Fractions are those of the rows that the filter leaves."""
    part = view.where(pc.field("id") < 14).split({"a": 0.5}, by="id")["a"]

    assert 3 < part.rows < 11


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("id > 1", "where must be an expression, as pc.field('value') > 1, got 'id > 1'"),
        (pc.field("nope") > 1, "cannot filter where (nope > 1): No match for FieldRef.Name(nope)"),
        (pc.field("id"), "cannot filter where id: Filter expression must evaluate to bool"),
        (pc.field("id") > "a", "cannot filter where (id > \"a\"): Function 'greater' has no"),
        (pc.field(0) > 1, "cannot filter where (FieldPath(0) > 1): name columns, as pc.field("),
    ],
)
def test_what_is_no_filter_is_told_at_once(view: Collection, where: Any, message: str) -> None:
    """In one line, and before any row is read."""
    with pytest.raises(CollectionError) as caught:
        view.where(where)

    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_worked_out_is_told_when_it_is_read(view: Collection) -> None:
    """A division by zero, say, as a table and in batches."""
    part = view.where(pc.divide_checked(pc.field("id"), pc.field("id") - pc.field("id")) > 1)

    for read in (ids, in_batches):
        with pytest.raises(CollectionError, match=r"cannot filter where .*: divide by zero"):
            read(part)


def test_arrays_are_those_of_the_filter_only(view: Collection) -> None:
    """Of a filter that names other columns than are read."""
    (batch,) = view.where(FEW & (pc.field("id") < 7)).to_numpy_batches(9, columns=["id"])

    assert list(batch) == ["id"]
    assert np.array_equal(batch["id"], [1, 3, 5])
