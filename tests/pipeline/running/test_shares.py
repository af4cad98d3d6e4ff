"""How tasks are shared out, and when a plan of them is whole."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from pipeline.running.shares import Account, shared_out
from tests import tasks
from transforms.elements.report import Report
from transforms.sources.contract import Slice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transforms.elements.plan import Task

SIZES = st.lists(st.integers(0, 1000), max_size=12)


def tasks_of(sizes: Sequence[int], plan: str = "plan") -> list[Task]:
    """Return a task for each number of messages."""
    asked = tasks.plan(id=plan, tasks=len(sizes))
    slices = [Slice("orders", number, 10, 10 + size) for number, size in enumerate(sizes)]
    return [tasks.task(asked, number, [each]) for number, each in enumerate(slices)]


def names_of(given_tasks: Sequence[Task]) -> list[tuple[str, int]]:
    """Name tasks."""
    return [(task.plan.id, task.number) for task in given_tasks]


@given(SIZES, st.integers(1, 5))
def test_each_task_is_in_one_share_and_none_is_empty(sizes: list[int], count: int) -> None:
    """There are no more shares than are asked for."""
    every = tasks_of(sizes)

    shares = shared_out(every, count)

    assert Counter(name for share in shares for name in names_of(share)) == Counter(names_of(every))
    assert all(shares)
    assert len(shares) == min(count, len(every))


@given(SIZES.filter(bool), st.integers(1, 5))
def test_no_share_has_more_than_an_even_part_and_the_largest_task(
    sizes: list[int], count: int
) -> None:
    """Whatever the tasks are; each counts one message more than it has."""
    shares = shared_out(tasks_of(sizes), count)

    most = max(sum(sizes[task.number] + 1 for task in share) for share in shares)

    assert most <= sum(size + 1 for size in sizes) / count + max(sizes) + 1


def test_rows_that_wait_are_work_too() -> None:
    """Of two tasks the one that takes rows up gets a worker of its own."""
    none, few, many = tasks_of([0, 10, 20])

    assert [names_of(share) for share in shared_out([none, few, many], 2)] == [
        [("plan", 2)],
        [("plan", 1), ("plan", 0)],
    ]


@given(st.data(), st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(1, 4))
def test_a_plan_is_closed_once_with_all_of_its_reports(
    data: st.DataObject, plans: list[int], count: int
) -> None:
    """In whatever order shares are worked off: with the last of its tasks, and not before."""
    every = [
        task for number, size in enumerate(plans) for task in tasks_of([1] * size, f"plan-{number}")
    ]
    account, done, found = Account(every), list["Task"](), list[str]()
    for share in data.draw(st.permutations(shared_out(every, count))):
        done += share
        reports = [Report(task.plan, task.number, "attempt", read=True) for task in share]
        for closed in account.add(share, reports):
            found.append(closed.plan.id)
            whole = [task.number for task in every if task.plan.id == closed.plan.id]
            assert sorted(report.task for report in closed.reports) == whole
            assert {report.plan.id for report in closed.reports} == {closed.plan.id}
        undone = {plan for plan, _ in {*names_of(every)} - {*names_of(done)}}
        assert sorted(found) == sorted({plan for plan, _ in names_of(every)} - undone)


def test_a_plan_whose_tasks_were_dropped_is_not_closed() -> None:
    """Its cycle has an entry: there is nothing to commit."""
    first, second = tasks_of([1, 1])
    account = Account([first, second])

    assert account.add([first], []) == []
    assert account.add([second], []) == []
