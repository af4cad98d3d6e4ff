"""When messages of a leased source are pulled: the laws of its plans, and their examples."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_collection.log.entry import CarryFile
from batch_collection.windows import boundary_at
from pipeline.planning import planner
from pipeline.planning.planner import Asked
from pipeline.planning.pulls import HOLD, PullRules, Waits, make_pull_plan
from tests.pipeline.planning.test_planner import MINUTE, NOON, SECOND, WRONG_CLOCKS, entry, rules
from transforms.sources.contract import Slice

if TYPE_CHECKING:
    from datetime import datetime

    from batch_collection.log.entry import Entry

STREAM = "projects/p/subscriptions/stream"
PULLS = PullRules(STREAM, messages=1_000, bytes=100_000)
SOON = NOON + SECOND  # the boundary at noon is over, but for the grace
INSTANTS = st.one_of(
    st.integers(-7200, 7200).map(lambda seconds: NOON + seconds * SECOND),
    st.sampled_from(WRONG_CLOCKS),
)


def newest(
    boundary: datetime | None = NOON - MINUTE,
    backlog_from: datetime | None = None,
    ends: dict[int, int] | None = None,
    **changes: object,
) -> Entry:
    """Build the newest entry."""
    built = replace(entry(ends or {0: 40}, boundary), backlog_from=backlog_from)
    return replace(built, **changes)  # type: ignore[arg-type]


def cause_of(waits: Waits, last: Entry | None = None, **asked: object) -> str | None:
    """Say why a cycle is due."""
    found = make_pull_plan(
        newest() if last is None else last,
        waits,
        rules(batch_size=500),
        PULLS,
        Asked(**asked),  # type: ignore[arg-type]
    )
    return found.plan.cause if found is not None else None


@pytest.mark.parametrize(
    ("waits", "cause"),
    [
        (Waits(SOON, 0), None),
        (Waits(SOON, 499, 79_999, HOLD - SECOND), None),
        (Waits(SOON, 500), "count"),
        (Waits(SOON, 800), "backlog"),
        (Waits(SOON, 1, 80_000), "backlog"),
        (Waits(SOON, 1, 10, HOLD), "held"),
        (Waits(SOON, 0, 0, HOLD), None),
        (Waits(SOON + SECOND, 0), "interval"),
        (Waits(SOON + SECOND, 900), "backlog"),
        (Waits(SOON, None, age=HOLD - SECOND), None),
        (Waits(SOON, None, age=HOLD), "held"),
    ],
)
def test_a_cycle_is_due_for_what_waits_or_for_a_boundary(waits: Waits, cause: str | None) -> None:
    """Of a source that tasks pull from nobody knows what waits: it is asked every minute."""
    assert cause_of(waits) == cause


def test_until_what_was_there_has_come_nothing_is_closed() -> None:
    """Else the windows of what comes last would be closed by what came first."""
    behind = Waits(NOON + MINUTE, 10, is_behind=True)
    assert cause_of(behind, force=True, flush=True) is None
    assert cause_of(behind._replace(messages=500)) == "count"
    planned = make_pull_plan(
        newest(), behind._replace(age=HOLD), rules(), PULLS, Asked(flush=True, force=True)
    )
    assert planned is not None
    assert (planned.plan.cause, planned.plan.flush) == ("held", False)
    assert planned.plan.boundary == NOON - MINUTE


def test_once_and_flush_ask_for_what_there_is() -> None:
    """And for nothing where nothing is."""
    assert cause_of(Waits(SOON, 1), force=True) == "once"
    assert cause_of(Waits(SOON, None), force=True) == "once"
    assert cause_of(Waits(SOON, 0), force=True) is None
    assert cause_of(Waits(SOON, 1), flush=True) == "flush"
    assert cause_of(Waits(SOON, 0), flush=True) is None
    carry = CarryFile("carry/x", NOON, 3, 0, 10, "crc")
    assert cause_of(Waits(SOON, 0), newest(carry=(carry,)), flush=True) == "flush"


def test_a_clock_that_was_set_back_keeps_no_message_waiting() -> None:
    """As with Kafka: an interval's end is one, whatever was said before."""
    ahead = newest(NOON.replace(year=2100), committed_at=NOON)
    assert cause_of(Waits(NOON + SECOND, 1), ahead) is None
    assert cause_of(Waits(NOON + 2 * SECOND, 1), ahead) == "interval"


