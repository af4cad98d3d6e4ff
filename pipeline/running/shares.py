"""How tasks are shared out among workers, and when all of a plan is worked off. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from transforms.elements.plan import Plan, Task
    from transforms.elements.report import Report

__all__ = ["Account", "Closed", "shared_out"]


def shared_out(tasks: Sequence[Task], count: int) -> list[tuple[Task, ...]]:
    """Return at most ``count`` shares of about as many messages and rows, none of them empty.

    Each task is in one share. No share has more than an even part and the largest task.
    """
    shares: list[list[Task]] = [[] for _ in range(min(count, len(tasks)))]
    loads = [0] * len(shares)
    for task in sorted(tasks, key=_load, reverse=True):
        least = loads.index(min(loads))
        shares[least].append(task)
        loads[least] += _load(task)
    return [tuple(share) for share in shares]


def _load(task: Task) -> int:
    """Return what a task has to do; one that has nothing to do costs something, too."""
    messages = sum(part.end - part.first for part in task.slices)
    return 1 + messages + sum(file.rows for file in task.carry)


class Closed(NamedTuple):
    """A plan whose tasks are all worked off, and all that is reported of them."""

    plan: Plan
    reports: tuple[Report, ...]


class Account:
    """Which tasks of some plans are still to be worked off."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        """Begin with all of them."""
        self._left: dict[str, set[int]] = {}
        self._plans: dict[str, Plan] = {}
        self._reports: dict[str, list[Report]] = {}
        for task in tasks:
            self._plans[task.plan.id] = task.plan
            self._left.setdefault(task.plan.id, set()).add(task.number)

    def add(self, share: Iterable[Task], reports: Iterable[Report]) -> list[Closed]:
        """Note that a share is worked off; return the plans that are, with it.

        Each plan is returned once. One without reports is left out: its tasks were dropped, since
        its cycle has an entry.
        """
        for report in reports:
            self._reports.setdefault(report.plan.id, []).append(report)
        touched = {}
        for task in share:
            self._left[task.plan.id].discard(task.number)
            touched[task.plan.id] = self._plans[task.plan.id]
        return [
            Closed(plan, tuple(self._reports.pop(name)))
            for name, plan in touched.items()
            if not self._left[name] and name in self._reports
        ]
