"""Reading a collection: snapshots, tables, windows, and following it."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, cast

import pyarrow as pa
import pytest

import batch_collection
from batch_collection.errors import CollectionError, LogError, StorageError
from batch_collection.log.batch import open_published
from batch_collection.paths import cursor_path
from batch_collection.publishing.publish import publish
from batch_collection.storage.local import LocalStorage
from tests.builders import Collector, at, message
from tests.storages import BusyStorage, Died, DyingStorage

if TYPE_CHECKING:
    from pathlib import Path

    from batch_collection.storage.contract import Storage


@pytest.fixture
def collector(tmp_path: Path) -> Collector:
    """Return a collector with two early batches of window 10:30, and one that closed it."""
    collector = Collector(LocalStorage(str(tmp_path / "collection")), batch_size=2)
    collector.collect(*(message(offset) for offset in range(5)))
    collector.collect(message(5, "10:31:30"), boundary="10:31:00")
    return collector


def offsets(batches: object) -> list[list[int]]:
    """Return the offsets in each batch."""
    return [batch.table(["_offset"]).column(0).to_pylist() for batch in batches]  # type: ignore[attr-defined]


def ids(collector: Collector, cursor: str, count: int | None = None) -> list[str]:
    """Follow to the end of the log, or until ``count`` batches are processed."""
    found: list[str] = []
    for batch in batch_collection.open(collector.storage).follow(cursor, once=True):
        if len(found) == count:
            break
        found.append(batch.id)
    return found


ALL = ["0000000001-0000", "0000000001-0001", "0000000002-0000"]


# open


def test_batches_come_in_the_order_of_the_log(collector: Collector) -> None:
    """Each with its window, its timing and an identity that stays."""
    first, second, third = batch_collection.open(collector.storage)

    assert offsets([first, second, third]) == [[0, 1], [2, 3], [4]]
    assert (first.window_start, first.window_end) == (at("10:30:00"), at("10:31:00"))
    assert [batch.timing for batch in (first, second, third)] == ["early", "early", "on_time"]
    assert [batch.id for batch in (first, second, third)] == ALL
    assert (second.cycle, second.number, second.rows) == (1, 1, 2)
    assert third.path.startswith("data/window_date=2026-11-22/window_hour=10/20261122T103000Z-")


def test_a_path_will_do(collector: Collector, tmp_path: Path) -> None:
    """As text or as a Path."""
    assert len(batch_collection.open(str(tmp_path / "collection"))) == 3
    assert batch_collection.open(tmp_path / "collection").rows == 5
    assert collector.newest is not None


def test_a_collection_is_a_snapshot(collector: Collector) -> None:
    """What is committed later is not seen: two looks at one view agree."""
    view = batch_collection.open(collector.storage)
    collector.collect(message(6), message(7, "10:31:40"), boundary="10:32:00")

    assert (len(view), view.rows, view.table().num_rows) == (3, 5, 5)
    assert batch_collection.open(collector.storage).rows == 8


def test_a_committed_entry_that_is_not_published_is_read_where_it_is_staged(
    collector: Collector,
) -> None:
    """And where it lies after that."""
    entry = collector.collect(message(6), message(7, "10:31:40"), published=False)
    view = batch_collection.open(collector.storage)
    staged = view.table()
    publish(collector.storage, entry)

    assert staged.num_rows == 8
    assert view.table().equals(staged)


def test_a_file_that_moves_under_the_reader_is_read(collector: Collector) -> None:
    """Not visible yet, staged no more: the third look finds it."""
    entry = collector.collect(message(6), message(7, "10:31:40"), published=False)
    batch = list(batch_collection.open(collector.storage))[-1]
    busy = BusyStorage(collector.storage, lambda: publish(collector.storage, entry), every=2)

    with open_published(cast("Storage", busy), batch.path, entry.moves[-1][0]) as file:
        assert file.read()
    assert busy.calls == 3


def test_staged_files_without_an_entry_are_not_read(collector: Collector) -> None:
    """They belong to a cycle that may never be committed."""
    collector.plan(message(6), message(7))

    assert batch_collection.open(collector.storage).rows == 5


def test_a_collection_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    """With the path."""
    expected = f"no collection in {tmp_path}: it has no log/00000000000000000000.json"
    with pytest.raises(LogError, match=re.escape(expected)):
        batch_collection.open(tmp_path)


def test_the_folder_above_is_pointed_down(collector: Collector, tmp_path: Path) -> None:
    """OUTPUT instead of OUTPUT/NAME is a slip that everybody makes."""
    assert collector.newest is not None
    expected = f"did you mean {tmp_path / 'collection'}?"
    with pytest.raises(LogError, match=re.escape(expected)):
        batch_collection.open(tmp_path)


# tables


def test_a_table_holds_all_rows(collector: Collector) -> None:
    """With the metadata columns last."""
    table = batch_collection.open(collector.storage).table()

    assert table.column("_offset").to_pylist() == [0, 1, 2, 3, 4]
    assert table.column_names == ["value", "_partition", "_offset", "_timestamp", "_index"]


def test_columns_come_as_asked_for(collector: Collector) -> None:
    """Those and no others, in that order."""
    table = batch_collection.open(collector.storage).table(["_offset", "value"])

    assert table.column_names == ["_offset", "value"]


def test_files_that_lack_a_later_column_have_nulls_in_it(collector: Collector) -> None:
    """A column that a message brought later is there for all rows."""
    collector.collect(message(6, colour="red"), boundary="10:32:00")
    view = batch_collection.open(collector.storage)

    assert view.table().column("colour").to_pylist() == [None] * 5 + ["red", None]
    assert view.table(["colour"]).column("colour").to_pylist() == [None] * 5 + ["red", None]


def test_objects_gain_fields(collector: Collector) -> None:
    """A field added later inside an object is null in earlier rows."""
    collector.collect(message(6, place={"x": 1}), boundary="10:32:00")
    collector.collect(message(7, place={"x": 2, "y": "b"}), boundary="10:33:00")
    table = batch_collection.open(collector.storage).table(["place"])

    places = [place for place in table.column("place").to_pylist() if place]
    assert places == [{"x": 1, "y": None}, {"x": 2, "y": "b"}]


def test_types_that_differ_are_refused(collector: Collector) -> None:
    """A text that is no number can't be read as one."""
    collector.collect(message(6, x=1), boundary="10:32:00")
    collector.collect(message(7, x="one"), boundary="10:33:00")
    view = batch_collection.open(collector.storage)

    with pytest.raises(CollectionError, match="column x is string in some batches, and not all"):
        view.table()
    assert view.table(["value"]).num_rows == 8


