"""The planner's laws and its examples."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_collection.errors import DataLossError
from batch_collection.log.entry import CarryFile, Entry, PartitionRead
from batch_collection.windows import EPOCH
from pipeline.planning import planner
from pipeline.planning.planner import Asked, Planned, PlanRules, Seen, make_plan
from tests.builders import first_entry
from transforms.sources.contract import Answer

if TYPE_CHECKING:
    from collections.abc import Mapping

NOON = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
WRONG_CLOCKS = (EPOCH + timedelta(hours=3), NOON - timedelta(days=2), NOON.replace(year=2100))
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)


def entry(
    ends: Mapping[int, int] | None = None,
    boundary: datetime | None = None,
    *,
    reached: Mapping[int, datetime] | None = None,
    row_time: str = "record",
    carry: tuple[CarryFile, ...] = (),
) -> Entry:
    """Build the newest entry: where each partition was read to, and what row time it reached."""
    reached = reached or {}
    reads = tuple(
        PartitionRead(partition, 0, end, max_time=reached.get(partition))
        for partition, end in (ends if ends is not None else {0: 0}).items()
    )
    return first_entry(
        cycle=7,
        previous="0" * 64,
        committed_at=NOON,
        row_time=row_time,
        cause="interval",
        boundary=boundary,
        reads=reads,
        carry=carry,
    )


def rules(**changes: object) -> PlanRules:
    """Build planning rules."""
    plain = PlanRules(
        collection="collected/topic",
        topic="topic",
        run="run",
        grace=2 * SECOND,
        batch_size=1000,
        max_messages=10_000,
        max_ahead=timedelta(hours=1),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def no_index(_: datetime) -> dict[int, Answer]:
    """Know nothing, as the embedded broker."""
    return {}


def index_of(stamps: Mapping[int, list[datetime]]) -> object:
    """Build the time index of partitions whose records have these stamps, from offset 0 on."""

    def index(instant: datetime) -> dict[int, Answer]:
        return {
            partition: next(
                (Answer(offset, at) for offset, at in enumerate(times) if at >= instant),
                Answer(None, None),
            )
            for partition, times in stamps.items()
        }

    return index


def seen(
    ends: Mapping[int, int], clock: datetime = NOON, index: object = no_index, earliest: int = 0
) -> Seen:
    """Build what the broker and the clock say."""
    return Seen(clock, {p: (earliest, end) for p, end in ends.items()}, index)  # type: ignore[arg-type]


def ends_of(planned: Planned) -> dict[int, int]:
    """Give where a plan's reads end."""
    return {part.partition: part.end for task in planned.tasks for part in task.slices}


def test_nothing_is_due_between_boundaries_with_few_messages() -> None:
    """Within an interval a cycle waits for the count trigger."""
    newest = entry({0: 10}, NOON - MINUTE)
    assert make_plan(newest, seen({0: 20}, NOON + SECOND), rules()) is None


def test_a_boundary_is_due_once_the_grace_is_over() -> None:
    """The clock must pass the boundary by the grace."""
    newest = entry({0: 10}, NOON - MINUTE)
    assert make_plan(newest, seen({0: 10}, NOON + 1.9 * SECOND), rules()) is None
    planned = make_plan(newest, seen({0: 10}, NOON + 2 * SECOND), rules())
    assert planned is not None
    assert planned.plan.boundary == NOON
    assert planned.plan.cause == "interval"
    assert planned.is_empty


def test_a_plan_says_how_long_windows_are_and_how_large_batches() -> None:
    """The collection's interval, which is pinned, and what the user says of batches today."""
    planned = make_plan(
        replace(entry({0: 10}, NOON), interval=HOUR), seen({0: 20}, NOON + 3 * HOUR), rules()
    )
    assert planned is not None
    assert (planned.plan.interval, planned.plan.batch_size) == (HOUR, 1000)


def test_enough_messages_are_due_at_once() -> None:
    """The count trigger looks at the messages that wait."""
    newest = entry({0: 10}, NOON - MINUTE)
    planned = make_plan(newest, seen({0: 1010}, NOON + SECOND), rules())
    assert planned is not None
    assert (planned.plan.cause, planned.messages, planned.left) == ("count", 1000, 0)
    assert planned.plan.boundary == NOON - MINUTE


def test_a_backlog_is_cut_at_a_boundary_of_the_past() -> None:
    """The time index tells which messages belong to whole intervals."""
    stamps = [NOON - timedelta(hours=5) + i * SECOND for i in range(3 * 3600)]
    newest = entry({0: 0})
    planned = make_plan(newest, seen({0: len(stamps)}, NOON, index_of({0: stamps})), rules())
    assert planned is not None
    assert planned.plan.cause == "backlog"
    assert planned.plan.boundary == NOON - timedelta(hours=5) + 166 * MINUTE
    assert ends_of(planned) == {0: 166 * 60 + 2}


