"""Status: the numbers of a collection."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_collection.errors import LogError, StorageError
from batch_collection.inspection.status import IdsStatus, Latency, OpenWindow, status
from batch_collection.log.entries import create_entry
from batch_collection.log.entry import IdFile
from batch_collection.log.expiry import first_cycle
from batch_collection.paths import entry_path, is_checkpoint
from batch_collection.publishing.expire import expire
from batch_collection.storage.local import LocalStorage
from tests.builders import Collector, at, dead_letter, message, tombstone, varied
from tests.lives import HOUR, LIVES, Life, Step, panes_by_window
from tests.logs import spans

if TYPE_CHECKING:
    from pathlib import Path

    from batch_collection.storage.contract import Storage


@pytest.fixture
def collector(tmp_path: Path) -> Collector:
    """Return a collector with windows closed, late, open, and dead letters of two reasons."""
    letters = dead_letter(3), dead_letter(4), dead_letter(5, "too deep"), tombstone(6)
    return varied(tmp_path / "collection", *letters)


def test_totals_are_sums_over_the_log(collector: Collector) -> None:
    """Rows, late rows, rows that wait, files, dead letters."""
    totals = status(collector.storage).totals

    assert (totals.messages, totals.rows, totals.late_rows, totals.waiting_rows) == (12, 7, 1, 1)
    assert (totals.files, totals.rows_per_file) == (5, 7 / 5)
    assert (totals.closed_windows, totals.empty_windows) == (2, 0)
    assert (totals.dead_letters, totals.tombstones, totals.empty, totals.lost) == (3, 1, 0, 0)
    sizes = [collector.storage.size(path) for path in collector.storage.list("data")]
    assert totals.bytes == sum(size or 0 for size in sizes)


def test_the_last_cycles_are_listed(collector: Collector) -> None:
    """Oldest first, as many as asked for."""
    second, third = status(collector.storage, last=2).cycles

    assert (second.cycle, third.cycle) == (2, 3)
    assert (third.messages, third.rows, third.late_rows, third.files) == (4, 4, 1, 3)
    assert (third.windows, third.cause, third.boundary) == (3, "interval", at("10:32:00"))


def test_an_open_window_has_carry_or_early_panes(collector: Collector) -> None:
    """With the rows of each."""
    start, end = at("10:32:00"), at("10:33:00")

    assert status(collector.storage).open_windows == (OpenWindow(start, end, 2, 1),)


def test_dead_letters_are_counted_by_reason(collector: Collector) -> None:
    """The most frequent first."""
    assert status(collector.storage).dead_letters_by_reason == {"not JSON": 2, "too deep": 1}
    assert list(status(collector.storage).dead_letters_by_reason) == ["not JSON", "too deep"]


def test_window_latency_counts_from_the_end_of_on_time_panes(collector: Collector) -> None:
    """Two windows, closed 2 s and 4 s after their ends; early and late panes say nothing here."""
    latency = status(collector.storage).latency.window_end

    assert latency == (timedelta(seconds=2), timedelta(seconds=4))


def test_row_latency_is_estimated_over_rows(tmp_path: Path) -> None:
    """Ten rows, evenly over ten seconds, visible 20 s after the first."""
    collector = Collector(LocalStorage(str(tmp_path)), batch_size=20)
    rows = [message(offset, f"10:30:{offset + 40}") for offset in range(11)]
    collector.collect(*rows, boundary="10:31:00", committed_at="10:31:00")
    latency = status(collector.storage).latency.row_time

    assert latency is not None
    assert latency.median == timedelta(seconds=15)
    assert timedelta(seconds=19.5) < latency.p99 <= timedelta(seconds=20)


def test_what_was_caught_up_with_has_no_latency(tmp_path: Path) -> None:
    """After an hour away only the newest window counts, and of a part of a backlog nothing."""
    collector = Collector(LocalStorage(str(tmp_path)))
    old = [message(0, "09:00:00"), message(1, "10:29:10")]
    collector.collect(*old, boundary="10:30:00", committed_at="10:30:03")
    collector.collect(message(2, "10:30:10"), boundary="10:31:00", committed_at="10:31:03")
    away = [message(3, "10:31:10"), message(4, "11:30:10")]
    backlog = collector.collect(*away, boundary="11:31:00", committed_at="11:31:04")
    latency = status(collector.storage).latency
    seconds = [timedelta(seconds=count) for count in (3, 4)]
    assert latency.window_end == tuple(seconds)
    assert latency.row_time is not None
    assert latency.row_time.p99 == timedelta(seconds=54)
    assert status(collector.storage, last=1).latency.window_end == (seconds[1], seconds[1])

    part = replace(backlog, cause="backlog").to_json()
    collector.storage.replace(entry_path(backlog.cycle), part)
    assert status(collector.storage, last=1).latency == Latency(None, None)


def test_without_rows_there_is_no_latency(tmp_path: Path) -> None:
    """None, not zero."""
    collector = Collector(LocalStorage(str(tmp_path)))
    collector.start()
    found = status(collector.storage)

    assert (found.latency.window_end, found.latency.row_time) == (None, None)
    assert found.totals.rows_per_file == 0


def test_empty_windows_are_counted(tmp_path: Path) -> None:
    """They are recorded as ranges."""
    collector = Collector(LocalStorage(str(tmp_path)))
    entry = collector.collect(boundary="10:40:00", published=False)
    empty = ((at("10:30:00"), at("10:35:00")), (at("10:36:00"), at("10:40:00")))
    path = "log/00000000000000000001.json"
    collector.storage.replace(path, replace(entry, closed_empty=empty).to_json())

    assert status(collector.storage).totals.empty_windows == 9


def windows_of(storage: Storage) -> tuple[int, int, int]:
    """Return how many windows are closed, empty and open, as status counts them."""
    found = status(storage)
    return found.totals.closed_windows, found.totals.empty_windows, len(found.open_windows)


def counted(life: Life) -> tuple[int, int, int]:
    """Count the same window by window: closed are those that have passed and have rows."""
    end = life.newest.boundary
    with_rows = set(panes_by_window(life.entries))
    passed = {start for start in with_rows if end is not None and start + HOUR <= end}
    without = {
        first + number * HOUR
        for entry in life.entries
        for first, last in entry.closed_empty
        for number in range((last - first) // HOUR)
    }
    return len(passed), len(without - passed), len(with_rows - passed)


@settings(max_examples=15, deadline=None)
@given(LIVES(may_forget=True), st.lists(st.integers(0, 60), max_size=2))
def test_each_window_is_counted_once(steps: list[Step], expired: list[int]) -> None:
    """By checkpoints or entries, whatever came late, was forgotten once or is expired."""
    with TemporaryDirectory() as folder, spans():
        storage = LocalStorage(folder)
        life = Life.begun(storage, 1 if any(step.forgetful for step in steps) else 2)
        life.live(steps)
        expected = counted(life)
        assert windows_of(storage) == expected
        storage.delete(path for path in storage.list("log") if is_checkpoint(path))
        assert windows_of(storage) == expected
        end = life.boundary or at("00:00:00")
        for back in sorted(expired, reverse=True):
            expire(storage, end - back * HOUR, end, exact=False)
            assert windows_of(storage) == expected


def test_a_window_with_late_rows_only_is_closed_and_not_empty(tmp_path: Path) -> None:
    """Once, however many late panes it gets; one before all others was never empty."""
    life = Life.begun(LocalStorage(str(tmp_path)))
    life.live([Step(3, (-1,)), Step(2)])
    assert windows_of(life.storage) == (1, 2, 0)
    life.live([Step(0, (-1,)), Step(0, (-1, -9))])
    assert windows_of(life.storage) == (3, 1, 0)


def test_a_window_whose_early_pane_is_folded_is_counted_on(tmp_path: Path) -> None:
    """An entry that is kept has closed it, without rows of its own; late ones come for another."""
    life = Life.begun(LocalStorage(str(tmp_path)))
    life.live([Step(1, (0,)), Step(0, (9,)), Step(2), Step(0)])
    assert windows_of(life.storage) == counted(life) == (1, 1, 1)
    assert life.boundary is not None
    expire(life.storage, life.boundary - HOUR, life.boundary)
    assert first_cycle(life.storage) == 2
    assert windows_of(life.storage) == (1, 1, 1)
    life.cycle(Step(0, (-1,)))
    assert windows_of(life.storage) == (2, 0, 1)


def test_lag_is_told_if_the_ends_are_given(collector: Collector) -> None:
    """By partition; a partition that was added later lags whole."""
    assert status(collector.storage).lag is None
    ends = {0: 20, 1: 0, 2: 5}

    assert status(collector.storage, end_offsets=ends).lag == {0: 8, 1: 0, 2: 5}


def test_status_is_json(collector: Collector) -> None:
    """Instants are RFC 3339, durations seconds."""
    found = json.loads(status(collector.storage, end_offsets={0: 20}).to_json())

    assert found["interval"] == 60.0
    assert found["boundary"] == "2026-11-22T10:32:00Z"
    assert found["latency"]["window_end"] == {"median": 2.0, "p99": 4.0}
    assert found["cycles"][-1]["rows"] == 4
    assert found["lag"] == {"0": 8}
    assert found["source"]["topic"] == "batch-topic"


def test_there_must_be_a_collection(tmp_path: Path) -> None:
    """An empty folder is none."""
    with pytest.raises(LogError, match=re.escape(f"no collection in {tmp_path}")):
        status(LocalStorage(str(tmp_path)))


def test_damaged_dead_letters_are_a_clear_error(collector: Collector) -> None:
    """With the next step."""
    (path,) = collector.storage.list("dead_letters")
    collector.storage.replace(path, b"no parquet")

    with pytest.raises(StorageError, match=re.escape(f"cannot read dead letters {path}: ")):
        status(collector.storage)


def test_an_entry_that_is_not_published_counts(collector: Collector) -> None:
    """It is committed: its dead letters are read where they are staged."""
    collector.collect(dead_letter(12, "late one"), published=False)

    assert status(collector.storage).dead_letters_by_reason["late one"] == 1


def test_ids_that_are_kept_are_those_of_the_newest_entry(collector: Collector) -> None:
    """What came again is summed over the last cycles; without ids nothing is said."""
    assert status(collector.storage).ids is None
    for repeated, answered in ((2, True), (3, False)):
        files = (
            IdFile("ids/a", "", 7, 70, "0", acknowledged=True),
            IdFile("ids/b", "", 5, 50, "0", acknowledged=answered),
        )
        entry = replace(collector.plan(boundary=None), ids=files, repeated=repeated)
        collector.newest = create_entry(collector.storage, entry)
    assert status(collector.storage).ids == IdsStatus(12, 5, 120, repeated=5)
    assert status(collector.storage, last=1).ids == IdsStatus(12, 5, 120, repeated=3)
