"""WriteBatchFiles: batches in, staged files and the reports on them out."""

from __future__ import annotations

import operator
import os
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import compress
from typing import TYPE_CHECKING, Any, NamedTuple

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.utils.windowed_value import WindowedValue

from batch_collection.checksum import ChecksumFile
from batch_collection.entry import FORMAT, FORMS, BatchFile, CarryFile
from batch_collection.errors import WriteError
from batch_collection.formats import FORMATS, format_named
from batch_collection.names import (
    PLACEHOLDER,
    batch_path,
    carry_path,
    new_token,
    staged_path,
)
from batch_collection.schema import conform, conform_exactly, from_arrow, merge, to_arrow
from batch_collection.storage import Sink, open_storage
from batch_collection.windows import format_instant, from_microseconds
from transforms.chunk import COMPRESSED, POSITION
from transforms.cut import CARRY, LATE, Segment
from transforms.headers import headers_by
from transforms.metrics import count, timed
from transforms.progress import progress
from transforms.report import Report, WrittenBatch
from transforms.rows import Carried

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from apache_beam.pvalue import PCollection
    from typing_extensions import Buffer

    from batch_collection.entry import Form
    from batch_collection.storage import Storage
    from batch_collection.verified import Verified
    from transforms.cut_batches import Batch

    _Finish = Callable[[], dict[str, Any]]  # makes the file durable, gives its place
    _Encode = Callable[[], _Finish]  # writes the last rows

__all__ = [
    "ENCODERS",
    "METADATA",
    "MOST_CLOSING",
    "ROW_GROUP",
    "Output",
    "WriteBatchFiles",
    "visible_rows",
]

METADATA = ("none", "position", "full")
ROW_GROUP = 128 * 1024
ROW_GROUP_BYTES = 64 << 20
"""Rows and bytes of a row group, and so what of a batch is in memory beside what already was."""
MOST_CLOSING = 8
"""Files of a process that are becoming durable at once."""
ENCODERS = min(os.cpu_count() or 1, 4)
"""Files of a process whose last row group is being encoded at once."""
_FEW_ROWS = 1_000  # no other thread begins sooner than they are encoded
_SMALL = 1 << 20  # bytes of a file that may wait in memory until it is closed


@dataclass(frozen=True, slots=True)
class Output:
    """How batch files look: format and compression (``formats``), metadata columns."""

    format: str = "parquet"
    compression: str = "zstd"
    metadata: str = "position"


@dataclass(eq=False)
class WriteBatchFiles(beam.PTransform):
    """Stage each batch as one file, under a name nobody else has; carry as an Arrow stream.

    In: ``Batch`` in its window. Out: ``Report`` in the same window, at some later time of the
    bundle. A file's window is the Beam window of its batch. It is durable when its report is given;
    nobody reads it before the commit. Threads encode the last row group of each file, as many at
    once as there are CPUs, and let the storage make it durable; meanwhile the next file is written,
    and chunks are read and decoded. Memory: ``ENCODERS`` row groups and one, and of
    ``MOST_CLOSING`` files what their storage has not taken yet (``gcs_upload.PART``).
    """

    output: Output

    def expand(self, batches: PCollection[Batch]) -> PCollection[Report]:
        """Wire it."""
        return batches | beam.ParDo(_WriteFn(self.output)).with_output_types(Report)


_encoders = ThreadPoolExecutor(ENCODERS, "encoding")
_closers = ThreadPoolExecutor(MOST_CLOSING, "closing")


