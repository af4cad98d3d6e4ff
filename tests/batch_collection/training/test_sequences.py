"""Sequences of a key's rows: those that a plain loop over all rows finds, and no others."""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import batch_collection
from batch_collection.errors import CollectionError
from tests.tables import FIRST, TableCollector, rows_read

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from batch_collection.collection import Collection

KEYS = st.sampled_from(["a", "b", "c", None])
ROWS = st.lists(st.tuples(KEYS, st.integers(0, 59)), min_size=1, max_size=25)
CYCLES = st.lists(st.lists(st.tuples(st.integers(0, 2), ROWS), max_size=3), max_size=3)


def table(rows: list[tuple[Any, int]], minute: int, first: int) -> pa.Table:
    """Return rows of ``(device, second)``, counted through from ``first``."""
    seconds = [60 * minute + second for _, second in rows]
    instants = [FIRST + timedelta(seconds=second) for second in seconds]
    return pa.table(
        {
            "device": pa.array([device for device, _ in rows], pa.string()),
            "id": pa.array(range(first, first + len(rows)), pa.int64()),
            "second": pa.array(seconds, pa.int64()),
            "_timestamp": pa.array(instants, pa.timestamp("us", "UTC")),
        }
    )


def collected(root: Path, cycles: list[list[tuple[int, list[tuple[Any, int]]]]]) -> Collection:
    """Return a collection of such rows, in row groups of 4."""
    collector = TableCollector.at(root, row_group=4)
    first = 0
    for files in cycles:
        made = []
        for minute, rows in files:
            made.append((minute, table(rows, minute, first)))
            first += len(rows)
        collector.collect(*made)
    return batch_collection.open(root)


def naive(
    view: Collection, length: int, stride: int, horizon: int, gap: int | None
) -> Iterator[Any]:
    """Yield the ids of each sequence, and of the rows behind, by a loop over each key's rows."""
    if not view.rows:
        return
    by_key = defaultdict(list)
    for row in view.to_arrow(["device", "id", "second"]).to_pylist():
        by_key[row["device"]].append((row["second"], row["id"]))
    for rows in by_key.values():
        rows.sort(key=lambda row: row[0])
        runs: list[list[tuple[int, int]]] = []
        for row in rows:
            if not runs or (gap is not None and row[0] - runs[-1][-1][0] > gap):
                runs.append([])
            runs[-1].append(row)
        for run in runs:
            found = [row for _, row in run]
            for start in range(0, len(found) - length - horizon + 1, stride):
                end = start + length
                yield found[start:end], found[end : end + horizon]


def rows_of(batches: Any) -> list[Any]:
    """Return the ids of each sequence, and of the rows behind."""
    found: list[Any] = []
    for past, future in batches.as_columns():
        found += zip(past["id"].tolist(), future["id"].tolist(), strict=True)
    return [tuple(each) for each in found]


@settings(max_examples=60, deadline=None)
@given(
    CYCLES,
    st.integers(1, 4),
    st.integers(1, 6),
    st.integers(0, 2),
    st.none() | st.integers(0, 20),
    st.integers(1, 3),
    st.sampled_from(["_timestamp", "second"]),
)
def test_sequences_are_those_of_a_plain_loop_each_key_in_one_shard(  # noqa: PLR0913, PLR0917 - each its own
    tmp_path_factory: pytest.TempPathFactory,
    cycles: list[Any],
    length: int,
    stride: int,
    horizon: int,
    gap: int | None,
    count: int,
    order_by: str,
) -> None:
    """Whatever files, windows and row groups their rows lie in; they come as they are complete."""
    view = collected(tmp_path_factory.mktemp("c"), cycles)
    if not view.rows:
        return
    gaps: Any = gap if gap is None or order_by == "second" else timedelta(seconds=gap)
    columns = view.to_arrow(["id", "device", "second"])
    told = {row["id"]: row for row in columns.to_pylist()}
    found, keys = [], []
    for index in range(count):
        sequences = view.sequences(
            "device",
            order_by,
            length=length,
            stride=stride,
            horizon=horizon,
            max_gap=gaps,
            shard=(index, count),
        )
        batches = sequences.to_numpy_batches(3, columns=["id"])
        part = rows_of(batches)
        assert rows_of(batches) == part
        assert all(len(past["id"]) == 3 for past, _ in list(batches.as_columns())[:-1])
        ends = [told[(past + future)[-1]]["second"] for past, future in part]
        assert ends == sorted(ends)
        keys.append({told[past[0]]["device"] for past, _ in part})
        found += part

    assert sorted(found) == sorted(naive(view, length, stride, horizon, gap))
    assert sum(map(len, keys)) == len(set().union(*keys))


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """Return two devices, a row every ten seconds each, over three windows."""
    rows = [(device, second) for second in range(0, 60, 10) for device in ("a", "b")]
    return collected(tmp_path_factory.mktemp("view"), [[(minute, rows)] for minute in range(3)])


