"""The element between cutting and writing: one batch of one window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import pyarrow as pa
from apache_beam import coders

from batch_collection.storage.opening import open_storage
from transforms.cutting.cut import Cut, Segment
from transforms.cutting.waiting import Carried, InMemory
from transforms.elements.records import framed, unframed
from transforms.elements.report import TaskOrder
from transforms.elements.tables import read_ipc, write_ipc

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from batch_collection.log.entry import CarryFile
    from transforms.cutting.waiting import RowSource
    from transforms.elements.order import Order

__all__ = ["Batch", "BatchCoder"]


@dataclass(frozen=True, slots=True)
class Batch:
    """The rows of one batch file or carry file, and its number in the attempt."""

    order: Order
    number: int
    cut: Cut


class _Part(NamedTuple):
    """A segment: of a carry file, or of ``bytes`` that follow the head."""

    start: int
    rows: int
    carry: CarryFile | None = None
    bytes: int = 0
    size: int = 0


class _Head(NamedTuple):
    number: int
    window_start: datetime
    timing: str
    parts: tuple[_Part, ...]


class BatchCoder(coders.Coder):
    """JSON, then rows as Arrow IPC; carry files by name. Used only where steps were not fused.

    Attributes:
        order: the class of the batches' orders.
    """

    order: ClassVar[type[Order]] = TaskOrder

    def encode(self, value: Batch) -> bytes:
        """Load what is in a spill file: another process can't."""
        tables = [_rows(segment) for segment in value.cut.segments]
        parts = tuple(map(_part, value.cut.segments, tables))
        window_start, timing, _ = value.cut
        head = _Head(value.number, window_start, timing, parts)
        return framed(value.order, framed(head), *tables)

    def decode(self, encoded: bytes) -> Batch:
        """Read what ``encode`` wrote, in this version or another."""
        order, rest = unframed(self.order, encoded)
        head, rows = unframed(_Head, rest)
        cut = Cut(head.window_start, head.timing, tuple(_segments(order, head.parts, rows)))
        return Batch(order, head.number, cut)

    def estimate_size(self, value: Batch) -> int:
        """Return a guess: the rows may be on disk."""
        return 100 * value.cut.rows


coders.registry.register_coder(Batch, BatchCoder)


def _rows(segment: Segment) -> pa.Buffer:
    """Return what of a segment's rows no other process can get."""
    if isinstance(segment.source, Carried):
        return pa.py_buffer(b"")
    return write_ipc(pa.concat_tables(segment.source.pieces(segment.start, segment.rows)))


def _part(segment: Segment, table: pa.Buffer) -> _Part:
    if isinstance(segment.source, Carried):
        return _Part(segment.start, segment.rows, segment.source.file, size=segment.size)
    return _Part(0, segment.rows, bytes=table.size, size=segment.size)


def _segments(order: Order, parts: Iterable[_Part], rows: pa.Buffer) -> Iterator[Segment]:
    storage = open_storage(order.collection)
    start = 0
    for part in parts:
        end = start + part.bytes
        if part.carry is not None:
            source: RowSource = Carried(storage, part.carry, order.cycle)
        else:
            source = InMemory(read_ipc(rows[start:end]))
        yield Segment(source, part.start, part.rows, part.size)
        start = end
