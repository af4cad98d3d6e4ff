"""WriteDeadLetters: chunks of dead letters in, one staged file a task and the report on it out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows

from batch_collection.errors import WriteError
from batch_collection.formats.known import FORMATS
from batch_collection.log.entry import DeadLetterFile
from batch_collection.paths import dead_letters_path, new_token, staged_path
from batch_collection.storage.checksum import ChecksumFile
from batch_collection.storage.opening import open_storage
from transforms.elements.report import Report, report_on
from transforms.writing.dead_letters import filed

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    from apache_beam.pvalue import PCollection
    from apache_beam.utils.windowed_value import WindowedValue

    from batch_collection.formats.contract import BatchWriter
    from transforms.elements.chunk import Chunk

__all__ = ["WriteDeadLetters"]


@dataclass(eq=False)
class WriteDeadLetters(beam.PTransform):
    """Stage the messages no row could be made of, whole, as Parquet.

    In: ``Chunk`` of ``MESSAGES`` with ``stage`` and ``error``. Out: ``Report``. A task ends with
    its chunk marked ``last``, or with the bundle. Memory: one chunk.
    """

    def expand(self, chunks: PCollection[Chunk]) -> PCollection[Report]:
        """Wire it."""
        return chunks | beam.ParDo(_WriteFn()).with_output_types(Report)


@dataclass
class _Open:
    """A file that is being written."""

    chunk: Chunk
    path: str
    sink: ChecksumFile
    writer: BatchWriter
    messages: int = 0

    def add(self, table: pa.Table) -> None:
        self.writer.write(filed(table, self.chunk.task.plan))
        self.messages += table.num_rows

    def close(self) -> Report:
        if (held := self.writer.close()) != self.messages:
            message = f"{self.path} was written with rows={held} of {self.messages}"
            raise WriteError(message)
        self.sink.close()
        staged = staged_path(self.chunk.task.plan.cycle, self.path)
        file = DeadLetterFile(self.path, staged, self.messages, self.sink.bytes, self.sink.crc32c)
        return replace(report_on(self.chunk), dead_letters=(file,))


@dataclass(eq=False)
class _WriteFn(beam.DoFn):
    _open: dict[tuple[str, int, str], _Open] = field(default_factory=dict)

    def start_bundle(self) -> None:
        self._open = {}

    def process(self, chunk: Chunk) -> Iterator[Report]:
        key = report_on(chunk).key
        try:
            if not chunk.last:
                if key not in self._open:
                    self._open[key] = _start(chunk)
                self._open[key].add(chunk.table)
            elif key in self._open:
                yield self._open.pop(key).close()
        except Exception as error:  # noqa: BLE001 - whatever it is, other topics go on
            if (file := self._open.pop(key, None)) is not None:
                file.sink.abandon()
            yield report_on(chunk).unwritten(error, "dead letters")

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for file in self._open.values():
            try:
                report = file.close()
            except Exception as error:  # noqa: BLE001 - as above
                file.sink.abandon()
                report = report_on(file.chunk).unwritten(error, "dead letters")
            yield GlobalWindows.windowed_value(report)
        self._open = {}


def _start(chunk: Chunk) -> _Open:
    plan = chunk.task.plan
    storage = open_storage(plan.collection)
    planned_at = plan.planned_at.replace(microsecond=0)
    path = dead_letters_path(planned_at, plan.cycle, chunk.task.number, new_token())
    sink = ChecksumFile(storage.write(staged_path(plan.cycle, path)))
    schema = filed(chunk.table.schema.empty_table(), plan).schema
    return _Open(chunk, path, sink, FORMATS["parquet"].writer(sink, schema, "zstd"))
