"""Beam's own windows and count trigger in front of a collection, for any pipeline."""

from __future__ import annotations

import logging
import random
import re
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.core import RestrictionProvider
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Timestamp

import batch_collection
from batch_collection.checkpoints.making import keep_up
from batch_collection.errors import LogError
from batch_collection.inspection.audit import audit
from batch_collection.inspection.status import status
from batch_collection.log.entries import newest_entry, read_entries
from batch_collection.publishing.expire import expire
from batch_collection.storage.opening import open_storage
from batch_collection.windows import utc_now
from pipeline.cli import main as run_cli
from tests.builders import Collector, message
from tests.collecting import Stream
from transforms.collect_batches import CollectBatches

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from batch_collection.log.entry import Entry
    from tests.services.flink import FlinkServer
    from tests.services.prism import PrismServer
    from transforms.sources.kafka.embedded import EmbeddedBroker

MINUTE = timedelta(minutes=1)
NOON = 1_795_348_800
"""2026-11-22T12:00:00Z in seconds."""

# what a pipeline gave: the runner works in this process
_paths: list[str] = []


def _keep(path: str) -> None:
    _paths.append(path)


def timed(row: Any, second: float = 0) -> TimestampedValue:
    """Give a row its time, in seconds after noon."""
    return TimestampedValue(row, NOON + second)


def numbered(count: int, second: float = 0, first: int = 0) -> list[TimestampedValue]:
    """Return rows of one time."""
    return [timed({"n": number}, second) for number in range(first, first + count)]


def collect(source: Any, output: Path, **changes: Any) -> list[str]:
    """Run a pipeline to its end: a stream on the one of Beam's runners that knows streams."""
    options = {"interval": MINUTE, "batch_size": 10, **changes}
    is_stream = isinstance(source, TestStream)
    runner = "BundleBasedDirectRunner" if is_stream else "FnApiRunner"
    flags = ["--streaming"] if is_stream else []
    _paths.clear()
    with TestPipeline(runner=runner, options=PipelineOptions(flags)) as pipeline:
        begin = source if is_stream else beam.Create(source, reshuffle=False)
        paths = pipeline | begin | CollectBatches(output=output, **options)
        _ = paths | beam.Map(_keep)
    return list(_paths)


def entries_of(output: Path) -> list[Entry]:
    """Return a log."""
    storage = open_storage(str(output))
    newest = newest_entry(storage)
    assert newest is not None
    return list(read_entries(storage, 0, newest.cycle))


def files_of(output: Path) -> list[tuple[str, int]]:
    """Return the timing and rows of each file, in the log's order."""
    return [(batch.timing, batch.rows) for batch in batch_collection.open(output)]


def rows_of(output: Path) -> list[dict[str, Any]]:
    """Return all rows, and see that the collection is sound."""
    assert audit(open_storage(str(output))).findings == ()
    assert [path for path in (output / "staging").rglob("*") if path.is_file()] == []
    return batch_collection.open(output).table().to_pylist()


def numbers_of(output: Path) -> list[int]:
    """Return the numbers of all rows, sorted."""
    return sorted(row["n"] for row in rows_of(output))


def stream(*steps: Sequence[TimestampedValue] | float) -> TestStream:
    """Return a stream of bundles, and watermarks in seconds after noon."""
    source = TestStream().advance_watermark_to(NOON)
    for step in steps:
        if isinstance(step, (int, float)):
            source = source.advance_watermark_to(NOON + step)
        else:
            source = source.add_elements(list(step))
    return source.advance_watermark_to_infinity()


def test_rows_one_by_one_fill_batches_and_a_late_one_has_its_own(tmp_path: Path) -> None:
    """The card in Beam's own words: 10, 10, 5, and 1 behind the window's end."""
    one_by_one = [[row] for row in numbered(25)]

    paths = collect(stream(*one_by_one, 120, numbered(1, first=25)), tmp_path / "c")

    expected = [("early", 10), ("early", 10), ("on_time", 5), ("late", 1)]
    assert files_of(tmp_path / "c") == expected
    assert numbers_of(tmp_path / "c") == list(range(26))
    assert paths == [f"log/{cycle:020d}.json" for cycle in range(1, 5)]
    (window,) = batch_collection.open(tmp_path / "c").windows()
    assert window.is_closed
    assert sorted(path.name for path in (tmp_path / "c" / "windows").iterdir()) == [
        "20261122T120000Z.r1.json",
        "20261122T120000Z.r2.json",
    ]


