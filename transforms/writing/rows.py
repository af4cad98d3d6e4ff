"""A batch's rows, group by group, and what the log says of them."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field, replace
from itertools import compress
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from batch_collection.schema.arrow import from_arrow, to_arrow
from batch_collection.schema.conforming import conform, conform_exactly
from batch_collection.schema.types import merge
from transforms.elements.partitions import Partitions
from transforms.elements.tables import position_of
from transforms.writing.layout import visible_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from batch_collection.log.entry import Form
    from transforms.cutting.batch import Batch
    from transforms.cutting.cut import Segment
    from transforms.cutting.waiting import RowSource

    _Finish = Callable[[], dict[str, Any]]  # makes the file durable, gives its place
    _Encode = Callable[[], _Finish]  # writes the last rows

__all__ = ["BLOCK", "BatchRows", "Summary"]

BLOCK = 128 * 1024
BLOCK_BYTES = 16 << 20
"""Rows and bytes of a block, and so what of a batch is in memory beside what already was."""


@dataclass(frozen=True, slots=True)
class BatchRows:
    """The rows of a batch, wherever they are; read piece by piece, in their order.

    ``payload`` is the type of theirs. ``kept`` are the types of columns that have other ones than
    the collection's: see ``apart``.
    """

    segments: tuple[Segment, ...]
    payload: pa.StructType
    indexed: bool
    dropped: frozenset[str]
    kept: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, batch: Batch) -> BatchRows:
        """Find the type that holds all rows."""
        segments = batch.cut.segments
        sources = [segment.source for segment in segments]
        payload = batch.order.schema
        for source in sources:
            if source.schema is not None:
                payload = merge(payload, from_arrow(source.schema.field("payload").type))
        indexed = any(source.indexed for source in sources)
        return cls(segments, to_arrow(payload), indexed, frozenset(batch.order.dropped))

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(segment.rows for segment in self.segments)

    def apart(self) -> Iterator[BatchRows]:
        """Yield the rows that the type holds exactly, then those of each other segment.

        These keep the types that they were read under.
        """
        fits = [self._fits(segment) for segment in self.segments]
        if any(fits):
            yield replace(self, segments=tuple(compress(self.segments, fits)))
        for segment in compress(self.segments, map(operator.not_, fits)):
            own = from_arrow(_without(_payload(segment.source), self.dropped))
            common = from_arrow(self.payload)
            types = merge(own, common, widen=False)
            kept = {name: type_ for name, type_ in types.items() if type_ != common.get(name)}
            yield replace(self, segments=(segment,), payload=to_arrow(types), kept=kept)

    def _fits(self, segment: Segment) -> bool:
        alone = replace(self, segments=(segment,))
        try:
            return all(table.num_rows for table in alone.blocks())
        except pa.ArrowInvalid:
            return False

    def visible(self, rows: pa.Table, metadata: str, form: Form) -> pa.Table:
        """Return rows as they stand in the file."""
        return visible_rows(rows, metadata, indexed=self.indexed, form=form)

    def blocks(self) -> Iterator[pa.Table]:
        """Yield tables of one schema, each of about a block's rows or bytes.

        Raises:
            pyarrow.ArrowInvalid: the type does not hold rows that waited: see ``apart``.
        """
        held, rows, size = [], 0, 0
        for piece in self._pieces():
            held.append(piece)
            rows, size = rows + piece.num_rows, size + piece.nbytes
            if rows >= BLOCK or size >= BLOCK_BYTES:
                yield pa.concat_tables(held)
                held, rows, size = [], 0, 0
        if held:
            yield pa.concat_tables(held)

    def _pieces(self) -> Iterator[pa.Table]:
        for source, start, rows, _ in self.segments:
            into = conform_exactly if source.schema is None else conform
            for piece in source.pieces(start, rows):
                for first in range(0, piece.num_rows, BLOCK):
                    yield self._conformed(piece.slice(first, BLOCK), into)

    def _conformed(self, rows: pa.Table, into: Callable[[Any, pa.StructType], Any]) -> pa.Table:
        column = rows.column("payload")
        if self.dropped:  # rows that waited may hold it
            column = conform(column, _without(column.type, self.dropped))
        if column.type != self.payload:
            column = into(column, self.payload)
        return rows.select(position_of(rows).names).append_column("payload", column)


def _payload(source: RowSource) -> pa.StructType:
    """Return the type of the rows' payload, as it was when they were put there."""
    return next(source.pieces(0, 1)).schema.field("payload").type


def _without(type_: pa.StructType, names: frozenset[str]) -> pa.StructType:
    """Return a payload's type without some columns."""
    return pa.struct([each for each in type_ if each.name not in names])


@dataclass(slots=True)
class Summary:
    """What an entry says of a file's rows."""

    min_time: int = 2**63 - 1
    max_time: int = -(2**63)
    offsets: dict[int, tuple[int, int, int]] = field(default_factory=dict)

    def add(self, rows: pa.Table) -> pa.Table:
        """Take rows in, and return them."""
        times = pc.min_max(rows.column("row_time")).as_py()
        self.min_time = min(self.min_time, times["min"])
        self.max_time = max(self.max_time, times["max"])
        partitions = Partitions.of(rows.column("partition"))
        offsets = rows.column("offset").to_numpy()
        first, last = partitions.least(offsets), partitions.most(offsets)
        for partition, count in partitions.counts().items():
            self._note(partition, first[partition], last[partition], count)
        return rows

    def _note(self, partition: int, first: int, last: int, count: int) -> None:
        before = self.offsets.get(partition, (first, last, 0))
        self.offsets[partition] = (min(first, before[0]), max(last, before[1]), count + before[2])
