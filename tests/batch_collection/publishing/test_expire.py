"""Expiring: what goes, what stays, and that nothing notices but by what is gone."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from random import Random
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import batch_collection
from batch_collection.errors import CollectionError, ExpiredError, LogError
from batch_collection.inspection.audit import audit
from batch_collection.inspection.status import status
from batch_collection.log.batch import batches_of
from batch_collection.log.entries import (
    create_entry,
    digest,
    newest_cycle,
    read_entries,
    read_entry,
)
from batch_collection.log.expiry import Expiry, first_cycle, newest_expiry, newest_stub, read_stub
from batch_collection.paths import (
    STAGING,
    cursor_path,
    draft_path,
    entry_path,
    manifest_path,
    stub_path,
)
from batch_collection.publishing.expire import expire
from batch_collection.publishing.publish import publish, sweep
from batch_collection.storage.local import LocalStorage
from batch_collection.storage.opening import open_storage
from tests.builders import Collector, Message, at, dead_letter, message, tombstone
from tests.damage import forge
from tests.power import FailingPower
from tests.storages import BusyStorage, Died, DyingStorage, some_points

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from batch_collection.log.entry import Entry
    from batch_collection.publishing.expire import Expired
    from batch_collection.storage.contract import Storage

NOW = at("12:00:00")


@pytest.fixture
def collector(tmp_path: Path) -> Collector:
    """Return a collector with windows 10:30 to 10:34 behind it, and 10:35 open."""
    return filled(Collector(LocalStorage(str(tmp_path / "collection")), batch_size=2))


def filled(collector: Collector) -> Collector:
    """Collect a window a cycle, with early and late panes, dead letters, arrays and carry.

    Cycle 1 gives 10:30 an early pane; cycles 2 to 6 close a window each, and cycle 4 is late for
    10:30. The message of offset 12 has a row in 10:34 and one in 10:35, an early pane.
    """
    collector.start((0, 1))
    collector.collect(*(message(offset, "10:30:10") for offset in range(3)), dead_letter(3))
    collector.collect(message(4, "10:31:10"), tombstone(5), boundary="10:31:00")
    collector.collect(
        message(6, "10:32:10"), message(0, "10:31:20", partition=1), boundary="10:32:00"
    )
    collector.collect(message(7, "10:33:10"), message(8, "10:30:20"), boundary="10:33:00")
    collector.collect(message(9, "10:34:10"), dead_letter(10), boundary="10:34:00")
    collector.collect(
        message(11, "10:35:10"), message(12, "10:34:11", "10:35:11"), boundary="10:35:00"
    )
    return collector


def expired(storage: Storage, before: str | datetime, **options: Any) -> Expired:
    """Expire."""
    instant = at(before) if isinstance(before, str) else before
    return expire(storage, instant, NOW, **options)


def ids(storage: Storage) -> list[str]:
    """Return the batches that are there."""
    return [batch.id for batch in batch_collection.open(storage)]


def listed(storage: Storage) -> set[str]:
    """Return all files but stubs."""
    return {path for path in storage.list("") if not path.startswith("expired/")}


@pytest.fixture
def log(collector: Collector) -> list[Entry]:
    """Return the entries as they were before anything was expired."""
    return _log(collector)


def _log(collector: Collector) -> list[Entry]:
    assert collector.newest is not None
    return list(read_entries(collector.storage, 0, collector.newest.cycle))


# what goes


def test_old_windows_go_and_the_rest_stays(storage: Storage) -> None:
    """Files, manifests, dead letters and entries of the old ones; nothing else is touched."""
    collector = filled(Collector(storage, batch_size=2))
    log = _log(collector)
    before = listed(collector.storage)
    found = expired(collector.storage, "10:33:00")

    gone = {file.path for entry in log for file in entry.files if file.min_time < at("10:33:00")}
    gone |= {manifest_path(at(clock), 1) for clock in ("10:30:00", "10:31:00", "10:32:00")}
    gone |= {manifest_path(at("10:30:00"), 2), log[1].dead_letters[0].path}
    gone |= {entry_path(cycle) for cycle in range(5)}
    assert before - listed(collector.storage) == gone
    assert listed(collector.storage) <= before
    assert (found.windows, found.files, found.rows, found.dead_letters) == (3, 5, 7, 1)
    assert (found.entries, found.entries_left, found.stub) == (5, 2, stub_path(0))
    assert found.bytes == sum(f.bytes for entry in log for f in entry.files if f.path in gone)
    assert audit(collector.storage).findings == ()


def test_the_stub_says_what_was_there(collector: Collector, log: list[Entry]) -> None:
    """By sums, and by a hash that the first kept entry holds as well."""
    archived = collector.storage.read(entry_path(4))
    expired(collector.storage, "10:33:00")
    stub = newest_expiry(collector.storage)
    assert stub is not None
    assert stub.folded is not None

    assert (stub.before, stub.through, stub.first) == (at("10:33:00"), 5, 5)
    assert (stub.expired_at, stub.number, stub.previous) == (NOW, 0, None)
    folded = stub.folded
    assert folded.sha256 == digest(archived) == read_entry(collector.storage, 5).previous
    first, second = folded.last.reads
    assert (first.start, first.end, first.messages, first.rows) == (0, 9, 9, 7)
    assert (first.dead_letters, first.tombstones, second.end, second.rows) == (1, 1, 1, 1)
    assert (folded.rows, folded.files, folded.late_rows, folded.filed) == (7, 5, 1, {0: 6, 1: 1})
    assert folded.windows == (at("10:30:00"), at("10:33:00"))
    assert (folded.closed_windows, folded.place) == (3, (4, 2))
    assert sum(file.rows for file in folded.last.carry) == 1
    assert folded.last.boundary == log[4].boundary
    assert Expiry.from_json(stub.to_json()) == stub


def test_a_window_within_an_entry_that_stays_is_expired(collector: Collector) -> None:
    """An entry of which some panes are old stays, and tells what its files were."""
    collector.collect(message(13, "10:31:50"), message(14, "10:36:10"), boundary="10:36:00")
    collector.collect(message(15, "10:37:10"), boundary="10:37:00")
    found = expired(collector.storage, "10:34:00")

    assert (found.windows, found.entries, found.rows) == (4, 6, 9)
    assert "0000000007-0000" not in ids(collector.storage)
    assert any(file.rows for file in read_entry(collector.storage, 7).files)
    assert audit(collector.storage).findings == ()


def test_an_instant_within_a_window_keeps_it(collector: Collector) -> None:
    """It is rounded down to a boundary."""
    assert expired(collector.storage, "10:32:59.5").before == at("10:32:00")


def test_a_dry_run_says_the_same_and_changes_nothing(collector: Collector) -> None:
    """Nor does it finish what was interrupted."""
    before = {path: collector.storage.read(path) for path in collector.storage.list("")}
    said = expired(collector.storage, "10:33:00", dry_run=True)

    assert {path: collector.storage.read(path) for path in collector.storage.list("")} == before
    assert expired(collector.storage, "10:33:00") == said


def test_a_second_time_there_is_nothing_to_do(collector: Collector) -> None:
    """No stub is made for nothing."""
    expired(collector.storage, "10:33:00")
    before = set(collector.storage.list(""))
    found = expired(collector.storage, "10:33:00")

    assert (found.windows, found.files, found.entries, found.stub) == (0, 0, 0, None)
    assert set(collector.storage.list("")) == before


def test_stubs_are_chained_and_each_speaks_for_all_before(collector: Collector) -> None:
    """Sums go on; so only the newest one is read."""
    for clock in ("10:31:00", "10:32:00", "10:34:00"):
        expired(collector.storage, clock)
    stubs = [read_stub(collector.storage, number) for number in range(3)]

    hashes = [digest(collector.storage.read(stub_path(number))) for number in range(3)]
    assert [stub.previous for stub in stubs] == [None, *hashes[:2]]
    assert [stub.first for stub in stubs] == [3, 4, 6]
    assert [stub.folded.rows for stub in stubs if stub.folded] == [3, 5, 8]
    assert audit(collector.storage).findings == ()


def test_a_late_row_is_there_until_the_next_expiry(storage: Storage) -> None:
    """Its cycle came after the stub, and its manifest has that cycle's number."""
    collector = filled(Collector(storage, batch_size=2))
    expired(storage, "10:33:00")
    late = collector.collect(message(13, "10:31:50"), boundary="10:36:00")
    collector.collect(message(14, "10:37:10"), message(15, "10:31:51"), boundary="10:37:00")

    assert ids(storage)[3:] == ["0000000007-0000", "0000000008-0000"]
    window = batch_collection.open(storage).windows()[0]
    assert (window.start, window.rows) == (at("10:31:00"), 2)
    assert storage.size(manifest_path(at("10:31:00"), late.cycle)) is not None
    assert audit(storage).findings == ()
    assert expired(storage, "10:33:00").rows == 1
    assert batch_collection.open(storage).windows()[0].rows == 1
    assert storage.size(manifest_path(at("10:31:00"), late.cycle)) is None
    assert audit(storage).findings == ()