def test_a_backlog_without_a_time_index_is_read_in_proportion() -> None:
    """Each partition gives its share; no boundary moves before rows were seen."""
    planned = make_plan(entry({0: 0, 1: 0}), seen({0: 30_000, 1: 10_000}), rules())
    assert planned is not None
    assert ends_of(planned) == {0: 7500, 1: 2500}
    assert planned.plan.boundary is None
    assert planned.left == 30_000


def test_a_proportional_cycle_closes_what_all_partitions_with_backlog_have_passed() -> None:
    """The slowest partition with backlog decides, and never beyond the clock."""
    reached = {0: NOON - 5 * MINUTE, 1: NOON - 9 * MINUTE + 3 * SECOND, 2: NOON - 30 * MINUTE}
    newest = entry({0: 0, 1: 0, 2: 5}, NOON - 60 * MINUTE, reached=reached)
    planned = make_plan(newest, seen({0: 20_000, 1: 20_000, 2: 5}), rules())
    assert planned is not None
    assert planned.plan.boundary == NOON - 9 * MINUTE
    ahead = entry({0: 0}, NOON - 60 * MINUTE, reached={0: NOON + timedelta(days=900)})
    planned = make_plan(ahead, seen({0: 20_000}), rules())
    assert planned is not None
    assert planned.plan.boundary == NOON - MINUTE


def test_a_record_of_the_future_does_not_hide_what_lies_behind_it() -> None:
    """Where the index answers with a stamp of the future, it is not used."""
    stamps = [NOON + timedelta(days=1)] + [NOON - timedelta(hours=2)] * 20_000
    planned = make_plan(entry({0: 0}), seen({0: 20_001}, NOON, index_of({0: stamps})), rules())
    assert planned is not None
    assert planned.messages == 10_000 - 1 + 1
    assert planned.plan.boundary is None


def test_one_interval_larger_than_a_cycle_is_read_in_parts() -> None:
    """There is progress where not even one interval fits."""
    stamps = [NOON - timedelta(hours=2)] * 50_000
    planned = make_plan(entry({0: 0}), seen({0: 50_000}, NOON, index_of({0: stamps})), rules())
    assert planned is not None
    assert planned.messages == 10_000


def test_arrival_time_has_no_past() -> None:
    """With collected, rows belong to the window of the planning: the boundary is the clock's."""
    newest = entry({0: 0}, NOON - 5 * MINUTE, row_time="collected")
    planned = make_plan(newest, seen({0: 50_000}, NOON + 3 * SECOND), rules())
    assert planned is not None
    assert planned.plan.boundary == NOON
    assert planned.messages == 10_000


def test_messages_deleted_before_they_were_read_are_an_error_with_their_range() -> None:
    """Retention never makes a silent jump."""
    newest = entry({0: 100})
    expected = "topic=topic partition=0 offsets=[100, 250) were deleted before they were read"
    with pytest.raises(DataLossError, match=re.escape(expected)):
        make_plan(newest, seen({0: 300}, earliest=250), rules())


def test_skipping_a_loss_records_the_gap_and_reads_on_behind_it() -> None:
    """The slice still begins where the last one ended."""
    planned = make_plan(entry({0: 100}), seen({0: 300}, earliest=250), rules(skip_lost=True))
    assert planned is not None
    (part,) = planned.tasks[0].slices
    assert (part.start, part.lost, part.end) == (100, 150, 300)
    assert planned.messages == 50


def test_a_topic_that_shrank_is_an_error() -> None:
    """An end before what was read means another topic of the same name."""
    with pytest.raises(DataLossError, match="created again"):
        make_plan(entry({0: 100}), seen({0: 30}), rules())
    with pytest.raises(DataLossError, match="no partition=1 any more"):
        make_plan(entry({0: 100, 1: 5}), seen({0: 100}), rules())


def test_partitions_added_later_start_at_their_beginning() -> None:
    """A partition the log does not know is read from its earliest offset."""
    newest = entry({0: 10}, NOON - 2 * MINUTE)
    planned = make_plan(newest, seen({0: 10, 1: 30}, earliest=3), rules())
    assert planned is not None
    assert [(s.partition, s.start, s.end) for s in planned.tasks[0].slices] == [
        (0, 10, 10),
        (1, 3, 30),
    ]