def test_a_batch_is_the_past_and_what_is_behind_it(view: Collection) -> None:
    """As dicts, or with a label as its array; with no horizon it is the past alone."""
    columns = ["id", "second"]
    past, future = next(iter(view.sequences("device", length=4).to_numpy_batches(2)))
    assert past["id"].tolist() == [[0, 2, 4, 6], [1, 3, 5, 7]]
    assert future["id"].tolist() == [[8], [9]]
    assert past["device"].tolist() == [["a"] * 4, ["b"] * 4]

    labelled = view.sequences("device", length=2, horizon=2)
    past, label = next(iter(labelled.to_numpy_batches(1, columns=columns, label="id")))
    assert (list(past), label.tolist()) == (columns, [[4, 6]])
    past, label = next(iter(labelled.to_numpy_batches(1, columns=["second"], label="id")))
    assert (list(past), label.tolist()) == (["second"], [[4, 6]])

    alone = view.sequences("device", length=18, horizon=0).to_numpy_batches(5, columns=["second"])
    assert [batch["second"].tolist() for batch in alone] == [[list(range(0, 180, 10))] * 2]
    kept = view.sequences("device", length=4, stride=4).to_numpy_batches(3, drop_remainder=True)
    assert [len(past["id"]) for past, _ in kept] == [3, 3]


def test_one_window_is_read_at_a_time(view: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    """And only when its sequences are asked for."""
    read = rows_read(monkeypatch)
    batches = iter(view.sequences("device", length=3).to_numpy_batches(2))
    next(batches)
    assert read == [12]
    assert len(list(batches)) == 14
    assert read == [12, 12, 12]


def test_a_filter_has_sequences_of_its_rows(view: Collection) -> None:
    """They are read like any others; several columns make a key."""
    some = view.where(pc.field("second") != 80)
    found = rows_of(some.sequences(["device"], length=3).to_numpy_batches(4))
    assert len(found) == 2 * 14
    assert sorted(found) == sorted(naive(some, 3, 1, 1, None))

    instants = np.unique(view.to_arrow(["second"]).column(0).to_numpy())
    pairs = view.sequences(["second", "device"], length=1, horizon=0).to_numpy_batches(100)
    assert len(next(iter(pairs))["id"]) == 2 * len(instants)


def test_a_gap_between_windows_ends_what_a_stride_leaves_out(tmp_path: Path) -> None:
    """Behind it the first row begins a sequence; without one the stride is gone to its end."""
    rows = [table([("a", second) for second in range(3)], minute, 3 * minute) for minute in (0, 1)]
    view = TableCollector.at(tmp_path).collect(*enumerate(rows))
    for gap, expected in ((20, [[0], [3]]), (None, [[0], [5]])):
        sequences = view.sequences("device", "second", length=1, stride=5, horizon=0, max_gap=gap)
        assert [past for past, _ in rows_of(sequences.to_numpy_batches(2))] == expected


def test_an_order_that_goes_back_between_windows_is_refused(tmp_path: Path) -> None:
    """Else sequences would miss the rows that come later; so would those with no order."""
    collector = TableCollector.at(tmp_path)
    late = table([("a", 0), ("a", 9)], 0, 0)
    collector.collect((0, late), (1, table([("a", 5)], -1, 2)))
    with pytest.raises(CollectionError, match="order_by=second goes back from one window"):
        list(
            batch_collection.open(tmp_path)
            .sequences("device", "second", length=1)
            .to_numpy_batches(1)
        )

    other = TableCollector.at(tmp_path / "other")
    rows = pa.table({"device": ["a", "b"], "at": pa.array([1.5, None], pa.float64())})
    view = other.collect((0, rows))
    with pytest.raises(CollectionError, match="order_by=at has nulls or NaN"):
        list(view.sequences("device", "at", length=1).to_numpy_batches(1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 0}, "length must be at least 1, got 0"),
        ({"length": 2.0}, "length must be a whole number, got 2.0"),
        ({"stride": 0}, "stride must be at least 1, got 0"),
        ({"horizon": -1}, "horizon must be at least 0, got -1"),
        ({"by": "nothing"}, "by must name columns of text, integers or instants; nothing is None"),
        ({"by": []}, "by must name a column at least"),
        ({"order_by": "device"}, "order_by of sequences must be a column of numbers or instants"),
        ({"order_by": "nothing"}, "order_by names nothing; there are: device, id"),
        ({"max_gap": 5}, "max_gap must be a timedelta, or text as 10s, of at least 0"),
        ({"max_gap": "soon"}, "not a duration: 'soon'"),
        ({"order_by": "second", "max_gap": "10s"}, "max_gap must be a number of at least 0"),
        ({"shard": (2, 2)}, "shard must be (index, count) with an index from 0 to count - 1"),
        ({"shard": 1}, "shard must be (index, count) with an index from 0 to count - 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    view: Collection, options: dict[str, Any], message: str
) -> None:
    """At once, in one line."""
    with pytest.raises(CollectionError, match=re.escape(message)):
        view.sequences(**{"by": "device", "length": 2, **options})


def test_what_no_batch_can_be_is_refused(view: Collection, tmp_path: Path) -> None:
    """A label without rows to tell of, lists of any length, a batch of nothing."""
    with pytest.raises(CollectionError, match="give a horizon of at least 1"):
        view.sequences("device", length=2, horizon=0).to_numpy_batches(1, label="id")
    with pytest.raises(CollectionError, match="batch_size must be at least 1, got 0"):
        view.sequences("device", length=2).to_numpy_batches(0)
    rows = pa.table({"device": ["a", "a"], "at": [1, 2], "list": [[1], [2, 3]]})
    lists = TableCollector.at(tmp_path).collect((0, rows)).sequences("device", "at", length=1)
    with pytest.raises(CollectionError, match="give list one with lengths"):
        lists.to_numpy_batches(1)
    past, _ = next(iter(lists.to_numpy_batches(1, lengths={"list": 2})))
    assert past["list"].tolist() == [[[1, 0]]]
