"""Checkpoints: what is read with them is what the entries say, whatever becomes of them."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

import batch_collection
from batch_collection.checkpoints.checkpoint import read_checkpoint, read_summary
from batch_collection.checkpoints.making import mend
from batch_collection.checkpoints.narrowing import Narrowing
from batch_collection.checkpoints.ranges import Range, cover
from batch_collection.inspection.status import status
from batch_collection.log.entries import digest
from batch_collection.paths import entry_path, is_checkpoint
from batch_collection.storage.checksum import crc32c
from batch_collection.storage.local import LocalStorage
from batch_collection.storage.opening import open_storage
from tests.builders import MINUTE, Collector, dead_letter, message
from tests.logs import FIRST, LOGS, Cycle, batches_by_entries, log_of, put, spans

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from pathlib import Path

    from batch_collection.log.entry import Entry
    from batch_collection.storage.contract import Storage

ALL = 10**9
CYCLES = [Cycle(files=n % 3, early=(n % 4,), late=(1 + n % 5,), messages=n % 7) for n in range(23)]
BOUNDS = st.none() | st.integers(-35, 50).map(lambda minutes: FIRST + minutes * MINUTE)


@pytest.fixture(autouse=True)
def small() -> Iterator[None]:
    """Let checkpoints be of 2, 4 and 8 entries."""
    with spans():
        yield


@pytest.fixture
def entries(storage: Storage) -> list[Entry]:
    """Return a log that lies in the storage, with all of its checkpoints."""
    entries = log_of(CYCLES)
    put(storage, entries)
    mend(storage, entries[-1].cycle, most=ALL)
    return entries


def files_of(storage: Storage) -> dict[str, bytes]:
    """Return the files of all checkpoints."""
    return {path: storage.read(path) for path in [*storage.list("log")] if is_checkpoint(path)}


def in_windows(narrowing: Narrowing, start: datetime, end: datetime) -> bool:
    """Tell what a narrowing shows, said another way."""
    lowest = narrowing.start or start
    highest = min(bound for bound in (narrowing.end, narrowing.boundary, end) if bound is not None)
    return lowest <= start and end <= highest


class Asked:
    """A storage that remembers what was read."""

    def __init__(self, storage: Storage) -> None:
        """Wrap it."""
        self._storage = storage
        self.entries: list[str] = []
        self.listings: list[str] = []

    def read(self, path: str) -> bytes:
        """Read, and remember."""
        if not is_checkpoint(path):
            self.entries.append(path)
        elif path.endswith(".parquet"):
            self.listings.append(path)
        return self._storage.read(path)

    def __getattr__(self, name: str) -> Any:
        """Give the storage's own method."""
        return getattr(self._storage, name)


# the law


@given(
    log=LOGS,
    bounds=st.tuples(BOUNDS, BOUNDS),
    is_complete=st.booleans(),
    back=st.integers(0, 39),
    made=st.integers(0, 39),
    gone=st.sets(st.integers(0, 60)),
    sizes=st.tuples(st.integers(1, 4), st.integers(2, 3)),
)
def test_what_is_read_is_what_the_entries_say(
    log: list[Cycle],
    bounds: tuple[datetime | None, datetime | None],
    is_complete: bool,  # noqa: FBT001
    back: int,
    made: int,
    gone: set[int],
    sizes: tuple[int, int],
) -> None:
    """Batches, their order, windows and totals: for any log, part of it, and some checkpoints."""
    with ExitStack() as stack:
        stack.enter_context(spans(*sizes))
        root = stack.enter_context(tempfile.TemporaryDirectory())
        storage, entries = LocalStorage(root), log_of(log)
        put(storage, entries)
        mend(storage, min(made, len(entries) - 1), most=ALL)
        storage.delete(path for n, path in enumerate(sorted(files_of(storage))) if n in gone)
        cycle = max(len(entries) - 1 - back, 0)
        view = batch_collection.open(storage).at(cycle).between(*bounds)
        view = view.complete() if is_complete else view
        boundary = entries[cycle].boundary if is_complete else None
        narrowing = Narrowing(*bounds, boundary)

        expected = [
            batch
            for batch in batches_by_entries(storage, entries[: cycle + 1])
            if in_windows(narrowing, batch.window_start, batch.window_end)
        ]
        assert list(view) == expected
        assert (len(view), view.rows) == (len(expected), sum(batch.rows for batch in expected))
        assert [batch for window in view.windows() for batch in window.batches] == sorted(
            expected, key=lambda batch: batch.window_start
        )
        found = status(storage)
        with spans(levels=0):
            assert found == status(storage)


