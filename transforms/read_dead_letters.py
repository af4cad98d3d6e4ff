"""ReadDeadLetters: the task of a redrive in, its dead letters out as chunks of messages again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import apache_beam as beam

from batch_collection.errors import CollectionError
from batch_collection.log.entry import PartitionRead
from batch_collection.paths import new_token
from batch_collection.storage.opening import open_storage
from transforms.elements.chunk import REPORTS, Chunk
from transforms.elements.report import Report, add_reads, report_on
from transforms.sources.contract import MESSAGES
from transforms.writing.dead_letters import read_letters

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    from apache_beam.pvalue import DoOutputsTuple, PCollection

    from transforms.elements.plan import RedrivePlan, Task

__all__ = ["ReadDeadLetters"]


@dataclass(eq=False)
class ReadDeadLetters(beam.PTransform):
    """Read files of dead letters as what they were: messages, whole and unchanged.

    In: ``Task`` of a ``RedrivePlan``. Out: ``Chunk`` of messages, then one marked ``last``; tagged
    ``reports``: a ``Report``, or why a file can't be read. Memory: one row group.
    """

    def expand(self, tasks: PCollection[Task]) -> DoOutputsTuple:
        """Wire it."""
        read = beam.ParDo(_ReadFn()).with_output_types(Chunk)
        chunks = tasks | read.with_outputs(REPORTS, main="chunks")
        chunks[REPORTS].element_type = Report
        return chunks


class _ReadFn(beam.DoFn):
    def process(self, task: Task) -> Iterator[Chunk | beam.pvalue.TaggedOutput]:
        plan: RedrivePlan = task.plan  # type: ignore[assignment]
        storage = open_storage(plan.collection)
        end = Chunk(task, new_token(), MESSAGES.empty_table(), last=True)
        reads: list[PartitionRead] = []
        try:
            for file in plan.letters:
                for messages in read_letters(storage, file):
                    reads += _counted(messages)
                    yield Chunk(task, end.attempt, messages)
        except CollectionError as error:
            yield beam.pvalue.TaggedOutput(REPORTS, report_on(end).failed(error))
            return
        yield end
        report = replace(report_on(end), read=True, reads=add_reads(reads))
        yield beam.pvalue.TaggedOutput(REPORTS, report)


def _counted(messages: pa.Table) -> Iterator[PartitionRead]:
    """Count messages by partition; ``start`` and ``end`` are around their offsets."""
    aggregates = [("offset", "min"), ("offset", "max"), ("offset", "count")]
    for found in messages.group_by("partition").aggregate(aggregates).to_pylist():
        start, end = found["offset_min"], found["offset_max"] + 1
        yield PartitionRead(found["partition"], start, end, messages=found["offset_count"])
