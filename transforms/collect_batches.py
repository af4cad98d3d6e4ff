"""CollectBatches: rows of any pipeline in, the log entries of their batches out."""

from __future__ import annotations

import os
import zlib
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.transforms import trigger
from apache_beam.transforms.window import FixedWindows, GlobalWindows
from apache_beam.utils.timestamp import Duration
from apache_beam.utils.windowed_value import PaneInfoTiming

from batch_collection.errors import CollectionError
from batch_collection.formats.known import FORMATS
from batch_collection.log.entries import newest_entry
from batch_collection.log.entry import FORMAT, FORMS
from batch_collection.paths import entry_path, new_token
from batch_collection.schema.arrow import from_arrow
from batch_collection.storage.opening import open_storage
from batch_collection.windows import from_microseconds, microseconds, utc_now
from transforms.committing.panes import begun, check_collection, commit_panes
from transforms.decoding.additions import objection
from transforms.decoding.row_time import limits
from transforms.elements.given import read_given, write_given
from transforms.elements.pane import Job, PaneReport
from transforms.elements.records import from_json, to_json
from transforms.writing.layout import Output
from transforms.writing.panes import Fired, stage_pane

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from apache_beam.pvalue import PCollection
    from apache_beam.utils.windowed_value import WindowedValue

__all__ = ["CollectBatches"]


class CollectBatches(beam.PTransform):
    """Collect rows in batches, one set of files a window of fixed length, at a pipeline's end.

    In: dictionaries, NamedTuples, dataclasses or ``beam.Row``, a row each, or ``pyarrow.Table`` and
    ``RecordBatch``, many; of a bounded or unbounded collection. An element's timestamp is the row
    time of all its rows. Out: the path of each log entry made, relative to the collection.

    Windows are one ``interval`` long, under ``AfterWatermark(early=AfterCount(batch_size),
    late=AfterCount(1))``, panes discarding. Each pane becomes files of at most ``batch_size`` rows,
    full ones first, in a collection that `batch_collection.open` reads like any other. The trigger
    counts elements and not rows, at the least so many: a pane may be of many files, and with tables
    it is a bound in time only. Rows that come more than ``allowed_lateness`` after the end of their
    window are dropped by Beam: Dataflow counts them, ``droppedDueToLateness``; Beam's own runners
    do not.

    A pane is in the collection once for all bundles that a runner repeats: so rows are there once
    on Dataflow in exactly-once mode, and wherever nothing failed; at least once on Flink, or if a
    template is run twice. A job that is started again reads what its source gives again. What the
    same place has given anew with other rows is added, and counted as ``repeated_panes``. On Prism,
    use it with little data only: it loses rows behind any GroupByKey.

    A window is closed (``is_closed``, its manifest) once the on-time pane of each shard is
    committed; with several shards each gets one of every window that has rows.

    Without ``schema``, columns get the types that their values have; integers become fractions once
    one comes. A row that a column's type can't say fails its bundle, so nothing is dropped.

    Args:
        output: The collection: a directory, or ``gs://bucket/prefix``.
        interval: How long windows are, whole seconds; kept by the collection.
        batch_size: Rows of a file at most.
        shards: How many panes a window has at once, in parallel on an engine.
        allowed_lateness: How long after its end a window's rows are taken.
        output_format: ``parquet`` or ``jsonl``.
        compression: Of the files; default: that of the format.
        schema: Types of columns that values may not show; others are added as they come.

    Raises:
        ValueError: an argument is wrong; all that are, are named.
        CollectionError: ``schema`` has a type that no batch can hold.
        LogError: what is at ``output`` is another kind of collection, or has another interval.
    """

    def __init__(  # noqa: PLR0913 - each has its meaning, all by name
        self,
        *,
        output: str | os.PathLike[str],
        interval: timedelta,
        batch_size: int,
        shards: int = 1,
        allowed_lateness: timedelta = timedelta(days=1),
        output_format: str = "parquet",
        compression: str | None = None,
        schema: pa.Schema | None = None,
    ) -> None:
        super().__init__()
        problems = list(_problems(interval, batch_size, shards, allowed_lateness))
        problems += _format_problems(output_format, compression)
        types = {} if schema is None else from_arrow(pa.struct(list(schema)))
        if problem := objection({}, types, FORMS[FORMAT].fold):
            problems.append(f"schema: {problem}")
        if problems:
            raise ValueError("; ".join(problems))
        endings = FORMATS[output_format].endings
        self._output = Output(output_format, compression or next(iter(endings)), "none")
        self._job = Job(
            collection=os.fspath(output),
            run="",
            built_at=utc_now(),
            interval=interval,
            batch_size=batch_size,
            shards=shards,
            allowed_lateness=allowed_lateness,
            schema=types,
        )

    def expand(self, elements: PCollection[Any]) -> PCollection[str]:
        """Wire the steps."""
        job = replace(self._job, run=new_token(), built_at=utc_now())  # each time it is applied
        _check_output(job)
        windows = beam.WindowInto(
            FixedWindows(Duration(micros=microseconds(job.interval))),
            trigger=trigger.AfterWatermark(
                early=trigger.AfterCount(job.batch_size), late=trigger.AfterCount(1)
            ),
            accumulation_mode=trigger.AccumulationMode.DISCARDING,
            allowed_lateness=Duration(micros=microseconds(job.allowed_lateness)),
        )
        return (
            elements
            | "ByShard" >> beam.ParDo(_ByShardFn(job)).with_output_types(_KEYED)
            | "FixedWindows" >> windows
            | "Panes" >> beam.GroupByKey()
            | "StagePanes"
            >> beam.ParDo(_StageFn(job, self._output)).with_output_types(tuple[str, bytes])
            | "Global" >> beam.WindowInto(GlobalWindows())
            | "OneByOne" >> beam.transforms.util.ReshufflePerKey()
            | "CommitPanes" >> beam.ParDo(_CommitFn(job)).with_output_types(str)
        )