def test_an_instant_of_any_year_is_listed(storage: Storage) -> None:
    """A device with a wrong clock makes windows of other centuries."""
    entries = log_of([Cycle()] * 2)
    start = FIRST.replace(year=9999)
    panes = tuple(
        replace(pane, window_start=start, window_end=start + MINUTE) for pane in entries[0].panes
    )
    first = replace(entries[0], panes=panes)
    put(storage, [first, replace(entries[1], previous=digest(first.to_json()))])
    mend(storage, 1, most=ALL)

    assert read_summary(storage, Range(0, 1)) is not None
    assert [batch.window_start for batch in batch_collection.open(storage)] == [
        start,
        FIRST + MINUTE,
    ]


# what is spared


def test_entries_that_have_a_checkpoint_are_not_read(
    storage: Storage, entries: list[Entry]
) -> None:
    """But the last one of each, and those after the last."""
    asked = Asked(storage)
    view = batch_collection.open(cast("Storage", asked))

    assert len(view) == len(batches_by_entries(storage, entries))
    pieces = list(cover(0, 22))
    assert [(piece.first, piece.last) for piece in pieces] == [
        (0, 7),
        (8, 15),
        (16, 19),
        (20, 21),
        (22, 22),
    ]
    newest = entry_path(22)
    assert set(asked.entries) == {newest, *(entry_path(piece.last) for piece in pieces)}
    assert len(asked.entries) <= len(pieces) + 2


def test_listings_without_windows_asked_for_are_not_read(
    storage: Storage, entries: list[Entry]
) -> None:
    """Nor is anything at all before a view is used."""
    asked = Asked(storage)
    view = batch_collection.open(cast("Storage", asked))
    last = view.between(FIRST + 21 * MINUTE)
    assert len(asked.entries) == 1

    assert [batch.cycle for batch in last][-1] == entries[-1].cycle
    assert len(asked.listings) < len([*cover(0, 22)]) - 1


def test_status_reads_no_entries_that_have_a_checkpoint(
    storage: Storage, entries: list[Entry]
) -> None:
    """But the last one of each, and those that it lists."""
    asked = Asked(storage)

    found = status(cast("Storage", asked), last=3)

    assert [cycle.cycle for cycle in found.cycles] == [20, 21, 22]
    assert found.totals.files == len(batches_by_entries(storage, entries))
    ends = {piece.last for piece in cover(0, 22)}
    assert set(asked.entries) == {entry_path(cycle) for cycle in ends | {20, 21, 22}}


# what is never trusted


def test_a_flipped_bit_is_seen(tmp_path: Path) -> None:
    """Wherever it is, in either file: then it is as if there were none."""
    storage, entries = LocalStorage(str(tmp_path)), log_of(CYCLES[:2])
    put(storage, entries)
    mend(storage, 1, most=ALL)
    for path, content in files_of(storage).items():
        for place in range(len(content)):
            flipped = bytearray(content)
            flipped[place] ^= 1 << place % 8
            (tmp_path / path).write_bytes(flipped)
            assert read_checkpoint(storage, Range(0, 1)) is None, (path, place)
        assert list(batch_collection.open(storage)) == batches_by_entries(storage, entries)
        (tmp_path / path).write_bytes(content)

    assert read_checkpoint(storage, Range(0, 1)) is not None


def range_in(path: str) -> Range:
    """Return the range that a file is named after."""
    first, last = path.rsplit("/", 1)[-1].split(".", maxsplit=1)[0].split("-")[1:]
    return Range(int(first), int(last))


def summed(body: bytes) -> bytes:
    """Return what a faulty writer would write: something else, with the right checksum."""
    return body + f', "crc32c": "{crc32c(body)}"}}\n'.encode()


