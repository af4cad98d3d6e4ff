"""IntoWindows: chunks of rows in, the same rows out in Beam's fixed windows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import apache_beam as beam
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


@dataclass(slots=True)
class _Held:
    """Rows of an attempt that wait to be split with others; the chunk tells whose they are."""

    chunk: Chunk
    parts: list[InWindows] = field(default_factory=list)
    bytes: int = 0

    def takes(self, rows: InWindows) -> bool:
        return rows.is_scattered and rows.rows.schema == self.parts[0].rows.schema

    def add(self, rows: InWindows) -> None:
        self.parts.append(rows)
        self.bytes += rows.rows.nbytes

    def pieces(self) -> Iterator[window.TimestampedValue]:
        """Yield the rows of each window, at its start."""
        for start, rows in InWindows.joined(self.parts).split():
            yield window.TimestampedValue(replace(self.chunk, table=rows), Timestamp(micros=start))


@dataclass(eq=False)
class _SplitFn(beam.DoFn):
    _held: dict[Hashable, _Held] = field(default_factory=dict)

    def start_bundle(self) -> None:
        self._held = {}

    def process(self, chunk: Chunk) -> Iterator[window.TimestampedValue]:
        key = report_on(chunk).key
        held = self._held.pop(key, None)
        rows = InWindows.of(chunk.table, chunk.task.plan.interval) if not chunk.last else None
        if held is not None and (rows is None or not held.takes(rows)):
            yield from held.pieces()
            held = None
        if rows is None:
            planned_at = microseconds(chunk.task.plan.planned_at)
            yield window.TimestampedValue(chunk, Timestamp(micros=planned_at))
            return
        held = held or _Held(chunk)
        held.add(rows)
        if rows.is_scattered and held.bytes < _MOST_HELD:
            self._held[key] = held
        else:
            yield from held.pieces()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for held in self._held.values():
            for piece in held.pieces():
                yield GlobalWindows.windowed_value(piece.value, piece.timestamp)
        self._held = {}