def test_a_late_pane_may_have_been_published_before_its_window_was_expired(
    collector: Collector,
) -> None:
    """Its manifest has the next number then, and that of its cycle once it is published again."""
    storage = collector.storage
    late = collector.collect(message(13, "10:30:50"), boundary="10:36:00")
    assert storage.size(manifest_path(at("10:30:00"), 3)) is not None
    expired(storage, "10:33:00")
    assert audit(storage).findings == ()
    publish(storage, late)
    assert audit(storage).findings == ()
    collector.collect(boundary="10:37:00")
    assert audit(storage).findings == ()

    expired(storage, "10:34:00")
    assert [path for path in storage.list("windows") if "103000Z" in path] == []
    assert audit(storage).findings == ()


# what is refused


def test_open_windows_cannot_be_expired(collector: Collector) -> None:
    """Nor those whose closing is in the newest entry, which may not be published yet."""
    expected = (
        "before=2026-11-22T10:35:00Z is too late: windows up to 2026-11-22T10:34:00Z can be "
        f"expired in {collector.storage.uri}, which are closed and followed by another entry"
    )
    with pytest.raises(CollectionError, match=re.escape(expected)):
        expired(collector.storage, "10:35:00")

    assert expired(collector.storage, "10:35:00", exact=False).before == at("10:34:00")


def test_before_never_goes_back(collector: Collector) -> None:
    """What is gone is gone; as a limit there is nothing to do."""
    expired(collector.storage, "10:33:00")
    expected = "before=2026-11-22T10:32:00Z is too early: windows before 2026-11-22T10:33:00Z of"
    with pytest.raises(CollectionError, match=re.escape(expected)):
        expired(collector.storage, "10:32:00")

    assert expired(collector.storage, "10:32:00", exact=False).stub is None


def test_before_may_be_before_the_first_window_of_the_calendar(tmp_path: Path) -> None:
    """There is nothing to expire then."""
    collector = Collector(LocalStorage(str(tmp_path / "c")), interval=timedelta(days=7))
    collector.start()
    for offset in range(2):
        collector.collect(message(offset))
    first = datetime(1, 1, 1, tzinfo=timezone.utc)

    assert expired(collector.storage, first, exact=False).stub is None