def test_shards_share_the_partitions_and_the_carry() -> None:
    """Each partition, and each carry file that may be needed, is in one task."""
    carry = tuple(CarryFile(f"carry/{n}", NOON, 5, n, 1, "0") for n in range(4))
    newest = entry(dict.fromkeys(range(5), 0), NOON - MINUTE, carry=carry)
    planned = make_plan(newest, seen(dict.fromkeys(range(5), 900)), rules(shards=3))
    assert planned is not None
    assert [[s.partition for s in task.slices] for task in planned.tasks] == [[0, 3], [1, 4], [2]]
    assert [[c.shard for c in task.carry] for task in planned.tasks] == [[0, 3], [1], [2]]


def test_carry_is_taken_up_when_its_window_is_due_though_no_message_comes() -> None:
    """A window closes without new data."""
    carry = (CarryFile("carry/a", NOON - MINUTE, 5, 0, 1, "0"),)
    newest = entry({0: 10}, NOON - MINUTE, carry=carry)
    planned = make_plan(newest, seen({0: 10}, NOON + 2 * SECOND), rules())
    assert planned is not None
    assert planned.tasks[0].carry == carry
    assert not planned.is_empty


def test_a_cycle_of_too_many_windows_reads_a_part_and_closes_what_was_passed_before() -> None:
    """It is a backlog then: the clock's windows are not closed while rows of them may be left."""
    newest = entry({0: 0, 1: 0}, NOON - MINUTE, reached={0: NOON - MINUTE, 1: NOON})
    now = seen({0: 600, 1: 200}, NOON + 2 * SECOND)
    planned = make_plan(newest, now, rules(), Asked(limit=400))
    assert planned is not None
    assert (planned.plan.cause, ends_of(planned)) == ("backlog", {0: 300, 1: 100})
    assert planned.plan.boundary == NOON - MINUTE
    assert (planned.plan.messages, planned.left) == (400, 400)
    assert planned.plan.most_windows == planner.MOST_WINDOWS


def test_the_smallest_cycle_has_no_bound() -> None:
    """A message may hold an array of more windows than a cycle may have: it must be read."""
    newest = entry({0: 0, 1: 0}, NOON - MINUTE)
    planned = make_plan(newest, seen({0: 600, 1: 200}), rules(), Asked(limit=1))
    assert planned is not None
    assert ends_of(planned) == {0: 1, 1: 1}
    assert planned.plan.most_windows is None


def test_a_cycle_has_no_more_files_than_windows() -> None:
    """A batch of one row is a file of its own; shards share the bound."""
    most = planner.MOST_WINDOWS
    all_ = rules(batch_size=1, max_messages=10**9, shards=4)
    planned = make_plan(entry({0: 0}, NOON - MINUTE), seen({0: 10 * most}), all_)
    assert planned is not None
    assert planned.messages == most
    assert planned.plan.most_windows == most // 4


def test_windows_that_wait_are_closed_so_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest first, by a boundary that is behind the clock's; flushed they are likewise."""
    monkeypatch.setattr(planner, "MOST_WINDOWS", 3)
    starts = [NOON - number * MINUTE for number in range(1, 8)]
    carry = tuple(CarryFile(f"carry/{start}", start, 5, 0, 1, "0") for start in starts)
    newest = entry({0: 10}, NOON - 7 * MINUTE, carry=carry)
    planned = make_plan(newest, seen({0: 10}, NOON + 2 * SECOND), rules())
    assert planned is not None
    assert planned.plan.boundary == NOON - 4 * MINUTE
    assert {file.window_start for file in planned.tasks[0].carry} == set(starts[4:])

    waits = entry({0: 10}, NOON - 7 * MINUTE, carry=carry)
    flushed = make_plan(waits, seen({0: 12}, NOON - 6 * MINUTE), rules(), Asked(flush=True))
    assert flushed is not None
    assert flushed.plan.flush
    assert flushed.messages == 0
    assert {file.window_start for file in flushed.tasks[0].carry} == set(starts[4:])
    rest = replace(waits, carry=carry[:3])
    flushed = make_plan(rest, seen({0: 12}, NOON - 6 * MINUTE), rules(), Asked(flush=True))
    assert flushed is not None
    assert (flushed.messages, len(flushed.tasks[0].carry)) == (2, 3)


def test_once_takes_what_is_there_and_flush_lets_nothing_wait() -> None:
    """What is asked for beyond the rules."""
    newest = entry({0: 10}, NOON - MINUTE)
    now = seen({0: 11}, NOON + SECOND)
    planned = make_plan(newest, now, rules(), Asked(force=True))
    assert planned is not None
    assert (planned.plan.cause, planned.plan.flush) == ("once", False)
    planned = make_plan(newest, now, rules(), Asked(force=True, flush=True))
    assert planned is not None
    assert (planned.plan.cause, planned.plan.flush) == ("flush", True)
    done = entry({0: 11}, NOON - MINUTE)
    assert make_plan(done, now, rules(), Asked(force=True, flush=True)) is None


