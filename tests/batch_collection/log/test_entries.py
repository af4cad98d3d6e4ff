"""The log: finding the newest entry, creating the next."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_collection.checkpoints.ranges import SPAN
from batch_collection.errors import LogError
from batch_collection.log.entries import (
    create_entry,
    digest,
    newest_cycle,
    newest_entry,
    read_entries,
    read_entry,
)
from batch_collection.log.entry import Entry, Source
from batch_collection.log.expiry import Expiry, Folded
from batch_collection.paths import EXPIRED, checkpoint_path, entry_path, is_checkpoint, stub_path
from batch_collection.storage.local import LocalStorage
from tests.builders import MINUTE, Collector, at, message
from tests.storages import DyingStorage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from batch_collection.storage.contract import Storage


class Probed(DyingStorage):
    """A log of the entries ``first`` to ``entries - 1``; nothing else of it is there."""

    def __init__(self, entries: int, first: int = 0, strays: Iterable[int] = ()) -> None:
        """Keep nothing."""
        super().__init__(LocalStorage("nowhere"))
        self.names = {entry_path(cycle) for cycle in (*range(first, entries), *strays)}
        self.first, self.asked = first, 0

    def size(self, path: str) -> int | None:
        """Answer, and count."""
        self.asked += 1
        return 1 if path in self.names else None

    def list(self, prefix: str, start: str = "", end: str = "") -> Iterator[str]:
        """Tell of the stub; refuse the log."""
        assert (prefix, start, end) == (EXPIRED, "", "")
        return iter([stub_path(0)] if self.first else [])

    def read(self, path: str) -> bytes:
        """Return the stub."""
        assert path == stub_path(0)
        return expiry(self.first).to_json()


class Listed(Probed):
    """The same where each look-up is a request, with checkpoints of the entries of before."""

    is_far = True

    def __init__(self, entries: int, first: int = 0, strays: Iterable[int] = ()) -> None:
        """Keep nothing."""
        super().__init__(entries, first, strays)
        lasts = range(SPAN - 1, entries, SPAN)
        self.names |= {checkpoint_path(last + 1 - SPAN, last, ".json") for last in lasts}

    def list(self, prefix: str, start: str = "", end: str = "") -> Iterator[str]:
        """Tell of some names of the log, never of all."""
        self.asked += 1
        if prefix == EXPIRED:
            return super().list(prefix, start, end)
        assert start
        return iter([name for name in self.names if start <= name <= end])


def expiry(first: int) -> Expiry:
    """Return one that leaves the entries from ``first`` on."""
    last = Entry(
        cycle=first - 1,
        run="run",
        plan="plan",
        previous=None,
        host="test",
        pid=1,
        committed_at=at("10:30:00"),
        source=Source("kafka", "topic"),
        interval=MINUTE,
        row_time="record",
        cause="start",
    )
    folded = Folded("digest", last, {})
    return Expiry(0, None, "test", 1, at("11:00:00"), at("10:30:00"), first, folded)


@pytest.fixture
def collector(storage: Storage) -> Collector:
    """Return a collector with entries 0, 1 and 2."""
    collector = Collector(storage)
    collector.collect(message(0))
    collector.collect(message(1), boundary="10:31:00")
    return collector


@given(st.integers(0, 3000), st.integers(0, 4000))
def test_the_newest_cycle_is_found_from_any_hint(entries: int, hint: int) -> None:
    """A hint may be old, or of a log that is gone; the folder is never listed."""
    probed = Probed(entries)

    assert newest_cycle(probed, hint) == (entries - 1 if entries else None)
    assert probed.asked <= 28


@given(st.integers(0, 6000))
def test_far_away_the_newest_cycle_is_found_by_few_requests(entries: int) -> None:
    """The stubs of expiring and three listings, of a page each: a checkpoint leads near the end.

    Two look-ups more where the last page is full.
    """
    listed = Listed(entries)

    assert newest_cycle(listed) == (entries - 1 if entries else None)
    assert listed.asked <= 6


def test_far_away_a_checkpoint_of_another_log_leads_nobody_astray() -> None:
    """Also where there is none: the end is probed for."""
    for checkpoints in ((), (checkpoint_path(8000, 8999, ".json"),)):
        listed = Listed(5500)
        listed.names = {name for name in listed.names if not is_checkpoint(name)} | {*checkpoints}

        assert newest_cycle(listed) == 5499


@pytest.mark.parametrize("kind", [Probed, Listed])
@given(st.integers(1, 2000), st.integers(1, 2000), st.integers(0, 4500), st.data())
def test_the_newest_cycle_is_found_whatever_is_expired(
    kind: type[Probed], first: int, kept: int, hint: int, data: st.DataObject
) -> None:
    """Also where expiring is in the middle of it, or a zombie has left an entry."""
    strays = data.draw(st.sets(st.integers(0, first - 1), max_size=5))
    hint = 0 if hint in strays else hint  # a hint that stands for itself is known to be there

    assert newest_cycle(kind(first + kept, first, strays), hint) == first + kept - 1


def test_a_log_whose_first_entry_is_gone_is_a_clear_error() -> None:
    """It is not an empty one, in which a collector would begin anew."""
    with pytest.raises(LogError, match=re.escape(f"{entry_path(5)} is missing in")):
        newest_cycle(Probed(5, 5))


def test_a_good_hint_needs_two_looks() -> None:
    """A follower that is up to date costs next to nothing."""
    probed = Probed(1000)

    assert newest_cycle(probed, 999) == 999
    assert probed.asked == 2


def test_an_empty_log_has_no_newest_entry(storage: Storage) -> None:
    """Also where there is no folder."""
    assert newest_entry(storage) is None


def test_entries_are_read_in_order(collector: Collector) -> None:
    """From the first to the last, both included."""
    assert [entry.cycle for entry in read_entries(collector.storage, 0, 2)] == [0, 1, 2]
    assert newest_entry(collector.storage) == collector.newest


def test_each_entry_names_the_one_before_by_its_hash(collector: Collector) -> None:
    """So that none can be changed unnoticed."""
    content = collector.storage.read(entry_path(1))

    assert read_entry(collector.storage, 2).previous == digest(content)


def test_a_lost_race_gives_the_entry_that_won(collector: Collector) -> None:
    """Whoever comes second learns whose it is, and has changed nothing."""
    storage, mine = collector.storage, collector.plan()
    theirs = create_entry(storage, replace(mine, run="theirs"))

    assert create_entry(storage, replace(mine, run="mine")) == theirs
    assert read_entry(storage, 3).run == "theirs"


def test_a_missing_entry_is_named(collector: Collector) -> None:
    """With its path."""
    expected = f"no log entry {entry_path(9)} in {collector.storage.uri}"
    with pytest.raises(LogError, match=re.escape(expected)):
        read_entry(collector.storage, 9)


def test_a_damaged_entry_is_named(collector: Collector) -> None:
    """With its path and what is wrong."""
    collector.storage.replace(entry_path(1), b"{")

    expected = f"cannot read {collector.storage.uri}/{entry_path(1)}: not a log entry"
    with pytest.raises(LogError, match=re.escape(expected)):
        read_entry(collector.storage, 1)
