"""IntoWindows: chunks of rows in, the same rows out in Beam's fixed windows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import apache_beam as beam
from apache_beam.transforms import trigger, window
from apache_beam.utils.timestamp import Duration, Timestamp

from batch_collection.windows import microseconds
from transforms.cutting.windows import split_by_window
from transforms.elements.chunk import Chunk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from apache_beam.pvalue import PCollection

__all__ = ["IntoWindows"]


@dataclass(eq=False)
class IntoWindows(beam.PTransform):
    """Put rows into fixed windows one interval long, by their row time.

    In: ``Chunk`` of rows, of any windows. Out: ``Chunk`` of rows of one window, in that window,
    rows in their order. The trigger says what ``CutBatches`` does exactly, on the log: Beam's own
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


@dataclass(eq=False)
class _SplitFn(beam.DoFn):
    def process(self, chunk: Chunk) -> Iterator[window.TimestampedValue]:
        if chunk.last:
            planned_at = microseconds(chunk.task.plan.planned_at)
            yield window.TimestampedValue(chunk, Timestamp(micros=planned_at))
            return
        for start, rows in split_by_window(chunk.table, chunk.task.plan.interval):
            yield window.TimestampedValue(replace(chunk, table=rows), Timestamp(micros=start))