def test_a_pane_of_more_rows_than_a_batch_is_cut_full_ones_first(tmp_path: Path) -> None:
    """A bundle of 13 fires the trigger of 10 once: so panes are of at least that many elements."""
    collect(stream(numbered(13), numbered(13, first=13)), tmp_path / "c")

    assert [rows for _, rows in files_of(tmp_path / "c")] == [10, 3, 10, 3]
    assert numbers_of(tmp_path / "c") == list(range(26))


def equal_rows() -> TestStream:
    """Return the same row again and again, two panes in time, one with the end, one late."""
    return stream(*[numbered(1)] * 25, 120, numbered(1))


def test_rows_that_are_equal_are_all_there(tmp_path: Path) -> None:
    """Their panes have one checksum, and are told apart by their numbers."""
    collect(equal_rows(), tmp_path / "c")

    assert numbers_of(tmp_path / "c") == [0] * 26


def test_bounded_rows_are_cut_by_windows_and_all_are_closed(tmp_path: Path) -> None:
    """On the batch runner, where each window has one large pane and an empty one."""
    rows = [row for minute in range(3) for row in numbered(25, minute * 60, minute * 25)]

    collect(rows, tmp_path / "c")

    collection = batch_collection.open(tmp_path / "c")
    assert sorted(batch.rows for batch in collection) == sorted([10, 10, 5] * 3)
    assert [window.is_closed for window in collection.windows()] == [True] * 3
    assert numbers_of(tmp_path / "c") == list(range(75))


def test_an_empty_pane_makes_no_file_and_closes_its_window(tmp_path: Path) -> None:
    """Ten rows are a full batch; what the window's end brings is nothing."""
    collect(stream(*[[row] for row in numbered(10)], 120), tmp_path / "c")

    early, closing = entries_of(tmp_path / "c")[1:]
    assert [(pane.timing, pane.rows) for pane in early.panes] == [("early", 10)]
    assert [(pane.timing, pane.rows, pane.files) for pane in closing.panes] == [("on_time", 0, ())]
    assert closing.boundary == datetime.fromtimestamp(NOON + 60, timezone.utc)
    assert (tmp_path / "c" / "windows" / "20261122T120000Z.r1.json").is_file()
    assert numbers_of(tmp_path / "c") == list(range(10))


def test_rows_beyond_the_allowed_lateness_are_dropped_by_beam(tmp_path: Path) -> None:
    """Within it they are late panes."""
    within, beyond = numbered(1, first=1), numbered(1, first=2)
    source = stream(numbered(1), 120, within, 60 + 3600 + 1, beyond)

    collect(source, tmp_path / "c", allowed_lateness=timedelta(hours=1))

    assert files_of(tmp_path / "c") == [("on_time", 1), ("late", 1)]
    assert numbers_of(tmp_path / "c") == [0, 1]


@pytest.mark.parametrize("is_stream", [True, False])
def test_several_shards_close_a_window_together(tmp_path: Path, *, is_stream: bool) -> None:
    """Each has an on-time pane of every window, though some have no row of it."""
    first, second = numbered(2), numbered(40, 60, 2)
    source: Any = stream(first, 60, second, 120) if is_stream else [*first, *second]

    collect(source, tmp_path / "c", shards=4)

    collection = batch_collection.open(tmp_path / "c")
    assert [window.is_closed for window in collection.windows()] == [True, True]
    assert numbers_of(tmp_path / "c") == list(range(42))
    assert collection.newest.awaited == ()
    shards = {path.name.split("-")[2] for path in (tmp_path / "c" / "data").rglob("*.parquet")}
    assert len(shards) > 1


def test_a_second_run_appends(tmp_path: Path) -> None:
    """What its source gives again is there again."""
    collect(numbered(3), tmp_path / "c")
    collect(numbered(3), tmp_path / "c")

    assert numbers_of(tmp_path / "c") == [0, 0, 1, 1, 2, 2]
    assert [batch.timing for batch in batch_collection.open(tmp_path / "c")] == ["on_time", "late"]


