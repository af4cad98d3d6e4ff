"""Entries that commands make: one behind the newest, whoever else writes."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from batch_collection.checkpoints.dead_letters import live_dead_letters
from batch_collection.errors import LogError
from batch_collection.inspection.audit import audit
from batch_collection.log.entries import newest_entry, read_entry
from batch_collection.paths import staged_path
from batch_collection.publishing.append import MOST_RACES, append, successor
from tests.builders import Collector, dead_letter, message
from tests.storages import ActingStorage

if TYPE_CHECKING:
    from batch_collection.log.entry import Entry
    from batch_collection.storage.contract import Storage


def pinning(newest: Entry, digest: str) -> Entry:
    """Make an entry that changes nothing."""
    return successor(newest, digest, "pin")


def test_an_entry_is_made_behind_the_newest_and_changes_nothing(storage: Storage) -> None:
    """What waits goes on waiting, what is read stays read, and the audit agrees."""
    collector = Collector(storage)
    before = collector.collect(message(0), dead_letter(1), message(2, "10:31:00"))

    entry = append(storage, pinning)

    assert entry is not None
    assert (entry.cycle, entry.cause, entry.is_maintenance) == (before.cycle + 1, "pin", True)
    assert (entry.ends, entry.carry, entry.open) == (before.ends, before.carry, before.open)
    assert sum(read.messages for read in entry.reads) == 0
    assert (entry.panes, entry.dead_letters) == ((), ())
    collector.newest = entry
    collector.collect(message(3), boundary="10:32:00")
    assert audit(storage).findings == ()


def test_what_is_committed_before_it_is_published_by_it(storage: Storage) -> None:
    """The rule of every entry: the one before is visible when it is made."""
    before = Collector(storage).collect(message(0), boundary="10:31:00", published=False)

    append(storage, pinning)

    assert all(storage.size(path) is not None for _, path in before.moves)


def test_what_the_caller_has_published_is_not_published_again(storage: Storage) -> None:
    """Who commits one entry after the other saves half of the work."""
    before = Collector(storage).collect(message(0), boundary="10:31:00", published=False)

    append(storage, pinning, published=before.plan)

    assert [storage.size(path) for _, path in before.moves] == [None]


def test_what_a_collector_has_staged_for_that_cycle_is_left_to_it(storage: Storage) -> None:
    """It is being written, perhaps: a file that goes would be an error there."""
    collector = Collector(storage)
    newest = collector.collect(message(0), boundary="10:31:00")
    staged = staged_path(newest.cycle + 1, "/being-written")
    storage.replace(staged, b"half")

    append(storage, pinning)
    append(storage, pinning)

    assert storage.size(staged) == 4


def test_a_lost_race_is_run_again_behind_the_winner(storage: Storage) -> None:
    """Wherever in the call the collector commits, until ours is there: both are, in one chain."""
    collector = Collector(storage)
    before, k, wins = collector.start(), 0, True
    while wins:
        busy = ActingStorage(storage, lambda: collector.collect(message(k)), k)  # noqa: B023

        entry = append(busy, pinning)

        assert entry is not None
        assert busy.has_acted
        wins = entry.cycle == before.cycle + 2
        assert newest_entry(storage) == entry == read_entry(storage, entry.cycle)
        before = collector.newest = entry
        k += 1
    assert k > 3
    assert audit(storage).findings == ()


def test_races_are_lost_so_often_and_no_more(storage: Storage) -> None:
    """Then nothing has changed, and the error says so."""
    collector = Collector(storage)
    collector.start()

    def late(newest: Entry, digest: str) -> Entry:
        collector.collect()
        return pinning(newest, digest)

    with pytest.raises(LogError, match=re.escape(f"were faster {MOST_RACES} times; nothing was")):
        append(storage, late)

    newest = newest_entry(storage)
    assert newest is not None
    assert not newest.is_maintenance


def test_without_a_collection_there_is_nothing_to_add_to(storage: Storage) -> None:
    """One clear error."""
    with pytest.raises(LogError, match="no collection in"):
        append(storage, pinning)


def test_dead_letters_live_until_an_entry_says_that_they_were_redriven(storage: Storage) -> None:
    """Files that later cycles add are live, too."""
    collector = Collector(storage)
    first = collector.collect(dead_letter(0))
    second = collector.collect(dead_letter(1))
    (gone,), (stays,) = first.dead_letters, second.dead_letters

    def redrive(newest: Entry, digest: str) -> Entry:
        return replace(successor(newest, digest, "redrive"), redriven=(gone.path,))

    last = append(storage, redrive)

    assert last is not None
    assert live_dead_letters([first, second]) == {gone.path: gone, stays.path: stays}
    assert live_dead_letters([first, second, last]) == {stays.path: stays}
    assert storage.size(gone.path) is None
