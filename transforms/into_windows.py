"""IntoWindows: chunks of rows in, the same rows out in Beam's fixed windows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.transforms import trigger, window
from apache_beam.utils.timestamp import Duration, Timestamp

from batch_collection.windows import microseconds
from transforms.chunk import Chunk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from apache_beam.pvalue import PCollection

__all__ = ["IntoWindows", "split_by_window"]


@dataclass(eq=False)
class IntoWindows(beam.PTransform):
    """Put rows into fixed windows one interval long, by their row time.

    In: ``Chunk`` of rows, of any windows. Out: ``Chunk`` of rows of one window, in that window,
    rows in their order. The trigger says what ``CutBatches`` does exactly, on the log: Beam's own
    promises "at least N" and needs a GroupByKey, where a late row can be dropped; here is none.
    """

    interval: timedelta
    batch_size: int

    def expand(self, chunks: PCollection[Chunk]) -> PCollection[Chunk]:
        """Wire it."""
        return (
            chunks
            | "SplitByWindow" >> beam.ParDo(_SplitFn(self.interval)).with_output_types(Chunk)
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
    interval: timedelta

    def process(self, chunk: Chunk) -> Iterator[window.TimestampedValue]:
        if chunk.last:
            planned_at = microseconds(chunk.task.plan.planned_at)
            yield window.TimestampedValue(chunk, Timestamp(micros=planned_at))
            return
        for start, rows in split_by_window(chunk.table, self.interval):
            yield window.TimestampedValue(replace(chunk, table=rows), Timestamp(micros=start))


def split_by_window(rows: pa.Table, interval: timedelta) -> Iterator[tuple[int, pa.Table]]:
    """Yield each window's start (microseconds since the Unix epoch) and its rows in their order."""
    if not rows.num_rows:
        return
    length = microseconds(interval)
    starts = rows.column("row_time").to_numpy() // length * length
    if np.any(starts[1:] < starts[:-1]):
        order = np.argsort(starts, kind="stable")
        starts, rows = starts[order], rows.take(pa.array(order))
    borders = [0, *(np.flatnonzero(np.diff(starts)) + 1).tolist(), rows.num_rows]
    for first, end in pairwise(borders):
        yield int(starts[first]), rows.slice(first, end - first)