class _Closing(NamedTuple):
    """A report on ``what``, given in a window once the file is encoded, then durable."""

    report: Report
    what: str
    file: Future[Future[dict[str, Any]]]
    window: Any

    @property
    def is_done(self) -> bool:
        """Whether nothing has to be waited for."""
        done = self.file.done()
        return done and (self.file.exception() is not None or self.file.result().done())

    def given(self) -> WindowedValue:
        """Wait for the file; give the report, or why there is none."""
        try:
            report = replace(self.report, **self.file.result().result())
            progress.files += len(report.batches)
            for batch in report.batches:
                count("files")
                count("bytes", batch.file.bytes)
                count("late_rows", batch.file.rows if batch.timing == LATE else 0)
        except Exception as error:  # noqa: BLE001 - whatever it is, other topics go on
            report = self.report.unwritten(error, self.what)
        return WindowedValue(report, self.window.start, (self.window,))


@dataclass(eq=False)
class _WriteFn(beam.DoFn):
    output: Output
    _closing: deque[_Closing] = field(default_factory=deque)
    _verified: Verified = field(default_factory=set)

    def start_bundle(self) -> None:
        self._closing = deque()
        self._verified = set()

    def process(
        self,
        batch: Batch,
        window: Any = beam.DoFn.WindowParam,
    ) -> Iterator[Any]:
        plan = batch.task.plan
        report = Report(plan, batch.task.number, batch.attempt)
        storage = open_storage(plan.collection)
        start = from_microseconds(window.start.micros)
        what = _what(batch, start, self.output)
        try:
            rows = _Rows.of(storage, batch, self._verified)
            encodes = _write(storage, batch, rows, start, self.output)
            if batch.cut.timing != CARRY and not _is_small(batch.cut.rows):
                with timed("write_milliseconds"):
                    self._wait_for_encoder()
        except Exception as error:  # noqa: BLE001 - whatever it is, other topics go on
            yield report.unwritten(error, what, _bad_column(storage, batch, self.output))
            return
        encoded = _encoded if _is_small(batch.cut.rows) else _submitted
        files = [encoded(encode) for encode in encodes]
        self._closing += (_Closing(report, what, file, window) for file in files)
        while self._closing and (len(self._closing) > MOST_CLOSING or self._closing[0].is_done):
            yield self._closing.popleft().given()

    def _wait_for_encoder(self) -> None:
        """Wait until fewer than ``ENCODERS`` files are being encoded."""
        encoded = [closing.file for closing in self._closing if not closing.file.done()]
        if len(encoded) >= ENCODERS:
            wait(encoded, return_when=FIRST_COMPLETED)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        while self._closing:
            yield self._closing.popleft().given()


def _submitted(encode: _Encode) -> Future[Future[dict[str, Any]]]:
    return _encoders.submit(lambda: _closers.submit(encode()))


def _encoded(encode: _Encode) -> Future[Future[dict[str, Any]]]:
    """Encode a small file here, and let a thread do what has to be waited for."""
    encoded: Future[Future[dict[str, Any]]] = Future()
    try:
        encoded.set_result(_closers.submit(encode()))
    except Exception as error:  # noqa: BLE001 - it is what the report says
        encoded.set_exception(error)
    return encoded


def _is_small(rows: int) -> bool:
    """Tell whether threads cost more than they spare."""
    return rows <= _FEW_ROWS


def _sink(storage: Storage, path: str, rows: _Rows) -> ChecksumFile:
    return ChecksumFile(_Gathered(storage, path) if _is_small(rows.count) else storage.write(path))


class _Gathered(Sink):
    """A small file: it is written when it is closed, by the thread that closes it."""

    def __init__(self, storage: Storage, path: str) -> None:
        super().__init__()
        self._storage, self._path = storage, path
        self._parts: list[bytes] = []
        self._bytes = 0
        self._sink: Sink | None = None

    def write(self, content: Buffer) -> int:
        part = bytes(content)
        self._parts.append(part)
        self._bytes += len(part)
        if self._bytes > _SMALL:
            self._pass_on()
        return len(part)

    def _pass_on(self) -> Sink:
        if self._sink is None:
            self._sink = self._storage.write(self._path)
        self._sink.write(b"".join(self._parts))
        self._parts = []
        return self._sink

    def close(self) -> None:
        if not self.closed:
            self._pass_on().close()
            super().close()

    def abandon(self) -> None:
        if not self.closed and hasattr(self, "_sink"):
            if self._sink is not None:
                self._sink.abandon()
            super().close()


