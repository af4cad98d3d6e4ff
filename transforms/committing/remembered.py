"""Which lists of message ids an entry names: each id as long as its message may come again. Pure.

Guarantees, tested as laws: an id that was named is, until its list was acknowledged and ``horizon``
of collecting has passed since, or ``retention`` where it was not; what is named lies in a file that
is named once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from transforms.sources.contract import Remembering

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from batch_collection.log.entry import Entry, IdFile
    from transforms.elements.plan import Plan
    from transforms.elements.report import Gathered, Report

__all__ = ["ids_of"]


def ids_of(
    plan: Plan, previous: Entry, tasks: Sequence[Report], committed_at: datetime
) -> dict[str, Any]:
    """Return what an entry says of ids, and of messages that came again.

    Args:
        plan: the plan.
        previous: the entry before.
        tasks: what became of each task, whole.
        committed_at: the clock.
    """
    rules = plan.remembering or Remembering()
    elapsed = min(committed_at - previous.committed_at, previous.interval).total_seconds()
    answered = {path for task in tasks for path in task.acknowledged}
    known = {file.path: _aged(file, max(elapsed, 0.0), answered) for file in previous.ids}
    gathered = [each for task in tasks for each in task.gathered]
    older = _with_gathered(known, gathered)
    claims = (replace(file, named_at=committed_at) for task in tasks for file in task.claims)
    ids = (*(file for file in older if not _is_over(file, rules)), *claims)
    named = {file.path for file in ids}
    return {
        "ids": ids,
        "ids_released": tuple(sorted(known.keys() - named)),
        "repeated": sum(task.repeated for task in tasks),
    }


def _aged(file: IdFile, elapsed: float, answered: set[str]) -> IdFile:
    """Return a list of the entry before as it is now: where it lies, and how old it is."""
    if file.path in answered and not file.acknowledged:
        return replace(file, staged="", acknowledged=True, age=0.0)
    return replace(file, staged="", age=file.age + elapsed)


def _with_gathered(known: dict[str, IdFile], gathered: Iterable[Gathered]) -> list[IdFile]:
    """Put lists in the place of those that they hold, each as young as its youngest part."""
    left = dict(known)
    made = []
    for file, of in gathered:
        if not all(path in left for path in of):
            continue  # what is staged and not named is removed
        parts = [left.pop(path) for path in of]
        made.append(
            replace(
                file,
                named_at=max((p.named_at for p in parts if p.named_at is not None), default=None),
                acknowledged=all(part.acknowledged for part in parts),
                age=min(part.age for part in parts),
            )
        )
    return [*left.values(), *made]


def _is_over(file: IdFile, rules: Remembering) -> bool:
    return file.age >= rules.lasts(acknowledged=file.acknowledged).total_seconds()
