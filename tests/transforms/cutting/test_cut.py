"""The laws of cutting, over any sequence of cycles, and its examples."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_collection.log.entry import CarryFile
from batch_collection.storage.opening import open_storage
from tests import tasks
from transforms.cutting.cut import CARRY, EARLY, LATE, ON_TIME, Cut, Cutter, Segment
from transforms.cutting.row_bytes import between, ends_of
from transforms.cutting.waiting import Carried

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt
    import pyarrow as pa

    from transforms.elements.order import Order

NOON = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
MINUTE = timedelta(minutes=1)


class Rows(NamedTuple):
    """Rows with names, so that each can be followed; nobody may look into them."""

    names: tuple[str, ...]
    schema: None = None
    indexed: bool = False
    bytes: tuple[int, ...] = ()

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.names)

    def pieces(self, start: int, rows: int) -> Iterator[pa.Table]:
        """Fail: cutting is arithmetic."""
        raise AssertionError(start, rows)

    @property
    def ends(self) -> npt.NDArray[np.int64]:
        """Count the bytes."""
        return ends_of(np.array(self.bytes, np.int64))


@dataclass(frozen=True)
class Counted(Carried):
    """Rows that waited, of which each row's bytes are known."""

    held: tuple[int, ...] = ()

    @cached_property
    def ends(self) -> npt.NDArray[np.int64]:
        """Count the bytes."""
        return ends_of(np.array(self.held, np.int64))


def order(
    boundary: datetime | None = NOON,
    previous: datetime | None = NOON - MINUTE,
    **changes: Any,
) -> Order:
    """Build an order by which windows up to ``boundary`` are due, of batches of 10 rows."""
    return tasks.order(
        boundary=boundary, previous_boundary=previous, **{"batch_size": 10, **changes}
    )


def rows(count: int, prefix: str = "row") -> Rows:
    """Build some rows."""
    return Rows(tuple(f"{prefix}{number}" for number in range(count)))


def carry(rows: int, window_start: datetime, path: str = "carry/a") -> Carried:
    """Build rows that waited, in a file that isn't there."""
    return Carried(open_storage("collected"), CarryFile(path, window_start, rows, 0, 1, "0"), 1)


def shapes(cuts: list[Cut]) -> list[tuple[str, int]]:
    """Give each cut's timing and rows."""
    return [(cut.timing, cut.rows) for cut in cuts]


def test_full_batches_leave_at_once_and_the_rest_waits() -> None:
    """An open window gives early panes of exactly the batch size."""
    cutter = Cutter(order())
    assert shapes(cutter.add(NOON, rows(25))) == [(EARLY, 10), (EARLY, 10)]
    assert shapes(cutter.add(NOON, rows(5))) == [(EARLY, 10)]
    assert shapes(cutter.finish()) == []
    assert shapes(cutter.add(NOON, rows(3))) == []
    assert shapes(cutter.finish()) == [(CARRY, 3)]


def test_a_due_window_leaves_whole() -> None:
    """The rest of a window that is due is its last batch."""
    cutter = Cutter(order(), [carry(4, NOON - MINUTE)])
    assert shapes(cutter.add(NOON - MINUTE, rows(8))) == [(ON_TIME, 10)]
    assert shapes(cutter.finish()) == [(ON_TIME, 2)]
    assert [file.path for file in cutter.taken] == ["carry/a"]


def test_late_rows_do_not_wait() -> None:
    """A window that was due before gives a late pane in the same cycle."""
    cutter = Cutter(order())
    cutter.add(NOON - 5 * MINUTE, rows(1))
    assert shapes(cutter.finish()) == [(LATE, 1)]


def test_rows_far_ahead_do_not_wait_but_others_of_their_window_do() -> None:
    """A device with a wrong clock does not fill the carry, nor tear the windows of others."""
    cutter = Cutter(order(), [carry(3, NOON)])
    cutter.add(NOON, rows(1), ahead=True)
    cutter.add(NOON, rows(2))
    cutter.add(NOON + MINUTE, rows(4), ahead=True)
    assert shapes(cutter.finish()) == [(EARLY, 1), (CARRY, 5), (EARLY, 4)]


def test_rows_far_ahead_fill_batches_with_others_of_their_window() -> None:
    """A full batch is cut of all rows of a window, those that waited first."""
    cutter = Cutter(order(), [carry(8, NOON)])
    cuts = cutter.add(NOON, rows(3), ahead=True)
    assert [s.rows for s in cuts[0].segments] == [8, 2]
    assert shapes(cuts + cutter.finish()) == [(EARLY, 10), (EARLY, 1)]


