"""Before anything is appended: a hole in the log is not taken for its end, nor a fork for a log."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest

import batch_collection
from batch_collection.checkpoints.making import mend
from batch_collection.errors import LogError
from batch_collection.inspection.audit import audit
from batch_collection.log.end import end_of_log
from batch_collection.log.entries import PUT_BACK, create_entry, digest, read_entries, read_entry
from batch_collection.log.expiry import Expiry, newest_expiry
from batch_collection.paths import checkpoint_path, entry_path, stub_path
from batch_collection.publishing.append import append, successor
from batch_collection.publishing.expire import expire
from batch_collection.storage.local import LocalStorage
from batch_collection.storage.opening import open_storage
from tests.builders import Collector, at, message
from tests.logs import spans
from tests.storages import BusyStorage, DyingStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from batch_collection.log.entry import Entry
    from batch_collection.storage.contract import Storage


def filled(storage: Storage) -> Collector:
    """Collect eight cycles, each of which closes a window: entries 0 to 8."""
    collector = Collector(storage)
    collector.start()
    for cycle in range(1, 9):
        minute = f"10:{29 + cycle}"
        collector.collect(message(cycle, f"{minute}:10"), boundary=f"10:{30 + cycle}:00")
    return collector


@pytest.fixture
def collector(storage: Storage) -> Collector:
    """Return a collector of such a collection."""
    return filled(storage)


def fork(storage: Storage, cycle: int) -> None:
    """Put another entry in the place of one, as if it had been lost and collected again."""
    entry = read_entry(storage, cycle)
    storage.replace(entry_path(cycle), replace(entry, run="another", plan="again").to_json())


def test_the_newest_entry_and_its_digest_are_found(collector: Collector) -> None:
    """Checkpoints, which lie in the same folder behind all entries, are none."""
    collector.storage.replace(checkpoint_path(0, 999, ".json"), b"{}")
    end = end_of_log(collector.storage)
    assert end is not None
    assert end.entry == collector.newest
    assert collector.plan().previous == end.digest


@pytest.mark.parametrize("cycle", [0, 1, 3, 7])
def test_a_hole_is_named_and_nothing_is_appended(collector: Collector, cycle: int) -> None:
    """Wherever probing would stop, and right before the end; the audit names the same entry."""
    storage = collector.storage
    storage.delete([entry_path(cycle)])
    before = sorted(storage.list(""))
    told = f"{entry_path(cycle)} is missing in {storage.uri}, though "
    with pytest.raises(LogError, match=re.escape(told)):
        append(storage, lambda newest, digest: successor(newest, digest, "pin"))
    assert sorted(storage.list("")) == before
    assert f"{entry_path(cycle)} is missing, though later entries are there" in (
        audit(storage).findings
    )


@pytest.mark.parametrize("cycle", [0, 1, 3, 7])
def test_what_was_put_back_is_no_hole(collector: Collector, cycle: int) -> None:
    """As the error says that it can be mended."""
    storage = collector.storage
    content = storage.read(entry_path(cycle))
    storage.delete([entry_path(cycle)])
    storage.create(entry_path(cycle), content)
    end = end_of_log(storage)
    assert end is not None
    assert end.entry.cycle == 8


@pytest.mark.parametrize("every", range(1, 9))
def test_a_collector_that_goes_on_meanwhile_makes_no_hole(collector: Collector, every: int) -> None:
    """Nor does an expiry: names may be listed in any order, and entries go while others come."""
    storage = collector.storage
    offset = iter(range(9, 15))

    def collect() -> None:
        cycle = next(offset, None)
        if cycle is None:
            return
        collector.collect(message(cycle, f"10:{29 + cycle}:10"), boundary=f"10:{30 + cycle}:00")
        expire(storage, at(f"10:{28 + cycle}:00"), at("12:00:00"))

    busy = BusyStorage(storage, collect, every)
    end = end_of_log(cast("Storage", busy))
    assert end is not None
    assert 8 <= end.entry.cycle <= (collector.newest or end.entry).cycle
    assert audit(storage).findings == ()


class Listing(DyingStorage):
    """A storage whose listings lack what was created while they were made."""

    def list(self, prefix: str, start: str = "", end: str = "") -> Iterator[str]:
        """Leave out the entry behind ``start`` until it is listed a second time."""
        found = sorted(super().list(prefix, start, end))
        if start and self.k is None:
            self.k = 10**9
            return iter(found[1:])
        return iter(found)

    def size(self, path: str) -> int | None:
        """Know of the entry from the second listing on."""
        return None if self.k is None and path >= entry_path(7) else super().size(path)


def test_an_entry_that_came_while_names_were_listed_is_no_hole(collector: Collector) -> None:
    """A folder's names are no view of one moment: a later one may be seen, an earlier one not."""
    end = end_of_log(Listing(collector.storage))
    assert end is not None
    assert end.entry == collector.newest


def test_the_first_entry_that_was_kept_is_held_against_the_stub(collector: Collector) -> None:
    """The entry before the newest may be expired: its hash is in the stub."""
    storage = collector.storage
    expire(storage, at("10:37:00"), at("12:00:00"))
    collector.collect(boundary="10:39:00")
    expire(storage, at("10:38:00"), at("12:00:00"))
    expiry = newest_expiry(storage)
    newest = collector.newest
    assert expiry is not None
    assert newest is not None
    assert expiry.first == newest.cycle
    end = end_of_log(storage)
    assert end is not None
    assert end.entry == newest

    fork_of = replace(newest, previous="0" * 64)
    storage.replace(entry_path(newest.cycle), fork_of.to_json())
    told = f"{entry_path(newest.cycle)} of {storage.uri} does not follow the entry before it"
    with pytest.raises(LogError, match=re.escape(told)):
        end_of_log(storage)


