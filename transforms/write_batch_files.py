"""WriteBatchFiles: batches in, staged files and the reports on them out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc

from batch_collection.checksum import ChecksumFile
from batch_collection.entry import BatchFile, CarryFile
from batch_collection.errors import CollectionError
from batch_collection.formats import FORMATS
from batch_collection.names import batch_path, carry_path, new_token, staged_path
from batch_collection.schema import conform, from_arrow, merge, to_arrow
from batch_collection.storage import open_storage
from batch_collection.windows import from_microseconds
from transforms.chunk import COMPRESSED, POSITION
from transforms.cut import CARRY, LATE, Segment
from transforms.metrics import count, timed
from transforms.progress import progress
from transforms.report import Failure, Report, WrittenBatch
from transforms.rows import InMemory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from apache_beam.pvalue import PCollection

    from batch_collection.storage import Storage
    from transforms.cut_batches import Batch

__all__ = ["METADATA", "ROW_GROUP", "Output", "WriteBatchFiles", "visible_rows"]

METADATA = ("none", "position", "full")
ROW_GROUP = 128 * 1024
"""Rows a row group, and so what of a batch is in memory at once, beside what already was."""


@dataclass(frozen=True, slots=True)
class Output:
    """How batch files look: format and compression (``formats``), metadata columns."""

    format: str = "parquet"
    compression: str = "zstd"
    metadata: str = "position"


@dataclass(eq=False)
class WriteBatchFiles(beam.PTransform):
    """Stage each batch as one file, under a name nobody else has; carry as an Arrow stream.

    In: ``Batch`` in its window. Out: ``Report``. A file's window is the Beam window of its batch.
    It is durable when its report is given; nobody reads it before the commit. Memory: one row
    group.
    """

    output: Output

    def expand(self, batches: PCollection[Batch]) -> PCollection[Report]:
        """Wire it."""
        return batches | beam.ParDo(_WriteFn(self.output)).with_output_types(Report)


@dataclass(eq=False)
class _WriteFn(beam.DoFn):
    output: Output

    def process(
        self,
        batch: Batch,
        window: Any = beam.DoFn.WindowParam,
    ) -> Iterator[Report]:
        plan = batch.task.plan
        report = Report(plan, batch.task.number, batch.attempt)
        storage = open_storage(plan.collection)
        start = from_microseconds(window.start.micros)
        try:
            if batch.cut.timing == CARRY:
                carried = _write_carry(storage, batch, start)
                yield replace(report, carried=(carried,))
            else:
                with timed("write_milliseconds"):
                    file = _write_batch(storage, batch, start, self.output)
                count("files")
                count("bytes", file.bytes)
                count("late_rows", file.rows if batch.cut.timing == LATE else 0)
                written = WrittenBatch(start, batch.cut.timing, batch.number, file)
                yield replace(report, batches=(written,))
                progress.files += 1
        except (CollectionError, FileNotFoundError) as error:
            yield replace(report, failure=Failure(type(error).__name__, str(error)))


def _write_batch(storage: Storage, batch: Batch, start: datetime, output: Output) -> BatchFile:
    file_format = FORMATS[output.format]
    cycle, shard = batch.task.plan.cycle, batch.task.number
    suffix = file_format.suffix(output.compression)
    path = batch_path(start, cycle, shard, batch.number, new_token(), suffix)
    staged = staged_path(cycle, path)
    rows = _Rows.of(storage, batch)
    summary = _Summary()
    with ChecksumFile(storage.write(staged)) as sink:
        schema = rows.visible(rows.schema.empty_table(), output.metadata).schema
        writer = file_format.writer(sink, schema, output.compression)
        for table in rows.groups(ROW_GROUP):
            summary.add(table)
            writer.write(rows.visible(table, output.metadata))
        writer.close()
    return BatchFile(
        path=path,
        staged=staged,
        rows=batch.cut.rows,
        bytes=sink.bytes,
        crc32c=sink.crc32c,
        min_time=from_microseconds(summary.min_time),
        max_time=from_microseconds(summary.max_time),
        offsets=summary.offsets,
    )


def _write_carry(storage: Storage, batch: Batch, start: datetime) -> CarryFile:
    path = carry_path(batch.task.plan.cycle, new_token())
    rows = _Rows.of(storage, batch)
    with (
        ChecksumFile(storage.write(path)) as sink,
        pa.ipc.new_stream(sink, rows.schema, options=COMPRESSED) as writer,
    ):
        for table in rows.groups(ROW_GROUP):
            writer.write_table(table)
    return CarryFile(path, start, batch.cut.rows, batch.task.number, sink.bytes, sink.crc32c)


def visible_rows(rows: pa.Table, metadata: str, *, indexed: bool) -> pa.Table:
    """Return rows as they stand in a batch file: the payload's columns, then the metadata's.

    Args:
        rows: ``POSITION`` and ``payload``.
        metadata: ``none``, ``position`` or ``full``.
        indexed: whether messages hold arrays, so that a row's place in its message counts.
    """
    payload = rows.column("payload")
    columns = dict(zip([f.name for f in payload.type], payload.flatten(), strict=True))
    if metadata != "none":
        columns |= {f"_{name}": rows.column(name) for name in ("partition", "offset", "timestamp")}
        if indexed:
            columns["_index"] = rows.column("index")
    if metadata == "full":
        columns |= {"_key": rows.column("key"), "_headers": rows.column("headers")}
    return pa.table(columns)


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of a batch, wherever they are; read piece by piece, in their order."""

    segments: tuple[Segment, ...]
    schema: pa.Schema
    indexed: bool

    @classmethod
    def of(cls, storage: Storage, batch: Batch) -> _Rows:
        """Fetch carry files; find the schema that holds all rows."""
        segments = tuple(
            segment._replace(source=_carry(storage, segment.source))
            if isinstance(segment.source, CarryFile)
            else segment
            for segment in batch.cut.segments
        )
        sources: list[Any] = [segment.source for segment in segments]
        payload = batch.task.plan.schema
        for source in sources:
            payload = merge(payload, from_arrow(source.schema.field("payload").type))
        schema = POSITION.append(pa.field("payload", to_arrow(payload)))
        return cls(segments, schema, any(source.indexed for source in sources))

    def visible(self, rows: pa.Table, metadata: str) -> pa.Table:
        """Return rows as they stand in the file."""
        return visible_rows(rows, metadata, indexed=self.indexed)

    def groups(self, rows: int) -> Iterator[pa.Table]:
        """Yield tables of about ``rows`` rows, all of the same schema."""
        held: list[pa.Table] = []
        for segment in self.segments:
            for piece in _pieces(segment, rows):
                held.append(self._conformed(piece))
                if sum(table.num_rows for table in held) >= rows:
                    yield pa.concat_tables(held)
                    held = []
        if held:
            yield pa.concat_tables(held)

    def _conformed(self, rows: pa.Table) -> pa.Table:
        payload = self.schema.field("payload")
        column = rows.column("payload")
        if column.type != payload.type:
            column = conform(column, payload.type)
        return rows.select(POSITION.names).append_column(payload, column)