def test_rows_far_ahead_of_a_due_window_are_its_last_batch_with_the_rest() -> None:
    """A window that ends by the boundary has one pane, whatever its rows' times."""
    cutter = Cutter(order(), [carry(3, NOON - MINUTE)])
    cutter.add(NOON - MINUTE, rows(1), ahead=True)
    assert shapes(cutter.finish()) == [(ON_TIME, 4)]


def test_flushing_lets_nothing_wait() -> None:
    """Open windows leave as early panes."""
    cutter = Cutter(order(flush=True), [carry(4, NOON)])
    assert shapes(cutter.finish()) == [(EARLY, 4)]


def test_untouched_carry_stays_where_it_is() -> None:
    """A window that gets no row and isn't due is not written again."""
    cutter = Cutter(order(), [carry(4, NOON)])
    assert shapes(cutter.finish()) == []
    assert cutter.taken == ()


def test_a_smaller_batch_size_than_the_carry_still_cuts_exactly() -> None:
    """Carry of a run with larger batches is cut down, its rest carried on."""
    cutter = Cutter(order(), [carry(25, NOON)])
    cuts = cutter.finish()
    assert shapes(cuts) == [(EARLY, 10), (EARLY, 10), (CARRY, 5)]
    assert [(s.start, s.rows) for cut in cuts for s in cut.segments] == [(0, 10), (10, 10), (20, 5)]
    assert len(cutter.taken) == 1


def test_segments_put_in_the_place_of_waiting_ones_are_cut() -> None:
    """What was spilled comes back."""
    cutter = Cutter(order())
    cutter.add(NOON, rows(3))
    cutter.add(NOON, rows(2), ahead=True)
    cutter.replace_fresh(lambda s: Segment(rows(s.rows, "spilled"), 0, s.rows))
    early, waiting = cutter.finish()
    assert early.segments[0].source == rows(2, "spilled")
    assert waiting.segments[0].source == rows(3, "spilled")


@dataclass
class World:
    """A log in memory: what was cut, what waits."""

    batch_size: int
    carry: dict[str, Carried] = field(default_factory=dict)
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    written: list[tuple[int, Cut, tuple[str, ...]]] = field(default_factory=list)
    carried_rows: int = 0

    def cycle(self, order: Order, arrived: list[tuple[datetime, Rows]], *ahead: int) -> None:
        """Run one cycle; ``ahead`` are the places of what is ahead among what arrived."""
        cutter = Cutter(replace(order, batch_size=self.batch_size), tuple(self.carry.values()))
        cuts = [
            cut
            for place, (start, fresh) in enumerate(arrived)
            for cut in cutter.add(start, fresh, ahead=place in ahead)
        ]
        cuts += cutter.finish()
        contents = [(cut, self._names_of(cut)) for cut in cuts]
        for file in cutter.taken:
            del self.carry[file.path]
        for number, (cut, names) in enumerate(contents):
            if cut.timing == CARRY:
                path = f"carry/{order.cycle}-{number}"
                self.carry[path] = carry(cut.rows, cut.window_start, path)
                self.names[path] = names
                self.carried_rows += cut.rows
            else:
                self.written.append((order.cycle, cut, names))

    def _names_of(self, cut: Cut) -> tuple[str, ...]:
        return tuple(
            name
            for segment in cut.segments
            for name in self._all_names(segment)[segment.start : segment.start + segment.rows]
        )

    def _all_names(self, segment: Segment) -> tuple[str, ...]:
        if isinstance(segment.source, Carried):
            return self.names[segment.source.file.path]
        assert isinstance(segment.source, Rows)
        return segment.source.names


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_every_row_is_in_one_batch_or_in_the_carry(data: st.DataObject) -> None:
    """Over any cycles: rows in order, full batches but each window's last, nothing due waits."""
    world = World(batch_size=data.draw(st.integers(1, 12)))
    fed: dict[datetime, list[str]] = {}
    previous: datetime | None = None
    for cycle in range(1, data.draw(st.integers(1, 9))):
        step = data.draw(st.integers(0, 3))
        boundary = (previous or NOON) + step * MINUTE
        arrived = []
        for number in range(data.draw(st.integers(0, 5))):
            start = boundary + data.draw(st.integers(-3, 5)) * MINUTE
            fresh = rows(data.draw(st.integers(1, 30)), f"{cycle}.{number}.")
            arrived.append((start, fresh))
            fed.setdefault(start, []).extend(fresh.names)
        asked = order(boundary, previous, flush=data.draw(st.booleans()), cycle=cycle)
        ahead = data.draw(st.sets(st.integers(0, 4)))
        world.cycle(asked, arrived, *ahead)
        carried = {name for path in world.carry for name in world.names[path]}
        for place, (_, fresh) in enumerate(arrived):
            assert place not in ahead or carried.isdisjoint(fresh.names)
        for waiting in world.carry.values():
            assert waiting.file.window_start + MINUTE > boundary
        previous = boundary
    for start, names in fed.items():
        batches = [(c, cut, got) for c, cut, got in world.written if cut.window_start == start]
        carry = [each.file for each in world.carry.values() if each.file.window_start == start]
        rest = [name for file in carry for name in world.names[file.path]]
        found = [name for _, _, got in batches for name in got]
        assert sorted(found + rest) == sorted(names)
        assert len(rest) < world.batch_size
        for cycle in {cycle for cycle, _, _ in batches}:
            pane = [cut for at, cut, _ in batches if at == cycle]
            assert all(cut.rows == world.batch_size for cut in pane[:-1])
            assert pane[-1].rows <= world.batch_size
            assert len({cut.timing for cut in pane}) == 1