@pytest.mark.parametrize("cycles", [0, 1, 2])
def test_a_collection_without_closed_windows_has_nothing_to_expire(
    storage: Storage, cycles: int
) -> None:
    """Nothing was due yet."""
    collector = Collector(storage)
    collector.start()
    for offset in range(cycles):
        collector.collect(message(offset))
    with pytest.raises(CollectionError, match="is too late: no window can be expired in"):
        expired(storage, "10:31:00")

    assert expired(storage, "10:31:00", exact=False).stub is None
    assert list(storage.list("expired")) == []


def test_there_must_be_a_collection(storage: Storage) -> None:
    """An empty folder is none."""
    with pytest.raises(LogError, match="no collection in"):
        expired(storage, "10:31:00")


def test_a_log_that_is_damaged_is_not_folded(collector: Collector) -> None:
    """Its stub would prove nothing, and what could be found would be gone."""
    content = collector.storage.read(entry_path(2))
    collector.storage.replace(entry_path(2), content + b"\n")
    before = listed(collector.storage)

    expected = f"{entry_path(3)} does not follow the entry before it; nothing was expired"
    with pytest.raises(LogError, match=re.escape(expected)):
        expired(collector.storage, "10:33:00")
    assert listed(collector.storage) == before


def test_of_two_who_expire_at_once_one_is_told(storage: Storage) -> None:
    """The other's stub is there first."""
    filled(Collector(storage, batch_size=2))

    class Rival(DyingStorage):
        def create(self, path: str, content: bytes) -> None:
            storage.create(path, content.replace(b'"host": "', b'"host": "other-'))
            super().create(path, content)

    with pytest.raises(CollectionError, match=r"somebody else expires .* at the same time"):
        expired(Rival(storage), "10:33:00")
    expired(storage, "10:33:00")
    assert audit(storage).findings == ()


# crashes


@pytest.mark.slow
def test_expiring_that_dies_anywhere_is_finished_by_the_next(new_uri: Callable[[], str]) -> None:
    """Readers see all, or what is to be left, and nothing in between."""
    k, is_dead = 0, True
    while is_dead:
        collector = filled(Collector(open_storage(new_uri()), batch_size=2))
        storage = collector.storage
        whole = ids(storage)
        dying = DyingStorage(storage, k)
        try:
            expired(dying, "10:33:00")
            is_dead = False
        except Died:
            left = ids(storage)
            assert left == (whole[5:] if newest_expiry(storage) else whole)
            assert all("was expired and is still there" in one for one in audit(storage).findings)
            assert newest_cycle(storage) == 6
            expired(storage, "10:33:00")
        assert ids(storage) == whole[5:]
        assert audit(storage).findings == ()
        collector.collect(message(13, "10:36:10"), boundary="10:37:00")
        assert audit(storage).findings == ()
        k += 1

    assert k > 18


@some_points(every=3)
def test_a_power_failure_anywhere_leaves_nothing_that_nobody_takes_away(
    tmp_path: Path, every: int
) -> None:
    """What was deleted and comes back is deleted by the next one: entries go when all else has."""
    whole, clean, torn = tmp_path / "whole", tmp_path / "clean", tmp_path / "torn"
    filled(Collector(LocalStorage(str(whole)), batch_size=2))
    shutil.copytree(whole, clean)
    expired(LocalStorage(str(clean)), "10:33:00")
    expected = listed(LocalStorage(str(clean)))
    k, is_dead = 0, True
    while is_dead:
        shutil.rmtree(torn, ignore_errors=True)
        shutil.copytree(whole, torn)
        storage, power = LocalStorage(str(torn)), FailingPower(torn, k)
        with power.on():
            is_dead = _dies(lambda: expired(storage, "10:33:00"))  # noqa: B023 - called at once
        power.bring_back(Random(k))
        assert all("was expired and is still there" in one for one in audit(storage).findings)

        expired(storage, "10:33:00")

        drafts = set(storage.list(STAGING))  # of a stub; collectors sweep them
        assert listed(storage) - drafts == expected
        assert audit(storage).findings == ()
        k += every
    assert power.unsynced == {}
    assert power.calls > 20


def _dies(act: Callable[[], object]) -> bool:
    try:
        act()
    except Died:
        return True
    return False


def test_another_instant_finishes_it_as_well(collector: Collector) -> None:
    """The newer stub speaks for the older one."""
    dying = DyingStorage(collector.storage, 5)
    with pytest.raises(Died):
        expired(dying, "10:32:00")
    expired(collector.storage, "10:33:00")

    assert audit(collector.storage).findings == ()


# zombies


@pytest.mark.parametrize("cycle", range(7))
def test_an_entry_whose_place_is_free_again_is_not_created(
    collector: Collector, log: list[Entry], cycle: int
) -> None:
    """A collector that stood still for days finds its cycle's number free, at any place."""
    storage = collector.storage
    expired(storage, "10:33:00")
    before = set(storage.list(""))
    zombie = replace(log[cycle], run="zombie")

    if cycle < 5:
        expected = (
            f"cycle={cycle} of {storage.uri} was expired; the first one in the log is cycle=5"
        )
        with pytest.raises(ExpiredError, match=re.escape(expected)):
            create_entry(storage, zombie)
    else:
        assert create_entry(storage, zombie) == log[cycle]
    assert set(storage.list("")) == before


@pytest.mark.parametrize("every", range(1, 12))
def test_a_zombie_that_wakes_while_its_entry_is_expired_leaves_nothing(
    tmp_path: Path, every: int
) -> None:
    """Whatever is deleted already."""
    storage = LocalStorage(str(tmp_path))
    log = _log(filled(Collector(storage, batch_size=2)))

    def wake() -> None:
        for entry in log[:5]:
            try:
                assert create_entry(storage, replace(entry, run="zombie")) == entry
            except ExpiredError:
                assert newest_expiry(storage) is not None

    expired(cast("Storage", BusyStorage(storage, wake, every)), "10:33:00")
    assert audit(storage).findings == ()