def test_each_use_of_one_transform_is_a_run_of_its_own(tmp_path: Path) -> None:
    """Else the second would be taken for a bundle of the first that is repeated."""
    collected = CollectBatches(output=tmp_path / "c", interval=MINUTE, batch_size=10)
    for _ in range(2):
        with TestPipeline(runner="FnApiRunner", options=PipelineOptions([])) as pipeline:
            _ = pipeline | beam.Create(numbered(2), reshuffle=False) | collected

    assert numbers_of(tmp_path / "c") == [0, 0, 1, 1]


def test_a_shard_that_was_told_of_a_window_and_has_no_row_closes_it_too(tmp_path: Path) -> None:
    """Though what it was told has fired the trigger already, and its last pane is empty."""
    collect(stream(numbered(1), 120), tmp_path / "c", shards=3, batch_size=1)

    early, closing = entries_of(tmp_path / "c")[1], entries_of(tmp_path / "c")[-1]
    assert [pane.timing for pane in early.panes] == ["early"]
    assert closing.boundary == datetime.fromtimestamp(NOON + 60, timezone.utc)
    assert sum(len(entry.origins) for entry in entries_of(tmp_path / "c")) == 4
    assert numbers_of(tmp_path / "c") == [0]


def test_a_bundle_that_is_repeated_is_there_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker ends when all is committed, and before its runner is told."""
    real, lost = keep_up, list[int]()

    def ends_at_first(storage: Any, cycle: int) -> None:
        real(storage, cycle)
        if not lost:
            lost.append(cycle)
            message = "the worker ends"
            raise OSError(message)

    monkeypatch.setattr("transforms.committing.panes.keep_up", ends_at_first)
    logging.disable()
    try:
        collect(stream(numbered(3), 120), tmp_path / "c")
    finally:
        logging.disable(logging.NOTSET)

    assert lost == [1]
    assert numbers_of(tmp_path / "c") == [0, 1, 2]
    assert len(entries_of(tmp_path / "c")) == 2


class Point(NamedTuple):
    """A row as Beam's schemas have them."""

    n: int
    name: str


@dataclass
class Spot:
    """A row as a dataclass."""

    n: int
    name: str


TABLE = pa.table({"n": [1, 2], "name": ["a", "b"]})


@pytest.mark.parametrize(
    "elements",
    [
        [{"n": 1, "name": "a"}, {"n": 2, "name": "b"}],
        [Point(1, "a"), Point(2, "b")],
        [Spot(1, "a"), Spot(2, "b")],
        [beam.Row(n=1, name="a"), beam.Row(n=2, name="b")],
        [TABLE],
        [*TABLE.to_batches()],
        [TABLE.slice(0, 1), {"n": np.int64(2), "name": "b"}],
        [TABLE, TABLE.slice(0, 0)],
    ],
    ids=lambda elements: type(elements[0]).__name__,
)
def test_rows_come_in_many_forms(tmp_path: Path, elements: list[Any]) -> None:
    """An element's time is that of all its rows."""
    collect([timed(each) for each in elements], tmp_path / "c")

    found = sorted(rows_of(tmp_path / "c"), key=lambda row: row["n"])
    assert found == [{"n": 1, "name": "a"}, {"n": 2, "name": "b"}]


def test_files_have_at_most_so_many_rows_of_tables_too(tmp_path: Path) -> None:
    """The trigger counts a table as one; files are cut by rows."""
    table = pa.table({"n": range(25)})

    collect([timed(table)], tmp_path / "c")

    assert [rows for _, rows in files_of(tmp_path / "c")] == [10, 10, 5]
    assert numbers_of(tmp_path / "c") == list(range(25))


