"""The account of a task: what every step says of its work, and how it adds up.

Payload never crosses a shuffle; reports do. They are a commutative monoid per attempt: a runner may
deliver them in any order, in any number of bundles, and an attempt's sum is the same.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from batch_collection.errors import CollectionError, WriteError, in_one_line
from batch_collection.schema.types import merge
from transforms.elements.failure import Failure
from transforms.elements.order import FileReport, Order

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable
    from datetime import datetime

    from batch_collection.log.entry import (
        BatchFile,
        CarryFile,
        DeadLetterFile,
        IdFile,
        PartitionRead,
    )
    from transforms.elements.chunk import Chunk
    from transforms.elements.plan import Plan, Task

__all__ = [
    "Gathered",
    "Report",
    "TaskOrder",
    "WrittenBatch",
    "add_reads",
    "add_up",
    "order_of",
    "report_on",
    "why_unwritten",
]


_R = TypeVar("_R", bound=FileReport)


class WrittenBatch(NamedTuple):
    """A staged batch file, the window it belongs to, and its number in the task."""

    window_start: datetime
    timing: str
    number: int
    file: BatchFile


class Gathered(NamedTuple):
    """A staged list of the ids of some lists ``of`` the entry before, whose place it takes."""

    file: IdFile
    of: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What became of one attempt at a task, or a part of it.

    ``schema`` is the payload schema that was known then, ``untyped`` where rows say null for what
    has no type in it (``schema.untyped``).
    ``reads`` are the task's slices, all of them, once they are read (``read``): messages and lost
    offsets. ``decoded`` says what became of messages, by partition. Once all rows are cut
    (``cut``), ``taken`` are the carry files that were taken up. Of the dead letters ``untimed`` had
    no row time. ``commonest`` is the reason that one chunk gave most often, and how often,
    ``why_untimed`` the same of those.
    Of what was pulled, ``claims`` hold the ids of all messages in ``reads``; ``repeated`` messages
    were in the log before, ``left`` ones belong to another task. ``oldest`` is when the oldest of
    all was published, where the pull has stopped at a bound. ``acknowledged`` are the lists of ids,
    by path, for which the source has answered; ``gathered`` take the place of others.
    """

    plan: Plan
    task: int
    attempt: str
    read: bool = False
    reads: tuple[PartitionRead, ...] = ()
    decoded: tuple[PartitionRead, ...] = ()
    cut: bool = False
    taken: tuple[CarryFile, ...] = ()
    batches: tuple[WrittenBatch, ...] = ()
    carried: tuple[CarryFile, ...] = ()
    dead_letters: tuple[DeadLetterFile, ...] = ()
    untimed: int = 0
    why_untimed: tuple[int, str] = (0, "")
    commonest: tuple[int, str] = (0, "")
    schema: dict[str, Any] = field(default_factory=dict)
    untyped: dict[str, Any] = field(default_factory=dict)
    failure: Failure | None = None
    claims: tuple[IdFile, ...] = ()
    gathered: tuple[Gathered, ...] = ()
    acknowledged: tuple[str, ...] = ()
    repeated: int = 0
    left: int = 0
    oldest: datetime | None = None

    @property
    def key(self) -> tuple[str, int, str]:
        """What reports of one attempt share."""
        return self.plan.id, self.task, self.attempt

    def wrote(
        self, *, batches: tuple[WrittenBatch, ...] = (), carried: tuple[CarryFile, ...] = ()
    ) -> Report:
        """Return this report with files that are staged and durable."""
        return replace(self, batches=batches, carried=carried)

    def failed(self, error: Exception) -> Report:
        """Return this report with why its task can't be done."""
        return replace(self, failure=Failure.of(error))

    def unwritten(self, error: Exception, what: str, column: str | None = None) -> Report:
        """Return this report with why ``what`` could not be written: see ``why_unwritten``."""
        return self.failed(why_unwritten(self.plan, error, what, column))

    def __add__(self, other: Report) -> Report:
        """Return the sum of two parts of one attempt's report."""
        return replace(
            self,
            read=self.read or other.read,
            reads=self.reads + other.reads,
            decoded=add_reads((*self.decoded, *other.decoded)),
            cut=self.cut or other.cut,
            taken=self.taken + other.taken,
            batches=self.batches + other.batches,
            carried=self.carried + other.carried,
            dead_letters=self.dead_letters + other.dead_letters,
            untimed=self.untimed + other.untimed,
            why_untimed=max(self.why_untimed, other.why_untimed),
            commonest=max(self.commonest, other.commonest),
            schema=merge(self.schema, other.schema),
            untyped=merge(self.untyped, other.untyped),
            failure=self.failure or other.failure,
            claims=self.claims + other.claims,
            gathered=self.gathered + other.gathered,
            acknowledged=self.acknowledged + other.acknowledged,
            repeated=self.repeated + other.repeated,
            left=self.left + other.left,
            oldest=min((t for t in (self.oldest, other.oldest) if t is not None), default=None),
        )

    @property
    def whole(self) -> bool:
        """Tell whether the attempt is done: each message and each row of it is in one place."""
        messages = sum(read.messages for read in self.reads)
        dead_letters = sum(read.dead_letters for read in self.decoded)
        rows = sum(read.rows for read in self.decoded) + sum(carry.rows for carry in self.taken)
        return (
            self.read
            and self.cut
            and self.failure is None
            and messages == sum(read.messages for read in self.decoded)
            and dead_letters == sum(file.messages for file in self.dead_letters)
            and rows
            == sum(batch.file.rows for batch in self.batches)
            + sum(carry.rows for carry in self.carried)
        )


