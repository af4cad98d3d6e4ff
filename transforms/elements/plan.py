"""What one cycle is asked to do: a plan, its tasks, and the slices each task reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from batch_collection.log.entry import FORMAT, FORMS, Form

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta

    from batch_collection.log.entry import CarryFile, DeadLetterFile
    from transforms.sources.contract import Pull, Remembering, Slice

__all__ = ["ACKNOWLEDGED", "DeadLetterLimit", "Plan", "RedrivePlan", "Task"]

ACKNOWLEDGED = "acknowledged"
"""The cause of a plan that only tells the log what its source has heard of, at a run's end."""


class DeadLetterLimit(NamedTuple):
    """How many messages may become dead letters (``--max_dead_letters``): one of both is given.

    ``most`` are those of a run, of which there were some ``before`` this cycle; ``percent`` is
    their share of a cycle's messages.
    """

    most: int | None = None
    percent: float | None = None
    before: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """One planning of one cycle; planned again, the same cycle has another ``id``.

    ``collection`` is the directory or URI that it writes to. ``cause`` is ``"interval"``,
    ``"count"``, ``"held"``, ``"backlog"``, ``"once"``, ``"flush"``, ``"acknowledged"`` or
    ``"redrive"``. ``planned_at`` is the clock when planning, the row time of
    ``--timestamp=collected``. Windows are one ``interval``
    long, batches have at most ``batch_size`` rows and, if given, end by ``target_bytes``
    (``Cutter``). ``boundary`` is B: windows that end at or before it are due. ``previous_boundary``
    is the last entry's: windows that end at or before it are late (``None``: nothing is). Rows
    whose times are after ``ahead_limit`` do not wait, with ``flush`` no rows do. ``schema`` is the
    pinned payload schema (``batch_collection.schema``), ``pinned`` the columns whose type
    ``--schema`` says anew. ``dropped`` are the columns that are left out of rows, with the types
    that they had. ``tasks`` is how many tasks it has. ``format`` and ``form`` are the collection's.
    With more dead letters than ``max_dead_letters`` it comes to no entry, nor behind another entry
    than that with the digest ``previous`` (empty: behind any). It reads ``messages``; a task whose
    rows are of more than ``most_windows``, or whose messages of more than ``most_bytes``, ends the
    plan: see ``WindowLimit``. With None there is no bound: it reads as little as can be, or
    ``most_bytes`` was not given. ``remembering`` says how long ids of pulled messages are.

    A plan lives as long as what works it off: a local run, or a job and the versions that it is
    updated to. The log keeps of it what an entry says, and a note beside staged files its failure.
    """

    collection: str
    cycle: int
    run: str
    id: str
    cause: str
    planned_at: datetime
    interval: timedelta
    batch_size: int
    boundary: datetime | None
    previous_boundary: datetime | None
    ahead_limit: datetime
    schema: dict[str, Any]
    tasks: int
    flush: bool = False
    pinned: tuple[str, ...] = ()
    dropped: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT
    form: Form = FORMS[FORMAT]
    max_dead_letters: DeadLetterLimit | None = None
    previous: str = ""
    messages: int = 0
    most_windows: int | None = None
    remembering: Remembering | None = None
    target_bytes: int | None = None
    most_bytes: int | None = None

    @staticmethod
    def kind_of(fields: Mapping[str, Any]) -> type[Plan]:
        """Return the class of the plan whose JSON has these fields."""
        return RedrivePlan if "letters" in fields else Plan


@dataclass(frozen=True, slots=True)
class RedrivePlan(Plan):
    """A plan that reads nothing from the topic, but files of dead letters, in one task.

    It stages below a ``cycle`` far ahead, whose folder nobody clears before the log is there, and
    is committed as the first cycle behind ``behind`` that is free by then.
    """

    letters: tuple[DeadLetterFile, ...] = ()
    behind: int = 0


@dataclass(frozen=True, slots=True)
class Task:
    """The part of a plan that one worker does in one bundle: what to read, carry to take up.

    All partitions of the shard have a slice, an empty one where there is nothing to read. Of a
    leased source there is a ``pull`` instead.
    """

    plan: Plan
    number: int
    slices: tuple[Slice, ...]
    carry: tuple[CarryFile, ...]
    pull: Pull | None = None
