"""Followers that train: each row once, in batches of just so many, across restarts."""

from __future__ import annotations

import itertools
import json
import re
import tempfile
import threading
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import batch_collection
from batch_collection.errors import CollectionError
from tests.tables import TableCollector, numbered

if TYPE_CHECKING:
    from batch_collection.training.followed import FollowedBatches


@pytest.fixture
def collector(tmp_path: Path) -> TableCollector:
    """Return a collector with 70 rows in two cycles."""
    collector = TableCollector.at(tmp_path / "c", row_group=8)
    collector.collect((1, numbered(0, 20)), (0, numbered(20, 40)))
    collector.collect((0, numbered(40, 70)), closed=2)
    return collector


def batches(
    collector: TableCollector, size: int = 16, *, drop_remainder: bool = False, **options: Any
) -> FollowedBatches:
    """Follow from another process, as it were: by another view."""
    followed = batch_collection.open(collector.storage).follow("a", once=True, **options)
    return followed.to_numpy_batches(size, columns=["id"], drop_remainder=drop_remainder)


def ids(found: Any) -> list[list[int]]:
    """Return the ids of each batch."""
    return [batch["id"].tolist() for batch in found]


def cut(start: int, stop: int, size: int) -> list[list[int]]:
    """Return numbers in batches."""
    return [list(range(first, min(first + size, stop))) for first in range(start, stop, size)]


def test_rows_come_as_they_are_committed_and_once(collector: TableCollector) -> None:
    """The log's order; a loop that ends hands out what is left, the next one has what is new."""
    assert ids(batches(collector)) == cut(0, 70, 16)
    assert ids(batches(collector)) == []
    collector.collect((0, numbered(70, 75)), (2, numbered(75, 90)))
    assert ids(batches(collector)) == cut(70, 90, 16)


def test_what_fills_no_batch_waits_for_the_next_loop(collector: TableCollector) -> None:
    """It is no remainder that is lost: with what comes it is a batch."""
    assert ids(batches(collector, drop_remainder=True)) == cut(0, 64, 16)
    assert ids(batches(collector, drop_remainder=True)) == []
    collector.collect((3, numbered(70, 90)))
    assert ids(batches(collector, drop_remainder=True)) == cut(64, 80, 16)
    assert ids(batches(collector)) == cut(80, 90, 16)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 9), max_size=3), min_size=1, max_size=4),
    st.lists(st.integers(1, 4), max_size=6),
    st.integers(1, 7),
    st.booleans(),
)
def test_each_row_comes_once_whenever_loops_end(
    cycles: list[list[int]],
    asked: list[int],
    size: int,
    drop: bool,  # noqa: FBT001 - hypothesis gives it
) -> None:
    """Loops are left with a batch, which comes again; collecting goes on between them."""
    with tempfile.TemporaryDirectory() as root:
        collector = TableCollector.at(Path(root) / "c")
        collector.collect((0, numbered(0, 1)))
        seen: list[int] = []
        rows = 1
        for files, count in zip(cycles, [*asked, 1, 1, 1, 1], strict=False):
            tables = []
            for length in files:
                tables.append((0, numbered(rows, rows + length)))
                rows += length
            collector.collect(*tables)
            loop = batches(collector, size, drop_remainder=drop).as_columns()
            found = ids(itertools.islice(loop, count + 1))
            loop.close()
            seen += [row for batch in found[:count] for row in batch]
        seen += [row for batch in ids(batches(collector, size)) for row in batch]

        assert seen == list(range(rows))


def test_a_loop_waits_for_rows_while_they_are_collected(collector: TableCollector) -> None:
    """Full batches only, until it is told to end; what is left is its last one."""
    ended = threading.Event()
    to_come = [(numbered(70, 72)), (numbered(72, 90)), None, None]

    def wait(_: float) -> bool:
        rows = to_come.pop(0)
        if rows is not None:
            collector.collect((4, rows))
        elif len(to_come) == 0:
            ended.set()
        return ended.is_set()

    view = batch_collection.open(collector.storage)
    followed = view.follow("a", wait=wait, poll=timedelta(seconds=9))

    assert ids(followed.to_numpy_batches(16, columns=["id"])) == cut(0, 90, 16)


def test_a_model_that_is_taken_up_again_has_used_no_row_twice(collector: TableCollector) -> None:
    """Its place is kept with it; the cursor, which stands elsewhere, is put there."""
    one = batches(collector)
    loop = one.as_columns()
    first = ids([next(loop), next(loop)])
    state = json.loads(json.dumps(one.state_dict()))
    next(loop)
    next(loop)  # then the process dies, and the model was not saved again
    loop.close()

    again = batches(collector)
    again.load_state_dict(state)
    assert first + ids(again) == cut(0, 70, 16)
    with pytest.raises(CollectionError, match="not the place of a follower: it has no 'cycle'"):
        again.load_state_dict({})
    with pytest.raises(CollectionError, match="row must be at least 0, got -1"):
        again.load_state_dict({**state, "row": -1})
    with pytest.raises(CollectionError, match="no batch was handed out yet"):
        batches(collector).state_dict()


def test_one_cursor_is_for_batches_and_for_rows(collector: TableCollector) -> None:
    """A batch of which some rows were used comes whole to who asks for batches."""
    loop = batches(collector, 25).as_columns()
    next(loop), next(loop)
    loop.close()
    view = batch_collection.open(collector.storage)

    assert [batch.id for batch in view.follow("a", once=True)] == [
        "0000000001-0001",
        "0000000002-0000",
    ]
    assert ids(batches(collector)) == []


def test_columns_and_types_are_those_of_the_view(collector: TableCollector) -> None:
    """Later columns wait for the next view; where a file lacks one it is null."""
    later = pa.table({"id": pa.array([70], pa.int64()), "x": [0.5]})
    view = collector.collect((0, later))
    options: dict[str, Any] = {"columns": ["id", "x"]}
    found = list(view.follow("a", once=True).to_numpy_batches(50, label="x", **options))

    assert [list(features) for features, _ in found] == [["id"], ["id"]]
    assert found[1][1].tolist()[-1] == 0.5
    collector.collect((0, pa.table({"id": pa.array([71]), "x": [1.5], "y": [2]})))
    (after,) = view.follow("a", once=True).to_numpy_batches(50, columns=["id", "x"])
    assert (after["id"].tolist(), after["x"].tolist()) == ([71], [1.5])


@pytest.mark.parametrize(
    ("size", "options", "message"),
    [
        (8, {"shuffle": 1}, "unknown option shuffle; there are: casts, columns, exclude, fill,"),
        (0, {}, "batch_size must be at least 1, got 0"),
        (1.5, {}, "batch_size must be a whole number, got 1.5"),
        (8, {"columns": ["nope"]}, "has a column nope; there are: id, device"),
    ],
)
def test_what_makes_no_sense_is_refused(
    collector: TableCollector, size: Any, options: dict[str, Any], message: str
) -> None:
    """When batches are asked for."""
    followed = batch_collection.open(collector.storage).follow("a", once=True)

    with pytest.raises(CollectionError, match=re.escape(message)):
        followed.to_numpy_batches(size, **options)