def test_an_entry_that_a_zombie_leaves_as_it_dies_is_no_entry(
    collector: Collector, log: list[Entry]
) -> None:
    """Readers and collectors pass it over, the audit finds it, the next expiry removes it."""
    storage = collector.storage
    expired(storage, "10:33:00")
    for cycle in (0, 1, 4):
        storage.create(entry_path(cycle), replace(log[cycle], run="zombie").to_json())

    assert newest_cycle(storage) == 6
    assert ids(storage) == _ALL[5:]
    again = "was expired and is still there; run batch-collection expire again"
    assert list(audit(storage).findings) == [f"{entry_path(cycle)} {again}" for cycle in (0, 1, 4)]
    expired(storage, "10:33:00")
    assert audit(storage).findings == ()


def test_a_zombie_that_publishes_what_was_expired_changes_nothing(
    collector: Collector, log: list[Entry]
) -> None:
    """Neither files nor manifests come back."""
    expired(collector.storage, "10:33:00")
    before = set(collector.storage.list(""))
    for entry in log:
        publish(collector.storage, entry)

    assert set(collector.storage.list("")) == before


def test_the_draft_of_an_expired_entry_is_swept(collector: Collector) -> None:
    """Nobody can need it."""
    storage = collector.storage
    expired(storage, "10:33:00")
    with storage.write(draft_path(entry_path(3), "00000001")) as sink:
        sink.write(b"left")
    assert collector.newest is not None
    sweep(storage, collector.newest)

    assert list(storage.list("staging")) == []


# beside others


@pytest.mark.parametrize("every", [*range(1, 12), *range(12, 40, 4)])
def test_a_running_collector_goes_on_undisturbed(tmp_path: Path, every: int) -> None:
    """All that can be expired is, before each n-th call of the collector to its storage."""
    storage = LocalStorage(str(tmp_path))

    def act() -> None:
        expired(storage, "23:00:00", exact=False)

    collector = filled(Collector(storage, batch_size=2))
    collector.storage = cast("Storage", BusyStorage(storage, act, every))
    for minute in range(36, 42):
        offset = 13 + 3 * (minute - 36)
        collector.collect(
            *(message(offset + i, f"10:{minute - 3 * i}:10") for i in range(3)),
            boundary=f"10:{minute + 1}:00",
        )
        assert audit(storage).findings == ()
    act()
    assert newest_cycle(storage) == 12
    assert first_cycle(storage) > 9
    assert audit(storage).findings == ()


@pytest.mark.parametrize("every", range(1, 30, 4))
def test_an_audit_goes_on_undisturbed(tmp_path: Path, every: int) -> None:
    """It begins again with what is left."""
    collector = filled(Collector(LocalStorage(str(tmp_path)), batch_size=2))
    clocks = iter(("10:31:00", "10:32:00", "10:33:00"))

    def act() -> None:
        clock = next(clocks, None)
        if clock is not None:
            expired(collector.storage, clock)

    assert audit(cast("Storage", BusyStorage(collector.storage, act, every))).findings == ()
    assert newest_expiry(collector.storage) is not None


@pytest.mark.parametrize("every", range(1, 20, 3))
def test_opening_and_status_go_on_undisturbed(tmp_path: Path, every: int) -> None:
    """They read the log as it is before, or as it is after."""
    for look, expected in (
        (ids, (_ALL, _ALL[5:])),
        (lambda storage: status(storage).totals.rows, (12, 5)),
    ):
        storage = LocalStorage(str(tmp_path / str(expected)))
        filled(Collector(storage, batch_size=2))
        clocks = iter(("10:33:00",))

        def act() -> None:
            clock = next(clocks, None)  # noqa: B023
            if clock is not None:
                expired(storage, clock)  # noqa: B023

        assert look(cast("Storage", BusyStorage(storage, act, every))) in expected


# the law

MINUTES = st.integers(30, 40)
ROWS = st.lists(
    st.tuples(MINUTES, st.sampled_from(["row", "array", "dead", "tombstone"])), max_size=4
)
STEPS = st.lists(
    st.tuples(st.just("collect"), ROWS, st.integers(0, 3))
    | st.tuples(st.just("expire"), st.integers(30, 45), st.none() | st.integers(0, 40)),
    min_size=1,
    max_size=14,
)


@settings(max_examples=60)
@given(STEPS)
def test_readers_see_what_the_rule_leaves_whatever_happened(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[Any, Any, Any]]
) -> None:
    """Any log, any instants, any deaths on the way; the audit agrees, and collecting goes on."""
    storage = LocalStorage(str(tmp_path_factory.mktemp("law")))
    collector = Collector(storage, batch_size=2)
    log, minute, offset = [collector.start()], 30, 0
    for what, first, second in [*steps, ("collect", [(40, "row")], 1)]:
        if what == "collect":
            minute, offset = minute + second, offset + len(first)
            log.append(_collect(collector, first, offset, minute if second else None))
            left_over = False
        else:
            left_over = _expire_or_die(storage, at(f"10:{first}:00"), second)
        _check_law(storage, log)
        found = audit(storage).findings
        assert all(_AGAIN in one for one in found) if left_over else found == (), found
        if left_over:
            expire(storage, at("10:30:00"), NOW, exact=False)
            assert audit(storage).findings == ()


_AGAIN = "was expired and is still there; run batch-collection expire again"


