"""Write a batch as a staged file: encoded, then durable, then reported."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from batch_collection.errors import WriteError
from batch_collection.formats.known import FORMATS, format_named
from batch_collection.log.entry import BatchFile, CarryFile
from batch_collection.paths import batch_path, carry_path, new_token, staged_path
from batch_collection.storage.checksum import ChecksumFile
from batch_collection.storage.contract import Sink
from batch_collection.windows import format_instant, from_microseconds
from transforms.cutting.cut import CARRY, LATE
from transforms.elements.headers import headers_by
from transforms.elements.observers import tell, timed
from transforms.elements.report import WrittenBatch
from transforms.elements.tables import COMPRESSED
from transforms.process.events import FileStaged
from transforms.writing.rows import BatchRows, Summary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from typing_extensions import Buffer

    from batch_collection.storage.contract import BundlingStorage, Storage
    from transforms.cutting.batch import Batch
    from transforms.writing.layout import Output

    _Finish = Callable[[], dict[str, Any]]  # makes the file durable, gives its place
    _Encode = Callable[[], _Finish]  # writes the last rows

__all__ = [
    "Together",
    "bad_column",
    "description",
    "is_small",
    "opening",
    "stage",
    "tell_staged",
]

_FEW_ROWS = 1_000  # no other thread begins sooner than they are encoded
_SMALL = 1 << 20  # bytes of a file that may wait in memory until it is closed


def is_small(rows: int) -> bool:
    """Tell whether threads cost more than they spare."""
    return rows <= _FEW_ROWS


def opening(storage: Storage, rows: int, together: Together | None = None) -> Callable[[str], Sink]:
    """Return what opens a file of so many rows, a small one ``together`` with others."""
    if not is_small(rows):
        return storage.write
    return lambda path: _Gathered(storage, path, together)


class Together:
    """Small files that are encoded, and become durable together."""

    def __init__(self, storage: BundlingStorage) -> None:
        """Begin without any."""
        self._storage = storage
        self.files: list[tuple[str, bytes]] = []
        self.sinks: list[Sink] = []

    def close(self) -> None:
        """Make all of them durable."""
        self._storage.write_all(self.files)
        for sink in self.sinks:
            sink.close()


class _Gathered(Sink):
    """A small file: it is written when it is closed, or those that it is ``together`` with are."""

    def __init__(self, storage: Storage, path: str, together: Together | None) -> None:
        super().__init__()
        self._storage, self._path, self._together = storage, path, together
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
        if self.closed:
            return
        if self._together is None:
            self._pass_on().close()
        elif self._sink is None:
            self._together.files.append((self._path, b"".join(self._parts)))
        else:
            self._together.sinks.append(self._pass_on())
        super().close()

    def abandon(self) -> None:
        if not self.closed and hasattr(self, "_sink"):
            if self._sink is not None:
                self._sink.abandon()
            super().close()


def description(batch: Batch, output: Output) -> str:
    """Say what a batch is written as, for errors."""
    kind = "waiting rows" if batch.cut.timing == CARRY else f"a {output.format} file"
    return f"{kind} of window {format_instant(batch.cut.window_start)}"


def bad_column(batch: Batch, output: Output) -> str | None:
    """Return the column whose type is what can't be written, if one is."""
    with suppress(Exception):  # what broke the batch may break this as well
        for column in BatchRows.of(batch).payload:
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


def tell_staged(collection: str, batches: Iterable[WrittenBatch]) -> None:
    """Tell of files that are durable."""
    for batch in batches:
        is_late = batch.timing == LATE
        tell(FileStaged(collection, batch.file.rows, batch.file.bytes, is_late=is_late))


def stage(
    opens: Callable[[str], Sink], batch: Batch, rows: BatchRows, output: Output
) -> list[_Encode]:
    """Write a batch's rows as one file; as more where the type of rows that waited was changed."""

    def written(part: BatchRows) -> _Encode:
        if batch.cut.timing == CARRY:
            return _write_carry(opens, batch, part)
        with timed("write"):
            return _write_batch(opens, batch, part, output)

    try:
        return [written(rows)]
    except pa.ArrowInvalid:
        return [written(part) for part in rows.apart()]


def _write_batch(
    opens: Callable[[str], Sink], batch: Batch, rows: BatchRows, output: Output
) -> _Encode:
    """Write rows of a batch up to the last block; return what writes that."""
    file_format = format_named(output.format, batch.order.format)
    cycle, shard = batch.order.cycle, batch.order.shard
    start = batch.cut.window_start
    ending = file_format.endings[output.compression]
    form = batch.order.form
    path = batch_path(start, cycle, shard, batch.number, new_token(), ending, form.layout)
    staged = staged_path(cycle, path)
    summary = Summary()
    sink = ChecksumFile(opens(staged))
    with _abandoned_on_failure(sink):
        blocks = (
            rows.visible(summary.add(table), output.metadata, form) for table in rows.blocks()
        )
        last = [next(blocks)]
        writer = file_format.writer(sink, last[0].schema, output.compression)
        for block in blocks:
            writer.write(last.pop())
            last.append(block)
    # what finishes a file must not hold its rows
    count, timing, number = rows.count, batch.cut.timing, batch.number
    types = rows.kept if batch.order.format > 1 else {}

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


def _write_carry(opens: Callable[[str], Sink], batch: Batch, rows: BatchRows) -> _Encode:
    """Write rows that wait; there is nothing left to write then."""
    path = carry_path(batch.order.cycle, batch.order.shard, batch.number, new_token())
    held = 0
    sink = ChecksumFile(opens(path))
    with _abandoned_on_failure(sink), ExitStack() as stream:
        writer = None
        for block in rows.blocks():
            table = headers_by(batch.order.form, block)
            writer = writer or stream.enter_context(
                pa.ipc.new_stream(sink, table.schema, options=COMPRESSED)
            )
            writer.write_table(table)
            held += table.num_rows
        _check_rows(path, held, rows.count)
    start, count = batch.cut.window_start, rows.count
    shard, indexed = batch.order.shard, rows.indexed
    size = sum(segment.size for segment in rows.segments)

    def finish() -> dict[str, Any]:
        sink.close()
        place = CarryFile(path, start, count, shard, sink.bytes, sink.crc32c, indexed, size)
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