def test_a_fork_at_the_end_is_refused(collector: Collector) -> None:
    """The entry before the newest is another than the one that the newest followed."""
    storage = collector.storage
    fork(storage, 7)
    told = f"{entry_path(8)} of {storage.uri} does not follow the entry before it: one of them was"
    with pytest.raises(LogError, match=re.escape(told)):
        end_of_log(storage)
    assert audit(storage).findings == (
        f"{entry_path(8)} does not follow the entry before it: one of them was changed",
    )


def test_an_entry_in_the_place_of_another_is_refused(collector: Collector) -> None:
    """By who appends, and by readers; the audit says the same."""
    storage = collector.storage
    storage.replace(entry_path(8), storage.read(entry_path(7)))
    told = f"{entry_path(8)} holds the entry of cycle=7"
    for look in (end_of_log, batch_collection.open):
        with pytest.raises(LogError, match=re.escape(told)):
            look(storage)
    assert told in audit(storage).findings


@pytest.mark.parametrize(
    "path", ["data/a.parquet", "windows/a.json", "dead_letters/a", "carry/1/a", "log/1.json"]
)
def test_nothing_is_begun_where_something_of_a_collection_lies(storage: Storage, path: str) -> None:
    """Its log was lost: a new one would collect all of it again, beside what is there."""
    storage.replace(path, b"x")
    told = f"{entry_path(0)} is missing in {storage.uri}, though {path} is there; {PUT_BACK}, or "
    with pytest.raises(LogError, match=re.escape(told)):
        end_of_log(storage)


def test_nothing_is_begun_where_only_a_stub_is(storage: Storage) -> None:
    """All entries are lost, and none was folded into it."""
    stub = Expiry(0, None, "host", 1, at("12:00:00"), at("10:30:00"), through=7)
    storage.replace(stub_path(0), stub.to_json())
    with pytest.raises(LogError, match=re.escape(f"though {stub_path(0)} is there")):
        end_of_log(storage)


def test_a_collection_may_be_begun_beside_what_a_crash_has_left(storage: Storage) -> None:
    """A collector that was killed before its first entry has staged something, at most."""
    storage.replace("staging/0000000000/probe-1", b"")
    storage.replace("cursors/a.json", b"{}")
    assert end_of_log(storage) is None


def test_what_lies_beside_no_collection_is_not_looked_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that is given a wrong folder, as the root, is not busy with all below it."""
    (tmp_path / "other" / "deep").mkdir(parents=True)
    listed, below = list[str](), LocalStorage._below  # noqa: SLF001 - all that walks folders

    def noted(storage: LocalStorage, prefix: str) -> Iterator[str]:
        listed.append(prefix)
        return below(storage, prefix)

    monkeypatch.setattr(LocalStorage, "_below", noted)
    assert end_of_log(LocalStorage(str(tmp_path))) is None
    assert set(listed) == {"log", "expired"}


def test_a_lost_race_against_what_follows_another_entry_is_no_rival(collector: Collector) -> None:
    """Two go on from different entries: one of the two logs would be lost."""
    storage, mine = collector.storage, collector.plan()
    create_entry(storage, replace(mine, run="theirs", previous="0" * 64))
    told = f"{entry_path(9)} of {storage.uri} does not follow the entry before it"
    with pytest.raises(LogError, match=re.escape(told)):
        create_entry(storage, mine)


def reading(look: Callable[[Storage], object], storage: Storage, cycle: int) -> None:
    """See that a reader is told of a fork."""
    told = f"{entry_path(cycle)} of {storage.uri} does not follow the entry before it"
    with pytest.raises(LogError, match=re.escape(told)):
        look(storage)


@pytest.mark.parametrize("cycle", [1, 4, 7])
def test_readers_refuse_a_fork(new_uri: Callable[[], str], cycle: int) -> None:
    """Those of entries, of batches and of a cursor, with checkpoints and without."""
    with spans():
        for with_checkpoints in (False, True):
            storage = filled(open_storage(new_uri())).storage
            fork(storage, cycle)
            if with_checkpoints:  # none is made of what does not follow one another
                mend(storage, 8, most=9)
            reading(lambda storage: list(read_entries(storage, 0, 8)), storage, cycle + 1)
            reading(lambda storage: list(batch_collection.open(storage)), storage, cycle + 1)
            reading(
                lambda storage: [*batch_collection.open(storage).follow("a", once=True)],
                storage,
                cycle + 1,
            )


def test_readers_refuse_a_fork_between_checkpoints(storage: Storage) -> None:
    """Each is sound by itself: the parts of two logs were put together."""
    with spans():
        filled(storage)
        mend(storage, 8, most=9)
        other = [replace(entry, run="another") for entry in read_entries(storage, 0, 1)]
        storage.replace(entry_path(0), other[0].to_json())
        storage.replace(entry_path(1), _behind(other[0], other[1]).to_json())
        storage.delete([*_checkpoints(0, 1), *_checkpoints(0, 3), *_checkpoints(0, 7)])
        mend(storage, 8, most=9)
        assert storage.size(_checkpoints(0, 1)[0]) is not None
        reading(lambda storage: list(batch_collection.open(storage)), storage, 2)


def _checkpoints(first: int, last: int) -> list[str]:
    return [checkpoint_path(first, last, suffix) for suffix in (".json", ".parquet")]


def _behind(before: Entry, entry: Entry) -> Entry:
    return replace(entry, previous=digest(before.to_json()))
