"""CutBatches: windowed chunks of rows in, batches out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import apache_beam as beam
from apache_beam.transforms.window import IntervalWindow
from apache_beam.utils.timestamp import Duration, Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from batch_collection.storage.opening import open_storage
from batch_collection.windows import from_microseconds, microseconds, window_start
from transforms.cutting.batch import Batch
from transforms.cutting.cut import Cut, Cutter, Segment
from transforms.cutting.waiting import Carried, InMemory, SpillFile
from transforms.cutting.windows import split_ahead
from transforms.elements.chunk import REPORTS, Chunk
from transforms.elements.report import Report, order_of, report_on

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime, timedelta

    from apache_beam.pvalue import DoOutputsTuple, PCollection

    from batch_collection.log.verified import Verified
    from transforms.elements.order import Order
    from transforms.elements.plan import Task


__all__ = ["MEMORY_LIMIT", "CutBatches"]


MEMORY_LIMIT = 256 << 20
"""Bytes of rows of a bundle that may wait in memory; more go to a temporary file."""
_PIECE = 4 << 10  # bytes that the rows of a window and chunk take beside their values
_LARGE_ROW = 512  # bytes; of such rows a quarter may: reading and parsing hold more of them


@dataclass(eq=False)
class CutBatches(beam.PTransform):
    """Cut the rows of each window into batches: full ones, last ones, and the carry.

    In: ``Chunk`` of rows of one window, in that window. Out: ``Batch``, in its window; tagged
    ``reports``: a ``Report`` a task. A task ends with its chunk marked ``last``, or with the
    bundle.
    """

    memory_limit: int = MEMORY_LIMIT

    def expand(self, chunks: PCollection[Chunk]) -> DoOutputsTuple:
        """Wire it."""
        cutting = beam.ParDo(_CutFn(self.memory_limit))
        batches = chunks | cutting.with_output_types(Batch).with_outputs(REPORTS, main="batches")
        batches[REPORTS].element_type = Report
        return batches


@dataclass
class _Cutting:
    """One attempt that is being cut."""

    first: Chunk
    order: Order
    cutter: Cutter
    rows: int = 0
    bytes: int = 0
    pieces: int = 0
    batches: int = 0


@dataclass(eq=False)
class _CutFn(beam.DoFn):
    memory_limit: int
    _cutting: dict[tuple[str, int, str], _Cutting] = field(default_factory=dict)
    _failed: set[tuple[str, int, str]] = field(default_factory=set)
    _spill: SpillFile | None = None

    def start_bundle(self) -> None:
        self._cutting = {}
        self._failed = set()

    def process(
        self,
        chunk: Chunk,
        window: Any = beam.DoFn.WindowParam,
    ) -> Iterator[Any]:
        if report_on(chunk).key in self._failed:
            return
        attempt = self._attempt(chunk)
        if chunk.last:
            batches, report = self._finish(chunk)
            yield from batches
            yield beam.pvalue.TaggedOutput(REPORTS, report)
            return
        attempt.rows += chunk.table.num_rows
        attempt.bytes += chunk.table.nbytes
        attempt.pieces += 1
        start = from_microseconds(window.start.micros)
        for rows, ahead in split_ahead(chunk.table, start, attempt.order):
            cuts = attempt.cutter.add(start, InMemory(rows), ahead=ahead)
            yield from self._batches(attempt, cuts)
        if self._is_full:
            for report in self._spill_all():
                yield beam.pvalue.TaggedOutput(REPORTS, report)

    def finish_bundle(self) -> Iterator[Any]:
        for cutting in list(self._cutting.values()):
            batches, report = self._finish(cutting.first)
            yield from batches
            plan = cutting.first.task.plan
            planned_at = window_start(plan.planned_at, plan.interval)
            in_window = _in_window(report, planned_at, plan.interval)
            yield beam.pvalue.TaggedOutput(REPORTS, in_window)
        if self._spill is not None:
            self._spill.close()
            self._spill = None

    @property
    def _is_full(self) -> bool:
        rows = sum(cutting.rows for cutting in self._cutting.values())
        size = sum(cutting.bytes for cutting in self._cutting.values())
        beside = sum(cutting.pieces for cutting in self._cutting.values()) * _PIECE
        limit = self.memory_limit if size <= rows * _LARGE_ROW else self.memory_limit // 4
        return size + beside > limit

    def _attempt(self, chunk: Chunk) -> _Cutting:
        key = report_on(chunk).key
        if key not in self._cutting:
            order = order_of(chunk.task, chunk.attempt)
            self._cutting[key] = _Cutting(chunk, order, Cutter(order, _carry(chunk.task)))
        return self._cutting[key]

    def _finish(self, chunk: Chunk) -> tuple[Iterator[WindowedValue], Report]:
        report = report_on(chunk)
        cutting = self._cutting.pop(report.key)
        batches = self._batches(cutting, cutting.cutter.finish())
        return batches, replace(report, cut=True, taken=cutting.cutter.taken)

    def _batches(self, cutting: _Cutting, cuts: Iterable[Cut]) -> Iterator[WindowedValue]:
        for cut in cuts:
            batch = Batch(cutting.order, cutting.batches, cut)
            cutting.batches += 1
            yield _in_window(batch, cut.window_start, cutting.order.interval)

    def _spill_all(self) -> Iterator[Report]:
        """Take the rows of all attempts out of memory; yield reports on those that can't be."""
        spill = self._spill = self._spill or SpillFile()

        def spilled(segment: Segment) -> Segment:
            if not isinstance(segment.source, InMemory):
                return segment
            rows = segment.source.table.slice(segment.start, segment.rows)
            return Segment(spill.spill(InMemory(rows)), 0, segment.rows, segment.size)

        for key, cutting in list(self._cutting.items()):
            try:
                cutting.cutter.replace_fresh(spilled)
                cutting.rows = cutting.bytes = cutting.pieces = 0
            except Exception as error:  # noqa: BLE001 - whatever it is, other topics go on
                del self._cutting[key]
                self._failed.add(key)
                yield report_on(cutting.first).unwritten(error, "rows that wait in memory")


def _carry(task: Task) -> tuple[Carried, ...]:
    """Return the rows that waited; each file is held against the log once an attempt."""
    storage = open_storage(task.plan.collection)
    verified: Verified = set()
    return tuple(Carried(storage, file, task.plan.cycle, verified) for file in task.carry)


def _in_window(value: Batch | Report, start: datetime, interval: timedelta) -> WindowedValue:
    begin = Timestamp(micros=microseconds(start))
    window = IntervalWindow(begin, begin + Duration(micros=microseconds(interval)))
    return WindowedValue(value, begin, (window,))
