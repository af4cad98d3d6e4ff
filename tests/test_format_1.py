"""Collections of format 1, written by the last version that began such, are read and go on."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

import batch_collection
from batch_collection.checkpoints.checkpoint import read_checkpoint
from batch_collection.checkpoints.ranges import Range
from batch_collection.inspection.audit import audit
from batch_collection.inspection.status import status
from batch_collection.log.entry import FORMS
from batch_collection.log.expiry import first_cycle
from batch_collection.publishing.expire import expire
from batch_collection.storage.local import LocalStorage
from batch_collection.windows import EPOCH
from pipeline.cli import main
from tests.builders import at
from tests.collecting import dead_letters_of, entries_of, manifests_of, strays_of
from tests.format_1 import (
    EXPIRED,
    FILES,
    NEXT_MORNING,
    Old,
    dead_among,
    headers_of,
    rows_among,
    rows_in,
    since,
    without,
)
from tests.logs import spans
from transforms.sources.kafka.embedded import EmbeddedBroker

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from batch_collection.log.entry import Entry
    from tests.format_1 import Rows

TEN = timedelta(seconds=10)


@pytest.fixture(scope="module", params=FILES)
def old(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Old]:
    """Return a collection of each output format."""
    with EmbeddedBroker() as broker:
        yield Old(request.param, broker, tmp_path_factory.mktemp("format-1"))


def assert_whole(path: Path) -> None:
    """See that the audit finds nothing, and nothing lies about."""
    assert audit(LocalStorage(str(path))).findings == ()
    assert strays_of(path) == []


def assert_format_1(path: Path, entries: Iterable[Entry]) -> None:
    """See that entries, and all files, are as the old program would have made them.

    It reads such entries, since it ignores fields that it does not know.
    """
    for entry in entries:
        assert format_of(path / f"log/{entry.cycle:020d}.json") == 1
        assert entry.form == FORMS[1]
        for file in entry.files:
            hour = file.path.rsplit("/", 1)[1][9:11]
            assert f"/window_hour={hour}/" in file.path
            if file.path.endswith(".parquet"):
                assert_map(path / file.path, "_headers")
        for letters in entry.dead_letters:
            assert_map(path / letters.path, "headers")
    for pattern in ("cursors/*", "expired/*", "log/checkpoint-*.json", "windows/*"):
        assert {format_of(file) for file in path.glob(pattern)} <= {1}


def format_of(file: Path) -> int:
    """Return the format that a file of JSON says it is of."""
    return int(json.loads(file.read_text())["format"])


def assert_map(file: Path, column: str) -> None:
    """See that a column of headers is a MAP, if the file was neither expired nor redriven."""
    if file.exists():
        assert pa.types.is_map(pq.read_schema(file).field(column).type)


def test_what_was_kept_has_a_bit_of_everything(old: Old) -> None:
    """Else what follows would show little."""
    entries, storage = entries_of(old.path), LocalStorage(str(old.path))
    panes = [pane for entry in entries for pane in entry.panes]
    hours = {path.name for path in old.path.glob("data/*/window_hour=*")}

    assert first_cycle(storage) == entries[0].cycle == 999
    assert read_checkpoint(storage, Range(1000, 1999)) is not None
    assert (old.path / "expired" / "0000000000.json").exists()
    assert {entry.format for entry in entries} == {1}
    assert {"interval", "count", "pin", "redrive"} <= {entry.cause for entry in entries}
    assert {pane.timing for pane in panes} == {"early", "on_time", "late"}
    assert hours == {f"window_hour={hour}" for hour in ("07", "08", "09", "10", "11", "12")}
    assert max(map(len, manifests_of(old.path).values())) == 3
    assert {file.indexed for file in entries[-1].carry} == {False, True}
    assert {file.shard for file in entries[-1].carry} == {0, 1}
    assert len(entries[-1].open) == 2
    assert {index for _, _, index in old.visible} == {None, 0, 1, 2}
    assert_format_1(old.path, entries)


def test_all_of_it_is_read(old: Old) -> None:
    """By each way, and equal to what the messages say."""
    view, rows = batch_collection.open(old.path), old.visible
    by_window: dict[datetime, Rows] = defaultdict(dict)
    for place, row in rows.items():
        by_window[EPOCH + (row["_timestamp"] - EPOCH) // TEN * TEN][place] = row

    assert rows_in(view.table()) == rows
    assert rows_in(*(batch.table() for batch in view)) == rows
    assert view.rows == len(rows)
    for window in view.windows():
        assert rows_in(*(b.table() for b in window.batches)) == by_window.pop(window.start)
    assert by_window == {}
    assert rows_in(view.between(at("08:00:00")).table()) == since(rows, at("08:00:00"))
    for cycle in (999, 1003, 1500, 2021):
        expected = rows_in(*(batch.table() for batch in view if batch.cycle <= cycle))
        assert rows_in(view.at(cycle).table()) == expected
    total = sum(row["id"] for row in rows.values())
    added = sum("added" in row for row in rows.values())
    sums = view.to_duckdb().aggregate("count(*), sum(id), count(added)")
    assert sums.fetchall() == [(len(rows), total, added)]
    frame = view.to_polars().select("id", "added").collect()
    assert (frame["id"].sum(), frame["added"].count()) == (total, added)
    assert int(view.to_pandas(["id"])["id"].sum()) == total


def test_files_are_read_by_others(old: Old) -> None:
    """DuckDB reads ``data/`` of each format, pyarrow and Polars Parquet, as docs/ says how."""
    data, rows = old.path / "data", old.visible
    sums = (len(rows), sum(row["id"] for row in rows.values()), sum(at for _, at, _ in rows))
    read = "read_parquet" if old.name == "parquet" else "read_json"
    files = f"{read}('{data}/**/*.{old.name.replace('-gzip', '.gz')}', union_by_name = true)"

    with duckdb.connect() as connection:
        query = f"SELECT count(*), sum(id), sum(_offset) FROM {files}"
        assert connection.execute(query).fetchone() == sums
    if old.name != "parquet":
        return
    schema = batch_collection.open(old.path).table().schema
    assert rows_in(ds.dataset(data, schema, format="parquet").to_table()) == rows
    frame = pl.scan_parquet(
        f"{data}/**/*.parquet",
        schema=pl.from_arrow(schema.empty_table()).schema,
        missing_columns="insert",
        cast_options=pl.ScanCastOptions(integer_cast="allow-float"),
    ).collect()
    assert (frame.height, frame["id"].sum(), frame["_offset"].sum()) == sums


def test_what_became_of_each_message_is_told(old: Old, capsys: pytest.CaptureFixture[str]) -> None:
    """By the audit and by ``status``, with the checkpoint and without; dead letters are whole."""
    storage = LocalStorage(str(old.path))
    found, ids = status(storage), [batch.id for batch in batch_collection.open(storage)]
    letters, dead = dead_letters_of(old.path), dead_among(old.before)

    assert_whole(old.path)
    with spans(levels=0):  # as if it had no checkpoint
        assert (found, ids) == (status(storage), [b.id for b in batch_collection.open(storage)])
    assert found.totals.messages == len(old.before)
    assert found.totals.waiting_rows == len(old.waiting) == 8
    assert (found.totals.dead_letters, found.totals.redriven) == (len(dead), 1)
    assert found.expired is not None
    assert found.totals.rows == len(old.visible)
    all_rows = found.totals.rows + found.expired.rows + found.totals.waiting_rows
    assert all_rows == len(rows_among(old.before))
    assert set(letters) == dead_among(old.before, EXPIRED)
    for place, letter in letters.items():
        message = old.before[place]
        assert (letter["value"], letter["key"]) == (message.value, message.key)
        assert letter["headers"] == headers_of(message)
    assert main(["status", str(old.path)]) == 0
    assert "8 rows" in capsys.readouterr().out


def test_it_is_continued_as_format_1(old: Old) -> None:
    """What waits is taken up, paths and headers stay as they are, each row is there once."""
    collecting = old.copy()
    path = collecting.path
    waited = {file.path for file in entries_of(path)[-1].carry}

    (entry,) = collecting.once(NEXT_MORNING)

    assert waited <= set(entry.released)
    assert not any((path / name).exists() for name in waited)
    assert {pane.timing for pane in entry.panes} == {"on_time", "late"}
    assert "04" in {re.findall(r"window_hour=(\d+)/", file.path)[0] for file in entry.files}
    rows = old.all_rows()
    waiting = without(since(rows, NEXT_MORNING - timedelta(seconds=3)), old.visible)
    assert sum(file.rows for file in entry.carry) == len(waiting)
    assert rows_in(batch_collection.open(path).table()) == without(rows, waiting)
    assert set(dead_letters_of(path)) == dead_among(old.messages, EXPIRED)
    assert_format_1(path, [entry])
    assert_whole(path)


def test_dead_letters_are_redriven(old: Old) -> None:
    """Under another type they are rows, with their headers; the others stay."""
    path = old.copy().path

    old.redrive(path)

    rows = without(since(rows_among(old.before, halves=True), EXPIRED), old.waiting)
    assert len(rows) == len(old.visible) + 4
    assert rows_in(batch_collection.open(path).table()) == rows
    assert {value["id"] for value in rows.values() if "_headers" in value} >= {7}
    assert set(dead_letters_of(path)) == dead_among(old.before, EXPIRED, halves=True)
    assert_format_1(path, entries_of(path)[-2:])
    assert_whole(path)


def test_more_of_it_expires(old: Old) -> None:
    """Up to the last hour; the second stub speaks for the first one, too."""
    path = old.copy().path
    storage = LocalStorage(str(path))

    found = expire(storage, at("10:00:00"), at("12:00:00"))

    left = since(old.visible, at("10:00:00"))
    assert found.rows == len(old.visible) - len(left)
    assert rows_in(batch_collection.open(path).table()) == left
    totals, before = status(storage).totals, status(LocalStorage(str(old.path))).totals
    of_files = ("rows", "late_rows", "files", "bytes", "rows_per_file")  # of those that are there
    assert totals == replace(before, **{name: getattr(totals, name) for name in of_files})
    assert totals.rows == len(left)
    assert first_cycle(storage) > 2000
    assert_whole(path)


def test_followers_go_on(old: Old) -> None:
    """That of the old program behind what it has read, a new one with all that is left."""
    view = batch_collection.open(old.copy().path)
    ids = [batch.id for batch in view]
    read = [batch.id for batch in view if batch.cycle <= 1003]

    assert [batch.id for batch in view.follow(cursor="old", once=True)] == ids[len(read) :]
    assert [batch.id for batch in view.follow(cursor="new", once=True)] == ids
    assert list(view.follow(cursor="old", once=True)) == []


def test_it_is_exported(old: Old, tmp_path: Path) -> None:
    """To JSON lines, whole; some columns to TFRecord."""
    assert export(old.path, tmp_path / "lines") == old.visible
    records = [f"--output={tmp_path / 'records'}", "--to=tfrecord", "--columns=id,name,level"]
    assert main(["export", str(old.path), *records]) == 0


def export(path: Path, output: Path) -> Rows:
    """Export a collection as JSON lines, and return the rows."""
    assert main(["export", str(path), "--to=jsonl", f"--output={output}"]) == 0
    (part,) = output.glob("part-*")
    table = [json.loads(line) for line in part.read_text().splitlines()]
    for row in table:
        row["_timestamp"] = datetime.fromisoformat(row["_timestamp"].replace("Z", "+00:00"))
    return rows_in(pa.Table.from_pylist(table))


def test_it_lives_on(old: Old, tmp_path: Path) -> None:
    """Redriven, continued, redriven again and expired, it is whole at each step."""
    collecting = old.copy()
    path = collecting.path
    storage, newest = LocalStorage(str(path)), entries_of(path)[-1].cycle

    collecting.once(NEXT_MORNING)
    old.redrive(path)
    assert_whole(path)
    collecting.once(NEXT_MORNING + TEN)
    assert_whole(path)
    rows = old.all_rows(halves=True)
    assert rows_in(batch_collection.open(path).table()) == rows

    expire(storage, at("10:00:00"), NEXT_MORNING + TEN)

    assert_whole(path)
    assert_format_1(path, [entry for entry in entries_of(path) if entry.cycle > newest])
    view, left = batch_collection.open(path), since(rows, at("10:00:00"))
    assert rows_in(view.table()) == left
    followed = view.follow(cursor="old", once=True, on_expired="skip")
    assert rows_in(*(batch.table() for batch in followed)) == left
    assert export(path, tmp_path / "lines") == left
    assert pc.sum(view.table(["load"])["load"].cast(pa.float64())).as_py() == sum(
        row.get("load", 0) for row in left.values()
    )


def test_a_window_ahead_of_which_nothing_was_noted_is_closed_with_its_rows(old: Old) -> None:
    """The old program noted no early pane of a window more than a day ahead (``open``)."""
    collecting, start = old.copy(), at("12:00:00") + timedelta(days=2)
    path = collecting.path
    assert start not in entries_of(path)[-1].open

    entries = collecting.once(start + timedelta(seconds=13))

    (manifest,) = manifests_of(path)[start]
    assert sum(file["rows"] for file in manifest["files"]) == 1
    ranges = [span for entry in entries for span in entry.closed_empty]
    assert not any(begin <= start < end for begin, end in ranges)
    assert_whole(path)


def test_it_may_be_upgraded(old: Old) -> None:
    """Its entries are of format 2 then, its files go on as they were begun."""
    collecting = old.copy()
    before = entries_of(collecting.path)

    assert main(["upgrade", str(collecting.path)]) == 0
    added = collecting.once(NEXT_MORNING)

    assert {entry.form for entry in added} == {FORMS[1]}
    assert {entry.format for entry in entries_of(collecting.path)[len(before) :]} == {2}
    files = {path for entry in added for path in (file.path for file in entry.files)}
    assert all(re.search("/window_hour=[0-9]{2}/", path) for path in files)
    assert_whole(collecting.path)
