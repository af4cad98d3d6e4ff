"""Windows are counted exactly, and a task that has too many says how much of it fits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tasks import plan
from transforms.cutting.window_limit import TooManyWindows, WindowLimit
from transforms.elements.plan import Task
from transforms.sources.contract import MESSAGES, Pull, Slice

if TYPE_CHECKING:
    from collections.abc import Callable


def task(messages: int, most: int | None, tasks: int = 1) -> Task:
    """Build a task that reads so many messages of partition 0."""
    asked = plan(schema={}, tasks=tasks, messages=messages * tasks, most_windows=most)
    return Task(asked, 0, (Slice("topic", 0, 0, messages),), ())


def add(limit: WindowLimit, first: int, *minutes: list[int]) -> None:
    """Add a chunk: for each message, the minutes that its rows are of."""
    count = len(minutes)
    columns = [[0] * count, range(first, first + count), *[[None] * count] * 4]
    arrays = [pa.array(c, field.type) for c, field in zip(columns, MESSAGES, strict=True)]
    rows = [(first + n, minute) for n, of in enumerate(minutes) for minute in of]
    limit.add(
        pa.Table.from_arrays(arrays, schema=MESSAGES),
        pa.table(
            {
                "row_time": pa.array([60_000_000 * m + 7 for _, m in rows], pa.int64()),
                "partition": pa.array([0] * len(rows), pa.int32()),
                "offset": pa.array([offset for offset, _ in rows], pa.int64()),
            }
        ),
    )


def test_rows_of_few_windows_are_never_too_many() -> None:
    """However many rows, chunks and ways back and forth; times before 1970 have windows, too."""
    limit = WindowLimit(task(100, 3))
    for chunk in range(5):
        add(limit, 4 * chunk, [-1, 0], [], [1, 0, -1], [0])


def test_a_task_without_a_bound_has_none() -> None:
    """It reads as little as can be."""
    add(WindowLimit(task(1, None)), 0, list(range(10)))


def pulling(messages: int, most: int | None, tasks: int = 1) -> Task:
    """Build a task that pulls so many at most; its slices only say where reading stands."""
    pull = Pull("subscription", 0, 0, messages, 1 << 20, 20)
    reading = task(messages, most, tasks)
    return replace(reading, slices=(Slice("subscription", 0, 0, 0),), pull=pull)


@pytest.mark.parametrize("tasks", [1, 4])
@pytest.mark.parametrize("built", [task, pulling])
def test_what_fits_is_a_share_of_the_plan(tasks: int, built: Callable[..., Task]) -> None:
    """Half of this task's messages fit: three quarters of a half of all are read instead."""
    limit = WindowLimit(built(1000, 4, tasks))
    add(limit, 0, *([[n % 4] for n in range(500)]))
    with pytest.raises(TooManyWindows, match=rf"more than {4 * tasks} windows; it reads at"):
        add(limit, 500, [9], [9])
    with pytest.raises(TooManyWindows) as caught:
        add(limit, 500, [9], [9])
    assert caught.value.limit == 375 * tasks


def test_a_message_that_alone_has_too_many_leaves_one_to_read() -> None:
    """There is no less."""
    with pytest.raises(TooManyWindows) as caught:
        add(WindowLimit(task(1000, 3)), 0, [1, 2, 3, 4])
    assert caught.value.limit == 1


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_the_bound_is_met_where_counting_one_by_one_meets_it(data: st.DataObject) -> None:
    """In whatever chunks rows come."""
    minutes = data.draw(st.lists(st.lists(st.integers(-5, 5), max_size=3), min_size=1, max_size=30))
    most = data.draw(st.integers(1, 8))
    fits, windows = len(minutes), set[int]()
    for place, of in enumerate(minutes):
        windows.update(of)
        if len(windows) > most:
            fits = place
            break
    limit, first, told = WindowLimit(task(len(minutes), most)), 0, None
    try:
        while first < len(minutes):
            count = data.draw(st.integers(1, 10))
            add(limit, first, *minutes[first : first + count])
            first += count
    except TooManyWindows as error:
        told = error.limit
    assert told == (None if fits == len(minutes) else max(fits * 3 // 4, 1))


@given(
    sizes=st.lists(st.integers(0, 20), min_size=1, max_size=20),
    most=st.integers(1, 60),
    count=st.integers(1, 7),
)
def test_messages_of_too_many_bytes_end_a_plan_where_they_have_no_room(
    sizes: list[int], most: int, count: int
) -> None:
    """In whatever chunks they come; tombstones have none."""
    asked = task(len(sizes), None)
    limit = WindowLimit(replace(asked, plan=replace(asked.plan, most_bytes=most)))
    fits = next((n for n in range(len(sizes)) if sum(sizes[: n + 1]) > most), None)
    told, text = None, ""
    try:
        for first in range(0, len(sizes), count):
            values = [b"x" * size or None for size in sizes[first : first + count]]
            offsets = list(range(first, first + len(values)))
            columns = [[0] * len(values), offsets, offsets, values, *[[None] * len(values)] * 2]
            arrays = [pa.array(c, f.type) for c, f in zip(columns, MESSAGES, strict=True)]
            limit.add(pa.Table.from_arrays(arrays, schema=MESSAGES), pa.table({"row_time": []}))
    except TooManyWindows as error:
        told, text = error.limit, str(error)
    assert text.startswith(f"its messages have more than {most} bytes; it reads") or told is None
    assert told == (None if fits is None else max(fits * 3 // 4, 1))