@pytest.mark.parametrize("output_format", ["parquet", "jsonl"])
def test_values_are_what_they_were(tmp_path: Path, output_format: str) -> None:
    """Nested ones, instants, dates and bytes, in either format."""
    row = {
        "n": 1,
        "flag": True,
        "text": "\N{SNOWMAN}",
        "raw": b"\x00\xff",
        "when": datetime(2026, 11, 22, 12, 0, 0, 5, tzinfo=timezone.utc),
        "day": date(2026, 11, 22),
        "inner": {"a": [1, 2], "b": {"c": None, "d": 0.5}},
        "many": [{"x": 1}, {"y": "z"}],
        "nothing": None,
        "array": np.array([1.5, 2.5]),
    }

    collect([timed(row)], tmp_path / "c", output_format=output_format)

    (found,) = rows_of(tmp_path / "c")
    assert found == {
        **{name: row[name] for name in ("n", "flag", "text", "raw", "when")},
        "day": datetime(2026, 11, 22, tzinfo=timezone.utc),
        "inner": {"a": [1, 2], "b": {"d": 0.5}},
        "many": [{"x": 1, "y": None}, {"x": None, "y": "z"}],
        "array": [1.5, 2.5],
    }


def test_integers_become_fractions_once_one_comes(tmp_path: Path) -> None:
    """In one pane, and in a later one: then the type is pinned, and readers have all as that."""
    collect([timed({"n": 1, "x": 1}), timed({"n": 2, "x": 1.5})], tmp_path / "c")
    collect([timed({"n": 3, "x": 2, "y": 1})], tmp_path / "c")
    collect([timed({"n": 4, "x": 2.5, "y": 0.5})], tmp_path / "c")

    assert entries_of(tmp_path / "c")[-1].pinned == ("y",)
    found = sorted(rows_of(tmp_path / "c"), key=lambda row: row["n"])
    assert [(row["x"], row["y"]) for row in found] == [
        (1.0, None),
        (1.5, None),
        (2.0, 1.0),
        (2.5, 0.5),
    ]


def test_types_that_are_given_are_kept(tmp_path: Path) -> None:
    """Also for columns that no row has yet; others are added."""
    schema = pa.schema({"x": pa.float32(), "when": pa.timestamp("us", "UTC"), "id": pa.string()})

    collect(
        [timed({"n": 1, "x": 1, "when": "2026-11-22T12:00:00Z", "id": 5})],
        tmp_path / "c",
        schema=schema,
    )

    (found,) = rows_of(tmp_path / "c")
    when = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
    assert found == {"x": 1.0, "when": when, "id": "5", "n": 1}
    assert entries_of(tmp_path / "c")[0].schema["x"] == "float"


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([{"x": 1}, {"x": "a"}], "column x: .*'a' with type str"),
        ([{"x": Decimal("1.5")}], "column x has type decimal128"),
        ([{"x": object()}], "column x: "),
        ([{"x": 2**70}], "column x: "),
        ([{1: 2}], "key 1; name columns by text"),
        ([5], "got 5, a int; give it dictionaries"),
        ([{"window_date": 1}], "'window_date'"),
        ([{"A": 1, "a": 2}], "differ by case"),
        ([pa.table([[1], [2]], names=["x", "x"])], "two columns of one name"),
    ],
)
def test_a_row_that_cannot_be_written_is_an_error(
    tmp_path: Path, rows: list[Any], problem: str
) -> None:
    """Nothing is dropped: the bundle fails, and says why."""
    with pytest.raises(Exception, match=problem):
        collect([timed(row) for row in rows], tmp_path / "c")


def test_a_value_of_another_type_than_the_collection_s_is_an_error(tmp_path: Path) -> None:
    """It names column, type and value, and what helps; with that type it goes on."""
    collect([timed({"n": 1, "x": 1})], tmp_path / "c")

    expected = r"column x is int64 and string came: .*; give CollectBatches a schema= .*--pin"
    with pytest.raises(Exception, match=expected):
        collect([timed({"n": 2, "x": "a"})], tmp_path / "c")

    assert numbers_of(tmp_path / "c") == [1]


def test_rows_without_a_time_are_refused(tmp_path: Path) -> None:
    """Beam gives those of a bounded source its least one."""
    with pytest.raises(Exception, match="TimestampedValue"):
        collect([{"n": 1}], tmp_path / "c")


