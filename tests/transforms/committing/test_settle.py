"""Closing an account: which reports make an entry, and what it says."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_collection.log.entry import (
    FORMS,
    BatchFile,
    CarryFile,
    DeadLetterFile,
    Entry,
    Pane,
    PartitionRead,
)
from tests.builders import first_entry
from tests.tasks import MINUTE, NOON
from tests.tasks import plan as planned
from transforms.committing.settle import closed, settle
from transforms.committing.windows import OPEN_HORIZON
from transforms.elements.failure import SCHEMA_CHANGE, Failure
from transforms.elements.report import Report, WrittenBatch, add_up

if TYPE_CHECKING:
    from transforms.elements.plan import Plan


def plan(tasks: int = 1, **changes: Any) -> Plan:
    """Build the plan of cycle 8, which closes the window before noon."""
    plain = planned(cycle=8, planned_at=NOON, batch_size=10, previous_boundary=NOON - MINUTE)
    return replace(plain, tasks=tasks, **changes)


def entry(**changes: Any) -> Entry:
    """Build the entry of cycle 7."""
    plain = first_entry(
        cycle=7,
        plan="before",
        previous="0" * 64,
        committed_at=NOON,
        cause="interval",
        boundary=NOON - MINUTE,
        reads=(PartitionRead(0, 0, 100, max_time=NOON - MINUTE),),
        schema={"value": "int64"},
    )
    return replace(plain, **changes)


def batch(start: datetime, rows: int, timing: str = "on_time", number: int = 0) -> WrittenBatch:
    """Build a staged batch."""
    file = BatchFile(f"data/{number}", f"staging/{number}", rows, 1, "0", start, start, {})
    return WrittenBatch(start, timing, number, file)


def whole(task: int = 0, rows: int = 10, attempt: str = "a", **changes: Any) -> Report:
    """Build the report of a task that read ``rows`` messages of a partition and wrote them."""
    plain = Report(
        plan(),
        task,
        attempt,
        read=True,
        reads=(PartitionRead(task, 100, 100 + rows, messages=rows),),
        decoded=(PartitionRead(task, 0, 0, messages=rows, rows=rows, max_time=NOON),)
        if rows
        else (),
        cut=True,
        batches=(batch(NOON - MINUTE, rows),) if rows else (),
        schema={"value": "int64"},
    )
    return replace(plain, **changes)


def settled(reports: list[Report], previous: Entry | None = None, **changes: Any) -> Any:
    """Settle the plan, changed, on some reports."""
    asked = plan(**changes)
    reports = [replace(report, plan=replace(report.plan, **changes)) for report in reports]
    return settle(asked, previous or entry(), "f" * 64, reports, NOON)


def test_a_whole_task_makes_the_entry() -> None:
    """What the entry says of reads, panes and the chain."""
    found = settled([whole()])
    assert found.cycle == 8
    assert found.previous == "f" * 64
    assert found.boundary == NOON
    assert found.reads == (PartitionRead(0, 100, 110, messages=10, rows=10, max_time=NOON),)
    assert [(p.window_start, p.timing, p.rows) for p in found.panes] == [
        (NOON - MINUTE, "on_time", 10)
    ]
    assert found.closed_empty == ()


def test_nothing_is_committed_while_any_part_is_missing() -> None:
    """Take one part of the report away, and the account does not close."""
    parts = {
        "read": False,
        "cut": False,
        "decoded": (),
        "batches": (),
        "reads": (PartitionRead(0, 100, 110, messages=11),),
        "carried": (CarryFile("carry/x", NOON, 1, 0, 1, "0"),),
        "taken": (CarryFile("carry/x", NOON, 1, 0, 1, "0"),),
        "dead_letters": (DeadLetterFile("d", "s", 1, 1, "0"),),
    }
    for name, value in parts.items():
        assert settled([replace(whole(), **{name: value})]) is None, name  # type: ignore[arg-type]


def test_every_task_must_be_whole() -> None:
    """A task without a report keeps the cycle open."""
    assert settled([whole(0)], tasks=2) is None
    found = settled([whole(0), whole(1)], tasks=2)
    assert [read.partition for read in found.reads] == [0, 1]


def test_two_attempts_at_one_task_do_not_stand_for_two_tasks() -> None:
    """Sums over attempts once committed a loss and a duplicate at once."""
    assert settled([whole(0, attempt="a"), whole(0, attempt="b")], tasks=2) is None


def test_one_whole_attempt_counts_and_the_other_is_left_out() -> None:
    """A retried bundle's files are not named twice."""
    broken = replace(whole(attempt="b"), batches=(batch(NOON - MINUTE, 4, number=9),))
    found = settled([broken, whole(attempt="a")])
    assert [file.path for file in found.files] == ["data/0"]


