"""Pulling of tests: a stream in memory, and a step that reads a plan's pulls without an account.

It holds no message twice and loses none as long as nothing breaks, and is no more than drives need.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc

from batch_collection.log.entry import PartitionRead
from batch_collection.paths import new_token
from tests.leased_stream import LeasedStream, MemorySource
from transforms.elements.chunk import REPORTS, Chunk
from transforms.elements.report import Report, report_on
from transforms.process.events import CycleCommitted
from transforms.process.process import current
from transforms.sources.contract import LEASED_MESSAGES
from transforms.sources.pubsub.keeper import Keeper
from transforms.sources.pubsub.settings import Pulling, SubscriptionReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from apache_beam.pvalue import DoOutputsTuple, PCollection

    from transforms.elements.plan import Task
    from transforms.process.events import Event

__all__ = ["MemoryReader", "ToyPulls", "acknowledging", "memory_reader"]

_SOURCES: dict[str, MemorySource] = {}
_TAKEN: dict[str, list[pa.Array]] = {}
_FAST = 40
_WAIT_SECONDS = 0.02


@dataclass(frozen=True)
class MemoryReader(SubscriptionReader):
    """Pulls from a stream of this process, by a clock that goes ``_FAST`` times as fast."""

    name: str = field(default_factory=new_token)

    @property
    def source(self) -> MemorySource:
        """The source that is pulled from; each process has its own."""
        return _SOURCES[self.name]

    def pulling(self, stream: str, say: Callable[[str], None]) -> Pulling:
        """Return what this process has of it."""

        def begun() -> Pulling:
            source = _SOURCES[self.name] = MemorySource(self.source.stream, _WAIT_SECONDS)
            return Pulling.begun(source, say, self.bounds, lambda: time.monotonic() * _FAST)

        return current().kept((Keeper, stream), begun, lambda pulling: pulling.keeper.stop())


def memory_reader(stream: LeasedStream, **fields: Any) -> MemoryReader:
    """Return a reader of a stream."""
    reader = MemoryReader(**fields)
    _SOURCES[reader.name] = MemorySource(stream, _WAIT_SECONDS)
    return reader


@dataclass(eq=False)
class ToyPulls(beam.PTransform):
    """Reads what a process holds for a plan."""

    reader: SubscriptionReader

    def expand(self, tasks: PCollection[Task]) -> DoOutputsTuple:
        """Wire it."""
        read = beam.ParDo(_Pulls(self.reader)).with_output_types(Chunk)
        chunks = tasks | read.with_outputs(REPORTS, main="chunks")
        chunks[REPORTS].element_type = Report
        return chunks


@dataclass(eq=False)
class _Pulls(beam.DoFn):
    reader: SubscriptionReader

    def process(self, task: Task) -> Iterator[Chunk | beam.pvalue.TaggedOutput]:
        pull, plan = task.pull, task.plan.id
        assert pull is not None
        keeper = self.reader.pulling(pull.stream, print).keeper
        taken = keeper.take(plan, pull.messages, pull.bytes)
        if not taken.num_rows and isinstance(self.reader, MemoryReader):
            taken = self._pulled(self.reader.source.stream, task)
        _TAKEN.setdefault(plan, []).append(taken["id"])
        end = Chunk(task, new_token(), LEASED_MESSAGES.empty_table(), last=True)
        if taken.num_rows:
            yield replace(end, table=_messages(taken, pull.partition, pull.start), last=False)
        yield end
        yield beam.pvalue.TaggedOutput(REPORTS, _report(end, taken.num_rows))

    def _pulled(self, stream: LeasedStream, task: Task) -> pa.Table:
        """Pull what there is, as tasks on an engine do."""
        assert task.pull is not None
        keeper = self.reader.pulling(task.pull.stream, print).keeper
        keeper.pull(task.pull.seconds)
        while stream.left and task.pull.seconds and not keeper.waiting().messages:
            current().stop.wait(0.01)
        return keeper.take(task.plan.id, task.pull.messages, task.pull.bytes)


def _messages(taken: pa.Table, partition: int, start: int) -> pa.Table:
    count = taken.num_rows
    columns = [
        pa.array([partition] * count, pa.int32()),
        pa.array(range(start, start + count), pa.int64()),
        pc.cast(pc.cast(taken["published"], pa.timestamp("ms", "UTC"), safe=False), pa.int64()),
        taken["value"],
        pc.cast(taken["key"], pa.binary()),
        taken["attributes"],
        taken["id"],
        taken["published"],
    ]
    return pa.table(columns, schema=LEASED_MESSAGES)


def _report(end: Chunk, count: int) -> Report:
    assert end.task.pull is not None
    mine = end.task.pull.partition
    reads = tuple(
        PartitionRead(each.partition, each.start, each.end + count, count)
        if each.partition == mine
        else PartitionRead(each.partition, each.start, each.end)
        for each in end.task.slices
    )
    return replace(report_on(end), read=True, reads=reads)


@contextmanager
def acknowledging(reader: SubscriptionReader, stream: str) -> Iterator[None]:
    """Acknowledge what is committed, as long as the block lasts."""

    def hear(event: Event) -> None:
        if isinstance(event, CycleCommitted):
            keeper = reader.pulling(stream, print).keeper
            for ids in _TAKEN.pop(event.entry.plan, ()):
                keeper.release(ids)

    observers = current().observers
    observers.append(hear)
    try:
        yield
    finally:
        observers.remove(hear)
