"""ReadSlices: tasks in, chunks of messages out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import apache_beam as beam
import pyarrow as pa

from batch_collection.log.entry import PartitionRead
from batch_collection.parallel import prefetched
from batch_collection.paths import entry_path, new_token
from batch_collection.storage.opening import open_storage
from transforms.elements.attempt import attempted
from transforms.elements.chunk import REPORTS, Chunk
from transforms.elements.partitions import Partitions
from transforms.elements.report import Report, report_on
from transforms.sources.contract import MESSAGES, Gap

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from apache_beam.pvalue import DoOutputsTuple, PCollection

    from transforms.elements.plan import Task
    from transforms.sources.contract import Reader

__all__ = ["ReadSlices"]


@dataclass(eq=False)
class ReadSlices(beam.PTransform):
    """Read the offsets of each task, all partitions of it at once, each partition in order.

    In: ``Task``. Out: ``Chunk`` of messages, then one marked ``last``; tagged ``reports``: a
    ``Report``. A task whose cycle has an entry already is dropped. Read again, a task gives the
    same messages under a new attempt. What can't be read travels on as a report's failure. A thread
    reads the next chunk while one is decoded.

    Attributes:
        reader: the source's.
        skip_lost: go on where retention has deleted messages, and record the gap.
    """

    reader: Reader
    skip_lost: bool = False

    def expand(self, tasks: PCollection[Task]) -> DoOutputsTuple:
        """Wire it."""
        read = beam.ParDo(_ReadFn(self.reader, skip_lost=self.skip_lost))
        chunks = tasks | read.with_output_types(Chunk).with_outputs(REPORTS, main="chunks")
        chunks[REPORTS].element_type = Report
        return chunks


@dataclass(eq=False)
class _ReadFn(beam.DoFn):
    reader: Reader
    skip_lost: bool

    def process(self, task: Task) -> Iterator[Chunk | beam.pvalue.TaggedOutput]:
        if open_storage(task.plan.collection).size(entry_path(task.plan.cycle)) is not None:
            return
        end = Chunk(task, new_token(), MESSAGES.empty_table(), last=True)
        tally = _Count()
        yield from attempted(end, self._tables(task, tally), tally.report)

    def _tables(self, task: Task, tally: _Count) -> Iterator[pa.Table]:
        slices = self.reader.read(task.slices, skip_lost=self.skip_lost)
        yield from tally.counted(prefetched(slices))


@dataclass
class _Count:
    """What was read, by partition."""

    messages: Counter[int] = field(default_factory=Counter)
    lost: Counter[int] = field(default_factory=Counter)

    def counted(self, found: Iterable[pa.RecordBatch | Gap]) -> Iterator[pa.Table]:
        """Count what comes, and yield the messages."""
        for each in found:
            if isinstance(each, Gap):
                self.lost[each.partition] += each.end - each.start
                continue
            self.messages.update(Partitions.of(each.column("partition")).counts())
            yield pa.Table.from_batches([each])

    def report(self, end: Chunk) -> Report:
        reads = tuple(
            PartitionRead(
                partition=part.partition,
                start=part.start,
                end=part.end,
                messages=self.messages[part.partition],
                lost=part.lost + self.lost[part.partition],
            )
            for part in end.task.slices
        )
        return replace(report_on(end), read=True, reads=reads)