def _what(batch: Batch, start: datetime, output: Output) -> str:
    """Say what a batch is written as, for errors."""
    kind = "waiting rows" if batch.cut.timing == CARRY else f"a {output.format} file"
    return f"{kind} of window {format_instant(start)}"


def _bad_column(storage: Storage, batch: Batch, output: Output) -> str | None:
    """Return the column whose type is what can't be written, if one is."""
    with suppress(Exception):  # what broke the batch may break this as well
        for column in _Rows.of(storage, batch, set()).schema.field("payload").type:
            if not _is_writable(column, batch, output):
                return str(column.name)
    return None


def _is_writable(column: pa.Field, batch: Batch, output: Output) -> bool:
    sink = pa.BufferOutputStream()
    try:
        if batch.cut.timing == CARRY:
            table = pa.table({"payload": pa.nulls(1, pa.struct([column]))})
            with pa.ipc.new_stream(sink, table.schema) as stream:
                stream.write_table(table)
        else:
            table = pa.table({column.name: pa.nulls(1, column.type)})
            FORMATS[output.format].writer(sink, table.schema, output.compression).write(table)
    except Exception:  # noqa: BLE001 - it can't, for whatever reason
        return False
    return True


def _write(
    storage: Storage, batch: Batch, rows: _Rows, start: datetime, output: Output
) -> list[_Encode]:
    """Write a batch's rows as one file; as more where the type of rows that waited was changed."""

    def written(part: _Rows) -> _Encode:
        if batch.cut.timing == CARRY:
            return _write_carry(storage, batch, part, start)
        with timed("write_milliseconds"):
            return _write_batch(storage, batch, part, start, output)

    try:
        return [written(rows)]
    except pa.ArrowInvalid:
        return [written(part) for part in rows.apart()]


def _write_batch(
    storage: Storage, batch: Batch, rows: _Rows, start: datetime, output: Output
) -> _Encode:
    """Write rows of a batch up to the last row group; return what writes that."""
    file_format = format_named(output.format, batch.task.plan.format)
    cycle, shard = batch.task.plan.cycle, batch.task.number
    suffix = file_format.suffix(output.compression)
    form = batch.task.plan.form
    path = batch_path(start, cycle, shard, batch.number, new_token(), suffix, form.layout)
    staged = staged_path(cycle, path)
    summary = _Summary()
    sink = _sink(storage, staged, rows)
    with _abandoned_on_failure(sink):
        groups = (
            rows.visible(summary.add(table), output.metadata, form) for table in rows.groups()
        )
        last = [next(groups)]
        writer = file_format.writer(sink, last[0].schema, output.compression)
        for group in groups:
            writer.write(last.pop())
            last.append(group)
    # what finishes a file must not hold its rows
    count, timing, number = rows.count, batch.cut.timing, batch.number
    types = rows.kept if batch.task.plan.format > 1 else {}

    def encode() -> _Finish:
        with _abandoned_on_failure(sink):
            writer.write(last.pop())  # a file that becomes durable must not hold its rows
            _check_rows(path, writer.close(), count)
        return finish

    def finish() -> dict[str, Any]:
        sink.close()
        file = BatchFile(
            path=path,
            staged=staged,
            rows=count,
            bytes=sink.bytes,
            crc32c=sink.crc32c,
            min_time=from_microseconds(summary.min_time),
            max_time=from_microseconds(summary.max_time),
            offsets=summary.offsets,
            types=types,
        )
        return {"batches": (WrittenBatch(start, timing, number, file),)}

    return encode