_KEYED = tuple[int, tuple[int, bytes]]
"""Shard, row time in microseconds, ``write_given``."""
_SECOND = timedelta(seconds=1)
_MOST_TOLD = 10_000
"""Windows that are remembered as told of; to tell of one again does no harm."""


def _problems(interval: Any, batch_size: Any, shards: Any, allowed_lateness: Any) -> Iterator[str]:
    if not isinstance(interval, timedelta) or interval < _SECOND or interval % _SECOND:
        yield f"interval must be a timedelta of whole seconds, at least 1, got {interval!r}"
    for name, number in (("batch_size", batch_size), ("shards", shards)):
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            yield f"{name} must be a whole number of at least 1, got {number!r}"
    if not isinstance(allowed_lateness, timedelta) or allowed_lateness < timedelta(0):
        yield f"allowed_lateness must be a timedelta of at least 0, got {allowed_lateness!r}"


def _format_problems(output_format: Any, compression: Any) -> Iterator[str]:
    if output_format not in FORMATS:
        known = ", ".join(sorted(FORMATS))
        yield f"unknown output_format={output_format!r}; use one of: {known}"
        return
    endings = FORMATS[output_format].endings
    if compression is not None and compression not in endings:
        yield f"unknown compression={compression!r}; use one of: {', '.join(sorted(endings))}"


def _check_output(job: Job) -> None:
    """Refuse another kind of collection where it can be seen; else workers do."""
    newest = None
    with suppress(Exception):  # whoever builds a pipeline need not be let in
        newest = newest_entry(open_storage(job.collection))
    if newest is not None:
        check_collection(newest, job)


@dataclass(eq=False)
class _ByShardFn(beam.DoFn):
    """Give each element a shard by its content, so that one that comes again gets the same."""

    job: Job
    _told: set[int] = field(default_factory=set)

    def setup(self) -> None:
        self._told = set()

    def process(self, element: Any, timestamp: Any = beam.DoFn.TimestampParam) -> Iterator[Any]:
        content = write_given(element)
        if not content:
            return
        time = timestamp.micros
        first, last = limits(self.job.interval)
        if not first <= time <= last:
            message = (
                f"CollectBatches got an element whose timestamp is {timestamp}, not within years 1 "
                "to 9999: give rows their time by beam.window.TimestampedValue(row, seconds)"
            )
            raise CollectionError(message)
        yield zlib.crc32(content) % self.job.shards, (time, content)
        window = time // microseconds(self.job.interval)
        if self.job.shards > 1 and window not in self._told:
            if len(self._told) == _MOST_TOLD:
                self._told.clear()
            self._told.add(window)
            for shard in range(self.job.shards):
                yield shard, (time, b"")  # so that each has an on-time pane


@dataclass(eq=False)
class _StageFn(beam.DoFn):
    job: Job
    output: Output

    def process(
        self,
        element: tuple[int, Iterable[tuple[int, bytes]]],
        window: Any = beam.DoFn.WindowParam,
        pane: Any = beam.DoFn.PaneInfoParam,
    ) -> Iterator[tuple[str, bytes]]:
        shard, elements = element
        given = [each for each in elements if each[1]]
        is_early = pane.timing == PaneInfoTiming.EARLY
        if not given and (is_early or pane.timing == PaneInfoTiming.LATE):
            return
        newest = begun(self.job)
        fired = Fired(
            window_start=from_microseconds(window.start.micros),
            shard=shard,
            index=pane.index,
            is_early=is_early,
            checksum=_checksum(given) if pane.timing != PaneInfoTiming.UNKNOWN else _unknown(),
            elements=((time, read_given(content)) for time, content in given),
        )
        report = stage_pane(open_storage(self.job.collection), newest, self.job, fired, self.output)
        yield self.job.collection, to_json(report)  # bytes: a runner may forget a coder's name


def _unknown() -> str:
    """Return what no pane has: of runners without panes' numbers none is taken for another."""
    return f"unknown-{new_token()}"


def _checksum(elements: Iterable[tuple[int, bytes]]) -> str:
    """Return a digest of elements in whatever order."""
    each = sorted(
        blake2b(content, digest_size=16, key=time.to_bytes(8, "big", signed=True)).digest()
        for time, content in elements
    )
    return blake2b(b"".join(each), digest_size=16).hexdigest()


@dataclass(eq=False)
class _CommitFn(beam.DoFn):
    """Commit what comes in a bundle as one entry; one key keeps bundles from racing."""

    job: Job
    _reports: list[PaneReport] = field(default_factory=list)

    def start_bundle(self) -> None:
        self._reports = []

    def process(self, element: tuple[str, bytes]) -> None:
        self._reports.append(from_json(PaneReport, element[1]))

    def finish_bundle(self) -> Iterator[WindowedValue]:
        if self._reports:
            entry = commit_panes(self.job, self._reports)
            if entry is not None:
                yield GlobalWindows.windowed_value(entry_path(entry.cycle))