def test_integers_and_fractions_of_a_column_whose_type_was_changed_are_doubles(
    collector: Collector,
) -> None:
    """As far as doubles hold the integers exactly; else it is said."""
    collector.collect(message(6, x=2**53), boundary="10:32:00")
    collector.collect(message(7, x=0.5), boundary="10:33:00")
    view = batch_collection.open(collector.storage)
    assert view.table(["x"]).column("x").drop_null().to_pylist() == [float(2**53), 0.5]

    collector.collect(message(8, x=2**53 + 1), boundary="10:34:00")
    with pytest.raises(CollectionError, match=r"column x is int64 in some .* 9007199254740993 not"):
        batch_collection.open(collector.storage).table()


def test_a_column_that_no_batch_has_is_refused(collector: Collector) -> None:
    """A slip of the pen must not become a column of nulls."""
    view = batch_collection.open(collector.storage)

    with pytest.raises(CollectionError, match=r"no batch of .* has a column valu, vlaue"):
        view.table(["vlaue", "valu"])


def test_a_batch_refuses_a_column_it_lacks(collector: Collector) -> None:
    """And says which it has."""
    batch = next(iter(batch_collection.open(collector.storage)))

    expected = "has no column colour; it has: value, _partition, _offset, _timestamp, _index"
    with pytest.raises(CollectionError, match=re.escape(expected)):
        batch.table(["value", "colour"])


def test_a_collection_without_batches_is_empty(tmp_path: Path) -> None:
    """No rows, no windows, an empty table."""
    collector = Collector(LocalStorage(str(tmp_path)))
    collector.start()
    view = batch_collection.open(tmp_path)

    assert (len(view), view.rows, view.windows(), list(view)) == (0, 0, (), [])
    assert view.table().num_rows == 0


def test_a_batch_that_is_gone_is_a_clear_error(collector: Collector) -> None:
    """With the next step."""
    batch = next(iter(batch_collection.open(collector.storage)))
    collector.storage.delete([batch.path])

    with pytest.raises(StorageError, match="is gone, though the log names it; run"):
        batch.table()


