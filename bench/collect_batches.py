"""How fast CollectBatches is: rows/s against Beam's own WriteToParquet, and entries/s.

    python -m bench.collect_batches [--rows=100_000] [--panes=320]

Rows/s are of whole pipelines on the FnApiRunner, in turn, the median of three. WriteToParquet puts
all rows into one file and knows no windows; what Beam's windows and count trigger cost on this
runner, which does them in Python, is measured alone as well. Tables have twenty times the rows, so
that it is not the start that is measured. Entries/s are of a process that commits the staged panes
of 16 shards, one entry after the other, as any runner does: the ceiling of a collection.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.io.parquetio import WriteToParquet, WriteToParquetBatched
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.trigger import AccumulationMode, AfterCount, AfterWatermark
from apache_beam.transforms.window import FixedWindows, TimestampedValue

import batch_collection
from batch_collection.paths import new_token
from batch_collection.storage.opening import open_storage
from batch_collection.windows import EPOCH, utc_now
from transforms.collect_batches import CollectBatches
from transforms.committing.panes import begun, commit_panes
from transforms.elements.pane import Job
from transforms.writing.layout import Output
from transforms.writing.panes import Fired, stage_pane

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from apache_beam.pvalue import PCollection

    from transforms.elements.pane import PaneReport

SCHEMA = pa.schema({"id": pa.int64(), "sensor": pa.string(), "value": pa.float64()})
CHUNK = 10_000  # rows of a table
BEGAN = 1_790_000_040  # a full minute
TIMES = {"dictionaries": 1, "tables": 20}
ROUNDS = 3
SHARDS = 16
INTERVAL = timedelta(minutes=1)


def dictionaries(first: int) -> Iterator[TimestampedValue]:
    """Yield rows, a thousand a second."""
    for n in range(first, first + CHUNK):
        row = {"id": n, "sensor": f"sensor-{n % 1000:04d}", "value": n / 7}
        yield TimestampedValue(row, BEGAN + n / 1000)


def tables(first: int) -> Iterator[TimestampedValue]:
    """Yield the same rows as one table, of the time of the first."""
    ids = np.arange(first, first + CHUNK)
    sensors = pa.array([f"sensor-{n:04d}" for n in range(1000)]).take(ids % 1000)
    table = pa.table([ids, sensors, ids / 7], SCHEMA)
    yield TimestampedValue(table, BEGAN + first / 1000)


class WindowsAlone(beam.PTransform):
    """Group elements as CollectBatches does, and do nothing with them."""

    def expand(self, elements: PCollection[Any]) -> PCollection[tuple[int, Any]]:
        """Wire the steps."""
        windows = beam.WindowInto(
            FixedWindows(INTERVAL.total_seconds()),
            trigger=AfterWatermark(early=AfterCount(CHUNK), late=AfterCount(1)),
            accumulation_mode=AccumulationMode.DISCARDING,
            allowed_lateness=24 * 60 * 60,
        )
        return elements | beam.WithKeys(0) | windows | beam.GroupByKey()


def ways(folder: Path) -> dict[str, tuple[Callable[[int], Any], beam.PTransform]]:
    """Return what makes rows, and what takes them."""
    collect = CollectBatches(output=folder / "ours", interval=INTERVAL, batch_size=CHUNK)
    theirs = {"schema": SCHEMA, "codec": "zstd"}
    parquet = str(folder / "theirs")
    return {
        "dictionaries, WriteToParquet": (dictionaries, WriteToParquet(parquet, **theirs)),
        "dictionaries, windows alone": (dictionaries, WindowsAlone()),
        "dictionaries, CollectBatches": (dictionaries, collect),
        "tables, WriteToParquetBatched": (tables, WriteToParquetBatched(parquet, **theirs)),
        "tables, CollectBatches": (tables, collect),
    }


def seconds_of(name: str, rows: int) -> float:
    """Run one way to its end."""
    with tempfile.TemporaryDirectory(dir=Path.home()) as folder:
        make, take = ways(Path(folder))[name]
        chunks = beam.Create(range(0, rows, CHUNK), reshuffle=False)
        began = time.perf_counter()
        with beam.Pipeline("FnApiRunner", options=PipelineOptions([])) as pipeline:
            _ = pipeline | chunks | beam.FlatMap(make) | "Measured" >> take
        seconds = time.perf_counter() - began
        if isinstance(take, CollectBatches):
            assert batch_collection.open(Path(folder, "ours")).rows == rows
    return seconds


def staged(job: Job, panes: int) -> list[PaneReport]:
    """Stage panes of ten rows, window after window, each shard's in turn."""
    storage, newest = open_storage(job.collection), begun(job)
    reports = []
    for number in range(panes):
        window, shard = divmod(number, SHARDS)
        start = EPOCH + timedelta(seconds=BEGAN) + window * job.interval
        rows = [(0, {"id": n, "value": n / 7}) for n in range(10)]
        fired = Fired(start, shard, 0, is_early=False, checksum=f"{number}", elements=rows)
        output = Output("parquet", "zstd", "none")
        reports.append(stage_pane(storage, newest, job, fired, output))
    return reports


def commits(panes: int, together: int) -> float:
    """Return the seconds of committing all panes, so many an entry."""
    with tempfile.TemporaryDirectory(dir=Path.home()) as folder:
        job = Job(
            collection=folder,
            run=new_token(),
            built_at=utc_now(),
            interval=INTERVAL,
            batch_size=CHUNK,
            shards=SHARDS,
            allowed_lateness=timedelta(days=1),
            schema={},
        )
        reports = staged(job, panes)
        began = time.perf_counter()
        for first in range(0, panes, together):
            commit_panes(job, reports[first : first + together])
        seconds = time.perf_counter() - began
        assert batch_collection.open(folder).rows == 10 * panes
    return seconds


def run(rows: int, panes: int) -> None:
    """Measure, and print."""
    rows_of = {name: rows * TIMES[name.partition(",")[0]] for name in ways(Path())}
    seconds: dict[str, list[float]] = {name: [] for name in rows_of}
    for turn in range(ROUNDS + 1):  # the first one warms up
        for name, many in rows_of.items():
            found = seconds_of(name, many if turn else CHUNK)
            seconds[name] += [found] if turn else []
    rates = {name: many / statistics.median(seconds[name]) for name, many in rows_of.items()}
    for name, rate in rates.items():
        base = next(each for each in rates if each.partition(",")[0] == name.partition(",")[0])
        print(f"{name:<32}{rate:>12,.0f} rows/s{rate / rates[base]:>8.2f}")
    for together in (1, SHARDS):
        entries = panes // together / commits(panes, together)
        print(f"{SHARDS} shards, {together:>2} panes an entry: {entries:,.0f} entries/s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--panes", type=int, default=320)
    given = parser.parse_args()
    run(given.rows, given.panes)