def why_unwritten(
    asked: Plan | Order, error: Exception, what: str, column: str | None = None
) -> Exception:
    """Return the error that tells why ``what`` could not be written, of an error of whatever kind.

    ``column`` is the one whose type is at fault, if that is known.
    Those that have a kind of their own keep it, all others are a ``WriteError`` in one line.
    """
    if isinstance(error, (CollectionError, FileNotFoundError)):
        return error
    uri = asked.collection
    named = f"column {column} in {what}" if column is not None else what
    text = f"cannot write {named} of {uri}, cycle={asked.cycle}: {in_one_line(error)}"
    if column in asked.schema:
        drop = f"batch-collection schema {shlex.quote(uri)} --drop {shlex.quote(column)}"
        text += f"; `{drop}` leaves it out from then on"
    return WriteError(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOrder(Order):
    """An order of one attempt at a plan's task."""

    plan: Plan

    def report(self) -> Report:
        """Return an empty report on the attempt."""
        return Report(self.plan, self.shard, self.attempt)


def order_of(task: Task, attempt: str) -> TaskOrder:
    """Return what cutting and writing need of an attempt at a task."""
    plan = task.plan
    return TaskOrder(
        collection=plan.collection,
        cycle=plan.cycle,
        shard=task.number,
        attempt=attempt,
        interval=plan.interval,
        batch_size=plan.batch_size,
        boundary=plan.boundary,
        previous_boundary=plan.previous_boundary,
        ahead_limit=plan.ahead_limit,
        schema=plan.schema,
        flush=plan.flush,
        dropped=plan.dropped,
        format=plan.format,
        form=plan.form,
        target_bytes=plan.target_bytes,
        plan=plan,
    )


def report_on(chunk: Chunk) -> Report:
    """Return an empty report on the attempt that ``chunk`` belongs to."""
    return Report(chunk.task.plan, chunk.task.number, chunk.attempt)


def add_up(reports: Iterable[_R]) -> list[_R]:
    """Return one report an attempt, in the order in which the attempts came first."""
    sums: dict[Hashable, list[_R]] = {}
    for report in reports:
        sums.setdefault(report.key, []).append(report)
    return [_total(parts) for parts in sums.values()]


def _total(parts: list[_R]) -> _R:
    """Add up parts, halves first: one by one each would be copied for all that follow."""
    half = len(parts) // 2
    return _total(parts[:half]) + _total(parts[half:]) if half else parts[0]


def add_reads(reads: Iterable[PartitionRead]) -> tuple[PartitionRead, ...]:
    """Add up what became of each partition's messages; ``start`` and ``end`` are around them."""
    sums: dict[int, PartitionRead] = {}
    for read in reads:
        total = sums.get(read.partition)
        sums[read.partition] = read if total is None else _sum(total, read)
    return tuple(sums[partition] for partition in sorted(sums))


def _sum(first: PartitionRead, second: PartitionRead) -> PartitionRead:
    times = [read.max_time for read in (first, second) if read.max_time is not None]
    return replace(
        first,
        start=min(first.start, second.start),
        end=max(first.end, second.end),
        messages=first.messages + second.messages,
        rows=first.rows + second.rows,
        dead_letters=first.dead_letters + second.dead_letters,
        tombstones=first.tombstones + second.tombstones,
        empty=first.empty + second.empty,
        max_time=max(times, default=None),
    )