def test_all_that_is_wrong_with_the_arguments_is_said_at_once() -> None:
    """By their names, where the pipeline is built."""
    problems = (
        "interval must be a timedelta of whole seconds, at least 1, got 60; "
        "batch_size must be a whole number of at least 1, got 0; "
        "shards must be a whole number of at least 1, got 1.5; "
        "allowed_lateness must be a timedelta of at least 0, got datetime.timedelta(days=-1); "
        "unknown output_format='csv'; use one of: jsonl, parquet"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(problems)}$"):
        CollectBatches(
            output="c",
            interval=60,  # type: ignore[arg-type]
            batch_size=0,
            shards=1.5,  # type: ignore[arg-type]
            allowed_lateness=timedelta(days=-1),
            output_format="csv",
        )
    with pytest.raises(ValueError, match=re.escape("unknown compression='lzma'; use one of:")):
        CollectBatches(output="c", interval=MINUTE, batch_size=1, compression="lzma")


def build(output: Path, **changes: Any) -> None:
    """Build a pipeline, and do not run it."""
    pipeline = TestPipeline(runner="FnApiRunner", options=PipelineOptions([]))
    options = {"interval": MINUTE, "batch_size": 10, **changes}
    _ = pipeline | beam.Create([{"n": 1}]) | CollectBatches(output=output, **options)


def test_another_kind_of_collection_is_refused_where_the_pipeline_is_built(tmp_path: Path) -> None:
    """A topic's; or one with another interval, or another type of a column that is given."""
    Collector(open_storage(str(tmp_path / "topic"))).collect(message(0), boundary="10:31:00")
    with pytest.raises(LogError, match="was collected from kafka; use another output="):
        build(tmp_path / "topic")

    collect(numbered(1), tmp_path / "c")
    with pytest.raises(LogError, match=r"interval=2m, but .* was begun with interval=1m"):
        build(tmp_path / "c", interval=2 * MINUTE)
    with pytest.raises(LogError, match=r"column n is string, but .* has it as int64"):
        build(tmp_path / "c", schema=pa.schema({"n": pa.string()}))
    build(tmp_path / "c", schema=pa.schema({"n": pa.int64(), "m": pa.string()}))


def test_it_is_refused_on_workers_where_it_was_not_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who builds the pipeline may not reach the output."""
    Collector(open_storage(str(tmp_path / "topic"))).start()
    monkeypatch.setattr("transforms.collect_batches._check_output", lambda _: None)

    with pytest.raises(Exception, match="was collected from kafka; use another output="):
        collect(numbered(1), tmp_path / "topic")


def test_the_collection_is_read_like_any_other(tmp_path: Path) -> None:
    """Status, follow, training and expire know of no topic."""
    output = tmp_path / "c"
    collect([*numbered(12), *numbered(3, 60, 12)], output)
    collect(numbered(1, 120, 15), output)

    found = status(open_storage(str(output)))
    assert (found.source.kind, found.totals.rows, found.totals.closed_windows) == ("beam", 16, 3)
    assert all(file.offsets == {} for entry in entries_of(output) for file in entry.files)
    collection = batch_collection.open(output)
    assert sum(batch.rows for batch in collection.follow("test", once=True)) == 16
    assert sum(len(arrays["n"]) for arrays in collection.to_numpy_batches(batch_size=4)) == 16
    assert collection.complete().table().num_rows == 16
    expire(open_storage(str(output)), datetime.fromtimestamp(NOON + 60, timezone.utc), utc_now())
    assert numbers_of(output) == [12, 13, 14, 15]


def test_commands_know_of_no_topic(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], embedded: EmbeddedBroker
) -> None:
    """A type is pinned, a topic is not collected into it, no broker tells its lag."""
    output = tmp_path / "c"
    collect(numbered(12), output)

    assert run_cli(["status", str(output)]) == 0
    said = capsys.readouterr().out
    assert f"{output}\nbeam, windows of 1m by row time (element)\n" in said
    assert " pane " in said
    assert run_cli(["audit", str(output)]) == 0
    expected = "12 rows and 0 waiting of 2 panes; each pane once, offsets there are none"
    assert expected in capsys.readouterr().out
    assert run_cli(["status", str(output), "--bootstrap_servers=localhost:1"]) == 0
    assert "was collected from beam: no broker tells its lag" in capsys.readouterr().out
    assert run_cli(["schema", str(output), "--pin", "n=string"]) == 0
    collect(numbered(1, first=12), output)
    assert max(row["n"] for row in rows_of(output)) == "9"
    assert entries_of(output)[-1].schema == {"n": "string"}
    assert run_cli(["schema", str(output), "--drop", "n"]) == 0
    collect([timed({"n": 13, "m": 1})], output)
    assert rows_of(output)[-1] == {"n": None, "m": 1}
    stream = Stream(embedded)
    (tmp_path / "c").rename(tmp_path / stream.name)
    collecting = ["collect", f"--bootstrap_servers={embedded.bootstrap_servers}", "--once"]
    collecting += [f"--topics={stream.name}", f"--output={tmp_path}", "--interval=1m"]
    assert run_cli(collecting) == 2
    assert "was collected from beam, not kafka; use another --output" in capsys.readouterr().err


PROGRAM = """
import sys
from datetime import timedelta

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.window import TimestampedValue