@settings(max_examples=300, deadline=None)
@given(
    cycles=st.lists(st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=8))),
    target=st.integers(1, 20),
    most=st.integers(1, 10),
)
def test_a_batch_ends_by_bytes_just_where_the_next_row_has_no_room(
    cycles: list[list[list[int]]], target: int, most: int
) -> None:
    """Whatever pieces rows come in; a row larger than that is alone. What waits never has more."""
    sizes = [size for cycle in cycles for piece in cycle for size in piece]
    expected, room = [list[int]()], target
    for size in sizes:
        if expected[-1] and (size > room or len(expected[-1]) == most):
            expected.append([])
            room = target
        expected[-1].append(size)
        room -= size
    found, waiting = list[list[int]](), list[Carried]()
    names = dict[str, list[int]]()

    def bytes_of(segment: Segment) -> list[int]:
        source = segment.source
        has = names[source.file.path] if isinstance(source, Carried) else np.diff(source.ends)
        return list(has)[segment.start : segment.start + segment.rows]

    for number, cycle in enumerate(cycles):
        asked = order(NOON, batch_size=most, target_bytes=target, flush=number == len(cycles) - 1)
        cutter = Cutter(asked, waiting)
        pieces = [Rows(("",) * len(piece), bytes=tuple(piece)) for piece in cycle]
        cuts = [cut for piece in pieces for cut in cutter.add(NOON, piece)] + cutter.finish()
        taken = {file.path for file in cutter.taken}
        waiting = [each for each in waiting if each.file.path not in taken]
        for cut in cuts:
            held = [size for segment in cut.segments for size in bytes_of(segment)]
            assert [sum(bytes_of(segment)) for segment in cut.segments] == [
                segment.size for segment in cut.segments
            ]
            if cut.timing == CARRY:
                assert sum(held) <= target
                path = f"carry/{number}"
                names[path] = held
                file = CarryFile(path, NOON, cut.rows, 0, 1, "0", size=sum(held))
                waiting.append(Counted(open_storage("collected"), file, 1, held=tuple(held)))
            else:
                found.append(held)
    assert not waiting
    assert found == [batch for batch in expected if batch]


@given(total=st.integers(0, 10**12), rows=st.integers(1, 50), cut=st.integers(0, 50))
def test_the_bytes_of_a_file_are_spread_over_its_rows(total: int, rows: int, cut: int) -> None:
    """However they are cut, parts add up to what the log says, evenly."""
    waits = Carried(
        open_storage("collected"), CarryFile("carry/a", NOON, rows, 0, 1, "0", size=total), 1
    )
    cut = min(cut, rows)
    parts = (between(waits.ends, 0, cut), between(waits.ends, cut, rows - cut))
    assert sum(parts) == (total or 1)
    sizes = np.diff(waits.ends)
    assert sizes.max() - sizes.min() <= 1


def test_carry_is_merged_geometrically() -> None:
    """A row that waits long is written a few times, not once a cycle; the files stay few."""
    world = World(batch_size=10**6)
    cycles = 1000
    for cycle in range(1, cycles + 1):
        world.cycle(order(cycle=cycle), [(NOON, rows(1, f"{cycle}."))])
    assert sum(file.rows for file in world.carry.values()) == cycles
    assert len(world.carry) <= math.log2(cycles) + 1
    assert world.carried_rows <= cycles * math.log(cycles, 1.5)


def test_rows_keep_their_order_within_a_window_when_nothing_is_merged_out_of_order() -> None:
    """Carry comes before what is new."""
    world = World(batch_size=100)
    for cycle in range(1, 6):
        world.cycle(order(cycle=cycle), [(NOON, rows(2, f"{cycle}."))])
    world.cycle(order(NOON + MINUTE, NOON, cycle=6), [])
    ((_, _, names),) = world.written
    assert names == tuple(f"{cycle}.{number}" for cycle in range(1, 6) for number in range(2))