def _collect(
    collector: Collector, rows: list[tuple[int, str]], end: int, minute: int | None
) -> Entry:
    """Collect rows of those minutes and kinds, at the offsets before ``end``."""
    messages: list[Message] = []
    for offset, (at_minute, kind) in enumerate(rows, end - len(rows)):
        clocks = [f"10:{at_minute}:10", f"10:{at_minute + 1}:10"][: 1 + (kind == "array")]
        if kind == "dead":
            messages.append(dead_letter(offset))
        elif kind == "tombstone":
            messages.append(tombstone(offset))
        else:
            messages.append(message(offset, *clocks))
    return collector.collect(*messages, boundary=f"10:{minute}:00" if minute else None)


def _expire_or_die(storage: Storage, before: datetime, k: int | None) -> bool:
    """Expire; return whether it died on the way, after its stub was there."""
    number = newest_stub(storage)
    try:
        expire(DyingStorage(storage, k), before, NOW, exact=False)
    except Died:
        return newest_stub(storage) != number or number is not None
    return False


def _check_law(storage: Storage, log: list[Entry]) -> None:
    """See that readers, the log and the stub's sums are what its three numbers say."""
    stub = newest_expiry(storage)
    before, through = (stub.before, stub.through) if stub else (at("00:00:00"), -1)
    visible = [
        batch.id
        for entry in log
        for batch in batches_of(storage, entry)
        if not (entry.cycle <= through and batch.window_end <= before)
    ]
    assert ids(storage) == visible
    assert batch_collection.open(storage).rows == sum(
        batch.rows for entry in log for batch in batches_of(storage, entry) if batch.id in visible
    )
    assert newest_cycle(storage) == log[-1].cycle
    first = 0
    for entry in log[: through + 1]:
        ends = [pane.window_end for pane in entry.panes]
        if max([*ends, entry.boundary or before]) > before:
            break
        first = entry.cycle + 1 if entry.boundary else first
    assert first_cycle(storage) == first
    found, gone = status(storage).totals, status(storage).expired
    files = [file for entry in log for file in entry.files]
    assert found.messages == sum(read.messages for entry in log for read in entry.reads)
    assert found.rows == batch_collection.open(storage).rows
    assert found.rows + (gone.rows if gone else 0) == sum(file.rows for file in files)
    assert found.bytes + (gone.bytes if gone else 0) == sum(file.bytes for file in files)


# reading


_ALL = [
    *("0000000001-0000", "0000000002-0000", "0000000003-0000", "0000000004-0000"),
    *("0000000004-0001", "0000000005-0000", "0000000006-0000", "0000000006-0001"),
]


def follow(storage: Storage, **options: Any) -> list[str]:
    """Follow to the end of the log."""
    view = batch_collection.open(storage)
    return [batch.id for batch in view.follow("a", once=True, **options)]


def follow_some(storage: Storage, count: int) -> None:
    """Process some batches, and stop."""
    batches = batch_collection.open(storage).follow("a", once=True)
    for _ in range(count + 1):  # a batch is done when the next one is asked for
        next(batches, None)


def test_a_view_opened_before_says_what_happened(storage: Storage) -> None:
    """What it has not read is gone; the error says so, and what to do."""
    filled(Collector(storage, batch_size=2))
    view = batch_collection.open(storage)
    assert len(view) == 8
    expired(storage, "10:33:00")

    stub = "windows before 2026-11-22T10:33:00Z, of cycles up to 5"
    expected = f"batch 0000000001-0000 was expired ({stub}); open {storage.uri} again"
    with pytest.raises(ExpiredError, match=re.escape(expected)):
        view.table()
    assert batch_collection.open(storage).table().num_rows == 5
    assert batch_collection.open(storage).between("2026-11-22T10:33Z").rows == 5


def test_a_view_of_which_nothing_is_left_is_not_empty(collector: Collector) -> None:
    """It is an error: an empty one would say that there never was anything."""
    storage = collector.storage
    view, past = batch_collection.open(storage), batch_collection.open(storage).at(3)
    expired(storage, "10:33:00")

    with pytest.raises(ExpiredError, match="was expired: the log begins with cycle=5; open it"):
        len(past)
    expected = f"cycle=3 of {storage.uri} was expired; the first one in the log is cycle=5"
    with pytest.raises(ExpiredError, match=re.escape(expected)):
        view.at(3)
    assert [batch.id for batch in view.at(5)] == ["0000000005-0000"]


def test_a_place_in_a_view_that_lost_rows_is_refused(collector: Collector) -> None:
    """Its count is of rows that are gone; where none are, it is as good as before."""
    storage = collector.storage

    def state(start: str | None) -> Any:
        view = batch_collection.open(storage).between(start)
        return view.to_arrow_batches(1), view.to_arrow_batches(1).state_dict()

    (_, whole), (_, late) = state(None), state("2026-11-22T10:33Z")
    expired(storage, "10:33:00")
    state("2026-11-22T10:33Z")[0].load_state_dict(late)
    with pytest.raises(CollectionError, match="rows that it counts are gone; begin anew"):
        state(None)[0].load_state_dict(whole)


def test_an_expired_collection_is_pointed_down_to(tmp_path: Path) -> None:
    """It has no first entry, and is one all the same."""
    storage = LocalStorage(str(tmp_path / "collection"))
    filled(Collector(storage, batch_size=2))
    expired(storage, "10:33:00")

    with pytest.raises(LogError, match=re.escape(f"did you mean {storage.uri}?")):
        batch_collection.open(tmp_path)


# following