def test_a_shard_counts_on_from_its_own_end_and_keeps_those_no_longer_used() -> None:
    """So that reads of consecutive entries meet, however many shards there are."""
    last = newest(ends={0: 10, 1: 20, 2: 30})
    planned = make_pull_plan(last, Waits(SOON, 500), rules(batch_size=500, shards=2), PULLS)
    assert planned is not None
    assert [task.slices for task in planned.tasks] == [
        (Slice(STREAM, 0, 10, 10), Slice(STREAM, 2, 30, 30)),
        (Slice(STREAM, 1, 20, 20),),
    ]
    pulls = [task.pull for task in planned.tasks if task.pull is not None]
    assert [(each.partition, each.start) for each in pulls] == [(0, 10), (1, 20)]
    assert [(each.messages, each.bytes) for each in pulls] == [(500, 50_000)] * 2
    more = make_pull_plan(last, Waits(SOON, 500), rules(batch_size=500, shards=4), PULLS)
    assert more is not None
    assert more.tasks[3].slices == (Slice(STREAM, 3, 0, 0),)


def test_a_backlog_is_taken_as_it_was_seen_and_closes_only_what_was_pulled() -> None:
    """Its first cycle knows of no time, so closes nothing; the next goes by the oldest message."""
    first = make_pull_plan(newest(), Waits(NOON + MINUTE, 900), rules(), PULLS)
    assert first is not None
    assert (first.plan.boundary, first.messages) == (NOON - MINUTE, 900)
    assert [task.pull and task.pull.messages for task in first.tasks] == [900]
    reached = newest(backlog_from=NOON + 3 * SECOND)
    for messages in (900, 0):
        then = make_pull_plan(reached, Waits(NOON + 10 * MINUTE, messages), rules(), PULLS)
        assert then is not None
        assert then.plan.boundary == NOON
    collected = newest(row_time="collected")
    third = make_pull_plan(collected, Waits(NOON + MINUTE, 900), rules(), PULLS)
    assert third is not None
    assert third.plan.boundary == NOON


def test_an_engine_goes_on_at_once_in_a_backlog() -> None:
    """Nobody there knows what waits, but that the last cycle left some."""
    assert cause_of(Waits(SOON), newest(backlog_from=NOON)) == "backlog"


def test_a_boundary_with_nothing_to_pull_needs_no_pipeline() -> None:
    """Where the process pulls anyhow; a task that pulls is asked whatever waits."""
    here = make_pull_plan(newest(), Waits(NOON + MINUTE, 0), rules(), PULLS)
    there = make_pull_plan(newest(), Waits(NOON + MINUTE), rules(), PULLS)
    assert here is not None
    assert there is not None
    assert here.is_empty
    assert not there.is_empty


def test_with_too_many_windows_fewer_messages_are_pulled() -> None:
    """As many as the failure of the last plan says."""
    planned = make_pull_plan(newest(), Waits(SOON, 300), rules(), PULLS, Asked(limit=20))
    assert planned is not None
    assert planned.plan.cause == "backlog"
    assert [task.pull and task.pull.messages for task in planned.tasks] == [20]
    assert (planned.messages, planned.left, planned.plan.messages) == (20, 280, 20)
    one = make_pull_plan(newest(), Waits(SOON, 300), rules(), PULLS, Asked(limit=1))
    assert one is not None
    assert one.plan.most_windows is None


def test_a_flush_of_too_many_windows_pulls_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What must stay is left for the next cycle, and nothing joins it."""
    monkeypatch.setattr(planner, "MOST_WINDOWS", 1)
    carry = tuple(CarryFile(f"carry/{n}", NOON + n * MINUTE, 3, 0, 10, "crc") for n in range(2))
    last, waits = newest(carry=carry), Waits(SOON, 5)
    planned = make_pull_plan(last, waits, rules(), PULLS, Asked(flush=True, force=True))
    assert planned is not None
    (task,) = planned.tasks
    assert task.carry == carry[:1]
    assert task.pull is not None
    assert task.pull.messages == 0


@given(
    st.one_of(st.none(), INSTANTS),
    st.one_of(st.none(), INSTANTS),
    INSTANTS,
    st.one_of(st.none(), st.integers(0, 2_000)),
    st.integers(0, 90),
    st.sampled_from(["record", "collected"]),
)
def test_the_boundary_never_goes_back_and_nothing_is_held_for_long(
    before: datetime | None,
    backlog_from: datetime | None,
    clock: datetime,
    messages: int | None,
    age: int,
    row_time: str,
) -> None:
    """Whatever the clock does; nor does it go beyond the clock."""
    last = newest(before and boundary_at(before, SECOND, MINUTE), backlog_from, row_time=row_time)
    planned = make_pull_plan(last, Waits(clock, messages, 0, age * SECOND), rules(), PULLS)
    if planned is None:
        assert messages == 0 or age < HOLD.total_seconds()
        return
    boundary = planned.plan.boundary
    if last.boundary is not None:
        assert boundary is not None
        assert boundary >= last.boundary
    if boundary != last.boundary:
        assert boundary is not None
        assert boundary <= clock
    assert planned.messages + planned.left == (messages or 0)