@pytest.mark.parametrize("new_uri", ["local"], indirect=True)
@pytest.mark.parametrize("suffix", [".json", ".parquet"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda _: None,
        lambda _: b"",
        lambda content: content[:-1],
        lambda content: content[: len(content) // 2],
        lambda content: content + b"\0",
        lambda _: b"{}",
        lambda _: b"null",
        lambda _: summed(b'{"format": 1'),
        lambda _: summed(b'["format"'),
    ],
    ids=["gone", "empty", "short", "torn", "long", "other", "null", "lacking", "list"],
)
def test_a_damaged_file_is_not_trusted_and_made_anew(
    storage: Storage, entries: list[Entry], suffix: str, damage: Callable[[bytes], bytes | None]
) -> None:
    """Readers go by the entries; a collector whose turn it is makes the very same file again."""
    whole = files_of(storage)
    for path, content in whole.items():
        if path.endswith(suffix):
            storage.delete([path])
            damaged = damage(content)
            if damaged is not None:
                storage.replace(path, damaged)

    expected = batches_by_entries(storage, entries)
    assert list(batch_collection.open(storage)) == expected
    for turn in range(len(whole)):
        mend(storage, entries[-1].cycle, most=ALL, turn=turn)
    assert files_of(storage) == whole


def test_a_checkpoint_of_another_collection_is_not_trusted(
    storage: Storage, entries: list[Entry], new_uri: Callable[[], str]
) -> None:
    """However whole it is: its last entry is another one."""
    other = open_storage(new_uri())
    put(other, log_of([cycle._replace(files=3) for cycle in CYCLES], run="run-2"))
    mend(other, entries[-1].cycle, most=ALL)
    whole = files_of(storage)
    for path, content in files_of(other).items():
        storage.replace(path, content)

    assert list(batch_collection.open(storage)) == batches_by_entries(storage, entries)
    mend(storage, entries[-1].cycle, most=ALL)
    assert files_of(storage).keys() == whole.keys()
    assert {path: files_of(storage)[path] for path in ours(storage)} == {
        path: whole[path] for path in ours(storage)
    }


def ours(storage: Storage) -> list[str]:
    """Return the files that readers of the newest entry would use."""
    pieces = [piece for piece in cover(0, len(CYCLES) - 1) if piece.level is not None]
    return [path for path in files_of(storage) if range_in(path) in pieces]


def test_a_checkpoint_of_other_entries_is_not_trusted(
    storage: Storage, entries: list[Entry]
) -> None:
    """One range's files under another's name."""
    files = files_of(storage)
    first, second = (sorted(path for path in files if path.endswith(end)) for end in ("json", "t"))
    for paths in (first, second):
        for path, content in zip(paths, [files[path] for path in reversed(paths)], strict=True):
            storage.replace(path, content)

    assert list(batch_collection.open(storage)) == batches_by_entries(storage, entries)


def test_a_checkpoint_of_a_log_that_was_begun_anew_is_not_trusted(
    storage: Storage, entries: list[Entry]
) -> None:
    """The entries were removed, the checkpoints were not."""
    storage.delete(entry_path(entry.cycle) for entry in entries)
    anew = log_of([Cycle(files=2)] * 9, run="run-2")
    put(storage, anew)

    assert list(batch_collection.open(storage)) == batches_by_entries(storage, anew)


def test_a_summary_of_another_format_is_left_to_others(
    storage: Storage, entries: list[Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later version may write it otherwise; this one reads the entries."""
    from batch_collection.checkpoints import checkpoint  # noqa: PLC0415 - its format is changed

    monkeypatch.setattr(checkpoint, "FORMAT", 2)

    assert read_summary(storage, Range(0, 7)) is None
    assert list(batch_collection.open(storage)) == batches_by_entries(storage, entries)


# dead letters


def test_reasons_are_summed_up(storage: Storage) -> None:
    """With the files gone, the checkpoint still knows; the order of equal counts is the log's."""
    collector = Collector(storage)
    collector.start()
    for offset in range(7):
        reason = ("not JSON", "too deep", "no object")[offset % 3]
        collector.collect(dead_letter(offset, reason), message(100 + offset))
    before = status(storage)
    mend(storage, 7, most=ALL)
    storage.delete(list(storage.list("dead_letters")))

    assert before.dead_letters_by_reason == {"not JSON": 3, "too deep": 2, "no object": 2}
    assert status(storage) == before
    assert list(status(storage).dead_letters_by_reason) == list(before.dead_letters_by_reason)
