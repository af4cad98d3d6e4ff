"""The batch coder: a JSON head, and the rows that no other process can get."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from batch_collection.log.entry import CarryFile
from batch_collection.storage.opening import open_storage
from tests.tasks import NOON, order, rows, rows_with_ids
from transforms.cutting.batch import Batch, BatchCoder
from transforms.cutting.cut import Cut, Segment
from transforms.cutting.waiting import Carried, InMemory
from transforms.elements.records import unframed
from transforms.elements.report import TaskOrder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyarrow as pa

FILE = CarryFile("carry/1/a.arrow", NOON, 9, 0, 100, "abcdefgh", indexed=True)
CARRY = Carried(open_storage(order().collection), FILE, order().cycle)


def batch(*segments: Segment) -> Batch:
    """Build a batch of rows in several places."""
    return Batch(order(), 3, Cut(NOON, "on_time", segments))


@pytest.mark.parametrize("built", [rows, rows_with_ids])
def test_rows_come_back_in_their_order_from_wherever_they_were(
    built: Callable[[Sequence[int]], pa.Table],
) -> None:
    """Those of carry files by name, the others along with it, only those that are meant."""
    table = built(range(10))
    before = batch(
        Segment(InMemory(table), 2, 3), Segment(CARRY, 4, 5), Segment(InMemory(table), 0, 1)
    )
    after = BatchCoder().decode(BatchCoder().encode(before))
    assert after == batch(
        Segment(InMemory(table.slice(2, 3)), 0, 3),
        Segment(CARRY, 4, 5),
        Segment(InMemory(table.slice(0, 1)), 0, 1),
    )


def test_a_batch_without_rows_in_memory_is_json_alone() -> None:
    """No byte of it is a pickle or names a module."""
    encoded = BatchCoder().encode(batch(Segment(CARRY, 0, 9)))
    of_order, rest = unframed(TaskOrder, encoded)
    assert of_order == order()
    assert json.loads(rest[4:].to_pybytes())["timing"] == "on_time"
    assert b"transforms" not in encoded
