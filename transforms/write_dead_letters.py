"""WriteDeadLetters: chunks of dead letters in, one staged file a task and the report on it out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.transforms.window import GlobalWindows

from batch_collection.checksum import ChecksumFile
from batch_collection.entry import DeadLetterFile
from batch_collection.errors import WriteError
from batch_collection.formats import FORMATS
from batch_collection.names import dead_letters_path, new_token, staged_path
from batch_collection.storage import open_storage
from transforms.headers import headers_by
from transforms.report import Report, report_on
from transforms.row_time import within_years

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apache_beam.pvalue import PCollection
    from apache_beam.utils.windowed_value import WindowedValue

    from batch_collection.formats import BatchWriter
    from transforms.chunk import Chunk
    from transforms.plan import Plan

__all__ = ["RAW_STAMP", "WriteDeadLetters", "filed"]

RAW_STAMP = ("; record timestamp ", " ms")
"""What stands around a stamp behind the reasons of format 1."""


def filed(letters: pa.Table, plan: Plan) -> pa.Table:
    """Return dead letters as they stand in a file of the plan's collection.

    ``timestamp`` is an instant, null where it is beyond what readers can show. The milliseconds as
    they came are in ``timestamp_ms``, in format 1, which has no such column, behind the reason.
    """
    place = letters.schema.get_field_index("timestamp")
    stamps = letters.column(place)
    fits = within_years(stamps)
    shown = pc.if_else(fits, stamps, pa.scalar(None, pa.int64())).cast(pa.timestamp("ms", "UTC"))
    table = headers_by(plan.form, letters.set_column(place, "timestamp", shown))
    if plan.format > 1:
        return table.add_column(place + 1, "timestamp_ms", stamps)
    errors = letters.column("error")
    beyond = pc.if_else(fits, pa.scalar(None, pa.int64()), stamps).cast(pa.string())
    told = pc.binary_join_element_wise(errors, RAW_STAMP[0], beyond, RAW_STAMP[1], "")
    place = letters.schema.get_field_index("error")
    return table.set_column(place, "error", pc.coalesce(told, errors))


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
