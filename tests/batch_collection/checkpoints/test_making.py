"""Making checkpoints: when they are due, again and again, by several, and after a crash."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, cast

import pytest

import batch_collection
from batch_collection.checkpoints.checkpoint import MOST_REASONS, listing_path, read_summary
from batch_collection.checkpoints.making import keep_up, mend
from batch_collection.checkpoints.ranges import Range
from batch_collection.errors import LogError
from batch_collection.inspection.status import status
from batch_collection.log.entries import create_entry, read_entry
from batch_collection.paths import draft_path, entry_path, is_checkpoint
from batch_collection.publishing.publish import sweep
from batch_collection.storage.local import LocalStorage
from tests.builders import Collector, dead_letter
from tests.logs import Cycle, batches_by_entries, log_of, put, spans
from tests.storages import BusyStorage, Died, DyingStorage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from batch_collection.storage.contract import Storage

ALL = 10**9
CYCLES = [Cycle(files=n % 3, late=(1 + n % 4,), messages=n % 5) for n in range(16)]


@pytest.fixture(autouse=True)
def small() -> Iterator[None]:
    """Let checkpoints be of 2, 4 and 8 entries."""
    with spans():
        yield


@pytest.fixture
def local(tmp_path: Path) -> LocalStorage:
    """Return a directory with a log of 16 entries, without checkpoints."""
    storage = LocalStorage(str(tmp_path / "collection"))
    put(storage, log_of(CYCLES))
    return storage


def files_of(storage: Storage) -> dict[str, bytes]:
    """Return the files of all checkpoints."""
    return {path: storage.read(path) for path in [*storage.list("log")] if is_checkpoint(path)}


def ranges_of(storage: Storage) -> list[tuple[int, int]]:
    """Return the ranges that have a checkpoint that holds."""
    sizes = (2, 4, 8)
    spans_ = [Range(at, at + size - 1) for size in sizes for at in range(0, 16, size)]
    return [tuple(span) for span in spans_ if read_summary(storage, span) is not None]  # type: ignore[misc]


# when


def test_each_cycle_that_completes_a_range_makes_its_checkpoint(storage: Storage) -> None:
    """And those of the ranges that this one completes; others make none."""
    made: list[list[tuple[int, int]]] = []
    for entry in log_of(CYCLES[:8]):
        create_entry(storage, entry)
        before = ranges_of(storage)
        keep_up(storage, entry.cycle)
        made.append([span for span in ranges_of(storage) if span not in before])

    assert made == [
        [],
        [(0, 1)],
        [],
        [(2, 3), (0, 3)],
        [],
        [(4, 5)],
        [],
        [(6, 7), (4, 7), (0, 7)],
    ]


def test_made_bit_by_bit_or_at_once_they_are_the_same(local: LocalStorage, tmp_path: Path) -> None:
    """What a checkpoint says comes from its entries alone."""
    other = LocalStorage(str(tmp_path / "other"))
    for entry in log_of(CYCLES):
        put(other, [entry])
        keep_up(other, entry.cycle)
    mend(local, 15, most=ALL)

    assert files_of(local) == files_of(other)
    assert len(files_of(local)) == 2 * (8 + 4 + 2)


def test_nobody_waits_long_for_what_lacks(local: LocalStorage) -> None:
    """So many ranges of entries at a time, the newest first, and in the end there are all."""
    mend(local, 15, most=3)
    first = ranges_of(local)
    for _ in range(3):
        mend(local, 15, most=3)

    assert first == [(10, 11), (12, 13), (14, 15), (12, 15)]
    assert len(ranges_of(local)) == 14


def test_what_is_there_is_not_made_again(local: LocalStorage) -> None:
    """A start with nothing to mend writes nothing."""
    mend(local, 15, most=ALL)
    living = DyingStorage(local)

    mend(cast("Storage", living), 15)

    assert living.points == 0


def test_a_damaged_listing_is_found_in_its_turn(local: LocalStorage) -> None:
    """Each one that readers use is looked at whole, one every so many cycles."""
    mend(local, 15, most=ALL)
    whole = files_of(local)
    for span in (Range(0, 7), Range(8, 15)):
        local.replace(listing_path(span), whole[listing_path(span)][:-1])

    mend(local, 15, turn=6)
    one = files_of(local)
    mend(local, 15, turn=7)

    assert [path for path in whole if one[path] != whole[path]] == [listing_path(Range(0, 7))]
    assert files_of(local) == whole


# of what


def test_a_log_with_a_changed_entry_gets_no_checkpoint_there(local: LocalStorage) -> None:
    """Nothing that does not follow the entry before is ever summed up; the rest is."""
    path = entry_path(4)
    local.replace(path, local.read(path).replace(b'"pid": 1', b'"pid": 2'))

    mend(local, 15, most=ALL)

    assert [span for span in ranges_of(local) if span[0] <= 4 <= span[1]] == []
    assert (8, 15) in ranges_of(local)
    with pytest.raises(
        LogError, match=re.escape(f"{entry_path(5)} of {local.uri} does not follow")
    ):
        len(batch_collection.open(local))


def test_a_changed_last_entry_is_found_where_ranges_meet(local: LocalStorage) -> None:
    """Entry 5 ends a range: the next one does not follow it, so the two are never put together."""
    path = entry_path(5)
    local.replace(path, local.read(path).replace(b'"pid": 1', b'"pid": 2'))

    mend(local, 15, most=ALL)

    assert {(4, 5), (6, 7)} <= set(ranges_of(local))
    assert not {(4, 7), (0, 7)} & set(ranges_of(local))


@pytest.mark.parametrize("content", [None, b"{"], ids=["missing", "damaged"])
def test_a_hole_in_the_log_stops_no_collector(local: LocalStorage, content: bytes | None) -> None:
    """It needs the newest entry only; the checkpoints around the hole are made."""
    local.delete([entry_path(4)])
    if content is not None:
        local.replace(entry_path(4), content)

    mend(local, 15, most=ALL)

    assert [span for span in ranges_of(local) if span[0] <= 4 <= span[1]] == []
    assert len(ranges_of(local)) == 14 - 3


@pytest.mark.parametrize("content", [None, b"no parquet"], ids=["gone", "damaged"])
def test_dead_letters_that_cannot_be_read_cost_only_their_reasons(
    tmp_path: Path, content: bytes | None
) -> None:
    """The batches are listed all the same, and status says of these letters what it always said."""
    collector = Collector(LocalStorage(str(tmp_path)))
    collector.start()
    collector.collect(dead_letter(0))
    collector.collect(dead_letter(1))
    (first, _) = sorted(collector.storage.list("dead_letters"))
    collector.storage.delete([first])
    if content is not None:
        collector.storage.replace(first, content)

    mend(collector.storage, 1)

    summary = read_summary(collector.storage, Range(0, 1))
    assert summary is not None
    assert (summary.reasons, summary.sums.dead_letters) == (None, 1)
    with pytest.raises(batch_collection.StorageError, match=first):
        status(collector.storage)


def test_too_many_reasons_are_not_kept(tmp_path: Path) -> None:
    """They are read from the files then, as ever."""
    collector = Collector(LocalStorage(str(tmp_path)))
    collector.start()
    letters = [dead_letter(n, f"reason r{n}") for n in range(MOST_REASONS + 1)]
    collector.collect(*letters)
    mend(collector.storage, 1)

    summary = read_summary(collector.storage, Range(0, 1))
    assert summary is not None
    assert summary.reasons is None
    assert len(status(collector.storage).dead_letters_by_reason) == MOST_REASONS + 1


# crashes and company


def test_a_writer_that_dies_anywhere_does_no_harm(tmp_path: Path) -> None:
    """Readers see what the entries say, and the next one makes the same checkpoints."""
    entries = log_of(CYCLES[:8])
    expected, k, whole = None, 0, False
    while not whole:
        storage = LocalStorage(str(tmp_path / str(k)))
        put(storage, entries)
        try:
            mend(cast("Storage", DyingStorage(storage, k)), 7, most=ALL)
            whole = True
            expected = files_of(storage)
        except Died:
            assert list(batch_collection.open(storage)) == batches_by_entries(storage, entries), k
            assert status(storage).totals.files == len(batches_by_entries(storage, entries))
        k += 1
    for died in range(k - 1):
        storage = LocalStorage(str(tmp_path / str(died)))
        mend(storage, 7, most=ALL)
        assert files_of(storage) == expected, died
    assert k == 4 * 7 + 1  # two files of each of seven, a point before and after


@pytest.mark.parametrize("every", range(1, 12))
def test_a_reader_beside_a_writer_sees_what_the_entries_say(
    local: LocalStorage, every: int
) -> None:
    """Checkpoints appear, and damaged ones are replaced, under its hands."""
    entries = log_of(CYCLES)
    acts = iter(range(100))

    def act() -> None:
        number = next(acts)
        paths = sorted(files_of(local))
        if number % 3 == 0 and paths:
            local.replace(paths[number % len(paths)], b"torn")
        else:
            mend(local, 15, most=1 + number % 2, turn=number)

    busy = cast("Storage", BusyStorage(local, act, every))

    for _ in range(3):
        assert list(batch_collection.open(busy)) == batches_by_entries(busy, entries)


def test_several_writers_at_once_do_no_harm(storage: Storage) -> None:
    """They write the same."""
    entries = log_of(CYCLES[:8])
    put(storage, entries)
    with ThreadPoolExecutor(4) as pool:
        calls: list[Any] = [pool.submit(mend, storage, 7, ALL) for _ in range(4)]
    for call in calls:
        call.result()
    together = files_of(storage)
    storage.delete(together)
    mend(storage, 7, most=ALL)

    assert files_of(storage) == together
    assert list(batch_collection.open(storage)) == batches_by_entries(storage, entries)


def test_a_draft_of_a_checkpoint_is_swept(local: LocalStorage) -> None:
    """Of a writer that was killed; one that lives writes it again."""
    draft = draft_path("log/checkpoint-0-1.json", "0badcafe")
    local.create(draft, b"{")

    sweep(local, read_entry(local, 15))

    assert local.size(draft) is None