def test_a_batch_that_is_damaged_is_a_clear_error(collector: Collector) -> None:
    """With the next step."""
    batch = next(iter(batch_collection.open(collector.storage)))
    collector.storage.replace(batch.path, b"no parquet")

    with pytest.raises(StorageError, match=re.escape(f"cannot read {batch.path}: ")):
        batch.table()


def test_json_lines_are_read_as_parquet_is(tmp_path: Path) -> None:
    """The format is a matter of the collector's."""
    collector = Collector(LocalStorage(str(tmp_path)), format="jsonl")
    collector.collect(message(0), message(1), boundary="10:31:00")
    table = batch_collection.open(tmp_path).table(["value", "_timestamp"])

    assert table.column("value").to_pylist() == [0.0, 1.0]
    assert table.schema.field("_timestamp").type == pa.timestamp("ms", "UTC")


# windows


def test_windows_come_by_time_with_all_their_batches(collector: Collector) -> None:
    """Late ones too; a window is closed once it was due."""
    collector.collect(message(6), message(7, "10:31:40"))
    first, second = batch_collection.open(collector.storage).windows()

    assert (first.start, first.rows, first.is_closed) == (at("10:30:00"), 6, True)
    assert [batch.timing for batch in first.batches] == ["early", "early", "on_time", "late"]
    assert (second.start, second.rows, second.is_closed) == (at("10:31:00"), 2, False)


# follow


def test_following_gives_each_batch_once(collector: Collector) -> None:
    """Over two processes: the place is remembered between them."""
    assert ids(collector, "a") == ALL
    collector.collect(message(6), message(7, "10:31:40"), boundary="10:32:00")

    assert ids(collector, "a") == ["0000000003-0000", "0000000003-0001"]
    assert ids(collector, "a") == []


def test_an_exception_in_the_body_brings_the_batch_again(collector: Collector) -> None:
    """Processing was not done, so it isn't remembered."""

    def process() -> None:
        for batch in batch_collection.open(collector.storage).follow("a", once=True):
            if batch.number == 1:
                raise KeyError(batch.id)

    with pytest.raises(KeyError, match="0000000001-0001"):
        process()

    assert ids(collector, "a") == ALL[1:]


def test_leaving_the_loop_brings_the_last_batch_again(collector: Collector) -> None:
    """Only asking for the next one says that the last is done."""
    assert ids(collector, "a", count=1) == ALL[:1]
    assert ids(collector, "a") == ALL[1:]


@pytest.mark.parametrize("k", range(12))
def test_a_crash_anywhere_gives_every_batch_at_least_once(collector: Collector, k: int) -> None:
    """And at most the one that was being processed twice."""
    dying = DyingStorage(collector.storage, k)
    processed: list[str] = []
    try:
        for batch in batch_collection.open(dying).follow("a", once=True):
            processed.append(batch.id)  # noqa: PERF401 - must be seen when it dies
    except Died:
        processed += ids(collector, "a")

    assert sorted(set(processed)) == ALL
    assert len(processed) <= 4
    assert processed == sorted(processed)


def test_cursors_are_independent(collector: Collector) -> None:
    """Two readers of one collection do not disturb each other."""
    assert ids(collector, "a", count=2) == ALL[:2]
    assert ids(collector, "b") == ALL
    assert ids(collector, "a") == ALL[2:]


def test_latest_begins_with_what_is_committed_later(collector: Collector) -> None:
    """From the very start, even if nothing came before a crash."""
    view = batch_collection.open(collector.storage)
    assert list(view.follow("a", start="latest", once=True)) == []
    collector.collect(message(6), boundary="10:32:00")

    assert ids(collector, "a") == ["0000000003-0000", "0000000003-0001"]


def test_a_start_is_only_for_a_new_cursor(collector: Collector) -> None:
    """Where there is a place, it counts."""
    assert ids(collector, "a", count=1) == ALL[:1]
    view = batch_collection.open(collector.storage)

    assert [batch.id for batch in view.follow("a", start="latest", once=True)] == ALL[1:]


def test_following_waits_for_new_batches(collector: Collector) -> None:
    """It looks again after ``poll``, and ends when waiting is answered."""
    waits: list[float] = []

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        if len(waits) == 2:
            collector.collect(message(6), boundary="10:32:00")
        return len(waits) == 4

    view = batch_collection.open(collector.storage)
    found = [batch.id for batch in view.follow("a", poll=timedelta(seconds=0.25), wait=wait)]

    assert found == [*ALL, "0000000003-0000", "0000000003-0001"]
    assert waits == [0.25] * 4