def _write_carry(storage: Storage, batch: Batch, rows: _Rows, start: datetime) -> _Encode:
    """Write rows that wait; there is nothing left to write then."""
    path = carry_path(batch.task.plan.cycle, batch.task.number, batch.number, new_token())
    held = 0
    sink = _sink(storage, path, rows)
    form = batch.task.plan.form
    schema = headers_by(form, rows.schema.empty_table()).schema
    with (
        _abandoned_on_failure(sink),
        pa.ipc.new_stream(sink, schema, options=COMPRESSED) as writer,
    ):
        for table in rows.groups():
            writer.write_table(headers_by(form, table))
            held += table.num_rows
        _check_rows(path, held, rows.count)
    count, shard, indexed = rows.count, batch.task.number, rows.indexed

    def finish() -> dict[str, Any]:
        sink.close()
        place = CarryFile(path, start, count, shard, sink.bytes, sink.crc32c, indexed)
        return {"carried": (place,)}

    return lambda: finish


def _check_rows(path: str, held: int, rows: int) -> None:
    """See that a file holds the rows that the log will say it does."""
    if held != rows:
        message = f"{path} was written with rows={held} of {rows}, so nothing is committed"
        raise WriteError(message)


@contextmanager
def _abandoned_on_failure(sink: ChecksumFile) -> Iterator[None]:
    try:
        yield
    except BaseException:
        sink.abandon()
        raise


def visible_rows(
    rows: pa.Table, metadata: str, *, indexed: bool, form: Form = FORMS[FORMAT]
) -> pa.Table:
    """Return rows as they stand in a batch file: the payload's columns, then the metadata's.

    Where there are none of either, a column of nulls, ``PLACEHOLDER``, keeps the rows.

    Args:
        rows: ``POSITION`` and ``payload``.
        metadata: ``none``, ``position`` or ``full``.
        indexed: whether messages hold arrays, so that a row's place in its message counts.
        form: how the collection's files look.
    """
    payload = rows.column("payload")
    columns: dict[str, Any] = dict(
        zip([f.name for f in payload.type], payload.flatten(), strict=True)
    )
    if metadata != "none":
        columns |= {f"_{name}": rows.column(name) for name in ("partition", "offset", "timestamp")}
        if indexed:
            columns["_index"] = rows.column("index")
    if metadata == "full":
        headers = headers_by(form, rows.select(["headers"])).column(0)
        columns |= {"_key": rows.column("key"), "_headers": headers}
    return pa.table(columns or {PLACEHOLDER: pa.nulls(rows.num_rows, pa.bool_())})


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of a batch, wherever they are; read piece by piece, in their order.

    ``kept`` are the types of columns that have other ones than the collection's: see ``apart``.
    """

    segments: tuple[Segment, ...]
    schema: pa.Schema
    indexed: bool
    dropped: frozenset[str]
    kept: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, storage: Storage, batch: Batch, verified: Verified) -> _Rows:
        """Find the schema that holds all rows; see ``Carried`` for ``verified``."""
        cycle = batch.task.plan.cycle
        segments = tuple(
            segment._replace(source=Carried(storage, segment.source, cycle, verified))
            if isinstance(segment.source, CarryFile)
            else segment
            for segment in batch.cut.segments
        )
        sources: list[Any] = [segment.source for segment in segments]
        payload = batch.task.plan.schema
        for source in sources:
            if source.schema is not None:
                payload = merge(payload, from_arrow(source.schema.field("payload").type))
        schema = POSITION.append(pa.field("payload", to_arrow(payload)))
        indexed = any(source.indexed for source in sources)
        return cls(segments, schema, indexed, frozenset(batch.task.plan.dropped))

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(segment.rows for segment in self.segments)

    def apart(self) -> Iterator[_Rows]:
        """Yield the rows that the schema holds exactly, then those of each other segment.

        These keep the types that they were read under.
        """
        fits = [self._fits(segment) for segment in self.segments]
        if any(fits):
            yield replace(self, segments=tuple(compress(self.segments, fits)))
        for segment in compress(self.segments, map(operator.not_, fits)):
            own = from_arrow(_without(segment.source.stored_payload(), self.dropped))  # type: ignore[attr-defined]
            common = from_arrow(self.schema.field("payload").type)
            types = merge(own, common, widen=False)
            kept = {name: type_ for name, type_ in types.items() if type_ != common.get(name)}
            schema = POSITION.append(pa.field("payload", to_arrow(types)))
            yield replace(self, segments=(segment,), schema=schema, kept=kept)

    def _fits(self, segment: Segment) -> bool:
        alone = replace(self, segments=(segment,))
        try:
            return all(table.num_rows for table in alone.groups())
        except pa.ArrowInvalid:
            return False

    def visible(self, rows: pa.Table, metadata: str, form: Form) -> pa.Table:
        """Return rows as they stand in the file."""
        return visible_rows(rows, metadata, indexed=self.indexed, form=form)

    def groups(self) -> Iterator[pa.Table]:
        """Yield tables of one schema, each of about a row group's rows or bytes.

        Raises:
            pyarrow.ArrowInvalid: the schema does not hold rows that waited: see ``apart``.
        """
        held, rows, size = [], 0, 0
        for piece in self._pieces():
            held.append(piece)
            rows, size = rows + piece.num_rows, size + piece.nbytes
            if rows >= ROW_GROUP or size >= ROW_GROUP_BYTES:
                yield pa.concat_tables(held)
                held, rows, size = [], 0, 0
        if held:
            yield pa.concat_tables(held)

    def _pieces(self) -> Iterator[pa.Table]:
        for source, start, rows in self.segments:
            into = conform_exactly if isinstance(source, Carried) else conform
            for piece in source.pieces(start, rows):  # type: ignore[attr-defined]
                for first in range(0, piece.num_rows, ROW_GROUP):
                    yield self._conformed(piece.slice(first, ROW_GROUP), into)

    def _conformed(self, rows: pa.Table, into: Callable[[Any, pa.StructType], Any]) -> pa.Table:
        payload = self.schema.field("payload")
        column = rows.column("payload")
        if self.dropped:  # rows that waited may hold it
            column = conform(column, _without(column.type, self.dropped))
        if column.type != payload.type:
            column = into(column, payload.type)
        return rows.select(POSITION.names).append_column(payload, column)


def _without(type_: pa.StructType, names: frozenset[str]) -> pa.StructType:
    """Return a payload's type without some columns."""
    return pa.struct([each for each in type_ if each.name not in names])


