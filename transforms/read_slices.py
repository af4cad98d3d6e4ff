"""ReadSlices: tasks in, chunks of messages out."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import apache_beam as beam
import pyarrow as pa
from apache_beam.pvalue import TaggedOutput
from apache_beam.utils.windowed_value import WindowedValue

from batch_collection.log.entry import PartitionRead
from batch_collection.parallel import Upcoming
from batch_collection.paths import entry_path, new_token
from batch_collection.storage.opening import open_storage
from transforms.elements.attempt import attempted
from transforms.elements.chunk import REPORTS, Chunk
from transforms.elements.partitions import Partitions
from transforms.elements.report import Report, report_on
from transforms.process.process import current
from transforms.sources.contract import MESSAGES, Gap

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from concurrent.futures import Future

    from apache_beam.pvalue import DoOutputsTuple, PCollection

    from transforms.elements.plan import Plan, Task
    from transforms.sources.contract import Reader

__all__ = ["AT_ONCE", "ReadSlices"]

AT_ONCE = 8
"""Tasks of a bundle that are read at once at most: each takes a client of the source's."""
_MOST_MESSAGES = 40_000  # of those: what is small is waited for, what is large is worked on


@dataclass(eq=False)
class ReadSlices(beam.PTransform):
    """Read the offsets of each task, all partitions of it at once, each partition in order.

    In: ``Task``. Out: ``Chunk`` of messages, then one marked ``last``; tagged ``reports``: a
    ``Report``. A task whose cycle has an entry already is dropped, unless all are ``fresh``. Read
    again, a task gives the same messages under a new attempt. What can't be read travels on as a
    report's failure. A thread reads the next chunk while one is decoded; of small tasks of a
    bundle, several are read at once, and handed on in their order.

    Attributes:
        reader: the source's.
        skip_lost: go on where retention has deleted messages, and record the gap.
        fresh: tasks come as soon as they are planned, and none again that was committed: engines
            bring back what is long over. Then nothing is asked of the storage before reading.
    """

    reader: Reader
    skip_lost: bool = False
    fresh: bool = False

    def expand(self, tasks: PCollection[Task]) -> DoOutputsTuple:
        """Wire it."""
        read = beam.ParDo(_ReadFn(self.reader, skip_lost=self.skip_lost, fresh=self.fresh))
        chunks = tasks | read.with_output_types(Chunk).with_outputs(REPORTS, main="chunks")
        chunks[REPORTS].element_type = Report
        return chunks


class _Reading(NamedTuple):
    """A task that is being read, the size of its cycle's entry, and where it came from for Beam."""

    end: Chunk
    found: Upcoming[pa.RecordBatch | Gap]
    committed: Future[int | None] | None
    window: Any
    timestamp: Any

    @property
    def messages(self) -> int:
        return sum(part.end - part.first for part in self.end.task.slices)


@dataclass(eq=False)
class _ReadFn(beam.DoFn):
    reader: Reader
    skip_lost: bool
    fresh: bool
    _begun: deque[_Reading] = field(default_factory=deque)

    def start_bundle(self) -> None:
        self.teardown()

    def process(
        self,
        task: Task,
        window: Any = beam.DoFn.WindowParam,
        timestamp: Any = beam.DoFn.TimestampParam,
    ) -> Iterator[WindowedValue | TaggedOutput]:
        end = Chunk(task, new_token(), MESSAGES.empty_table(), last=True)
        found = Upcoming(self.reader.read(task.slices, skip_lost=self.skip_lost))
        committed = None
        if not self.fresh:
            look = current().threads("looking", AT_ONCE)  # beside reading: it may be far away
            committed = look.submit(_size_of_entry, task.plan)
        self._begun.append(_Reading(end, found, committed, window, timestamp))
        while self._is_full:
            yield from self._handed_on()

    def finish_bundle(self) -> Iterator[WindowedValue | TaggedOutput]:
        while self._begun:
            yield from self._handed_on()

    def teardown(self) -> None:
        """Leave what a bundle that broke off had begun."""
        while self._begun:
            self._begun.popleft().found.close()

    @property
    def _is_full(self) -> bool:
        messages = sum(each.messages for each in self._begun)
        return bool(self._begun) and (len(self._begun) >= AT_ONCE or messages > _MOST_MESSAGES)

    def _handed_on(self) -> Iterator[WindowedValue | TaggedOutput]:
        """Yield what is read of the first task that was begun."""
        reading, tally = self._begun.popleft(), _Count()
        try:
            if reading.committed is not None and reading.committed.result() is not None:
                return
            tables = tally.counted(reading.found)
            for output in attempted(reading.end, tables, tally.report):
                yield _placed(output, reading)
        finally:
            reading.found.close()


def _size_of_entry(plan: Plan) -> int | None:
    return open_storage(plan.collection).size(entry_path(plan.cycle))


def _placed(output: Chunk | TaggedOutput, reading: _Reading) -> WindowedValue | TaggedOutput:
    if isinstance(output, TaggedOutput):
        return TaggedOutput(output.tag, _placed(output.value, reading))
    return WindowedValue(output, reading.timestamp, (reading.window,))


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