def test_reports_of_another_plan_are_not_counted() -> None:
    """An older planning of the same cycle has another id."""
    old = replace(whole(), plan=plan(id="older"))
    assert settle(plan(), entry(), "f" * 64, [old], NOON) is None


def test_reports_are_added_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an account closes with is all that the entry is made of."""
    first = whole(0)
    rest = replace(first, read=False, reads=(), decoded=(), batches=())
    parts = [replace(first, cut=False), rest]
    of = replace(plan(), tasks=2)
    assert closed(of, parts) == []
    sums = closed(of, [*parts, whole(1), replace(whole(), plan=plan(id="older"))])
    assert [each.task for each in sums] == [0, 1]
    entry_of_all = settle(of, entry(), "f" * 64, [*parts, whole(1)], NOON)

    def added(*_: Report) -> Report:
        pytest.fail("there is nothing to add up")

    monkeypatch.setattr(Report, "__add__", added)
    assert settle(of, entry(), "f" * 64, sums, NOON) == entry_of_all


def test_a_failure_is_told_unless_another_attempt_is_whole() -> None:
    """What a task could not do decides only if nobody did it."""
    failure = Failure("SourceError", "gone")
    failed = replace(whole(attempt="b"), failure=failure)
    assert settled([failed]) == failure
    assert isinstance(settled([failed, whole(attempt="a")]), Entry)


def test_types_that_differ_between_tasks_are_pinned_and_planned_again() -> None:
    """An integer column of one task and a fraction of another become double."""
    one = replace(whole(0), schema={"value": "int64", "new": "int64"})
    other = replace(whole(1), schema={"value": "int64", "new": "double"})
    found = settled([one, other], tasks=2)
    assert found == Failure(SCHEMA_CHANGE, found.text, {"value": "int64", "new": "double"})


def test_a_type_of_one_task_for_what_had_none_in_another_is_pinned_and_planned_again() -> None:
    """So that both say the same of ``[]``; a column that is no list says null of it anyway."""
    empty = replace(whole(0), untyped={"new": "empty"})
    lists, numbers = (
        replace(whole(1), schema={"value": "int64", "new": type_}) for type_ in (["int64"], "int64")
    )

    found = settled([empty, lists], tasks=2)

    assert found == Failure(SCHEMA_CHANGE, found.text, {"value": "int64", "new": ["int64"]})
    assert isinstance(settled([empty, numbers], tasks=2), Entry)
    assert isinstance(settled([empty, whole(1)], tasks=2), Entry)


def test_of_names_that_differ_by_case_between_tasks_the_first_task_s_are_pinned() -> None:
    """The cycle is planned again with them; what was in the schema before stays."""
    one = replace(whole(0), schema={"value": "int64", "userId": "int64", "n": {"x": "bool"}})
    two = replace(whole(1), schema={"userID": "string", "n": {"X": "bool", "y": "bool"}})

    found = settled([one, two], tasks=2)
    again = settled([two, one], tasks=2)

    kept = {"value": "int64", "userId": "int64", "n": {"x": "bool", "y": "bool"}}
    assert found == again == Failure(SCHEMA_CHANGE, found.text, kept)
    assert isinstance(settled([one, replace(two, schema=kept)], tasks=2, schema=kept), Entry)
    both = kept | {"userID": "string", "n": {"x": "bool", "X": "bool", "y": "bool"}}
    assert isinstance(settled([one, two], tasks=2, schema=both), Entry)
    assert isinstance(settled([one, two], tasks=2, form=FORMS[1]), Entry)


def test_tasks_together_may_not_add_more_columns_than_one() -> None:
    """Those of as many tasks as have room are pinned; the others' messages are decoded anew."""
    sizes = (500, 600, 300)
    tasks = [
        replace(whole(task), schema={f"t{task}-{place}": "int64" for place in range(size)})
        for task, size in enumerate(sizes)
    ]

    found = settled(tasks, tasks=3)

    kept = {"value": "int64"} | tasks[0].schema | tasks[2].schema
    assert found == Failure(SCHEMA_CHANGE, found.text, kept)
    assert isinstance(settled(tasks, tasks=3, schema=kept | tasks[1].schema), Entry)


