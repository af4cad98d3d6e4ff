"""IntoWindows: chunks of rows in, the same rows out in Beam's fixed windows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import apache_beam as beam
import pyarrow as pa
from apache_beam.transforms import trigger, window
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.timestamp import Duration, Timestamp

from batch_collection.windows import microseconds
from transforms.cutting.windows import InWindows
from transforms.elements.chunk import Chunk
from transforms.elements.report import report_on

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator
    from datetime import timedelta

    from apache_beam.pvalue import PCollection
    from apache_beam.utils.windowed_value import WindowedValue

__all__ = ["IntoWindows"]


@dataclass(eq=False)
class IntoWindows(beam.PTransform):
    """Put rows into fixed windows one interval long, by their row time.

    In: ``Chunk`` of rows, of any windows. Out: ``Chunk`` of rows of one window, in that window,
    rows in their order; rows of chunks that are out of order are split together, for fewer and
    larger pieces. The trigger says what ``CutBatches`` does exactly, on the log: Beam's own
    promises "at least N" and needs a GroupByKey, where a late row can be dropped; here is none.

    Attributes:
        interval: that of all plans; a window's length is part of the graph.
        batch_size: how many rows the trigger waits for, for whoever looks at the graph.
    """

    interval: timedelta
    batch_size: int

    def expand(self, chunks: PCollection[Chunk]) -> PCollection[Chunk]:
        """Wire it."""
        return (
            chunks
            | "SplitByWindow" >> beam.ParDo(_SplitFn()).with_output_types(Chunk)
            | "FixedWindows"
            >> beam.WindowInto(
                window.FixedWindows(self.interval.total_seconds()),
                trigger=trigger.AfterWatermark(
                    early=trigger.AfterCount(self.batch_size), late=trigger.AfterCount(1)
                ),
                accumulation_mode=trigger.AccumulationMode.DISCARDING,
                allowed_lateness=_FOR_EVER,
            )
        )


_FOR_EVER = Duration(seconds=1000 * 365 * 24 * 3600)


_MOST_HELD = 32 << 20
"""Bytes of rows of an attempt that are split together: each piece has a price of its own."""


@dataclass(eq=False)
class _SplitFn(beam.DoFn):
    _held: dict[Hashable, Chunk] = field(default_factory=dict)

    def start_bundle(self) -> None:
        self._held = {}

    def process(self, chunk: Chunk) -> Iterator[window.TimestampedValue]:
        key = report_on(chunk).key
        held = self._held.pop(key, None)
        if chunk.last:
            yield from _all_pieces(held)
            planned_at = microseconds(chunk.task.plan.planned_at)
            yield window.TimestampedValue(chunk, Timestamp(micros=planned_at))
            return
        if held is not None and held.table.schema != chunk.table.schema:
            yield from _all_pieces(held)
            held = None
        if held is not None:
            chunk = replace(chunk, table=pa.concat_tables([held.table, chunk.table]))
        rows = InWindows.of(chunk.table, chunk.task.plan.interval)
        if rows.is_scattered and chunk.table.nbytes < _MOST_HELD:
            self._held[key] = chunk
        else:
            yield from _pieces(chunk, rows)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for held in self._held.values():
            for piece in _all_pieces(held):
                yield GlobalWindows.windowed_value(piece.value, piece.timestamp)
        self._held = {}


def _all_pieces(chunk: Chunk | None) -> Iterator[window.TimestampedValue]:
    if chunk is not None:
        yield from _pieces(chunk, InWindows.of(chunk.table, chunk.task.plan.interval))


def _pieces(chunk: Chunk, rows: InWindows) -> Iterator[window.TimestampedValue]:
    """Yield the rows of each window, at its start."""
    for start, part in rows.split():
        yield window.TimestampedValue(replace(chunk, table=part), Timestamp(micros=start))
