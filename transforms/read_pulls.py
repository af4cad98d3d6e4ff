"""ReadPulls: tasks that pull in, chunks of messages with ids out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch_collection.log.entries import read_entry
from batch_collection.log.entry import IdFile, PartitionRead
from batch_collection.paths import entry_path, ids_path, new_token, staged_path
from batch_collection.storage.checksum import crc32c
from batch_collection.storage.opening import open_storage
from transforms.elements.attempt import attempted
from transforms.elements.chunk import REPORTS, Chunk
from transforms.elements.observers import say
from transforms.elements.plan import ACKNOWLEDGED
from transforms.elements.report import Gathered, Report, report_on
from transforms.process.process import current
from transforms.sources.contract import LEASED_MESSAGES, Remembering
from transforms.sources.pubsub.claims import claim
from transforms.sources.pubsub.id_lists import alike, repeated
from transforms.sources.pubsub.ids import IdSet
from transforms.sources.pubsub.releasing import releasing_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apache_beam.pvalue import DoOutputsTuple, PCollection

    from batch_collection.log.entry import Entry
    from batch_collection.storage.contract import Storage
    from transforms.elements.plan import Task
    from transforms.sources.contract import Pull
    from transforms.sources.pubsub.id_lists import IdLists
    from transforms.sources.pubsub.releasing import Releasing
    from transforms.sources.pubsub.settings import Pulling, SubscriptionReader

__all__ = ["ReadPulls"]

_TICK_SECONDS = 0.05
_MOST_ROWS, _MOST_BYTES = 10_000, 16_000_000  # of a chunk


@dataclass(eq=False)
class ReadPulls(beam.PTransform):
    """Pull what each task asks for, and give what no entry has and no other task claims.

    In: ``Task`` with a ``pull``. Out: ``Chunk`` of messages, then one marked ``last``; tagged
    ``reports``: a ``Report``. A task whose cycle has an entry already is dropped. Read again, a
    task gives other messages under a new attempt; those of the first one come with the next plan.
    What can't be read travels on as a report's failure.

    Attributes:
        reader: what this process pulls with.
    """

    reader: SubscriptionReader

    def expand(self, tasks: PCollection[Task]) -> DoOutputsTuple:
        """Wire it."""
        read = beam.ParDo(_PullFn(self.reader)).with_output_types(Chunk)
        chunks = tasks | read.with_outputs(REPORTS, main="chunks")
        chunks[REPORTS].element_type = Report
        return chunks


@dataclass(eq=False)
class _PullFn(beam.DoFn):
    reader: SubscriptionReader

    def process(self, task: Task) -> Iterator[Chunk | beam.pvalue.TaggedOutput]:
        storage = open_storage(task.plan.collection)
        if storage.size(entry_path(task.plan.cycle)) is not None:
            return
        end = Chunk(task, new_token(), LEASED_MESSAGES.empty_table(), last=True)
        attempt = _Attempt(storage, self.reader, task)
        yield from attempted(end, attempt.tables(), attempt.report)


class _Claimed(NamedTuple):
    """Messages that an attempt is to decode, and what it reports of all that it has pulled."""

    messages: pa.Table
    claims: tuple[IdFile, ...] = ()
    gathered: tuple[Gathered, ...] = ()
    acknowledged: tuple[str, ...] = ()
    repeated: int = 0
    left: int = 0
    oldest: pa.Scalar | None = None

    def report(self, end: Chunk) -> Report:
        count = self.messages.num_rows
        assert end.task.pull is not None  # noqa: S101 - of a leased source each task has one
        mine = end.task.pull.partition
        reads = tuple(
            PartitionRead(part.partition, part.start, part.end + count, count)
            if part.partition == mine
            else PartitionRead(part.partition, part.start, part.end)
            for part in end.task.slices
        )
        return replace(
            report_on(end),
            read=True,
            reads=reads,
            claims=self.claims,
            gathered=self.gathered,
            acknowledged=self.acknowledged,
            repeated=self.repeated,
            left=self.left,
            oldest=None if self.oldest is None else self.oldest.as_py(),
        )


@dataclass(slots=True)
class _Attempt:
    storage: Storage
    reader: SubscriptionReader
    task: Task
    _claimed: _Claimed | None = None

    def tables(self) -> Iterator[pa.Table]:
        """Pull and claim, and yield what is claimed in parts that are decoded at once."""
        self._claimed = self.claimed()
        yield from _parts(self._claimed.messages)

    def report(self, end: Chunk) -> Report:
        """Return the report on all of it."""
        assert self._claimed is not None  # noqa: S101 - it was read
        return self._claimed.report(end)

    def claimed(self) -> _Claimed:
        """Pull, drop what the log has, and claim the rest."""
        plan, pull = self.task.plan, self.task.pull
        assert pull is not None  # noqa: S101 - of a leased source each task has one
        pulling = self.reader.pulling(pull.stream, say)
        releasing = releasing_of(pulling, pull.stream, self.storage)
        releasing.look()
        before = read_entry(self.storage, plan.cycle - 1)
        releasing.named(before)
        if plan.cause == ACKNOWLEDGED:
            return _Claimed(LEASED_MESSAGES.empty_table(), acknowledged=releasing.answered())
        rules = plan.remembering or Remembering()
        sets = releasing.lists.hold(before.ids, rules)
        taken, oldest = self._taken(pulling, releasing, pull)
        again = repeated(taken, before.ids, sets, pull.stream)
        if again.any():
            pulling.keeper.release(taken["id"].filter(pa.array(again)))
        fresh = taken.filter(pa.array(~again))
        ours = np.ones(fresh.num_rows, bool)
        if fresh.num_rows and plan.tasks > 1:  # else nobody could claim them, too
            ours = claim(self.storage, plan.cycle, plan.id, str(self.task.number), fresh["id"]).ours
        mine = fresh.filter(pa.array(ours))
        return _Claimed(
            messages=_messages(mine, pull),
            claims=self._listed(IdSet.of(mine["id"])),
            gathered=self._gathered(before, rules, releasing.lists),
            acknowledged=releasing.acknowledged(),
            repeated=int(again.sum()),
            left=fresh.num_rows - mine.num_rows,
            oldest=oldest,
        )

    def _taken(
        self, pulling: Pulling, releasing: Releasing, pull: Pull
    ) -> tuple[pa.Table, pa.Scalar | None]:
        """Take what waits, and what comes while the plan's tasks of this process pull.

        They do so at the same time, also where a runner works them off one after the other.

        Returns:
            The messages, and when the oldest was published if that is all that a task may take.
        """
        keeper, plan = pulling.keeper, self.task.plan
        end = releasing.takes(plan.id, plan.cycle) + pull.seconds
        if pull.seconds:
            releasing.watch()
            keeper.pull(end - pulling.clock())
        while pulling.clock() < end and not current().stop.is_set():
            waiting = keeper.waiting()
            if waiting.messages >= pull.messages or waiting.bytes >= pull.bytes:
                break
            current().stop.wait(_TICK_SECONDS)
        releasing.takes(plan.id, plan.cycle)  # again: it may have been over meanwhile
        taken = keeper.take(plan.id, pull.messages, pull.bytes)
        is_full = taken.num_rows >= pull.messages or taken.nbytes >= pull.bytes / 2
        is_told = is_full and taken.num_rows > 0
        return taken, pc.min(taken["published"]) if is_told else None

    def _listed(self, ids: IdSet) -> tuple[IdFile, ...]:
        """Stage a list of ids, unless there are none."""
        if not len(ids):
            return ()
        cycle = self.task.plan.cycle
        path = ids_path(cycle, self.task.number, new_token())
        content, staged = ids.to_parquet(), staged_path(cycle, path)
        with self.storage.write(staged) as sink:
            sink.write(content)
        return (IdFile(path, staged, len(ids), len(content), crc32c(content)),)

    def _gathered(self, before: Entry, rules: Remembering, lists: IdLists) -> tuple[Gathered, ...]:
        """Merge lists of the entry before; one task of a plan does."""
        groups = alike(before.ids, rules) if self.task.number == 0 else []
        return tuple(
            Gathered(file, tuple(part.path for part in group))
            for group in groups
            for file in self._listed(IdSet.union(lists.of(part) for part in group))
        )


def _messages(taken: pa.Table, pull: Pull) -> pa.Table:
    """Return messages at the addresses that their shard gives them."""
    count = taken.num_rows
    milliseconds = pc.cast(taken["published"], pa.timestamp("ms", "UTC"), safe=False)
    columns = [
        pa.array(np.full(count, pull.partition), pa.int32()),
        pa.array(np.arange(pull.start, pull.start + count), pa.int64()),
        pc.cast(milliseconds, pa.int64()),
        taken["value"],
        pc.cast(taken["key"], pa.binary()),
        taken["attributes"],
        taken["id"],
        taken["published"],
    ]
    return pa.table(columns, schema=LEASED_MESSAGES)


def _parts(messages: pa.Table) -> Iterator[pa.Table]:
    """Yield messages in parts that are decoded at once."""
    fitting = _MOST_BYTES * messages.num_rows // max(messages.nbytes, 1)
    rows = max(1, min(_MOST_ROWS, fitting))
    for start in range(0, messages.num_rows, rows):
        yield messages.slice(start, rows)