def test_columns_that_only_one_task_saw_are_added() -> None:
    """The union of the tasks' schemas is the collection's."""
    one = replace(whole(0), schema={"value": "int64", "a": "string"})
    other = replace(whole(1), schema={"value": "int64", "b": "bool"})
    assert settled([one, other], tasks=2).schema == {"value": "int64", "a": "string", "b": "bool"}


def test_empty_windows_are_recorded_as_ranges() -> None:
    """Between two boundaries every window either has a pane or lies in a range."""
    previous = entry(boundary=NOON - 10 * MINUTE)
    report = replace(whole(rows=5), batches=(batch(NOON - 5 * MINUTE, 5),))
    found = settled([report], previous, previous_boundary=NOON - 10 * MINUTE)
    assert found.closed_empty == (
        (NOON - 10 * MINUTE, NOON - 5 * MINUTE),
        (NOON - 4 * MINUTE, NOON),
    )


def test_the_first_boundary_records_nothing_before_its_first_window() -> None:
    """Since when a collection has had empty windows nobody can say."""
    report = replace(whole(rows=5), batches=(batch(NOON - 5 * MINUTE, 5),))
    found = settled([report], entry(boundary=None), previous_boundary=None)
    assert found.closed_empty == ((NOON - 4 * MINUTE, NOON),)


def test_a_window_whose_rows_left_early_is_closed_without_rows() -> None:
    """Its on-time pane is empty and names the earlier cycles."""
    previous = entry(open={NOON - MINUTE: (3, 5)})
    found = settled([whole(rows=0)], previous)
    assert found.panes == (Pane(NOON - MINUTE, NOON, "on_time", 0, (), (3, 5)),)
    assert found.open == {}
    assert found.closed_empty == ()


def test_early_panes_are_remembered_until_their_window_closes() -> None:
    """Of a clock that is far ahead only the earliest window is, or entries would grow for ever."""
    far = NOON + OPEN_HORIZON
    early = (batch(NOON, 5, "early"), *(batch(far + n * MINUTE, 5, "early", n) for n in (2, 1)))
    previous = entry(open={NOON: (3,), NOON + MINUTE: (4,)})
    found = settled([replace(whole(rows=15), batches=early)], previous)
    assert found.open == {NOON: (3, 8), NOON + MINUTE: (4,)}
    assert found.forgotten == far + MINUTE
    assert settled([whole()], entry(forgotten=far)).forgotten == far


def test_a_boundary_of_the_past_makes_no_window_forgotten_for_good() -> None:
    """Before the first boundary the clock stands for it, and a backlog's may be years behind."""
    past = NOON - timedelta(days=400)
    previous = entry(boundary=None, open={NOON: (3,), past: (4,)})
    found = settled([whole(rows=0)], previous, boundary=past, previous_boundary=None)
    assert (found.open, found.forgotten) == ({past: (4,)}, NOON)


def test_carry_is_named_again_until_it_is_taken_up() -> None:
    """What is taken up is released, what is new is named."""
    kept, taken, new = (
        CarryFile(f"carry/{n}", NOON, 3, 0, 1, "0") for n in ("kept", "taken", "new")
    )
    report = replace(whole(rows=10), taken=(taken,), carried=(new,))
    found = settled([report], entry(carry=(kept, taken)))
    assert found.carry == (kept, new)
    assert found.released == ("carry/taken",)


def test_the_highest_row_time_of_a_partition_never_goes_back() -> None:
    """Also when nothing was read from it."""
    found = settled([whole(rows=0)])
    assert found.reads[0].max_time == NOON - MINUTE


@given(st.permutations(range(5)), st.lists(st.integers(0, 4), max_size=4))
def test_reports_add_up_in_any_order_and_grouping(order: list[int], cuts: list[int]) -> None:
    """A runner may deliver the parts of an attempt as it likes."""
    empty = Report(plan(), 0, "a")
    parts = [
        replace(empty, read=True, reads=(PartitionRead(0, 100, 110, messages=10),)),
        replace(empty, decoded=(PartitionRead(0, 0, 0, messages=4, rows=4, max_time=NOON),)),
        replace(empty, decoded=(PartitionRead(0, 0, 0, messages=6, rows=6),)),
        replace(empty, cut=True),
        replace(empty, batches=(batch(NOON - MINUTE, 10),), schema={"value": "int64"}),
    ]
    shuffled = [parts[number] for number in order]
    borders = sorted({0, 5, *cuts})
    bundles = [
        report
        for first, end in itertools.pairwise(borders)
        for report in add_up(shuffled[first:end])
    ]
    (total,) = add_up(bundles)
    assert total.whole
    assert total == add_up(parts)[0]
    assert not any(report.whole for report in bundles) or len(bundles) == 1