@dataclass(slots=True)
class _Summary:
    """What an entry says of a file's rows."""

    min_time: int = 2**63 - 1
    max_time: int = -(2**63)
    offsets: dict[int, tuple[int, int, int]] = field(default_factory=dict)

    def add(self, rows: pa.Table) -> pa.Table:
        """Take rows in, and return them."""
        times = pc.min_max(rows.column("row_time")).as_py()
        self.min_time = min(self.min_time, times["min"])
        self.max_time = max(self.max_time, times["max"])
        partitions = pc.min_max(rows.column("partition")).as_py()
        if partitions["min"] == partitions["max"]:
            found = pc.min_max(rows.column("offset")).as_py()
            self._note(partitions["min"], found["min"], found["max"], rows.num_rows)
            return rows
        aggregates = [("offset", "min"), ("offset", "max"), ("offset", "count")]
        groups = rows.select(["partition", "offset"]).group_by("partition").aggregate(aggregates)
        for row in groups.to_pylist():
            self._note(row["partition"], row["offset_min"], row["offset_max"], row["offset_count"])
        return rows

    def _note(self, partition: int, first: int, last: int, count: int) -> None:
        before = self.offsets.get(partition, (first, last, 0))
        self.offsets[partition] = (min(first, before[0]), max(last, before[1]), count + before[2])