from transforms.collect_batches import CollectBatches

source, noon = TestStream(), int(sys.argv[2])
for minute in range(int(sys.argv[3])):
    start = noon + 60 * minute
    rows = [TimestampedValue({"n": 25 * minute + n}, start) for n in range(25)]
    source = source.add_elements(rows).advance_watermark_to(start + 60)
options = PipelineOptions(["--runner=BundleBasedDirectRunner", "--streaming"])
with beam.Pipeline(options=options) as pipeline:
    collected = CollectBatches(
        output=sys.argv[1], interval=timedelta(minutes=1), batch_size=10, shards=2
    )
    _ = pipeline | source.advance_watermark_to_infinity() | collected | beam.Map(print, flush=True)
"""


def started(output: Path, windows: int) -> subprocess.Popen[str]:
    """Start a program that collects, and says each entry when it has committed it."""
    command = [sys.executable, "-c", PROGRAM, str(output), str(NOON), str(windows)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("kills", "windows"),
    [(1, 4), pytest.param(6, 12, marks=pytest.mark.slow)],
    ids=["once", "often"],
)
def test_a_killed_pipeline_leaves_what_it_has_committed(
    tmp_path: Path, kills: int, windows: int
) -> None:
    """SIGKILL at a random moment; whoever starts it again has all that its source gives again."""
    rng, output = random.Random(5), tmp_path / "c"
    for _ in range(kills):
        with started(output, windows) as process:
            assert process.stdout is not None
            for _ in range(rng.randrange(1, windows)):
                process.stdout.readline()
            time.sleep(rng.uniform(0, 0.1))  # the moment of death is what is tried
            process.kill()
    of_killed = [origin.run for entry in entries_of(output) for origin in entry.origins]
    with started(output, windows) as process:
        process.communicate()
    assert process.returncode == 0

    assert audit(open_storage(str(output))).findings == ()
    counts = Counter[str]()
    for entry in entries_of(output)[1:]:
        for origin in entry.origins:
            assert not origin.repeated
            counts[origin.run] += origin.rows
    assert counts.pop(entries_of(output)[-1].run) == 25 * windows
    assert counts.keys() == set(of_killed)
    times = Counter(batch_collection.open(output).table()["n"].to_pylist())
    assert times.keys() == set(range(25 * windows))
    assert max(times.values()) <= kills + 1
    assert all(batch.rows <= 10 for batch in batch_collection.open(output))


def on(prism: PrismServer, *flags: str) -> TestPipeline:
    """Return a pipeline of a Prism that runs already."""
    options = ("--runner=PrismRunner", f"--job_endpoint={prism.endpoint}", *flags)
    return TestPipeline(options=PipelineOptions([*options, "--environment_type=LOOPBACK"]))


@pytest.mark.integration
def test_on_prism_rows_that_are_equal_are_all_there(prism: PrismServer, tmp_path: Path) -> None:
    """Whatever order it fires panes in, it numbers them."""
    with on(prism, "--streaming") as pipeline:
        collected = CollectBatches(output=tmp_path / "c", interval=MINUTE, batch_size=10)
        _ = pipeline | equal_rows() | collected

    assert numbers_of(tmp_path / "c") == [0] * 26


@pytest.mark.integration
@pytest.mark.parametrize("shards", [1, 2])
def test_on_prism_a_little_is_collected_exactly(
    prism: PrismServer, tmp_path: Path, shards: int
) -> None:
    """It loses rows behind a GroupByKey when they are many, so this shows the wiring only."""
    rows = [row for minute in range(3) for row in numbered(25, minute * 60, minute * 25)]

    with on(prism) as pipeline:
        _ = (
            pipeline
            | beam.Create(rows, reshuffle=False)
            | CollectBatches(output=tmp_path / "c", interval=MINUTE, batch_size=10, shards=shards)
        )

    assert numbers_of(tmp_path / "c") == list(range(75))
    assert all(batch.rows <= 10 for batch in batch_collection.open(tmp_path / "c"))
    assert batch_collection.open(tmp_path / "c").complete().table().num_rows == 75


WATERMARKS = ManualWatermarkEstimator.default_provider()


class Stepped(RestrictionProvider):
    """Whose restrictions are the steps that are left."""

    def initial_restriction(self, element: Any) -> OffsetRange:  # noqa: ARG002
        """Begin with the first of four."""
        return OffsetRange(0, 4)

    def create_tracker(self, restriction: OffsetRange) -> OffsetRestrictionTracker:
        """Track it."""
        return OffsetRestrictionTracker(restriction)

    def restriction_size(self, element: Any, restriction: OffsetRange) -> int:  # noqa: ARG002
        """Return how many are left."""
        return restriction.size()


@dataclass
class StepByStepFn(beam.DoFn):
    """Gives 10, 10, 5 rows and a late one, each step once a file shows the one before it."""

    output: str

    @beam.DoFn.unbounded_per_element()  # type: ignore[untyped-decorator]
    def process(
        self,
        _: bytes,
        tracker: Any = beam.DoFn.RestrictionParam(Stepped()),  # noqa: B008 - Beam's way
        estimator: Any = beam.DoFn.WatermarkEstimatorParam(WATERMARKS),  # noqa: B008
    ) -> Iterator[TimestampedValue]:
        """Give a step, or wait."""
        step = tracker.current_restriction().start
        if len(list(Path(self.output, "data").rglob("*.parquet"))) < step:
            time.sleep(0.1)
        elif tracker.try_claim(step):
            yield from numbered(*[(10, 0, 0), (10, 0, 10), (5, 0, 20), (1, 0, 25)][step])
            estimator.set_watermark(Timestamp(NOON + (120 if step > 1 else 0)))
        tracker.defer_remainder()


# of Beam's worker, a thread of which may see before it ends that Flink hangs up
HANGS_UP = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


@pytest.mark.integration
@pytest.mark.faults
@HANGS_UP
def test_on_flink_panes_are_early_on_time_and_late(flink: FlinkServer, tmp_path: Path) -> None:
    """Of a source that goes on for some time, and whose watermark is its own."""
    output = tmp_path / "c"
    with TestPipeline(options=PipelineOptions([*flink.flags, "--streaming"])) as pipeline:
        _ = (
            pipeline
            | beam.Impulse()
            | beam.ParDo(StepByStepFn(str(output)))
            | CollectBatches(output=output, interval=MINUTE, batch_size=10)
        )

    assert files_of(output) == [("early", 10), ("early", 10), ("on_time", 5), ("late", 1)]
    assert numbers_of(output) == list(range(26))


@pytest.mark.integration
@pytest.mark.faults
@HANGS_UP
def test_on_flink_two_pipelines_at_once_append_to_one_collection(
    flink: FlinkServer, tmp_path: Path
) -> None:
    """Whichever commits first, the rows of both are there once."""
    output, running = tmp_path / "c", []
    for first in (0, 500):
        rows = [row for n in range(5) for row in numbered(100, n * 60, first + n * 100)]
        pipeline = beam.Pipeline(options=PipelineOptions(flink.flags))
        collected = CollectBatches(output=output, interval=MINUTE, batch_size=10, shards=2)
        _ = pipeline | beam.Create(rows, reshuffle=False) | collected
        running.append(pipeline.run())
    assert [str(each.wait_until_finish()) for each in running] == ["DONE", "DONE"]

    assert numbers_of(output) == list(range(1000))
    assert len({origin.run for entry in entries_of(output) for origin in entry.origins}) == 2