def test_an_event_ends_following(collector: Collector) -> None:
    """``threading.Event.wait`` is a way to wait."""
    stop = threading.Event()
    stop.set()
    view = batch_collection.open(collector.storage)

    assert [batch.id for batch in view.follow("a", wait=stop.wait)] == ALL


def test_a_place_that_the_log_never_had_is_refused(collector: Collector, tmp_path: Path) -> None:
    """The output was removed and begun anew under a cursor that was kept."""
    ids(collector, "a")
    place = collector.storage.read(cursor_path("a"))
    other = LocalStorage(str(tmp_path / "other"))
    Collector(other).start()
    other.replace(cursor_path("a"), place)

    expected = "/cursors/a.json is behind cycle=2, which the log of"
    with pytest.raises(LogError, match=re.escape(expected)):
        list(batch_collection.open(other).follow("a", once=True))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "it is no JSON"),
        ("[" * 100_000, "it is no JSON"),
        ("\xff", "it is no JSON"),
        ("[]", "it is no JSON object"),
        ("null", "it is no JSON object"),
        ("{}", "it has no format"),
        ('{"format": "1", "cycle": 1, "index": 0}', "it has no format"),
        ('{"format": 1, "index": 0}', "cycle must be a whole number, got None"),
        ('{"format": 1, "cycle": -1, "index": 0}', "cycle must be a whole number, got -1"),
        ('{"format": 1, "cycle": 1.0, "index": 0}', "cycle must be a whole number, got 1.0"),
        ('{"format": 1, "cycle": true, "index": 0}', "cycle must be a whole number, got True"),
        ('{"format": 1, "cycle": "1", "index": 0}', "cycle must be a whole number, got '1'"),
        ('{"format": 1, "cycle": 1e999, "index": 0}', "cycle must be a whole number, got inf"),
        ('{"format": 1, "cycle": 1' + "0" * 20 + ', "index": 0}', "cycle must be a whole number"),
        ('{"format": 1, "cycle": 1, "index": -1}', "index must be a whole number, got -1"),
        ('{"format": 1, "cycle": 1, "index": 0.5}', "index must be a whole number, got 0.5"),
        ('{"format": 1, "cycle": 1, "index": 0, "stub": -1}', "stub must be a whole number or"),
        (
            '{"format": 1, "cycle": 1, "index": 9}',
            "it is behind 9 parts of cycle=1, which has",
        ),
    ],
)
def test_a_damaged_cursor_is_refused(collector: Collector, content: str, why: str) -> None:
    """Beginning anew in silence would process everything twice, or going on leave batches out."""
    collector.storage.replace(cursor_path("a"), content.encode("latin-1"))

    with pytest.raises(CollectionError, match=r"cannot read cursor .*; remove it") as error:
        ids(collector, "a")

    assert f"cursors/a.json: {why}" in str(error.value)


def test_a_cursor_of_a_newer_version_says_update(collector: Collector) -> None:
    """What it means is not known here."""
    place = b'{"format": 2, "cycle": "one", "index": 0}'
    collector.storage.replace(cursor_path("a"), place)

    with pytest.raises(CollectionError, match="format=2, this version reads up to 1; update"):
        ids(collector, "a")


@pytest.mark.parametrize("name", ["", ".", "../x", "a/b", ".hidden", "x" * 101, "a b", "a\n"])
def test_a_cursor_has_a_plain_name(collector: Collector, name: str) -> None:
    """It becomes the name of a file."""
    with pytest.raises(CollectionError, match="cursor must be up to 100 letters"):
        batch_collection.open(collector.storage).follow(name)


def test_a_start_is_one_of_two(collector: Collector) -> None:
    """Checked when called, not when the loop begins."""
    with pytest.raises(CollectionError, match="start must be earliest or latest, got 'newest'"):
        batch_collection.open(collector.storage).follow("a", start="newest")


def test_a_killed_process_is_followed_by_another(collector: Collector) -> None:
    """A real process, killed while it processes: its batch comes again."""
    code = f"""
import os, signal, batch_collection
for batch in batch_collection.open({collector.storage.uri!r}).follow("a"):
    if batch.number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    print(batch.id, flush=True)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.stdout.split() == ALL[:1]
    assert ids(collector, "a") == ALL[1:]