def test_a_clock_that_was_years_ahead_does_not_stop_collecting() -> None:
    """Set back, it makes a cycle an interval of what waits; the boundary stays where it was."""
    newest = entry({0: 10}, NOON.replace(year=2100))
    assert newest.committed_at == NOON

    planned = make_plan(newest, seen({0: 15}, NOON + MINUTE + 2 * SECOND), rules())

    assert planned is not None
    assert (planned.plan.cause, planned.messages) == ("interval", 5)
    assert planned.plan.boundary == newest.boundary
    assert make_plan(newest, seen({0: 15}, NOON + SECOND), rules()) is None
    assert make_plan(newest, seen({0: 10}, NOON + 5 * MINUTE), rules()) is None


def test_until_is_the_last_boundary() -> None:
    """No window that ends later is closed."""
    newest = entry({0: 10}, NOON - 9 * MINUTE)
    until = NOON - 5 * MINUTE + 7 * SECOND
    planned = make_plan(newest, seen({0: 10}), rules(until=until))
    assert planned is not None
    assert planned.plan.boundary == NOON - 5 * MINUTE


def test_until_may_be_before_the_first_window_of_the_calendar() -> None:
    """No window closes then."""
    newest = replace(entry({0: 10}, NOON - 9 * MINUTE), interval=timedelta(days=7), boundary=None)
    until = datetime(1, 1, 1, tzinfo=timezone.utc)

    planned = make_plan(newest, seen({0: 20}), rules(until=until), Asked(force=True))

    assert planned is not None
    assert planned.plan.boundary == datetime(1, 1, 4, tzinfo=timezone.utc)


def test_what_may_wait_ends_with_the_calendar() -> None:
    """A clock that was wrong by millennia, or a long --max_ahead, stops nothing."""
    end = datetime.max.replace(tzinfo=timezone.utc)
    newest = entry({0: 10}, end.replace(second=0, microsecond=0))

    planned = make_plan(newest, seen({0: 20}), rules(), Asked(force=True))

    assert planned is not None
    assert planned.plan.ahead_limit == end


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_plans_meet_progress_and_never_go_back(data: st.DataObject) -> None:
    """Over any sequence of cycles, whatever the clock, the stamps and the limits are."""
    partitions = data.draw(st.integers(1, 3))
    stamps: dict[int, list[datetime]] = {p: [] for p in range(partitions)}
    limits = rules(
        max_messages=data.draw(st.integers(1, 40)),
        batch_size=data.draw(st.integers(1, 20)),
        shards=data.draw(st.integers(1, 2)),
        grace=data.draw(st.integers(0, 5)) * SECOND,
    )
    row_time = data.draw(st.sampled_from(["record", "collected"]))
    newest, clock = entry(dict.fromkeys(stamps, 0), row_time=row_time), NOON
    for _ in range(data.draw(st.integers(1, 8))):
        step = timedelta(seconds=data.draw(st.integers(-7200, 7200)))
        clock = data.draw(st.just(clock + step) | st.sampled_from(WRONG_CLOCKS))
        for times in stamps.values():
            ages = data.draw(st.lists(st.integers(-4000, 4000), max_size=30))
            times += [clock - timedelta(seconds=age) for age in ages]
        ends = {p: len(times) for p, times in stamps.items()}
        use = data.draw(st.sampled_from([no_index, index_of(stamps)]))
        planned = make_plan(newest, seen(ends, clock, use), limits)
        waiting = sum(ends.values()) - sum(newest.ends.values())
        if planned is None:
            assert waiting < limits.batch_size
            continue
        slices = [part for task in planned.tasks for part in task.slices]
        assert {s.partition: s.start for s in slices} == newest.ends
        assert all(s.start <= s.end <= ends[s.partition] for s in slices)
        assert planned.messages == sum(s.end - s.start for s in slices)
        assert planned.messages <= limits.max_messages + partitions
        assert planned.messages > 0 or not waiting
        assert planned.left == waiting - planned.messages
        boundary = planned.plan.boundary
        assert (boundary or EPOCH) >= (newest.boundary or EPOCH)
        assert boundary is None or (boundary - EPOCH) % MINUTE == timedelta(0)
        newest = replace(
            newest,
            cycle=planned.plan.cycle,
            boundary=boundary,
            reads=tuple(
                PartitionRead(
                    s.partition,
                    s.start,
                    s.end,
                    max_time=max(stamps[s.partition][: s.end], default=None),
                )
                for s in slices
            ),
        )
