"""DecodeMessages: chunks of messages in, chunks of rows and of dead letters out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc

from batch_collection.errors import CollectionError
from transforms.cutting.window_limit import TooManyWindows, WindowLimit
from transforms.decoding.contract import Columns, SchemaChange
from transforms.decoding.decode import decode
from transforms.elements.chunk import REPORTS, Chunk
from transforms.elements.observers import tell
from transforms.elements.report import Report, report_on
from transforms.process.events import RowsDecoded
from transforms.process.process import current

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apache_beam.pvalue import DoOutputsTuple, PCollection

    from transforms.decoding.decode import Decoded
    from transforms.decoding.rules import RowRules

__all__ = ["DEAD_LETTERS", "DecodeMessages"]

DEAD_LETTERS = "dead_letters"


@dataclass(eq=False)
class DecodeMessages(beam.PTransform):
    """Make rows of messages, a whole chunk at once.

    In: ``Chunk`` of messages. Out: ``Chunk`` of rows; tagged ``dead_letters``: ``Chunk`` of
    messages with ``stage`` and ``error``; tagged ``reports``: ``Report``. The chunk marked ``last``
    goes to both. Each message makes rows, or is a dead letter, a tombstone or an empty array, and
    is counted so. A task whose rows are of too many windows is given up as soon as that is seen.
    """

    rules: RowRules

    def expand(self, chunks: PCollection[Chunk]) -> DoOutputsTuple:
        """Wire it."""
        decoding = beam.ParDo(_DecodeFn(self.rules)).with_output_types(Chunk)
        decoded = chunks | decoding.with_outputs(DEAD_LETTERS, REPORTS, main="rows")
        decoded[DEAD_LETTERS].element_type = Chunk
        decoded[REPORTS].element_type = Report
        return decoded


@dataclass(eq=False)
class _DecodeFn(beam.DoFn):
    rules: RowRules
    _known: dict[tuple[str, int, str], dict[str, Any]] = field(default_factory=dict)
    _limits: dict[tuple[str, int, str], WindowLimit] = field(default_factory=dict)
    _failed: set[tuple[str, int, str]] = field(default_factory=set)

    def start_bundle(self) -> None:
        self._known.clear()
        self._limits.clear()
        self._failed.clear()

    def process(self, chunk: Chunk) -> Iterator[Chunk | beam.pvalue.TaggedOutput]:
        report = report_on(chunk)
        known = self._known.get(report.key, chunk.task.plan.schema)
        if chunk.last:
            yield chunk
            yield beam.pvalue.TaggedOutput(DEAD_LETTERS, chunk)
            yield beam.pvalue.TaggedOutput(REPORTS, replace(report, schema=known))
            return
        if report.key in self._failed:
            return
        try:
            plan = chunk.task.plan
            columns = Columns(plan.schema, known, plan.form.fold, plan.dropped)
            decoded = decode(chunk.table, columns, self.rules, plan.planned_at, plan.interval)
            self._limit(chunk, report).add(chunk.table, decoded.rows)
        except (SchemaChange, TooManyWindows, CollectionError) as error:
            self._failed.add(report.key)
            current().abandoned.add(chunk.attempt)
            yield beam.pvalue.TaggedOutput(REPORTS, report.failed(error))
            return
        self._known[report.key] = decoded.schema
        tell(self._event(chunk, decoded))
        yield from _outputs(chunk, decoded, report)

    def _event(self, chunk: Chunk, decoded: Decoded) -> RowsDecoded:
        shows_timestamp = self.rules.metadata != "none"
        return RowsDecoded(
            chunk.task.plan.collection,
            rows=sum(read.rows for read in decoded.counts),
            dead_letters=sum(read.dead_letters for read in decoded.counts),
            undated=decoded.rows.column("timestamp").null_count if shows_timestamp else 0,
        )

    def _limit(self, chunk: Chunk, report: Report) -> WindowLimit:
        if report.key not in self._limits:
            self._limits[report.key] = WindowLimit(chunk.task)
        return self._limits[report.key]


def _commonest(reasons: pa.ChunkedArray) -> tuple[int, str]:
    counts = reasons.value_counts().to_pylist()
    return max(((each["counts"], each["values"]) for each in counts), default=(0, ""))


def _outputs(
    chunk: Chunk, decoded: Decoded, report: Report
) -> Iterator[Chunk | beam.pvalue.TaggedOutput]:
    if decoded.rows.num_rows:
        yield replace(chunk, table=decoded.rows)
    letters = decoded.dead_letters
    if letters.num_rows:
        yield beam.pvalue.TaggedOutput(DEAD_LETTERS, replace(chunk, table=letters))
        errors = letters.column("error")
        untimed = errors.filter(pc.equal(letters.column("stage"), "row_time"))
        report = replace(
            report,
            untimed=len(untimed),
            why_untimed=_commonest(untimed),
            commonest=_commonest(errors),
        )
    yield beam.pvalue.TaggedOutput(
        REPORTS,
        replace(report, decoded=decoded.counts, schema=decoded.schema, untyped=decoded.untyped),
    )
