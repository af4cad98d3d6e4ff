"""ReadDeadLetters: the task of a redrive in, its dead letters out as chunks of messages again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batch_collection.entry import PartitionRead
from batch_collection.errors import CollectionError, StorageError, in_one_line
from batch_collection.names import new_token
from batch_collection.storage import open_storage
from batch_collection.verified import decoding, open_verified
from transforms.chunk import MESSAGES, Chunk
from transforms.read_slices import REPORTS
from transforms.report import Report, add_reads, report_on
from transforms.write_dead_letters import RAW_STAMP

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apache_beam.pvalue import DoOutputsTuple, PCollection

    from batch_collection.entry import DeadLetterFile
    from batch_collection.storage import Storage
    from transforms.plan import RedrivePlan, Task

__all__ = ["ReadDeadLetters", "read_letters"]

_RAW_STAMP = rf"{RAW_STAMP[0]}(?P<ms>-?\d+){RAW_STAMP[1]}$"


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


def read_letters(storage: Storage, file: DeadLetterFile) -> Iterator[pa.Table]:
    """Yield the messages (``MESSAGES``) of a file of dead letters, row group by row group.

    Raises:
        DamagedFileError: it is not the file that the log tells of.
        FileGoneError: it isn't there.
        StorageError: it can't be read just now.
    """
    try:
        with (
            open_verified(storage, file) as source,
            decoding(storage, file),
            pq.ParquetFile(source) as letters,
        ):
            for group in range(letters.num_row_groups):
                yield _messages(letters.read_row_group(group))
    except OSError as error:
        message = f"cannot read {storage.uri}/{file.path}: {in_one_line(error)}"
        raise StorageError(message) from error


def _messages(letters: pa.Table) -> pa.Table:
    """Return what ``filed`` made of dead letters as messages again."""
    if "timestamp_ms" in letters.column_names:
        stamps = letters.column("timestamp_ms")
    else:
        raw = pc.extract_regex(letters.column("error"), _RAW_STAMP)
        stamps = letters.column("timestamp").cast(pa.int64())
        stamps = pc.coalesce(stamps, pc.struct_field(raw, "ms").cast(pa.int64()))
    place = letters.schema.get_field_index("timestamp")
    return letters.set_column(place, "timestamp", stamps).select(MESSAGES.names).cast(MESSAGES)


def _counted(messages: pa.Table) -> Iterator[PartitionRead]:
    """Count messages by partition; ``start`` and ``end`` are around their offsets."""
    aggregates = [("offset", "min"), ("offset", "max"), ("offset", "count")]
    for found in messages.group_by("partition").aggregate(aggregates).to_pylist():
        start, end = found["offset_min"], found["offset_max"] + 1
        yield PartitionRead(found["partition"], start, end, messages=found["offset_count"])