def _carry(storage: Storage, file: CarryFile) -> InMemory:
    with storage.open(file.path) as source, pa.ipc.open_stream(source) as reader:
        return InMemory(reader.read_all())


def _pieces(segment: Segment, rows: int) -> Iterator[pa.Table]:
    table = segment.source.load().slice(segment.start, segment.rows)  # type: ignore[attr-defined]
    for start in range(0, segment.rows, rows):
        yield table.slice(start, rows)


@dataclass(slots=True)
class _Summary:
    """What an entry says of a file's rows."""

    min_time: int = 2**63 - 1
    max_time: int = -(2**63)
    offsets: dict[int, tuple[int, int, int]] = field(default_factory=dict)

    def add(self, rows: pa.Table) -> None:
        times = pc.min_max(rows.column("row_time")).as_py()
        self.min_time = min(self.min_time, times["min"])
        self.max_time = max(self.max_time, times["max"])
        aggregates = [("offset", "min"), ("offset", "max"), ("offset", "count")]
        found = rows.select(["partition", "offset"]).group_by("partition").aggregate(aggregates)
        for row in found.to_pylist():
            first, last, count = self.offsets.get(row["partition"], (row["offset_min"], -1, 0))
            self.offsets[row["partition"]] = (
                min(first, row["offset_min"]),
                max(last, row["offset_max"]),
                count + row["offset_count"],
            )