def test_a_follower_that_is_up_to_date_goes_on(collector: Collector) -> None:
    """Also if its entry is folded, and had the last batch for long."""
    storage = collector.storage
    assert follow(storage) == _ALL
    for minute in range(36, 40):
        collector.collect(boundary=f"10:{minute}:00")
    assert follow(storage) == ["0000000007-0000"] * 0
    expired(storage, "10:38:00")
    collector.collect(message(13, "10:39:10"), boundary="10:40:00")

    assert first_cycle(storage) > 7
    assert follow(storage) == ["0000000011-0000"]


def test_a_new_follower_begins_with_what_is_left(collector: Collector) -> None:
    """And isn't told, then or later, of what was expired before it began."""
    storage = collector.storage
    collector.collect(message(13, "10:31:50"), message(14, "10:36:10"), boundary="10:36:00")
    collector.collect(message(15, "10:37:10"), boundary="10:37:00")
    expired(storage, "10:34:00")
    follow_some(storage, 2)

    assert follow(storage) == ["0000000008-0000"]


def test_a_follower_of_rows_goes_on_and_is_told_what_it_missed(collector: Collector) -> None:
    """As one of batches: rows that wait to fill a batch have not been read."""
    storage = collector.storage

    def followed(**options: Any) -> list[int]:
        view = batch_collection.open(storage)
        batches = view.follow("a", once=True, **options).to_numpy_batches(
            5, columns=["value"], drop_remainder=True
        )
        return [len(batch["value"]) for batch in batches]

    rows = batch_collection.open(storage).rows
    assert followed() == [5] * (rows // 5)
    for minute in range(36, 40):
        collector.collect(boundary=f"10:{minute}:00")
    expired(storage, "10:38:00")
    added = [message(number, "10:39:10") for number in range(13, 23)]
    collector.collect(*added, boundary="10:40:00")

    assert rows % 5
    with pytest.raises(ExpiredError, match="has not read all of what was expired"):
        followed()
    assert followed(on_expired="skip") == [5, 5]
    for minute in range(41, 45):
        collector.collect(boundary=f"10:{minute}:00")
    expired(storage, "10:43:00")
    assert followed() == []
    collector.collect(*(message(n, "10:44:10") for n in range(23, 28)), boundary="10:45:00")
    assert followed() == [5]


@pytest.mark.parametrize("read", range(5))
def test_a_follower_that_missed_something_is_told(collector: Collector, read: int) -> None:
    """Once, if it agrees to go on with what is left."""
    storage = collector.storage
    follow_some(storage, read)
    expired(storage, "10:33:00")

    expected = (
        f"cursor {storage.uri}/cursors/a.json has not read all of what was expired in "
        f"{storage.uri}: windows before 2026-11-22T10:33:00Z, of cycles up to 5; give "
        "--on_expired=skip"
    )
    with pytest.raises(ExpiredError, match=re.escape(expected)):
        follow(storage)
    assert follow(storage, on_expired="skip") == _ALL[5:]
    assert follow(storage) == []


def test_a_follower_that_missed_a_part_of_an_entry_is_told(collector: Collector) -> None:
    """The entry stays, its late batch is gone."""
    storage = collector.storage
    follow(storage)
    collector.collect(message(13, "10:31:50"), message(14, "10:36:10"), boundary="10:37:00")
    collector.collect(message(15, "10:37:10"), boundary="10:38:00")
    expired(storage, "10:34:00")

    with pytest.raises(ExpiredError, match="has not read all of what was expired"):
        follow(storage)
    assert follow(storage, on_expired="skip") == ["0000000007-0001", "0000000008-0000"]


def test_a_follower_that_waits_while_its_entry_is_expired_is_told(collector: Collector) -> None:
    """It stood still for days, and does not wait for ever."""
    storage = collector.storage
    naps = iter(range(10))

    def wait(_: float) -> bool:
        if next(naps) == 0:
            for minute in range(36, 40):
                collector.collect(
                    message(minute, f"10:{minute - 1}:30"), boundary=f"10:{minute}:00"
                )
            expired(storage, "10:38:00")
        return False

    with pytest.raises(ExpiredError, match="has not read all of what was expired"):
        list(batch_collection.open(storage).follow("a", wait=wait))


def test_a_log_that_is_being_expired_is_not_taken_to_end(
    collector: Collector, log: list[Entry]
) -> None:
    """The follower's entry is deleted already, the one before it not yet."""
    storage = collector.storage
    expired(storage, "10:33:00")
    storage.replace(entry_path(2), log[2].to_json())
    storage.replace(cursor_path("a"), json.dumps({"format": 1, "cycle": 3, "index": 0}).encode())

    with pytest.raises(ExpiredError, match="has not read all of what was expired"):
        follow(storage)


def test_a_cursor_of_a_collection_begun_anew_is_refused(collector: Collector) -> None:
    """As ever; but the entry it stands after may be one that was expired."""
    storage = collector.storage
    expired(storage, "10:31:00")
    storage.replace(cursor_path("a"), json.dumps({"format": 1, "cycle": 2, "index": 1}).encode())
    assert follow(storage, on_expired="skip") == [_ALL[2], *_ALL[4:]]

    storage.replace(cursor_path("a"), json.dumps({"format": 1, "cycle": 9, "index": 1}).encode())
    with pytest.raises(LogError, match="is behind cycle=9, which the log of"):
        follow(storage)


def test_on_expired_is_one_of_two(collector: Collector) -> None:
    """Checked when called."""
    with pytest.raises(CollectionError, match="on_expired must be fail or skip, got 'go on'"):
        batch_collection.open(collector.storage).follow("a", on_expired="go on")


# status


def test_totals_of_batches_are_of_those_that_are_there(collector: Collector) -> None:
    """What is gone is said beside; the account of messages stays what was ever read."""
    before = status(collector.storage)
    expired(collector.storage, "10:32:00")
    expired(collector.storage, "10:33:00")
    collector.collect(message(13, "10:31:50"), boundary="10:36:00")
    collector.collect(boundary="10:37:00")
    expired(collector.storage, "10:34:00")
    found = status(collector.storage)

    same = ("waiting_rows", "dead_letters", "tombstones", "empty", "lost", "empty_windows")
    for name in same:
        assert getattr(found.totals, name) == getattr(before.totals, name)
    assert found.totals.messages == before.totals.messages + 1
    assert found.totals.closed_windows == before.totals.closed_windows + 1
    assert found.expired is not None
    assert found.expired.before == at("10:34:00")
    assert found.expired.rows == 9
    assert found.totals.rows + 9 == before.totals.rows + 1
    assert found.totals.late_rows + found.expired.late_rows == before.totals.late_rows + 1
    batches = [*batch_collection.open(collector.storage)]
    assert found.totals.rows == sum(batch.rows for batch in batches)
    assert found.totals.late_rows == sum(each.rows for each in batches if each.timing == "late")
    sizes = [collector.storage.size(path) or 0 for path in collector.storage.list("data")]
    assert found.totals.bytes == sum(sizes)
    assert found.totals.files == len(sizes)
    assert (found.expired.entries, found.expired.dead_letters) == (6, 2)
    assert json.loads(found.to_json())["expired"]["before"] == "2026-11-22T10:34:00Z"


# audit


@pytest.fixture
def old(tmp_path: Path) -> Collector:
    """Return a collector whose windows before 10:33 are expired; a late pane came after."""
    collector = filled(Collector(LocalStorage(str(tmp_path / "collection")), batch_size=2))
    collector.collect(
        *(message(13, "10:31:50"), message(14, "10:36:10", "10:37:10"), dead_letter(15)),
        boundary="10:36:00",
    )
    collector.collect(message(16, "10:37:20"), message(17, "10:30:01"), boundary="10:37:00")
    expire(collector.storage, at("10:32:00"), NOW)
    expire(collector.storage, at("10:33:00"), NOW)
    collector.collect(message(18, "10:31:51"), message(19, "10:38:01"), boundary="10:38:00")
    collector.collect(message(20, "10:39:01"), boundary="10:39:00")
    assert audit(collector.storage).findings == ()
    return collector


def findings(collector: Collector) -> list[str]:
    """Audit it."""
    return list(audit(collector.storage).findings)


def test_an_audit_counts_what_is_there_and_what_is_not(old: Collector) -> None:
    """Both."""
    counts = audit(old.storage).counts

    assert (counts.entries, counts.expired_entries) == (6, 5)
    assert counts.rows == batch_collection.open(old.storage).rows
    assert (counts.expired_files, counts.expired_rows) == (6, 8)


@pytest.mark.parametrize("cycle", range(5, 11))
def test_damage_in_the_rest_is_found(old: Collector, cycle: int) -> None:
    """A file of each entry that is left: deleted, changed."""
    entry = read_entry(old.storage, cycle)
    stub = newest_expiry(old.storage)
    assert stub is not None
    kept = [f.path for f in entry.files if f.path not in stub.gone(entry)]
    kept += [file.path for file in entry.dead_letters]
    for path in kept:
        content = old.storage.read(path)
        old.storage.delete([path])
        assert findings(old) == [f"{path} is missing"]
        old.storage.replace(path, content[:-1] + b"x")
        (found,) = findings(old)
        assert found.startswith(f"{path} has ")
        old.storage.replace(path, content)
    assert findings(old) == []


@pytest.mark.parametrize("cycle", range(5, 11))
def test_an_entry_that_is_left_and_removed_or_edited_is_found(old: Collector, cycle: int) -> None:
    """The first one by the stub's hash."""
    path = entry_path(cycle)
    content = old.storage.read(path)
    edited = content.replace(b'"host": "test"', b'"host": "tset"')
    old.storage.replace(path, edited)
    if cycle < 10:  # of the newest no hash tells
        follows = f"{entry_path(cycle + 1)} does not follow the entry before it"
        assert any(one.startswith(follows) for one in findings(old))
        old.storage.delete([path])
        assert f"{path} is missing, though later entries are there" in findings(old)


def test_a_first_entry_of_another_history_is_found(old: Collector) -> None:
    """The stub holds the hash of the one before."""
    entry = read_entry(old.storage, 5)
    old.storage.replace(entry_path(5), replace(entry, previous="0" * 64).to_json())

    expected = f"{entry_path(5)} does not follow the entry before it: one of them was changed"
    assert expected in findings(old)


def test_reads_that_do_not_meet_the_stub_are_found(old: Collector) -> None:
    """A gap between what is folded and what is left is a loss."""
    first, second = read_entry(old.storage, 5).reads
    forge(old, 5, reads=(replace(first, start=10, messages=1), second))

    expected = "partition=0 is read from offset=10, but the entry before ended at 9"
    assert f"{entry_path(5)}: {expected}" in findings(old)


def test_rows_that_are_nowhere_are_found_by_the_log(old: Collector) -> None:
    """Whatever is expired, rows read are rows filed and rows that wait, by partition."""
    entry = read_entry(old.storage, 7)
    late, *rest = entry.panes
    assert late.window_start == at("10:31:00")
    forge(old, 7, panes=tuple(rest))

    found = findings(old)
    expected = "rows should be in batches, expired or not, and in the carry"
    assert any(one.startswith("partition=0: ") and expected in one for one in found)


def test_a_row_that_came_twice_is_found(old: Collector) -> None:
    """In files that are there."""
    old.collect(message(16, "10:40:10"), boundary="10:41:00")

    assert any("offsets 16 to 16 are in more than one place" in one for one in findings(old))


def test_a_torn_message_is_found_beyond_what_is_expired(tmp_path: Path) -> None:
    """Where rows of its offset can't have been in a file that is gone."""
    collector = filled(Collector(LocalStorage(str(tmp_path)), batch_size=2))
    collector.collect(message(13, "10:36:10", "10:37:10"), boundary="10:38:00")
    expire(collector.storage, at("10:33:00"), NOW)
    *others, first, second = read_entry(collector.storage, 7).panes
    forge(collector, 7, panes=(*others, replace(first, rows=0, files=()), second))

    assert "partition=0: some rows of offsets 13 to 13 are nowhere" in findings(collector)


def test_an_array_message_torn_by_expiring_is_no_finding(tmp_path: Path) -> None:
    """Its first row was in a window that is gone, its second one is not."""
    collector = Collector(LocalStorage(str(tmp_path)))
    collector.collect(message(0, "10:30:00", "10:31:00"), boundary="10:31:00")
    collector.collect(boundary="10:32:00")
    collector.collect(boundary="10:33:00")
    assert expire(collector.storage, at("10:31:00"), NOW).rows == 1

    assert findings(collector) == []
    assert batch_collection.open(collector.storage).rows == 1


def test_missing_dead_letters_are_found(old: Collector) -> None:
    """Those that are left are counted."""
    entry = read_entry(old.storage, 7)
    first, second = entry.reads
    forge(old, 7, reads=(replace(first, dead_letters=2), second))

    assert "partition=0: 2 dead letters are there, the log says 3" in findings(old)


def test_the_manifest_of_a_late_pane_is_checked(old: Collector) -> None:
    """Missing, or edited."""
    path = manifest_path(at("10:31:00"), 9)
    content = old.storage.read(path)
    old.storage.replace(path, content.replace(b'"rows": 1', b'"rows": 7'))
    assert findings(old) == [f"{path} does not agree with {entry_path(9)}"]

    old.storage.delete([path])
    expected = "the manifest of cycle=9 of window 2026-11-22T10:31:00Z is missing"
    assert findings(old) == [expected]


def test_what_came_back_is_found(old: Collector) -> None:
    """A restored backup, say: files, manifests, dead letters."""
    paths = [
        "data/window_date=2026-11-22/window_hour=10/20261122T103000Z-0000000002-00-0000-x.parquet",
        "dead_letters/window_date=2026-11-22/20261122T103000Z-0000000001-00-x.parquet",
        manifest_path(at("10:30:00"), 1),
    ]
    for path in paths:
        old.storage.replace(path, b"{}")
    again = "was expired and is still there; run batch-collection expire again"
    assert sorted(findings(old)) == sorted(f"{path} {again}" for path in paths)

    stray = paths[0].replace("T103000Z-0000000002", "T103000Z-0000000009")
    old.storage.replace(stray, b"")
    assert f"{stray} is in no entry" in findings(old)


@pytest.mark.parametrize("torn", [b"", b"{}", b"[" * 100_000])
def test_a_torn_manifest_of_a_window_that_is_expired_goes(
    collector: Collector, torn: bytes
) -> None:
    """Also where the window has got late rows since, whose manifests stay."""
    collector.collect(message(13, "10:30:30"), boundary="10:36:00")
    late = manifest_path(at("10:30:00"), 3)
    kept = collector.storage.read(late)
    for revision in (1, 2):
        collector.storage.replace(manifest_path(at("10:30:00"), revision), torn)
    expired(collector.storage, "10:31:00")
    left = [path for path in collector.storage.list("windows") if "103000Z" in path]
    assert left == [late]
    assert collector.storage.read(late) == kept
    assert findings(collector) == []


def test_a_stub_that_is_changed_or_missing_is_found(old: Collector) -> None:
    """They are a chain of their own."""
    first = old.storage.read(stub_path(0))
    old.storage.replace(stub_path(0), first + b"\n")
    changed = f"{stub_path(1)} does not follow the stub before it: one of them was changed"
    assert findings(old) == [changed]

    for torn in (b"{", b"[" * 100_000):
        old.storage.replace(stub_path(0), torn)
        assert findings(old)[0].startswith(f"{stub_path(0)}: not a stub")
    old.storage.delete([stub_path(0)])
    assert findings(old) == [f"{stub_path(0)} is missing, though later ones are there"]


def test_a_stub_that_takes_back_what_one_before_said_is_found(old: Collector) -> None:
    """What was gone can't be there again."""
    stub = read_stub(old.storage, 1)
    old.storage.replace(stub_path(1), replace(stub, before=at("10:31:00")).to_json())

    assert f"{stub_path(1)} says less than the stub before it" in findings(old)


def test_a_newest_stub_that_is_gone_is_found(old: Collector) -> None:
    """What it folded is missing then."""
    old.storage.delete([stub_path(1)])

    with pytest.raises(LogError, match=r"is missing in .*; run batch-collection audit"):
        newest_cycle(old.storage)
    assert f"{entry_path(4)} is missing, though later entries are there" in findings(old)


def test_a_damaged_stub_is_a_clear_error(old: Collector) -> None:
    """For everybody: nothing is read as if nothing had been expired."""
    old.storage.replace(stub_path(1), b"{")
    with pytest.raises(LogError, match=re.escape(f"cannot read {old.storage.uri}/{stub_path(1)}")):
        batch_collection.open(old.storage)

    newer = json.loads(read_stub(old.storage, 0).to_json()) | {"format": 2}
    old.storage.replace(stub_path(1), json.dumps(newer).encode())
    with pytest.raises(LogError, match="stub of format=2, this version reads up to 1; update"):
        batch_collection.open(old.storage)
